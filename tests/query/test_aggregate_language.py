"""Aggregations and re-rankings as JSON."""

from __future__ import annotations

import pytest

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import Aggregate, Figure, GroupKey, Rerank
from elacsym.query.language.aggregate import parse_aggregate
from elacsym.query.language.rerank import parse_rerank


def test_an_aggregation_is_parsed():
    found = parse_aggregate(
        {"n": ["Count"], "old": ["Count", "id"], "kg": ["Sum", "weight"]},
        ["shop", {"tag": ["ForEachUnique", "tags"]}],
        50,
    )
    assert found == Aggregate(
        (
            Figure("n", "count", path="aggregate_by.n"),
            Figure("old", "count", path="aggregate_by.old"),
            Figure("kg", "sum", "weight", "aggregate_by.kg"),
        ),
        (
            GroupKey("shop", "shop", path="group_by[0]"),
            GroupKey("tag", "tags", True, "group_by[1].tag"),
        ),
        50,
    )
    assert parse_aggregate({"n": ["Count"]}, None, None).group_by == ()
    assert parse_aggregate({"n": ["Count"]}, [], None).group_by == ()


@pytest.mark.parametrize(
    ("aggregate_by", "group_by", "groups_max", "status", "field"),
    [
        ([], None, None, 422, "aggregate_by"),
        ({}, None, None, 400, "aggregate_by"),
        ({"n": "Count"}, None, None, 422, "aggregate_by.n"),
        ({"n": []}, None, None, 422, "aggregate_by.n"),
        ({"n": ["Mean", "x"]}, None, None, 422, "aggregate_by.n"),
        ({"n": ["Count", "x"]}, None, None, 400, "aggregate_by.n"),
        ({"n": ["Sum"]}, None, None, 422, "aggregate_by.n"),
        ({"n": ["Sum", 1]}, None, None, 422, "aggregate_by.n[1]"),
        ({"n": ["Count"]}, "shop", None, 422, "group_by"),
        ({"n": ["Count"]}, [1], None, 422, "group_by[0]"),
        ({"n": ["Count"]}, [{}], None, 422, "group_by[0]"),
        ({"n": ["Count"]}, [{"t": ["Each", "tags"]}], None, 422, "group_by[0].t"),
        ({"n": ["Count"]}, [{"t": ["ForEachUnique", 7]}], None, 422, "group_by[0].t[1]"),
        ({"n": ["Count"]}, None, 5, 400, "top_k"),
        ({"n": ["Count"]}, [], 5, 400, "top_k"),
        ({"n": ["Count"]}, ["shop"], -1, 400, "top_k"),
        ({"n": ["Count"]}, ["shop"], 10_001, 400, "top_k"),
    ],
)
def test_what_is_wrong_with_an_aggregation_is_named(aggregate_by, group_by, groups_max, status, field):
    with pytest.raises(InvalidRequest) as refused:
        parse_aggregate(aggregate_by, group_by, groups_max)
    assert (refused.value.status, refused.value.field) == (status, field)


def test_a_reranking_is_parsed():
    assert parse_rerank(["RRF"], 2) == Rerank()
    assert parse_rerank(["RRF", {"rank_constant": 10, "weights": [1, 0.5]}], 2) == Rerank(10.0, (1.0, 0.5))


@pytest.mark.parametrize(
    ("value", "kind", "field"),
    [
        ("RRF", InvalidShape, "rerank_by"),
        ([], InvalidShape, "rerank_by"),
        (["Borda"], InvalidShape, "rerank_by"),
        (["RRF", {"weight": 1}], InvalidShape, "rerank_by[1].weight"),
        (["RRF", {"rank_constant": 0}], InvalidRequest, "rerank_by[1].rank_constant"),
        (["RRF", {"weights": [1]}], InvalidRequest, "rerank_by[1].weights"),
        (["RRF", {"weights": [1, 0]}], InvalidRequest, "rerank_by[1].weights[1]"),
        (["RRF", {"weights": [1, 1.1e6]}], InvalidRequest, "rerank_by[1].weights[1]"),
        (["RRF", {"weights": [1, "2"]}], InvalidShape, "rerank_by[1].weights[1]"),
        ({"model": "m", "attribute": "a", "query": "q"}, InvalidRequest, "rerank_by"),
    ],
)
def test_what_is_wrong_with_a_reranking_is_named(value, kind, field):
    with pytest.raises(InvalidRequest) as refused:
        parse_rerank(value, 2)
    assert (type(refused.value), refused.value.field) == (kind, field)
