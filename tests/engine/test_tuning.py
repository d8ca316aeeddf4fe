"""Samples of queries and efforts: what is kept, what is let go of, and the rule that sets an effort."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elacsym.engine import tuning
from elacsym.engine.tuning import SCALE_MAX, SCALE_MIN, Tuning, adjusted_scale, unobserved
from elacsym.query.ast import Query, TextLeg, VectorLeg

scales = st.floats(SCALE_MIN, SCALE_MAX)
recalls = st.floats(0, 1)


@given(scales, recalls)
def test_a_scale_stays_within_its_bounds_and_moves_towards_the_target(scale, recall):
    after = adjusted_scale(scale, recall)
    assert SCALE_MIN <= after <= SCALE_MAX
    if recall < 0.98:
        assert after > scale or after == SCALE_MAX
    if recall == 1.0:
        assert after < scale or after == SCALE_MIN
    if 0.985 <= recall < 0.998:
        assert after == scale


@given(scales, recalls, recalls)
def test_better_recall_never_asks_for_more_effort(scale, one, other):
    low, high = sorted((one, other))
    assert adjusted_scale(scale, low) >= adjusted_scale(scale, high)


@given(st.floats(0.05, 20), st.floats(1, 4), st.integers(0, 2**32))
def test_a_scale_settles_where_recall_is_good_enough(half, steepness, seed):
    """Recall grows with effort and misses half of the rest at `half`, twice that, and so on."""
    rng = np.random.default_rng(seed)

    def recall_at(scale):
        return 1 - 0.5 ** (1 + steepness * scale / half)

    scale = 1.0
    for _ in range(60):
        scale = adjusted_scale(scale, rng.binomial(320, recall_at(scale)) / 320)
    assert recall_at(scale) >= 0.97 or scale == SCALE_MAX
    needed = (np.log2(1 / (1 - 0.999)) - 1) * half / steepness
    assert scale <= max(SCALE_MIN, needed * 1.25**2)


def vector_query(*numbers, attribute="vector"):
    return Query(legs=(VectorLeg(attribute, np.array(numbers, np.float32)),))


def fed(count, **settings):
    made = Tuning(random.Random(1), **settings)
    for n in range(count):
        made.observe("docs", "inc", vector_query(n))
    return made


def numbers(made, inc="inc", attribute="vector"):
    return sorted(float(v[0]) for v in made.recent(inc, attribute))


def test_the_first_queries_are_all_kept():
    assert numbers(fed(64)) == list(range(64))


def test_of_many_queries_a_bounded_sample_is_kept_in_which_each_is_as_likely_as_any_other():
    counts = np.zeros(200)
    made = [Tuning(random.Random(seed), samples_max=10) for seed in range(400)]
    for one in made:
        for n in range(200):
            one.observe("docs", "inc", vector_query(n))
        assert len(numbers(one)) == 10
        counts[np.array(numbers(one), int)] += 1
    # 400 samples of 10 in 200: each query is expected 20 times, in each half 2,000
    assert counts.sum() == 4_000
    assert abs(counts[:100].sum() - 2_000) < 200
    assert counts.max() < 50


def test_recent_queries_outweigh_those_before_the_window(monkeypatch):
    monkeypatch.setattr(tuning, "WINDOW_QUERIES", 100)
    assert min(numbers(fed(5_000, samples_max=10))) > 2_500


def test_a_sample_does_not_hold_on_to_the_request_a_query_came_in():
    request = np.arange(1_000, dtype=np.float32)
    made = Tuning(random.Random(1))
    made.observe("docs", "inc", Query(legs=(VectorLeg("vector", request[:2]),)))
    (kept,) = made.recent("inc", "vector")
    assert kept.base is None
    request[:] = 7
    assert kept.tolist() == [0, 1]


def test_samples_of_attributes_and_incarnations_are_apart_and_text_is_not_sampled():
    made = Tuning(random.Random(1))
    text = TextLeg((("title", 1.0),), "words")
    made.observe("docs", "a", Query(legs=(VectorLeg("vector", np.float32([1])), text)))
    made.observe("docs", "a", vector_query(2, attribute="other"))
    made.observe("docs", "b", vector_query(3))
    made.observe("docs", "b", Query(legs=(text,)))
    assert (numbers(made, "a"), numbers(made, "a", "other"), numbers(made, "b")) == ([1], [2], [3])
    assert len(list(made.samples())) == 3


def test_queries_that_only_measure_are_not_sampled():
    made = fed(1)
    with unobserved():
        made.observe("docs", "inc", vector_query(5))
    made.observe("docs", "inc", vector_query(6))
    assert numbers(made) == [0, 6]


def test_memory_is_bounded_over_all_namespaces_and_what_was_fed_least_recently_goes():
    made = Tuning(random.Random(1), bytes_max=20_000)
    for n in range(50):
        for inc in ("busy", f"inc{n}"):
            made.observe(f"name of {inc}", inc, vector_query(*([n] * 100)))
        assert made.size_bytes <= 20_000
    assert made.size_bytes == sum(sample.size_bytes for *_, sample in made.samples())
    assert made.recent("inc0", "vector") == ()
    assert len(made.recent("inc49", "vector")) == 1
    assert len(made.recent("busy", "vector")) > 5


def test_replacing_samples_keeps_the_account_of_bytes():
    made = Tuning(random.Random(1), samples_max=4)
    for n in range(1, 200):
        made.observe("docs", "inc", vector_query(*range(n)))
    expected = sum(v.nbytes for v in made.recent("inc", "vector")) + 4 * 128
    assert made.size_bytes == expected


def test_a_deleted_namespace_leaves_nothing():
    made = fed(10)
    made.observe("other", "other inc", vector_query(1))
    made.set_scale("inc", "vector", 2.0)
    made.forget("docs")
    assert [inc for inc, *_ in made.samples()] == ["other inc"]
    assert made.effort("inc", "vector").scale == 1.0
    assert made.size_bytes == 4 + 128


def test_of_a_closed_namespace_its_efforts_stay():
    made = fed(10)
    made.observe("other", "other inc", vector_query(1))
    made.set_scale("inc", "vector", 2.0)
    made.let_go("inc", ["vector", "never asked"])
    assert [inc for inc, *_ in made.samples()] == ["other inc"]
    assert made.effort("inc", "vector").scale == 2.0
    assert made.size_bytes == 4 + 128


def test_an_effort_is_the_default_until_it_is_set_and_their_number_is_bounded(monkeypatch):
    monkeypatch.setattr(tuning, "EFFORTS_MAX", 10)
    made = Tuning(random.Random(1))
    for n in range(20):
        made.set_scale(f"inc{n}", "vector", 2.0)
    assert [made.effort(f"inc{n}", "vector").scale for n in (0, 9, 10, 19)] == [1.0, 1.0, 2.0, 2.0]
    made.set_scale("inc19", "vector", 1.0)
    assert made.effort("inc19", "vector").scale == 1.0


def test_the_same_queries_are_sampled_alike_under_the_same_seed():
    assert numbers(fed(500)) == numbers(fed(500))
