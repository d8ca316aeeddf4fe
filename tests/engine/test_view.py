"""The view of a namespace while the log moves on under those who wait for it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.database import CountingCompute, document, open_database, schema, upsert

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import NamespaceNotFound
from elacsym.query.ast import OrderKey, Query, TextLeg, VectorLeg
from elacsym.store.memory import MemoryStore
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import Consistency

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)


class SlowDeletes(StoreWrapper):
    """Delete bitmaps arrive when `release` is set; `is_asked` is set when one is asked for."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_asked, self.release = asyncio.Event(), asyncio.Event()

    async def get(self, key):
        if "/deletes" in key:
            self.is_asked.set()
            await self.release.wait()
        return await self.inner.get(key)


class SlowRanges(StoreWrapper):
    """Ranges behind the beginning of a file of ids arrive late; `at_once` is how many
    files were asked at the same time."""

    def __init__(self, inner):
        super().__init__(inner)
        self._under_way, self.at_once = set(), 0

    async def get_ranges(self, key, ranges, *, gap_bytes=1):
        if key.endswith("/ids") and ranges[0][0] > 0:
            self._under_way.add(key)
            self.at_once = max(self.at_once, len(self._under_way))
            for _ in range(20):
                await asyncio.sleep(0)
            self._under_way.remove(key)
        return await self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)


class VanishingManifest(StoreWrapper):
    """A store whose manifests cannot be found while `is_gone`."""

    is_gone = False

    async def get(self, key):
        return None if self.is_gone and key.endswith("/manifest") else await self.inner.get(key)

    async def get_if_changed(self, key, etag):
        if self.is_gone and key.endswith("/manifest"):
            return None
        return await self.inner.get_if_changed(key, etag)


async def test_a_manifest_that_was_missing_for_a_while_does_not_apply_the_tail_twice(tmp_path):
    """The log began again at the first slot of the tail, on top of rows that had been applied."""
    rng = np.random.default_rng(1)
    store = VanishingManifest(MemoryStore())
    database = await open_database(store, cache_path=tmp_path)
    await database.create("docs", schema())
    await database.write("docs", upsert(document(1, rng), document(2, rng)))
    await database.write("docs", WriteRequest(deletes=(1,)))
    namespace = await database.namespace("docs")
    rows = namespace.view.memtable.rows
    store.is_gone = True
    with pytest.raises(NamespaceNotFound):
        await namespace.reader.check()
    store.is_gone = False
    await namespace.reader.check()
    assert namespace.view.memtable.rows == rows
    assert [hit.id for hit in (await database.query("docs", ALL)).hits] == [2]
    await database.close()


async def test_a_write_that_comes_while_delete_bitmaps_are_read_hides_the_rows_that_it_replaces(tmp_path):
    """A server that had just opened a namespace without a tail took its first write while a bitmap was on its
    way; the ids of the segments were not opened then, and every query failed with an internal error."""
    rng = np.random.default_rng(1)
    store = MemoryStore()
    first = await open_database(store, cache_path=tmp_path / "a")
    await first.create("docs", schema())
    for request in (upsert(*(document(i, rng) for i in range(5))), WriteRequest(deletes=(0,))):
        await first.write("docs", request)
        await fold(await first.namespace("docs"))
    slow = SlowDeletes(store)
    second = await open_database(slow, cache_path=tmp_path / "b", seed=2)
    query = asyncio.create_task(second.query("docs", ALL))
    await slow.is_asked.wait()
    await second.write("docs", WriteRequest(deletes=(1,)))
    slow.release.set()
    assert [hit.id for hit in (await query).hits] == [2, 3, 4]
    await first.close()
    await second.close()


async def test_live_rows_of_a_snapshot_cannot_be_changed(tmp_path):
    """What an index makes of a mask is remembered only if the mask is read-only."""
    rng = np.random.default_rng(1)
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(4))))
    namespace = await database.namespace("docs")
    await fold(namespace)
    for deletes in ((1,), (2,)):
        await database.write("docs", WriteRequest(deletes=deletes))
        snapshot = await namespace.view.snapshot()
        assert not any(part.alive.flags.writeable for part in snapshot.parts)
    assert snapshot.parts[0].alive.tolist() == [True, False, False, True]
    await database.close()


async def test_nothing_is_kept_of_the_files_of_a_namespace_that_was_made_anew(tmp_path):
    rng = np.random.default_rng(1)
    store = MemoryStore()
    database = await open_database(store, cache_path=tmp_path / "one")
    other = await open_database(store, cache_path=tmp_path / "other")
    await database.create("docs", schema())
    await database.write("docs", upsert(document(1, rng)))
    await fold(await database.namespace("docs"))
    assert len((await database.query("docs", ALL)).hits) == 1
    assert len(database.services.cache.residents)
    await other.delete("docs")
    await other.create("docs", schema())
    assert (await database.query("docs", ALL)).hits == ()
    assert not len(database.services.cache.residents)
    for one in (database, other):
        await one.close()


