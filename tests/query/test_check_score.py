"""Rules of legs and score expressions that need the schema."""

from __future__ import annotations

import pytest
from parts import schema_of

from elacsym.errors import InvalidRequest
from elacsym.query.ast import Distance, Product, Query
from elacsym.query.language.rank import parse_rank_by
from elacsym.query.validate import check
from elacsym.types import Attribute, AttributeType, FullText, Metric


def text(kind="string", **options) -> Attribute:
    return Attribute(AttributeType.parse(kind), full_text=FullText(**options), filterable=False)


SCHEMA = schema_of(
    title=text(),
    content=text("[]string", tokenizer="pre_tokenized_array"),
    year="int",
    size=Attribute(AttributeType.parse("uint"), filterable=False),
    price="float",
    seen="datetime",
    is_open="bool",
    colour="string",
    marks="[]int",
    data=Attribute(AttributeType.parse("bytes"), filterable=False),
    vector="[3]f32",
    pages="[][2]f32",
    lexical="{}f16",
)
NO_VECTORS = schema_of(metric=None, year="int")


def checked(value, schema=SCHEMA, **query) -> Query:
    ranking = parse_rank_by(value, has_filter=True)
    return check(Query(ranking.legs, order_by=ranking.order_by, exact=ranking.exact, **query), schema)


def curve(clause, word="Saturate", midpoint=1):
    return [word, clause, {"midpoint": midpoint}]


def dist(name, origin):
    return ["Dist", ["Attribute", name], origin]


