"""Clocks for tests."""

from __future__ import annotations


class ManualClock:
    """Time that stands still until the test moves it."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def monotonic_s(self) -> float:
        """The time that was set."""
        return self.now_s

    def wall_ms(self) -> int:
        """The same in milliseconds."""
        return int(self.now_s * 1000)
