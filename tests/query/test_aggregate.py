"""Aggregations: exact, and the same however rows are spread."""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from parts import SCHEMA, documents_of, schema_of, snapshot_of, views

from elacsym.compute import InlineCompute
from elacsym.query import aggregate as aggregate_module
from elacsym.query.ast import Aggregate, Compare, Op, Query
from elacsym.query.execute import execute

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


async def run(snapshot, wanted, condition=None):
    return await execute(snapshot, Query(aggregate=wanted, filter=condition), InlineCompute())


@settings(max_examples=200, deadline=None)
@given(documents_of(), SUMS, GROUPS.map(tuple), st.booleans(), st.integers(0, 99))
async def test_figures_are_those_of_a_naive_count_however_rows_are_spread(
    documents, sums, group_by, count, seed
):
    wanted = Aggregate(count or not sums, sums, group_by)
    expected = naive(documents, wanted)
    for snapshot in views(SCHEMA, documents, seed):
        result = await run(snapshot, wanted)
        assert result.hits == ()
        if group_by:
            assert (result.aggregations, result.groups) == (None, expected)
        else:
            assert (result.aggregations, result.groups) == (expected[0], None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40), st.integers(1, 4))
async def test_float_sums_are_the_exact_sum_rounded_once(values, count):
    documents = [{"id": i, "price": v} for i, v in enumerate(values)]
    snapshot = snapshot_of(SCHEMA, *(documents[i::count] for i in range(count)))
    found = (await run(snapshot, Aggregate(sums=("price",)))).aggregations["sum"]["price"]
    exact = sum((Fraction(v) for v in values), Fraction(0))
    try:
        assert found == float(exact)
    except OverflowError:
        assert found == (math.inf if exact > 0 else -math.inf)


async def test_integer_sums_go_beyond_64_bits_in_both_directions():
    documents = [{"id": i, "size": 2**64 - 1, "year": -(2**63)} for i in range(5)]
    result = await run(snapshot_of(SCHEMA, documents), Aggregate(sums=("size", "year")))
    assert result.aggregations == {"count": 5, "sum": {"size": 5 * (2**64 - 1), "year": -5 * 2**63}}


async def test_the_sum_of_nothing_is_zero_of_the_attribute_s_type():
    result = await run(snapshot_of(SCHEMA), Aggregate(sums=("price", "year")))
    assert result.aggregations == {"count": 0, "sum": {"price": 0.0, "year": 0}}
    assert isinstance(result.aggregations["sum"]["price"], float)
    assert isinstance(result.aggregations["sum"]["year"], int)
    assert (await run(snapshot_of(SCHEMA), Aggregate(group_by=("year",)))).groups == ()


async def test_figures_are_over_the_filtered_rows():
    documents = [{"id": i, "year": i, "category": "ab"[i % 2]} for i in range(10)]
    for snapshot in views(SCHEMA, documents, 5):
        result = await run(
            snapshot, Aggregate(sums=("year",), group_by=("category",)), Compare("year", Op.GTE, 7)
        )
        assert result.groups == (
            {"key": {"category": "a"}, "count": 1, "sum": {"year": 8}},
            {"key": {"category": "b"}, "count": 2, "sum": {"year": 16}},
        )


async def test_only_the_first_groups_in_key_order_are_given_and_they_are_complete(monkeypatch):
    monkeypatch.setattr(aggregate_module, "GROUPS_MAX", 3)
    schema = schema_of(key="int", one="int")
    documents = [{"id": i, "key": i % 7, "one": 1} for i in range(70)]
    for snapshot in views(schema, documents, 2):
        result = await run(snapshot, Aggregate(sums=("one",), group_by=("key",)))
        assert result.groups == tuple({"key": {"key": k}, "count": 10, "sum": {"one": 10}} for k in range(3))
