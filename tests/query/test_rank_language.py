"""Rankings in JSON: what they mean, and how they are refused."""

from __future__ import annotations

import base64

import numpy as np
import pytest

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import (
    AttributeValue,
    Bm25,
    Compare,
    Decay,
    Distance,
    Duration,
    Indicator,
    Max,
    MultiVectorLeg,
    Op,
    OrderKey,
    Product,
    Saturate,
    ScoreLeg,
    SparseLeg,
    Sum,
    VectorLeg,
)
from elacsym.query.language.rank import parse_rank_by
from elacsym.query.language.score import parse_score

TITLE = ["title", "BM25", "copper"]


def base64_of(*values: float) -> str:
    return base64.b64encode(np.array(values, "<f4").tobytes()).decode()


def score(value):
    (leg,) = parse_rank_by(value, has_filter=False).legs
    assert isinstance(leg, ScoreLeg)
    return leg.score


def bm25(name="title", query="copper", *, last_as_prefix=False, path="rank_by"):
    return Bm25(name, query, last_as_prefix, path)


@pytest.mark.parametrize("word", ["ANN", "kNN"])
@pytest.mark.parametrize("query", [[0.5, 1, -2.0], base64_of(0.5, 1, -2)])
def test_a_vector_is_numbers_or_base64_and_knn_is_exact(word, query):
    ranking = parse_rank_by(["v", word, query], has_filter=True)
    (leg,) = ranking.legs
    assert isinstance(leg, VectorLeg)
    assert (leg.attribute, leg.vector.tolist()) == ("v", [0.5, 1.0, -2.0])
    assert ranking.exact == (word == "kNN")
    assert not ranking.order_by


def test_a_list_of_vectors_is_late_interaction():
    for query in ([[1.0, 2.0], [3, 4], [5, 6]], [base64_of(1, 2), [3, 4], base64_of(5, 6)]):
        (leg,) = parse_rank_by(["v", "ANN", query], has_filter=False).legs
        assert isinstance(leg, MultiVectorLeg)
        assert leg.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_a_sparse_vector_has_weights_by_dimension():
    ranking = parse_rank_by(["v", "SparseKNN", {"17": 0.5, "b": 2}], has_filter=False)
    assert ranking.legs == (SparseLeg("v", (("17", 0.5), ("b", 2.0))),)


def test_an_order_is_a_pair_or_a_list_of_pairs():
    for value in (["year", "desc"], [["year", "desc"]]):
        ranking = parse_rank_by(value, has_filter=False)
        assert ranking.order_by == (OrderKey("year", descending=True),)
        assert not ranking.legs
    several = parse_rank_by([["year", "desc"], ["id", "asc"]], has_filter=False)
    assert several.order_by == (OrderKey("year", descending=True), OrderKey("id"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (TITLE, bm25()),
        (["title", "BM25", ["copper", "tea"]], bm25(query=("copper", "tea"))),
        (["title", "BM25", "copper", {"last_as_prefix": True}], bm25(last_as_prefix=True)),
        (["title", "BM25", "copper", {}], bm25()),
        (["Sum", [TITLE]], Sum((bm25(path="rank_by[1][0]"),))),
        (["Max", [TITLE, 0.5]], Max((bm25(path="rank_by[1][0]"),), 0.5)),
        (["Max", [TITLE]], Max((bm25(path="rank_by[1][0]"),))),
        (["Max", 0, TITLE], Max((bm25(path="rank_by[2]"),), 0.0)),
        (["Max", TITLE, 0], Max((bm25(path="rank_by[1]"),), 0.0)),
        (["Product", 3, TITLE], Product(3.0, bm25(path="rank_by[2]"))),
        (["Product", TITLE, 0.5], Product(0.5, bm25(path="rank_by[1]"))),
        (["Attribute", "year"], AttributeValue("year")),
        (
            ["Saturate", ["Attribute", "year"], {"midpoint": 2}],
            Saturate(AttributeValue("year", "rank_by[1]"), 2.0),
        ),
        (
            ["Decay", ["Dist", ["Attribute", "seen"], "2026-05-01"], {"midpoint": "36h", "exponent": 2}],
            Decay(Distance("seen", "2026-05-01", "rank_by[1]"), Duration(36 * 3_600_000.0), 2.0),
        ),
        (
            ["Saturate", ["Dist", ["Attribute", "year"], 7], {"midpoint": 2}],
            Saturate(Distance("year", 7, "rank_by[1]"), 2.0),
        ),
    ],
)
def test_expressions_mean_what_they_say(value, expected):
    assert score(value) == expected


def test_a_filter_is_a_score():
    assert score(["stock", "Eq", 1]) == Indicator(Compare("stock", Op.EQ, 1, "rank_by"))
    assert isinstance(score(["And", [["stock", "Eq", 1]]]), Indicator)
    assert isinstance(score(["Not", ["stock", "Eq", 1]]), Indicator)


