"""The definition of distance, and the exact nearest rows of a matrix.

Answers are distances accumulated in float64 (`exact_distances`). What makes them fast never decides: sums in
the order of BLAS stand where their error bound leaves only one float32, and float32 inner products choose
the candidates of `nearest` under a bound that holds for any order of summation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.types import Metric

GATHER_BYTES = 2 * 2**20  # what is converted or gathered at a time: about a core's second-level cache
BOUNDED_MIN = 40_000  # exact distances over so few components cost less than bounds that would spare some
COSINE_RESOLUTION = 2.0**-48  # above the rounding error of 1 - cos in float64 at the most dimensions allowed
_ROUND = 2.0**-24  # half a unit in the last place of float32
_ROUND_WIDE = 2.0**-53  # and of float64
_SMALLEST = 2.0**-126  # the smallest normal float32: what a product that underflows may lose
_LARGEST = np.finfo(np.float32).max
_FEW = 16  # floats that are added up faster one by one
_ENDS = np.array([[-1.0], [1.0]])

# (n, d) float32, float16 or int8, finite, components of a row side by side; rows may be any distance apart
Matrix = npt.NDArray[Any]
Query = npt.NDArray[np.float32]
Queries = npt.NDArray[np.float32]  # (B, d), finite
Norms = npt.NDArray[np.float64]
Distances = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


def exact_distances(matrix: Matrix, norms: Norms, query: Query, metric: Metric) -> Distances:
    """The one definition of distance.

    matrix: (m, d), see `Matrix`; its values count as they are stored. norms: (m,) float64, their Euclidean
    norms by `norms_of` (not read for l2). query: (d,) float32, finite. Returns (m,) float32: l2 the sum of
    squared differences, cosine 1 - a·b / (|a||b|) in [0, 2] and 1 where a vector is zero, dot a·b.
    Accumulated in float64 by halving, an order that depends on d alone, and rounded once: equal inputs give
    equal numbers, whatever stands beside them. Cosine distances below 2^-48 are 0, so that a vector is at 0
    from itself and from its multiples. Distances beyond float32 are infinite.

    Cost: m·d multiply-adds in float64. Any order of summation errs by at most g·Σ|terms|, where
    g = d·u / (1 - d·u) and u = 2^-53 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1),
    so BLAS sums decide wherever both ends of the bound round to one float32; the few other rows are summed as
    defined.
    """
    distances = np.empty(len(matrix), np.float32)
    wide = query.astype(np.float64)
    length = 0.0 if metric is Metric.L2 else _norm(wide)
    step = max(1, GATHER_BYTES // (8 * len(query)))
    with np.errstate(over="ignore"):
        for start in range(0, len(matrix), step):
            part = slice(start, start + step)
            distances[part] = _rounded(matrix[part], norms[part], wide, length, metric)
    return distances


def within_f32(distances: Distances) -> Distances:
    """Distances as answers give them: what is beyond float32 is its largest."""
    return distances.clip(-_LARGEST, _LARGEST)


def norms_of(matrix: Matrix) -> Norms:
    """(m,) float64: the Euclidean norms of the rows, squares summed by halving."""
    norms = np.empty(len(matrix))
    step = max(1, GATHER_BYTES // (8 * max(1, matrix.shape[1])))
    for start in range(0, len(matrix), step):
        part = matrix[start : start + step].astype(np.float64)
        part *= part
        norms[start : start + step] = np.sqrt(_row_sums(part))
    return norms


def _rounded(
    matrix: Matrix, norms: Norms, query: npt.NDArray[np.float64], length: float | Norms, metric: Metric
) -> Distances:
    """`exact_distances` of a block. query: (d,) float64, or (m, d), one for each row; length: its norm, or
    (m,), not read for l2."""
    terms = matrix.astype(np.float64)
    if metric is Metric.L2:
        terms -= query
        lengths = sums = np.vecdot(terms, terms)
    else:
        lengths, sums = norms * length, np.vecdot(terms, query)
    # both the definition and BLAS err; the rest covers the roundings of the bound itself
    ends = lengths * (_ENDS * ((2 * terms.shape[1] + 16) * _ROUND_WIDE))
    ends += sums
    low: Distances
    distances: Distances
    low, distances = _of_sums(ends, lengths, metric).astype(np.float32)
    unsettled = (low != distances).nonzero()[0]
    if len(unsettled):
        if metric is Metric.L2:
            again = terms[unsettled]
            again *= again
        else:
            again = terms[unsettled] * (query if query.ndim == 1 else query[unsettled])
        distances[unsettled] = _of_sums(_row_sums(again), lengths[unsettled], metric)
    return distances


def _of_sums(
    sums: npt.NDArray[np.float64], lengths: npt.NDArray[np.float64], metric: Metric
) -> npt.NDArray[np.float64]:
    """Distances before rounding, from (…, m) sums of products or squares: monotone in each sum. lengths: (m,)
    products of both norms, read for cosine."""
    if metric is Metric.L2:
        return np.maximum(sums, 0.0)
    if metric is Metric.DOT:
        return sums + 0.0  # without negative zeros
    distances: npt.NDArray[np.float64] = 1.0 - sums / _divisors(lengths)
    np.minimum(distances, 2.0, out=distances)
    distances[distances < COSINE_RESOLUTION] = 0.0
    return distances


def _divisors(lengths: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Lengths, but infinite where they are zero: products are zero there, and cosines have to be."""
    return np.where(lengths > 0.0, lengths, np.inf)


