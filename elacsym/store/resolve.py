"""ResolvingStore: bounded retries, and the truth about a conditional write that was not a clean success.

Layers below resend requests, so a won create can come back as a refusal, and an answer can be lost. Every
conditional object holds a nonce of its writer, hence equal bytes are ours: after anything but success the
object is read back.

    ours                               -> its ETag, success
    another writer's                   -> None, refused
    missing, or for a replacement still the version we named:
        after a clean refusal          -> None: the caller reads for itself and finds what it finds
        after an error                 -> the same bytes are sent again
    tries or time used up              -> StoreUnavailable: it may have been applied, or be applied later

None therefore means "what is stored there is not ours", not "ours was never there": a replacement whose
answer was lost may have been replaced in turn. Callers re-read and check their own effect.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from elacsym.clock import Clock, full_jitter_s
from elacsym.errors import StoreUnavailable
from elacsym.store.base import Etag, ObjectInfo, ObjectStore, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX
from elacsym.store.wrapper import StoreWrapper
from elacsym.telemetry import RETRIES

T = TypeVar("T")

_BYTES_PER_S_MIN = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Budget:
    """How much one request may cost. One try may last `try_s`, and 1 s more for every 8 MiB that it sends.

    No try begins later than `total_s` after the first did.
    """

    tries: int = 4
    try_s: float = 15.0
    total_s: float = 30.0


class ResolvingStore(StoreWrapper):
    """`inner` with retries and resolution; `rng` and `sleep` make the jitter."""

    def __init__(
        self,
        inner: ObjectStore,
        *,
        clock: Clock,
        rng: random.Random,
        budget: Budget | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        self._clock, self._rng, self._sleep = clock, rng, sleep
        self._budget = budget or Budget()

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        return await self._retried("get", lambda: self.inner.get(key))

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        return await self._retried("get_if_changed", lambda: self.inner.get_if_changed(key, etag))

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """See ObjectStore."""
        return await self._retried(
            "get_ranges", lambda: self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)
        )

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore; an error or refusal is resolved as the module says."""
        send = partial(self.inner.put_if_absent, key, data)
        return await self._resolved("put_if_absent", key, data, send, replaced=None)

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore; an error or refusal is resolved as the module says."""
        send = partial(self.inner.put_if_match, key, data, etag)
        return await self._resolved("put_if_match", key, data, send, replaced=etag)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._retried("delete", lambda: self.inner.delete(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore; after an error it goes on behind the last row that was given out."""
        last_key = ""
        tries = self._tries("list")
        while True:
            try:
                async for row in self.inner.list(prefix):
                    if row.key > last_key:
                        last_key = row.key
                        yield row
                return
            except StoreUnavailable as error:
                await tries.after(error)

    async def _retried(self, operation: str, send: Callable[[], Awaitable[T]]) -> T:
        tries = self._tries(operation)
        while True:
            try:
                return await tries.timed(send())
            except StoreUnavailable as error:
                await tries.after(error)

    async def _resolved(
        self,
        operation: str,
        key: str,
        data: bytes,
        send: Callable[[], Awaitable[Etag | None]],
        *,
        replaced: Etag | None,
    ) -> Etag | None:
        tries = self._tries(operation, len(data))
        while True:
            failure: StoreUnavailable | None = None
            try:
                etag = await tries.timed(send())
                if etag is not None:
                    return etag
            except StoreUnavailable as error:
                failure = error
            try:
                found = await tries.timed(self.inner.get(key))
            except StoreUnavailable as error:
                await tries.after(error)
                continue
            if found is not None and found.data == data:
                return found.etag
            current = None if found is None else found.etag
            if failure is None or current != replaced:
                return None
            await tries.after(failure)

    def _tries(self, operation: str, sent_bytes: int = 0) -> _Tries:
        return _Tries(operation, sent_bytes, self._budget, self._clock, self._rng, self._sleep)


class _Tries:
    """The tries of one request: their time-outs, their number, and the pauses between them."""

    def __init__(
        self,
        operation: str,
        sent_bytes: int,
        budget: Budget,
        clock: Clock,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._operation, self._budget = operation, budget
        self._clock, self._rng, self._sleep = clock, rng, sleep
        self._try_s = budget.try_s + sent_bytes / _BYTES_PER_S_MIN
        self._end_s = clock.monotonic_s() + budget.total_s
        self._failed = 0

    async def timed(self, request: Awaitable[T]) -> T:
        """Await one request; too long is StoreUnavailable."""
        try:
            async with asyncio.timeout(self._try_s):
                return await request
        except TimeoutError as error:
            raise StoreUnavailable(f"{self._operation}: no answer in {self._try_s:.1f} s") from error

    async def after(self, error: StoreUnavailable) -> None:
        """Wait before the next try, or raise `error` when tries or time are used up."""
        pause_s = full_jitter_s(self._rng, self._failed)
        self._failed += 1
        if self._failed >= self._budget.tries or self._clock.monotonic_s() + pause_s > self._end_s:
            raise StoreUnavailable(f"{error} (gave up after {self._failed} tries)") from error
        RETRIES.labels(f"store_{self._operation}").inc()
        await self._sleep(pause_s)
