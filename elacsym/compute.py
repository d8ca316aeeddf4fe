"""The bounded pool for CPU work (faiss, tantivy, pyarrow and hashing release the GIL)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: fn(*args, **kwargs))

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
