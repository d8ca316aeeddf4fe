"""The background loop: it looks after every namespace, whatever becomes of one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from support.database import FAST, document, open_database, schema, upsert

from elacsym.engine.database import Database
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import NamespaceNotFound
from elacsym.query.ast import OrderKey, Query, VectorLeg
from elacsym.store.memory import MemoryStore
from elacsym.types import Schema
from elacsym.upkeep import supervisor
from elacsym.upkeep.collect import Collector
from elacsym.upkeep.supervisor import Upkeep

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)
AT_ONCE = replace(FAST, fold_age_s=0.0)


async def _filled(database: Database, *names: str) -> None:
    for name in names:
        await database.create(name, Schema())
        await database.write(name, upsert(Document(1, {"year": 2000})))


async def _slots(database: Database, name: str) -> int:
    return (await database.info(name)).tail_slots


async def test_a_namespace_deleted_elsewhere_is_let_go_and_the_others_are_looked_after(tmp_path):
    """The view of a deleted namespace raised in the middle of every round: nothing was folded any more."""
    store = MemoryStore()
    database = await open_database(store, cache_path=tmp_path / "a", settings=AT_ONCE)
    other = await open_database(store, cache_path=tmp_path / "b", seed=2)
    await _filled(database, "a", "b")
    await other.delete("a")
    with pytest.raises(NamespaceNotFound):
        # what an eventual read does behind its caller's back
        await (await database.namespace("a")).reader.check()
    await Upkeep(database).run_once()
    assert [namespace.name for namespace in database.opened()] == ["b"]
    assert await _slots(database, "b") == 0
    await database.close()
    await other.close()


async def test_a_fold_that_finds_its_namespace_deleted_lets_go_of_it(tmp_path):
    store = MemoryStore()
    database = await open_database(store, cache_path=tmp_path / "a", settings=AT_ONCE)
    other = await open_database(store, cache_path=tmp_path / "b", seed=2)
    await _filled(database, "a")
    await other.delete("a")
    await Upkeep(database).run_once()
    assert database.opened() == []
    await database.close()
    await other.close()


async def test_a_job_that_fails_for_no_known_reason_does_not_keep_the_others_from_theirs(
    tmp_path, monkeypatch
):
    database = await open_database(cache_path=tmp_path, settings=AT_ONCE)
    await _filled(database, "a", "b")
    fold = supervisor.fold

    async def poisoned(namespace):
        if namespace.name == "a":
            raise ValueError("unforeseen")
        return await fold(namespace)

    monkeypatch.setattr(supervisor, "fold", poisoned)
    await Upkeep(database).run_once()
    assert await _slots(database, "a") > 0
    assert await _slots(database, "b") == 0
    await database.close()


async def test_a_fold_begins_from_the_current_view_where_the_known_files_were_collected(tmp_path):
    """A node that nobody asked anything kept its old view: its folds missed the files that others had
    replaced and collected, again and again."""
    store = MemoryStore()
    database = await open_database(store, cache_path=tmp_path / "a", settings=AT_ONCE)
    await _filled(database, "a")
    await Upkeep(database).run_once()
    await database.write("a", upsert(Document(2, {})))
    other = await open_database(store, cache_path=tmp_path / "b", seed=2)
    await other.write("a", WriteRequest(deletes=[1]))
    namespace = await other.namespace("a")
    await supervisor.fold(namespace)
    await supervisor.compact(namespace, force=True)
    collector = Collector(store, "a", other.services.clock, other.services.rng, grace_s=0)
    assert (await collector.run()).deleted > 0
    await other.write("a", upsert(Document(3, {})))
    await Upkeep(database).run_once()
    assert (await database.namespace("a")).reader.slots == []
    assert [hit.id for hit in (await database.query("a", ALL)).hits] == [2, 3]
    await database.close()
    await other.close()


async def test_an_idle_namespace_is_evicted_once_its_tail_is_folded(tmp_path):
    database = await open_database(
        cache_path=tmp_path, settings=replace(FAST, fold_age_s=1e9, namespace_idle_s=0.0)
    )
    await _filled(database, "a")
    await Upkeep(database).run_once()
    (namespace,) = database.opened()
    await supervisor.fold(namespace)
    await Upkeep(database).run_once()
    assert database.opened() == []
    assert len((await database.query("a", ALL)).hits) == 1
    await database.close()


async def test_what_idle_namespaces_took_is_given_back_when_they_are_closed(tmp_path, monkeypatch):
    given_back = []
    settings = replace(AT_ONCE, namespace_idle_s=0.0)
    database = await open_database(cache_path=tmp_path, settings=settings)
    monkeypatch.setattr(
        supervisor, "give_back_memory", lambda: given_back.append(len(list(tuning.samples())))
    )
    tuning = database.services.tuning
    await database.create("docs", schema())
    await database.write("docs", upsert(document(1, np.random.default_rng(1))))
    vector = Query(legs=(VectorLeg("vector", np.ones(8, np.float32)),))
    assert len((await database.query("docs", vector)).hits) == 1
    assert len(list(tuning.samples())) == 1
    upkeep = Upkeep(database)
    await upkeep.run_once()
    # of a namespace that is closed by then, with its samples
    assert given_back == [0]
    await upkeep.run_once()
    assert given_back == [0]
    assert len((await database.query("docs", vector)).hits) == 1
    await database.close()


async def test_a_namespace_that_is_in_use_does_not_hold_upkeep_up(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_CLOSING_S_MAX", 0.01)
    settings = replace(AT_ONCE, namespace_idle_s=0.0)
    database = await open_database(cache_path=tmp_path, settings=settings)
    await _filled(database, "docs")
    namespace = await database.namespace("docs")
    with namespace.used():
        async with asyncio.timeout(10):
            await Upkeep(database).run_once()
        assert database.opened() == []
    await database.close()


async def test_a_tail_that_has_become_long_is_folded_before_the_next_round(tmp_path):
    database = await open_database(cache_path=tmp_path, settings=replace(FAST, fold_bytes=64 * 1024))
    upkeep = Upkeep(database, period_s=3_600.0)
    upkeep.start()
    rng = np.random.default_rng(1)
    await database.create("a", schema())
    await database.write("a", upsert(document(0, rng)))
    await asyncio.sleep(0.1)
    assert await _slots(database, "a") > 0
    await database.write("a", upsert(*(document(i, rng) for i in range(1_000))))
    async with asyncio.timeout(10):
        while await _slots(database, "a"):
            await asyncio.sleep(0.01)
    assert len((await database.query("a", ALL)).hits) == 1_000
    await upkeep.stop()
    await database.close()


async def test_long_tails_are_looked_for_again_after_a_look_that_failed(tmp_path, monkeypatch):
    """The loop ended for good, and nobody was told."""
    database = await open_database(cache_path=tmp_path, settings=replace(FAST, fold_bytes=64 * 1024))
    upkeep = Upkeep(database, period_s=3_600.0)
    owns, asked = upkeep._duties.owns, []

    def failing(name):
        asked.append(name)
        if len(asked) == 1:
            raise RuntimeError("once")
        return owns(name)

    monkeypatch.setattr(upkeep._duties, "owns", failing)
    upkeep.start()
    rng = np.random.default_rng(1)
    await _filled(database, "short")
    await database.create("a", schema())
    for _ in range(2):
        await database.write("a", upsert(*(document(i, rng) for i in range(1_000))))
        async with asyncio.timeout(10):
            while not asked:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(10):
        while await _slots(database, "a"):
            await asyncio.sleep(0.01)
    # a namespace whose tail is short is nobody's to look at between rounds
    assert set(asked) == {"a"}
    await upkeep.stop()
    await database.close()
