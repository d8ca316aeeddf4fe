"""A database against a dictionary: any order of writes, folds, merges, collections and restarts."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from support.database import document, open_database, schema, upsert
from support.queries import aggregate_of

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import ByFilter, WriteRequest
from elacsym.query.ast import Compare, Op, OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.collect import Collector
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

ids_ = st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), ids_),
        st.tuples(st.just("delete"), ids_),
        st.tuples(st.just("delete_where"), st.integers(1990, 2030)),
        st.tuples(st.sampled_from(["fold", "compact", "force", "collect", "reopen"]), st.none()),
    ),
    max_size=20,
)


async def _check(actions, folder):
    store, rng = MemoryStore(), np.random.default_rng(3)
    database = await open_database(store, cache_path=Path(folder))
    await database.create("docs", schema())
    collector = Collector(store, "docs", database.services.clock, database.services.rng, grace_s=0.0)
    model: dict[int, dict] = {}
    for action, value in actions:
        namespace = await database.namespace("docs")
        if action == "upsert":
            documents = [document(i, rng) for i in value]
            await database.write("docs", upsert(*documents))
            model |= {d.id: d.attributes for d in documents}
        elif action == "delete":
            await database.write("docs", WriteRequest(deletes=value))
            model = {i: a for i, a in model.items() if i not in value}
        elif action == "delete_where":
            result = await database.write(
                "docs", WriteRequest(delete_by_filter=ByFilter(Compare("year", Op.LT, value)))
            )
            gone = [i for i, a in model.items() if a["year"] < value]
            assert result.count == len(gone)
            model = {i: a for i, a in model.items() if i not in gone}
        elif action == "fold":
            await fold(namespace)
        elif action == "compact":
            await compact(namespace)
        elif action == "force":
            await compact(namespace, force=True)
        elif action == "collect":
            await collector.run()
        else:
            await database.close()
            database = await open_database(store, cache_path=Path(folder))
        result = await database.query(
            "docs", Query(order_by=(OrderKey("id"),), top_k=100, include_vector=True)
        )
        assert [h.id for h in result.hits] == sorted(model)
        for hit in result.hits:
            expected = model[hit.id]
            assert hit.attributes["year"] == expected["year"]
            assert hit.attributes["tags"] == expected["tags"]
            assert np.array_equal(hit.attributes["vector"], expected["vector"])
        counted = await database.query("docs", Query(aggregate=aggregate_of()))
        assert counted.aggregations == {"count": len(model)}
    report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
    assert report.problems == []
    await database.close()


@settings(max_examples=40, deadline=None)
@given(steps)
def test_any_history_reads_like_a_dictionary(actions):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_check(actions, folder))
