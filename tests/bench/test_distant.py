import asyncio

import pytest

from benches.distant import DistantStore
from elacsym.store.memory import MemoryStore
from elacsym.store.ranges import GAP_BYTES_MAX
from elacsym.store.wrapper import keeps_files


@pytest.fixture
async def store():
    backing = MemoryStore()
    for key, size in (("a", 10), ("b", 20), ("wide", 3 * GAP_BYTES_MAX)):
        await backing.put_if_absent(key, b"x" * size)
    return DistantStore(backing, latency_s=0)


async def test_requests_one_after_the_other_are_rounds(store):
    for key in ("a", "b", "a"):
        await store.get(key)
    assert (store.requests, store.rounds, store.bytes_read) == (3, 3, 40)


async def test_requests_at_the_same_time_share_a_round(store):
    await asyncio.gather(*(store.get(key) for key in ("a", "b", "none")))
    assert (store.requests, store.rounds, store.bytes_read) == (3, 1, 30)


async def test_a_chain_counts_although_a_slow_request_overlaps_all_of_it():
    class Slow(MemoryStore):
        async def get(self, key):
            if key == "slow":
                await is_done.wait()
            return await super().get(key)

    is_done = asyncio.Event()
    store = DistantStore(Slow(), latency_s=0)
    slow = asyncio.create_task(store.get("slow"))
    await asyncio.sleep(0)
    for _ in range(3):
        await store.get("a")
    is_done.set()
    await slow
    assert store.rounds == 3


async def test_ranges_cost_what_an_s3_client_fetches(store):
    near, far = (0, 10), (2 * GAP_BYTES_MAX, 2 * GAP_BYTES_MAX + 10)
    parts = await store.get_ranges("wide", [near, (100, 110), far])
    assert [len(part) for part in parts] == [10, 10, 10]
    assert (store.requests, store.rounds, store.bytes_read) == (2, 1, 120)


async def test_a_missing_object_has_no_ranges(store):
    assert await store.get_ranges("none", [(0, 1)]) is None


async def test_counting_starts_anew(store):
    await store.get("a")
    store.reset()
    await store.get("b")
    assert (store.requests, store.rounds, store.bytes_read) == (1, 1, 20)


async def test_writes_and_listings_reach_the_backing_store(store):
    etag = await store.put_if_absent("new", b"1")
    assert await store.put_if_match("new", b"2", etag) is not None
    assert [info.key async for info in store.list("n")] == ["new"]
    await store.delete("new")
    assert await store.get("new") is None


def test_what_is_above_it_finds_no_local_files(tmp_path):
    from elacsym.store.local import LocalStore

    assert not keeps_files(DistantStore(LocalStore(tmp_path), latency_s=0))
