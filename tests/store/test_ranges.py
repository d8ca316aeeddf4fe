from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from elacsym.store.ranges import coalesce, cut, runs_of_zeros

bounds = st.integers(0, 120)
ranges_of_100 = st.lists(st.tuples(bounds, bounds).map(lambda pair: (min(pair), max(pair))), max_size=12)


def test_near_ranges_become_one_span_and_far_ones_do_not():
    assert coalesce([(300, 310), (0, 10), (14, 20)], gap_bytes_max=5) == [(0, 20), (300, 310)]


@given(ranges_of_100, st.integers(0, 30))
def test_cutting_the_spans_gives_what_slicing_the_object_gives(ranges, gap):
    data = bytes(range(100))
    spans = coalesce(ranges, gap_bytes_max=gap)
    assert all(left[1] + gap <= right[0] for left, right in pairwise(spans))
    assert cut(ranges, {span: data[slice(*span)] for span in spans}) == [data[s:e] for s, e in ranges]


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_runs_of_zeros_are_the_zeros_and_do_not_touch(marks, start, stop, base):
    stop = min(stop, len(marks))
    runs = list(runs_of_zeros(bytes(marks), range(start, stop), base))
    assert [place for run in runs for place in run] == [
        base + place for place in range(start, stop) if not marks[place]
    ]
    assert all(left.stop < right.start for left, right in pairwise(runs))
