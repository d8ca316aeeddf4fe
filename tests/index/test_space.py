import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.index.space import Space
from elacsym.types import Metric
from tests.index.vector_sets import clustered, keys


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(Metric),
    st.sampled_from([1, 3, 40, 130]),
    st.sampled_from(["f4", "f2", "i1"]),
    st.sampled_from([1e-41, 1e-15, 1.0, 1e15, 1e36]),
    st.sampled_from([1e-30, 1.0, 1e30]),
    st.integers(0, 2**32),
)
def test_squared_distances_of_points_stand_for_the_distances_of_the_metric(
    metric, d, dtype, scale, size, seed
):
    matrix = clustered(50, d, seed, np.dtype(dtype))
    if dtype == "f4":
        matrix = (matrix.astype(float) * scale).astype(np.float32)
    matrix[:3] = 0
    if metric is Metric.L2:
        size = scale if dtype == "f4" else 1.0
    query = (clustered(1, d, seed + 1)[0].astype(float) * size).astype(np.float32)
    if seed % 10 == 0:
        query[:] = 0
    space = Space.of(matrix, metric)
    points, target = space.points(matrix), space.targets(query[None])
    assert points.shape == (50, space.width) and target.points.shape == (1, space.width)
    assert space.width % space.step == 0 and np.isfinite(points).all() and np.isfinite(target.points).all()
    squares = ((points - target.points).astype(float) ** 2).sum(1).astype(np.float32)
    true = keys(matrix, query, metric).astype(float)
    found = target.keys(squares[None])[0].astype(float)
    if metric is Metric.COSINE and not query.any():
        assert len(set(np.round(found[3:], 3).tolist())) == 1
        return
    size_of = np.abs(true[np.isfinite(true)]).max(initial=1e-30)
    fits = np.isfinite(true) & np.isfinite(found)
    lengths = np.linalg.norm(matrix.astype(float), axis=1)
    if metric is Metric.DOT:
        size_of = max(size_of, lengths.max() * float(np.linalg.norm(query.astype(float))))
    tolerance = 1e-3 if scale != 1e-41 else 0.1  # a component of that size has few bits left
    assert np.abs(found[fits] - true[fits]).max(initial=0.0) <= tolerance * size_of


@pytest.mark.parametrize(("d", "width"), [(1, 1), (31, 31), (33, 34), (127, 128), (130, 132)])
def test_points_are_padded_to_whole_parts(d, width):
    assert Space.of(np.ones((4, d), np.float32), Metric.COSINE).width == width
    assert Space.of(np.zeros((4, d), np.float32), Metric.L2).width == width


def test_a_query_far_out_of_range_keeps_its_direction():
    matrix = clustered(20, 4)
    point = Space.of(matrix, Metric.L2).targets(np.array([[3e38, 0, -3e38, 0]], np.float32)).points[0]
    assert np.isfinite(np.vecdot(point, point)) and point[0] == -point[2] > 0 and point[1] == 0
