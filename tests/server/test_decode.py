"""Bodies of writes to requests: what is taken apart, and what is refused by its path."""

import base64

import numpy as np
import orjson
import pytest

from elacsym.engine.request import ByFilter
from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import And, Compare, Op
from elacsym.server import decode


def f32(*values):
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


def test_documents_keep_their_order_ids_and_attributes():
    body = {
        "documents": [{"id": 7, "attributes": {"a": 1}}, {"id": 2}, {"id": 2**64 - 1, "attributes": None}]
    }
    request = decode.upsert(body)
    assert [(d.id, dict(d.attributes)) for d in request.upserts] == [(7, {"a": 1}), (2, {}), (2**64 - 1, {})]
    assert request.deletes == ()


def test_base64_vectors_become_the_bytes_they_were():
    body = {
        "documents": [
            {"id": 1, "vector": f32(0.5, -2.0)},
            {"id": 2},
            {"id": 3, "vector": f32(1e-8, 3.0), "attributes": {"a": 1}},
            {"id": 4, "vector": [1, 2.5]},
            {"id": 5, "vector": None},
        ]
    }
    first, second, third, fourth, fifth = decode.upsert(orjson.loads(orjson.dumps(body))).upserts
    assert first.attributes["vector"] == np.array([0.5, -2.0], "<f4").tobytes()
    assert third.attributes["vector"] == np.array([1e-8, 3.0], "<f4").tobytes()
    assert third.attributes["a"] == 1
    assert fourth.attributes["vector"] == [1, 2.5]
    assert "vector" not in second.attributes
    assert "vector" not in fifth.attributes


def doc(**more):
    return {"documents": [{"id": 0}, {"id": 1} | more]}


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ([], InvalidShape, "the body"),
        ("text", InvalidShape, "the body"),
        (None, InvalidShape, "the body"),
        ({}, InvalidShape, "documents"),
        ({"documents": {}}, InvalidShape, "documents"),
        ({"documents": [], "extra": 1}, InvalidShape, "extra"),
        ({"documents": [1]}, InvalidShape, "documents[0]"),
        ({"documents": [{}]}, InvalidShape, "documents[0].id"),
        (doc(id=True), InvalidShape, "documents[1].id"),
        (doc(id=1.5), InvalidShape, "documents[1].id"),
        (doc(id=None), InvalidShape, "documents[1].id"),
        (doc(id=[1]), InvalidShape, "documents[1].id"),
        (doc(text="x"), InvalidShape, "documents[1].text"),
        (doc(attributes=[]), InvalidShape, "documents[1].attributes"),
        (doc(attributes={"vector": [1.0]}), InvalidRequest, "documents[1].attributes.vector"),
        (doc(vector=5), InvalidShape, "documents[1].vector"),
        (doc(vector={"x": 1}), InvalidShape, "documents[1].vector"),
        (doc(vector="not base64!"), InvalidRequest, "documents[1].vector"),
    ],
)
def test_a_bad_upsert_is_refused_by_its_path(body, kind, field):
    with pytest.raises(InvalidRequest) as error:
        decode.upsert(body)
    assert (type(error.value), error.value.field) == (kind, field)


def test_a_delete_names_ids_or_a_filter():
    assert decode.delete({"ids": [1, 2]}).deletes == [1, 2]
    request = decode.delete({"filter": {"field": "a", "op": "eq", "value": 1}})
    assert request.delete_by_filter == ByFilter(Compare("a", Op.EQ, 1, "filter"))
    nothing = decode.delete({"filter": {"type": "and", "conditions": []}})
    assert nothing.delete_by_filter == ByFilter(And(()))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"ids": [1], "filter": {"field": "a", "op": "eq", "value": 1}}, ""),
        ({"ids": [1, 2.5]}, "ids[1]"),
        ({"ids": "all"}, "ids"),
        ({"filter": {}}, "filter.field"),
        ({"filter": "all"}, "filter"),
        ({"id": 1}, "id"),
    ],
)
def test_a_bad_delete_is_refused_by_its_path(body, field):
    with pytest.raises(InvalidShape) as error:
        decode.delete(body)
    assert error.value.field == field
