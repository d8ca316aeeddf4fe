"""An asyncio event loop whose time is virtual and whose order is drawn from a seed.

Ready callbacks run in random order and time jumps to the next timer when nothing is ready, so that a run is a
function of its seed. Every callback belongs to the node in whose context it was made: a node can be paused
(its callbacks wait, as on a machine that is suspended) and killed (its tasks are cancelled).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

NODE: contextvars.ContextVar[str] = contextvars.ContextVar("node", default="")


class SimLoop(asyncio.AbstractEventLoop):
    """Runs callbacks one by one; `errors` collects what asyncio would log."""

    def __init__(self, rng: random.Random) -> None:
        self.errors: list[dict[str, Any]] = []
        self._rng = rng
        self._now_s = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._timers_made = 0
        self._paused_until: dict[str, float] = {}
        # in the order of creation: names are numbered per process, and sets are in the order of addresses
        self._tasks: defaultdict[str, dict[asyncio.Task[Any], None]] = defaultdict(dict)

    # nodes

    def spawn(self, node: str, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that belongs to `node`, as do all that it starts."""
        context = contextvars.copy_context()
        context.run(NODE.set, node)
        return context.run(self.create_task, coro)

    def pause(self, node: str, seconds: float) -> None:
        """Let nothing of `node` run for a while; time goes on."""
        self._paused_until[node] = max(self._paused_until.get(node, 0.0), self._now_s + seconds)

    def kill(self, node: str) -> None:
        """Cancel everything of `node`."""
        self._paused_until.pop(node, None)
        for task in list(self._tasks.pop(node, {})):
            task.cancel()

    def run_until_done(self, future: asyncio.Future[Any]) -> Any:
        """Run until `future` is done; its result. Raises AssertionError when everything waits for ever."""
        asyncio._set_running_loop(self)
        try:
            while not future.done():
                assert self._step(), "deadlock: nothing is ready and no timer is set"
        finally:
            asyncio._set_running_loop(None)
        return future.result()

    def drain(self) -> None:
        """Cancel everything and let it end; time stands still."""
        asyncio._set_running_loop(self)
        try:
            for node in list(self._tasks):
                self.kill(node)
            held = [handle for _, _, handle in self._timers if not isinstance(handle, asyncio.TimerHandle)]
            self._ready += held  # of paused nodes
            self._timers.clear()
            while self._ready:
                self._step()
        finally:
            asyncio._set_running_loop(None)

    def _step(self) -> bool:
        ready = self._ready
        while not ready:
            if not self._timers:
                return False
            when, _, handle = heapq.heappop(self._timers)
            self._now_s = max(self._now_s, when)
            if not handle._cancelled:
                ready.append(handle)
        index = self._rng.randrange(len(ready))
        handle = ready[index]
        ready[index] = ready[-1]
        ready.pop()
        if handle._cancelled:
            return True
        until_s = self._paused_until.get(handle._context.get(NODE, ""), 0.0) if self._paused_until else 0.0
        if until_s > self._now_s:
            self._push_timer(until_s, handle)
        else:
            handle._run()
        return True

    def _push_timer(self, when: float, handle: asyncio.Handle) -> None:
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, handle))

    # what asyncio asks of a loop

    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._push_timer(when, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        node = NODE.get()
        # asyncio's own names number tasks over the whole process, which no seed repeats
        self._timers_made += 1
        name = f"{name or ''} {self._timers_made:09d}"
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[node][task] = None
        task.add_done_callback(lambda done: self._tasks[node].pop(done, None))
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False


class SimClock:
    """The loop's time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop

    def monotonic_s(self) -> float:
        return self._loop.time()

    def wall_ms(self) -> int:
        return int(self._loop.time() * 1000)