@pytest.mark.parametrize(
    "value",
    [
        ["title", "BM25", "copper"],
        ["title", "BM25", "x" * 8_192],
        ["title", "BM25", ["x" * 8_192]],
        ["Sum", [["title", "BM25", str(i % 256)] for i in range(300)]],
        ["title", "BM25", ""],
        ["title", "BM25", ["copper", "tea"]],
        ["content", "BM25", ["copper"]],
        ["Attribute", "size"],
        ["Attribute", "id"],
        curve(["Attribute", "size"], "Decay"),
        ["Max", [["Attribute", "year"], 0]],
        ["Max", 0, ["Sum", [["Attribute", "year"], ["Product", 2, ["Attribute", "price"]]]]],
        curve(["Attribute", "price"]),
        curve(["Max", [["Attribute", "year"]]]),
        curve(curve(["Attribute", "year"], "Decay")),
        curve(dist("year", -3)),
        curve(dist("size", 3), "Decay"),
        curve(dist("price", 0.5)),
        curve(dist("price", 2)),
        curve(dist("seen", "2026-05-01T00:00:00Z"), midpoint="36h"),
        curve(dist("seen", "2026-05-01"), midpoint=5_000),
        ["colour", "Eq", "red"],
        ["vector", "ANN", [1.0, 2.0, 3.0]],
        ["pages", "kNN", [[1.0, 2.0], [0.0, 0.0]]],
        ["lexical", "SparseKNN", {"17": 1.5}],
        ["size", "asc"],
        [["year", "asc"], ["seen", "desc"], ["id", "desc"]],
    ],
)
def test_what_fits_is_accepted_and_checking_twice_changes_nothing(value):
    once = checked(value)
    assert check(once, SCHEMA).legs == once.legs


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (["nothing", "BM25", "x"], "'nothing' is not in the schema"),
        (["colour", "BM25", "x"], "no full-text search"),
        (["title", "BM25", "x" * 8_193], "8193 characters"),
        (["title", "BM25", ["x" * 4_096, "y" * 4_097]], "8194 characters"),
        (["title", "BM25", "\ud800"], "surrogates"),
        (
            ["content", "BM25", "copper"],
            r'invalid input .* for rank_by field "content", expecting \[\]string',
        ),
        (["title", "BM25", [""] * 8_194], "8193 characters"),
        (
            ["Sum", [["title", "BM25", str(i)] for i in range(257)]],
            "has 257 different clauses, at most 256 are allowed",
        ),
        (["Attribute", "nothing"], "'nothing' is not in the schema"),
        (["Attribute", "year"], "may be negative"),
        (["Attribute", "price"], "may be negative"),
        (["Sum", [["Attribute", "size"], ["Attribute", "year"]]], "may be negative"),
        (["Max", [["Attribute", "year"], ["Attribute", "size"]]], "may be negative"),
        (["Product", 2, ["Attribute", "year"]], "may be negative"),
        (curve(["Attribute", "year"], "Decay"), "may be negative"),
        (["Max", [["Attribute", "colour"], 0]], "takes numbers, but 'colour' is of type string"),
        (["Max", [["Attribute", "marks"], 0]], "takes numbers, but 'marks' is of type \\[\\]int"),
        (["Max", [["Attribute", "is_open"], 0]], "takes numbers, but 'is_open' is of type bool"),
        (["Max", [["Attribute", "seen"], 0]], "takes numbers, but 'seen' is of type datetime"),
        (["Max", [["Attribute", "vector"], 0]], "takes numbers"),
        (["Max", [["Attribute", "lexical"], 0]], "takes numbers"),
        (curve(dist("nothing", 1)), "not in the schema"),
        (curve(dist("colour", 1)), "takes numbers and times"),
        (curve(dist("marks", 1)), "takes numbers and times"),
        (curve(dist("year", 1.5)), "must be an integer, not 1.5"),
        (curve(dist("size", 1.5)), "must be an integer, not 1.5"),
        (curve(dist("year", "2026-05-01")), "must be an integer"),
        (curve(dist("price", "2026-05-01")), "must be a number"),
        (curve(dist("seen", 1.5)), "must be an ISO 8601 time"),
        (curve(dist("seen", 5)), "must be an ISO 8601 time"),
        (curve(dist("seen", "yesterday")), "ISO 8601"),
        (curve(dist("year", 1), midpoint="36h"), "a duration is a midpoint for the Dist of a datetime"),
        (curve(["Attribute", "size"], midpoint="36h"), "a duration is a midpoint"),
        (["size", "Eq", 1], "filterable"),
        (["vector", "ANN", [1.0, 2.0]], "has 2 dimensions, the namespace has 3"),
        (["vector", "ANN", [[1.0, 2.0, 3.0]]], "not an array of vectors"),
        (["pages", "ANN", [1.0, 2.0]], "search it with a list of vectors"),
        (["pages", "ANN", [[1.0, 2.0, 3.0]]], "has 3 dimensions, the namespace has 2"),
        (["year", "ANN", [1.0]], "is of type int, not a vector"),
        (["nothing", "ANN", [1.0]], "not in the schema"),
        (["vector", "ANN", [1.0, 1e300, 0.0]], "must be finite"),
        (["vector", "SparseKNN", {"1": 1}], "not a sparse vector"),
        (["marks", "asc"], "no order"),
        (["data", "asc"], "no order"),
        (["vector", "asc"], "no order"),
        (["pages", "asc"], "no order"),
        (["lexical", "asc"], "no order"),
        (["nothing", "asc"], "not in the schema"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(value, reason):
    with pytest.raises(InvalidRequest, match=reason) as caught:
        checked(value)
    assert caught.value.status == 400
    assert caught.value.field.startswith("rank_by")


def test_a_metric_may_only_repeat_the_namespace_s():
    checked(["year", "asc"], metric=Metric.L2)
    with pytest.raises(InvalidRequest, match="mismatch, expected l2, got dot"):
        checked(["year", "asc"], metric=Metric.DOT)
    with pytest.raises(InvalidRequest, match="has no vectors"):
        checked(["year", "asc"], NO_VECTORS, metric=Metric.L2)


def test_times_become_milliseconds_and_paths_are_dropped():
    (leg,) = checked(["Product", 2, curve(dist("seen", "1970-01-01T00:00:01Z"))]).legs
    assert isinstance(leg.score, Product)
    assert leg.score.clause.clause == Distance("seen", 1_000)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"top_k": 10, "offset": 9_991}, "offset"),
        ({"offset": -1}, "offset"),
        ({"offset": True}, "offset"),
        ({"include_attributes": ("year",), "exclude_attributes": ("title",)}, "exclude_attributes"),
        ({"exclude_attributes": ("year", "id")}, "exclude_attributes"),
        ({"include_attributes": ("nothing",)}, "include_attributes[0]"),
    ],
)
def test_rules_of_rows_and_attributes(query, field):
    with pytest.raises(InvalidRequest) as caught:
        checked(["year", "asc"], **query)
    assert (caught.value.status, caught.value.field) == (400, field)


def test_an_unknown_attribute_is_named_as_clients_look_for_it():
    with pytest.raises(
        InvalidRequest, match='attribute "x" not found in schema, cannot be part of `include_'
    ):
        checked(["year", "asc"], include_attributes=("x",))
    checked(["year", "asc"], exclude_attributes=("x",))
