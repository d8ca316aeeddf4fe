"""Namespaces that are evicted, deleted and created again under the requests that use them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.clocks import ManualClock
from support.database import document, open_database, schema, upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import InvalidRequest, NamespaceNotFound
from elacsym.query.ast import OrderKey, Query, TextLeg
from elacsym.query.execute import execute
from elacsym.store.memory import MemoryStore
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import STRONG, Attribute, AttributeType, Schema

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)


class GatedStore(StoreWrapper):
    """Reads of manifests wait while `gate` is there; `is_asked` is set when one waits."""

    def __init__(self, inner):
        super().__init__(inner)
        self.gate, self.is_asked = None, asyncio.Event()

    async def _pass(self, key):
        if self.gate is not None and key.endswith("/manifest"):
            self.is_asked.set()
            await self.gate.wait()

    def close_gate(self):
        self.gate = asyncio.Event()

    async def get(self, key):
        await self._pass(key)
        return await self.inner.get(key)

    async def get_if_changed(self, key, etag):
        await self._pass(key)
        return await self.inner.get_if_changed(key, etag)


async def _ids(database):
    return [hit.id for hit in (await database.query("docs", ALL)).hits]


async def test_a_namespace_is_closed_when_its_requests_are_answered_and_not_before(tmp_path):
    """Eviction cancelled the check of the log that a query was waiting for, and the query with it."""
    store = GatedStore(MemoryStore())
    database = await open_database(store, cache_path=tmp_path)
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(1, {})))
    namespace = await database.namespace("docs")
    store.close_gate()
    query = asyncio.create_task(database.query("docs", ALL))
    await store.is_asked.wait()
    database.evict(namespace)
    assert database.opened() == []
    store.gate.set()
    assert [hit.id for hit in (await query).hits] == [1]
    assert await _ids(database) == [1]
    assert database.opened() != [namespace]
    await database.close()


async def test_eviction_leaves_another_opening_of_the_same_name_alone(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    old = await database.namespace("docs")
    await database.delete("docs")
    await database.create("docs", Schema())
    new = await database.namespace("docs")
    database.evict(old)
    assert database.opened() == [new] and new is not old
    await database.close()


async def test_a_failed_opening_that_nobody_waited_for_is_not_told_to_the_next_request(tmp_path):
    """A client left while a name was looked up that did not exist; it was created then, and the next query
    was told that there was no such namespace."""
    store = GatedStore(MemoryStore())
    database = await open_database(store, cache_path=tmp_path / "a")
    other = await open_database(store.inner, cache_path=tmp_path / "b", seed=2)
    store.close_gate()
    gone = asyncio.create_task(database.query("docs", ALL))
    await store.is_asked.wait()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    (opening,) = database._open.values()
    store.gate.set()
    with pytest.raises(NamespaceNotFound):
        await opening
    await other.create("docs", Schema())
    assert await _ids(database) == []
    await database.close()
    await other.close()


async def test_a_snapshot_keeps_the_schema_of_its_incarnation(tmp_path):
    """A query that was under way when its namespace was deleted and created with another schema looked up its
    attributes in the other schema."""
    database = await open_database(cache_path=tmp_path)
    rng = np.random.default_rng(1)
    await database.create("docs", schema())
    await database.write("docs", upsert(document(1, rng)))
    await fold(await database.namespace("docs"))
    await database.write("docs", upsert(document(2, rng)))
    namespace = await database.namespace("docs")
    before = await namespace.snapshot(STRONG)
    other = await open_database(database.services.store, cache_path=tmp_path / "b", seed=2)
    await other.delete("docs")
    await other.create("docs", Schema())
    await other.write("docs", upsert(Document("a", {"year": "a text"})))
    assert await _ids(database) == ["a"]
    query = Query(legs=(TextLeg((("text", 1.0),), "copper kettle boiling water tea leaf mountain river"),))
    hits = (await execute(before, query, database.services.compute)).hits
    assert sorted(hit.id for hit in hits) == [1, 2]
    await database.close()
    await other.close()


@pytest.mark.parametrize("first", [["a"], [7]])
async def test_deletes_before_the_first_document_leave_the_type_of_ids_open(tmp_path, first):
    """Ids of one type, deleted in an empty namespace, and then documents with ids of the other made every
    fold of the log fail."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    assert (await database.write("docs", WriteRequest(deletes=first))).count == 1
    await database.write("docs", upsert(Document(1, {}), Document(2, {})))
    namespace = await database.namespace("docs")
    assert await _ids(database) == [1, 2]
    await fold(namespace)
    await database.write("docs", WriteRequest(deletes=[1]))
    assert await _ids(database) == [2]
    with pytest.raises(InvalidRequest, match="where the namespace's ids are"):
        await database.write("docs", WriteRequest(deletes=["a"]))
    await database.close()


