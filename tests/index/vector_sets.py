"""Generated vectors and the naive search that indexes are compared with."""

from __future__ import annotations

import numpy as np

from elacsym.index.distance import exact_distances, norms_of
from elacsym.types import Metric


def clustered(rows: int, dimensions: int, seed: int = 0, dtype=np.float32) -> np.ndarray:
    """Rows around a few dozen centres, near copies among them; small integers where the type is one."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, dimensions)) * 2
    matrix = centres[rng.integers(0, 30, rows)] + rng.standard_normal((rows, dimensions))
    if np.dtype(dtype).kind == "i":
        matrix = np.clip(matrix * 15, -128, 127).round()
    return matrix.astype(dtype)


def queries(matrix: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """Float32 queries near rows."""
    rng = np.random.default_rng(seed)
    near = matrix[rng.integers(0, len(matrix), count)].astype(np.float32)
    return (near + rng.standard_normal(near.shape) * 0.3 * near.std()).astype(np.float32)


def keys(matrix: np.ndarray, query: np.ndarray, metric: Metric) -> np.ndarray:
    """(n,) float32 exact distances, ascending is better."""
    found = exact_distances(matrix, norms_of(matrix), query, metric)
    return -found if metric is Metric.DOT else found


def true_rows(matrix, rows, query, k, metric, mask=None) -> list[int]:
    """The rows of the k nearest and of all that tie with the last of them, best first, ties by row."""
    found = keys(matrix, query, metric)
    order = np.lexsort((rows, found))
    if mask is not None:
        order = order[mask[rows[order]]]
    if len(order) > k:
        order = order[found[order] <= found[order[k - 1]]]
    return rows[order].tolist()
