import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benches import truth
from benches.truth import Distances, Judged, found_share, judge, nearest_distances, recall

EVERYTHING = np.ones(6, np.bool_)


def test_distances_are_those_of_the_definitions():
    rng = np.random.default_rng(0)
    base, query = rng.standard_normal((40, 7), np.float32), rng.standard_normal(7, np.float32)
    b, q = base.astype(np.float64), query.astype(np.float64)
    cosines = (b @ q) / np.linalg.norm(b, axis=1) / np.linalg.norm(q)
    assert np.allclose(Distances(base, cosine=True).to(query), 1 - cosines, atol=1e-12)
    assert np.allclose(Distances(base, cosine=False).to(query), ((b - q) ** 2).sum(axis=1), atol=1e-12)


def test_any_row_as_near_as_the_last_wanted_one_is_right():
    distances = np.array([1.0, 2.0, 2.0, 2.0, 3.0, 4.0])
    assert judge(distances, EVERYTHING, np.array([0, 3]), 2) == Judged(2, 2, 0, 0)
    assert judge(distances, EVERYTHING, np.array([0, 4]), 2) == Judged(1, 2, 0, 0)


def test_rows_that_do_not_match_are_wrong_and_change_what_is_nearest():
    distances, matches = np.arange(6.0), np.array([0, 1, 0, 1, 1, 0], np.bool_)
    assert judge(distances, matches, np.array([1, 3]), 2) == Judged(2, 2, 0, 0)
    assert judge(distances, matches, np.array([0, 1]), 2) == Judged(1, 2, 1, 0)


def test_a_row_that_is_answered_twice_is_wrong_once():
    assert judge(np.arange(6.0), EVERYTHING, np.array([0, 0]), 2) == Judged(1, 2, 1, 0)


def test_no_more_rows_are_wanted_than_match():
    matches = np.array([1, 0, 0, 0, 0, 1], np.bool_)
    assert judge(np.arange(6.0), matches, np.array([0, 5]), 10) == Judged(2, 2, 0, 0)
    assert judge(np.arange(6.0), matches, np.array([5]), 10) == Judged(1, 2, 0, 1)
    assert judge(np.arange(6.0), np.zeros(6, np.bool_), np.array([], np.int64), 10) == Judged(0, 0, 0, 0)


def test_recall_weighs_every_wanted_row_alike():
    assert recall([Judged(10, 10, 0, 0), Judged(0, 2, 0, 0)]) == pytest.approx(10 / 12)


@given(seed=st.integers(0, 2**32), rows=st.integers(3, 40), cosine=st.booleans())
def test_nearest_distances_do_not_depend_on_chunks(seed, rows, cosine):
    rng = np.random.default_rng(seed)
    base, queries = rng.standard_normal((rows, 5), np.float32), rng.standard_normal((3, 5), np.float32)
    whole = np.array([np.sort(Distances(base, cosine=cosine).to(q))[:3] for q in queries])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(truth, "_CHUNK", 7)
        assert np.allclose(nearest_distances(base, queries, 3, cosine=cosine), whole, atol=1e-12)


def test_a_short_answer_lowers_the_found_share():
    limits, answers = np.array([1.0, 1.0]), [np.array([0.5, 1.0]), np.array([0.5])]
    assert found_share(limits, answers, 2) == 0.75
    assert found_share(limits, [answers[0], np.array([0.5, 1.1])], 2) == 0.75
