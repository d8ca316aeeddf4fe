"""Which segments to merge: size-tiered, pure.

Segments of similar size form a tier; a tier of FANOUT segments is merged into one, so that a row is rewritten
O(log n) times. A segment of which a large share is dead is rewritten alone. Source: the size-tiered strategy
of the LSM literature (Lakshman and Malik 2010), with tiers by powers of FANOUT of the live rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from elacsym.format.manifest import SegmentRef

FANOUT = 4
ROWS_MIN = 1_024
ROWS_MAX = 1_000_000
# of one file: it is uploaded by one request, and a column of strings must stay below 2 GiB
FILE_BYTES_MAX = 2**30
DEAD_SHARE_MAX = 0.3


def tier_of(segment: SegmentRef) -> int:
    """0 for the smallest segments; one more for each factor of FANOUT."""
    tier, rows = 0, segment.rows_live // ROWS_MIN
    while rows >= FANOUT:
        tier, rows = tier + 1, rows // FANOUT
    return tier


def pick(segments: Sequence[SegmentRef], *, force: bool = False) -> tuple[SegmentRef, ...]:
    """The segments to merge next, empty when nothing is worth it. `force`: all of them, if there is anything
    to gain."""
    if force:
        return tuple(segments) if len(segments) > 1 or any(s.deletes for s in segments) else ()
    tiers: dict[int, list[SegmentRef]] = {}
    for segment in segments:
        tiers.setdefault(tier_of(segment), []).append(segment)
    for _, members in sorted(tiers.items()):
        chosen: list[SegmentRef] = []
        for segment in sorted(members, key=lambda s: (s.rows_live, s.job)):
            if _fits([*chosen, segment]):
                chosen.append(segment)
        if len(chosen) >= FANOUT:
            return tuple(chosen)
    for segment in segments:
        if segment.rows - segment.rows_live > DEAD_SHARE_MAX * segment.rows:
            return (segment,)
    return ()


def _fits(segments: Sequence[SegmentRef]) -> bool:
    """Whether these may become one segment."""
    if sum(segment.rows_live for segment in segments) > ROWS_MAX:
        return False
    size_bytes: Counter[str] = Counter()
    for segment in segments:
        live_share = segment.rows_live / max(1, segment.rows)
        size_bytes.update({file.part: int(file.size_bytes * live_share) for file in segment.files})
    return max(size_bytes.values(), default=0) <= FILE_BYTES_MAX
