"""Computed attributes as JSON."""

from __future__ import annotations

import numpy as np
import pytest

from elacsym.errors import InvalidRequest
from elacsym.query.ast import Bm25, Compare, Highlight, Op, Product, VectorDistance
from elacsym.query.language.compute import parse_computed


def test_computed_attributes_are_parsed():
    found = dict(
        parse_computed(
            {
                "score": ["Product", 2, ["title", "BM25", "tea"]],
                "open": ["open", "Eq", True],
                "far": ["vector", "VectorDist", [0.5, 1]],
                "best": ["Highlight", "title"],
                "all": [
                    "Highlight",
                    "title",
                    {
                        "fragment_by": "word",
                        "fragment_limit": 7,
                        "include_offsets": "utf-16",
                        "rank_fragments_by": ["$fragment", "BM25", "tea"],
                    },
                ],
                "odd": ["Highlight", "BM25", "tea"],
            }
        )
    )
    assert found["score"] == Product(2.0, Bm25("title", "tea", path="compute_attributes.score[2]"))
    assert found["open"] == Compare("open", Op.EQ, True, "compute_attributes.open")
    assert isinstance(found["far"], VectorDistance)
    assert found["far"].vector.tolist() == np.array([0.5, 1], np.float32).tolist()
    assert found["best"] == Highlight("title", path="compute_attributes.best")
    ranked = Bm25("$fragment", "tea", path="compute_attributes.all[2].rank_fragments_by")
    assert found["all"] == Highlight("title", "word", 7, "utf-16", ranked, "compute_attributes.all")
    assert found["odd"] == Bm25("Highlight", "tea", path="compute_attributes.odd")


@pytest.mark.parametrize(
    ("expression", "status", "field"),
    [
        ("x", 422, "compute_attributes.a"),
        ([], 422, "compute_attributes.a"),
        (["v", "ANN", [1.0]], 400, "compute_attributes.a"),
        (["v", "kNN", [1.0]], 400, "compute_attributes.a"),
        (["v", "SparseKNN", {"1": 1.0}], 400, "compute_attributes.a"),
        (["v", "VectorDist", "?"], 400, "compute_attributes.a[2]"),
        (["v", "VectorDist", {}], 422, "compute_attributes.a[2]"),
        (["Highlight", "t", {"colour": "red"}], 422, "compute_attributes.a[2].colour"),
        (["Highlight", "t", {"fragment_by": "line"}], 422, "compute_attributes.a[2].fragment_by"),
        (["Highlight", "t", {"fragment_limit": "3"}], 422, "compute_attributes.a[2].fragment_limit"),
        (["Highlight", "t", {"include_offsets": "bytes"}], 422, "compute_attributes.a[2].include_offsets"),
    ],
)
def test_what_is_wrong_is_named(expression, status, field):
    with pytest.raises(InvalidRequest) as refused:
        parse_computed({"a": expression})
    assert (refused.value.status, refused.value.field) == (status, field)


def test_at_most_256_attributes_are_computed():
    with pytest.raises(InvalidRequest, match="256"):
        parse_computed({str(i): ["a", "Eq", 1] for i in range(257)})
