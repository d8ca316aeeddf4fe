"""Bodies of queries to query values: legs and weights, filters, consistency, refusals by path."""

import base64

import numpy as np
import pytest

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import (
    FILTER_DEPTH_MAX,
    Aggregate,
    And,
    Compare,
    Figure,
    Fusion,
    GroupKey,
    Not,
    Op,
    Or,
    OrderKey,
    Query,
    TextLeg,
    VectorLeg,
)
from elacsym.server.decode_query import decode_filter, query
from elacsym.types import Consistency, Metric

TEXT = {"field": "title", "query": "object storage"}
YEAR = {"field": "year", "op": "gte", "value": 2020}


def weights(**body):
    return [leg.weight for leg in query(body).legs]


def test_an_empty_body_is_a_query_with_nothing_in_it():
    assert query({}) == Query()


def test_the_documented_example_decodes():
    body = {
        "vector": [0.1, 0.2],
        "top_k": 10,
        "metric": "cosine",
        "full_text": TEXT | {"weight": 0.5},
        "filter": {
            "type": "and",
            "conditions": [
                YEAR,
                {"type": "or", "conditions": [{"field": "category", "op": "eq", "value": "db"}]},
            ],
        },
        "fusion": {"method": "rrf", "k": 60},
        "include_vector": False,
        "include_attributes": ["title"],
        "consistency": "strong",
        "explain": False,
    }
    found = query(body)
    vector, text = found.legs
    assert isinstance(vector, VectorLeg)
    np.testing.assert_array_equal(vector.vector, np.array([0.1, 0.2], np.float32))
    assert text == TextLeg((("title", 1.0),), "object storage", 0.5)
    assert found.filter == And(
        (
            Compare("year", Op.GTE, 2020, "filter.conditions[0]"),
            Or((Compare("category", Op.EQ, "db", "filter.conditions[1].conditions[0]"),)),
        )
    )
    assert (found.metric, found.fusion, found.include_attributes) == (Metric.COSINE, Fusion(), ("title",))


def test_legs_count_alike_when_no_weight_is_given_to_rrf():
    assert weights(vector=[1], full_text=TEXT) == [1.0, 1.0]
    assert weights(vector=[1], full_text=[TEXT, TEXT]) == [1.0, 1.0, 1.0]
    assert weights(full_text=TEXT) == [1.0]
    assert weights(vector=[1]) == [1.0]


def test_the_vector_leg_weighs_what_the_text_leaves():
    assert weights(vector=[1], full_text=TEXT | {"weight": 0.2}) == [0.8, 0.2]
    assert weights(vector=[1], full_text=TEXT | {"weight": 3}) == [0.0, 3.0]
    assert weights(vector=[1], full_text=[TEXT | {"weight": 0.2}, TEXT]) == [0.65, 0.2, 0.5]
    assert weights(vector=[1], full_text=TEXT, fusion={"method": "weighted"}) == [0.5, 0.5]
    assert weights(vector=[1], full_text=TEXT, fusion={"method": "max"}) == [0.5, 0.5]


def test_a_given_vector_weight_stands():
    assert weights(vector=[1], full_text=TEXT, vector_weight=0.8) == [0.8, 0.5]
    assert weights(vector=[1], full_text=TEXT, fusion={"vector_weight": 0.9}) == [0.9, 0.5]


def test_text_is_searched_in_several_fields():
    body = {"full_text": {"fields": ["title", "body"], "query": "x", "weights": {"title": 2.0}}}
    assert query(body).legs == (TextLeg((("title", 2.0), ("body", 1.0)), "x", 1.0),)
    first, second = query({"full_text": [TEXT, TEXT]}).legs
    assert (first.path, second.path) == ("full_text[0]", "full_text[1]")


def test_a_vector_may_be_base64():
    text = base64.b64encode(np.array([0.5, 1.5], "<f4").tobytes()).decode()
    np.testing.assert_array_equal(query({"vector": text}).legs[0].vector, np.array([0.5, 1.5], np.float32))


def test_a_vector_is_searched_where_vector_field_says():
    assert query({"vector": [1]}).legs[0].attribute == "vector"
    assert query({"vector": [1], "vector_field": "title_vector"}).legs[0].attribute == "title_vector"
    with pytest.raises(InvalidShape, match="vector_field: "):
        query({"vector_field": "title_vector", "full_text": TEXT})


def test_orders_aggregations_and_cursors_decode():
    found = query(
        {
            "order_by": [["year", "desc"], ["title", "asc"]],
            "after": "cursor",
            "aggregate": {"count": True, "group_by": ["category"], "sum": ["year"]},
        }
    )
    assert found.order_by == (OrderKey("year", True), OrderKey("title"))
    assert (found.after, found.aggregate) == (
        "cursor",
        Aggregate(
            (
                Figure("count", "count", path="aggregate"),
                Figure("sum:year", "sum", "year", "aggregate.sum[0]"),
            ),
            (GroupKey("by:category", "category", path="aggregate.group_by[0]"),),
        ),
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("strong", Consistency()),
        ("eventual", Consistency("eventual")),
        ({"min_seq": 17}, Consistency("at_least", 17)),
        ({"token": "0123456789abcdef:17"}, Consistency("at_least", 17, "0123456789abcdef")),
        (None, Consistency()),
    ],
)
def test_consistency_decodes(given, expected):
    assert query({"consistency": given}).consistency == expected


