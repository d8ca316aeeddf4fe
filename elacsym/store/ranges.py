"""Byte ranges: joining near ones into one request, and cutting the parts out again."""

from __future__ import annotations

from collections.abc import Sequence

GAP_BYTES_MAX = 256 * 1024  # reading this much too much is cheaper than another request


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
    ordered = sorted(spans.items())
    parts = []
    for start, end in ranges:
        if start >= end:
            parts.append(b"")
            continue
        (first, _), data = next(s for s in reversed(ordered) if s[0][0] <= start)
        parts.append(data[start - first : end - first])
    return parts
