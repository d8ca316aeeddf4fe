"""Namespaces brought into the cache on demand: in the background, each once at a time, a few at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from elacsym.errors import ElacsymError, Overloaded
from elacsym.telemetry import WARMINGS, get_logger

_log = get_logger("warming")

_CONCURRENT_MAX = 2
_WAITING_MAX = 1_000


class Warming:
    """The warm-ups of one server. Used on the event loop only."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT_MAX)

    def begin(self, name: str, warm: Callable[[str], Awaitable[None]]) -> bool:
        """Have `warm(name)` run soon; False where it waits or runs already. Raises Overloaded."""
        if name in self._tasks:
            return False
        if len(self._tasks) >= _WAITING_MAX:
            raise Overloaded(f"{_WAITING_MAX} namespaces wait to be brought into the cache")
        task = asyncio.create_task(self._run(name, warm), name=f"warm {name}")
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name))
        return True

    async def close(self) -> None:
        """Stop what waits and what runs; what was brought stays in the cache."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, warm: Callable[[str], Awaitable[None]]) -> None:
        async with self._slots:
            try:
                await warm(name)
            except ElacsymError as error:
                # nobody waits for it: queries will meet the same trouble, or fetch what is missing
                WARMINGS.labels(outcome="failed").inc()
                _log.warning("warm-up failed", namespace=name, code=error.code, reason=str(error))
            except Exception:  # noqa: BLE001 - the supervisor of background work
                WARMINGS.labels(outcome="failed").inc()
                _log.exception("warm-up failed", namespace=name)
            else:
                WARMINGS.labels(outcome="done").inc()
