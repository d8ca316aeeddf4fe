"""Writes beside changes of the schema: attributes that are dropped, and others of their names."""

from __future__ import annotations

import asyncio

import pytest
from support.database import upsert

from elacsym.engine.request import AttributeChange, Document, SchemaChange, WriteRequest
from elacsym.errors import InvalidRequest
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
