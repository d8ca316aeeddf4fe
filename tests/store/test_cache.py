from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from pathlib import Path

import numpy as np
import pytest
from cache_bench import Bench, brought, lookups, unit_span
from contract import ObjectStoreContract

from elacsym.clock import SystemClock
from elacsym.compute import ThreadCompute
from elacsym.errors import CorruptObject, StoreUnavailable
from elacsym.format.digest import blake2b_128
from elacsym.store.cache import CachedStore, ObjectCache, ObjectMissing
from elacsym.store.faults import FaultRates
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.store.resolve import ResolvingStore
from elacsym.store.whole import SMALL_BYTES_MAX

KEY = "ns/00/docs/ab/seg/job1/rows.parquet"
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


@pytest.fixture
async def bench(tmp_path, compute):
    bench = Bench(tmp_path / "cache", compute)
    await bench.base.put_if_absent(KEY, LARGE)
    await bench.base.put_if_absent("small", SMALL)
    yield bench
    await bench.close()


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
    cache = bench.cache(disk_bytes_max=160_000)
    views = [await mapped(cache, key, bodies[key]) for key in ("object0", "object1")]
    bench.clock.now_s += 10
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


async def test_what_was_dropped_is_fetched_again(bench):
    cache = bench.cache()
    data, ref = await bench.put("blob")
    for _ in range(2):
        await mapped(cache)
        await mapped(cache, "small", SMALL)
        await brought(cache.file("blob", ref), unit_span(3, ref), data=data)
        for key in (KEY, "small", "blob"):
            await cache.drop(key)
        assert bench.files() == []
        assert cache.residents.bytes == 0
    assert bench.store.counts == {"get": 4, "get_ranges": 2}


async def test_a_deleted_segment_file_leaves_the_cache(bench):
    store = CachedStore(bench.store, bench.cache())
    await mapped(store.cache)
    await store.delete(KEY)
    assert bench.files() == []
    with pytest.raises(ObjectMissing):
        await mapped(store.cache)


async def test_files_are_freed_in_the_pool(bench, monkeypatch):
    """Freeing a large one takes tens of milliseconds."""
    threads, unlink = [], os.unlink

    def recorded(path, **options):
        threads.append(threading.current_thread())
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", recorded)
    data, ref = await bench.put("b0")
    cache = bench.cache(disk_bytes_max=200_000)
    cache.residents.put("b0", file := cache.file("b0", ref), 1)
    await brought(file, unit_span(3, ref), data=data)
    del file
    other, other_ref = await bench.put("b1", seed=1)
    await brought(cache.file("b1", other_ref), (0, unit_span(20, other_ref)[1]), data=other)
    await cache.drop("b1")
    assert bench.files() == []
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_mutable_keys_pass_the_cache_by(bench):
    store = CachedStore(bench.store, bench.cache())
    etag = await store.put_if_absent("ns/00/docs/manifest", b"one")
    await store.get("ns/00/docs/manifest")
    await store.put_if_match("ns/00/docs/manifest", b"two", etag)
    assert (await store.get("ns/00/docs/manifest")).data == b"two"


# blobs: which files are kept


def held(bench) -> float:
    return sum(path.stat().st_blocks * 512 for path in bench.files())


async def test_the_folder_keeps_to_its_budget_of_allocated_bytes(bench):
    blobs = {f"b{i}": await bench.put(f"b{i}", seed=i) for i in range(10)}
    cache = bench.cache(disk_bytes_max=1_000_000)
    for _ in range(2):
        for key, (data, ref) in blobs.items():
            await brought(cache.file(key, ref), (0, len(data)), data=data)
            assert held(bench) <= 1_000_000
    assert 2 <= len(bench.files()) <= 3
    assert bench.cache()._folder.held_bytes == held(bench)


