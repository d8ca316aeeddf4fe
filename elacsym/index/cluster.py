"""Coarse clusters of vectors: the order of rows in a segment, each cluster one run of rows."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Self

import faiss
import numpy as np
import numpy.typing as npt

from elacsym.index.distance import Matrix
from elacsym.index.space import BLOCK_ROWS, Points, Space
from elacsym.types import Metric

ROWS_MIN = 1_024  # below, one scan is as cheap as looking for clusters
ROWS_PER_CLUSTER = 448  # a few blocks of codes, and centroids that stay small beside the codes
SAMPLE_PER_CLUSTER = 64
ITERATIONS = 8

Ints = npt.NDArray[np.int64]

_thread = threading.local()


def keep_to_one_thread() -> None:
    """Have faiss use the calling thread alone: parallelism comes from queries and jobs beside each other."""
    if not getattr(_thread, "is_single", False):
        faiss.omp_set_num_threads(1)
        _thread.is_single = True


@dataclass(frozen=True, slots=True)
class Clustering:
    """Rows grouped by cluster.

    order: (n,) int64 row numbers, ascending inside a cluster. offsets: (L + 1,) int64, cluster c is
    order[offsets[c]:offsets[c + 1]], never empty. centroids: (L, width) float32, points of `space`.
    """

    order: Ints
    offsets: Ints
    centroids: Points
    space: Space

    def applied(self) -> Self:
        """The clustering of the rows after they were put into `order`."""
        return type(self)(np.arange(len(self.order)), self.offsets, self.centroids, self.space)


def cluster(matrix: Matrix, metric: Metric) -> Clustering:
    """Cluster rows by k-means in the `Space` of the metric.

    matrix: (n, d), see `Matrix`. Below ROWS_MIN rows there is one cluster, in the order of the rows.
    Deterministic: evenly spaced rows are the sample, the seed is fixed. Cost, in the calling thread: about
    n²·d / ROWS_PER_CLUSTER multiply-adds for the assignment, about as many for the training; memory: a sample
    of n / 7 points.
    """
    keep_to_one_thread()
    space = Space.of(matrix, metric)
    count = len(matrix)
    if count < ROWS_MIN:
        return Clustering(
            np.arange(count), np.array([0, count]), np.zeros((1, space.width), np.float32), space
        )
    clusters = max(2, count // ROWS_PER_CLUSTER)
    kmeans = faiss.Kmeans(
        space.width,
        clusters,
        niter=ITERATIONS,
        seed=1,
        min_points_per_centroid=1,
        max_points_per_centroid=SAMPLE_PER_CLUSTER,
    )
    kmeans.train(sampled(matrix, space, clusters * SAMPLE_PER_CLUSTER))
    labels = np.empty(count, np.int64)
    for start in range(0, count, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        labels[part] = kmeans.assign(space.points(matrix[part]))[1]
    centroids: Points = np.asarray(kmeans.centroids)
    sizes = np.bincount(labels, minlength=clusters)
    used = np.flatnonzero(sizes)
    offsets = np.concatenate(([0], np.cumsum(sizes[used])))
    return Clustering(np.argsort(labels, kind="stable"), offsets, centroids[used], space)


def sampled(matrix: Matrix, space: Space, count: int) -> Points:
    """(at most count, width) float32: evenly spaced rows as points."""
    return space.points(matrix[spaced(len(matrix), count)])


def spaced(rows: int, count: int) -> Ints:
    """At most `count` evenly spaced row numbers."""
    return np.linspace(0, rows - 1, min(rows, count)).astype(np.int64)
