"""Whether a folder answers so fast that its small reads may be done on the event loop."""

from __future__ import annotations

import time

PROMPT_S = 0.002  # a hop to a thread and back takes about as long, in a busy process
PROMPT_READS = 8
SLOW_READS = 3
STALL_S = 0.01
FORGIVEN_READS = 1_000
DISTRUST_S_MIN, DISTRUST_S_MAX = 0.1, 10.0


class Promptness:
    """Earned by `PROMPT_READS` reads in a row that took less than `PROMPT_S` each, in threads; lost by
    `SLOW_READS` in a row that did not, or by one that took `STALL_S`. So a folder on a network is not waited
    for, and a disk that stalls is waited for once, while a read that waited for the interpreter means little.

    What is lost stays lost for `DISTRUST_S_MIN` at first, because a thread that got no processor looks like a
    slow read, and for twice as long every time, up to `DISTRUST_S_MAX`; `FORGIVEN_READS` prompt ones in a row
    make good. Threads may report at the same time: a lost count costs nothing.
    """

    def __init__(self) -> None:
        self._in_a_row = self._slow = 0
        self._distrust_s = DISTRUST_S_MIN
        self._distrusted_until_s = 0.0

    def note(self, took_s: float) -> None:
        """A read took so long."""
        if took_s < PROMPT_S:
            self._in_a_row, self._slow = self._in_a_row + 1, 0
            if self._in_a_row >= FORGIVEN_READS:
                self._distrust_s = DISTRUST_S_MIN
            return
        self._slow += 1
        if self._in_a_row >= PROMPT_READS and self._slow < SLOW_READS and took_s < STALL_S:
            return
        if self._in_a_row >= PROMPT_READS:
            self._distrusted_until_s = time.monotonic() + self._distrust_s
            self._distrust_s = min(2 * self._distrust_s, DISTRUST_S_MAX)
        self._in_a_row = self._slow = 0

    @property
    def is_given(self) -> bool:
        """Whether the next small read may block its caller."""
        return self._in_a_row >= PROMPT_READS and time.monotonic() >= self._distrusted_until_s
