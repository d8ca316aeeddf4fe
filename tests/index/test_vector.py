import math
from fractions import Fraction
from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elacsym.index import distance
from elacsym.index.distance import exact_distances
from elacsym.index.vector import VectorColumn, top_k
from elacsym.types import Metric

metrics = st.sampled_from(Metric)
tame = st.floats(-2, 2, width=32)
grid = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1.4, 1.5, 1.6, 1.7])
wild = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def searches(draw):
    """(matrix, query): tame, full of ties, of wild magnitudes, or near copies of the query."""
    rows, d = draw(st.integers(1, 40)), draw(st.integers(1, 9))
    elements = draw(st.sampled_from([tame, grid, wild]))
    matrix = draw(hnp.arrays(np.float32, (rows, d), elements=elements))
    query = draw(hnp.arrays(np.float32, d, elements=elements) | st.just(matrix[0].copy()))
    if draw(st.booleans()):
        matrix = draw(st.integers(0, 3)) * 2.0**-24 * matrix.astype(float) + query
    if draw(st.booleans()):
        exponents = draw(hnp.arrays(np.int64, rows, elements=st.integers(-140, 100)))
        matrix = np.ldexp(matrix.astype(float), exponents[:, None])
    largest = np.finfo(np.float32).max
    return np.clip(matrix, -largest, largest).astype(np.float32), query


def brute_force(column, query, k, metric, mask):
    """All rows at or within the k-th of the exact distances."""
    distances = exact_distances(column.matrix, column.norms, query, metric)
    keep = np.ones(len(column), bool) if mask is None else mask[column.rows]
    signed = (-distances if metric is Metric.DOT else distances)[keep]
    rows, distances = column.rows[keep], distances[keep]
    order = np.lexsort((rows, signed))
    if len(order) > k:
        order = order[signed[order] <= signed[order[k - 1]]]
    return distances[order], rows[order]


@settings(max_examples=300)
@given(searches(), st.integers(1, 12), metrics, st.booleans(), st.data())
def test_top_k_is_a_full_scan_of_exact_distances(search, k, metric, is_bounded, data):
    matrix, query = search
    gaps = data.draw(hnp.arrays(np.int64, len(matrix), elements=st.integers(1, 3)))
    rows = None if data.draw(st.booleans()) else np.cumsum(gaps) - 1
    total = len(matrix) if rows is None else int(rows[-1]) + 2
    mask = data.draw(st.none() | hnp.arrays(np.bool_, total))
    column = VectorColumn.of(matrix, rows, total)
    with mock.patch.object(distance, "BOUNDED_MIN", 0 if is_bounded else 2**40):
        distances, found = top_k(column, query, k, metric, mask)
    expected_distances, expected_rows = brute_force(column, query, k, metric, mask)
    assert found.tolist() == expected_rows.tolist()
    assert distances.dtype == np.float32 and found.dtype == np.int64
    assert np.array_equal(distances, expected_distances)


@settings(max_examples=25)
@given(st.integers(0, 2**32), metrics, st.sampled_from([1, 7, 100]), st.sampled_from([None, 0.05, 0.9]))
def test_top_k_of_many_near_ties_is_a_full_scan(seed, metric, k, density):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal(33).astype(np.float32)
    noise = rng.standard_normal((3_000, 33)) * rng.choice([0, 1e-7, 1e-5, 1e-2], (3_000, 1))
    column = VectorColumn.of((query + noise).astype(np.float32), None, 3_000)
    mask = None if density is None else rng.random(3_000) < density
    distances, rows = top_k(column, query, k, metric, mask)
    expected_distances, expected_rows = brute_force(column, query, k, metric, mask)
    assert np.array_equal(distances, expected_distances)
    assert np.array_equal(rows, expected_rows)


