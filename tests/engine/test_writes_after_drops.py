"""Writes beside changes of the schema: attributes that are dropped, and others of their names."""

from __future__ import annotations

import asyncio

import pytest
from support.database import upsert

from elacsym.engine.request import AttributeChange, ByFilter, Document, SchemaChange, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Compare, Not, Op
from elacsym.types import AttributeType, Schema


def patch(*documents):
    return WriteRequest(patches=[Document(id_, values) for id_, values in documents])


async def _only(database, id_):
    (hit,) = await database.documents("docs", [id_])
    return hit.attributes


async def test_an_attribute_that_was_dropped_in_between_does_not_come_back(database):
    """Dropped, and a new one of its name declared, in requests of the same entry as a patch."""
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(1, {"old": 1, "n": 1}), Document(2, {"old": 2, "n": 2})))
    changes = [
        SchemaChange({"old": None}),
        SchemaChange({"old": AttributeChange(AttributeType.parse("string"))}),
    ]
    requests = [WriteRequest(change=change) for change in changes] + [patch((1, {"n": 5}))]
    await asyncio.gather(*(database.write("docs", request) for request in requests))
    assert await _only(database, 1) == {"n": 5}
    await database.write("docs", patch((2, {"old": "text"})))
    assert await _only(database, 2) == {"n": 2, "old": "text"}


async def test_dropping_and_writing_an_attribute_in_one_request_is_refused(database):
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(1, {"old": 1})))
    with pytest.raises(InvalidRequest, match="dropped and written"):
        await database.write(
            "docs", WriteRequest(upserts=[Document(2, {"old": 1})], change=SchemaChange({"old": None}))
        )


@pytest.mark.parametrize(
    "operation",
    [
        {"delete_by_filter": ByFilter(Compare("a", Op.EQ, 1))},
        {"patch_by_filter": ByFilter(Not(Compare("a", Op.EQ, None))), "patch": {"b": 2}},
        {"upserts": [Document(1, {"b": 2})], "upsert_condition": Compare("a", Op.EQ, 1)},
        {"patches": [Document(1, {"b": 2})], "patch_condition": Compare("a", Op.EQ, 1)},
        {"deletes": [1], "delete_condition": Compare("a", Op.EQ, 1)},
    ],
)
async def test_what_a_request_drops_it_cannot_look_at(database, operation):
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(1, {"a": 1, "b": 1})))
    with pytest.raises(InvalidRequest, match="filter error in key `a`"):
        await database.write("docs", WriteRequest(**operation, change=SchemaChange({"a": None})))
    (hit,) = await database.documents("docs", [1])
    assert hit.attributes == {"a": 1, "b": 1}
