"""Aggregations: exact, and the same however rows are spread."""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.sources import driven
from parts import (
    SCHEMA,
    ColdPart,
    FilePart,
    MemoryPart,
    documents_of,
    masked_parts,
    schema_of,
    snapshot_of,
    views,
)
from support.queries import aggregate_of

from elacsym.errors import InvalidRequest
from elacsym.query.aggregate import aggregate, check_aggregate
from elacsym.query.ast import Compare, Group, Op

SUMS = st.lists(st.sampled_from(["year", "size", "price"]), unique=True).map(tuple)
GROUPS = st.lists(
    st.sampled_from(["category", "year", "price", "is_open", "size", "owner", "seen"]),
    unique=True,
    max_size=3,
)


def exact_sum(values, is_float):
    if not is_float:
        return sum(values)
    return float(sum((Fraction(v) for v in values), Fraction(0)))


def keys_of(document, group_by):
    """The group keys that a document counts for."""
    keys = [()]
    for key in group_by:
        value = document.get(key.attribute)
        values = list(dict.fromkeys(value)) if key.is_each_element and value is not None else [value]
        keys = [(*before, v) for before in keys for v in values]
    return keys


def naive(documents, wanted):
    groups = defaultdict(list)
    for document in documents:
        for key in keys_of(document, wanted.group_by):
            groups[key].append(document)
    if not wanted.group_by:
        groups[()]  # the group of everything exists without documents
    result = []
    for key in sorted(groups, key=lambda key: [(v is not None, v) for v in key]):
        figures = {}
        for figure in wanted.figures:
            values = [d[figure.attribute] for d in groups[key] if figure.attribute in d]
            is_count = figure.kind == "count"
            figures[figure.label] = (
                len(groups[key]) if is_count else exact_sum(values, figure.attribute == "price")
            )
        labels = [key.label for key in wanted.group_by]
        result.append(Group(dict(zip(labels, key, strict=True)), figures))
    if wanted.group_by:
        return None, tuple(result[: wanted.groups_max])
    return result[0].figures, None


def run(snapshot, wanted, condition=None):
    return driven(aggregate(masked_parts(snapshot, condition), wanted, snapshot.schema)).value


@settings(max_examples=200, deadline=None)
@given(documents_of(), SUMS, GROUPS.map(tuple), st.booleans(), st.integers(0, 99))
def test_figures_are_those_of_a_naive_count_however_rows_are_spread(documents, sums, group_by, count, seed):
    wanted = aggregate_of(count=count or not sums, sums=sums, group_by=group_by)
    expected = naive(documents, wanted)
    for snapshot in views(SCHEMA, documents, seed):
        assert run(snapshot, wanted) == expected


@settings(max_examples=200, deadline=None)
@given(
    documents_of(),
    SUMS,
    st.sampled_from(["tags", "marks", "owners"]),
    GROUPS.map(tuple),
    st.integers(0, 99),
    st.data(),
)
def test_each_distinct_element_of_an_array_counts_a_document_once(documents, sums, each, others, seed, data):
    place = data.draw(st.integers(0, len(others)))
    wanted = aggregate_of(sums=sums, group_by=(*others[:place], each, *others[place:]), each=each)
    expected = naive(documents, wanted)
    for snapshot in views(SCHEMA, documents, seed):
        assert run(snapshot, wanted) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40), st.integers(1, 4))
def test_float_sums_are_the_exact_sum_rounded_once(values, count):
    documents = [{"id": i, "price": v} for i, v in enumerate(values)]
    snapshot = snapshot_of(SCHEMA, *(documents[i::count] for i in range(count)))
    found = run(snapshot, aggregate_of(sums=("price",)))[0]["sum price"]
    exact = sum((Fraction(v) for v in values), Fraction(0))
    try:
        assert found == float(exact)
    except OverflowError:
        assert found == (sys.float_info.max if exact > 0 else -sys.float_info.max)


@pytest.mark.parametrize("sign", [1, -1])
def test_float_sums_beyond_all_floats_are_the_last_one(sign):
    documents = [{"id": i, "price": sign * 1.7e308} for i in range(2)]
    figures, _ = run(snapshot_of(SCHEMA, documents), aggregate_of(sums=("price",)))
    assert figures["sum price"] == sign * sys.float_info.max


