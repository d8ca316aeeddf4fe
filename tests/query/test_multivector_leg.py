"""Late interaction against a naive sum of best distances."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from index.sources import driven
from parts import ColdPart, FilePart, MemoryPart, schema_of, snapshot_of

from elacsym.index.distance import exact_distances, norms_of
from elacsym.query.ast import MultiVectorLeg
from elacsym.query.matching import live_rows
from elacsym.query.multivector_leg import multivector_nearest
from elacsym.types import Metric

ELEMENTS = st.integers(-3, 3).map(float)
VECTOR = st.lists(ELEMENTS, min_size=3, max_size=3)
DOCUMENTS = st.lists(st.none() | st.lists(VECTOR, max_size=4), max_size=12)


def distance(a, b, metric):
    matrix = np.array([a], np.float32)
    return float(exact_distances(matrix, norms_of(matrix), np.array(b, np.float32), metric)[0])


def naive(documents, query, depth, metric):
    best = max if metric is Metric.DOT else min
    sign = -1 if metric is Metric.DOT else 1
    scores = [
        (
            sign * float(np.float32(sum(best(distance(v, q, metric) for v in d["tokens"]) for q in query))),
            d["id"],
        )
        for d in documents
        if d.get("tokens")
    ]
    return [(document, sign * score) for score, document in sorted(scores)][:depth]


@settings(max_examples=120, deadline=None)
@given(
    st.lists(DOCUMENTS, min_size=1, max_size=3),
    st.lists(VECTOR, min_size=1, max_size=4),
    st.integers(1, 8),
    st.sampled_from(list(Metric)),
    st.sampled_from([MemoryPart, FilePart, ColdPart]),
    st.booleans(),
)
def test_the_nearest_are_found(vectors, query, depth, metric, kind, is_thinned):
    schema = schema_of(tokens="[][3]f32", metric=metric)
    parts, number = [], 0
    for drawn in vectors:
        parts.append([])
        for value in drawn:
            parts[-1].append({"id": number} | ({} if value is None else {"tokens": value}))
            number += 1
    kept = [part[::2] if is_thinned else part for part in parts]
    dead = [part[1::2] if is_thinned else [] for part in parts]
    snapshot = snapshot_of(schema, *kept, dead=dead, kind=kind)
    leg = MultiVectorLeg("tokens", np.array(query, np.float32))
    found = driven(multivector_nearest(snapshot, leg, live_rows(snapshot), depth)).value
    expected = naive([document for part in kept for document in part], query, depth, metric)
    assert list(zip(found.ids, found.scores.tolist(), strict=True)) == expected


def test_distances_beyond_32_bits_have_a_sum():
    schema = schema_of(tokens="[][3]f32", metric=Metric.DOT)
    snapshot = snapshot_of(schema, [{"id": 1, "tokens": [[3e38, 0.0, 0.0]]}])
    query = np.array([[3e38, 0.0, 0.0], [-3e38, 0.0, 0.0]], np.float32)
    leg = MultiVectorLeg("tokens", query)
    found = driven(multivector_nearest(snapshot, leg, live_rows(snapshot), 1)).value
    assert found.scores.tolist() == [0.0]
