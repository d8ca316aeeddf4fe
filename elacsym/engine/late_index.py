"""Text indexes that a segment's files lack, because its schema asked for them later, or for another analysis.

A query that needs one waits for it as for bytes of a file: it is built in the pool, once for all queries that
wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from elacsym.compute import Compute
from elacsym.format.reading import Span, Steps, Want
from elacsym.index.text import TextIndex


class LateIndex:
    """An index under construction; a `reading.Source` without bytes, which is brought by building it."""

    key = "late index"
    size_bytes = eager_bytes = 1
    data = memoryview(b"")

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._make: Callable[[], TextIndex] | None = None
        self._task: asyncio.Task[TextIndex] | None = None
        self._index: TextIndex | None = None

    def built(self, make: Callable[[], TextIndex]) -> Steps[TextIndex]:
        """The index; made by the first caller's `make`."""
        self._make = self._make or make
        if self._index is None:
            yield (Want(self, ((0, 1),)),)
        assert self._index is not None, "it was brought"
        return self._index

    def has(self, start: int, stop: int) -> bool:  # noqa: ARG002 - there is one thing to have
        """Whether it is built."""
        return self._index is not None

    def has_records(self, starts: object, size_bytes: int) -> bool:  # noqa: ARG002
        """See Source."""
        return self._index is not None

    async def bring(self, spans: Sequence[Span], gap_bytes: int) -> None:  # noqa: ARG002
        """Build it, or wait for who does. Raises what building raises; the next caller tries again then."""
        if self._index is not None:
            return
        if self._task is None:
            assert self._make is not None, "somebody wants it"
            self._task = asyncio.create_task(self._compute.bulk.run(self._make), name="build text index")
            self._task.add_done_callback(self._settle)
        # the others still wait where one gives up
        self._index = await asyncio.shield(self._task)

    def _settle(self, task: asyncio.Task[TextIndex]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._task = None
        else:
            self._index = task.result()