def _row_sums(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(m,) sums of (m, d) terms: one half is added to the other until one column is left.

    Only element-wise additions, so that neither m, alignment nor the machine's vector width changes a bit.
    Additions go to new arrays: in place, numpy would copy halves that it cannot prove apart.
    """
    width = terms.shape[1]
    while width > 1:
        half = width // 2
        last = terms[:, width - 1]
        summed = terms[:, :half] + terms[:, half : 2 * half]
        if width % 2:
            summed[:, 0] = (terms[:, 0] + last) + terms[:, half]
        terms, width = summed, half
    return terms[:, 0] + 0.0  # a copy, without negative zeros


def _norm(vector: npt.NDArray[np.float64]) -> float:
    """`norms_of` of one vector, without the cost of short rows."""
    terms = vector * vector
    width = len(terms)
    while width > _FEW:
        half = width // 2
        summed = terms[:half] + terms[half : 2 * half]
        if width % 2:
            summed[0] = (terms[0] + terms[width - 1]) + terms[half]
        terms, width = summed, half
    left: list[float] = terms.tolist()
    while width > 1:
        half = width // 2
        halves = [a + b for a, b in zip(left[:half], left[half : 2 * half], strict=True)]
        if width % 2:
            halves[0] = (left[0] + left[width - 1]) + left[half]
        left, width = halves, half
    return math.sqrt(left[0])


def scans_all(chosen: Rows | None, count: int) -> bool:
    """Whether `nearest` reads every one of `count` rows rather than the chosen ones alone."""
    return chosen is None or 4 * len(chosen) > count


def nearest(
    matrix: Matrix, norms: Norms, query: Query, k: int, metric: Metric, chosen: Rows | None
) -> tuple[Distances, Rows]:
    """The k nearest rows of a matrix and all that tie with the last of them, exactly, in any order.

    chosen: positions to search, ascending; None: all. Returns `exact_distances` and positions. Cost: one pass
    of float32 multiply-adds over the matrix or, see `scans_all`, over the chosen rows, in the calling thread;
    a few passes of one float64 a row; `exact_distances` of the rows that may be among the k by `_bounds`.
    """
    assert query.shape == matrix.shape[1:] and k > 0, (query.shape, matrix.shape, k)
    count = len(matrix) if chosen is None else len(chosen)
    positions = chosen
    if count > k and count * len(query) > BOUNDED_MIN:
        positions = _candidates(matrix, norms, query, k, metric, chosen)
    if positions is None:
        distances, positions = exact_distances(matrix, norms, query, metric), np.arange(count)
    else:
        distances = distances_at(matrix, norms, positions, query, metric)
    return _cut(distances, positions, k, metric)


def distances_at(matrix: Matrix, norms: Norms, positions: Rows, query: Query, metric: Metric) -> Distances:
    """`exact_distances` of some rows, gathered block by block."""
    step = _gather_rows(matrix)
    if len(positions) <= step:
        return exact_distances(matrix[positions], norms[positions], query, metric)
    distances = np.empty(len(positions), np.float32)
    for start in range(0, len(positions), step):
        part = positions[start : start + step]
        distances[start : start + step] = exact_distances(matrix[part], norms[part], query, metric)
    return distances


def best_first(distances: Distances, rows: Rows, metric: Metric) -> tuple[Distances, Rows]:
    """Both in the order of an answer: distances ascending (dot: descending), equal ones by ascending row."""
    order = np.lexsort((rows, -distances if metric is Metric.DOT else distances))
    return distances[order], rows[order]


def _gather_rows(matrix: Matrix) -> int:
    return max(1, GATHER_BYTES // (4 * max(1, int(matrix.shape[1]))))


def _candidates(
    matrix: Matrix, norms: Norms, query: Query, k: int, metric: Metric, chosen: Rows | None
) -> Rows:
    """Positions that hold every row of the answer."""
    with np.errstate(over="ignore"):
        low, high = _bounds(matrix, norms, query, metric, chosen)
        narrow, limits = low.astype(np.float32), high.astype(np.float32)
    limits.partition(k - 1)
    found: Rows = (narrow <= limits[k - 1]).nonzero()[0]
    return found if chosen is None else chosen[found]


def _products(matrix: Matrix, query: Query, chosen: Rows | None) -> npt.NDArray[np.float32]:
    """(n,) float32 inner products with the chosen rows.

    numpy.vecdot calls BLAS once per row, too short (up to 10,000 dimensions) for OpenBLAS to start threads,
    and is as fast as memory: a query takes one core and leaves the others to other queries. A matrix-vector
    product would wake every core to wait for the same memory.
    """
    if chosen is not None and scans_all(chosen, len(matrix)):
        return _products(matrix, query, None)[chosen]
    if chosen is None and matrix.dtype == np.float32:
        products: npt.NDArray[np.float32] = np.vecdot(matrix, query)
        return products
    count = len(matrix) if chosen is None else len(chosen)
    products = np.empty(count, np.float32)
    step = _gather_rows(matrix)
    for start in range(0, count, step):
        part = slice(start, start + step)
        rows = matrix[part] if chosen is None else matrix[chosen[part]]
        np.vecdot(rows.astype(np.float32, copy=False), query, out=products[part])
    return products


def nearest_each(
    matrix: Matrix, norms: Norms, counts: Sequence[int], queries: Queries, k: int, metric: Metric
) -> list[tuple[Distances, Rows]]:
    """`nearest` for each query among rows of its own, counts[b] after those of the queries before it.

    Positions count from the first of a query's own rows. Cost: as of `nearest`, but numpy is called once for
    all queries where one call can serve all.
    """
    ends = [0, *accumulate(counts)]
    parts = [slice(*ends[b : b + 2]) for b in range(len(counts))]
    if len(queries) == 1 or not ends[-1]:
        return [
            nearest(matrix[part], norms[part], query, k, metric, None)
            for part, query in zip(parts, queries, strict=True)
        ]
    query_of = np.repeat(np.arange(len(counts)), counts)
    found = np.arange(ends[-1])
    if ends[-1] * matrix.shape[1] > BOUNDED_MIN:
        wide = queries.astype(np.float64)
        lengths = np.sqrt(np.vecdot(wide, wide))
        scales = _scales(lengths)
        scaled = (wide * scales[:, None]).astype(np.float32)
        products = np.empty(ends[-1], np.float32)
        for part, query in zip(parts, scaled, strict=True):
            np.vecdot(matrix[part].astype(np.float32, copy=False), query, out=products[part])
        with np.errstate(over="ignore"):
            low, high = _bounds_of(
                products, norms, lengths[query_of], scales[query_of], matrix.shape[1], metric
            )
            narrow, limits = low.astype(np.float32), high.astype(np.float32)
        kth = [
            np.partition(limits[part], k - 1)[k - 1] if count > k else np.inf
            for part, count in zip(parts, counts, strict=True)
        ]
        found = (narrow <= np.array(kth, np.float32)[query_of]).nonzero()[0]
    distances = _exact_each(matrix[found], norms[found], query_of[found], queries, metric)
    edges = np.searchsorted(found, ends).tolist()
    answers = []
    for number, part in enumerate(parts):
        own = slice(*edges[number : number + 2])
        answers.append(_cut(distances[own], found[own] - part.start, k, metric))
    return answers


def _exact_each(matrix: Matrix, norms: Norms, query_of: Rows, queries: Queries, metric: Metric) -> Distances:
    """(m,) `exact_distances` of each row from the query of its own."""
    lengths = norms_of(queries) if metric is not Metric.L2 else np.zeros(len(queries))
    distances = np.empty(len(matrix), np.float32)
    step = max(1, GATHER_BYTES // (16 * max(1, matrix.shape[1])))
    with np.errstate(over="ignore"):
        for start in range(0, len(matrix), step):
            part = slice(start, start + step)
            whose = query_of[part]
            wide = queries[whose].astype(np.float64)
            distances[part] = _rounded(matrix[part], norms[part], wide, lengths[whose], metric)
    return distances


def _cut(distances: Distances, positions: Rows, k: int, metric: Metric) -> tuple[Distances, Rows]:
    """The k nearest and all that tie with the last of them."""
    if len(positions) <= k:
        return distances, positions
    keys = -distances if metric is Metric.DOT else distances
    within = keys <= np.partition(keys, k - 1)[k - 1]
    return distances[within], positions[within]


def _scales(lengths: Norms) -> Norms:
    """Powers of two by which queries of these norms keep every partial sum below the largest float32."""
    scales: Norms = np.ldexp(1.0, -8 - np.frexp(lengths)[1])
    return scales


def _bounds(
    matrix: Matrix, norms: Norms, query: Query, metric: Metric, chosen: Rows | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`_bounds_of` the products of the chosen rows with a query."""
    wide = query.astype(np.float64)
    norm = np.sqrt(np.vecdot(wide, wide))
    scale = _scales(norm)
    products = _products(matrix, (wide * scale).astype(np.float32), chosen)
    return _bounds_of(products, norms if chosen is None else norms[chosen], norm, scale, len(query), metric)


def _bounds_of(
    products: npt.NDArray[np.float32],
    norms: Norms,
    norm: Norms,
    scale: Norms,
    dimensions: int,
    metric: Metric,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two bounds around what `exact_distances` rounds to float32 (negated for dot): (n,) float64 each.

    products: (n,) inner products of rows of these norms with queries of the norms `norm`, multiplied by
    `scale`, both (n,) or one for all.

    A float32 inner product of d terms errs by at most g·|a||b|, g = d·u / (1 - d·u), u = 2^-24, in any
    order of summation (Higham, section 3.1), plus what underflow takes: at most three smallest normal numbers
    a term, divided by `scale`. Four more terms in g cover the float64 roundings of products and cosines;
    those of squared norms and squared differences stay below 2^-46 of |a|² + |b|² for any dimension allowed.
    """
    terms = (dimensions + 4) * _ROUND
    share, lost = terms / (1.0 - terms), 3 * dimensions * _SMALLEST / scale
    middle = np.multiply(products, (-2.0 if metric is Metric.L2 else -1.0) / scale, dtype=np.float64)
    if metric is Metric.L2:
        squares = norms * norms
        squares += norm * norm
        middle += squares
        error = squares  # 2·|a||b| is at most |a|² + |b|²
        error *= share + 2.0**-46
        error += 2.0 * lost
    elif metric is Metric.DOT:
        error = norms * (norm * share)
        error += lost
    else:
        lengths = _divisors(norms * norm)
        middle /= lengths
        middle += 1.0
        error = lost / lengths
        error += share
    return middle - error, middle + error
