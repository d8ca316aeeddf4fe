"""What a part's vectors of one attribute give to queries, and the vectors in memory: exact, without an index.

`elacsym.index.ivf` has the vectors in a file. Everything is steps (`elacsym.format.reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps, done
from elacsym.index.distance import (
    Distances,
    Matrix,
    Norms,
    Queries,
    Query,
    Rows,
    best_first,
    nearest,
    norms_of,
)
from elacsym.types import Metric

# what a scan takes in any case, for each row beside its bytes, and for a byte read in a row or scattered
SCAN_US, ROW_US, STREAMED_BYTE_US, GATHERED_BYTE_US = 90.0, 0.01, 7.5e-5, 1.8e-4

Mask = npt.NDArray[np.bool_]


class Effort(NamedTuple):
    """How hard to look for candidates. k: how many of the nearest rows have to be among them.

    scale: how far to look for further lists, and to re-rank further candidates, in units of what the index's
    own rows needed; above 1 is more.
    lists_min: how many lists to look at in any case.
    """

    k: int = 10
    scale: float = 1.0
    lists_min: int = 4


class Candidates(NamedTuple):
    """Vectors that may be among the nearest to each of B queries, best first.

    positions: (B, c) int64. keys: (B, c) float32 estimates, ascending is better for every metric and
    comparable across parts: l2 the squared distance, cosine 1 - cos, dot the negated product. slack: (B,)
    how far beyond the k-th key the key of one of the k nearest may be. looked_at: for the number of a query,
    how many lists and codes were looked at.
    """

    positions: npt.NDArray[np.int64]
    keys: npt.NDArray[np.float32]
    slack: npt.NDArray[np.float64]
    looked_at: Callable[[int], tuple[int, int]]

    @classmethod
    def none(cls, queries: int) -> Self:
        """No candidates for so many queries."""
        shape = (queries, 0)
        positions, keys = np.empty(shape, np.int64), np.empty(shape, np.float32)
        return cls(positions, keys, np.zeros(queries), lambda _: (0, 0))


class Vectors(Protocol):
    """The vectors of an attribute in one part; safe in any thread.

    A *position* numbers the vectors from 0, a row those of the part; rows without a vector have no position.
    dimensions: components. rows_total: rows of the part. has_codes: whether `propose` may be called.
    """

    @property
    def dimensions(self) -> int: ...  # noqa: D102 - see the class

    @property
    def rows_total(self) -> int: ...  # noqa: D102 - see the class

    @property
    def has_codes(self) -> bool: ...  # noqa: D102 - see the class

    def __len__(self) -> int:
        """Vectors."""
        ...

    def scan(self, query: Query, k: int, metric: Metric, mask: Mask | None) -> Steps[tuple[Distances, Rows]]:
        """The k nearest rows, exactly.

        query: (d,) float32, finite. mask: (rows_total,) bool, which rows may be found; None: all.
        Returns `(distances, rows)`: float32 ascending (dot: descending) and int64, equal distances by
        ascending row. All rows at the distance of the k-th are returned, so there may be more than k; the
        caller breaks ties by id. Distances are those of `exact_distances`. Cost: see `nearest`; few matching
        rows are gathered, and only their bytes wanted.
        """
        ...

    def propose(
        self, queries: Queries, depth: int, metric: Metric, mask: Mask | None, effort: Effort
    ) -> Steps[Candidates]:
        """min(depth, matching vectors) candidates for each query by their codes; nothing of the vectors is
        read.

        mask: as for `scan`; what is computed from a read-only mask is remembered for as long as it lives.
        """
        ...

    def rerank(
        self, positions: Rows, counts: Sequence[int], queries: Queries, k: int, metric: Metric
    ) -> Steps[list[tuple[Distances, Rows]]]:
        """For each query the k nearest of the vectors at its own positions, counts[b] after those of the
        queries before it, and all that tie with the last of them, in any order: `exact_distances` (float32)
        and rows (int64)."""
        ...

    def rows_at(self, positions: Rows) -> Steps[Rows]:
        """(c,) int64: the rows of these positions."""
        ...

    def select(self, rows: Rows) -> Steps[tuple[Matrix, Mask]]:
        """The vectors of these rows, (n, d), zeros where there is none, and whether there is one, (n,)."""
        ...

    def whole(self) -> Steps[VectorColumn]:
        """All vectors by row."""
        ...

    def scan_cost_us(self, matches: int) -> float:
        """About how long `scan` takes for so many matching rows whose bytes are at hand."""
        ...

    def propose_cost_us(self, share: float) -> float:
        """About how long `propose` and `rerank` of its candidates take where `share` of the rows match."""
        ...


class VectorColumn:
    """The vectors of those rows that have one, in memory; immutable. Position is rank among these rows.

    matrix: (m, d) of any stored type, see `Matrix`. rows: (m,) int64 ascending, the row of each vector.
    norms: (m,) float64 Euclidean norms. rows_total: how many rows the part has.
    """

    has_codes = False

    def __init__(
        self, matrix: Matrix, rows: Rows | None, rows_total: int, norms: Norms | None = None
    ) -> None:
        assert matrix.ndim == 2 and matrix.dtype in (np.float32, np.float16, np.int8), matrix.dtype
        assert len(matrix) == (rows_total if rows is None else len(rows)), (matrix.shape, rows_total)
        self.matrix, self.rows_total = matrix, rows_total
        self._rows, self._norms = rows, norms

    @classmethod
    def of(cls, matrix: Matrix, rows: Rows | None, rows_total: int) -> Self:
        """The column of a matrix; `rows` may be None when every row has a vector."""
        full = rows is None or len(rows) == rows_total
        return cls(np.ascontiguousarray(matrix), None if full else rows, rows_total)

    @classmethod
    def empty(cls, dimensions: int, rows_total: int, dtype: npt.DTypeLike = np.float32) -> Self:
        """A column where no row has a vector."""
        return cls(np.empty((0, dimensions), dtype), np.empty(0, np.int64), rows_total)

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
    def norms(self) -> Norms:
        """(m,) float64: the Euclidean norm of each vector."""
        return norms_of(self.matrix) if self._norms is None else self._norms

    @property
    def known_norms(self) -> Norms | None:
        """`norms`, if they need not be computed."""
        known: Norms | None = vars(self).get("norms", self._norms)
        return known

    def scan(self, query: Query, k: int, metric: Metric, mask: Mask | None) -> Steps[tuple[Distances, Rows]]:
        """See Vectors."""
        return done(top_k(self, query, k, metric, mask))

    def propose(
        self,
        queries: Queries,  # noqa: ARG002 - see Vectors
        depth: int,  # noqa: ARG002
        metric: Metric,  # noqa: ARG002
        mask: Mask | None,  # noqa: ARG002
        effort: Effort,  # noqa: ARG002
    ) -> Steps[Candidates]:
        """There are no codes."""
        raise AssertionError("a column in memory is scanned")

    def rerank(
        self,
        positions: Rows,  # noqa: ARG002 - see Vectors
        counts: Sequence[int],  # noqa: ARG002
        queries: Queries,  # noqa: ARG002
        k: int,  # noqa: ARG002
        metric: Metric,  # noqa: ARG002
    ) -> Steps[list[tuple[Distances, Rows]]]:
        """There are no codes that could propose anything."""
        raise AssertionError("a column in memory is scanned")

    def rows_at(self, positions: Rows) -> Steps[Rows]:
        """See Vectors."""
        return done(self.rows[positions])

    def select(self, rows: Rows) -> Steps[tuple[Matrix, Mask]]:
        """See Vectors."""
        places = np.searchsorted(self.rows, rows)
        present = places < len(self)
        present[present] = self.rows[places[present]] == rows[present]
        matrix = np.zeros((len(rows), self.dimensions), self.matrix.dtype)
        matrix[present] = self.matrix[places[present]]
        return done((matrix, present))

    def whole(self) -> Steps[VectorColumn]:
        """See Vectors."""
        return done(self)

    def scan_cost_us(self, matches: int) -> float:
        """See Vectors."""
        return scan_cost_us(self.matrix, matches)

    def propose_cost_us(self, share: float) -> float:  # noqa: ARG002 - see Vectors
        """There are no codes."""
        return float("inf")

    @classmethod
    def merge(cls, columns: Sequence[VectorColumn], row_maps: Sequence[Rows], rows_total: int) -> Self:
        """One column over `rows_total` rows: row r of columns[i] becomes row row_maps[i][r], or goes (-1).

        columns: at least one, all of the same dimensions and type. Cost: one copy of the vectors kept.
        """
        places = [row_map[column.rows] for column, row_map in zip(columns, row_maps, strict=True)]
        rows = np.sort(np.concatenate([place[place >= 0] for place in places]))
        matrix = np.empty((len(rows), columns[0].dimensions), columns[0].matrix.dtype)
        norms = np.empty(len(rows))
        for column, place in zip(columns, places, strict=True):
            kept = np.flatnonzero(place >= 0)
            into = np.searchsorted(rows, place[kept])
            matrix[into] = column.matrix[kept]
            norms[into] = column.norms[kept]
        return cls(matrix, None if len(rows) == rows_total else rows, rows_total, norms)


def top_k(
    column: VectorColumn, query: Query, k: int, metric: Metric, mask: Mask | None = None
) -> tuple[Distances, Rows]:
    """`Vectors.scan` of a column in memory."""
    chosen = None if mask is None else np.flatnonzero(mask[column.rows])
    distances, positions = nearest(column.matrix, column.norms, query, k, metric, chosen)
    return best_first(distances, column.rows[positions], metric)


def scan_cost_us(matrix: Matrix, matches: int) -> float:
    """About how long the exact nearest of so many chosen rows take; measured on one core of a Xeon."""
    row_bytes = int(matrix.shape[1]) * matrix.dtype.itemsize
    if 4 * matches > len(matrix):
        return SCAN_US + len(matrix) * (ROW_US + row_bytes * STREAMED_BYTE_US)
    return SCAN_US + matches * (ROW_US + row_bytes * GATHERED_BYTE_US)
