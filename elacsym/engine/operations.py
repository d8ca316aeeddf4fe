"""Work that goes on after its request was answered. What becomes of it lies in the bucket, where any node
finds it.

The node that does the work renews the object while it goes on. One that is not renewed for `silent_s`, on the
clock of a node that is asked for it again and again, belongs to a node that died: whoever notices says so in
its place, by compare-and-swap, so that the answer never changes once it is given. Whether the work was done
is not known then, which the failure says.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from elacsym.clock import Clock, full_jitter_s, new_nonce
from elacsym.errors import ElacsymError, NotFound, Overloaded, StoreUnavailable
from elacsym.format import keys
from elacsym.format.operation import Failure, Operation
from elacsym.store.base import Etag, ObjectStore
from elacsym.telemetry import OPERATIONS, OPERATIONS_RUNNING, get_logger

_log = get_logger("operations")

Work = Callable[[], Awaitable[Any]]

_TOKEN = re.compile(r"[0-9a-f]{32}")
_ATTEMPTS = 8
_SEEN_MAX = 4_096
RUNNING_MAX = 256


@dataclass(frozen=True, slots=True)
class OperationSettings:
    """Durations in seconds. beat_s: how often running work is renewed. silent_s: after how long without that
    its node counts as dead. kept_s: how long what became of it can be asked for."""

    beat_s: float = 5.0
    silent_s: float = 30.0
    kept_s: float = 86_400.0


@dataclass(slots=True)
class _Written:
    """An operation as this node wrote it last."""

    operation: Operation
    etag: Etag


@dataclass(frozen=True, slots=True)
class _Sight:
    nonce: str
    since_s: float


class Operations:
    """The operations that this node works on, and what it can tell of those of others."""

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        rng: random.Random,
        node_id: str,
        settings: OperationSettings | None = None,
    ) -> None:
        self._store, self._clock, self._rng, self._node_id = store, clock, rng, node_id
        self._settings = settings or OperationSettings()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._starting = 0
        self._seen: dict[str, _Sight] = {}

    async def close(self) -> None:
        """Break off what runs, and say so; bounded by the attempts of the store."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, namespace: str, work: Work) -> str:
        """Begin `work`, which gives a JSON value, or raises; the token under which to ask.

        Raises Overloaded where RUNNING_MAX run, StoreUnavailable; nothing was begun then.
        """
        if len(self._running) + self._starting >= RUNNING_MAX:
            raise Overloaded(f"{RUNNING_MAX} operations are running, and no more are allowed at once")
        token = new_nonce(self._rng)
        operation = Operation(namespace, token, self._node_id, self._clock.wall_ms(), new_nonce(self._rng))
        self._starting += 1
        try:
            etag = await self._store.put_if_absent(keys.operation(namespace, token), operation.encode())
        finally:
            self._starting -= 1
        if etag is None:
            raise StoreUnavailable(f"{keys.operation(namespace, token)}: the name of a new object is taken")
        task = asyncio.create_task(self._work(_Written(operation, etag), work), name=f"operation {token}")
        self._running[token] = task
        OPERATIONS_RUNNING.set(len(self._running))
        task.add_done_callback(lambda _: self._ended(token))
        return token

    async def state(self, namespace: str, token: str) -> Operation:
        """What is known of an operation. Raises NotFound, CorruptObject, StoreUnavailable."""
        unknown = NotFound(f"operation '{token[:64]}' of namespace '{namespace}' was not found")
        if _TOKEN.fullmatch(token) is None or not keys.is_valid_name(namespace):
            raise unknown
        key = keys.operation(namespace, token)
        for _ in range(_ATTEMPTS):
            found = await self._store.get(key)
            if found is None:
                raise unknown
            operation = Operation.decode(found.data, key=key)
            if not operation.is_running or token in self._running or not self._is_silent(operation):
                return operation
            failed = self._finished(
                operation,
                failure=Failure(
                    503,
                    "outcome_unknown",
                    f"node '{operation.node}' gave no sign of life; whether the work was done is not known",
                ),
            )
            if await self._store.put_if_match(key, failed.encode(), found.etag) is not None:
                OPERATIONS.labels("abandoned").inc()
                return failed
        raise StoreUnavailable(f"{key}: changes faster than it can be read")

    async def tidy(self) -> int:
        """Remove the operations that nothing was written of for `kept_s`; how many. Raises
        StoreUnavailable."""
        # a wall clock may decide this: nothing but the memory of ended work depends on it
        before_ms = self._clock.wall_ms() - int(self._settings.kept_s * 1_000)
        old = [
            info.key
            async for info in self._store.list(keys.OPERATIONS_PREFIX)
            if info.modified_ms < before_ms
        ]
        for key in old:
            await self._store.delete(key)
        return len(old)

    # the work

    async def _work(self, written: _Written, work: Work) -> None:
        beating = asyncio.create_task(self._beat(written), name=f"beat {written.operation.token}")
        result: Any = None
        failure: Failure | None = None
        try:
            result = await work()
        except ElacsymError as error:
            failure = Failure(error.status, error.code, str(error))
        except asyncio.CancelledError:
            failure = Failure(503, "unavailable", "the node stopped before the work was done")
            raise
        except Exception:  # noqa: BLE001 - the supervisor of background work
            _log.exception("operation failed", namespace=written.operation.namespace)
            failure = Failure(500, "internal", "internal error")
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            OPERATIONS.labels("failed" if failure else "done").inc()
            await self._finish(written, result, failure)

    async def _beat(self, written: _Written) -> None:
        """Renew the object until somebody else has ended it."""
        while True:
            await asyncio.sleep(self._settings.beat_s)
            operation = written.operation
            try:
                if not await self._swapped(written, replace(operation, beat=operation.beat + 1)):
                    return
            except StoreUnavailable:
                # the next one is soon
                continue

    async def _finish(self, written: _Written, result: Any, failure: Failure | None) -> None:
        """Say what became of the work, unless somebody else said that nobody knows."""
        for attempt in range(_ATTEMPTS):
            try:
                await self._swapped(written, self._finished(written.operation, result, failure))
            except StoreUnavailable as error:
                _log.warning("operation not recorded yet", reason=str(error))
                await asyncio.sleep(full_jitter_s(self._rng, attempt))
            else:
                return

    async def _swapped(self, written: _Written, after: Operation) -> bool:
        """Write `after`; False where somebody else ended the operation."""
        key = keys.operation(after.namespace, after.token)
        after = replace(after, nonce=new_nonce(self._rng))
        etag = await self._store.put_if_match(key, after.encode(), written.etag)
        if etag is None:
            # a write of ours whose answer was lost, or the verdict of another node
            found = await self._store.get(key)
            if found is None or not Operation.decode(found.data, key=key).is_running:
                return False
            etag = await self._store.put_if_match(key, after.encode(), found.etag)
            if etag is None:
                return False
        written.operation, written.etag = after, etag
        return True

    def _finished(
        self, operation: Operation, result: Any = None, failure: Failure | None = None
    ) -> Operation:
        return replace(
            operation,
            nonce=new_nonce(self._rng),
            finished_ms=max(operation.started_ms, self._clock.wall_ms()),
            result=result,
            failure=failure,
        )

    def _is_silent(self, operation: Operation) -> bool:
        """Whether this node has seen the same state for so long that nobody can be working on it."""
        now_s = self._clock.monotonic_s()
        sight = self._seen.get(operation.token)
        if sight is None or sight.nonce != operation.nonce:
            while len(self._seen) >= _SEEN_MAX:
                del self._seen[next(iter(self._seen))]
            self._seen[operation.token] = sight = _Sight(operation.nonce, now_s)
        return now_s - sight.since_s >= self._settings.silent_s

    def _ended(self, token: str) -> None:
        del self._running[token]
        OPERATIONS_RUNNING.set(len(self._running))