async def test_ids_of_the_tail_are_looked_up_in_all_segments_at_once(tmp_path):
    """A cold query waited for one segment after the other."""
    store = MemoryStore()
    writer = await open_database(store, cache_path=tmp_path / "writer")
    await writer.create("docs", schema())
    for first in (0, 3_000, 6_000):
        await writer.write("docs", upsert(*(Document(first + i, {"year": 1}) for i in range(3_000))))
        await fold(await writer.namespace("docs"))
    await writer.write("docs", WriteRequest(deletes=(4_000, 8_000)))
    await writer.close()
    slow = SlowRanges(store)
    reader = await open_database(slow, cache_path=tmp_path / "reader")
    assert (await reader.info("docs")).documents == 8_998
    assert slow.at_once == 3
    await reader.close()


async def test_postings_of_the_tail_are_joined_off_the_event_loop(tmp_path):
    """Joining those of a thousand rows held the loop up for longer than most queries take."""
    rng = np.random.default_rng(1)
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema())
    view = (await database.namespace("docs")).view
    compute = view._compute = CountingCompute()
    texts = Query(legs=(TextLeg((("text", 1.0),), "copper"),), top_k=3)
    for query in (ALL, texts):
        for i in range(2):
            await database.write("docs", upsert(document(i, rng)))
            await database.query("docs", query)
        assert compute.runs["joined"] == (query is texts)
    await database.close()


class HeldBulk(InlineCompute):
    """Bulk work begins when `release` is set."""

    def __init__(self):
        self.release, self.bulk_runs = asyncio.Event(), 0

    @property
    def bulk(self):
        held = self

        class Bulk(InlineCompute):
            async def run(self, fn, *args, **kwargs):
                held.bulk_runs += 1
                await held.release.wait()
                return await super().run(fn, *args, **kwargs)

        return Bulk()


async def test_no_query_waits_until_long_chunks_are_joined(tmp_path):
    """Ten of them took the event loop for 37 ms, and a query that came in between waited for all."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema(dimensions=1024))
    view = (await database.namespace("docs")).view
    compute = view._compute = HeldBulk()
    rng = np.random.default_rng(1)
    for first in (0, 100, 200):
        await database.write("docs", upsert(*(document(first + i, rng, 1024) for i in range(100))))
        result = await database.query("docs", ALL)
        assert [hit.id for hit in result.hits] == list(range(first + 100))
    assert len(view.memtable.chunks) == 3
    compute.release.set()
    async with asyncio.timeout(10):
        while len(view.memtable.chunks) > 2:
            await asyncio.sleep(0)
    # one join at a time, whoever asks meanwhile
    assert compute.bulk_runs == 1
    snapshot = await view.snapshot()
    assert [view.part.rows for view in snapshot.parts] == [200, 100]
    assert [hit.id for hit in (await database.query("docs", ALL)).hits] == list(range(300))
    await database.close()


async def test_chunks_are_not_joined_behind_a_namespace_that_was_closed(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema(dimensions=1024))
    view = (await database.namespace("docs")).view
    compute = view._compute = HeldBulk()
    rng = np.random.default_rng(1)
    for first in (0, 100):
        await database.write("docs", upsert(*(document(first + i, rng, 1024) for i in range(100))))
    await database.query("docs", ALL)
    await asyncio.sleep(0)
    assert compute.bulk_runs == 1
    await database.close()
    compute.release.set()
    await asyncio.sleep(0)
    assert len(view.memtable.chunks) == 2


async def test_a_long_tail_is_not_searched_on_the_event_loop(tmp_path):
    """It has no codes: eight thousand rows that were taken for coded ones held the loop up for 10 ms."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema(dimensions=1024))
    view = (await database.namespace("docs")).view
    view._compute = HeldBulk()  # so that nobody but queries computes norms
    query = Query(legs=(VectorLeg("vector", np.ones(1024, np.float32)),), top_k=3, explain=True)
    matrix = np.random.default_rng(1).standard_normal((8_000, 1024), np.float32)

    async def where(first, rows):
        documents = [Document(first + i, {"vector": matrix[first + i]}) for i in range(rows)]
        await database.write("docs", upsert(*documents))
        return (await database.query("docs", query)).plan["where"]

    assert await where(0, 10) == "inline"
    # norms have to be computed once
    assert await where(10, 600) == "pool"
    assert (await database.query("docs", query)).plan["where"] == "inline"
    assert await where(610, 7_390) == "pool"
    assert (await database.query("docs", query)).plan["where"] == "pool"
    await database.close()


