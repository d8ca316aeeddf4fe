"""Byte ranges: joining near ones into one request, cutting the parts out again, finding what is missing."""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from elacsym.format.reading import GAP_BYTES

GAP_BYTES_MAX = GAP_BYTES  # reading this much too much is cheaper than another request


def coalesce(
    ranges: Sequence[tuple[int, int]], *, gap_bytes_max: int = GAP_BYTES_MAX
) -> list[tuple[int, int]]:
    """Disjoint ascending spans that cover all non-empty `ranges`.

    Those less than `gap_bytes_max` apart are joined.
    """
    spans: list[tuple[int, int]] = []
    for start, end in sorted(r for r in ranges if r[0] < r[1]):
        if spans and start - spans[-1][1] < gap_bytes_max:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans


def cut(ranges: Sequence[tuple[int, int]], spans: dict[tuple[int, int], bytes]) -> list[bytes]:
    """The bytes of each of `ranges`, in order, out of the spans of `coalesce`; short at the object's end."""
    starts = sorted(spans)
    parts = []
    for start, end in ranges:
        if start >= end:
            parts.append(b"")
            continue
        span = starts[bisect_right(starts, (start, sys.maxsize)) - 1]
        parts.append(spans[span][start - span[0] : end - span[0]])
    return parts


def runs_of_zeros(marks: bytearray | bytes, part: range, base: int = 0) -> Iterator[range]:
    """The runs of zeros in marks[part], their places counted from `base`; other marks are ones."""
    start = marks.find(0, part.start, part.stop)
    while start >= 0:
        stop = marks.find(1, start, part.stop)
        stop = part.stop if stop < 0 else stop
        yield range(base + start, base + stop)
        start = marks.find(0, stop, part.stop)