async def test_a_scan_over_everything_does_not_flush_what_is_used_again_and_again(bench):
    blobs = {f"b{i}": await bench.put(f"b{i}", seed=i) for i in range(12)}
    cache = bench.cache(disk_bytes_max=1_500_000)
    for _ in range(3):
        bench.clock.now_s += 10
        data, ref = blobs["b0"]
        await brought(cache.file("b0", ref), (0, len(data)), data=data)
    for key, (data, ref) in list(blobs.items())[1:]:
        bench.clock.now_s += 10
        await brought(cache.file(key, ref), (0, len(data)), data=data)
    bench.store.reset()
    data, ref = blobs["b0"]
    await brought(cache.file("b0", ref), (0, len(data)), data=data)
    assert not bench.store.counts


async def test_looking_at_what_was_made_of_a_file_keeps_the_file(bench):
    blobs = {f"b{i}": await bench.put(f"b{i}", seed=i) for i in range(12)}
    cache = bench.cache(disk_bytes_max=1_500_000)
    data, ref = blobs["b0"]
    file = cache.file("b0", ref)
    await brought(file, (0, len(data)), data=data)
    cache.residents.put("b0", file, 100)
    del file
    for key, (data, ref) in list(blobs.items())[1:]:
        bench.clock.now_s += 10
        assert cache.residents.get("b0") is not None
        await brought(cache.file(key, ref), (0, len(data)), data=data)
    assert cache.residents.get("b0").has(0, len(blobs["b0"][0]))


async def test_an_evicted_file_stays_readable_and_its_successor_is_another(bench):
    data, ref = await bench.put("b0")
    cache = bench.cache(disk_bytes_max=200_000)
    file = cache.file("b0", ref)
    await brought(file, unit_span(3, ref), data=data)
    other, other_ref = await bench.put("b1", seed=1)
    await brought(cache.file("b1", other_ref), (0, unit_span(20, other_ref)[1]), data=other)
    assert len(bench.files()) == 1
    successor = cache.file("b0", ref)
    assert successor is not file
    await brought(file, (0, len(data)), data=data)
    await brought(successor, unit_span(3, ref), data=data)
    assert held(bench) <= 200_000


async def test_what_was_made_of_an_evicted_file_goes_with_it(bench):
    data, ref = await bench.put("f/b0")
    cache = bench.cache(disk_bytes_max=200_000)
    file = cache.file("f/b0", ref)
    await brought(file, unit_span(3, ref), data=data)
    cache.residents.put("f/b0", "head", 10)
    cache.residents.put("f/b0#codes", "codes", 10)
    await brought(file, (0, len(data)), data=data)
    assert (cache.residents.get("f/b0"), cache.residents.get("f/b0#codes")) == (None, None)
    cache.residents.put("f/b0", "made while it was evicted", 10)
    assert cache.residents.get("f/b0") is None


async def test_a_file_above_the_budget_is_served_and_not_kept_beyond_its_use(bench):
    data, ref = await bench.put("b0")
    cache = bench.cache(disk_bytes_max=100_000)
    file = cache.file("b0", ref)
    await brought(file, (0, len(data)), data=data)
    assert file.has(0, len(data))
    assert bench.files() == []


async def test_without_a_disk_files_share_the_memory_budget_with_what_was_made_of_them(bench):
    blobs = {f"b{i}": await bench.put(f"b{i}", seed=i) for i in range(10)}
    cache = bench.cache(folder=None, memory_bytes_max=1_000_000)
    for key, (data, ref) in blobs.items():
        await brought(cache.file(key, ref), (0, len(data)), data=data)
        cache.residents.put(key, "head", 1_000)
        assert cache.residents.bytes <= 1_000_000
    bench.store.reset()
    data, ref = blobs["b9"]
    await brought(cache.file("b9", ref), (0, len(data)), data=data)
    assert not bench.store.counts
    assert cache.residents.get("b0") is None
    data, ref = blobs["b0"]
    await brought(cache.file("b0", ref), unit_span(1, ref), data=data)
    assert bench.store.counts == {"get_ranges": 1}


