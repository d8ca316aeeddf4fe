"""What a query may not say, and which field the refusal names."""

from __future__ import annotations

import numpy as np
import pytest
from parts import DIMENSIONS, SCHEMA, schema_of
from support.queries import aggregate_of

from elacsym.errors import InvalidRequest
from elacsym.query.ast import (
    And,
    Compare,
    Fusion,
    Not,
    Op,
    OrderKey,
    Query,
    TextLeg,
    VectorLeg,
)
from elacsym.query.check_filter import check_filter
from elacsym.query.validate import check, checked_ids
from elacsym.types import Metric

INF, NAN = float("inf"), float("nan")
ORDERED = {"order_by": (OrderKey("year"),)}


def vector(*values, attribute="vector", weight=1.0):
    return VectorLeg(attribute, np.array(values, np.float32), weight)


GOOD_VECTOR = vector(*[0.5] * DIMENSIONS)


def text(*fields, query="apple", weight=0.5):
    return TextLeg(tuple((f, 1.0) if isinstance(f, str) else f for f in fields), query, weight)


def refused(query: Query, schema=SCHEMA) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        check(query, schema)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("", Query()),
        ("order_by", Query(legs=(GOOD_VECTOR,), order_by=(OrderKey("year"),))),
        ("top_k", Query(top_k=0, **ORDERED)),
        ("top_k", Query(top_k=10_001, **ORDERED)),
        ("top_k", Query(top_k=True, **ORDERED)),
        ("distance_metric", Query(legs=(GOOD_VECTOR,), metric=Metric.COSINE)),
        ("vector", Query(legs=(vector(1.0),))),
        ("vector", Query(legs=(VectorLeg("vector", np.ones((1, DIMENSIONS), np.float32)),))),
        ("vector[1]", Query(legs=(vector(1.0, NAN, 0.0),))),
        ("vector[2]", Query(legs=(vector(1.0, 0.0, INF),))),
        ("vector_field", Query(legs=(vector(1.0, 1.0, 1.0, attribute="year"),))),
        ("vector_field", Query(legs=(vector(1.0, 1.0, 1.0, attribute="nothing"),))),
        ("vector_weight", Query(legs=(vector(1.0, 1.0, 1.0, weight=-1.0),))),
        ("vector_weight", Query(legs=(vector(1.0, 1.0, 1.0, weight=INF),))),
        ("full_text", Query(legs=(text("category"),))),
        ("full_text", Query(legs=(text("nothing"),))),
        ("full_text", Query(legs=(text(),))),
        ("full_text", Query(legs=(text("title", "title"),))),
        ("full_text.query", Query(legs=(text("title", query="x" * 8_193),))),
        ("full_text.query", Query(legs=(text("title", query="\ud800"),))),
        ("full_text.weight", Query(legs=(text("title", weight=NAN),))),
        ("full_text.weights.title", Query(legs=(text(("title", -0.1)),))),
        ("order_by[0]", Query(order_by=(OrderKey("nothing"),))),
        ("order_by[1]", Query(order_by=(OrderKey("year"), OrderKey("tags")))),
        ("order_by[0]", Query(order_by=(OrderKey("vector"),))),
        ("order_by", Query(order_by=(OrderKey("year"),) * 9)),
        ("after", Query(legs=(GOOD_VECTOR,), after="x")),
        ("after", Query(after="x", **ORDERED)),
        ("aggregate_by", Query(aggregate=aggregate_of(count=False, group_by=("year",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("year",), each="year"))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("secret",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("count",)))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("category",)))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("is_open",)))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("marks",)))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("vector",)))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("id",)))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("year", "year")))),
        ("aggregate_by", Query(aggregate=aggregate_of(sums=("nothing",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("tags",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("vector",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("id",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("nothing",)))),
        ("group_by", Query(aggregate=aggregate_of(group_by=("year", "year")))),
        ("vector_weight", Query(legs=(vector(1.0, 1.0, 1.0, weight=1.1e6),))),
        ("fusion.method", Query(fusion=Fusion("best"), **ORDERED)),
        ("fusion.k", Query(fusion=Fusion(k=0.0), **ORDERED)),
        ("fusion.k", Query(fusion=Fusion(k=NAN), **ORDERED)),
        ("fusion.depth", Query(fusion=Fusion(depth=0), **ORDERED)),
        ("fusion.depth", Query(fusion=Fusion(depth=10_001), **ORDERED)),
        ("include_attributes[1]", Query(include_attributes=("id", "nothing"), **ORDERED)),
    ],
)
def test_a_broken_rule_is_refused_with_the_field_it_is_about(field, query):
    assert refused(query).field == field


@pytest.mark.parametrize(
    ("name", "op", "value"),
    [
        ("nothing", Op.EQ, 1),
        ("secret", Op.EQ, "x"),
        ("vector", Op.EQ, [1.0, 2.0, 3.0]),
        ("vector", Op.GT, None),
        ("year", Op.EQ, 1.5),
        ("year", Op.EQ, 1.0),
        ("year", Op.EQ, True),
        ("year", Op.EQ, "1"),
        ("year", Op.EQ, [1]),
        ("year", Op.IN, 1),
        ("year", Op.IN, None),
        ("year", Op.IN, [1, "a"]),
        ("year", Op.NOT_IN, [1, None]),
        ("year", Op.CONTAINS, 1),
        ("year", Op.CONTAINS_ANY, [1]),
        ("price", Op.EQ, "1"),
        ("price", Op.EQ, False),
        ("price", Op.LT, NAN),
        ("is_open", Op.EQ, 1),
        ("category", Op.EQ, 1),
        ("category", Op.EQ, "\ud800"),
        ("tags", Op.CONTAINS, ["x"]),
        ("tags", Op.CONTAINS, 1),
        ("tags", Op.CONTAINS, None),
        ("tags", Op.CONTAINS_ANY, "x"),
        ("tags", Op.EQ, "x"),
        ("tags", Op.IN, "x"),
        ("tags", Op.LT, "x"),
        ("tags", Op.GTE, ["x"]),
        ("marks", Op.CONTAINS, 1.5),
        ("id", Op.EQ, "x"),
        ("id", Op.CONTAINS, 1),
    ],
)
def test_a_comparison_that_does_not_fit_the_schema_is_refused_with_its_path(name, op, value):
    condition = And((Not(Compare(name, op, value, "filter.conditions[0].condition")),))
    error = refused(Query(filter=condition, **ORDERED))
    assert error.field == "filter.conditions[0].condition"
    assert name in error.reason


@pytest.mark.parametrize(
    ("name", "op", "value"),
    [
        ("id", Op.IN, [1, 2]),
        ("price", Op.LT, 1),
        ("price", Op.IN, [1, 2.5]),
        ("tags", Op.EQ, []),
        ("tags", Op.NE, None),
        ("year", Op.IN, []),
        ("is_open", Op.GTE, True),
    ],
)
def test_comparisons_that_fit_are_taken(name, op, value):
    checked = check_filter(Compare(name, op, value), SCHEMA)
    assert checked == Compare(name, op, tuple(value) if isinstance(value, list) else value)


def nested(levels: int):
    condition = Compare("year", Op.EQ, 1)
    for _ in range(levels):
        condition = Not(condition)
    return condition


def test_filters_nest_up_to_32_levels():
    check_filter(nested(33), SCHEMA)  # of which the rules of null may take one
    assert refused(Query(filter=nested(34), **ORDERED)).field == "filter"


def test_very_deep_filters_are_refused_before_they_exhaust_the_stack():
    assert refused(Query(filter=nested(100_000), **ORDERED)).field == "filter"


def test_ids_compare_with_integers_and_strings_until_the_first_document_decides():
    schema = schema_of(id_type=None, year="int")
    check_filter(Compare("id", Op.EQ, "a"), schema)
    check_filter(Compare("id", Op.IN, [1, 2]), schema)
    with pytest.raises(InvalidRequest):
        check_filter(Compare("id", Op.IN, [1, "a"]), schema)
    checked_ids([1, "a"], schema)


@pytest.mark.parametrize(("schema", "ids"), [(SCHEMA, [1, "a"]), (SCHEMA, [1, -1]), (SCHEMA, [1, 2**64])])
def test_an_id_of_another_type_is_refused_by_its_place(schema, ids):
    with pytest.raises(InvalidRequest) as caught:
        checked_ids(ids, schema)
    assert caught.value.field == "ids[1]"


def test_a_namespace_without_vectors_refuses_vectors_and_metrics():
    schema = schema_of(metric=None, year="int")
    assert refused(Query(legs=(GOOD_VECTOR,)), schema).field == "vector"
    assert refused(Query(metric=Metric.L2, **ORDERED), schema).field == "metric"


def test_a_good_query_passes_and_checking_it_again_changes_nothing():
    query = Query(
        legs=(GOOD_VECTOR, text("title", ("body", 0.0))),
        filter=Compare("tags", Op.CONTAINS_ANY, ["x"], "filter.conditions[3]"),
        aggregate=aggregate_of(sums=("price",), group_by=("category",)),
        metric=Metric.L2,
        top_k=10_000,
        include_attributes=("id", "title"),
    )
    checked = check(query, SCHEMA)
    assert checked.filter == Compare("tags", Op.CONTAINS_ANY, ("x",))
    assert check(checked, SCHEMA) is not None
    assert check(checked, SCHEMA).filter == checked.filter
