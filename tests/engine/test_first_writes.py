"""Writes to namespaces that are missing, empty, locked or busy, and what a write is said to have done."""

from __future__ import annotations

import pytest
from support.database import FAST, open_database, upsert

from elacsym.engine.request import (
    AttributeChange,
    ByFilter,
    Document,
    OptionsChange,
    SchemaChange,
    WriteRequest,
)
from elacsym.errors import InvalidRequest, NamespaceNotFound, Overloaded
from elacsym.log.settings import LogSettings
from elacsym.query.ast import Compare, Op
from elacsym.types import AttributeType, Effects, Schema

EQUAL = Compare("n", Op.EQ, 1)
INT = AttributeChange(AttributeType.parse("int"))


async def _is_missing(database):
    try:
        await database.info("docs")
    except NamespaceNotFound:
        return (await database.list())[0] == []
    return False


@pytest.mark.parametrize(
    "request_",
    [
        WriteRequest(deletes=[1]),
        WriteRequest(patches=[Document(1, {"n": 1})]),
        WriteRequest(delete_by_filter=ByFilter(EQUAL)),
        WriteRequest(patch_by_filter=ByFilter(EQUAL), patch={"n": 1}),
        WriteRequest(change=SchemaChange({"n": INT})),
        WriteRequest(upserts=[Document(1, {})], creates=False),
        WriteRequest(),
    ],
)
async def test_only_upserts_make_a_missing_namespace(database, request_):
    with pytest.raises(NamespaceNotFound):
        await database.write("docs", request_)
    assert await _is_missing(database)


@pytest.mark.parametrize(
    "request_",
    [
        WriteRequest(upserts=[Document(1, {"a": [1, "x"]})]),
        WriteRequest(upserts=[Document(1, {}), Document(1, {})]),
        WriteRequest(upserts=[Document(1, {})], deletes=["a"]),
        WriteRequest(upserts=[Document(1, {})], delete_by_filter=ByFilter(EQUAL)),
        WriteRequest(upserts=[Document(1, {})], upsert_condition=EQUAL),
        WriteRequest(upserts=[Document(1, {"n": "x"})], change=SchemaChange({"n": INT})),
        WriteRequest(creates=True),
        WriteRequest(creates=True, deletes=[1]),
    ],
)
async def test_a_first_write_that_is_refused_leaves_no_namespace(database, request_):
    with pytest.raises(InvalidRequest):
        await database.write("docs", request_)
    assert await _is_missing(database)


async def test_a_first_write_does_all_that_it_says(database):
    request = WriteRequest(
        upserts=[Document(1, {"n": 1}), Document(2, {"n": 2})],
        patches=[Document(3, {"m": 1})],
        deletes=[4],
        delete_by_filter=ByFilter(EQUAL),
        upsert_condition=EQUAL,
        wants_ids=True,
    )
    effects = (await database.write("docs", request)).effects
    assert (effects.upserted_ids, effects.patched_ids, effects.deleted_ids) == ((1, 2), (), (4,))
    assert (await database.info("docs")).documents == 2


@pytest.mark.parametrize("id_type", ["uint", "string"])
async def test_a_namespace_may_be_made_without_documents(database, id_type):
    await database.write("docs", WriteRequest(creates=True, change=SchemaChange({"n": INT}, id_type)))
    info = await database.info("docs")
    assert info.schema.id_type == id_type and "n" in info.schema.attributes and info.documents == 0
    again = await database.write("docs", WriteRequest(creates=True, change=SchemaChange({}, id_type)))
    assert again.effects == Effects()


async def test_a_request_that_asks_for_nothing_does_nothing(database):
    first = await database.write("docs", upsert(Document(1, {})))
    result = await database.write("docs", WriteRequest())
    assert (result.count, result.effects, result.token) == (0, Effects(), first.token)


async def test_a_read_only_namespace_takes_nothing_but_options(database):
    await database.write("docs", upsert(Document(1, {"n": 1})))
    await database.write("docs", WriteRequest(change=SchemaChange(options=OptionsChange(read_only=True))))
    refused = [
        upsert(Document(2, {})),
        WriteRequest(deletes=[1]),
        WriteRequest(patches=[Document(1, {"n": 2})]),
        WriteRequest(delete_by_filter=ByFilter(EQUAL)),
        WriteRequest(change=SchemaChange({"m": INT})),
        WriteRequest(schema=Schema()),
        WriteRequest(upserts=[Document(2, {})], change=SchemaChange(options=OptionsChange(read_only=False))),
    ]
    for request in refused:
        with pytest.raises(InvalidRequest, match=r"^Writes not permitted. This namespace is read-only.$"):
            await database.write("docs", request)
    assert (await database.info("docs")).documents == 1
    await database.write("docs", WriteRequest(change=SchemaChange(options=OptionsChange(read_only=False))))
    await database.write("docs", upsert(Document(2, {})))
    assert (await database.info("docs")).documents == 2


async def test_what_is_not_indexed_yet_holds_up_only_those_that_wait_for_it(tmp_path):
    log = LogSettings(retry_base_s=0.0005, retry_cap_s=0.002, unfolded_bytes_max=1_000)
    settings = type(FAST)(log=log)
    database = await open_database(cache_path=tmp_path, settings=settings)
    await database.write("docs", upsert(Document(1, {"text": "x" * 1_000})))
    with pytest.raises(Overloaded, match="not indexed yet"):
        await database.write("docs", upsert(Document(2, {})))
    free = WriteRequest(upserts=[Document(2, {})], ignores_pressure=True)
    assert (await database.write("docs", free)).count == 1
    large = WriteRequest(upserts=[Document(3, {"text": "y" * 4_000})], ignores_pressure=True)
    assert (await database.write("docs", large)).count == 1
    with pytest.raises(Overloaded, match="not indexed yet"):
        await database.write("docs", free)
    await database.close()


async def test_bytes_are_those_of_ids_and_values(database):
    documents = [
        Document("ab", {"n": 1, "is": True, "text": "\u00e4x", "tags": ["a", "bcd"]}),
        Document("c", {"n": None, "numbers": [1, 2, 3]}),
    ]
    written = [(2 + 8 + 1 + 3 + 4), (1 + 24)]
    together = await database.write("docs", upsert(*documents))
    assert together.effects == Effects(upserted=2, bytes_written=sum(written))
    patched = await database.write("docs", WriteRequest(patches=[Document("c", {"n": 2, "text": "abc"})]))
    assert patched.effects.bytes_written == 1 + 8 + 3 and patched.effects.has_read
    deleted = await database.write("docs", WriteRequest(deletes=["ab", "absent"]))
    assert deleted.effects == Effects(deleted=2, bytes_written=2 + 6)


async def test_a_repetition_is_told_the_count_and_nothing_more(database):
    request = WriteRequest(upserts=[Document(1, {}), Document(2, {})], wants_ids=True)
    first = await database.write("docs", request, idempotency_key="key")
    again = await database.write("docs", request, idempotency_key="key")
    assert first.effects.upserted_ids == (1, 2)
    assert (again.count, again.token, again.effects) == (first.count, first.token, None)