@settings(max_examples=100)
@given(searches(), metrics)
def test_candidate_bounds_hold_around_the_true_distance(search, metric):
    matrix, query = search
    norms = distance.norms_of(matrix)
    wide = matrix.astype(float)
    if metric is Metric.L2:
        sums = distance._row_sums((wide - query) ** 2)
    else:
        sums = distance._row_sums(wide * query)
    exact = distance._of_sums(sums, norms * distance.norms_of(query[None, :])[0], metric)
    if metric is Metric.DOT:
        exact = -exact
    low, high = distance._bounds(matrix, norms, query, metric, None)
    assert (np.minimum(low, exact) == low).all()
    assert (np.maximum(high, exact) == high).all()


@settings(max_examples=100)
@given(searches(), metrics)
def test_a_distance_is_the_definition_rounded_once(search, metric):
    matrix, query = search
    found = exact_distances(matrix, VectorColumn.of(matrix, None, len(matrix)).norms, query, metric)
    for row, value in zip(matrix.tolist(), found.tolist(), strict=True):
        dot = sum(Fraction(a) * Fraction(b) for a, b in zip(row, query.tolist(), strict=True))
        size = sum(abs(Fraction(a) * Fraction(b)) for a, b in zip(row, query.tolist(), strict=True))
        if metric is Metric.L2:
            true = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(row, query.tolist(), strict=True))
            slack = float(true) * 1e-14
        elif metric is Metric.DOT:
            true, slack = dot, float(size) * 1e-14
        else:
            lengths = math.hypot(*row) * math.hypot(*query.tolist())
            true, slack = 1 - float(dot) / lengths if lengths else 1.0, 2.0**-47
        with np.errstate(over="ignore"):
            low, high = np.float32(float(true) - slack), np.float32(float(true) + slack)
        assert low <= value <= high


def test_distances_do_not_depend_on_the_rows_beside_or_on_alignment():
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((5_000, 37)).astype(np.float32)
    query = rng.standard_normal(37).astype(np.float32)
    shifted = np.empty(matrix.nbytes + 4, np.uint8)[4:].view(np.float32).reshape(matrix.shape)
    shifted[:] = matrix
    norms = VectorColumn.of(matrix, None, 5_000).norms
    for metric in Metric:
        whole = exact_distances(matrix, norms, query, metric)
        for i in (0, 1, 2_047, 2_048, 4_999):
            assert exact_distances(matrix[i : i + 1], norms[i : i + 1], query, metric)[0] == whole[i]
        assert np.array_equal(exact_distances(shifted, norms, query, metric), whole)
        assert np.array_equal(exact_distances(matrix[::-1], norms[::-1], query, metric)[::-1], whole)


def test_equal_squared_differences_are_equal_distances():
    # the expansion |a|² + |b|² - 2ab gives two different numbers here
    column = VectorColumn.of(np.array([[1.4, 1.4], [9, 9], [1.7, 1.7]], np.float32), None, 3)
    distances, rows = top_k(column, np.array([1.5, 1.6], np.float32), 1, Metric.L2)
    assert rows.tolist() == [0, 2]
    assert distances[0] == distances[1]


def test_a_vector_and_its_multiples_are_at_cosine_distance_zero():
    rng = np.random.default_rng(11)
    query = rng.standard_normal(768).astype(np.float32)
    column = VectorColumn.of(np.stack([query, query * 4, -query, 0 * query]).astype(np.float32), None, 4)
    distances = exact_distances(column.matrix, column.norms, query, Metric.COSINE)
    assert distances.tolist() == [0.0, 0.0, 2.0, 1.0]
    assert exact_distances(column.matrix, column.norms, 0 * query, Metric.COSINE).tolist() == [1.0] * 4


