"""Merging segments while others write, fold, merge or crash."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.database import document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.errors import StoreUnavailable
from elacsym.log.transitions import TransitionRefused
from elacsym.query.ast import OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)


async def _ids(database):
    return [hit.id for hit in (await database.query("docs", ALL)).hits]


async def _segments(database, count, rows=10):
    """`count` segments of `rows` documents each."""
    rng = np.random.default_rng(1)
    await database.create("docs", schema())
    namespace = await database.namespace("docs")
    for start in range(0, count * rows, rows):
        await database.write("docs", upsert(*(document(i, rng) for i in range(start, start + rows))))
        await fold(namespace)
    return namespace


async def _is_clean(store, database):
    report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
    return report.problems == []


async def test_deletes_and_overwrites_folded_during_a_merge_are_replayed_onto_its_output(tmp_path):
    store = HookedStore(MemoryStore())
    database = await open_database(store, cache_path=tmp_path / "a")
    other = await open_database(store.inner, cache_path=tmp_path / "b", seed=2)
    namespace = await _segments(database, 4)
    replaced = document(7, np.random.default_rng(9))

    async def meddle(operation, key):
        if operation == "put_if_absent" and key.endswith("rows.parquet"):
            store.hook = None
            await other.write("docs", WriteRequest(deletes=[3, 14, 39]))
            await other.write("docs", upsert(replaced))
            await fold(await other.namespace("docs"))

    store.hook = meddle
    assert await compact(namespace, force=True)
    manifest = namespace.reader.manifest
    merged = manifest.segments[0]
    assert len(manifest.segments) == 2
    assert (merged.rows, merged.rows_live) == (40, 36)
    assert await _ids(database) == [i for i in range(40) if i not in (3, 14, 39)]
    (hit,) = await database.documents("docs", [7])
    assert hit.attributes["text"] == replaced.attributes["text"]
    assert await _is_clean(store, database)
    await database.close()
    await other.close()


async def test_of_two_merges_of_the_same_segments_one_commits(tmp_path):
    store = HookedStore(MemoryStore())
    database = await open_database(store, cache_path=tmp_path / "a")
    other = await open_database(store.inner, cache_path=tmp_path / "b", seed=2)
    namespace = await _segments(database, 4)

    async def merge_elsewhere(operation, key):
        if key.endswith("rows.parquet"):
            store.hook = None
            assert await compact(await other.namespace("docs"), force=True)

    store.hook = merge_elsewhere
    with pytest.raises(TransitionRefused):
        await compact(namespace, force=True)
    assert len(namespace.reader.manifest.segments) == 1
    assert namespace.reader.manifest.intents == ()
    assert await _ids(database) == list(range(40))
    await database.close()
    await other.close()


async def test_a_merge_of_which_every_row_was_deleted_meanwhile_leaves_nothing(tmp_path):
    store = HookedStore(MemoryStore())
    database = await open_database(store, cache_path=tmp_path / "a")
    other = await open_database(store.inner, cache_path=tmp_path / "b", seed=2)
    namespace = await _segments(database, 2)

    async def delete_all(operation, key):
        if key.endswith("rows.parquet"):
            store.hook = None
            await other.write("docs", WriteRequest(deletes=list(range(20))))
            await fold(await other.namespace("docs"))

    store.hook = delete_all
    assert await compact(namespace, force=True)
    assert namespace.reader.manifest.segments == ()
    assert await _ids(database) == []
    await database.close()
    await other.close()


@pytest.mark.parametrize("job", ["fold", "compact"])
@pytest.mark.parametrize("fault", [asyncio.CancelledError, StoreUnavailable])
async def test_a_job_that_dies_at_any_request_leaves_a_readable_namespace(tmp_path, job, fault):
    died = 0
    for step in range(20):
        store = HookedStore(MemoryStore())
        database = await open_database(store, cache_path=tmp_path / f"a{step}")
        namespace = await _segments(database, 3)
        await database.write("docs", WriteRequest(deletes=[1, 11]))
        if job == "compact":
            await fold(namespace)
        count = 0

        async def die(operation, key, step=step):
            nonlocal count
            count += 1
            if count > step:
                raise fault("the process died")

        store.hook = die
        try:
            await (fold(namespace) if job == "fold" else compact(namespace, force=True))
        except (asyncio.CancelledError, StoreUnavailable):
            died += 1
        store.hook = None
        after = await open_database(store, cache_path=tmp_path / f"b{step}", seed=2)
        assert await _ids(after) == [i for i in range(30) if i not in (1, 11)]
        assert await _is_clean(store, after)
        # whoever comes next can do the job
        next_ = await after.namespace("docs")
        await fold(next_)
        assert await compact(next_, force=True) or len(next_.reader.manifest.segments) == 1
        assert await _ids(after) == [i for i in range(30) if i not in (1, 11)]
        await after.close()
        await database.close()
        if count <= step:
            break
    assert died >= 3, "the job was killed at several steps"
