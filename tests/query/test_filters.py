"""Filters against an evaluator that looks at one document at a time."""

from __future__ import annotations

import tracemalloc
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.sources import HoleySource, driven
from parts import SCHEMA, UUIDS, ColdPart, FilePart, MemoryPart, documents_of, schema_of

from elacsym.index import arrays as arrays_module
from elacsym.index import attribute as attribute_module
from elacsym.query.ast import And, Compare, Not, Op, Or, Tokens
from elacsym.query.check_filter import check_filter
from elacsym.query.filters import columns_of, estimate, matches
from elacsym.query.operands import Milliseconds
from elacsym.types import Attribute, AttributeType, FullText

INTS = [-(2**63) - 1, -(2**63), -1, 0, 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64]
OPERANDS = {
    "id": st.sampled_from(INTS),
    "category": st.sampled_from(["", "a", "b", "é", "z", "😀", "\uffff"]),
    "year": st.sampled_from(INTS),
    "size": st.sampled_from(INTS),
    "price": st.sampled_from([*INTS, 0.0, -0.0, 0.5, 0.1, -1.5, 1e16, 10**400, -(10**400), float("inf")]),
    "is_open": st.booleans(),
    "owner": st.sampled_from([*UUIDS, "00000000-0000-0000-0000-000000000001"]),
    "seen": st.sampled_from([-2, -1, 0, 1, 2, 1_700_000_000_000]).map(Milliseconds),
    "owners": st.sampled_from([*UUIDS, "00000000-0000-0000-0000-000000000001"]),
    "tags": st.sampled_from(["x", "y", "z", "w"]),
    "marks": st.integers(-3, 3) | st.sampled_from(INTS),
}
ARRAYS = ("tags", "marks", "owners")
ORDERED = {
    Op.GT: lambda a, b: a > b,
    Op.GTE: lambda a, b: a >= b,
    Op.LT: lambda a, b: a < b,
    Op.LTE: lambda a, b: a <= b,
}


ANY = {Op.ANY_GT: Op.GT, Op.ANY_GTE: Op.GTE, Op.ANY_LT: Op.LT, Op.ANY_LTE: Op.LTE}
NEGATED = {
    Op.NE: Op.EQ,
    Op.NOT_IN: Op.IN,
    Op.NOT_CONTAINS: Op.CONTAINS,
    Op.NOT_CONTAINS_ANY: Op.CONTAINS_ANY,
}


@st.composite
def comparisons(draw):
    field = draw(st.sampled_from(sorted(OPERANDS)))
    one, many = OPERANDS[field], st.lists(OPERANDS[field], max_size=3)
    if field in ARRAYS:
        op = draw(st.sampled_from([op for op in Op if op not in ORDERED]))
        is_one = op in (Op.CONTAINS, Op.NOT_CONTAINS) or op in ANY
        operand = one if is_one else many
    else:
        op = draw(st.sampled_from([*ORDERED, Op.EQ, Op.NE, Op.IN, Op.NOT_IN]))
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