async def test_what_queries_look_at_in_a_new_chunk_is_made_behind_them(tmp_path):
    """The first query over a thousand new rows computed their norms, which took milliseconds."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema(dimensions=1024))
    view = (await database.namespace("docs")).view
    query = Query(legs=(VectorLeg("vector", np.ones(1024, np.float32)),), top_k=3)
    rng = np.random.default_rng(1)
    for first, is_queried in ((0, False), (100, True)):
        await database.write("docs", upsert(*(document(first + i, rng, 1024) for i in range(100))))
        await asyncio.sleep(0)
        chunk = view.memtable.chunks[-1]
        assert ("vector" in chunk.vector_columns) == is_queried
        assert (await database.query("docs", query)).hits[0].id is not None
    assert "norms" in vars(chunk.vector_columns["vector"])
    await database.close()


async def test_a_delete_makes_nothing_ready_of_the_chunk_before_it(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema(dimensions=1024))
    view = (await database.namespace("docs")).view
    rng = np.random.default_rng(1)
    await database.write("docs", upsert(*(document(i, rng, 1024) for i in range(100))))
    query = Query(legs=(VectorLeg("vector", np.ones(1024, np.float32)),), top_k=3)
    await database.query("docs", query)
    made = []
    view._get_ready = made.append
    await database.write("docs", WriteRequest(deletes=(1,)))
    assert made == []
    await database.write("docs", upsert(document(1, rng, 1024)))
    assert made == [view.memtable.chunks[-1]]
    await database.close()


async def test_a_view_is_closed_when_nothing_works_behind_it_any_more(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema(dimensions=1024))
    view = (await database.namespace("docs")).view
    rng = np.random.default_rng(1)
    await database.write("docs", upsert(*(document(i, rng, 1024) for i in range(100))))
    await database.query("docs", Query(legs=(VectorLeg("vector", np.ones(1024, np.float32)),), top_k=3))
    view._compute = HeldBulk()
    await database.write("docs", upsert(*(document(i, rng, 1024) for i in range(100))))
    (task,) = view._readying
    await database.close()
    assert task.done()


@pytest.mark.parametrize("is_own", [True, False])
async def test_live_rows_are_the_same_after_a_fold_and_looked_up_again_after_that_of_another(
    tmp_path, is_own
):
    """A fold of thousands of rows had the next query look all ids of the tail up in every segment."""
    rng, store = np.random.default_rng(1), MemoryStore()
    database = await open_database(store, cache_path=tmp_path / "a")
    other = await open_database(store, cache_path=tmp_path / "b", seed=2)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(8))))
    await fold(await other.namespace("docs"))
    for request in (upsert(document(3, rng)), WriteRequest(deletes=(5,)), upsert(document(8, rng))):
        await database.write("docs", request)
        await database.query("docs", ALL)
    view = (await database.namespace("docs")).view
    before = view.segments[0].alive
    await database.write("docs", WriteRequest(deletes=(6,)))
    # the last slots stay in the tail
    folding = await (database if is_own else other).namespace("docs")
    await folding.reader.check()
    sizes = [slot.size_bytes for slot in folding.reader.slots]
    await view.snapshot()
    resolved = view.segments[0].alive
    await fold(folding, bytes_max=sum(sizes[:-2]))
    await (await database.namespace("docs")).reader.check()
    assert (view.segments[0].alive is resolved) == is_own
    await view.snapshot()
    alive = view.segments[0].alive
    assert before.tolist() == [i not in (3, 5) for i in range(8)]
    assert alive.tolist() == [i not in (3, 5, 6) for i in range(8)]
    assert view.segments[0].resolved == len(view.memtable.touched) == 2
    for one in (database, other):
        assert [hit.id for hit in (await one.query("docs", ALL)).hits] == [0, 1, 2, 3, 4, 7, 8]
    await database.close()
    await other.close()


async def test_a_fold_whose_slots_no_query_had_looked_at_leaves_nothing_alive_that_they_replaced(
    tmp_path, monkeypatch
):
    rng = np.random.default_rng(1)
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(4))))
    namespace = await database.namespace("docs")
    await fold(namespace)
    await database.query("docs", ALL)
    await database.write("docs", WriteRequest(upserts=(document(9, rng),), deletes=(1,)))

    async def unresolved():
        """A fold looks first; where segments were replaced meanwhile, what it saw is gone."""

    with monkeypatch.context() as during:
        during.setattr(namespace.view, "snapshot", unresolved)
        before = namespace.view.segments[0]
        assert await fold(namespace)
    assert before.resolved == 0
    assert before.alive.all()
    assert [hit.id for hit in (await database.query("docs", ALL)).hits] == [0, 2, 3, 9]
    await database.close()


async def test_only_queries_make_a_namespace_one_that_is_queried(tmp_path):
    """Writes have less of a free tail beside queries; monitoring took it from them."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema())
    namespace = await database.namespace("docs")
    await database.info("docs")
    await namespace.snapshot(Consistency())
    assert not namespace._is_queried
    await database.query("docs", ALL)
    assert namespace._is_queried
    await database.close()
