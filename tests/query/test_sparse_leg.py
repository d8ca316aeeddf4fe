"""The sparse leg against a naive inner product, over parts in memory, in files and cold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from index.sources import driven
from parts import ColdPart, FilePart, MemoryPart, schema_of, snapshot_of

from elacsym.query.ast import SparseLeg
from elacsym.query.matching import live_rows
from elacsym.query.sparse_leg import sparse_nearest

SCHEMA = schema_of(lexical="{}f16", metric=None)
DIMENSIONS = ["1", "2", "10", "é", "", "long-" * 5]
# 16-bit floats, so that what is stored is what was drawn
WEIGHTS = st.floats(-(2.0**12), 2.0**12, width=16)
VECTORS = st.dictionaries(st.sampled_from(DIMENSIONS), WEIGHTS)
DOCUMENTS = st.lists(st.none() | VECTORS, max_size=30)
QUERIES = st.dictionaries(st.sampled_from([*DIMENSIONS, "unknown"]), st.floats(-100, 100), min_size=1)


def naive(documents, query, depth):
    scores = {}
    for document in documents:
        vector = document.get("lexical")
        if vector is not None:
            shared = sorted(query.keys() & vector.keys(), key=str.encode)
            score = np.float32(sum(query[name] * vector[name] for name in shared))
            if shared and score != 0:
                scores[document["id"]] = float(score)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:depth]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(DOCUMENTS, min_size=1, max_size=3),
    QUERIES,
    st.integers(1, 12),
    st.sampled_from([MemoryPart, FilePart, ColdPart]),
    st.booleans(),
)
@example([[{"1": 1.0}], [{"1": 1.0}]], {"1": 1.0}, 1, ColdPart, False)
@example([[{"1": 1.0, "2": -1.0}]], {"1": 1.0, "2": 1.0}, 1, FilePart, False)
def test_the_best_products_are_found(vectors, query, depth, kind, is_thinned):
    parts, number = [], 0
    for drawn in vectors:
        parts.append([])
        for vector in drawn:
            parts[-1].append({"id": number} | ({} if vector is None else {"lexical": vector}))
            number += 1
    kept = [part[::2] if is_thinned else part for part in parts]
    dead = [part[1::2] if is_thinned else [] for part in parts]
    snapshot = snapshot_of(SCHEMA, *kept, dead=dead, kind=kind)
    leg = SparseLeg("lexical", tuple(query.items()))
    found = driven(sparse_nearest(snapshot, leg, live_rows(snapshot), depth)).value
    expected = naive([document for part in kept for document in part], query, depth)
    assert list(zip(found.ids, found.scores.tolist(), strict=True)) == expected


def test_a_cold_part_brings_the_lists_of_the_query_alone():
    rng = np.random.default_rng(3)
    documents = [
        {"id": i, "lexical": {str(d): 1.0 for d in rng.choice(30_000, 40, replace=False)}}
        for i in range(2_000)
    ]
    snapshot = snapshot_of(SCHEMA, documents, kind=ColdPart)
    part = snapshot.parts[0].part
    leg = SparseLeg("lexical", (("17", 1.0), ("29999", 2.0)))
    found = driven(sparse_nearest(snapshot, leg, live_rows(snapshot), 10))
    source = part.sources["lexical"]
    # its head, the places of two dimensions, their lists; the head of the ids, those of the hits
    assert len(found.rounds) == 5
    assert source.brought_bytes < source.size_bytes / 10
    assert list(zip(found.value.ids, found.value.scores.tolist(), strict=True)) == naive(
        documents, dict(leg.vector), 10
    )


def test_products_beyond_64_bits_of_either_sign_have_a_sum():
    snapshot = snapshot_of(SCHEMA, [{"id": 1, "lexical": {"1": 4.0, "2": 8.0}}])
    leg = SparseLeg("lexical", (("1", -1.7e308), ("2", 1.7e308)))
    found = driven(sparse_nearest(snapshot, leg, live_rows(snapshot), 1)).value
    assert found.scores.tolist() == [float(np.finfo(np.float32).max)]


@pytest.mark.parametrize("weights", [(1e300, 1e300), (-1e300, -1e300)])
def test_sums_beyond_32_bits_stay_finite(weights):
    snapshot = snapshot_of(SCHEMA, [{"id": 1, "lexical": {"1": 4.0, "2": 8.0}}])
    leg = SparseLeg("lexical", tuple(zip(("1", "2"), weights, strict=True)))
    found = driven(sparse_nearest(snapshot, leg, live_rows(snapshot), 1)).value
    assert np.isfinite(found.scores).all()
    assert (found.scores > 0) == (weights[0] > 0)
