import numpy as np
import pytest

from elacsym.index.distance import BOUNDED_MIN, nearest, nearest_each, norms_of
from elacsym.types import Metric


@pytest.mark.parametrize("dtype", ["f4", "f2", "i1"])
@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("dimensions", [3, 700])
def test_every_query_gets_the_nearest_of_its_own_rows(metric, dtype, dimensions):
    random = np.random.default_rng(dimensions)
    counts = [90, 0, 4, 90, 11, 10, 1]
    total = sum(counts)
    matrix = (random.integers(-60, 60, (total, dimensions)) / (1 if dtype == "i1" else 8)).astype(dtype)
    matrix[5] = 0
    # rows that tie with the last of the nearest
    matrix[20:40] = matrix[50]
    asked = random.normal(0, 20, (len(counts), dimensions)).astype(np.float32)
    asked[0] = matrix[50]
    asked[3] = 0
    asked[4] *= 1e30
    norms = norms_of(matrix)
    assert dimensions == 3 or total * dimensions > BOUNDED_MIN
    found = nearest_each(matrix, norms, counts, asked, 10, metric)
    start = 0
    for query, count, (distances, positions) in zip(asked, counts, found, strict=True):
        part = slice(start, start + count)
        start += count
        expected, expected_positions = nearest(matrix[part], norms[part], query, 10, metric, None)
        assert sorted(positions.tolist()) == sorted(expected_positions.tolist())
        order, expected_order = np.argsort(positions), np.argsort(expected_positions)
        assert np.array_equal(distances[order], expected[expected_order])


def test_no_rows_at_all_are_no_answer():
    found = nearest_each(
        np.empty((0, 4), np.float32), np.empty(0), [0, 0], np.ones((2, 4), "f4"), 3, Metric.L2
    )
    assert [len(rows) for _, rows in found] == [0, 0]