@pytest.mark.parametrize(
    "name", ["Sum", "Max", "Product", "Attribute", "Saturate", "Decay", "Dist", "And", "Not"]
)
def test_the_position_tells_attributes_from_operators(name):
    assert score([name, "BM25", "x"]) == bm25(name, "x")
    assert score([name, "Eq", 3]) == Indicator(Compare(name, Op.EQ, 3, "rank_by"))
    assert score(["Sum", [["Attribute", name]]]) == Sum((AttributeValue(name, "rank_by[1][0]"),))
    assert parse_rank_by([name, "asc"], has_filter=False).order_by == (OrderKey(name),)
    assert parse_rank_by([name, "ANN", [1.0]], has_filter=False).legs[0].attribute == name


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ([], "rank_by"),
        (["v", "kNN", [1.0]], "rank_by"),
        (["v", "ANN", ["x", "y"]], "rank_by[2][0]"),
        (["v", "ANN", "not base64"], "rank_by[2]"),
        (["v", "ANN", "AAA="], "rank_by[2]"),
        (["v", "ANN", [[1.0, 2.0], [1.0]]], "rank_by[2][1]"),
        (["v", "ANN", ["Embed", "text"]], "rank_by[2]"),
        (["v", "ANN", ["Embed", "text", {"model": "m"}]], "rank_by[2]"),
        ([["year", "asc"]] * 9, "rank_by"),
        (["Sum", [TITLE, 1]], "rank_by[1][1]"),
        (["Sum", []], "rank_by[1]"),
        (["Max", [1]], "rank_by[1]"),
        (["Max", [TITLE, 1, 2]], "rank_by[1][2]"),
        (["Product", -1, TITLE], "rank_by[1]"),
        (["Product", 1, 2], "rank_by"),
        (["Sum", [["v", "ANN", [1.0]]]], "rank_by[1][0]"),
        (["Sum", [["v", "SparseKNN", {"1": 1}]]], "rank_by[1][0]"),
        (["Dist", ["Attribute", "year"], 3], "rank_by"),
        (["Sum", [["Dist", ["Attribute", "year"], 3]]], "rank_by[1][0]"),
        (["Saturate", TITLE, {}], "rank_by[2]"),
        (["Saturate", TITLE, {"midpoint": 0}], "rank_by[2].midpoint"),
        (["Decay", TITLE, {"midpoint": -1.0}], "rank_by[2].midpoint"),
        (["Decay", TITLE, {"midpoint": "soon"}], "rank_by[2].midpoint"),
        (["Decay", TITLE, {"midpoint": "0h"}], "rank_by[2].midpoint"),
        (["Decay", TITLE, {"midpoint": 1, "exponent": 0}], "rank_by[2].exponent"),
    ],
)
def test_broken_rules_are_refused_with_their_place(value, field):
    with pytest.raises(InvalidRequest) as caught:
        parse_rank_by(value, has_filter=False)
    assert (caught.value.status, caught.value.field) == (400, field)


@pytest.mark.parametrize(
    "value",
    [
        "title",
        None,
        {"title": "asc"},
        [1, "asc"],
        [["year", "up"]],
        [["year", "asc"], "id"],
        ["v", "ANN"],
        ["v", "ANN", [1.0], {}],
        ["v", "ANN", [1.0, "x"]],
        ["v", "ANN", 7],
        ["v", "ANN", ["Embed"]],
        ["v", "ANN", ["Embed", "text", {"model": 1}]],
        ["v", "SparseKNN", [1.0]],
        ["v", "SparseKNN", {"1": "x"}],
        ["title", "BM25"],
        ["title", "BM25", 7],
        ["title", "BM25", ["copper", 1]],
        ["title", "BM25", "copper", {"last_as_prefix": 1}],
        ["title", "BM25", "copper", {"fuzzy": True}],
        ["title", "bm25", "copper"],
        ["Sum", TITLE],
        ["Sum", [[]]],
        ["Product", TITLE, TITLE],
        ["Product", True, TITLE],
        ["Max", [True, TITLE]],
        ["Attribute"],
        ["Attribute", 7],
        ["Saturate", TITLE],
        ["Saturate", TITLE, {"midpoint": [1]}],
        ["Saturate", TITLE, {"midpoint": 1, "slope": 2}],
        ["Saturate", ["Dist", "year", 3], {"midpoint": 1}],
        ["Saturate", ["Dist", ["Attribute", "year"]], {"midpoint": 1}],
        ["Saturate", ["Dist", ["Attribute", "year"], None], {"midpoint": 1}],
        ["Saturate", ["Dist", ["Attribute", "year"], True], {"midpoint": 1}],
        ["rerank"],
    ],
)
def test_wrong_shapes_are_told_from_broken_rules(value):
    with pytest.raises(InvalidShape):
        parse_rank_by(value, has_filter=True)


def test_refusals_say_what_clients_look_for():
    with pytest.raises(InvalidRequest, match="kNN requires filters"):
        parse_rank_by(["v", "kNN", [1.0]], has_filter=False)
    with pytest.raises(InvalidRequest, match="embedding model 'm' is not available on this server"):
        parse_rank_by(["v", "ANN", ["Embed", "text", {"model": "m"}]], has_filter=False)


def test_nesting_has_an_end():
    value = TITLE
    for _ in range(32):
        value = ["Sum", [value]]
    parse_score(value, "rank_by")
    with pytest.raises(InvalidRequest, match="nested deeper than 32"):
        parse_score(["Sum", [value]], "rank_by")


def test_expressions_have_an_end():
    product = ["Product", 2, TITLE]
    parse_score(["Sum", [product] * 499], "rank_by")
    with pytest.raises(InvalidRequest, match="has 1001 clauses, at most 1000 are allowed"):
        parse_score(["Sum", [product] * 500], "rank_by")
