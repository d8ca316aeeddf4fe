"""Garbage is deleted late, and nothing else ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.database import document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.engine.fold import fold
from elacsym.engine.job import announce
from elacsym.format.keys import NamespaceKeys
from elacsym.format.manifest import FileRef, Intent, Manifest, Pin, SegmentRef
from elacsym.log import transitions
from elacsym.query.ast import OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.collect import INTENT_AGE_S, Collector, garbage
from elacsym.upkeep.compact import compact

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)


class ManualClock:
    def __init__(self):
        self.now_s = 1_000.0

    def monotonic_s(self):
        return self.now_s

    def wall_ms(self):
        return int(self.now_s * 1000)


async def _opened(store, tmp_path):
    clock = ManualClock()
    database = await open_database(store, cache_path=tmp_path, clock=clock)
    return database, clock, Collector(store, "docs", clock, database.services.rng, grace_s=900)


async def _filled(database):
    rng = np.random.default_rng(1)
    await database.create("docs", schema())
    namespace = await database.namespace("docs")
    for start in range(0, 30, 10):
        await database.write("docs", upsert(*(document(i, rng) for i in range(start, start + 10))))
        await fold(namespace)
    return namespace


async def _keys(store, part=""):
    return [info.key async for info in store.list("ns/") if part in info.key]


async def test_replaced_segments_and_folded_slots_go_after_the_grace_period_and_not_before(tmp_path):
    store = MemoryStore()
    database, clock, collector = await _opened(store, tmp_path)
    namespace = await _filled(database)
    await compact(namespace, force=True)
    before = await _keys(store)
    waiting = (await collector.run()).waiting
    assert waiting > 0
    clock.now_s += 899
    assert (await collector.run()).deleted == 0
    assert await _keys(store) == before
    clock.now_s += 1
    assert (await collector.run()).deleted == waiting
    assert await _keys(store, "/wal/") == []
    live = {f"seg/{s.job}/{f.part}" for s in namespace.reader.manifest.segments for f in s.files}
    assert {key.split("/", 4)[4] for key in await _keys(store, "/seg/")} == live
    assert len((await database.query("docs", ALL)).hits) == 30
    await database.close()


async def test_files_of_an_announced_job_are_no_garbage(tmp_path):
    store = MemoryStore()
    database, clock, collector = await _opened(store, tmp_path)
    namespace = await _filled(database)
    await announce(namespace, Intent("job-1", "fold", (), 0, "test"))
    key = namespace.keys.segment_file(namespace.reader.manifest.inc, "job-1", "rows.parquet")
    await store.put_if_absent(key, b"being written")
    for _ in range(3):
        await collector.run()
        clock.now_s += 1_000
    assert await store.get(key) is not None
    await database.close()


async def test_the_intent_of_a_dead_job_is_withdrawn_in_the_end_and_its_files_go(tmp_path):
    store = MemoryStore()
    database, clock, collector = await _opened(store, tmp_path)
    namespace = await _filled(database)
    await announce(namespace, Intent("job-1", "fold", (), 0, "test"))
    key = namespace.keys.segment_file(namespace.reader.manifest.inc, "job-1", "rows.parquet")
    await store.put_if_absent(key, b"left behind")
    assert not (await collector.run()).is_clean
    clock.now_s += INTENT_AGE_S - 1
    assert (await collector.run()).announced == 1
    clock.now_s += 1
    assert (await collector.run()).announced == 0
    await namespace.reader.check()
    assert namespace.reader.manifest.intents == ()
    await collector.run()
    clock.now_s += 900
    assert (await collector.run()).is_clean
    assert await store.get(key) is None
    await database.close()


async def test_an_orphan_of_a_dead_job_goes(tmp_path):
    store = MemoryStore()
    database, clock, collector = await _opened(store, tmp_path)
    namespace = await _filled(database)
    key = namespace.keys.segment_file(namespace.reader.manifest.inc, "dead-job", "rows.parquet")
    await store.put_if_absent(key, b"orphan")
    await collector.run()
    clock.now_s += 900
    await collector.run()
    assert await store.get(key) is None
    await database.close()


async def test_what_becomes_referenced_during_the_grace_period_stays(tmp_path):
    store = HookedStore(MemoryStore())
    database, clock, collector = await _opened(store, tmp_path)
    namespace = await _filled(database)

    async def stall_before_the_swap(operation, key):
        # the files are there, the manifest does not know them: a listing in this moment sees garbage, but for
        # the intent
        if operation == "put_if_match" and await _keys(store, "rows.parquet") != before:
            store.hook = None
            await collector.run()
            clock.now_s += 5_000

    before = await _keys(store, "rows.parquet")
    store.hook = stall_before_the_swap
    await database.write("docs", upsert(document(99, np.random.default_rng(2))))
    await fold(namespace)
    await collector.run()
    assert len((await database.query("docs", ALL)).hits) == 31
    await database.close()


async def test_a_deleted_namespace_leaves_only_its_tombstone_and_the_name_can_be_used_again(tmp_path):
    store = MemoryStore()
    database, clock, collector = await _opened(store, tmp_path)
    await _filled(database)
    await database.delete("docs")
    await database.create("docs", schema())
    await database.write("docs", upsert(document(5, np.random.default_rng(2))))
    await collector.run()
    clock.now_s += 900
    assert (await collector.run()).deleted > 0
    assert [h.id for h in (await database.query("docs", ALL)).hits] == [5]
    await database.delete("docs")
    await collector.run()
    clock.now_s += 900
    await collector.run()
    assert len(await _keys(store)) == 1
    await database.close()


def test_files_are_kept_while_referenced_pinned_or_announced():
    keys, inc = NamespaceKeys("docs"), "0" * 16
    segment = SegmentRef("a", 1, 0, 0, f"{0:032x}", (FileRef("ids", 1, ""),))
    manifest = Manifest("docs", inc, "1" * 32, applied=1, segments=(segment,), rows_live=1)
    manifest = transitions.add_intent(manifest, Intent("job", "compact", ("a",), 1, "node"))
    manifest = transitions.add_pin(manifest, pin := Pin("branch", "b" * 16, inc, ("pinned",)))
    listed = {job: keys.segment_file(inc, job, "ids") for job in ("a", "job", "pinned", "gone", "job1")}
    assert garbage(manifest, keys, listed.values()) == {listed["gone"], listed["job1"]}
    released = transitions.narrow_pin(manifest, replace(pin, jobs=()))
    assert listed["pinned"] in garbage(released, keys, listed.values())
