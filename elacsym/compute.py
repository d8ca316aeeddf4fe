"""The bounded pool for CPU work (faiss, tantivy, pyarrow and hashing release the GIL)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


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
    """Where CPU work runs."""

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` off the event loop and return its result; exceptions pass through."""
        ...

    def close(self) -> None:
        """Wait for running work and end."""
        ...


class ThreadCompute:
    """A thread pool; `threads` defaults to the machine's cores."""

    def __init__(self, threads: int | None = None, *, name: str = "compute") -> None:
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix=name)

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in the pool."""
        return await in_thread(self._pool, lambda: fn(*args, **kwargs))

    def close(self) -> None:
        """Wait for running work and end."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class InlineCompute:
    """Runs work at once on the caller's stack: for the simulator, where threads would not be repeatable."""

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` now."""
        return fn(*args, **kwargs)

    def close(self) -> None:
        """Nothing to end."""