async def test_a_file_that_was_used_since_it_came_stays_in_memory_longer(bench):
    blobs = {f"b{i}": await bench.put(f"b{i}", seed=i) for i in range(8)}
    cache = bench.cache(folder=None, memory_bytes_max=1_000_000)
    for key, (data, ref) in blobs.items():
        bench.clock.now_s += 10
        await brought(cache.file(key, ref), (0, len(data)), data=data)
        first, first_ref = blobs["b0"]
        await brought(cache.file("b0", first_ref), unit_span(2, first_ref), data=first)
    assert len(bench.asked) == 8


async def test_no_more_files_are_open_than_allowed(bench):
    """Thousands of namespaces hold what was made of their files: their descriptors would run out."""
    blobs = {f"b{i}": await bench.put(f"b{i}", units=2, seed=i) for i in range(60)}
    cache = bench.cache(files_open_max=16)
    for key, (data, ref) in blobs.items():
        bench.clock.now_s += 10
        file = cache.file(key, ref)
        await brought(file, unit_span(0, ref), data=data)
        cache.residents.put(key, file, 10)
        del file
        assert len(cache._files) <= 16
    assert cache.residents.get("b59") is not None
    assert cache.residents.get("b0") is None


async def test_warming_brings_the_whole_file_in_pieces(bench, monkeypatch):
    monkeypatch.setattr("elacsym.store.cache.PIECE_BYTES", 100_000)
    data, ref = await bench.put("b0")
    cache = bench.cache()
    await cache.warm("b0", ref)
    assert bench.store.counts["get_ranges"] == -(-len(data) // 100_000)
    bench.store.reset()
    await brought(cache.file("b0", ref), (0, len(data)), data=data)
    assert not bench.store.counts


async def test_warming_ends_where_the_budget_ends(bench, monkeypatch):
    monkeypatch.setattr("elacsym.store.cache.PIECE_BYTES", 50_000)
    _, ref = await bench.put("b0")
    await bench.cache(disk_bytes_max=100_000).warm("b0", ref)
    assert bench.store.counts["get_ranges"] <= 3
    assert bench.files() == []


async def test_closing_ends_fetches_that_are_under_way(bench):
    _, ref = await bench.put("b0")
    cache = bench.cache()
    file = cache.file("b0", ref)
    evicted = cache.file("evicted", (await bench.put("evicted"))[1])
    reads = [
        asyncio.create_task(file.bring([(0, 10)], 0)),
        asyncio.create_task(evicted.bring([(0, 10)], 0)),
        asyncio.create_task(mapped(cache)),
    ]
    await asyncio.sleep(0)
    await cache.drop("evicted")
    await cache.close()
    assert all(
        isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*reads, return_exceptions=True)
    )


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
        assert not (tmp_path / "cache").exists()

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


async def test_readers_under_faults_and_eviction_see_right_bytes_or_an_error(bench):
    blobs = {f"b{i}": await bench.put(f"b{i}", seed=i) for i in range(6)}
    bench.faulty.rates = FaultRates(corrupt=0.1, refused=0.1, response_lost=0.1)
    cache = bench.cache(disk_bytes_max=800_000, memory_bytes_max=100_000, files_open_max=3)
    rng = random.Random(3)
    served = 0

    async def reader() -> None:
        nonlocal served
        for _ in range(40):
            key = rng.choice(list(blobs))
            data, ref = blobs[key]
            file = cache.residents.get(key) or cache.file(key, ref)
            starts = [rng.randrange(len(data)) for _ in range(rng.randint(1, 4))]
            spans = [(start, min(len(data), start + rng.randrange(1, 60_000))) for start in starts]
            try:
                await brought(file, *spans, data=data, gap_bytes=rng.choice([0, 20_000]))
                served += 1
            except (StoreUnavailable, CorruptObject):
                continue
            cache.residents.put(key, file, rng.randrange(50_000))
            if rng.random() < 0.05:
                await cache.drop(key)

    await asyncio.gather(*(reader() for _ in range(8)))
    assert served > 100
    assert held(bench) <= 800_000
    assert cache._folder.held_bytes == pytest.approx(held(bench), abs=100_000)
    cache.residents.clear()
    bench.faulty.rates = FaultRates()
    for key, (data, ref) in blobs.items():
        await brought(cache.file(key, ref), (0, len(data)), data=data)
