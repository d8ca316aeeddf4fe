"""Documents to columns: what is refused names document and attribute."""

from __future__ import annotations

import numpy as np
import pytest
from support.database import schema

from elacsym.engine.columns import build
from elacsym.engine.request import Document
from elacsym.engine.schema import extended, merged
from elacsym.errors import InvalidRequest
from elacsym.types import Attribute, AttributeType, Metric, Schema

VECTOR = np.ones(8, np.float32)


@pytest.mark.parametrize(
    ("documents", "field", "words"),
    [
        (
            [{"vector": np.ones(7, np.float32)}],
            "documents[0].vector",
            "7 dimensions where the namespace has 8",
        ),
        ([{}, {"vector": [1.0, 2.0]}], "documents[1].vector", "2 dimensions"),
        ([{"vector": np.array([1, 2, 3, np.nan, 5, 6, 7, 8], np.float32)}], "documents[0].vector", "NaN"),
        ([{"vector": [1e39, 0, 0, 0, 0, 0, 0, 0]}], "documents[0].vector", "infinity"),
        ([{"vector": ["a"] * 8}], "documents[0].vector[0]", "str 'a'"),
        ([{"vector": "text"}], "documents[0].vector", "where a vector is expected"),
        ([{"year": 1.5}], "documents[0].attributes.year", "float 1.5 where the type is int"),
        ([{"year": True}], "documents[0].attributes.year", "bool True where the type is int"),
        ([{}, {"year": 2**63}], "documents[1].attributes.year", "outside"),
        ([{"text": 7}], "documents[0].attributes.text", "int 7 where the type is string"),
        ([{"tags": "one"}], "documents[0].attributes.tags", "where the type is []string"),
        ([{"tags": ["a", None]}], "documents[0].attributes.tags[1]", "NoneType"),
        ([{"text": "\ud800"}], "documents[0].attributes.text", "lone surrogate"),
        ([{"new": 1}, {"new": "a"}], "documents[0].attributes.new", "several types"),
        ([{"new": []}], "documents[0].attributes.new", "empty array"),
        ([{"new": {"a": 1}}], "documents[0].attributes.new", "dict"),
        ([{"$new": 1}], "documents[0].attributes.$new", "reserved"),
        ([{"n" * 129: 1}], "documents[0].attributes." + "n" * 129, "129 bytes"),
        ([{"label": "x" * 5000}], "documents[0].attributes.label", "5000 bytes"),
        ([{"other": np.ones(3, np.float32)}], "documents[0].attributes.other", "no such vector attribute"),
    ],
)
def test_a_bad_value_is_refused_with_document_and_attribute(documents, field, words):
    with pytest.raises(InvalidRequest) as caught:
        build([Document(i, attributes) for i, attributes in enumerate(documents)], schema())
    assert caught.value.field == field
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("ids", "field", "words"),
    [
        ([1, 2, 1], "documents[2].id", "twice"),
        ([1, "a"], "documents[1].id", "str 'a'"),
        ([True], "documents[0].id", "bool True"),
        ([-1], "documents[0].id", "outside"),
        ([2**64], "documents[0].id", "outside"),
        (["x" * 65], "documents[0].id", "64 bytes"),
        ([None], "documents[0].id", "NoneType"),
        ([1.0], "documents[0].id", "float"),
    ],
)
def test_a_bad_id_is_refused(ids, field, words):
    with pytest.raises(InvalidRequest) as caught:
        build([Document(i, {}) for i in ids], Schema())
    assert caught.value.field == field
    assert words in caught.value.reason


def test_types_of_new_attributes_are_inferred():
    values = {
        "s": "a",
        "i": 1,
        "f": 1.5,
        "b": True,
        "ss": ["a"],
        "is": [1, 2],
        "fs": [1, 2.5],
        "nothing": None,
    }
    columns = build([Document(1, values), Document(2, {"f": 2})], Schema())
    found = {name: str(a.type) for name, a in columns.attributes.items()}
    assert found == {
        "s": "string",
        "i": "int",
        "f": "float",
        "b": "bool",
        "ss": "[]string",
        "is": "[]int",
        "fs": "[]float",
    }
    assert columns.arrays["f"].to_pylist() == [1.5, 2.0]
    assert columns.arrays["ss"].to_pylist() == [["a"], None]


def test_a_document_without_a_vector_is_null_there():
    columns = build(
        [Document(1, {"vector": VECTOR}), Document(2, {}), Document(3, {"vector": [0.5] * 8})], schema()
    )
    assert columns.arrays["vector"].to_pylist() == [[1.0] * 8, None, [0.5] * 8]


def test_long_texts_are_taken_where_a_filterable_value_is_not():
    columns = build([Document(1, {"text": "word " * 2000})], schema())
    assert len(columns.arrays["text"][0].as_py()) == 10_000


def test_a_schema_grows_and_never_changes():
    base = schema()
    added = {"n": Attribute(AttributeType.parse("int"))}
    grown = merged(base, added, id_type="uint")
    assert grown.attributes["n"] == added["n"]
    assert grown.id_type == "uint"
    assert merged(grown, added, id_type="uint") is grown
    with pytest.raises(InvalidRequest, match="cannot change attribute type from int to string"):
        merged(grown, {"n": Attribute(AttributeType.parse("string"))}, id_type="uint")
    with pytest.raises(InvalidRequest, match="string ids"):
        merged(grown, {}, id_type="string")


def test_a_declaration_that_disagrees_is_refused():
    base = schema()
    assert extended(base, base) is base
    with pytest.raises(InvalidRequest, match="vector_metric"):
        extended(base, Schema(metric=Metric.COSINE))
    with pytest.raises(InvalidRequest, match="other options"):
        extended(base, Schema(attributes={"year": Attribute(AttributeType.parse("int"), filterable=False)}))
    with pytest.raises(InvalidRequest, match="from \\[8\\]f32 to \\[9\\]f32"):
        extended(base, Schema(attributes={"vector": Attribute(AttributeType.parse("[9]f32"))}))
