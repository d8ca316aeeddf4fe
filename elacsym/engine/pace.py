"""Pacing of writes: a namespace whose tail grows faster than it is folded gets its acknowledgements later.

Rows of the tail are searched exactly, so a long tail makes every query slow long before it is so long that
writes are refused. Beyond FREE_FOLDS folds' worth of log, writes are admitted at the rate of one fold's worth
a second, and slower in proportion as the tail grows further. In a namespace
that is being queried they wait from FREE_FOLDS_QUERIED folds' worth on. Pure: times are readings of the
caller's clock.
"""

from __future__ import annotations

FREE_FOLDS = 2
FREE_FOLDS_QUERIED = 1
DELAY_S_MAX = 2.0


class Pace:
    """When the writes of one namespace may go on. fold_bytes: log bytes that start a fold."""

    def __init__(self, fold_bytes: int) -> None:
        self._fold_bytes = fold_bytes
        self._free_s = 0.0

    def delay_s(
        self, now_s: float, size_bytes: int, unfolded_bytes: int, *, is_queried: bool = False
    ) -> float:
        """How long a write of `size_bytes` waits, in seconds, at most DELAY_S_MAX, while so many bytes are
        unfolded; it is counted as admitted."""
        free_bytes = (FREE_FOLDS_QUERIED if is_queried else FREE_FOLDS) * self._fold_bytes
        if unfolded_bytes <= free_bytes:
            self._free_s = now_s
            return 0.0
        begin_s = max(now_s, self._free_s)
        bytes_per_s = self._fold_bytes * free_bytes / unfolded_bytes
        self._free_s = min(begin_s + size_bytes / bytes_per_s, now_s + DELAY_S_MAX)
        return min(self._free_s - now_s, DELAY_S_MAX)
