"""FaultyStore: a wrapper that behaves like a bad network, seeded, for simulation, tests and drills.

A mutation may be lost, delivered late (applied during a later operation), sent twice, or lose its response;
any operation may be refused with a 503; a body may arrive with a flipped bit; a listing may miss rows. All
choices come from one `random.Random`, so a seed repeats a run. Nothing sleeps unless latency is asked for,
but every operation gives up the event loop before and after it is applied: there others interleave.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from elacsym.errors import StoreUnavailable
from elacsym.store.base import Etag, ObjectInfo, ObjectStore, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX
from elacsym.store.wrapper import StoreWrapper

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FaultRates:
    """The probability of each fault, per operation.

    lost, late, doubled: of a mutation, which is not applied, applied later, or applied twice (the caller
    hears of the second application). response_lost: of any operation, after it was applied. refused: a 503
    instead of the operation. corrupt: of a read, one bit of its body is flipped. partial_list: of a row of a
    listing, to be missing. release: per operation, that one late mutation is applied before it.
    """

    lost: float = 0.0
    late: float = 0.0
    doubled: float = 0.0
    response_lost: float = 0.0
    refused: float = 0.0
    corrupt: float = 0.0
    partial_list: float = 0.0
    release: float = 0.03

    @classmethod
    def rough(cls) -> FaultRates:
        """A bad network: every kind of lost, late and doubled request, no corruption."""
        return cls(lost=0.05, late=0.03, doubled=0.08, response_lost=0.07, refused=0.03, partial_list=0.05)


class FaultyStore(StoreWrapper):
    """`inner` behind seeded faults.

    `rates` may be replaced at any time; `is_down` refuses everything (a 503 storm, or a cut). `injected`
    counts the faults by kind. With `latency_s_max` every operation first waits a uniform time through
    `sleep`.
    """

    def __init__(
        self,
        inner: ObjectStore,
        rng: random.Random,
        rates: FaultRates | None = None,
        *,
        latency_s_max: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        self.rates = rates or FaultRates()
        self.is_down = False
        self.latency_s_max = latency_s_max
        self.injected: Counter[str] = Counter()
        self._rng, self._sleep = rng, sleep
        self._late: list[Callable[[], Awaitable[object]]] = []

    @property
    def late_count(self) -> int:
        """Mutations on their way that nobody waits for."""
        return len(self._late)

    async def deliver_late(self) -> None:
        """Apply every late mutation now, in random order."""
        while self._late:
            await self._apply_one_late()

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        return self._damaged(await self._read("get", lambda: self.inner.get(key)))

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        found = await self._read("get_if_changed", lambda: self.inner.get_if_changed(key, etag))
        return found if isinstance(found, Unchanged) else self._damaged(found)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """See ObjectStore."""
        parts = await self._read(
            "get_ranges", lambda: self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)
        )
        return None if parts is None else [self._damaged_bytes(part) for part in parts]

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        return await self._mutate("put_if_absent", lambda: self.inner.put_if_absent(key, data))

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        return await self._mutate("put_if_match", lambda: self.inner.put_if_match(key, data, etag))

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._mutate("delete", lambda: self.inner.delete(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore; rows may be missing."""
        await self._enter("list")
        async for row in self.inner.list(prefix):
            if not self._strikes("partial_list", self.rates.partial_list):
                yield row

    async def _read(self, operation: str, apply: Callable[[], Awaitable[T]]) -> T:
        await self._enter(operation)
        result = await apply()
        await self._leave(operation)
        return result

    async def _mutate(self, operation: str, apply: Callable[[], Awaitable[T]]) -> T:
        await self._enter(operation)
        if self._strikes("lost", self.rates.lost):
            raise StoreUnavailable(f"{operation}: request lost")
        if self._strikes("late", self.rates.late):
            self._late.append(apply)
            raise StoreUnavailable(f"{operation}: request delayed")
        result = await apply()
        if self._strikes("doubled", self.rates.doubled):
            result = await apply()
        await self._leave(operation)
        return result

    async def _enter(self, operation: str) -> None:
        await self._sleep(self._rng.uniform(0.0, self.latency_s_max) if self.latency_s_max else 0.0)
        if self.is_down:
            self.injected["down"] += 1
            raise StoreUnavailable(f"{operation}: 503 slow down")
        if self._late and self._rng.random() < self.rates.release:
            await self._apply_one_late()
        if self._strikes("refused", self.rates.refused):
            raise StoreUnavailable(f"{operation}: 503 slow down")

    async def _leave(self, operation: str) -> None:
        await self._sleep(0.0)
        if self._strikes("response_lost", self.rates.response_lost):
            raise StoreUnavailable(f"{operation}: response lost")

    async def _apply_one_late(self) -> None:
        self.injected["released"] += 1
        await self._late.pop(self._rng.randrange(len(self._late)))()

    def _strikes(self, kind: str, rate: float) -> bool:
        # no draw for a rate of 0, so that switching one fault off leaves a run's other choices alone
        if not rate or self._rng.random() >= rate:
            return False
        self.injected[kind] += 1
        return True

    def _damaged(self, found: StoredObject | None) -> StoredObject | None:
        return None if found is None else StoredObject(self._damaged_bytes(found.data), found.etag)

    def _damaged_bytes(self, data: bytes) -> bytes:
        if not data or not self._strikes("corrupt", self.rates.corrupt):
            return data
        damaged = bytearray(data)
        damaged[self._rng.randrange(len(damaged))] ^= 1 << self._rng.randrange(8)
        return bytes(damaged)
