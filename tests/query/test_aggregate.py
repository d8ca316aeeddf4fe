"""Aggregations: exact, and the same however rows are spread."""

from __future__ import annotations

import math
from collections import defaultdict
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

from elacsym.query import aggregate as aggregate_module
from elacsym.query.aggregate import aggregate
from elacsym.query.ast import Aggregate, Compare, Op

SUMS = st.lists(st.sampled_from(["year", "size", "price"]), unique=True).map(tuple)
GROUPS = st.lists(st.sampled_from(["category", "year", "price", "is_open", "size"]), unique=True, max_size=3)


def exact_sum(values, is_float):
    if not is_float:
        return sum(values)
    return float(sum((Fraction(v) for v in values), Fraction(0)))


def naive(documents, wanted):
    groups = defaultdict(list)
    for document in documents:
        groups[tuple(document.get(name) for name in wanted.group_by)].append(document)
    if not wanted.group_by:
        groups[()]  # the group of everything exists without documents
    result = []
    for key in sorted(groups, key=lambda key: [(v is not None, v) for v in key]):
        figures = {"key": dict(zip(wanted.group_by, key, strict=True))} if wanted.group_by else {}
        if wanted.count:
            figures["count"] = len(groups[key])
        if wanted.sums:
            figures["sum"] = {
                name: exact_sum([d[name] for d in groups[key] if name in d], name == "price")
                for name in wanted.sums
            }
        result.append(figures)
    return tuple(result)


def run(snapshot, wanted, condition=None):
    return driven(aggregate(masked_parts(snapshot, condition), wanted, snapshot.schema)).value


@settings(max_examples=200, deadline=None)
@given(documents_of(), SUMS, GROUPS.map(tuple), st.booleans(), st.integers(0, 99))
def test_figures_are_those_of_a_naive_count_however_rows_are_spread(documents, sums, group_by, count, seed):
    wanted = Aggregate(count or not sums, sums, group_by)
    expected = naive(documents, wanted)
    for snapshot in views(SCHEMA, documents, seed):
        assert run(snapshot, wanted) == ((None, expected) if group_by else (expected[0], None))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40), st.integers(1, 4))
def test_float_sums_are_the_exact_sum_rounded_once(values, count):
    documents = [{"id": i, "price": v} for i, v in enumerate(values)]
    snapshot = snapshot_of(SCHEMA, *(documents[i::count] for i in range(count)))
    found = run(snapshot, Aggregate(sums=("price",)))[0]["sum"]["price"]
    exact = sum((Fraction(v) for v in values), Fraction(0))
    try:
        assert found == float(exact)
    except OverflowError:
        assert found == (math.inf if exact > 0 else -math.inf)


def test_integer_sums_go_beyond_64_bits_in_both_directions():
    documents = [{"id": i, "size": 2**64 - 1, "year": -(2**63)} for i in range(5)]
    figures, _ = run(snapshot_of(SCHEMA, documents), Aggregate(sums=("size", "year")))
    assert figures == {"count": 5, "sum": {"size": 5 * (2**64 - 1), "year": -5 * 2**63}}


def test_the_sum_of_nothing_is_zero_of_the_attribute_s_type():
    figures, _ = run(snapshot_of(SCHEMA), Aggregate(sums=("price", "year")))
    assert figures == {"count": 0, "sum": {"price": 0.0, "year": 0}}
    assert isinstance(figures["sum"]["price"], float)
    assert isinstance(figures["sum"]["year"], int)
    assert run(snapshot_of(SCHEMA), Aggregate(group_by=("year",))) == (None, ())


def test_figures_are_over_the_filtered_rows():
    documents = [{"id": i, "year": i, "category": "ab"[i % 2]} for i in range(10)]
    for snapshot in views(SCHEMA, documents, 5):
        _, groups = run(
            snapshot, Aggregate(sums=("year",), group_by=("category",)), Compare("year", Op.GTE, 7)
        )
        assert groups == (
            {"key": {"category": "a"}, "count": 1, "sum": {"year": 8}},
            {"key": {"category": "b"}, "count": 2, "sum": {"year": 16}},
        )


def test_only_the_first_groups_in_key_order_are_given_and_they_are_complete(monkeypatch):
    monkeypatch.setattr(aggregate_module, "GROUPS_MAX", 3)
    schema = schema_of(key="int", one="int")
    documents = [{"id": i, "key": i % 7, "one": 1} for i in range(70)]
    for snapshot in views(schema, documents, 2):
        _, groups = run(snapshot, Aggregate(sums=("one",), group_by=("key",)))
        assert groups == tuple({"key": {"key": k}, "count": 10, "sum": {"one": 10}} for k in range(3))


def test_figures_of_cold_parts_take_one_round_and_a_count_none():
    schema = schema_of(kind="string", size="uint")
    documents = [{"id": i, "kind": f"kind {i % 7}", "size": i} for i in range(9_000)]
    for wanted, rounds in [
        (Aggregate(), 0),
        (Aggregate(group_by=("kind",)), 1),
        (Aggregate(sums=("size",), group_by=("kind",)), 1),
    ]:
        snapshot = snapshot_of(schema, documents[:5000], documents[5000:], kind=ColdPart)
        for view in snapshot.parts:
            for name in schema.attributes:
                driven(view.part.attribute(name))
        found = driven(aggregate(masked_parts(snapshot), wanted, schema))
        assert len(found.rounds) == rounds
        expected = naive(documents, wanted)
        assert found.value == ((None, expected) if wanted.group_by else (expected[0], None))


@pytest.mark.parametrize("every", [1, 3, 100])
def test_groups_counted_along_an_index_and_from_the_column_are_the_same(every):
    schema = schema_of(kind="string")
    documents = [{"id": i, "kind": f"kind {i % 50}"} if i % 11 else {"id": i} for i in range(3_000)]
    wanted = Aggregate(group_by=("kind",))
    expected = naive(documents[::every], wanted)
    mask = np.arange(3_000) % every == 0
    for kind in (MemoryPart, FilePart):
        found = driven(aggregate([(0, kind(schema, documents), mask)], wanted, schema)).value
        assert found == (None, expected)
