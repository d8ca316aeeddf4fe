"""What values tell of an attribute that no schema names, and what documents of declared types may bring."""

from __future__ import annotations

import base64
import uuid
from types import MappingProxyType

import numpy as np
import pytest

from elacsym.engine import columns as columns_module
from elacsym.engine.columns import build
from elacsym.engine.request import Document, Inference
from elacsym.errors import InvalidRequest
from elacsym.index.values import to_python
from elacsym.types import Attribute, AttributeType, Metric, Schema

STRICT = Inference(floats=False, vectors=True)
ID = "0011aabb-0000-4000-8000-00000000000f"


def packed(*numbers: float) -> str:
    return base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()


def typed(id_type=None, **attributes: str) -> Schema:
    return Schema(
        id_type,
        Metric.L2,
        MappingProxyType({n: Attribute(AttributeType.parse(kind)) for n, kind in attributes.items()}),
    )


def built(*rows, schema=None, **options):
    documents = [Document(number, row) for number, row in enumerate(rows)]
    return build(documents, schema or Schema(), path="upsert_rows", **options)


def refusal(*rows, schema=None, **options) -> str:
    with pytest.raises(InvalidRequest) as caught:
        built(*rows, schema=schema, **options)
    assert caught.value.status == 400
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "kind", "filterable"),
    [
        (["a"], "string", True),
        ([1, None, -5], "int", True),
        ([True], "bool", True),
        ([["a"], [], None], "[]string", True),
        ([[], [1]], "[]int", True),
        ([[True, False]], "[]bool", True),
        ([[], None], "[]unknown", True),
        ([[[1, 2.5], [3, 4]], []], "[][2]f32", False),
        ([[], [[1, 2.0, 3]]], "[][3]f32", False),
    ],
)
def test_types_are_those_of_the_values(values, kind, filterable):
    found = built(*({"x": v} for v in values), inference=STRICT).attributes
    assert found == {"x": Attribute(AttributeType.parse(kind), filterable=filterable)}


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([0.5, 1, 2], "[3]f32"),
        ([1, 2], "[2]f32"),
        (packed(1, 2, 3, 4), "[4]f32"),
        (np.ones(5, np.float32).tobytes(), "[5]f32"),
        ([[1.0, 2.0]], "[][2]f32"),
        ([packed(1, 2, 3), [1, 2, 3]], "[][3]f32"),
    ],
)
def test_the_attribute_vector_is_one(value, kind):
    made = built({"vector": value}, inference=STRICT)
    assert made.attributes == {"vector": Attribute(AttributeType.parse(kind), filterable=False)}
    assert str(made.arrays["vector"].type.value_type) in ("float", f"fixed_size_list<item: float>{kind[2:5]}")


def test_nothing_but_nulls_tells_no_type():
    made = built({"x": None}, {}, inference=STRICT)
    assert (made.attributes, made.arrays) == ({}, {})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"x": 1.5}], ["x", "signed 64-bit integer"]),
        ([{"x": 1}, {"x": 2.0}], ["x", "signed 64-bit integer"]),
        ([{"x": [1, 1.5]}], ["x", "signed 64-bit integer"]),
        ([{"x": 2**63}], ["x", "outside"]),
        ([{"x": 1}, {"x": "a"}], ["x", "several types"]),
        ([{"x": []}, {"x": 1}], ["upsert_rows[1]", "x", "[]unknown"]),
        ([{"x": [1]}, {"x": 1}], ["upsert_rows[1]", "x", "[]int"]),
        ([{"x": [None]}], ["x", "null is no value"]),
        ([{"x": {"a": 1}}], ["x", "an object is no value"]),
        ([{"vector": []}], ["vector", "0 dimensions"]),
        ([{"vector": ""}], ["vector", "0 dimensions"]),
        ([{"vector": "AAAA"}], ["vector", "3 bytes"]),
        ([{"vector": "?"}], ["vector", "not base64"]),
        ([{"vector": {"a": 1}}], ["vector", "where a vector is expected"]),
        ([{"vector": [1.0]}, {"vector": [1.0, 2.0]}], ["upsert_rows[1].vector", "2 dimensions"]),
        ([{"vector": [1.0] * 10_753}], ["vector", "10753 dimensions"]),
        ([{"vector": [1.0, None]}], ["vector[1]", "null where"]),
        ([{"vector": [float("nan")]}], ["vector", "NaN"]),
        ([{"x": [[1.0], [1.0, 2.0]]}], ["x[1]", "2 dimensions"]),
        ([{"x": [[1, 2]]}, {"x": [[]]}], ["x", "arrays of whole numbers"]),
        ([{"x": [[1, 2]]}, {"x": 1}], ["x", "arrays of whole numbers"]),
        ([{"x": [[1.0]]}, {"x": [1.0]}], ["upsert_rows[1]", "x"]),
        ([{"x": [[1.0], None]}], ["x[1]", "null"]),
    ],
)
def test_values_that_tell_no_type_are_refused(rows, words):
    message = refusal(*rows, inference=STRICT)
    assert all(word in message for word in words), message