async def test_a_delete_queued_behind_the_first_document_deletes_it(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    writes = (upsert(Document(1, {}), Document(2, {})), WriteRequest(deletes=[1]))
    await asyncio.gather(*(database.write("docs", write) for write in writes))
    assert await _ids(database) == [2]
    await database.close()


async def test_deletes_have_the_type_of_the_documents_beside_them(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    with pytest.raises(InvalidRequest, match=r"ids\[0\]"):
        await database.write("docs", WriteRequest(upserts=[Document(1, {})], deletes=["a"]))
    assert await _ids(database) == []
    await database.close()


@pytest.mark.parametrize(
    "request_", [upsert(Document("\ud800", {})), WriteRequest(deletes=["\ud800"])], ids=["upsert", "delete"]
)
async def test_an_id_that_is_no_text_is_refused_alone(tmp_path, request_):
    """A lone surrogate in an id broke the writer, and with it every write that waited."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document("a", {})))
    refused, accepted = await asyncio.gather(
        database.write("docs", request_),
        database.write("docs", upsert(Document("b", {}))),
        return_exceptions=True,
    )
    assert isinstance(refused, InvalidRequest) and accepted.count == 1
    assert await _ids(database) == ["a", "b"]
    await database.close()


async def _deleted_and_created_elsewhere(database, tmp_path):
    other = await open_database(database.services.store, cache_path=tmp_path / "other", seed=2)
    await other.delete("docs")
    await other.create("docs", Schema())
    return other


async def test_a_key_of_a_deleted_namespace_does_not_answer_for_the_one_in_its_place(tmp_path):
    """A node that had not heard of the deletion acknowledged a write from memory; nothing was written."""
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    first = await database.write("docs", upsert(Document(1, {})), idempotency_key="key")
    other = await _deleted_and_created_elsewhere(database, tmp_path)
    second = await database.write("docs", upsert(Document(1, {})), idempotency_key="key")
    assert second.token.inc != first.token.inc
    assert await _ids(other) == [1]
    again = await database.write("docs", upsert(Document(1, {})), idempotency_key="key")
    assert (again.token, again.count, again.effects) == (second.token, second.count, None)
    await database.close()
    await other.close()


async def test_a_write_is_not_refused_for_a_schema_that_is_gone(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(1, {"year": 2000})))
    other = await _deleted_and_created_elsewhere(database, tmp_path)
    await database.write("docs", upsert(Document("a", {"year": "a text"})))
    assert await _ids(other) == ["a"]
    await database.close()
    await other.close()


async def test_a_write_is_not_refused_for_an_attribute_that_another_node_declared(tmp_path):
    database = await open_database(cache_path=tmp_path / "a")
    other = await open_database(database.services.store, cache_path=tmp_path / "b", seed=2)
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(0, {})))
    await other.create("docs", schema())
    await database.write("docs", upsert(document(1, np.random.default_rng(1))))
    assert await _ids(other) == [0, 1]
    await database.close()
    await other.close()


async def test_times_of_writes_and_what_is_not_indexed_are_told(tmp_path):
    clock = ManualClock()
    database = await open_database(cache_path=tmp_path, clock=clock)
    await database.create("docs", schema())
    info = await database.info("docs")
    assert (info.created_ms, info.updated_ms, info.last_write_ms) == (1_000_000, 1_000_000, None)
    clock.now_s += 1
    await database.write("docs", upsert(document(1, np.random.default_rng(1))))
    clock.now_s += 1
    added = {"more": Attribute(AttributeType.parse("int"))}
    await database.write("docs", WriteRequest(schema=Schema(None, None, added)))
    for tail_rows in (1, 0):
        info = await database.info("docs")
        assert (info.updated_ms, info.last_write_ms, info.tail_rows) == (1_002_000, 1_001_000, tail_rows)
        await fold(await database.namespace("docs"))
    await database.close()