def test_integer_sums_go_beyond_64_bits_in_both_directions():
    documents = [{"id": i, "size": 2**64 - 1, "year": -(2**63)} for i in range(5)]
    figures, _ = run(snapshot_of(SCHEMA, documents), aggregate_of(sums=("size", "year")))
    assert figures == {"count": 5, "sum size": 5 * (2**64 - 1), "sum year": -5 * 2**63}


def test_the_sum_of_nothing_is_zero_of_the_attribute_s_type():
    figures, _ = run(snapshot_of(SCHEMA), aggregate_of(sums=("price", "year")))
    assert figures == {"count": 0, "sum price": 0.0, "sum year": 0}
    assert isinstance(figures["sum price"], float)
    assert isinstance(figures["sum year"], int)
    assert run(snapshot_of(SCHEMA), aggregate_of(group_by=("year",))) == (None, ())


def test_figures_are_over_the_filtered_rows():
    documents = [{"id": i, "year": i, "category": "ab"[i % 2]} for i in range(10)]
    for snapshot in views(SCHEMA, documents, 5):
        _, groups = run(
            snapshot, aggregate_of(sums=("year",), group_by=("category",)), Compare("year", Op.GTE, 7)
        )
        assert groups == (
            Group({"category": "a"}, {"count": 1, "sum year": 8}),
            Group({"category": "b"}, {"count": 2, "sum year": 16}),
        )


@pytest.mark.parametrize("groups_max", [0, 3])
def test_only_the_first_groups_in_key_order_are_given_and_they_are_complete(groups_max):
    schema = schema_of(key="int", one="int")
    documents = [{"id": i, "key": i % 7, "one": 1} for i in range(70)]
    for snapshot in views(schema, documents, 2):
        for sums in [(), ("one",)]:
            wanted = replace(aggregate_of(sums=sums, group_by=("key",)), groups_max=groups_max)
            _, groups = run(snapshot, wanted)
            expected = {"count": 10} | {f"sum {name}": 10 for name in sums}
            assert groups == tuple(Group({"key": k}, expected) for k in range(groups_max))


def test_figures_of_cold_parts_take_one_round_and_a_count_none():
    schema = schema_of(kind="string", size="uint")
    documents = [{"id": i, "kind": f"kind {i % 7}", "size": i} for i in range(9_000)]
    for wanted, rounds in [
        (aggregate_of(), 0),
        (aggregate_of(group_by=("kind",)), 1),
        (aggregate_of(sums=("size",), group_by=("kind",)), 1),
    ]:
        snapshot = snapshot_of(schema, documents[:5000], documents[5000:], kind=ColdPart)
        for view in snapshot.parts:
            for name in schema.attributes:
                driven(view.part.attribute(name))
        found = driven(aggregate(masked_parts(snapshot), wanted, schema))
        assert len(found.rounds) == rounds
        assert found.value == naive(documents, wanted)


@pytest.mark.parametrize("every", [1, 3, 100])
def test_groups_counted_along_an_index_and_from_the_column_are_the_same(every):
    schema = schema_of(kind="string")
    documents = [{"id": i, "kind": f"kind {i % 50}"} if i % 11 else {"id": i} for i in range(3_000)]
    wanted = aggregate_of(group_by=("kind",))
    expected = naive(documents[::every], wanted)
    mask = np.arange(3_000) % every == 0
    for kind in (MemoryPart, FilePart):
        found = driven(aggregate([(0, kind(schema, documents), mask)], wanted, schema)).value
        assert found == expected


def test_groups_may_have_64_attributes():
    names = [f"a{i}" for i in range(65)]
    schema = schema_of(**dict.fromkeys(names, "int"))
    check_aggregate(aggregate_of(group_by=tuple(names[:64])), schema)
    with pytest.raises(InvalidRequest, match="65 attributes, at most 64"):
        check_aggregate(aggregate_of(group_by=tuple(names)), schema)
