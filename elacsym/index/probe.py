"""Which lists of an index a query has to look at.

A query looks at every list whose centroid's squared distance exceeds that of the nearest by no more than a
*spread*: what held the lists of nearly all true neighbours for the index's own rows, with a margin. Of the
rules measured (a share of the lists; the k-th distance against |q - c| less radius, or the second rule below;
ratios of distances) this one read the fewest rows at equal recall on embeddings and on images, and needs no
second pass. A filter that lets a share s of the rows pass makes the k-th match about the (k / s)-th neighbour
of all, so spreads are kept for several ranks and taken between these by the logarithm of the rank.

Where a filter lets less pass around the query than elsewhere, such as one class of rows for a query of
another, ranks tell nothing, and the k-th match is further away than a row of that rank usually is. Then its
estimate decides in a second pass: a row at distance r from a centroid, seen from q at distance D under an
angle of cosine t, is at D² + r² - 2·t·D·r. A list with the root mean square radius ρ is looked at if
D² + ρ² - α·D·ρ does not exceed the k-th estimate, where α is what nearly all neighbours of the index's own
rows needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from elacsym.index.space import Points
from elacsym.index.vector import Effort

RANKS = (10, 100, 1_000)
LISTS_ALL = 12  # so few are looked at together: choosing costs as much
SHARE_ALL = 0.8  # as it does where nearly all lists would be looked at
HELD = 0.99  # share of neighbours whose lists a rule has to reach
SETTLED = 0.995  # share of neighbours whose estimates the blur has to cover
MARGIN, BLUR_MARGIN = 1.15, 1.3
USUAL = 0.9  # share of the index's own rows whose distances count as usual
FEW_POINTS = 64  # as many as are queries that are answered together
REACH_NUMBERS = 3 + 3 * len(RANKS)
_LOG_RANKS = [math.log(rank) for rank in RANKS]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far lists have to be looked at, and candidates.

    spreads: (len(RANKS),) float64, squared distances beyond the nearest centroid's. heights: (len(RANKS),)
    float64, how far beyond it the row of a rank itself usually is. shares: (len(RANKS),) float64, the share
    of the lists that spreads make own rows look at. alpha: of the second rule. far: a distance to the nearest
    centroid that hardly any own row exceeds; from further away differences of squares grow with the distance.
    blur: how far beyond the k-th estimate those of nearly all of the k nearest are, see `slack`.
    """

    far: float
    alpha: float
    blur: float
    spreads: npt.NDArray[np.float64]
    heights: npt.NDArray[np.float64]
    shares: npt.NDArray[np.float64]

    @classmethod
    def of_array(cls, numbers: npt.NDArray[np.float64]) -> Self:
        """The inverse of `array`."""
        return cls(*numbers[:3].tolist(), *np.split(numbers[3:], 3))

    def array(self) -> npt.NDArray[np.float64]:
        """(REACH_NUMBERS,) float64."""
        numbers = [self.far, self.alpha, self.blur]
        return np.array([*numbers, *self.spreads, *self.heights, *self.shares])

    @classmethod
    def unlimited(cls, blur: float) -> Self:
        """Looks at all lists."""
        infinite, ones = np.full(len(RANKS), np.inf), np.ones(len(RANKS))
        return cls(np.inf, np.inf, blur, infinite, infinite, ones)

    @classmethod
    def fitted(cls, squares: Floats, radii: Floats, neighbours: Ints, estimates: Floats, blur: float) -> Self:
        """Fit to sample queries. squares: (s, L) squared distances to the centroids; radii: (L,).
        neighbours: (s, n) the lists of the nearest rows, nearest first, -1 where there is none; estimates:
        (s, n) their squared distances, infinite where there is none."""
        nearest = squares.min(axis=1, keepdims=True)
        lists = np.maximum(neighbours, 0)
        theirs, is_there = np.take_along_axis(squares, lists, 1), neighbours >= 0
        excess = theirs - nearest
        spreads = [MARGIN * float(np.quantile(excess[:, :rank][is_there[:, :rank]], HELD)) for rank in RANKS]
        lasts = [estimates[:, min(rank, estimates.shape[1]) - 1] - nearest[:, 0] for rank in RANKS]
        heights = [float(np.quantile(last, USUAL, method="lower")) for last in lasts]
        k = RANKS[0]
        reaching = theirs[:, :k] + radii[lists[:, :k]] ** 2 - estimates[:, k - 1 : k]
        lever = np.sqrt(np.maximum(theirs[:, :k], 0.0)) * radii[lists[:, :k]]
        used = is_there[:, :k] & (lever > 0) & np.isfinite(reaching)
        alpha = MARGIN * float(np.quantile(reaching[used] / lever[used], HELD)) if used.any() else np.inf
        far = 2.0 * float(np.sqrt(max(0.0, np.quantile(nearest, USUAL))))
        spreads = np.maximum.accumulate(np.array(spreads)).tolist()
        shares = [float((squares - nearest <= spread).mean()) for spread in spreads]
        return cls(far, alpha, blur, np.array(spreads), np.array(heights), np.array(shares))

    def slack(self, kth: Floats) -> npt.NDArray[np.float64]:
        """(B,) how far beyond `kth`, (B,) the estimated squared distances of k-th candidates, the estimate of
        one of the k nearest may be: errors of codes grow with the distance."""
        root = np.sqrt(np.maximum(kth, 0.0), dtype=np.float64)
        # a blur may be infinite
        return np.multiply(self.blur, root, out=np.zeros(len(root)), where=root > 0.0)

    def share(self, rank: float) -> float:
        """About the share of the lists that the `rank` nearest rows take."""
        return min(1.0, _at(rank, self.shares))

    def height(self, rank: float) -> float:
        """How far beyond the nearest centroid the row of a rank usually is, in squared distances."""
        return _at(rank, self.heights)

    def spread(self, nearest: Floats, rank: float) -> npt.NDArray[np.floating[Any]]:
        """(B,) how far beyond `nearest`, (B,) the squared distances of the nearest lists, the lists of the
        `rank` nearest rows may be."""
        usual = _at(rank, self.spreads)
        return usual * np.maximum(1.0, np.sqrt(nearest) / self.far if self.far else 1.0)


