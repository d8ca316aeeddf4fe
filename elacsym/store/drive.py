"""Drives steps: brings what they want, round by round, and runs what is between on loop or pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from elacsym.compute import Compute
from elacsym.format.reading import Steps, Want

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Round:
    """One wait for bytes: how many were wanted, and how long they took to come, in microseconds."""

    wanted_bytes: int
    waited_us: int


@dataclass(slots=True)
class Rounds:
    """What a computation had to wait for, in order."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How often it had to wait."""
        return len(self.rounds)

    def to_json(self) -> list[dict[str, int]]:
        """The rounds as JSON values."""
        return [{"wanted_bytes": r.wanted_bytes, "waited_us": r.waited_us} for r in self.rounds]


@dataclass(frozen=True, slots=True)
class _Finished:
    value: object


async def drive(
    steps: Steps[T], compute: Compute, *, inline: bool = False, rounds: Rounds | None = None
) -> T:
    """The result of `steps`. inline: what is between the rounds is too small for a hop to the pool.

    Raises what the steps raise, and ObjectMissing, CorruptObject, Unavailable from bringing bytes.
    """
    is_in_pool = False
    try:
        while True:
            if inline:
                wants = _advanced(steps)
            else:
                is_in_pool = True
                wants = await compute.run(_advanced, steps)
                is_in_pool = False
            if isinstance(wants, _Finished):
                return wants.value  # type: ignore[return-value]
            began_ns = time.perf_counter_ns()
            await bring(wants)
            if rounds is not None:
                wanted = sum(stop - start for w in wants for start, stop in w.spans)
                rounds.rounds.append(Round(wanted, (time.perf_counter_ns() - began_ns) // 1000))
    finally:
        # where the caller gives up meanwhile, a thread still runs the steps; they end with its reference
        if not is_in_pool:
            steps.close()


async def bring(wants: Sequence[Want]) -> None:
    """Have all of these bytes at hand; wants of one source are brought together."""
    if len(wants) == 1:
        want = wants[0]
        await want.source.bring(want.spans, want.gap_bytes)
        return
    by_source: dict[tuple[int, int], list[Want]] = {}
    for want in wants:
        by_source.setdefault((id(want.source), want.gap_bytes), []).append(want)
    await asyncio.gather(
        *(
            group[0].source.bring([span for want in group for span in want.spans], group[0].gap_bytes)
            for group in by_source.values()
        )
    )


def _advanced(steps: Steps[T]) -> Sequence[Want] | _Finished:
    try:
        return next(steps)
    except StopIteration as done:
        return _Finished(done.value)
