"""The bounded pools for CPU work (faiss, tantivy, pyarrow and hashing release the GIL).

Queries and bulk work (decoding and encoding of large writes, building of segments) have a pool each: no query
stands in line behind a build. They still share the interpreter, so bulk work begins when no query is in the
pool, or after a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

# how long a piece of bulk work waits for queries: enough for those that run, too little to starve
BULK_WAIT_S_MAX = 0.01


async def in_thread(pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    """The result of `work`, run in a thread of `pool`; exceptions pass through.

    What `run_in_executor` does, without the second future that it chains to the first: a hop is most of what
    a small read or search costs. Work whose caller gave up before it began is not done.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(cast("T", result))

    def job() -> None:
        if future.cancelled():
            return
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the caller's
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    def forgotten(queued: Future[None]) -> None:
        # the pool was closed before the work began
        if queued.cancelled() and not loop.is_closed():
            loop.call_soon_threadsafe(future.cancel)

    pool.submit(job).add_done_callback(forgotten)
    return await future


class Compute(Protocol):
    """Where CPU work runs. Used on one event loop."""

    @property
    def bulk(self) -> Compute:
        """Where work runs that takes long or comes in bulk: it lets other work go first."""
        ...

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` off the event loop and return its result; exceptions pass through."""
        ...

    def close(self) -> None:
        """Wait for running work and end."""
        ...


class ThreadCompute:
    """A thread pool, and another one for bulk work; `threads` of each, by default the machine's cores."""

    def __init__(self, threads: int | None = None, *, name: str = "compute") -> None:
        count = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._running = 0
        self._is_quiet = asyncio.Event()
        self._bulk = _BulkCompute(self._quiet, count, name=f"{name}-bulk")

    @property
    def bulk(self) -> Compute:
        """See Compute."""
        return self._bulk

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in the pool."""
        self._running += 1
        try:
            return await in_thread(self._pool, lambda: fn(*args, **kwargs))
        finally:
            self._running -= 1
            if not self._running:
                self._is_quiet.set()

    def close(self) -> None:
        """Wait for running work and end."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._bulk.close()

    async def _quiet(self) -> None:
        """Return when nothing runs or waits in the pool, after BULK_WAIT_S_MAX in any case."""
        if not self._running:
            return
        self._is_quiet.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BULK_WAIT_S_MAX):
                await self._is_quiet.wait()


class _BulkCompute:
    """A thread pool whose work begins after `quiet()`, one piece after the other."""

    def __init__(self, quiet: Callable[[], Awaitable[None]], threads: int, *, name: str) -> None:
        self._quiet = quiet
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = asyncio.Semaphore(threads)

    @property
    def bulk(self) -> Compute:
        return self

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        async with self._places:
            await self._quiet()
            return await in_thread(self._pool, lambda: fn(*args, **kwargs))

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class InlineCompute:
    """Runs work at once on the caller's stack: for the simulator, where threads would not be repeatable."""

    @property
    def bulk(self) -> Compute:
        """See Compute."""
        return self

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` now."""
        return fn(*args, **kwargs)

    def close(self) -> None:
        """Nothing to end."""
