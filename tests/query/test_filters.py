"""Filters against an evaluator that looks at one document at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import SCHEMA, documents_of, prepared_part, schema_of

from elacsym.query.ast import And, Compare, Not, Op, Or
from elacsym.query.filters import columns_of, matches
from elacsym.query.matching import estimated_share
from elacsym.query.validate import check_filter

INTS = [-(2**63) - 1, -(2**63), -1, 0, 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64]
OPERANDS = {
    "id": st.sampled_from(INTS),
    "category": st.sampled_from(["", "a", "b", "é", "z", "😀", "\uffff"]),
    "year": st.sampled_from(INTS),
    "size": st.sampled_from(INTS),
    "price": st.sampled_from([*INTS, 0.0, -0.0, 0.5, 0.1, -1.5, 1e16, 10**400, -(10**400), float("inf")]),
    "is_open": st.booleans(),
    "tags": st.sampled_from(["x", "y", "z", "w"]),
    "marks": st.integers(-3, 3) | st.sampled_from(INTS),
}
ARRAYS = ("tags", "marks")
ORDERED = {
    Op.GT: lambda a, b: a > b,
    Op.GTE: lambda a, b: a >= b,
    Op.LT: lambda a, b: a < b,
    Op.LTE: lambda a, b: a <= b,
}


@st.composite
def comparisons(draw):
    field = draw(st.sampled_from(sorted(OPERANDS)))
    one, many = OPERANDS[field], st.lists(OPERANDS[field], max_size=3)
    if field in ARRAYS:
        op = draw(st.sampled_from([Op.EQ, Op.NE, Op.IN, Op.NOT_IN, Op.CONTAINS, Op.CONTAINS_ANY]))
        operand = one if op is Op.CONTAINS else many
    else:
        op = draw(st.sampled_from([op for op in Op if op not in (Op.CONTAINS, Op.CONTAINS_ANY)]))
        operand = many if op in (Op.IN, Op.NOT_IN) else one
    if op in (Op.EQ, Op.NE):
        operand = st.none() | operand
    return Compare(field, op, draw(operand))


FILTERS = st.recursive(
    comparisons(),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda c: And(tuple(c)))
        | st.lists(inner, max_size=3).map(lambda c: Or(tuple(c)))
        | inner.map(Not)
    ),
    max_leaves=5,
)


def exact(value):
    """A value that Python compares exactly and by UTF-8 bytes."""
    if isinstance(value, float) and value not in (float("inf"), float("-inf")):
        return Fraction(value)
    if isinstance(value, list | tuple):
        return [exact(v) for v in value]
    return value.encode("utf8") if isinstance(value, str) else value


def holds(condition, document) -> bool:
    match condition:
        case And(conditions):
            return all(holds(c, document) for c in conditions)
        case Or(conditions):
            return any(holds(c, document) for c in conditions)
        case Not(inner):
            return not holds(inner, document)
    value, operand = exact(document.get(condition.field)), exact(condition.value)
    match condition.op:
        case Op.EQ:
            return value == operand if operand is not None else value is None
        case Op.NE:
            return not holds(Compare(condition.field, Op.EQ, condition.value), document)
        case Op.NOT_IN:
            return not holds(Compare(condition.field, Op.IN, condition.value), document)
    if value is None:
        return False
    match condition.op:
        case Op.IN | Op.CONTAINS_ANY:
            return any(v in operand for v in value) if isinstance(value, list) else value in operand
        case Op.CONTAINS:
            return operand in value
    return ORDERED[condition.op](value, operand)


@settings(max_examples=300, deadline=None)
@given(documents_of(), FILTERS)
def test_a_filter_holds_for_exactly_the_documents_a_naive_evaluator_says(documents, condition):
    condition = check_filter(condition, SCHEMA)
    found = matches(condition, SCHEMA, prepared_part(SCHEMA, documents))
    assert found.dtype == np.bool_
    assert found.tolist() == [holds(condition, d) for d in documents]


@settings(max_examples=100, deadline=None)
@given(FILTERS)
def test_a_checked_filter_is_hashable_and_checking_it_again_changes_nothing(condition):
    checked = check_filter(condition, SCHEMA)
    assert check_filter(checked, SCHEMA) == checked
    assert hash(check_filter(condition, SCHEMA)) == hash(checked)


@settings(max_examples=100, deadline=None)
@given(FILTERS, st.integers(0, 1000))
def test_an_estimated_share_is_a_share(condition, rows):
    assert 0.0 <= estimated_share(check_filter(condition, SCHEMA), rows) <= 1.0


def found_with(kind, values, op, operand):
    schema = schema_of(x=kind)
    part = prepared_part(schema, [{"id": i, "x": v} for i, v in enumerate(values)])
    return matches(check_filter(Compare("x", op, operand), schema), schema, part).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("kind", "values", "op", "operand", "expected"),
    [
        ("int", [2**53, 2**53 + 1], Op.EQ, 2**53 + 1, [1]),
        ("int", [2**53, 2**53 + 1], Op.IN, [2**53 + 1, 2**70], [1]),
        ("int", [-1, 2**63 - 1], Op.LT, 2**63, [0, 1]),
        ("uint", [0, 2**63, 2**64 - 1], Op.GTE, 2**63, [1, 2]),
        ("uint", [0, 2**63], Op.GT, -1, [0, 1]),
        ("uint", [0, None], Op.NE, -1, [0, 1]),
        ("float", [2.0**53, 2.0**53 + 2], Op.EQ, 2**53 + 1, []),
        ("float", [2.0**53, 2.0**53 + 2], Op.LT, 2**53 + 1, [0]),
        ("float", [2.0**53, 2.0**53 + 2], Op.GTE, 2**53 + 1, [1]),
        ("float", [2.0**53 + 2, 2.0**53 + 4], Op.LTE, 2**53 + 3, [0]),
        ("float", [0.0, -0.0, 1.0], Op.IN, [0], [0, 1]),
        ("float", [1e308], Op.LT, 10**400, [0]),
        ("bool", [False, True, None], Op.LT, True, [0]),
        ("string", ["\uffff", "😀"], Op.GT, "\uffff", [1]),
        ("[]string", [["a", "b"], ["b", "a"], ["a"], [], None], Op.EQ, ["a", "b"], [0]),
        ("[]string", [["a"], [], None], Op.EQ, [], [1]),
        ("[]string", [["a"], [], None], Op.NE, ["a"], [1, 2]),
        ("[]float", [[0.5, 2.0**53]], Op.EQ, [0.5, 2**53 + 1], []),
        ("[]int", [[1, 2], None], Op.NOT_IN, [2, 3], [1]),
    ],
)
def test_comparisons_are_exact_at_the_edges(kind, values, op, operand, expected):
    assert found_with(kind, values, op, operand) == expected


def test_ranges_never_match_null_but_negations_do():
    values = [None, 5]
    for op in (Op.LT, Op.LTE):
        assert found_with("int", values, op, 9) == [1]
    for op in (Op.GT, Op.GTE):
        assert found_with("int", values, op, 0) == [1]
    assert found_with("int", values, Op.NOT_IN, [5]) == [0]


def test_columns_of_a_filter_are_all_attributes_it_names():
    condition = And((Compare("a", Op.EQ, 1), Not(Or((Compare("b", Op.EQ, 1), Compare("id", Op.EQ, 1))))))
    assert columns_of(condition) == {"a", "b", "id"}
    assert columns_of(None) == frozenset()
