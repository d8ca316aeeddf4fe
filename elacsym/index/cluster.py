"""The order of rows in a segment: grouped by coarse clusters of the vectors, each one run of rows."""

from __future__ import annotations

import faiss
import numpy as np
import numpy.typing as npt

ROWS_MIN = 1_024  # below, one scan is as cheap as looking for clusters
ROWS_PER_CLUSTER = 128
CLUSTERS_MAX = 256
SAMPLE_PER_CLUSTER = 64
ITERATIONS = 6
ASSIGN_ROWS = 8_192


def cluster_order(matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """(n,) int64: row numbers, grouped by k-means cluster, ascending inside a cluster.

    matrix: (n, d) float32, finite. Below ROWS_MIN rows the order is that of the rows. Deterministic: evenly
    spaced rows are the sample, the seed is fixed. Cost: about n·d·256 multiply-adds for the assignment,
    plus a training over at most 16,384 rows.
    """
    n, dimensions = matrix.shape
    if n < ROWS_MIN:
        return np.arange(n)
    clusters = min(CLUSTERS_MAX, n // ROWS_PER_CLUSTER)
    sample = matrix[np.linspace(0, n - 1, min(n, clusters * SAMPLE_PER_CLUSTER)).astype(np.int64)]
    scale = _scale(matrix)
    kmeans = faiss.Kmeans(dimensions, clusters, niter=ITERATIONS, seed=1, min_points_per_centroid=1)
    kmeans.train(sample * scale)
    labels = np.empty(n, np.int64)
    for start in range(0, n, ASSIGN_ROWS):
        part = slice(start, start + ASSIGN_ROWS)
        labels[part] = kmeans.assign(matrix[part] * scale)[1]
    return np.argsort(labels, kind="stable")


def _scale(matrix: npt.NDArray[np.float32]) -> np.float32:
    """A factor that keeps squared distances inside float32: 1 unless components are huge or tiny."""
    largest = max(float(matrix.max()), -float(matrix.min()))
    return np.float32(1.0 if largest == 0.0 or 1e-12 < largest < 1e12 else 1.0 / max(largest, 1e-37))
