"""Documents to columns: what is refused names document and attribute."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.database import schema

from elacsym.engine.columns import build
from elacsym.engine.request import Document
from elacsym.engine.schema import extended, merged
from elacsym.engine.vector_values import shown
from elacsym.errors import InvalidRequest
from elacsym.index.columns import arrow_type
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
        ([{"vector": ["a"] * 8}], "documents[0].vector[0]", 'a string "a"'),
        ([{"vector": {"a": 1}}], "documents[0].vector", "where a vector is expected"),
        ([{"vector": "no base64!"}], "documents[0].vector", "not base64"),
        ([{"vector": "AAAA"}], "documents[0].vector", "3 bytes where 8 dimensions are 32"),
        ([{"vector": np.ones(7, "<f4").tobytes()}], "documents[0].vector", "7 dimensions"),
        ([{"year": 1.5}], "documents[0].attributes.year", "a number 1.5 where the type is int"),
        ([{"year": True}], "documents[0].attributes.year", "a boolean true where the type is int"),
        ([{}, {"year": 2**63}], "documents[1].attributes.year", "outside"),
        ([{"text": 7}], "documents[0].attributes.text", "an integer 7 where the type is string"),
        ([{"tags": "one"}], "documents[0].attributes.tags", "where the type is []string"),
        ([{"tags": ["a", None]}], "documents[0].attributes.tags[1]", "null where"),
        ([{"text": "\ud800"}], "documents[0].attributes.text", "lone surrogate"),
        ([{"new": 1}, {"new": "a"}], "documents[0].attributes.new", "several types"),
        ([{"new": []}, {"new": 1}], "documents[1].attributes.new", "where the type is []unknown"),
        ([{"new": {"a": 1}}], "documents[0].attributes.new", "an object is no value"),
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
        ([1, "a"], "documents[1].id", 'a string "a"'),
        ([True], "documents[0].id", "a boolean true"),
        ([-1], "documents[0].id", "outside"),
        ([2**64], "documents[0].id", "outside"),
        (["x" * 65], "documents[0].id", "64 bytes"),
        ([None], "documents[0].id", "null where"),
        ([1.0], "documents[0].id", "a number 1.0"),
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


def typed(kind):
    """A schema with the vector attributes `narrow`, of 4 elements of this kind, and `vector`."""
    base = schema()
    attribute = Attribute(AttributeType.parse(f"[4]{kind}"), filterable=False)
    return Schema(None, base.metric, {**base.attributes, "narrow": attribute})


@pytest.mark.parametrize(
    ("kind", "values", "field", "words"),
    [
        (
            "i8",
            [1, 2, 3, 0.5],
            "documents[1].attributes.narrow[3]",
            "0.5 where whole numbers",
        ),
        ("i8", [1, 128, 3, 4], "documents[1].attributes.narrow[1]", "128.0 where whole numbers"),
        ("i8", [1, 2, -129, 4], "documents[1].attributes.narrow[2]", "-129.0 where whole numbers"),
        ("i8", [1, 2, True, 4], "documents[1].attributes.narrow[2]", "a boolean true"),
        ("i8", [1, 2, 1e39, 4], "documents[1].attributes.narrow", "infinity"),
        ("i8", np.float32([1, 2, np.nan, 4]), "documents[1].attributes.narrow", "NaN"),
        (
            "f16",
            [1, 65520, 3, 4],
            "documents[1].attributes.narrow[1]",
            "65520.0 is outside the range",
        ),
        ("f16", [1, 2, 3], "documents[1].attributes.narrow", "3 dimensions where the namespace has 4"),
        (
            "f16",
            np.float32([1, 2]),
            "documents[1].attributes.narrow",
            "2 dimensions where the namespace has 4",
        ),
        ("f16", np.array(["a"] * 4), "documents[1].attributes.narrow", "where a vector is expected"),
        ("f16", b"123", "documents[1].attributes.narrow", "3 bytes where 4 dimensions are 16"),
        ("f32", b"", "documents[1].attributes.narrow", "0 bytes where 4 dimensions are 16"),
        ("f32", b"12345678", "documents[1].attributes.narrow", "2 dimensions where the namespace has 4"),
    ],
)
def test_what_a_narrow_vector_cannot_hold_is_refused_with_document_and_place(kind, values, field, words):
    with pytest.raises(InvalidRequest) as caught:
        build([Document(1, {"narrow": [0] * 4}), Document(2, {"narrow": values})], typed(kind))
    assert caught.value.field == field
    assert words in caught.value.reason


@given(
    st.sampled_from(["f32", "f16", "i8"]),
    st.lists(
        st.one_of(
            st.none(), arrays(np.float32, 4, elements=st.floats(-128, 127, width=16, allow_subnormal=False))
        ),
        min_size=1,
    ),
    st.data(),
)
def test_a_vector_is_stored_alike_in_whatever_form_it_comes(kind, vectors, data):
    dtype = {"f32": np.float32, "f16": np.float16, "i8": np.int8}[kind]
    if kind == "i8":
        vectors = [None if v is None else np.rint(v) for v in vectors]
    forms = [
        lambda v: v,
        lambda v: v.tolist(),
        lambda v: v.astype(np.float64),
        lambda v: v.astype("<f4").tobytes(),
        lambda v: base64.b64encode(v.astype("<f4").tobytes()).decode(),
        lambda v: v.astype(dtype).tobytes(),
        lambda v: base64.b64encode(v.astype(dtype).tobytes()).decode(),
    ]
    given_ = [None if v is None else data.draw(st.sampled_from(forms))(v) for v in vectors]
    documents = [Document(i, {"narrow": v}) for i, v in enumerate(given_)]
    array = build(documents, typed(kind)).arrays.get("narrow")
    if all(v is None for v in vectors):
        assert array is None or array.null_count == len(vectors)
        return
    assert array.type == arrow_type(AttributeType.parse(f"[4]{kind}"))
    assert array.to_pylist() == [None if v is None else v.tolist() for v in vectors]


def test_numbers_are_rounded_to_the_stored_width():
    rounded = build([Document(1, {"narrow": [0.1, 1 / 3, 2049, 65519]})], typed("f16")).arrays["narrow"]
    assert rounded.flatten().to_numpy().tolist() == [0.0999755859375, 0.333251953125, 2048.0, 65504.0]


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


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "null"),
        (True, "a boolean true"),
        ("é", 'a string "é"'),
        ([1, None], "an array [1, null]"),
        (b"12345678", "base64 of 8 bytes"),
        (np.ones(10**6, np.float32), f"an array [{'1.0, ' * 12}..."),
        ("x" * 10**6, f'a string "{"x" * 60}...'),
    ],
)
def test_refused_values_are_shown_as_json(value, told):
    assert shown(value) == told