def test_distances_beyond_float32_are_infinite_and_tie():
    largest = np.finfo(np.float32).max
    column = VectorColumn.of(np.array([[largest] * 3, [-largest] * 3, [1, 1, 1]], np.float32), None, 3)
    distances, rows = top_k(column, np.full(3, -largest, np.float32), 2, Metric.L2)
    assert distances.tolist() == [0.0, math.inf, math.inf]
    assert rows.tolist() == [1, 0, 2]
    assert top_k(column, np.full(3, largest, np.float32), 1, Metric.DOT)[0].tolist() == [math.inf] * 2


def test_rows_without_a_vector_and_masked_rows_are_not_found():
    matrix = np.array([[1.0], [2.0], [3.0]], np.float32)
    column = VectorColumn.of(matrix, np.array([1, 4, 6]), 8)
    mask = np.ones(8, bool)
    mask[4] = False
    assert top_k(column, np.array([2.0], np.float32), 5, Metric.L2, mask)[1].tolist() == [1, 6]
    assert not len(top_k(column, np.array([2.0], np.float32), 5, Metric.L2, np.zeros(8, bool))[1])
    assert not len(top_k(VectorColumn.empty(1, 8), np.array([2.0], np.float32), 5, Metric.L2)[1])


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_a_merge_moves_vectors_to_their_new_rows(seed):
    rng = np.random.default_rng(seed)
    columns, maps, expected = [], [], {}
    places = rng.permutation(60)
    for start in (0, 25, 25):
        total = 25 if start == 0 else int(rng.integers(1, 15))
        rows = np.flatnonzero(rng.random(total) < 0.7)
        matrix = rng.standard_normal((len(rows), 3)).astype(np.float32)
        row_map = np.where(rng.random(total) < 0.8, places[:total], -1)
        places = places[total:]
        columns.append(VectorColumn.of(matrix, rows, total))
        maps.append(row_map)
        expected |= {
            int(row_map[r]): v.tolist() for r, v in zip(rows, matrix, strict=True) if row_map[r] >= 0
        }
    merged = VectorColumn.merge(columns, maps, 60)
    assert dict(zip(merged.rows.tolist(), merged.matrix.tolist(), strict=True)) == expected
    assert merged.rows.tolist() == sorted(expected)
    assert np.array_equal(merged.norms, VectorColumn.of(merged.matrix, merged.rows, 60).norms)


@settings(max_examples=60)
@given(st.sampled_from(["f2", "i1"]), metrics, st.integers(0, 2**32), st.integers(1, 9))
def test_narrow_types_are_searched_by_the_values_that_are_stored(dtype, metric, seed, k):
    rng = np.random.default_rng(seed)
    matrix = (rng.standard_normal((600, 5)) * rng.choice([1, 20])).astype(dtype)
    query = rng.standard_normal(5).astype(np.float32)
    narrow = VectorColumn.of(matrix, None, 600)
    wide = VectorColumn.of(matrix.astype(np.float32), None, 600)
    assert narrow.matrix.dtype == matrix.dtype
    for mask in (None, rng.random(600) < 0.7, rng.random(600) < 0.1):
        one, other = top_k(narrow, query, k, metric, mask), top_k(wide, query, k, metric, mask)
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])


@settings(max_examples=100)
@given(hnp.arrays(np.float32, st.integers(1, 70), elements=wild))
def test_the_norm_of_one_vector_is_that_of_a_row(query):
    wide = query.astype(np.float64)
    assert distance._norm(wide) == distance.norms_of(query[None, :])[0]


@settings(max_examples=150)
@given(searches(), metrics)
def test_sums_of_any_order_decide_only_where_the_definition_agrees(search, metric):
    matrix, query = search
    norms = distance.norms_of(matrix)
    wide = query.astype(np.float64)
    terms = matrix.astype(np.float64)
    sums = distance._row_sums((terms - wide) ** 2 if metric is Metric.L2 else terms * wide)
    with np.errstate(over="ignore"):
        defined = distance._of_sums(sums, norms * distance._norm(wide), metric).astype(np.float32)
    assert np.array_equal(exact_distances(matrix, norms, query, metric), defined)