def test_arrays_that_were_empty_get_the_type_of_the_first_value():
    schema = typed(x="[]unknown")
    assert built({"x": []}, schema=schema).attributes == {}
    assert built({"x": [1]}, schema=schema).attributes == {"x": Attribute(AttributeType.parse("[]int"))}
    assert "[]unknown" in refusal({"x": 5}, schema=schema)


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("uuid", "{0011AABB-0000-4000-8000-00000000000F}", ID),
        ("[]uuid", ["0011aabb00004000800000000000000f"], [ID]),
        ("datetime", "1970-01-02", 86_400_000),
        ("[]datetime", ["1970-01-01T00:00:00.0019Z", "1969-12-31T23:59:59"], [1, -1000]),
        ("bytes", "AAE=", b"\0\1"),
        ("float", 1, 1.0),
        ("uint", 2**64 - 1, 2**64 - 1),
        ("{}f16", {"17": 0.1, "a": 2}, {"17": float(np.float16(0.1)), "a": 2.0}),
        ("{}f16", {}, {}),
    ],
)
def test_values_are_stored_in_their_own_form(kind, given, stored):
    made = built({"x": given}, {}, schema=typed(x=kind))
    assert to_python(made.arrays["x"]) == [stored, None]


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("int", 1.5, "a number 1.5 where the type is int"),
        ("int", 1.0, "a number 1.0 where the type is int"),
        ("uint", -1, "outside"),
        ("float", float("inf"), "finite"),
        ("uuid", "abc", "is no UUID"),
        ("uuid", 7, "where the type is uuid"),
        ("datetime", "yesterday", "is no ISO 8601 time"),
        ("datetime", 7, "where the type is datetime"),
        ("bytes", "A", "not base64"),
        ("[]datetime", [None], "null where"),
        ("[]float", [1.0, None], "null where"),
        ("[]uuid", [ID, "x"], "[1]: 'x' is no UUID"),
        ("{}f16", [1], "object of weights"),
        ("{}f16", {"a": "b"}, 'a: a string "b"'),
        ("{}f16", {"a": 65_520}, "a: an integer 65520 is outside"),
        ("{}f16", {"a": 10**400}, "outside the range"),
        ("{}f16", {"a": float("nan")}, "NaN is outside"),
        ("{}f16", {"\ud800": 1}, "surrogate"),
        ("{}f16", {str(n): 1 for n in range(1_025)}, "1025 entries where 1024"),
        ("[][2]f32", 5, "where the type is [][2]f32"),
        ("[][2]f32", [[1.0, 2.0]] * 2**20 + [[1.0, 2.0]], "8388616 bytes"),
        ("[]uuid", [ID] * 257, "4112 bytes where a filterable value"),
        ("string", "x" * 5_000, "5000 bytes where a filterable value"),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(kind, value, words):
    message = refusal({}, {"x": value}, schema=typed(x=kind))
    assert "upsert_rows[1].attributes.x" in message and words in message


def test_a_document_is_bounded_as_a_whole(monkeypatch):
    monkeypatch.setattr(columns_module, "DOCUMENT_BYTES_MAX", 100)
    small, large = {"a": "x" * 30, "b": [1, 2]}, {"a": "x" * 60, "b": [1, 2, 3, 4, 5]}
    assert built(*[small] * 10).attributes.keys() == {"a", "b"}
    assert "upsert_rows[1]: 108 bytes where a document may have 100" in refusal(small, large)


def test_every_document_brings_every_vector_where_that_is_the_rule():
    schema = typed(v="[2]f32", w="[2]f16")
    both = {"v": [1, 2], "w": [1, 2]}
    assert built(both, schema=schema, requires_all_vectors=True).arrays.keys() == {"v", "w"}
    message = refusal(both, {"v": [1, 2], "w": None}, schema=schema, requires_all_vectors=True)
    assert "upsert_rows[1]" in message and "'w' is missing" in message
    # an attribute that the request itself brings counts, too
    message = refusal({"vector": [1, 2]}, {}, inference=STRICT, requires_all_vectors=True)
    assert "upsert_rows[1].vector" in message
    assert built({"v": [1, 2]}, schema=schema).arrays.keys() == {"v"}


def test_spellings_of_one_uuid_are_one_id():
    schema = typed("uuid")
    value = uuid.UUID(ID)
    spellings = [str(value), value.hex.upper(), value.urn, f"{{{value}}}"]
    for spelling in spellings:
        assert build([Document(spelling, {})], schema).ids.to_list() == [ID]
    with pytest.raises(InvalidRequest, match=r"documents\[1\].id.*twice"):
        build([Document(spellings[0], {}), Document(spellings[1], {})], schema)
    with pytest.raises(InvalidRequest, match="is no UUID"):
        build([Document("a", {})], schema)
    with pytest.raises(InvalidRequest, match="a UUID"):
        build([Document(7, {})], schema)
