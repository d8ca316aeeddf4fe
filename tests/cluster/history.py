"""What the clients of one namespace asked and were told, as operations that the checker understands.

Times are places in the order in which this process sees events: an operation begins before its request is
sent and ends after its answer came, so one that ended before another began did so in real time, too. Refused
writes, which are known not to have happened, and reads without an answer stand in the record but are no
operations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.linearizability import Kind, Operation, violations


@dataclass(slots=True)
class Content:
    """What an upsert put into its document: its own number, and that of the write it was made from."""

    write: int
    carried: int


class History:
    """The operations on one namespace. `contents`: what each upsert wrote."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.contents: dict[int, Content] = {}
        self.refused: dict[int, str] = {}
        self._operations: dict[int, Operation] = {}
        self._count = 0
        self._time = 0

    def begin(self, kind: Kind, document: int, *, asked: int | None = None, carried: int = -1) -> int:
        """A request is about to be sent; its number, which is what an upsert writes.

        asked: the write that a delete_if wants to take.
        """
        self._count += 1
        number = self._count
        if kind == "upsert":
            self.contents[number] = Content(number, carried)
        value = number if kind == "upsert" else asked
        self._operations[number] = Operation(number, kind, document, self._tick(), None, value)
        return number

    def saw(self, number: int, write: int | None) -> None:
        """A read was answered."""
        self._operations[number] = replace(self._operations[number], ended=self._tick(), value=write)

    def acked(self, number: int, seq: int, count: int) -> None:
        """A write was acknowledged."""
        operation = self._operations[number]
        took = count if operation.kind == "delete_if" else None
        self._operations[number] = replace(operation, ended=self._tick(), count=took, seq=seq)

    def failed(self, number: int, why: str) -> None:
        """A write that is known not to have happened, or a read without an answer."""
        del self._operations[number]
        self.refused[number] = why

    @property
    def operations(self) -> Sequence[Operation]:
        """Writes that happened or may have, reads that were answered."""
        return [o for o in self._operations.values() if o.is_write or o.ended is not None]

    @property
    def unknown(self) -> int:
        """How many writes nobody knows the outcome of."""
        return sum(o.ended is None for o in self.operations)

    def violations(self) -> list[str]:
        """What no execution explains. Raises TooComplexError."""
        return [f"{self.namespace}: {problem}" for problem in violations(self.operations)]

    def save(self, path: Path) -> None:
        """One operation per line, as JSON."""
        path.write_text("".join(json.dumps(asdict(o)) + "\n" for o in self.operations))

    def _tick(self) -> int:
        self._time += 1
        return self._time


def load(path: Path) -> list[Operation]:
    """The operations of a saved history."""
    return [Operation(**json.loads(line)) for line in path.read_text().splitlines()]
