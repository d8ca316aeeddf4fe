"""What the clients did and were told, one JSON line per event, in the order in which they saw it.

Line order is real-time order: a line is written before a request is sent and after its answer came. A
kill of the server does not touch this process, but the file is fsynced before anything is compared with
it, so that a run that is itself cut short can be judged from its file.

    begin   a request is about to be sent          ack      committed: its slot and count
    again   the same request is sent once more     refused  the server says that nothing happened
    rows    what a read saw                        unknown  the answer was lost, or says so itself
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Journal:
    """An append-only file of events; operations are numbered from 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self._read_bytes = 0
        self._count = 0

    def begin(self, kind: str, ids: Sequence[int]) -> int:
        """A request of `kind` (upsert, delete, read) is about to be sent; its number."""
        self._count += 1
        self._write({"event": "begin", "op": self._count, "kind": kind, "ids": list(ids)})
        return self._count

    def again(self, op: int) -> None:
        """The same request, with the same idempotency key, is about to be sent once more."""
        self._write({"event": "again", "op": op})

    def ack(self, op: int, seq: int, count: int) -> None:
        """The server acknowledged the write."""
        self._write({"event": "ack", "op": op, "seq": seq, "count": count})

    def refused(self, op: int, why: str) -> None:
        """The server says that nothing happened."""
        self._write({"event": "refused", "op": op, "why": why})

    def unknown(self, op: int, why: str) -> None:
        """Nobody said what became of it."""
        self._write({"event": "unknown", "op": op, "why": why})

    def rows(self, op: int, rows: Mapping[int, int | None]) -> None:
        """A read saw these writes in these documents; None: no document."""
        self._write({"event": "rows", "op": op, "rows": list(rows.items())})

    def unread(self) -> Iterator[Event]:
        """Fsync, then the events since the last call, from the file."""
        os.fsync(self._fd)
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                self._read_bytes += len(line)
                yield json.loads(line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _write(self, event: Event) -> None:
        os.write(self._fd, json.dumps(event).encode() + b"\n")
