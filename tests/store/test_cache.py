from __future__ import annotations

import asyncio
import errno
import random
from pathlib import Path

import numpy as np
import pytest
from contract import ObjectStoreContract

from elacsym.clock import SystemClock
from elacsym.compute import ThreadCompute
from elacsym.errors import CorruptObject, StoreUnavailable
from elacsym.format.digest import blake2b_128
from elacsym.store.cache import SMALL_BYTES_MAX, CachedStore, ObjectCache, ObjectMissing
from elacsym.store.cache_tiers import LruBytes
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.store.resolve import ResolvingStore
from elacsym.telemetry import REGISTRY

KEY = "ns/00/docs/ab/seg/job1/vectors"
SMALL = b"small and immutable"
LARGE = random.Random(0).randbytes(SMALL_BYTES_MAX * 3)


class TestCachedStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, tmp_path, compute):
        inner = MemoryStore()
        store = CachedStore(inner, ObjectCache(inner, compute=compute, folder=tmp_path))
        yield store
        await store.close()

    @pytest.fixture
    def prefix(self) -> str:
        return "ns/00/docs/ab/seg/"


@pytest.fixture
def compute():
    compute = ThreadCompute(2)
    yield compute
    compute.close()


class Bench:
    """A counted memory store, and caches of it over one folder."""

    def __init__(self, folder: Path, compute) -> None:
        self.folder, self._compute = folder, compute
        self.base = MemoryStore()
        self.faulty = FaultyStore(self.base, random.Random(0))
        self.store = MeteredStore(self.faulty)
        self._caches: list[ObjectCache] = []

    def cache(self, **options) -> ObjectCache:
        options = {"folder": self.folder, "compute": self._compute, **options}
        self._caches.append(ObjectCache(self.store, **options))
        return self._caches[-1]

    async def close(self) -> None:
        for cache in self._caches:
            await cache.close()

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


@pytest.fixture
async def bench(tmp_path, compute):
    bench = Bench(tmp_path / "cache", compute)
    await bench.base.put_if_absent(KEY, LARGE)
    await bench.base.put_if_absent("small", SMALL)
    yield bench
    await bench.close()


def lookups(tier: str, outcome: str) -> float:
    labels = {"tier": tier, "outcome": outcome}
    return REGISTRY.get_sample_value("elacsym_cache_requests_total", labels) or 0.0


async def mapped(cache: ObjectCache, key: str = KEY, data: bytes = LARGE) -> memoryview:
    view = await cache.map(key, len(data), blake2b_128(data))
    assert view == data
    assert view.readonly
    return view


@pytest.mark.parametrize(("key", "data"), [(KEY, LARGE), ("small", SMALL)])
async def test_a_mapped_object_is_fetched_once(bench, key, data):
    cache = bench.cache()
    await mapped(cache, key, data)
    await mapped(cache, key, data)
    assert bench.store.counts == {"get": 1}


async def test_a_large_map_begins_at_a_page_with_and_without_a_disk(bench):
    for options in ({}, {"folder": None}):
        view = await mapped(bench.cache(**options))
        assert np.frombuffer(view, dtype=np.uint8).ctypes.data % 4096 == 0


async def test_concurrent_maps_share_one_request(bench):
    cache = bench.cache()
    await asyncio.gather(*(mapped(cache) for _ in range(20)))
    assert bench.store.counts == {"get": 1}


async def test_a_waiter_that_gives_up_does_not_take_the_others_fetch_with_it(bench):
    cache = bench.cache()
    first = asyncio.create_task(mapped(cache))
    second = asyncio.create_task(mapped(cache))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert bench.store.counts == {"get": 1}


async def test_the_folder_serves_the_next_process(bench):
    await mapped(bench.cache())
    await mapped(bench.cache())
    assert bench.store.counts == {"get": 1}


