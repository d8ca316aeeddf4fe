"""Sources for tests of steps: a file that is all holes at first, and a driver that counts rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from elacsym.errors import CorruptObject
from elacsym.format.blob import Head
from elacsym.format.reading import Span, Steps

T = TypeVar("T")

POISON = 0xFF  # NaN as a float, the largest unsigned number, -1


class HoleySource:
    """A source that hands out poison for every byte that was not wanted, and brings no byte more than asked.

    eager_bytes: what the file's own head says, if it is a blob. brought: the spans of every round.
    """

    def __init__(self, data: bytes, key: str = "holey", *, poison: int = POISON) -> None:
        self.true = bytes(data)
        self._bytes = bytearray([poison]) * len(data)
        self._here = np.zeros(len(data), np.bool_)
        self.key, self.size_bytes = key, len(data)
        self.data = memoryview(self._bytes).toreadonly()
        try:
            self.eager_bytes = Head.parse(data, key).eager_bytes
        except CorruptObject:
            self.eager_bytes = min(len(data), 64 * 1024)
        self.brought: list[list[Span]] = []

    def has(self, start: int, stop: int) -> bool:
        assert 0 <= start <= stop <= self.size_bytes, (start, stop, self.size_bytes)
        return bool(self._here[start:stop].all())

    def has_records(self, starts, size_bytes: int) -> bool:
        return all(self.has(start, start + size_bytes) for start in starts.tolist())

    def fill(self, spans: Sequence[Span]) -> None:
        """What `bring` does, for drivers that do not await."""
        self.brought.append(list(spans))
        for start, stop in spans:
            assert 0 <= start <= stop <= self.size_bytes, (start, stop, self.size_bytes)
            self._bytes[start:stop] = self.true[start:stop]
            self._here[start:stop] = True

    async def bring(self, spans: Sequence[Span], gap_bytes: int) -> None:
        self.fill(spans)

    @property
    def brought_bytes(self) -> int:
        """How many bytes are at hand."""
        return int(np.count_nonzero(self._here))


@dataclass
class Driven(Generic[T]):
    """The outcome of steps. rounds: bytes wanted in each."""

    value: T
    rounds: list[int] = field(default_factory=list)


def driven(steps: Steps[T]) -> Driven[T]:
    """Run steps over HoleySources to their end. A want of bytes that are at hand is a failure."""
    rounds: list[int] = []
    try:
        while True:
            wants = next(steps)
            rounds.append(sum(stop - start for want in wants for start, stop in want.spans))
            for want in wants:
                assert not all(want.source.has(*span) for span in want.spans), want.spans
            for want in wants:
                assert isinstance(want.source, HoleySource)
                want.source.fill(want.spans)
    except StopIteration as done:
        return Driven(done.value, rounds)
