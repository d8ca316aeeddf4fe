"""Tails that are too long for one segment: they are folded piece by piece."""

from __future__ import annotations

import numpy as np
import pytest
from support.branches import Branches
from support.database import document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import AttributeChange, Document, SchemaChange, WriteRequest
from elacsym.format.keys import NamespaceKeys
from elacsym.query.ast import OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.types import AttributeType
from elacsym.upkeep.scrub import scrub

ALL = Query(order_by=(OrderKey("id"),), top_k=100, include_attributes=None)


def _change(**attributes):
    said = {n: t if t is None else AttributeChange(AttributeType.parse(t), {}) for n, t in attributes.items()}
    return WriteRequest(change=SchemaChange(said))


async def _filled(path, store):
    """A segment, and a tail that replaces, deletes, drops, learns types and brings a dropped name anew."""
    rng, database = np.random.default_rng(1), await open_database(store, cache_path=path)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(10))))
    assert await fold(await database.namespace("docs"))
    for request in (
        upsert(*(document(i, rng) for i in range(5, 15))),
        WriteRequest(upserts=[Document(20, {"list": []}), Document(21, {"list": []})]),
        WriteRequest(deletes=[1, 6, 7, 12, 20]),
        WriteRequest(upserts=[Document(6, {"list": ["a"], "year": 3}), Document(22, {"list": ["b", "c"]})]),
        _change(year=None),
        upsert(Document(12, {"text": "again"})),
        _change(year="string"),
        WriteRequest(upserts=[Document(5, {"year": "five"}), Document(20, {"list": ["d"]})]),
        WriteRequest(deletes=[22]),
    ):
        await database.write("docs", request)
    return database


async def _documents(database, name="docs"):
    return [(hit.id, str(hit.attributes)) for hit in (await database.query(name, ALL)).hits]


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_a_tail_that_is_folded_piece_by_piece_answers_the_same_all_the_way(tmp_path, slots):
    store = MemoryStore()
    database = await _filled(tmp_path / "a", store)
    expected = await _documents(database)
    namespace = await database.namespace("docs")
    applied = namespace.reader.manifest.applied
    while namespace.reader.slots:
        bytes_max = sum(slot.size_bytes for slot in namespace.reader.slots[:slots])
        assert await fold(namespace, bytes_max=bytes_max)
        assert 1 <= namespace.reader.manifest.applied - applied <= slots
        applied = namespace.reader.manifest.applied
        fresh = await open_database(store, cache_path=tmp_path / f"{applied}", seed=applied)
        assert await _documents(database) == await _documents(fresh) == expected
        await fresh.close()
        report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
        assert report.problems == []
    assert not await fold(namespace)
    assert applied == namespace.reader.tail
    await database.close()


async def test_a_slot_that_is_too_large_by_itself_is_folded_alone(tmp_path):
    database = await _filled(tmp_path / "a", MemoryStore())
    namespace = await database.namespace("docs")
    first = namespace.reader.manifest.applied
    assert await fold(namespace, bytes_max=1)
    assert namespace.reader.manifest.applied == first + 1
    await database.close()


async def test_rows_that_a_later_slot_takes_away_are_there_for_who_does_not_know_it(tmp_path):
    """A branch begins before the slots that delete and drop, and takes over what was folded after them."""
    store = HookedStore(MemoryStore())
    world = Branches(await open_database(store, cache_path=tmp_path / "cache"), store, tmp_path)
    await world.database.create("source", schema())
    await world.put("source", 1, 2)
    await world.put("source", 3)
    other = await world.other()
    expected = await _documents(other, "source")

    async def delete_and_fold(operation, key):
        if key == NamespaceKeys("branch").manifest:
            store.hook = None
            namespace = await world.database.namespace("source")
            bytes_max = sum(slot.size_bytes for slot in namespace.reader.slots)
            await world.delete("source", 1)
            await world.put("source", 3)
            await world.database.write("source", _change(year=None))
            assert await fold(namespace, bytes_max=bytes_max)
            assert len(namespace.reader.slots) == 3

    store.hook = delete_and_fold
    assert await other.branch("source", "branch") == 3
    assert (await world.manifest("branch")).bases == ()
    assert await _documents(await world.other(), "branch") == expected
    await world.assert_sound("branch", [1, 2, 3])
    await world.assert_sound("source", [2, 3])
    await world.close()
