"""What a job does with a segment before a manifest names it."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from support.database import CountingCompute, document, open_database, schema, upsert

from elacsym.engine import rehearse
from elacsym.engine.fold import fold
from elacsym.engine.request import SchemaChange, WriteRequest
from elacsym.errors import CorruptObject
from elacsym.query.ast import Query, TextLeg, VectorLeg
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.wrapper import StoreWrapper
from elacsym.upkeep.compact import compact

DIMENSIONS, ROWS = 8, 1_500
QUERIES = {
    "vector": Query(
        legs=(VectorLeg("vector", np.ones(DIMENSIONS, np.float32)),), include_attributes=("year",)
    ),
    "text": Query(legs=(TextLeg((("text", 1.0),), "copper"),), include_attributes=("tags",)),
}


class CountingReads(StoreWrapper):
    """Counts reads of files of segments, by the name of the file."""

    def __init__(self, inner):
        super().__init__(inner)
        self.reads = Counter()

    async def get_ranges(self, key, ranges, **options):
        self.reads[key.rpartition("/")[2]] += 1
        return await self.inner.get_ranges(key, ranges, **options)


async def filled(store, cache_path, *, dimensions=DIMENSIONS):
    database = await open_database(store, cache_path=cache_path)
    await database.create("docs", schema(dimensions))
    await write(database, 0, dimensions)
    return database


async def write(database, first, dimensions=DIMENSIONS):
    rng = np.random.default_rng(first)
    documents = [document(first + i, rng, dimensions) for i in range(ROWS)]
    await database.write("docs", upsert(*documents))


@pytest.mark.parametrize("kind", QUERIES)
async def test_the_first_query_after_a_fold_opens_nothing(tmp_path, kind):
    store = CountingReads(MemoryStore())
    database = await filled(store, tmp_path)
    assert await fold(await database.namespace("docs"))
    await database.query("docs", QUERIES[kind])
    await write(database, ROWS)
    assert await fold(await database.namespace("docs"))
    store.reads.clear()
    namespace = await database.namespace("docs")
    new = namespace.view.segments[-1].part
    needs = new.looked_at()
    assert needs.vectors == ({"vector"} if kind == "vector" else set())
    assert needs.texts == ({"text"} if kind == "text" else set())
    assert needs.columns == ({"year"} if kind == "vector" else {"tags"})
    if kind == "vector":
        # this very query was asked of it
        assert len((await database.query("docs", QUERIES[kind])).hits) == 10
        assert set(store.reads) <= {"attr.year", "ids"}
    await database.close()


async def test_the_tail_tells_what_the_first_segment_will_be_asked(tmp_path):
    database = await filled(MemoryStore(), tmp_path)
    await database.query("docs", QUERIES["vector"])
    namespace = await database.namespace("docs")
    assert await fold(namespace)
    assert namespace.view.segments[0].part.looked_at().vectors == {"vector"}
    await database.close()


async def test_nothing_is_read_where_nobody_asks(tmp_path):
    store = CountingReads(MemoryStore())
    database = await filled(store, tmp_path)
    for first in (ROWS, 2 * ROWS):
        assert await fold(await database.namespace("docs"))
        await write(database, first)
    # whether ids of the tail are in segments is asked in any case
    assert set(store.reads) <= {"ids"}
    await database.close()


async def test_in_a_folder_whole_files_are_checked_before_queries_come(tmp_path):
    """A megabyte of vectors, of which one question looks at a few blocks."""
    dimensions, rng = 256, np.random.default_rng(3)

    def question():
        vector = rng.standard_normal(dimensions).astype(np.float32)
        return Query(legs=(VectorLeg("vector", vector),), include_attributes=("id",))

    store = LocalStore(tmp_path / "store")
    database = await filled(store, tmp_path / "cache", dimensions=dimensions)
    compute = database.services.cache._compute = CountingCompute()
    await database.query("docs", question())
    assert await fold(await database.namespace("docs"))
    assert compute.runs["_look_up"]
    compute.runs.clear()
    for _ in range(20):
        assert len((await database.query("docs", question())).hits) == 10
    assert compute.runs["_look_up"] == 0
    await database.close()
    await store.close()


async def test_a_damaged_file_of_a_new_segment_is_found_before_a_manifest_names_it(tmp_path, monkeypatch):
    database = await filled(MemoryStore(), tmp_path)
    namespace = await database.namespace("docs")
    await database.query("docs", QUERIES["vector"])

    async def damaged(self, needs):
        raise CorruptObject("a key", "checksum mismatch", offset=0)

    monkeypatch.setattr("elacsym.engine.segment.SegmentPart.open", damaged)
    with pytest.raises(CorruptObject):
        await fold(namespace)
    monkeypatch.undo()
    assert not namespace.view.segments
    assert await fold(namespace)
    assert len((await database.query("docs", QUERIES["vector"])).hits) == 10
    await database.close()


async def test_a_merged_segment_is_looked_at_like_its_inputs(tmp_path):
    database = await filled(MemoryStore(), tmp_path)
    namespace = await database.namespace("docs")
    assert await fold(namespace)
    await write(database, ROWS)
    assert await fold(namespace)
    await database.query("docs", QUERIES["vector"])
    assert await compact(namespace, force=True)
    (state,) = namespace.view.segments
    assert state.part.looked_at().vectors == {"vector"}
    await database.close()


async def test_an_attribute_that_is_dropped_meanwhile_does_not_end_the_job(tmp_path):
    database = await filled(MemoryStore(), tmp_path)
    namespace = await database.namespace("docs")
    await database.query("docs", QUERIES["vector"])
    await database.query("docs", QUERIES["text"])
    ask, dropped = rehearse._ask, SchemaChange(dict.fromkeys(("vector", "text", "year")))

    async def drop_first(*args):
        await database.write("docs", WriteRequest(change=dropped))
        await ask(*args)

    with mock.patch.object(rehearse, "_ask", drop_first):
        assert await fold(namespace)
    assert namespace.view.schema.attributes.keys() == {"tags"}
    await database.close()


async def test_queries_may_build_indexes_while_a_job_asks_what_was_looked_at(tmp_path):
    database = await filled(MemoryStore(), tmp_path)
    namespace = await database.namespace("docs")
    await namespace.view.snapshot()
    [chunk] = namespace.view.memtable.chunks
    chunk.vector_columns |= {f"{i}": None for i in range(100_000)}
    chunk.text_indexes |= {(f"{i}", ""): None for i in range(100_000)}
    is_done = threading.Event()

    def build():
        for i in itertools.count():
            if is_done.is_set():
                return
            chunk.vector_columns[f"x{i}"] = chunk.text_indexes[f"x{i}", ""] = None

    building, interval_s = threading.Thread(target=build), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    building.start()
    try:
        namespace.view.looked_at()
    finally:
        is_done.set()
        building.join()
        sys.setswitchinterval(interval_s)
    await database.close()


async def test_questions_that_are_rehearsed_are_not_sampled_again(tmp_path):
    database = await filled(MemoryStore(), tmp_path)
    namespace = await database.namespace("docs")
    await database.query("docs", QUERIES["vector"])
    assert await fold(namespace)
    inc = namespace.reader.manifest.inc
    assert len(database.services.tuning.recent(inc, "vector")) == 1 < rehearse.QUERIES
    await database.close()