async def test_a_missing_object_is_a_typed_error(bench):
    with pytest.raises(ObjectMissing, match="'gone' is missing"):
        await bench.cache().map("gone", 5, "0" * 32)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(LARGE[:100] + b"x" + LARGE[101:]),
        lambda path: path.write_bytes(LARGE[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
    ids=["bit flip", "cut short", "emptied", "removed"],
)
async def test_a_damaged_copy_is_dropped_and_fetched_again(bench, damage):
    await mapped(bench.cache())
    restarted = bench.cache()
    [path] = bench.files()
    damage(path)
    corrupt = lookups("disk", "corrupt")
    await mapped(restarted)
    assert bench.store.counts == {"get": 2}
    assert lookups("disk", "corrupt") == corrupt + 1
    await mapped(bench.cache())
    assert bench.store.counts == {"get": 2}


async def test_bytes_damaged_on_their_way_are_fetched_again_and_never_kept(bench):
    cache = bench.cache()
    bench.faulty.rates = FaultRates(corrupt=1.0)
    with pytest.raises(CorruptObject, match=f"{KEY}.*digest"):
        await mapped(cache)
    assert bench.store.counts == {"get": 2}
    assert bench.files() == []
    bench.faulty.rates = FaultRates()
    await mapped(cache)


async def test_an_object_of_another_size_than_the_manifest_says_is_corrupt(bench):
    with pytest.raises(CorruptObject, match="where the manifest says 7"):
        await bench.cache().map(KEY, 7, blake2b_128(LARGE))


async def test_a_full_disk_means_serving_from_memory(bench, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = bench.cache()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        await mapped(cache)
        assert (await cache.get(KEY)).data == LARGE
        assert bench.files() == []
    await mapped(cache)
    assert len(bench.files()) == 1


async def test_a_folder_that_cannot_be_used_means_memory_only(bench, tmp_path):
    (tmp_path / "file").write_text("x")
    await mapped(bench.cache(folder=tmp_path / "file" / "below"))


async def test_a_store_that_is_down_is_an_error_to_all_waiters_and_is_tried_again_later(bench):
    cache = bench.cache()
    bench.faulty.is_down = True
    outcomes = await asyncio.gather(*(mapped(cache) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    bench.faulty.is_down = False
    await mapped(cache)


async def test_the_disk_budget_evicts_the_least_recently_used_and_mapped_ones_stay_readable(bench):
    bodies = {f"object{i}": random.Random(i).randbytes(SMALL_BYTES_MAX + 1) for i in range(4)}
    for key, body in bodies.items():
        await bench.base.put_if_absent(key, body)
    cache = bench.cache(disk_bytes_max=2 * (SMALL_BYTES_MAX + 1))
    views = [await mapped(cache, key, bodies[key]) for key in ("object0", "object1")]
    await mapped(cache, "object0", bodies["object0"])
    await mapped(cache, "object2", bodies["object2"])
    assert len(bench.files()) == 2
    bench.store.reset()
    await mapped(cache, "object0", bodies["object0"])
    assert not bench.store.counts
    await mapped(cache, "object1", bodies["object1"])
    assert bench.store.counts == {"get": 1}
    assert [bytes(view) for view in views] == [bodies["object0"], bodies["object1"]]


async def test_an_object_larger_than_the_disk_budget_is_served_and_not_kept(bench):
    cache = bench.cache(disk_bytes_max=1000)
    await mapped(cache)
    assert bench.files() == []


async def test_a_smaller_budget_after_a_restart_evicts_at_once(bench):
    await mapped(bench.cache())
    bench.cache(disk_bytes_max=1000)
    assert bench.files() == []


async def test_temporary_files_of_a_killed_process_are_removed(bench):
    bench.folder.mkdir()
    (bench.folder / "0011223344556677.tmp").write_bytes(b"half")
    bench.cache()
    assert bench.files() == []


async def test_whole_reads_come_from_memory_or_disk_after_the_first(bench):
    for key, data in ((KEY, LARGE), ("small", SMALL)):
        cache = bench.cache()
        found = await bench.base.get(key)
        bench.store.reset()
        assert await cache.get(key) == found
        assert await cache.get(key) == found
        assert bench.store.counts["get"] == 1, data
    bench.store.reset()
    assert await bench.cache().get(KEY) == await bench.base.get(KEY)
    assert not bench.store.counts


async def test_a_missing_object_is_not_remembered_as_missing(bench):
    cache = bench.cache()
    assert await cache.get("later") is None
    assert await cache.get_ranges("later", [(0, 3)]) is None
    await bench.base.put_if_absent("later", b"here")
    assert (await cache.get("later")).data == b"here"
    assert await cache.get_ranges("later", [(0, 3)]) == [b"her"]


async def test_ranges_are_fetched_together_and_once(bench):
    cache = bench.cache()
    ranges = [(10, 20), (0, SMALL_BYTES_MAX + 5), (10, 20), (len(LARGE) - 1, len(LARGE) + 9)]
    expected = [LARGE[start:end] for start, end in ranges]
    assert await cache.get_ranges(KEY, ranges) == expected
    assert await cache.get_ranges(KEY, [*ranges, (30, 40)]) == [*expected, LARGE[30:40]]
    assert bench.store.counts == {"get_ranges": 2}


async def test_what_was_dropped_is_fetched_again(bench):
    cache = bench.cache()
    await cache.get(KEY)
    await cache.get_ranges(KEY, [(0, 5)])
    cache.drop(KEY)
    await cache.get(KEY)
    await cache.get_ranges(KEY, [(0, 5)])
    assert bench.store.counts == {"get": 2, "get_ranges": 2}


async def test_deletions_leave_nothing_behind_that_grows(bench, monkeypatch):
    """Every object that a collector ever deleted, log slots too, left a name in memory."""
    monkeypatch.setattr("elacsym.store.cache._DROPS_MAX", 4)
    store = CachedStore(bench.store, bench.cache())
    for number in range(10):
        await store.delete(f"ns/00/docs/0/seg/job-{number}/ids")
        await store.delete(f"ns/00/docs/0/wal/{number:020d}")
    assert list(store.cache._drops) == [f"ns/00/docs/0/seg/job-{number}/ids" for number in range(6, 10)]


async def test_the_memory_tier_keeps_to_its_budget():
    tier: LruBytes[str] = LruBytes("memory", 100)
    assert tier.put("a", "A", 40) == []
    assert tier.put("b", "B", 40) == []
    assert tier.get("a") == "A"
    assert tier.put("c", "C", 40) == ["B"]
    assert tier.put("huge", "H", 101) == ["H"]
    assert tier.put("a", "A2", 60) == ["A"]
    assert (tier.get("a"), tier.get("b"), tier.get("c"), tier.bytes) == ("A2", None, "C", 100)


async def test_mutable_keys_pass_the_cache_by(bench):
    store = CachedStore(bench.store, bench.cache())
    etag = await store.put_if_absent("ns/00/docs/manifest", b"one")
    await store.get("ns/00/docs/manifest")
    await store.put_if_match("ns/00/docs/manifest", b"two", etag)
    assert (await store.get("ns/00/docs/manifest")).data == b"two"


class TestMapsOfLocalFiles:
    @pytest.fixture
    async def local(self, tmp_path):
        store = LocalStore(tmp_path / "data")
        await store.put_if_absent(KEY, LARGE)
        await store.put_if_absent("small", SMALL)
        yield store
        await store.close()

    @pytest.fixture
    async def cache(self, local, compute, tmp_path):
        wrapped = ResolvingStore(MeteredStore(local), clock=SystemClock(), rng=random.Random(0))
        cache = ObjectCache(wrapped, compute=compute, folder=tmp_path / "cache")
        yield cache
        await cache.close()

    async def test_the_stores_own_file_is_mapped_and_nothing_is_copied(self, cache, tmp_path):
        await mapped(cache)
        await mapped(cache, "small", SMALL)
        assert list((tmp_path / "cache").iterdir()) == []

    async def test_a_map_outlives_the_deletion_of_its_object(self, cache, local):
        view = await mapped(cache)
        await local.delete(KEY)
        assert view == LARGE
        with pytest.raises(ObjectMissing):
            await mapped(cache)

    async def test_a_flipped_bit_is_found_at_the_first_map(self, cache, tmp_path):
        path = tmp_path / "data" / KEY
        damaged = bytearray(path.read_bytes())
        damaged[1000] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(CorruptObject, match="digest"):
            await mapped(cache)

    async def test_a_file_cut_short_is_found(self, cache, tmp_path):
        path = tmp_path / "data" / KEY
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(CorruptObject, match="trailer"):
            await mapped(cache)
