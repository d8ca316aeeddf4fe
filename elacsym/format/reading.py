"""Computations that ask for bytes: all index and query code is written as steps, and does no I/O itself.

A *source* is one immutable file of which some bytes are at hand. `Steps[T]` is a generator that yields what
it needs next and returns a T; whoever drives it brings the bytes (in one round, all wants in parallel) and
resumes it. It never yields what is at hand already, so that over warm files it runs to its end at once.

    def steps() -> Steps[int]:
        yield from ensure(source, (0, 64))
        return source.data[0]

`together` runs several in lockstep, so that they share rounds. `resident` runs steps over memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

Span = tuple[int, int]

# ranges closer than this are fetched as one
GAP_BYTES = 256 * 1024


class Source(Protocol):
    """The bytes of one immutable file. Safe to read from any thread; bytes at hand stay at hand for as long
    as the source is referred to."""

    @property
    def key(self) -> str:
        """The object's key, for errors."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of the whole file."""
        ...

    @property
    def eager_bytes(self) -> int:
        """How much of the beginning is worth fetching at once: what every reader needs first."""
        ...

    @property
    def data(self) -> memoryview:
        """The whole file, read-only. Only bytes that `has` confirmed may be looked at; always the same
        view."""
        ...

    def has(self, start: int, stop: int) -> bool:
        """Whether the bytes [start, stop) are at hand and were checked."""
        ...

    def has_records(self, starts: npt.NDArray[np.int64], size_bytes: int) -> bool:
        """Whether records of one size, at many places, are all at hand. False is no promise that one is not,
        only that `has` has to be asked."""
        ...

    async def bring(self, spans: Sequence[Span], gap_bytes: int) -> None:
        """Fetch and check these ranges; those less than gap_bytes apart as one. For drivers of steps only."""
        ...


@dataclass(frozen=True, slots=True)
class Want:
    """Byte ranges of a source that are to be brought; neighbours less than gap_bytes apart as one."""

    source: Source
    spans: tuple[Span, ...]
    gap_bytes: int = GAP_BYTES


Steps = Generator[Sequence[Want], None, T]


def ensure(source: Source, *spans: Span, gap_bytes: int = GAP_BYTES) -> Steps[None]:
    """Have these ranges of a source at hand."""
    missing = tuple(span for span in spans if span[0] < span[1] and not source.has(*span))
    if missing:
        yield (Want(source, missing, gap_bytes),)


def together(computations: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run all in lockstep: what they want next is one round. Their results, in order."""
    if not computations:
        return []
    if len(computations) == 1:
        return [(yield from computations[0])]
    results: dict[int, T] = {}
    yield from _in_lockstep(computations, results.__setitem__)
    return [results[number] for number in range(len(computations))]


def folded(computations: Sequence[Steps[T]], fold: Callable[[T, T], T]) -> Steps[T]:
    """`together`, the results made one as they come, in any order: few of them exist at a time.

    There must be at least one; `fold` must be associative and commutative.
    """
    results: list[T] = []

    def add(_: int, result: T) -> None:
        results.append(fold(results.pop(), result) if results else result)

    yield from _in_lockstep(computations, add)
    return results[0]


def _in_lockstep(computations: Sequence[Steps[T]], finished: Callable[[int, T], None]) -> Steps[None]:
    """Run all, and say which is finished with which result."""
    running = dict(enumerate(computations))
    while running:
        wants: list[Want] = []
        for number, steps in list(running.items()):
            try:
                wants += next(steps)
            except StopIteration as done:
                finished(number, done.value)
                del running[number]
        if wants:
            yield wants


def both(first: Steps[A], second: Steps[B]) -> Steps[tuple[A, B]]:
    """`together` for two computations of different types."""
    computations: tuple[Steps[Any], Steps[Any]] = (first, second)
    a, b = yield from together(computations)
    return a, b


def done(value: T) -> Steps[T]:
    """Steps that need nothing."""
    return value
    yield  # makes this a generator


def resident(steps: Steps[T]) -> T:
    """The result of steps over sources that are wholly at hand; asking for more is a programmer error."""
    try:
        wants = next(steps)
    except StopIteration as done_:
        result: T = done_.value
        return result
    raise AssertionError(f"{wants[0].source.key} is not at hand")


class MemorySource:
    """A source whose bytes are all in memory, or mapped and already trusted."""

    __slots__ = ("_data", "_key")

    def __init__(self, data: memoryview | bytes, key: str = "memory") -> None:
        self._data, self._key = memoryview(data).toreadonly().cast("B"), key

    @property
    def key(self) -> str:
        """See Source."""
        return self._key

    @property
    def size_bytes(self) -> int:
        """See Source."""
        return len(self._data)

    @property
    def eager_bytes(self) -> int:
        """See Source."""
        return len(self._data)

    @property
    def data(self) -> memoryview:
        """See Source."""
        return self._data

    def has(self, start: int, stop: int) -> bool:  # noqa: ARG002 - everything is at hand
        """See Source."""
        return True

    def has_records(self, starts: npt.NDArray[np.int64], size_bytes: int) -> bool:  # noqa: ARG002
        """See Source."""
        return True

    async def bring(self, spans: Sequence[Span], gap_bytes: int) -> None:
        """See Source."""
