import numpy as np
import pytest

from elacsym.index.cluster import ROWS_MIN, cluster
from elacsym.types import Metric


def blobs(rows: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Ten far groups in random order, and the group of each row."""
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 10, rows)
    return ((rng.standard_normal((rows, 8)) + 100 * groups[:, None]) * scale).astype(np.float32), groups


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e34])
def test_rows_of_one_cluster_become_neighbours(scale):
    matrix, groups = blobs(9_000, scale)
    found = cluster(matrix, Metric.L2)
    assert sorted(found.order.tolist()) == list(range(9_000))
    for start, stop in zip(found.offsets, found.offsets[1:], strict=False):
        inside = found.order[start:stop]
        assert (np.diff(inside) > 0).all()
        assert len(set(groups[inside].tolist())) == 1


def test_the_order_is_the_same_every_time():
    matrix, _ = blobs(2_000, 1.0)
    assert np.array_equal(cluster(matrix, Metric.L2).order, cluster(matrix.copy(), Metric.L2).order)


def test_few_rows_keep_their_order():
    matrix, _ = blobs(ROWS_MIN - 1, 1.0)
    assert np.array_equal(cluster(matrix, Metric.L2).order, np.arange(ROWS_MIN - 1))


def test_equal_and_zero_vectors_are_ordered_too():
    order = cluster(np.zeros((ROWS_MIN, 3), np.float32), Metric.L2).order
    assert sorted(order.tolist()) == list(range(ROWS_MIN))


@pytest.mark.parametrize("metric", Metric)
def test_lists_tile_the_rows_and_rows_are_near_their_centroid(metric):
    matrix, _ = blobs(3_000, 1.0)
    found = cluster(matrix, metric)
    lists = len(found.centroids)
    assert found.offsets[0] == 0 and found.offsets[-1] == 3_000 and (np.diff(found.offsets) > 0).all()
    assert lists == len(found.offsets) - 1 > 1
    points = found.space.points(matrix)
    squares = ((points[:, None, :] - found.centroids[None]) ** 2).sum(-1)
    own = squares[found.order, np.repeat(np.arange(lists), np.diff(found.offsets))]
    assert np.allclose(own, squares[found.order].min(1), rtol=1e-3, atol=1e-5)


def test_rows_in_the_order_of_their_clustering_need_no_second_one():
    matrix, _ = blobs(2_000, 1.0)
    found = cluster(matrix, Metric.COSINE)
    again = found.applied()
    assert np.array_equal(again.order, np.arange(2_000))
    assert again.offsets is found.offsets and again.centroids is found.centroids
