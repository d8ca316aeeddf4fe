"""Time and chance, handed in, so that the simulator and the server run the same code."""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """The two readings of time that the code may take."""

    def monotonic_s(self) -> float:
        """Seconds that never jump and go on while the machine is suspended; for deadlines and grace
        periods."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970; for logs and for people, never for a decision."""
        ...


class SystemClock:
    """The machine's clocks. CLOCK_BOOTTIME counts suspension, which a paused virtual machine needs."""

    def monotonic_s(self) -> float:
        """Seconds since boot, suspension included."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000


def system_random() -> random.Random:
    """A source of nonces and jitter that no two processes share."""
    return random.SystemRandom()


def new_nonce(rng: random.Random) -> str:
    """128 random bits as 32 hexadecimal digits: marks every conditional object with its writer's attempt."""
    return f"{rng.getrandbits(128):032x}"


def full_jitter_s(rng: random.Random, attempt: int, *, base_s: float = 0.05, cap_s: float = 2.0) -> float:
    """How long to wait before retry number `attempt` (from 0): uniform in 0…min(cap, base·2^attempt)."""
    return rng.uniform(0.0, min(cap_s, base_s * 2.0**attempt))
