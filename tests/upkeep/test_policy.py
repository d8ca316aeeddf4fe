"""Which segments are merged."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from elacsym.format.manifest import DeletesRef, FileRef, SegmentRef
from elacsym.upkeep.policy import DEAD_SHARE_MAX, FANOUT, FILE_BYTES_MAX, ROWS_MAX, ROWS_MIN, pick


def _segment(number, rows, dead=0):
    deletes = DeletesRef("d", FileRef("deletes", 1, ""), dead) if dead else None
    return SegmentRef(f"j{number:04d}", rows, 0, 0, "0" * 32, (), deletes)


def test_a_tier_of_fanout_segments_is_merged():
    segments = [_segment(i, 100) for i in range(FANOUT)]
    assert pick(segments[:-1]) == ()
    assert pick(segments) == tuple(segments)


def test_segments_of_other_sizes_stay_out():
    small = [_segment(i, 100) for i in range(FANOUT)]
    large = _segment(9, ROWS_MIN * FANOUT**3)
    assert set(pick([large, *small])) == set(small)


def test_a_segment_with_many_dead_rows_is_rewritten_alone():
    assert pick([_segment(1, 100, dead=29)]) == ()
    assert pick([_segment(1, 100, dead=31)]) == (_segment(1, 100, dead=31),)


def test_force_merges_everything_once():
    segments = [_segment(i, 100) for i in range(2)]
    assert pick(segments, force=True) == tuple(segments)
    assert pick(segments[:1], force=True) == ()


@given(st.lists(st.integers(1, 2_000), min_size=1, max_size=300))
def test_merging_ends_and_leaves_logarithmically_many_segments(sizes):
    segments = [_segment(i, rows) for i, rows in enumerate(sizes)]
    number, rewritten = len(segments), 0
    while chosen := pick(segments):
        rows = sum(s.rows_live for s in chosen)
        assert rows <= ROWS_MAX
        rewritten += rows
        segments = [s for s in segments if s not in chosen] + [_segment(number, rows)]
        number += 1
    total = sum(sizes)
    assert sum(s.rows for s in segments) == total
    assert len(segments) <= (FANOUT - 1) * 8
    assert rewritten <= 8 * total
    assert 0 < DEAD_SHARE_MAX < 1


def test_no_file_of_a_merge_grows_beyond_one_request():
    big = FileRef("vector.vector.ivf", FILE_BYTES_MAX // 3, "")
    segments = [SegmentRef(f"j{i}", 100, 0, 0, "0" * 32, (big,)) for i in range(FANOUT)]
    assert pick(segments) == ()
    parts = [FileRef(f"attr.{i}", FILE_BYTES_MAX // FANOUT, "") for i in range(3)]
    segments = [SegmentRef(f"j{i}", 100, 0, 0, "0" * 32, tuple(parts)) for i in range(FANOUT)]
    assert set(pick(segments)) == set(segments)


def test_a_steady_stream_of_folds_rewrites_a_row_a_few_times():
    """64 MiB of log are 40,000 rows of 384 dimensions; a million of them are written three times each."""
    segments: list[SegmentRef] = []
    written = 0
    for number in range(25):
        segments.append(_segment(number, 40_000))
        written += 40_000
        while chosen := pick(segments):
            rows = sum(s.rows_live for s in chosen)
            segments = [s for s in segments if s not in chosen] + [_segment(100 + written, rows)]
            written += rows
    assert written <= 3 * 1_000_000
    assert len(segments) <= 6
