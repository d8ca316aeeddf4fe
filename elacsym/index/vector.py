"""Vectors of one attribute of one part: storage, the definition of distance, exact top-k.

Answers are distances computed in float64 (`exact_distances`). The float32 inner products that make the
search fast only choose candidates, under an error bound that holds for any order of summation, so the
answer is that of a full scan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from elacsym.format import blob
from elacsym.index.cluster import cluster_order as cluster_order
from elacsym.types import Metric

KIND, VERSION = "vector", 1
EXACT_ROWS = 2_048  # rows converted to float64 at a time: 6 MiB at 384 dimensions
GATHER_ROWS = 8_192  # rows gathered at a time: 12 MiB at 384 dimensions
COSINE_RESOLUTION = 2.0**-48  # above the rounding error of 1 - cos in float64 at the most dimensions allowed
_ROUND = 2.0**-24  # half a unit in the last place of float32
_SMALLEST = 2.0**-126  # the smallest normal float32: what a product that underflows may lose

Matrix = npt.NDArray[np.float32]
Distances = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class VectorColumn:
    """The vectors of those rows that have one; immutable.

    matrix: (m, d) float32, C-contiguous, finite. rows: (m,) int64 ascending, the row of each vector.
    norms: (m,) float64 Euclidean norms. rows_total: how many rows the part has.
    """

    def __init__(
        self, matrix: Matrix, rows: Rows | None, rows_total: int, norms: npt.NDArray[np.float64] | None = None
    ) -> None:
        assert matrix.ndim == 2 and matrix.dtype == np.float32 and matrix.flags.c_contiguous
        assert len(matrix) == (rows_total if rows is None else len(rows)), (matrix.shape, rows_total)
        self.matrix, self.rows_total = matrix, rows_total
        self._rows, self._norms = rows, norms

    @classmethod
    def of(cls, matrix: Matrix, rows: Rows | None, rows_total: int) -> Self:
        """The column of a matrix; `rows` may be None when every row has a vector."""
        full = rows is None or len(rows) == rows_total
        return cls(np.ascontiguousarray(matrix, np.float32), None if full else rows, rows_total)

    @classmethod
    def empty(cls, dimensions: int, rows_total: int) -> Self:
        """A column where no row has a vector."""
        return cls(np.empty((0, dimensions), np.float32), np.empty(0, np.int64), rows_total)

    @property
    def dimensions(self) -> int:
        """Components of each vector."""
        return int(self.matrix.shape[1])

    def __len__(self) -> int:
        """Vectors."""
        return len(self.matrix)

    @cached_property
    def rows(self) -> Rows:
        """(m,) int64 ascending: the row of each vector."""
        return np.arange(self.rows_total) if self._rows is None else self._rows.astype(np.int64, copy=False)

    @cached_property
    def norms(self) -> npt.NDArray[np.float64]:
        """(m,) float64: the Euclidean norm of each vector."""
        return _norms(self.matrix) if self._norms is None else self._norms

    def encode(self) -> bytes:
        """The column as a file."""
        sections: dict[str, npt.NDArray[Any]] = {"matrix": self.matrix, "norms": self.norms}
        if self._rows is not None:
            sections["rows"] = self._rows.astype(np.uint32)
        return blob.encode(sections, {"kind": KIND, "version": VERSION, "rows_total": self.rows_total})

    @classmethod
    def open(cls, data: memoryview | bytes, key: str, *, verify: bool = False) -> Self:
        """The column in a file, without copying.

        `verify` checks every byte: not needed where the file was mapped by its digest. Raises CorruptObject.
        """
        file = blob.Blob.open(data, key).expect(KIND, VERSION)
        if verify:
            file.verify()
        matrix = file.array("matrix", "<f4", None, None)
        rows = file.array("rows", "<u4", len(matrix)) if "rows" in file.sections else None
        norms = file.array("norms", "<f8", len(matrix))
        return cls(matrix, rows, file.scalar("rows_total"), norms)

    @classmethod
    def merge(cls, columns: Sequence[VectorColumn], row_maps: Sequence[Rows], rows_total: int) -> Self:
        """One column over `rows_total` rows: row r of columns[i] becomes row row_maps[i][r], or goes (-1).

        columns: at least one, all of the same dimensions. Cost: one copy of the vectors kept.
        """
        places = [row_map[column.rows] for column, row_map in zip(columns, row_maps, strict=True)]
        rows = np.sort(np.concatenate([place[place >= 0] for place in places]))
        matrix = np.empty((len(rows), columns[0].dimensions), np.float32)
        norms = np.empty(len(rows))
        for column, place in zip(columns, places, strict=True):
            kept = np.flatnonzero(place >= 0)
            into = np.searchsorted(rows, place[kept])
            matrix[into] = column.matrix[kept]
            norms[into] = column.norms[kept]
        return cls(matrix, None if len(rows) == rows_total else rows, rows_total, norms)


def exact_distances(
    matrix: Matrix, norms: npt.NDArray[np.float64], query: npt.NDArray[np.float32], metric: Metric
) -> Distances:
    """The one definition of distance.

    matrix: (m, d) float32, finite. norms: (m,) float64, its Euclidean norms (read for cosine alone). query:
    (d,) float32, finite. Returns (m,) float32: l2 the sum of squared differences, cosine 1 - a·b / (|a||b|)
    in [0, 2] and 1 where a vector is zero, dot a·b. Accumulated in float64 by halving, an order that
    depends on d alone, and rounded once: equal inputs give equal numbers, whatever stands beside them.
    Cosine distances below 2^-48 are 0, so that a vector is at 0 from itself and from its multiples.
    Distances beyond float32 are infinite. Cost: about 3·m·d operations.
    """
    distances = np.empty(len(matrix), np.float32)
    wide = query.astype(np.float64)
    with np.errstate(over="ignore"):
        for start in range(0, len(matrix), EXACT_ROWS):
            part = slice(start, start + EXACT_ROWS)
            distances[part] = _distances(matrix[part].astype(np.float64), norms[part], wide, metric)
    return distances


def _distances(
    matrix: npt.NDArray[np.float64],
    norms: npt.NDArray[np.float64],
    query: npt.NDArray[np.float64],
    metric: Metric,
) -> npt.NDArray[np.float64]:
    """`exact_distances` before rounding; overwrites `matrix`."""
    if metric is Metric.L2:
        matrix -= query
        matrix *= matrix
        return _row_sums(matrix)
    matrix *= query
    products = _row_sums(matrix)
    if metric is Metric.DOT:
        return products
    lengths = norms * _norms(query[None, :])[0]
    cosine = np.divide(products, lengths, out=np.zeros(len(products)), where=lengths > 0)
    distances: npt.NDArray[np.float64] = np.clip(1.0 - cosine, 0.0, 2.0)
    distances[distances < COSINE_RESOLUTION] = 0.0
    return distances


def _row_sums(terms: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(m,) sums of (m, d) terms, overwriting them: one half is added to the other until one column is left.

    Only element-wise additions, so that neither m, alignment nor the machine's vector width changes a bit.
    """
    width = terms.shape[1]
    while width > 1:
        half = width // 2
        if width % 2:
            terms[:, 0] += terms[:, width - 1]
        terms[:, :half] += terms[:, half : 2 * half]
        width = half
    return terms[:, 0] + 0.0  # a copy, without negative zeros