def blur_of(found: Iterable[tuple[Floats, Floats]], k: int = RANKS[0]) -> float:
    """`Reach.blur` for sample queries: for each the (c,) estimated squared distances of the best candidates,
    ascending, and their true ones. Infinite where nothing tells."""
    beyond = [np.empty(0, np.float32)]
    for estimates, squares in found:
        if len(estimates) >= k and estimates[k - 1] > 0:
            nearest = estimates[squares <= np.partition(squares, k - 1)[k - 1]]
            beyond.append((nearest - estimates[k - 1]) / np.sqrt(estimates[k - 1]))
    needed = np.concatenate(beyond)
    return BLUR_MARGIN * max(0.0, float(np.quantile(needed, SETTLED))) if len(needed) else math.inf


def _at(rank: float, values: npt.NDArray[np.float64]) -> float:
    """The value for a rank between and beyond RANKS, linear in the logarithm of the rank."""
    if rank <= RANKS[0]:
        return float(values[0])
    log, i = math.log(rank), 1
    while i < len(RANKS) - 1 and rank > RANKS[i]:
        i += 1
    low, high = float(values[i - 1]), float(values[i])
    if low == high:  # both may be infinite
        return low
    return low + (high - low) * (log - _LOG_RANKS[i - 1]) / (_LOG_RANKS[i] - _LOG_RANKS[i - 1])


class Others(NamedTuple):
    """Lists with matching rows beyond those that B queries look at first. lists: (n,), those looked at first
    among them; is_other: (B, n) which are not; squares: (B, n) their squared distances. usual: (B,) the
    squared distances of the k-th matches up to which they need no look."""

    lists: Ints
    is_other: npt.NDArray[np.bool_]
    squares: Floats
    usual: Floats


class Choice(NamedTuple):
    """What B queries look at. lists: (B, m) to look at first, nearest first, -1 after the last. others: what
    may be worth a second look, if anything."""

    lists: Ints
    others: Others | None