def test_negations_nest():
    assert decode_filter({"type": "not", "condition": YEAR}, "filter") == Not(
        Compare("year", Op.GTE, 2020, "filter.condition")
    )


def nested(depth):
    condition = YEAR
    for _ in range(depth):
        condition = {"type": "and", "conditions": [condition]}
    return condition


def test_filters_nest_as_deep_as_allowed_and_no_deeper():
    decode_filter(nested(FILTER_DEPTH_MAX), "filter")
    for depth in (FILTER_DEPTH_MAX + 1, 400):
        with pytest.raises(InvalidRequest, match="nested deeper than 32") as error:
            decode_filter(nested(depth), "filter")
        assert type(error.value) is InvalidRequest


def test_a_filter_has_an_end():
    decode_filter({"type": "or", "conditions": [YEAR] * 9_999}, "filter")
    for value in ({"type": "or", "conditions": [YEAR] * 10_000}, ["Or", [["year", "Eq", 1]] * 10_000]):
        with pytest.raises(InvalidRequest, match="more than 10000 conditions"):
            decode_filter(value, "filter")


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ([], InvalidShape, "the body"),
        ({"unknown": 1}, InvalidShape, "unknown"),
        ({"top_k": "10"}, InvalidShape, "top_k"),
        ({"top_k": 1e30}, InvalidShape, "top_k"),
        ({"top_k": True}, InvalidShape, "top_k"),
        ({"metric": "hamming"}, InvalidShape, "metric"),
        ({"vector": {}}, InvalidShape, "vector"),
        ({"vector": [1, "2"]}, InvalidShape, "vector[1]"),
        ({"vector": [1, True]}, InvalidShape, "vector[1]"),
        ({"vector": [[1]]}, InvalidShape, "vector[0]"),
        ({"vector": "?"}, InvalidRequest, "vector"),
        ({"full_text": "words"}, InvalidShape, "full_text"),
        ({"full_text": {"query": "x"}}, InvalidShape, "full_text"),
        ({"full_text": {"field": "a", "fields": ["b"], "query": "x"}}, InvalidShape, "full_text"),
        ({"full_text": {"field": "a"}}, InvalidShape, "full_text.query"),
        ({"full_text": [TEXT, {"field": "a", "query": 3}]}, InvalidShape, "full_text[1].query"),
        ({"full_text": TEXT | {"weight": "1"}}, InvalidShape, "full_text.weight"),
        ({"full_text": TEXT | {"weights": {"other": 1}}}, InvalidRequest, "full_text.weights.other"),
        ({"full_text": TEXT | {"fuzzy": True}}, InvalidShape, "full_text.fuzzy"),
        ({"fusion": {"method": "borda"}}, InvalidShape, "fusion.method"),
        ({"fusion": {"depth": 1.5}}, InvalidShape, "fusion.depth"),
        ({"filter": {"field": "a", "op": "like", "value": 1}}, InvalidShape, "filter.op"),
        ({"filter": {"field": "a", "op": "eq"}}, InvalidShape, "filter.value"),
        ({"filter": {"field": "a", "op": "eq", "value": {}}}, InvalidShape, "filter.value"),
        ({"filter": {"field": "a", "op": "in", "value": [[1]]}}, InvalidShape, "filter.value[0]"),
        ({"filter": {"field": "a", "op": "eq", "value": 1, "x": 1}}, InvalidShape, "filter.x"),
        ({"filter": {"field": "a", "op": "lt", "value": None}}, InvalidRequest, "filter.value"),
        ({"filter": {"type": "xor", "conditions": []}}, InvalidShape, "filter.type"),
        ({"filter": {"type": "and"}}, InvalidShape, "filter.conditions"),
        ({"filter": {"type": "and", "conditions": [{}]}}, InvalidShape, "filter.conditions[0].field"),
        ({"filter": {"type": "not", "conditions": []}}, InvalidShape, "filter.condition"),
        ({"order_by": "year"}, InvalidShape, "order_by"),
        ({"order_by": [["year"]]}, InvalidShape, "order_by[0]"),
        ({"order_by": [["year", "up"]]}, InvalidShape, "order_by[0][1]"),
        ({"aggregate": {"avg": ["year"]}}, InvalidShape, "aggregate.avg"),
        ({"include_attributes": "title"}, InvalidShape, "include_attributes"),
        ({"include_attributes": [1]}, InvalidShape, "include_attributes[0]"),
        ({"consistency": "weak"}, InvalidShape, "consistency"),
        ({"consistency": {}}, InvalidShape, "consistency"),
        ({"consistency": {"min_seq": -1}}, InvalidRequest, "consistency.min_seq"),
        ({"consistency": {"token": "x"}}, InvalidRequest, "consistency.token"),
        ({"explain": "yes"}, InvalidShape, "explain"),
    ],
)
def test_a_bad_query_is_refused_by_its_path(body, kind, field):
    with pytest.raises(InvalidRequest) as error:
        query(body)
    assert (type(error.value), error.value.field) == (kind, field)
