from hypothesis import given
from hypothesis import strategies as st

from elacsym.engine.pace import DELAY_S_MAX, FREE_FOLDS, FREE_FOLDS_QUERIED, Pace

MIB = 2**20
FOLD = 16 * MIB


def test_writes_do_not_wait_while_the_tail_is_short():
    pace = Pace(FOLD)
    assert [pace.delay_s(0.0, 8 * MIB, FREE_FOLDS * FOLD) for _ in range(100)] == [0.0] * 100


def test_writes_over_a_long_tail_come_at_the_rate_of_a_fold_a_second():
    pace = Pace(FOLD)
    # each waits for those before it
    delays = [pace.delay_s(0.0, MIB, FREE_FOLDS * FOLD + 1) for _ in range(16)]
    assert delays == sorted(delays)
    assert abs(delays[-1] - 1.0) < 0.001


def test_a_tail_twice_as_long_halves_the_rate():
    short, long = (Pace(FOLD).delay_s(0.0, MIB, FREE_FOLDS * FOLD * times + 1) for times in (1, 2))
    assert abs(long / short - 2) < 0.001


def test_where_queries_are_asked_writes_wait_earlier():
    pace, unfolded_bytes = Pace(FOLD), FREE_FOLDS_QUERIED * FOLD
    assert pace.delay_s(0.0, MIB, unfolded_bytes, is_queried=True) == 0.0
    assert pace.delay_s(0.0, MIB, unfolded_bytes + 1, is_queried=False) == 0.0
    assert pace.delay_s(0.0, MIB, unfolded_bytes + 1, is_queried=True) > 0.0


def test_time_that_passed_is_not_saved_up():
    pace = Pace(FOLD)
    pace.delay_s(0.0, MIB, 3 * FOLD)
    assert pace.delay_s(1_000.0, MIB, 3 * FOLD) == pace.delay_s(1_000.0, MIB, 3 * FOLD) / 2


def test_when_the_tail_was_folded_writes_go_on_at_once():
    pace = Pace(FOLD)
    for _ in range(100):
        pace.delay_s(0.0, MIB, 10 * FOLD)
    assert pace.delay_s(0.1, MIB, 0) == 0.0


@given(
    st.integers(1, 2**31),
    st.lists(st.tuples(st.floats(0, 10), st.integers(0, 2**31), st.integers(0, 2**35)), max_size=20),
)
def test_no_write_waits_longer_than_the_bound(fold_bytes, writes):
    pace, now_s = Pace(fold_bytes), 0.0
    for passed_s, size_bytes, unfolded_bytes in writes:
        now_s += passed_s
        assert 0.0 <= pace.delay_s(now_s, size_bytes, unfolded_bytes) <= DELAY_S_MAX + 1e-9
