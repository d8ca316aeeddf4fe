"""Fusion against a spelled-out definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.query.ast import Fusion, Hit, Rerank
from elacsym.query.fusion import RankedLeg, fuse, reranked

WEIGHTS = st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0])


@st.composite
def ranked_legs(draw):
    ids = draw(st.lists(st.integers(0, 12), unique=True, max_size=8))
    values = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 7.5])
    scores = draw(st.lists(values, min_size=len(ids), max_size=len(ids)))
    is_distance = draw(st.booleans())
    pairs = sorted(zip(ids, scores, strict=True), key=lambda p: (p[1] if is_distance else -p[1], p[0]))
    return RankedLeg(
        draw(st.sampled_from(["a", "b"])),
        [i for i, _ in pairs],
        np.array([s for _, s in pairs], np.float32),
        draw(WEIGHTS),
        is_distance,
    )


def naive(legs, fusion):
    given_by_id: dict[int, list[float]] = {}
    for leg in legs:
        goodness = [1.0 - s if leg.is_distance else s for s in leg.scores.tolist()]
        for rank, (document, good) in enumerate(zip(leg.ids, goodness, strict=True), 1):
            low, high = min(goodness), max(goodness)
            normal = 1.0 if low == high else (good - low) / (high - low)
            share = leg.weight / (fusion.k + rank) if fusion.method == "rrf" else leg.weight * normal
            given_by_id.setdefault(document, []).append(share)
    combine = max if fusion.method == "max" else sum
    return {document: combine(shares) for document, shares in given_by_id.items()}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ranked_legs(), max_size=4),
    st.builds(
        Fusion, method=st.sampled_from(["rrf", "weighted", "max"]), k=st.sampled_from([0.5, 1.0, 60.0])
    ),
    st.integers(1, 20),
)
def test_fused_scores_are_as_defined_and_ties_go_to_the_smaller_id(legs, fusion, top_k):
    expected = naive(legs, fusion)
    fused = fuse(legs, fusion, top_k)
    assert len(fused) == min(top_k, len(expected))
    for row in fused:
        assert row.score == pytest.approx(expected[row.id], rel=1e-6)
        assert row.score == float(np.float32(row.score))
    everything = fuse(legs, fusion, 100)
    assert everything[:top_k] == fused
    assert [f.id for f in everything] == [f.id for f in sorted(everything, key=lambda f: (-f.score, f.id))]


@settings(max_examples=200, deadline=None)
@given(st.lists(ranked_legs(), max_size=4), st.sampled_from(["rrf", "weighted", "max"]))
def test_the_order_of_the_legs_and_empty_legs_make_no_difference(legs, method):
    empty = RankedLeg("empty", [], np.empty(0, np.float32), 1.0, True)
    one = fuse(legs, Fusion(method), 100)
    other = fuse([*reversed(legs), empty], Fusion(method), 100)
    assert [(f.id, f.score) for f in one] == [(f.id, f.score) for f in other]


def test_weights_of_one_give_the_classic_reciprocal_rank_fusion():
    vector = RankedLeg("vector", [1, 2], np.array([0.1, 0.2], np.float32), 1.0, True)
    text = RankedLeg("text", [3, 1], np.array([9.0, 4.0], np.float32), 1.0)
    best = fuse([vector, text], Fusion(), 1)[0]
    assert best.id == 1
    assert round(best.score, 4) == 0.0325


def test_shares_explain_rank_raw_score_and_contribution_of_each_leg():
    vector = RankedLeg("vector", [1, 2], np.array([0.25, 0.75], np.float32), 0.5, True)
    text = RankedLeg("text", [2], np.array([4.0], np.float32), 0.5)
    fused = {f.id: f.shares for f in fuse([vector, text], Fusion("weighted"), 10)}
    assert [(s.leg, s.rank, s.score, s.contribution) for s in fused[1]] == [("vector", 1, 0.25, 0.5)]
    assert [(s.leg, s.rank, s.score, s.contribution) for s in fused[2]] == [
        ("vector", 2, 0.75, 0.0),
        ("text", 1, 4.0, 0.5),
    ]


def test_scores_that_overflowed_to_infinity_still_give_finite_fusions():
    leg = RankedLeg("vector", [1, 2, 3], np.array([np.inf, 1.0, -np.inf], np.float32))
    assert [(f.id, f.score) for f in fuse([leg], Fusion("max"), 3)] == [(1, 1.0), (2, 0.5), (3, 0.0)]


def test_sums_of_shares_are_exact_whatever_the_order_of_the_legs():
    # added from the left, the two smallest shares are lost one by one; together they lift the sum over a tie
    weights = (1.0, 2.0**-24, 2.0**-53, 2.0**-53)
    legs = [RankedLeg(str(w), [1], np.ones(1, np.float32), w) for w in weights]
    for order in (legs, legs[::-1]):
        assert fuse(order, Fusion("weighted"), 1)[0].score == 1.0 + 2.0**-23


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.integers(0, 9), unique=True, max_size=6), min_size=1, max_size=4),
    st.sampled_from([1.0, 60.0]),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 3),
)
def test_rows_of_several_answers_are_ranked_by_their_reciprocal_ranks(
    answers, constant, is_weighted, limit, offset
):
    weights = tuple(1.0 + i / 2 for i in range(len(answers))) if is_weighted else ()
    hits = [
        [Hit(document, 0.5, {"first": number, f"of {number}": document}) for document in ids]
        for number, ids in enumerate(answers)
    ]
    found = reranked(hits, Rerank(constant, weights, limit or None, offset if limit else 0))
    scores = {}
    for number, ids in enumerate(answers):
        for rank, document in enumerate(ids, 1):
            weight = weights[number] if weights else 1.0
            scores.setdefault(document, []).append(weight / (constant + rank))
    ordered = sorted(scores, key=lambda i: (-np.float32(math.fsum(scores[i])), i))
    if limit:
        ordered = ordered[offset : offset + limit]
    assert [hit.id for hit in found] == ordered
    for hit in found:
        owners = [number for number, ids in enumerate(answers) if hit.id in ids]
        expected = {f"of {number}": hit.id for number in owners} | {"first": owners[0]}
        assert hit.attributes == expected
        assert hit.score == np.float32(math.fsum(scores[hit.id]))


@pytest.mark.parametrize("method", ["rrf", "weighted", "max"])
def test_scores_beyond_32_bits_are_the_largest_there_are(method):
    legs = [RankedLeg(name, [1], np.array([1.0], np.float32), 1e300) for name in "ab"]
    (row,) = fuse(legs, Fusion(method, 1e-9), 1)
    assert row.score == float(np.finfo(np.float32).max)
