"""Schemas learn from documents that are written, and not from those that conditions and filters left out."""

from __future__ import annotations

import asyncio

import pytest
from support.database import upsert

from elacsym.engine.request import AttributeChange, ByFilter, Document, SchemaChange, WriteRequest
from elacsym.query.ast import Compare, Op
from elacsym.types import Attribute, AttributeType, Schema


async def _types(database):
    attributes = (await database.info("docs")).schema.attributes
    return {name: str(attribute.type) for name, attribute in attributes.items()}


@pytest.fixture
async def docs(database):
    """Documents 1 to 3 with n = id and an array without elements."""
    await database.create("docs", Schema("uint", None, {"open": Attribute(AttributeType.parse("[]unknown"))}))
    await database.write("docs", upsert(*(Document(i, {"n": i, "open": []}) for i in (1, 2, 3))))
    assert await _types(database) == {"open": "[]unknown", "n": "int"}
    return database


def conditional(*documents, **more):
    return WriteRequest(upserts=documents, upsert_condition=Compare("n", Op.GT, 2), **more)


NOT_WRITTEN = {
    "a skipped upsert": conditional(Document(1, {"n": 1, "price": "12", "open": ["x"]})),
    "a patch of an absent document": WriteRequest(patches=[Document(9, {"price": "12", "open": ["x"]})]),
    "a skipped patch": WriteRequest(
        patches=[Document(1, {"price": "12", "open": ["x"]})], patch_condition=Compare("n", Op.GT, 2)
    ),
    "a patch by a filter without matches": WriteRequest(
        patch_by_filter=ByFilter(Compare("n", Op.GT, 9)), patch={"price": "12", "open": ["x"]}
    ),
    "skipped vectors": conditional(Document(1, {"pieces": [1.5], "open": [2.5]})),
    "nulls": conditional(Document(1, {"price": "12"}), Document(3, {"n": 3, "price": None, "open": []})),
}


@pytest.mark.parametrize("case", NOT_WRITTEN)
async def test_what_is_not_written_fixes_no_type(docs, case):
    before = (await docs.info("docs")).schema
    await docs.write("docs", NOT_WRITTEN[case])
    assert (await docs.info("docs")).schema == before
    # what it would have fixed is still free
    await docs.write("docs", WriteRequest(patches=[Document(2, {"price": 12, "open": [7], "pieces": "a"})]))
    assert await _types(docs) == {"n": "int", "open": "[]int", "price": "int", "pieces": "string"}
    hits = await docs.documents("docs", [1, 2, 3])
    assert [hit.attributes["open"] for hit in hits] == [[], [7], []]


async def test_each_attribute_is_added_by_the_documents_that_bring_it(docs):
    """Also where those only hold its arrays empty; what is declared counts whatever is written."""
    change = SchemaChange({"said": AttributeChange(AttributeType.parse("datetime"))})
    request = conditional(
        Document(1, {"n": 1, "left": 1, "both": ["a"], "open": ["a"], "late": True}),
        Document(3, {"n": 3, "kept": 1, "both": [], "open": []}),
        Document(4, {"n": 4, "fresh": 2}),
        change=change,
    )
    assert (await docs.write("docs", request)).effects.upserted == 2
    wanted = {"n": "int", "open": "[]unknown", "both": "[]unknown", "kept": "int", "fresh": "int"}
    assert await _types(docs) == wanted | {"said": "datetime"}
    (three,) = await docs.documents("docs", [3])
    assert three.attributes == {"n": 3, "kept": 1, "both": [], "open": []}
    await docs.write("docs", WriteRequest(patches=[Document(3, {"both": [1], "open": [True]})]))
    three, one = await docs.documents("docs", [3, 1])
    assert three.attributes == {"n": 3, "kept": 1, "both": [1], "open": [True]}
    assert one.attributes == {"n": 1, "open": []}


async def test_requests_of_one_entry_do_not_learn_from_what_another_left_out(docs):
    requests = [NOT_WRITTEN["a skipped upsert"], WriteRequest(patches=[Document(2, {"price": 1.5})])]
    results = await asyncio.gather(*(docs.write("docs", request) for request in requests))
    assert [result.count for result in results] == [0, 1]
    assert (await _types(docs))["price"] == "float"
