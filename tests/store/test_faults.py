from __future__ import annotations

import asyncio
import random

import pytest
from contract import ObjectStoreContract

from elacsym.errors import StoreUnavailable
from elacsym.store.base import StoredObject
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore


class TestFaultyStoreWithoutFaults(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        return FaultyStore(MemoryStore(), random.Random(0))


def faulty(**rates) -> FaultyStore:
    return FaultyStore(MemoryStore(), random.Random(1), FaultRates(**rates))


async def fails(awaitable) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        await awaitable
    return str(caught.value)


async def test_a_lost_request_is_not_applied():
    store = faulty(lost=1.0)
    assert "lost" in await fails(store.put_if_absent("a", b"1"))
    assert await store.inner.get("a") is None


async def test_a_lost_response_hides_that_the_request_was_applied():
    store = faulty(response_lost=1.0)
    assert "response lost" in await fails(store.put_if_absent("a", b"1"))
    assert (await store.inner.get("a")).data == b"1"


async def test_a_late_request_is_applied_during_a_later_operation():
    store = faulty(late=1.0, release=0.0)
    await fails(store.put_if_absent("a", b"1"))
    assert await store.get("a") is None
    store.rates = FaultRates(release=1.0)
    assert (await store.get("a")).data == b"1"
    assert store.late_count == 0


async def test_late_requests_can_be_delivered_at_once():
    store = faulty(late=1.0, release=0.0)
    await fails(store.put_if_absent("a", b"1"))
    await fails(store.put_if_absent("a", b"2"))
    await store.deliver_late()
    assert (await store.inner.get("a")).data in (b"1", b"2")


async def test_a_doubled_create_reports_the_refusal_of_its_own_copy():
    store = faulty(doubled=1.0)
    assert await store.put_if_absent("a", b"1") is None
    assert (await store.inner.get("a")).data == b"1"


async def test_a_store_that_is_down_refuses_everything_and_recovers():
    store = faulty()
    await store.put_if_absent("a", b"1")
    store.is_down = True
    await fails(store.get("a"))
    await fails(store.delete("a"))
    await fails(anext(store.list("")))
    store.is_down = False
    assert (await store.get("a")).data == b"1"


async def test_a_corrupt_read_differs_in_one_bit_and_leaves_the_object_alone():
    store = faulty(corrupt=1.0)
    await store.put_if_absent("a", b"12345678")
    read = (await store.get("a")).data
    assert (int.from_bytes(read) ^ int.from_bytes(b"12345678")).bit_count() == 1
    [part] = await store.get_ranges("a", [(2, 6)])
    assert (int.from_bytes(part) ^ int.from_bytes(b"3456")).bit_count() == 1
    assert (await store.inner.get("a")).data == b"12345678"


async def test_a_partial_listing_misses_rows():
    store = faulty(partial_list=0.5)
    for i in range(40):
        await store.put_if_absent(f"k{i}", b"1")
    rows = [row.key async for row in store.list("")]
    assert 0 < len(rows) < 40


async def test_latency_goes_through_the_sleep_that_was_handed_in():
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    store = FaultyStore(MemoryStore(), random.Random(1), latency_s_max=3.0, sleep=sleep)
    await store.get("a")
    assert 0.0 < waits[0] < 3.0


async def test_the_same_seed_gives_the_same_faults():
    async def run(seed: int) -> list[object]:
        store = FaultyStore(MemoryStore(), random.Random(seed), FaultRates.rough())
        trace: list[object] = []
        for i in range(300):
            try:
                found = (
                    await store.put_if_absent(f"k{i % 7}", b"%d" % i)
                    if i % 3
                    else await store.get(f"k{i % 7}")
                )
                trace.append(found.data if isinstance(found, StoredObject) else found)
            except StoreUnavailable as error:
                trace.append(str(error))
        return [*trace, dict(store.injected)]

    assert await run(5) == await run(5)
    assert await run(5) != await run(6)


async def test_operations_give_way_to_others():
    store = faulty()
    order: list[str] = []

    async def work(name: str) -> None:
        await store.get("a")
        order.append(name)
        await store.get("a")
        order.append(name)

    await asyncio.gather(work("x"), work("y"))
    assert order == ["x", "y", "x", "y"]
