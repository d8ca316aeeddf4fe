"""The space in which an index looks for candidates: Euclidean, whatever the metric.

Squared distances here rank rows as the metric does: cosine compares vectors of length 1, and for dot one more
component makes all rows equally long (Bachrach et al., "Speeding up the Xbox recommender system using a
Euclidean transformation for inner-product spaces", 2014): with x' = (x, sqrt(M² - |x|²)) and q' = (q, 0),
|q' - x'|² = |q|² + M² - 2 q·x. Everything here is float32 and approximate; answers come from the vectors
themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from elacsym.index.distance import Matrix, Queries
from elacsym.types import Metric

BLOCK_ROWS = 8_192
_SAFE = 1e12  # squares of components up to here, summed, stay far inside float32
_QUERY_LENGTH_MAX = 1e15

Points = npt.NDArray[np.float32]


class Targets(NamedTuple):
    """B queries in the space. points: (B, width) float32. A squared distance s from point b stands for
    (s + shifts[b]) · factors[b]: l2 the squared distance, cosine 1 - cos, dot the negated product; shifts and
    factors: (B, 1) float64."""

    points: Points
    shifts: npt.NDArray[np.float64]
    factors: npt.NDArray[np.float64]

    def keys(self, squares: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(B, c) float32: what these squared distances stand for; ascending is better."""
        if not self.shifts.any() and self.factors.max() <= 1.0:
            return squares * self.factors.astype(np.float32)
        with np.errstate(over="ignore"):
            return ((squares.astype(np.float64) + self.shifts) * self.factors).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Space:
    """How vectors of `dimensions` components become points. scale: a power of two that keeps squares inside
    float32. bound: the length that one more component gives every row, 0 where there is none; cosine needs
    it for vectors that are zero, to be as far from every query as one at a right angle. typical: the
    length that queries for dot get, whose own length does not matter."""

    metric: Metric
    dimensions: int
    scale: float
    bound: float
    typical: float

    @classmethod
    def of(cls, matrix: Matrix, metric: Metric) -> Self:
        """The space for these rows. Cost: a pass over them unless small integers need none."""
        dimensions = matrix.shape[1]
        scale = 1.0 if metric is Metric.COSINE else _scale(matrix)
        if metric is Metric.L2:
            return cls(metric, dimensions, scale, 0.0, 0.0)
        longest, total, has_zero = 0.0, 0.0, False
        for start in range(0, len(matrix), BLOCK_ROWS):
            block = _floats(matrix[start : start + BLOCK_ROWS])
            if metric is Metric.COSINE:
                has_zero = has_zero or not block.any(axis=1).all()
                continue
            block = block * np.float32(scale)
            squares = np.vecdot(block, block)
            longest, total = max(longest, float(squares.max())), total + float(squares.sum(dtype=np.float64))
        if metric is Metric.COSINE:
            return cls(metric, dimensions, scale, 1.0 if has_zero else 0.0, 0.0)
        return cls(metric, dimensions, scale, math.sqrt(longest), math.sqrt(total / max(1, len(matrix))))

    @property
    def step(self) -> int:
        """Components that are coded together."""
        return 4 if self.dimensions >= 128 else 2 if self.dimensions >= 32 else 1

    @property
    def width(self) -> int:
        """Components of a point: a multiple of `step`."""
        return -(-(self.dimensions + (self.bound > 0)) // self.step) * self.step

    def points(self, matrix: Matrix) -> Points:
        """(n, width) float32: rows as points. A copy."""
        rows = _floats(matrix)
        points = np.zeros((len(rows), self.width), np.float32)
        inner = points[:, : self.dimensions]
        if self.metric is Metric.COSINE:
            _unit(rows, inner)
            if self.bound:
                points[:, self.dimensions] = ~rows.any(axis=1)
            return points
        np.multiply(rows, np.float32(self.scale), out=inner)
        if self.bound:
            left = self.bound**2 - np.vecdot(inner, inner)
            points[:, self.dimensions] = np.sqrt(np.maximum(left, 0.0))
        return points

    def targets(self, queries: Queries) -> Targets:
        """Queries as points. queries: (B, d) float32, finite."""
        wide = queries.astype(np.float64)
        lengths = np.sqrt(np.vecdot(wide, wide))[:, None]
        nothing = np.zeros(lengths.shape)
        if self.metric is Metric.L2:
            # a query so far off that squares leave float32 keeps its direction
            reduced = np.minimum(1.0, _QUERY_LENGTH_MAX / np.maximum(lengths * self.scale, 1.0))
            points = self._padded(wide, self.scale * reduced)
            return Targets(points, nothing, nothing + self.scale**-2)
        wanted = 1.0 if self.metric is Metric.COSINE else self.typical
        stretch = np.divide(wanted, lengths, out=nothing, where=lengths > 0.0)
        points = self._padded(wide, stretch)
        if self.metric is Metric.COSINE:
            return Targets(points, np.zeros(lengths.shape), np.full(lengths.shape, 0.5))
        factors = np.divide(
            0.5, stretch * self.scale, out=np.zeros(lengths.shape), where=stretch * self.scale > 0.0
        )
        return Targets(points, np.where(stretch > 0.0, -(wanted**2 + self.bound**2), 0.0), factors)

    def _padded(self, vectors: npt.NDArray[np.float64], factors: npt.NDArray[np.float64]) -> Points:
        """(B, width) float32: multiples of vectors, zeros after them."""
        if vectors.shape[1] == self.width:
            return (vectors * factors).astype(np.float32)
        points = np.zeros((len(vectors), self.width), np.float32)
        np.multiply(vectors, factors, out=points[:, : vectors.shape[1]], casting="same_kind")
        return points


def _floats(matrix: Matrix) -> npt.NDArray[Any]:
    return matrix.astype(np.float32, copy=False)


def _unit(rows: Points, out: Points) -> None:
    """Rows divided by their lengths; zero rows stay zero."""
    with np.errstate(over="ignore"):
        squares = np.vecdot(rows, rows)
    tame = (squares > 1e-24) & (squares < 1e36)
    np.divide(rows, np.sqrt(squares)[:, None], out=out, where=tame[:, None])
    odd = np.flatnonzero(~tame)
    if len(odd):
        wide = rows[odd].astype(np.float64)
        lengths = np.sqrt(np.vecdot(wide, wide))[:, None]
        out[odd] = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)


def _scale(matrix: Matrix) -> float:
    """A power of two that keeps squared distances inside float32: 1 unless components are huge or tiny."""
    if matrix.dtype != np.float32 or not matrix.size:
        return 1.0
    largest = 0.0
    for start in range(0, len(matrix), BLOCK_ROWS):
        block = matrix[start : start + BLOCK_ROWS]
        largest = max(largest, float(block.max()), -float(block.min()))
    if largest == 0.0 or 1.0 / _SAFE < largest < _SAFE:
        return 1.0
    return 2.0 ** min(126, -math.frexp(largest)[1])
