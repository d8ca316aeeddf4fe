"""Which jobs on segments run: folds before merges, no more at once than there are processes for builds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Literal

from elacsym.telemetry import UPKEEP_QUEUED

Kind = Literal["fold", "compact"]


class JobQueue:
    """Runs jobs by kind and name of the namespace, each at most once at a time.

    slots: how many run at once. A fold that would wait for merges alone takes one slot more: a merge may take
    minutes, and writes are refused when nothing is folded. run: does a job; it raises nothing.
    """

    def __init__(self, slots: int, run: Callable[[Kind, str], Awaitable[None]]) -> None:
        self._slots, self._run = max(1, slots), run
        self._waiting: dict[Kind, deque[str]] = {"fold": deque(), "compact": deque()}
        self._known: set[tuple[Kind, str]] = set()
        self._running: dict[asyncio.Task[None], Kind] = {}

    def offer(self, kind: Kind, name: str) -> None:
        """Run a job when its turn comes, unless it waits or runs already."""
        if (kind, name) not in self._known:
            self._known.add((kind, name))
            self._waiting[kind].append(name)
            UPKEEP_QUEUED.labels(kind).inc()
            self._start()

    def holds(self, name: str) -> bool:
        """Whether a job of the namespace waits or runs."""
        return ("fold", name) in self._known or ("compact", name) in self._known

    async def drained(self) -> None:
        """Wait until nothing waits or runs any more, jobs that follow from others included."""
        while self._running:
            await asyncio.wait(self._running)

    async def stop(self) -> None:
        """Forget what waits, cancel what runs."""
        for kind, names in self._waiting.items():
            UPKEEP_QUEUED.labels(kind).dec(len(names))
            names.clear()
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._known.clear()

    def _start(self) -> None:
        while (kind := self._startable()) is not None:
            name = self._waiting[kind].popleft()
            UPKEEP_QUEUED.labels(kind).dec()
            task = asyncio.get_running_loop().create_task(self._job(kind, name), name=f"{kind} {name}")
            self._running[task] = kind
            task.add_done_callback(self._finished)

    def _startable(self) -> Kind | None:
        running = len(self._running)
        if self._waiting["fold"]:
            is_free = running < self._slots or "fold" not in self._running.values()
            return "fold" if is_free else None
        return "compact" if self._waiting["compact"] and running < self._slots else None

    async def _job(self, kind: Kind, name: str) -> None:
        try:
            await self._run(kind, name)
        finally:
            self._known.discard((kind, name))

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._start()