def _norms(matrix: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    norms = np.empty(len(matrix))
    for start in range(0, len(matrix), EXACT_ROWS):
        part = matrix[start : start + EXACT_ROWS].astype(np.float64)
        part *= part
        norms[start : start + EXACT_ROWS] = np.sqrt(_row_sums(part))
    return norms


def top_k(
    column: VectorColumn,
    query: npt.NDArray[np.float32],
    k: int,
    metric: Metric,
    mask: npt.NDArray[np.bool_] | None = None,
) -> tuple[Distances, Rows]:
    """The k nearest rows, exactly.

    query: (d,) float32, finite. mask: (rows_total,) bool, which rows may be found; None: all.
    Returns `(distances, rows)`: float32 ascending (dot: descending) and int64, equal distances by ascending
    row. All rows at the distance of the k-th are returned, so there may be more than k; the caller breaks
    ties by id. Distances are those of `exact_distances`. Cost: one pass of m·d float32 multiply-adds in the
    calling thread, a few of m in float64, and `exact_distances` of the candidates: rows that may be among
    the k by the bounds of `_bounds`.
    """
    assert query.shape == (column.dimensions,) and k > 0, (query.shape, k)
    chosen = None if mask is None else np.flatnonzero(mask[column.rows])
    count = len(column) if chosen is None else len(chosen)
    if count > k:
        candidates = _candidates(column, query, k, metric, chosen)
    else:
        candidates = np.arange(count) if chosen is None else chosen
    distances = np.empty(len(candidates), np.float32)
    for start in range(0, len(candidates), GATHER_ROWS):
        part = candidates[start : start + GATHER_ROWS]
        distances[start : start + len(part)] = exact_distances(
            column.matrix[part], column.norms[part], query, metric
        )
    order = np.lexsort((candidates, -distances if metric is Metric.DOT else distances))
    distances, candidates = distances[order], candidates[order]
    if len(order) > k:
        last = distances[k - 1]
        within = distances >= last if metric is Metric.DOT else distances <= last
        distances, candidates = distances[within], candidates[within]
    return distances, column.rows[candidates]


def _candidates(
    column: VectorColumn, query: npt.NDArray[np.float32], k: int, metric: Metric, chosen: Rows | None
) -> Rows:
    """Positions in the column that hold every row of the answer. chosen: positions to search; None: all."""
    low, high = _bounds(column, query, metric, chosen)
    with np.errstate(over="ignore"):
        limit = np.partition(high, k - 1)[k - 1].astype(np.float32)
        found = np.flatnonzero(low.astype(np.float32) <= limit)
    return found if chosen is None else chosen[found]


def _products(matrix: Matrix, query: npt.NDArray[np.float32], chosen: Rows | None) -> npt.NDArray[np.float32]:
    """(n,) float32 inner products with the chosen rows.

    numpy.vecdot calls BLAS once per row, too short (up to 10,000 dimensions) for OpenBLAS to start threads,
    and is as fast as memory: a query takes one core and leaves the others to other queries. A matrix-vector
    product would wake every core to wait for the same memory.
    """
    if chosen is None:
        products: npt.NDArray[np.float32] = np.vecdot(matrix, query)
        return products
    if 4 * len(chosen) > len(matrix):
        return _products(matrix, query, None)[chosen]
    # few rows: gathering them moves less memory than reading all
    products = np.empty(len(chosen), np.float32)
    for start in range(0, len(chosen), GATHER_ROWS):
        part = slice(start, start + GATHER_ROWS)
        np.vecdot(matrix[chosen[part]], query, out=products[part])
    return products


def _bounds(
    column: VectorColumn, query: npt.NDArray[np.float32], metric: Metric, chosen: Rows | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Two bounds around what `exact_distances` rounds to float32 (negated for dot): (n,) float64 each.

    A float32 inner product of d terms errs by at most g·|a||b|, g = d·u / (1 - d·u), u = 2^-24, in any
    order of summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1), plus what
    underflow takes: at most three smallest normal numbers a term, divided by `scale`. Four more terms in g
    cover the float64 roundings of products and cosines; those of squared norms and squared differences stay
    below 2^-46 of |a|² + |b|² for any dimension allowed.
    """
    norms = column.norms if chosen is None else column.norms[chosen]
    wide = query.astype(np.float64)
    norm = float(_norms(wide[None, :])[0])
    # a power of two that keeps every partial sum below the largest float32
    scale = 2.0 ** (-8 - math.frexp(norm)[1])
    products = _products(column.matrix, (wide * scale).astype(np.float32), chosen).astype(np.float64) / scale
    terms = (column.dimensions + 4) * _ROUND
    lengths = norms * norm
    error = lengths * (terms / (1.0 - terms))
    error += 3 * column.dimensions * _SMALLEST / scale
    if metric is Metric.L2:
        squares = norms * norms + norm * norm
        middle = squares - 2.0 * products
        error = 2.0 * error + squares * 2.0**-46
    elif metric is Metric.DOT:
        middle = -products
    else:
        nonzero = lengths > 0
        middle = 1.0 - np.divide(products, lengths, out=np.zeros_like(products), where=nonzero)
        with np.errstate(over="ignore"):
            error = np.divide(error, lengths, out=np.zeros_like(error), where=nonzero)
    return middle - error, middle + error
