"""Exact nearest neighbours in float64 and how answers compare with them; nothing of the code it judges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

# answers carry float32 distances: what is closer than this cannot be told apart
_TIE = 1e-6
_CHUNK = 50_000


class Distances:
    """Distances of all rows of (n, d) to a query: squared Euclidean, or 1 - cosine."""

    def __init__(self, base: npt.NDArray[np.float32], *, cosine: bool) -> None:
        self._base, self._cosine = np.asarray(base, np.float64), cosine
        if cosine:
            self._base = self._base / np.linalg.norm(self._base, axis=1, keepdims=True)
        self._squares = np.einsum("ij,ij->i", self._base, self._base)

    def to(self, query: npt.NDArray[np.float32]) -> Doubles:
        """(n,) float64."""
        q = np.asarray(query, np.float64)
        if self._cosine:
            result: Doubles = 1.0 - self._base @ (q / np.linalg.norm(q))
        else:
            result = self._squares - 2 * (self._base @ q) + q @ q
        return result


@dataclass(frozen=True)
class Judged:
    """One answer against the truth.

    right of wanted = min(k, matches) rows are among the nearest; wrong rows do not match or are there twice;
    missing is how many rows the answer is short.
    """

    right: int
    wanted: int
    wrong: int
    missing: int


def judge(distances: Doubles, matches: Bools, rows: Rows, k: int) -> Judged:
    """`rows` as the answer to the nearest k of the rows where (n,) `matches` holds.

    A row is right when its distance is at most the k-th, so ties cannot hurt.
    """
    allowed = distances[matches]
    wanted = min(k, len(allowed))
    unique = np.unique(rows)
    matching = unique[matches[unique]]
    right = 0
    if wanted:
        limit = np.partition(allowed, wanted - 1)[wanted - 1]
        right = int(np.count_nonzero(distances[matching] <= limit + _TIE * max(abs(limit), _TIE)))
    return Judged(min(right, wanted), wanted, len(rows) - len(matching), wanted - len(rows))


def recall(judged: Iterable[Judged]) -> float:
    """The share of wanted rows that were found, over all answers; 1 where none was wanted."""
    pairs = [(j.right, j.wanted) for j in judged]
    return sum(right for right, _ in pairs) / max(1, sum(wanted for _, wanted in pairs))


def nearest_distances(
    base: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], k: int, *, cosine: bool
) -> Doubles:
    """(q, k) float64, ascending: the distances of the k nearest rows; `base` may be a map larger than
    memory."""
    best = np.full((len(queries), k), np.inf)
    for start in range(0, len(base), _CHUNK):
        distances = Distances(base[start : start + _CHUNK], cosine=cosine)
        for number, query in enumerate(queries):
            merged = np.concatenate([best[number], distances.to(query)])
            best[number] = np.partition(merged, k - 1)[:k]
    return np.sort(best, axis=1)


def found_share(limits: Doubles, distances: Iterable[Doubles], k: int) -> float:
    """Recall where the k-th exact distances of the queries, (q,) `limits`, are known.

    distances: of the rows of each answer, no row twice.
    """
    found = sum(
        int(np.count_nonzero(answered <= limit + _TIE * max(abs(limit), _TIE)))
        for limit, answered in zip(limits, distances, strict=True)
    )
    return found / (k * len(limits))