@contextmanager
def in_pieces():
    """Files in blocks of a few values, of which none is read with the head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays_module, "EAGER_FILE_BYTES_MAX", 0)
        patch.setattr(attribute_module, "_EAGER_VALUES_BYTES_MAX", 0)
        patch.setattr(attribute_module, "BLOCK_VALUES", 2)
        yield


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
        case op if op in NEGATED:
            return not holds(Compare(condition.field, NEGATED[op], condition.value), document)
    if value is None:
        return False
    match condition.op:
        case Op.IN | Op.CONTAINS_ANY:
            return any(v in operand for v in value) if isinstance(value, list) else value in operand
        case Op.CONTAINS:
            return operand in value
        case op if op in ANY:
            return any(ORDERED[ANY[op]](v, operand) for v in value)
    return ORDERED[condition.op](value, operand)


@settings(max_examples=150, deadline=None)
@given(documents_of(), FILTERS, st.sampled_from([MemoryPart, FilePart, ColdPart]))
def test_a_filter_holds_for_exactly_the_documents_a_naive_evaluator_says(documents, condition, kind):
    condition = check_filter(condition, SCHEMA)
    with in_pieces():
        found = driven(matches(condition, SCHEMA, kind(SCHEMA, documents))).value
    assert found.dtype == np.bool_
    assert found.flags.writeable
    assert found.tolist() == [holds(condition, d) for d in documents]


@settings(max_examples=150, deadline=None)
@given(documents_of(), FILTERS, st.sampled_from([FilePart, ColdPart]))
def test_no_filter_matches_more_rows_than_is_estimated(documents, condition, kind):
    condition = check_filter(condition, SCHEMA)
    with in_pieces():
        most = driven(estimate(condition, SCHEMA, kind(SCHEMA, documents))).value
    assert most is None or sum(holds(condition, d) for d in documents) <= most <= len(documents)


@settings(max_examples=100, deadline=None)
@given(FILTERS)
def test_a_checked_filter_is_hashable_and_checking_it_again_changes_nothing(condition):
    checked = check_filter(condition, SCHEMA)
    assert check_filter(checked, SCHEMA) == checked
    assert hash(check_filter(condition, SCHEMA)) == hash(checked)


def found_with(kind, values, op, operand):
    schema = schema_of(x=kind)
    condition = check_filter(Compare("x", op, operand), schema)
    found = [
        driven(matches(condition, schema, part(schema, [{"id": i, "x": v} for i, v in enumerate(values)])))
        for part in (MemoryPart, FilePart, ColdPart)
    ]
    rows = [one.value.nonzero()[0].tolist() for one in found]
    assert rows[0] == rows[1] == rows[2]
    return rows[0]


@pytest.mark.parametrize(
    ("kind", "values", "op", "operand", "expected"),
    [
        ("int", [7, None, -7], Op.LT, 2**63, [0, 2]),
        ("int", [7, None], Op.IN, [], []),
        ("[]int", [[7], None, []], Op.CONTAINS, 2**70, []),
        ("[]int", [[7], None, []], Op.EQ, [2**70], []),
        ("[]string", [["a", "b"], ["a"], ["c", "a"]], Op.CONTAINS, "a", [0, 1, 2]),
        ("[]int", [[7], [7, 2**53 + 1], [2**53 + 1, 7]], Op.EQ, [7, 2**53 + 1], [1]),
        ("[]float", [[0.0, 0.0], [0.0], [-0.0, 0.0]], Op.EQ, [0, -0.0], [0, 2]),
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


LARGE = [{"id": i, "category": f"name {i % 40_000}", "year": i % 997} for i in range(100_000)]


@pytest.fixture(scope="module")
def large():
    part = ColdPart(LARGE_SCHEMA, LARGE)
    return part.id_source.true, {name: source.true for name, source in part.sources.items()}


LARGE_SCHEMA = schema_of(category="string", year="int")


@pytest.mark.parametrize(
    ("condition", "rounds"),
    [
        (Compare("year", Op.EQ, 500), 1),
        (Compare("category", Op.EQ, "name 777"), 2),
        (Compare("category", Op.IN, ("name 777", "name 5", "nobody")), 2),
        (Compare("id", Op.IN, (5, 77_777, 100_000)), 1),
        (
            And(
                (
                    Compare("category", Op.GTE, "name 9990"),
                    Not(Compare("year", Op.LT, 3)),
                    Or((Compare("id", Op.EQ, 99_999), Compare("year", Op.GT, 990))),
                )
            ),
            2,
        ),
    ],
)
def test_a_cold_filter_takes_the_rounds_of_its_deepest_look_up(large, condition, rounds):
    part = ColdPart.__new__(ColdPart)
    part.rows, part.id_source = len(LARGE), HoleySource(large[0])
    part._schema = LARGE_SCHEMA
    part.sources = {name: HoleySource(data) for name, data in large[1].items()}
    for opening in [part.ids(), *(part.attribute(name) for name in part.sources)]:
        driven(opening)
    found = driven(matches(condition, LARGE_SCHEMA, part))
    assert found.value.nonzero()[0].tolist() == [i for i, d in enumerate(LARGE) if holds(condition, d)]
    assert len(found.rounds) == rounds
    assert sum(found.rounds) < 50_000


def test_an_estimate_of_scalars_is_exact_and_leaves_the_rows_alone(large):
    part = ColdPart(LARGE_SCHEMA, [])
    part.rows, part.sources = len(LARGE), {name: HoleySource(data) for name, data in large[1].items()}
    for condition, expected in [
        (Compare("category", Op.EQ, "name 777"), 3),
        (Compare("category", Op.EQ, "nobody"), 0),
        (Compare("year", Op.LT, 100), 10_100),
        (Compare("year", Op.NE, None), 100_000),
        (Compare("year", Op.NOT_IN, (5, 5, 6)), 100_000 - 202),
        (And((Compare("year", Op.EQ, 5), Compare("category", Op.EQ, "name 777"))), 3),
        (Or((Compare("year", Op.EQ, 5), Compare("category", Op.EQ, "name 777"))), 104),
        (Compare("id", Op.IN, (1, 2, 3)), 3),
        (Compare("id", Op.GT, 3), None),
        (Or((Compare("id", Op.GT, 3), Compare("year", Op.EQ, 5))), None),
        (And((Compare("id", Op.GT, 3), Compare("year", Op.EQ, 5))), 101),
        (Not(And((Compare("id", Op.GT, 3), Compare("year", Op.GTE, 0)))), 100_000),
    ]:
        assert driven(estimate(condition, LARGE_SCHEMA, part)).value == expected
    assert all(source.brought_bytes < 60_000 for source in part.sources.values())


@pytest.mark.parametrize("combined", [And, Or])
def test_few_of_the_masks_of_many_conditions_exist_at_a_time(combined):
    schema = schema_of(x="int", word=Attribute(AttributeType.parse("string"), full_text=FullText()))
    part = MemoryPart(schema, [{"id": i, "x": i % 7, "word": "red"} for i in range(20_000)])
    words = Tokens("word", " ".join(["red", *(f"w{i}" for i in range(200))]), "any")
    numbers = combined(tuple(Compare("x", Op.GTE, -number) for number in range(200)))
    for condition in (numbers, words):
        checked = check_filter(condition, schema)
        driven(matches(checked, schema, part))
        tracemalloc.start()
        try:
            assert driven(matches(checked, schema, part)).value.all()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 30 * part.rows
