"""The bounded pools for CPU work (faiss, tantivy, pyarrow and hashing release the GIL).

Queries and bulk work (decoding and encoding of large writes, building of segments) have a pool each: no query
stands in line behind a build. They still share the interpreter, so bulk work gives way: it begins when no
query is being answered, and what is long and holds the interpreter calls `give_way` on its way. Else a query
would wait for the interpreter anew, half a millisecond at least, each time that it let go of it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

# how long after it was asked for a piece of bulk work begins in any case: queries mostly take no longer
BULK_WAIT_S = 0.002
# how much longer it may wait on its way, of the time that it has worked
_BULK_WAIT_SHARE = 0.25
_bulk = threading.local()


def give_way() -> None:
    """Let queries go first, if this is a thread of bulk work whose piece has not waited long enough.

    Long work in Python calls it every millisecond or so; it costs a tenth of a microsecond.
    """
    turn: _Turn | None = getattr(_bulk, "turn", None)
    if turn is not None:
        turn.wait()


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

    def ahead(self) -> AbstractContextManager[None]:
        """Bulk work gives way to the block, wherever that computes or waits."""
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
        self._ahead = 0
        self._is_quiet = threading.Event()
        self._is_quiet.set()
        self._bulk = _BulkCompute(self._is_quiet, count, name=f"{name}-bulk")

    @property
    def bulk(self) -> Compute:
        """See Compute."""
        return self._bulk

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """See Compute."""
        self._ahead += 1
        if self._ahead == 1:
            self._is_quiet.clear()
        try:
            yield
        finally:
            self._ahead -= 1
            if not self._ahead:
                self._is_quiet.set()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` in the pool, ahead of bulk work."""
        with self.ahead():
            return await in_thread(self._pool, lambda: fn(*args, **kwargs))

    def close(self) -> None:
        """Wait for running work and end."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._bulk.close()


class _Turn:
    """A piece of bulk work, asked for now, and the time it may wait: in a queue, to begin, and on its way."""

    def __init__(self, is_quiet: threading.Event) -> None:
        self._is_quiet, self._asked_s = is_quiet, time.monotonic()
        self._worked_from_s = self._waited_s = 0.0

    def begin(self) -> None:
        """Return when nothing is ahead, or BULK_WAIT_S after the piece was asked for: those that stand in
        line wait at the same time."""
        if not self._is_quiet.is_set():
            self._is_quiet.wait(max(0.0, self._asked_s + BULK_WAIT_S - time.monotonic()))
        self._worked_from_s = time.monotonic()

    def wait(self) -> None:
        """Return when nothing is ahead, or the share of the time worked is used up."""
        if self._is_quiet.is_set():
            return
        now_s = time.monotonic()
        worked_s = now_s - self._worked_from_s - self._waited_s
        left_s = worked_s * _BULK_WAIT_SHARE - self._waited_s
        if left_s > 0.0:
            self._is_quiet.wait(left_s)
            self._waited_s += time.monotonic() - now_s


class _BulkCompute:
    """A thread pool whose work gives way: `is_quiet` is set while there is nothing to give way to."""

    def __init__(self, is_quiet: threading.Event, threads: int, *, name: str) -> None:
        self._is_quiet = is_quiet
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    @property
    def bulk(self) -> Compute:
        return self

    def ahead(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        turn = _Turn(self._is_quiet)

        def work() -> T:
            _bulk.turn = turn
            try:
                turn.begin()
                return fn(*args, **kwargs)
            finally:
                _bulk.turn = None

        return await in_thread(self._pool, work)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class InlineCompute:
    """Runs work at once on the caller's stack: for the simulator, where threads would not be repeatable."""

    @property
    def bulk(self) -> Compute:
        """See Compute."""
        return self

    def ahead(self) -> AbstractContextManager[None]:
        """See Compute."""
        return nullcontext()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn` now."""
        return fn(*args, **kwargs)

    def close(self) -> None:
        """Nothing to end."""
