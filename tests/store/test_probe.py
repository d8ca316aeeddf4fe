from __future__ import annotations

import asyncio
import random

import pytest

from elacsym.clock import SystemClock
from elacsym.errors import StoreUnavailable, UnsafeStore
from elacsym.store.base import StoredObject
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.store.probe import probe, require_safe
from elacsym.store.resolve import Budget, ResolvingStore
from elacsym.store.wrapper import StoreWrapper


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


def wrapped(store) -> ResolvingStore:
    budget = Budget(tries=50)
    return ResolvingStore(
        MeteredStore(store),
        clock=SystemClock(),
        rng=random.Random(0),
        budget=budget,
        sleep=no_pause,
    )


class IgnoresConditions(StoreWrapper):
    """Takes every put, as a store does that does not know the headers."""

    async def put_if_absent(self, key, data):
        await self.inner.delete(key)
        return await self.inner.put_if_absent(key, data)

    async def put_if_match(self, key, data, etag):
        return await self.put_if_absent(key, data)


class IgnoresIfMatch(StoreWrapper):
    async def put_if_match(self, key, data, etag):
        await self.inner.delete(key)
        return await self.inner.put_if_absent(key, data)


class RefusesIfMatch(StoreWrapper):
    """Wants a spelling of ETags that nobody knows."""

    async def put_if_match(self, key, data, etag):
        return None


class LetsRacersWin(StoreWrapper):
    """Checks, then writes: right one at a time, wrong in a race."""

    async def put_if_absent(self, key, data):
        if await self.inner.get(key) is not None:
            return None
        await asyncio.sleep(0)
        await self.inner.delete(key)
        return await self.inner.put_if_absent(key, data)


class LetsReplacersWin(StoreWrapper):
    async def put_if_match(self, key, data, etag):
        found = await self.inner.get(key)
        if found is None or found.etag != etag:
            return None
        await asyncio.sleep(0)
        await self.inner.delete(key)
        return await self.inner.put_if_absent(key, data)


class ReadsAreStale(StoreWrapper):
    """Reads show the version before, for one read after each write."""

    def __init__(self, inner) -> None:
        super().__init__(inner)
        self.before: dict[str, StoredObject | None] = {}

    async def put_if_absent(self, key, data):
        self.before[key] = await self.inner.get(key)
        return await self.inner.put_if_absent(key, data)

    async def get(self, key):
        return self.before.pop(key) if key in self.before else await self.inner.get(key)


class KeepsDeleted(StoreWrapper):
    async def delete(self, key):
        pass


class ListsNothing(StoreWrapper):
    async def list(self, prefix):
        for row in ():
            yield row


LIES = {
    IgnoresConditions: "an existing object is not created again",
    IgnoresIfMatch: "a stale ETag is refused",
    RefusesIfMatch: "the current ETag replaces",
    LetsRacersWin: "one of 32 concurrent creators wins",
    LetsReplacersWin: "one of 32 concurrent replacements wins",
    ReadsAreStale: "what was written is read",
    KeepsDeleted: "a deleted object can be created again",
    ListsNothing: "a listing shows what was written",
}


@pytest.mark.parametrize(
    ("lying", "caught_by"), LIES.items(), ids=lambda value: getattr(value, "__name__", "")
)
async def test_a_lying_store_is_refused(lying, caught_by):
    report = await probe(wrapped(lying(MemoryStore())), random.Random(0))
    assert caught_by in [check.name for check in report.checks if not check.passed]
    with pytest.raises(UnsafeStore, match=caught_by):
        report.require_safe()


async def test_an_honest_store_passes_and_is_left_empty(tmp_path):
    for base in (MemoryStore(), LocalStore(tmp_path)):
        store = wrapped(base)
        report = await require_safe(store, random.Random(0))
        assert report.passed
        assert len(report.checks) == 9
        assert report.identity == base.identity
        assert [row async for row in store.list("")] == []
        await store.close()


async def test_a_store_with_a_bad_network_passes():
    rates = FaultRates(lost=0.1, doubled=0.1, response_lost=0.1, refused=0.1)
    for seed in range(5):
        report = await probe(
            wrapped(FaultyStore(MemoryStore(), random.Random(seed), rates)), random.Random(0)
        )
        assert report.passed, report


async def test_a_store_that_is_down_is_unavailable_and_not_unsafe():
    faulty = FaultyStore(MemoryStore(), random.Random(0))
    faulty.is_down = True
    with pytest.raises(StoreUnavailable):
        await require_safe(wrapped(faulty), random.Random(0))