class Lists:
    """The lists of an index. centroids: (L, width) float32. radii: (L,) float32 root mean square distances of
    their rows. sizes: (L,) int64 rows, none 0."""

    def __init__(self, centroids: Points, radii: Floats, sizes: Ints, reach: Reach) -> None:
        self.all, self.sizes = np.arange(len(sizes)), sizes
        self._rows = int(sizes.sum())
        self._centroids, self._radii, self.reach = centroids, radii, reach
        self._squares = np.vecdot(centroids, centroids)

    def expected(self, rank: float) -> float:
        """About how many rows are looked at for the `rank` nearest."""
        return self._rows * self.reach.share(rank)

    def chosen(
        self, points: Points, wanted: int, effort: Effort, counts: Ints | None = None, matches: int = 0
    ) -> Choice:
        """The lists that queries at these points, (B, width), look at first; for each they hold at least
        `wanted` matching rows.

        counts: (L,) matching rows of each list; None: all rows match. matches: their sum, ≥ wanted.
        """
        lists = self.all if counts is None else np.flatnonzero(counts)
        if len(self.all) <= LISTS_ALL:
            return Choice(np.tile(lists, (len(points), 1)), None)
        squares = squared_distances(self._centroids, self._squares, points)
        if counts is None:
            order, taken = self._within(squares, self.sizes, wanted, effort, float(effort.k))
            return Choice(_padded(order, taken), None)
        rank = effort.k * self._rows / matches
        theirs = squares[:, lists]
        order, taken = self._within(theirs, counts[lists], wanted, effort, rank)
        is_other = np.empty(order.shape, np.bool_)
        np.put_along_axis(is_other, order, np.arange(len(lists)) >= taken[:, None], 1)
        usual = np.maximum(squares.min(1), 0.0) + self.reach.height(rank)
        return Choice(_padded(lists[order], taken), Others(lists, is_other, theirs, usual))

    def further(self, choice: Choice, kth: Floats, effort: Effort) -> Ints | None:
        """(B, m) those of the other lists that may hold a row nearer than `kth`, (B,) the squared distances
        of the k-th matches so far; -1 after the last. None: no query has any."""
        others = choice.others
        if others is None:
            return None
        is_far = kth > others.usual
        if not is_far.any():
            return None
        radii = self._radii[others.lists]
        lever = (self.reach.alpha * effort.scale) * np.sqrt(np.maximum(others.squares, 0.0)) * radii
        is_near = others.squares + radii * radii - lever <= kth[:, None]
        is_near &= others.is_other & is_far[:, None]
        taken = is_near.sum(1)
        return (
            _padded(others.lists[np.argsort(~is_near, axis=1, kind="stable")], taken) if taken.any() else None
        )

    def looked_at(self, lists: Ints) -> tuple[int, int]:
        """How many lists these are, (m,), and the rows they hold; -1 is no list."""
        lists = lists[lists >= 0]
        return len(lists), int(self.sizes[lists].sum())

    def _within(
        self, squares: Floats, counts: Ints, wanted: int, effort: Effort, rank: float
    ) -> tuple[Ints, Ints]:
        """(B, n) the lists by distance, and (B,) how many of them spread and `wanted` ask for."""
        nearest = np.maximum(squares.min(1), 0.0)
        limit = nearest + effort.scale * self.reach.spread(nearest, rank)
        found = np.count_nonzero(squares <= limit[:, None], axis=1)
        order = squares.argsort(1)
        enough = np.count_nonzero(counts[order].cumsum(1) < wanted, axis=1) + 1
        taken = np.maximum(np.maximum(found, effort.lists_min), enough)
        taken[found > SHARE_ALL * len(counts)] = len(counts)
        return order, np.minimum(taken, len(counts))


def _padded(lists: Ints, taken: Ints) -> Ints:
    """(B, m) the first taken[b] of row b, -1 after them."""
    most = int(taken.max())
    if int(taken.min()) == most:
        return np.ascontiguousarray(lists[:, :most])
    padded: Ints = np.where(np.arange(most) < taken[:, None], lists[:, :most], -1)
    return padded


def squared_distances(centroids: Points, squares: Floats, points: Points) -> Floats:
    """(n, L) float32 squared distances of points (n, width) to centroids of known squared lengths. Cost: a
    call of BLAS a pair where points are few: a product of matrices would wake every core."""
    found: Floats
    are_few = len(points) <= FEW_POINTS
    found = np.vecdot(centroids, points[:, None, :]) if are_few else points @ centroids.T
    found *= -2.0
    found += squares
    found += np.vecdot(points, points)[:, None]
    return found
