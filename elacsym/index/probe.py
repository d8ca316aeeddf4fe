"""Which lists of an index a query has to look at.

A query looks at every list whose centroid's squared distance exceeds that of the nearest by no more than a
*spread*: what held the lists of nearly all true neighbours for the index's own rows, with a margin. Of the
rules measured (a share of the lists; the k-th distance against |q - c| less radius, or less α times it;
ratios of distances) this one read the fewest rows at equal recall on embeddings and on images, and needs no
second pass. Questions that are far from all rows look at more lists by themselves, since their distances
differ less.

A filter that lets a share s of the rows pass makes the k-th match about the (k / s)-th neighbour of all, so
spreads are kept for several ranks and taken between these by the logarithm of the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from elacsym.index.space import Points
from elacsym.index.vector import Effort

RANKS = (10, 100, 1_000)
LISTS_ALL = 12  # so few are looked at together: choosing costs as much
SHARE_ALL = 0.8  # as it does where nearly all rows would be looked at
HELD = 0.99  # share of neighbours whose lists a spread reaches
MARGIN = 1.15
_LOG_RANKS = np.log(RANKS)

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far lists have to be looked at. spreads: (len(RANKS),) float64, squared distances beyond the
    nearest centroid's. usual: a distance to the nearest centroid that few of the index's own rows exceed.
    """

    usual: float
    spreads: npt.NDArray[np.float64]

    @classmethod
    def fitted(cls, squares: Floats, neighbours: Ints) -> Self:
        """Fit to sample queries. squares: (s, L) squared distances to the centroids. neighbours: (s, n) the
        lists of the nearest rows, nearest first, -1 where there is none."""
        nearest = squares.min(axis=1, keepdims=True)
        excess = np.take_along_axis(squares, np.maximum(neighbours, 0), 1) - nearest
        spreads = [
            MARGIN * float(np.quantile(excess[:, :rank][neighbours[:, :rank] >= 0], HELD)) for rank in RANKS
        ]
        usual = 2.0 * float(np.sqrt(np.quantile(nearest, 0.9)))
        return cls(usual, np.maximum.accumulate(np.array(spreads)))

    def limit(self, nearest: float, rank: float) -> float:
        """The largest squared distance of a list that may hold one of the `rank` nearest rows. nearest: that
        of the nearest list. Far from all rows differences of squares grow with the distance."""
        spread = float(np.interp(np.log(max(rank, 1.0)), _LOG_RANKS, self.spreads))
        if rank > RANKS[-1]:
            slope = max(self.spreads[-1] - self.spreads[-2], 0.1 * self.spreads[-1])
            spread += slope * float(np.log10(rank / RANKS[-1]))
        return nearest + spread * max(1.0, nearest**0.5 / self.usual if self.usual else 1.0)


class Lists:
    """The lists of an index. centroids: (L, width) float32. sizes: (L,) int64 rows, none 0."""

    def __init__(self, centroids: Points, sizes: Ints, reach: Reach) -> None:
        self.all = np.arange(len(sizes))
        self._centroids, self._sizes, self._reach = centroids, sizes, reach
        self._squares = np.vecdot(centroids, centroids)

    def squares(self, point: Points) -> Floats:
        """(L,) float32: the squared distance of each centroid."""
        return squared_distances(self._centroids, self._squares, point)

    def chosen(self, point: Points, wanted: int, effort: Effort, counts: Ints | None, matches: int) -> Ints:
        """List numbers to look at, nearest first. They hold at least `wanted` matching rows.

        counts: (L,) matching rows of each list; None: all rows match. matches: their sum, ≥ wanted.
        """
        if len(self.all) <= LISTS_ALL:
            return self.all if counts is None else self.all[counts > 0]
        squares = self.squares(point)
        if counts is None:
            counts, lists = self._sizes, self.all
        else:
            lists = np.flatnonzero(counts)
            squares, counts = squares[lists], counts[lists]
        rows = int(self._sizes.sum()) if len(lists) == len(self.all) else int(self._sizes[lists].sum())
        nearest = max(0.0, float(squares.min()))
        rank = effort.k * rows / matches
        limit = nearest + effort.scale * (self._reach.limit(nearest, rank) - nearest)
        found = int(np.count_nonzero(squares <= limit))
        if found > SHARE_ALL * len(lists):
            return lists
        order = np.argsort(squares)
        enough = int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1
        return lists[order[: max(found, enough, effort.lists_min)]]


def squared_distances(centroids: Points, squares: Floats, points: Points) -> Floats:
    """(…, L) float32 squared distances of points (…, width) to centroids of known squared lengths."""
    found: Floats
    if points.ndim == 1:
        found = squares - 2.0 * np.vecdot(centroids, points) + np.vecdot(points, points)
        return found
    found = squares - 2.0 * (points @ centroids.T) + np.vecdot(points, points)[:, None]
    return found
