"""The schema in JSON: every spelling in, one spelling out, refusals by path."""

import pytest

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.server import schema_json
from elacsym.types import Attribute, AttributeType, FullText, Metric, Scalar


def decoded(**schema):
    return schema_json.decode({"schema": schema})


def test_the_documented_example_decodes():
    schema = decoded(
        vector_dim=384,
        vector_metric="cosine",
        attributes={
            "title": {"type": "string", "full_text": True},
            "body": {
                "type": "string",
                "full_text": {
                    "language": "english",
                    "stemming": True,
                    "remove_stopwords": True,
                    "case_sensitive": False,
                },
            },
            "category": {"type": "string", "indexed": True},
            "year": {"type": "integer", "indexed": False},
            "tags": {"attr_type": "array<string>"},
        },
    )
    assert schema.metric is Metric.COSINE
    assert schema.attributes["vector"] == Attribute(
        AttributeType(Scalar.F32, dimensions=384), filterable=False
    )
    assert schema.attributes["title"].full_text == FullText()
    assert schema.attributes["body"].full_text == FullText(stemming=True, remove_stopwords=True)
    assert schema.attributes["category"] == Attribute(AttributeType(Scalar.STRING))
    assert schema.attributes["year"] == Attribute(AttributeType(Scalar.INT), filterable=False)
    assert schema.attributes["tags"].type == AttributeType(Scalar.STRING, is_array=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        (False, None),
        (True, FullText()),
        ({"Simple": True}, FullText()),
        ({"Simple": False}, None),
        ({}, FullText()),
    ],
)
def test_full_text_has_several_spellings(given, expected):
    assert (
        decoded(attributes={"a": {"type": "string", "full_text": given}}).attributes["a"].full_text
        == expected
    )


@pytest.mark.parametrize("kind", ["f32", "f16", "i8"])
def test_vectors_are_declared_by_their_type(kind):
    schema = decoded(vector_dim=3, vector_type=kind, attributes={"title_vector": {"type": f"[10752]{kind}"}})
    assert {name: str(a.type) for name, a in schema.vectors().items()} == {
        "vector": f"[3]{kind}",
        "title_vector": f"[10752]{kind}",
    }
    assert not any(a.filterable for a in schema.vectors().values())


def test_what_is_shown_can_be_sent_again():
    schema = decoded(
        vector_dim=3,
        vector_type="f16",
        vector_metric="dot",
        attributes={
            "text": {
                "type": "array<string>",
                "full_text": {"stemming": True, "k1": 0.9, "max_token_length": 20},
            },
            **{f"a{i}": {"type": name, "indexed": i % 2 == 0} for i, name in enumerate(schema_json.TYPES)},
            **{f"v{kind}": {"type": f"[4]{kind}"} for kind in ("f32", "f16", "i8")},
        },
    )
    assert schema_json.decode({"schema": schema_json.encode(schema)}) == schema


@pytest.mark.parametrize(
    ("schema", "kind", "field"),
    [
        ({"vector_dim": 0}, InvalidRequest, "schema.vector_dim"),
        ({"vector_dim": 10_753}, InvalidRequest, "schema.vector_dim"),
        ({"vector_dim": "3"}, InvalidShape, "schema.vector_dim"),
        ({"vector_metric": "hamming"}, InvalidShape, "schema.vector_metric"),
        ({"vector_dim": 3, "vector_type": "f64"}, InvalidShape, "schema.vector_type"),
        ({"vector_dim": 3, "vector_type": 16}, InvalidShape, "schema.vector_type"),
        ({"vector_type": "f16"}, InvalidRequest, "schema.vector_type"),
        ({"attributes": {"v": {"type": "[10753]f32"}}}, InvalidRequest, "schema.attributes.v.type"),
        ({"attributes": {"v": {"type": "[0]f32"}}}, InvalidShape, "schema.attributes.v.type"),
        ({"attributes": {"v": {"type": "[]f32"}}}, InvalidShape, "schema.attributes.v.type"),
        ({"attributes": {"v": {"type": "[4]string"}}}, InvalidShape, "schema.attributes.v.type"),
        ({"attributes": {"v": {"type": "f32"}}}, InvalidShape, "schema.attributes.v.type"),
        ({"attributes": {"v": {"type": "[4]i8", "indexed": True}}}, InvalidRequest, "schema.attributes.v"),
        ({"attributes": {"v": {"type": "[4]i8", "full_text": True}}}, InvalidRequest, "schema.attributes.v"),
        ({"dim": 3}, InvalidShape, "schema.dim"),
        ({"attributes": []}, InvalidShape, "schema.attributes"),
        ({"attributes": {"a": "string"}}, InvalidShape, "schema.attributes.a"),
        ({"attributes": {"a": {}}}, InvalidShape, "schema.attributes.a.type"),
        ({"attributes": {"a": {"type": "decimal"}}}, InvalidShape, "schema.attributes.a.type"),
        ({"attributes": {"a": {"type": "string", "index": True}}}, InvalidShape, "schema.attributes.a.index"),
        (
            {"attributes": {"a": {"type": "integer", "full_text": True}}},
            InvalidRequest,
            "schema.attributes.a.full_text",
        ),
        ({"attributes": {"id": {"type": "integer"}}}, InvalidRequest, "schema.attributes.id"),
        ({"attributes": {"vector": {"type": "float"}}}, InvalidRequest, "schema.attributes.vector"),
        (
            {"attributes": {"a": {"type": "string", "full_text": {"stem": True}}}},
            InvalidShape,
            "schema.attributes.a.full_text.stem",
        ),
    ],
)
def test_a_bad_schema_is_refused_by_its_path(schema, kind, field):
    with pytest.raises(InvalidRequest) as error:
        decoded(**schema)
    assert (type(error.value), error.value.field) == (kind, field)


@pytest.mark.parametrize(
    "settings", [{"language": "klingon"}, {"tokenizer": "word_v9"}, {"k1": -1}, {"max_token_length": 0}]
)
def test_settings_of_text_that_make_no_sense_are_refused(settings):
    with pytest.raises(InvalidRequest, match=r"schema\.attributes\.a\.full_text"):
        decoded(attributes={"a": {"type": "string", "full_text": settings}})


def test_a_create_request_has_a_schema():
    with pytest.raises(InvalidShape, match="schema: missing field"):
        schema_json.decode({})
