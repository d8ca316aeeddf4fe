from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import mmap
import random
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from cache_bench import DATA, KEY, REF, Bench, brought, lookups, metric, sample, unit_span
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.compute import InlineCompute, ThreadCompute
from elacsym.errors import CorruptObject, StoreUnavailable
from elacsym.format.blob import UNIT_BYTES, Blob, Head
from elacsym.format.manifest import FileRef
from elacsym.format.reading import GAP_BYTES
from elacsym.store import blocks, mapped
from elacsym.store.cache import ObjectCache, ObjectMissing
from elacsym.store.drive import drive
from elacsym.store.faults import FaultRates
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.store.s3 import S3Store
from elacsym.telemetry import measured_reads

UNITS = len(Head.parse(DATA, KEY).crcs)
WHOLE = (0, len(DATA))


@pytest.fixture
def compute():
    compute = ThreadCompute(2)
    yield compute
    compute.close()


@pytest.fixture
async def bench(tmp_path, compute):
    bench = Bench(tmp_path / "cache", compute)
    await bench.base.put_if_absent(KEY, DATA)
    yield bench
    await bench.close()


@pytest.fixture(params=["folder", "memory"])
def options(request):
    return {} if request.param == "folder" else {"folder": None}


def flipped(data: bytes, place: int) -> bytes:
    damaged = bytearray(data)
    damaged[place] ^= 1
    return bytes(damaged)


def damage(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        [byte] = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1]))


async def test_what_is_brought_is_at_hand_and_nothing_else_is(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    assert not file.has(0, 1)
    await brought(file, (unit_span(7)[0] + 5, unit_span(8)[0] + 1))
    assert file.has(unit_span(7)[0], unit_span(8)[1])
    assert not file.has(unit_span(6)[0], unit_span(7)[1])
    assert not file.has(unit_span(8)[0], unit_span(9)[0] + 1)
    assert not file.has(*WHOLE)


async def test_head_and_eager_part_come_in_the_same_round_as_the_first_ranges(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    await brought(file, (unit_span(30)[0], unit_span(30)[0] + 1))
    assert bench.asked == [(0, unit_span(0)[1]), unit_span(30)]
    assert bench.store.rounds == 1
    assert file.has(0, file.eager_bytes)


async def test_opening_a_blob_is_one_request_of_its_head_and_eager_part(bench, compute, options):
    file = bench.cache(**options).file(KEY, REF)
    opened = await drive(Blob.opened(file), compute)
    assert bench.asked == [(0, unit_span(0)[1])]
    assert opened.array("eager", np.uint8, None).tobytes() in DATA


async def test_bytes_at_hand_are_not_asked_for_again(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    await brought(file, unit_span(3))
    bench.store.reset()
    await brought(file, unit_span(3), (0, 10))
    assert not bench.store.counts
    await brought(file, (unit_span(2)[0], unit_span(4)[1]))
    assert bench.asked[-2:] == [unit_span(2), unit_span(4)]


async def test_ranges_nearer_than_the_gap_are_one_and_what_is_between_is_kept(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    await brought(file, unit_span(10), unit_span(13), unit_span(30), gap_bytes=3 * UNIT_BYTES)
    assert bench.asked == [(0, unit_span(0)[1]), (unit_span(10)[0], unit_span(13)[1]), unit_span(30)]
    bench.store.reset()
    await brought(file, unit_span(11), unit_span(12))
    assert not bench.store.counts


async def test_the_view_of_the_bytes_stays_the_same_and_cannot_be_written(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    await brought(file, unit_span(3))
    first = file.data
    await brought(file, WHOLE)
    assert file.data is first
    assert first.readonly
    assert first == DATA


async def test_a_whole_file_is_brought_in_bounded_pieces(bench, options, monkeypatch):
    monkeypatch.setattr(blocks, "PIECE_BYTES", 5 * UNIT_BYTES)
    file = bench.cache(**options).file(KEY, REF)
    await brought(file, WHOLE)
    assert all(stop - start <= 5 * UNIT_BYTES + REF.head_bytes for start, stop in bench.asked)
    assert file.has(*WHOLE)
    assert bench.store.counts["get_ranges"] == len(bench.asked) == -(-UNITS // 5)


async def test_many_ranges_are_grouped_into_bounded_pieces(bench, monkeypatch):
    monkeypatch.setattr(blocks, "PIECE_BYTES", 4 * UNIT_BYTES)
    file = bench.cache().file(KEY, REF)
    await brought(file, *(unit_span(unit) for unit in range(1, UNITS, 2)))
    assert len(bench.asked) == UNITS // 2  # the first with head and eager part
    assert bench.store.counts["get_ranges"] == -(-(UNITS // 2 + 1) // 4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_brought_in_whatever_order_is_right(data):
    """Also when several readers want overlapping ranges at once."""
    bounds = st.integers(0, len(DATA))
    span = st.tuples(bounds, bounds).map(lambda pair: (min(pair), max(pair)))
    reads = data.draw(st.lists(st.lists(span, min_size=1, max_size=4), min_size=1, max_size=6))
    gap = data.draw(st.sampled_from([0, 1, UNIT_BYTES, GAP_BYTES]))

    async def run() -> None:
        store = MemoryStore()
        await store.put_if_absent(KEY, DATA)
        cache = ObjectCache(store, compute=InlineCompute())
        file = cache.file(KEY, REF)
        half = len(reads) // 2
        await asyncio.gather(*(brought(file, *spans, gap_bytes=gap) for spans in reads[:half]))
        for spans in reads[half:]:
            await brought(file, *spans, gap_bytes=gap)
        for start, stop in itertools.chain(*reads):
            assert file.has(start, stop)
        await cache.close()

    asyncio.run(run())


# sharing


async def test_concurrent_wants_of_the_same_bytes_make_one_request(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    shared = metric("elacsym_cache_shared_total")
    await asyncio.gather(*(brought(file, unit_span(5)) for _ in range(20)))
    assert bench.store.counts == {"get_ranges": 1}
    assert metric("elacsym_cache_shared_total") == shared + 19


async def test_concurrent_wants_that_overlap_ask_for_every_unit_once(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    wants = [(unit_span(unit)[0], unit_span(unit + 3)[1]) for unit in range(0, 20, 2)]
    await asyncio.gather(*(brought(file, want) for want in wants))
    assert sum(stop - start for start, stop in bench.asked) == unit_span(21)[1]


async def test_a_reader_that_gives_up_does_not_take_the_others_fetch_with_it(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    first = asyncio.create_task(brought(file, unit_span(5)))
    second = asyncio.create_task(brought(file, unit_span(5)))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert bench.store.counts == {"get_ranges": 1}


async def test_a_head_that_two_fetches_bring_is_written_once(bench, monkeypatch):
    """The second would write to a descriptor that was closed when the file was whole, and may be of another
    file by then."""
    file = bench.cache().file(KEY, REF)
    body = [DATA]
    await asyncio.to_thread(file._look_up, [range(UNITS)])
    check = file._checked_head

    def checked_head(data):
        monkeypatch.setattr(file, "_checked_head", check)
        assert file._take([WHOLE], body) == []  # what another thread does meanwhile
        return check(data)

    monkeypatch.setattr(file, "_checked_head", checked_head)
    monkeypatch.setattr(mapped, "_write_all", write := Mock(wraps=mapped._write_all))
    assert file._take([WHOLE], body) == []
    assert [call.args[1] for call in write.call_args_list] == [0, REF.head_bytes]
    assert file.has(*WHOLE)


async def test_a_store_that_is_down_is_an_error_to_all_readers_and_is_tried_again_later(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    bench.faulty.is_down = True
    wants = [(unit_span(3),), (unit_span(3),), (unit_span(8),), (WHOLE,)]
    outcomes = await asyncio.gather(*(brought(file, *want) for want in wants), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 4
    assert not file.has(0, 1)
    bench.faulty.is_down = False
    await brought(file, WHOLE)


async def test_the_same_file_is_given_to_everybody_for_as_long_as_it_is_used(bench):
    cache = bench.cache()
    file = cache.file(KEY, REF)
    await brought(file, unit_span(1))
    assert cache.file(KEY, REF) is file


# damage


@pytest.mark.parametrize(
    "place", [0, REF.head_bytes - 1, REF.head_bytes, unit_span(9)[0] + 77, len(DATA) - 1]
)
async def test_an_object_that_is_damaged_in_the_store_is_reported_with_key_and_offset(bench, options, place):
    await bench.base.delete(KEY)
    await bench.base.put_if_absent(KEY, flipped(DATA, place))
    file = bench.cache(**options).file(KEY, REF)
    with pytest.raises(CorruptObject) as caught:
        await file.bring([WHOLE], 0)
    unit = (place - REF.head_bytes) // UNIT_BYTES
    assert (caught.value.key, caught.value.offset) == (KEY, unit_span(unit)[0] if unit >= 0 else 0)
    assert not file.has(place, place + 1)


async def test_what_is_good_beside_a_damaged_unit_is_served(bench, options):
    await bench.base.delete(KEY)
    await bench.base.put_if_absent(KEY, flipped(DATA, unit_span(9)[0]))
    file = bench.cache(**options).file(KEY, REF)
    with pytest.raises(CorruptObject):
        await file.bring([WHOLE], 0)
    await brought(file, (0, unit_span(8)[1]), (unit_span(10)[0], len(DATA)))


async def test_every_damaged_unit_of_a_cache_file_is_fetched_again_and_no_other(bench):
    file = bench.cache().file(KEY, REF)
    await brought(file, WHOLE)
    [path] = bench.files()
    damaged = [0, 5, 6, UNITS - 1]
    for unit in damaged:
        damage(path, unit_span(unit)[0] + 3)
    del file
    corrupt = lookups("disk", "corrupt")
    bench.asked.clear()
    await brought(bench.cache().file(KEY, REF), WHOLE)
    last = unit_span(UNITS - 1)
    assert bench.asked == [unit_span(0), (unit_span(5)[0], unit_span(6)[1]), (last[0], last[1] + 1)]
    assert lookups("disk", "corrupt") == corrupt + 4
    bench.asked.clear()
    await brought(bench.cache().file(KEY, REF), WHOLE)
    assert bench.asked == []


async def test_a_bit_flip_anywhere_in_a_cache_file_is_never_served(bench):
    await brought(bench.cache().file(KEY, REF), WHOLE)
    [path] = bench.files()
    rng = random.Random(5)
    for place in [*range(40), *(rng.randrange(len(DATA)) for _ in range(60))]:
        damage(path, place)
        bench.asked.clear()
        await brought(bench.cache().file(KEY, REF), WHOLE)
        assert bench.asked, place


async def test_a_damaged_head_of_a_cache_file_is_fetched_again(bench):
    await brought(bench.cache().file(KEY, REF), WHOLE)
    damage(bench.files()[0], 40)
    corrupt = lookups("disk", "corrupt")
    file = bench.cache().file(KEY, REF)
    await brought(file, WHOLE)
    assert lookups("disk", "corrupt") == corrupt + 1
    assert bench.asked[-1][1] == len(DATA) + 1


@pytest.mark.parametrize("size", [0, 1, 100, len(DATA) - 1, len(DATA) + 1])
async def test_a_cache_file_of_another_size_is_replaced(bench, size):
    await brought(bench.cache().file(KEY, REF), WHOLE)
    [path] = bench.files()
    path.write_bytes((DATA + b"x")[:size])
    bench.asked.clear()
    file = bench.cache().file(KEY, REF)
    await brought(file, WHOLE)
    assert bench.asked == [(0, len(DATA) + 1)]
    assert path.read_bytes() == DATA


async def test_a_body_damaged_on_its_way_is_fetched_once_more(bench, options):
    file = bench.cache(**options).file(KEY, REF)
    bench.faulty.rates = FaultRates(corrupt=1.0)
    bench.faulty.inner = Mending(bench.base, bench.faulty)
    corrupt = lookups("store", "corrupt")
    await brought(file, unit_span(20))
    assert bench.store.counts == {"get_ranges": 2}
    assert lookups("store", "corrupt") == corrupt + 1


class Mending:
    """Passes to `inner`, and ends the corruption with the second read."""

    def __init__(self, inner, faulty) -> None:
        self.inner, self.faulty, self.reads = inner, faulty, 0

    async def get_ranges(self, key, ranges, *, gap_bytes=0):
        self.reads += 1
        if self.reads > 1:
            self.faulty.rates = FaultRates()
        return await self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)


async def test_bodies_that_always_arrive_damaged_are_reported_and_never_kept(bench):
    cache = bench.cache()
    bench.faulty.rates = FaultRates(corrupt=1.0)
    with pytest.raises(CorruptObject, match=KEY):
        await cache.file(KEY, REF).bring([WHOLE], 0)
    assert bench.store.counts == {"get_ranges": 2}
    bench.faulty.rates = FaultRates()
    await brought(bench.cache().file(KEY, REF), WHOLE)


async def test_a_missing_object_is_a_typed_error(bench, options):
    with pytest.raises(ObjectMissing, match="'gone' is missing"):
        await bench.cache(**options).file("gone", REF).bring([(0, 1)], 0)


@pytest.mark.parametrize("data", [DATA[:-1], DATA[:100], DATA + b"x"], ids=["cut", "cut short", "longer"])
async def test_an_object_of_another_size_than_the_manifest_says_is_corrupt(bench, options, data):
    await bench.base.delete(KEY)
    await bench.base.put_if_absent(KEY, data)
    with pytest.raises(CorruptObject, match=f"manifest says {len(DATA)} bytes") as caught:
        await bench.cache(**options).file(KEY, REF).bring([WHOLE], 0)
    assert caught.value.offset == min(len(data), len(DATA))


async def test_a_head_of_another_layout_than_the_manifest_says_is_corrupt(bench):
    other = FileRef(**{f: getattr(REF, f) for f in REF.__slots__} | {"size_bytes": len(DATA) - UNIT_BYTES})
    with pytest.raises(CorruptObject, match="different sizes"):
        await bench.cache().file(KEY, other).bring([(0, 10)], 0)


# the next process


async def test_an_earlier_process_left_its_units_and_they_are_checked_not_fetched(bench):
    await brought(bench.cache().file(KEY, REF), unit_span(5), unit_span(20))
    bench.asked.clear()
    file = bench.cache().file(KEY, REF)
    assert not file.has(*unit_span(5))
    hits = lookups("disk", "hit")
    with measured_reads() as reads:
        await brought(file, unit_span(20), unit_span(5))
    assert bench.asked == []
    assert lookups("disk", "hit") == hits + 3
    assert (reads.store_bytes, reads.store_requests, reads.disk_bytes) == (0, 0, 3 * UNIT_BYTES)
    await brought(file, (unit_span(4)[0], unit_span(6)[1]))
    assert bench.asked == [unit_span(4), unit_span(6)]


async def test_a_unit_of_which_only_a_part_was_written_is_no_damage_and_fetched_again(bench):
    await brought(bench.cache().file(KEY, REF), WHOLE)
    [path] = bench.files()
    start, stop = unit_span(5)
    page = start + -start % mmap.PAGESIZE
    assert start < page < stop
    data = path.read_bytes()
    path.unlink()
    with path.open("wb") as file:
        file.write(data[:page])
        file.seek(stop)
        file.write(data[stop:])
    bench.asked.clear()
    corrupt = lookups("disk", "corrupt")
    await brought(bench.cache().file(KEY, REF), WHOLE)
    assert bench.asked == [unit_span(5)]
    assert lookups("disk", "corrupt") == corrupt


async def test_holes_are_no_damage(bench):
    await brought(bench.cache().file(KEY, REF), unit_span(5))
    corrupt = lookups("disk", "corrupt")
    await brought(bench.cache().file(KEY, REF), WHOLE)
    assert lookups("disk", "corrupt") == corrupt


async def test_what_a_query_brought_is_told_to_whoever_measures(bench):
    file = bench.cache().file(KEY, REF)
    with measured_reads() as reads:
        await brought(file, unit_span(20), unit_span(30))
        await brought(file, unit_span(20))
    assert (reads.store_bytes, reads.store_requests) == (REF.head_bytes + 3 * UNIT_BYTES, 3)


# where the bytes are


async def test_a_cache_file_takes_only_the_disk_of_what_was_brought(bench):
    data, ref = await bench.put("large", units=400)
    await brought(bench.cache().file("large", ref), unit_span(300, ref), data=data)
    [path] = bench.files()
    stat = path.stat()
    assert stat.st_size == len(data)
    assert stat.st_blocks * 512 < len(data) / 10


async def test_a_full_disk_means_serving_from_memory_and_neighbours_stay_right(bench, monkeypatch):
    """Units share pages: one that goes to memory must not hide what is written to the file beside it."""
    cache = bench.cache()
    file = cache.file(KEY, REF)
    await brought(file, unit_span(5))
    with monkeypatch.context() as patched:
        patched.setattr(mapped.os, "pwrite", no_space)
        await brought(file, unit_span(7))
    for unit in (6, 8, 4):
        await brought(file, unit_span(unit))
    await brought(file, WHOLE)
    assert file.held_bytes()[1] >= 5 * UNIT_BYTES
    assert metric("elacsym_cache_bytes", tier="maps") >= 5 * UNIT_BYTES


async def test_no_page_that_the_file_lacks_is_mapped_from_a_full_disk(bench, monkeypatch):
    """A full tmpfs kills whoever as much as looks at such a page."""
    data, ref = await bench.put("large", units=400)
    file = bench.cache().file("large", ref)
    await brought(file, unit_span(300, ref), data=data)
    [path] = bench.files()
    assert mapped_bytes(path) >= len(data)
    with monkeypatch.context() as patched:
        patched.setattr(mapped.os, "pwrite", no_space)
        await brought(file, unit_span(100, ref), unit_span(301, ref), data=data)
    # the head, and unit 300
    assert mapped_bytes(path) <= path.stat().st_blocks * 512 <= len(data) / 10
    await brought(file, (0, len(data)), data=data)


def mapped_bytes(path: Path) -> int:
    spans = [row.split()[0] for row in Path("/proc/self/maps").read_text().splitlines() if str(path) in row]
    return sum(int(stop, 16) - int(start, 16) for start, stop in (span.split("-") for span in spans))


def no_space(*args):
    raise OSError(28, "No space left on device")


async def test_a_folder_that_takes_no_more_files_means_serving_from_memory(bench, monkeypatch):
    cache = bench.cache()
    file = cache.file(KEY, REF)
    with monkeypatch.context() as patched:
        patched.setattr(mapped.os, "ftruncate", no_space)
        await brought(file, unit_span(5))
    await brought(file, WHOLE)
    assert file.held_bytes() == (0, len(DATA))


async def test_files_and_maps_are_closed_when_nobody_refers_to_them(bench):
    cache = bench.cache(compute=InlineCompute())  # a pool's thread lets go of its work a little later
    contents = {f"f{i}": await bench.put(f"f{i}", seed=i) for i in range(8)}
    assert (descriptors(bench.folder), maps(bench.folder)) == (0, 0)
    files = [cache.file(key, ref) for key, (_, ref) in contents.items()]
    for file, (data, ref) in zip(files, contents.values(), strict=True):
        await brought(file, unit_span(3, ref), data=data)
    assert descriptors(bench.folder) >= 8
    assert maps(bench.folder) == 8
    del files, file
    gc.collect()
    assert (descriptors(bench.folder), maps(bench.folder)) == (0, 0)


def descriptors(folder: Path) -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself, and of other threads
            found += str(descriptor.readlink()).startswith(str(folder))
    return found


def maps(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(folder))


async def test_bytes_outlive_the_file_they_came_from(bench):
    """An array over a file that was let go of is still good: whoever uses the bytes holds the map."""
    file = bench.cache().file(KEY, REF)
    await brought(file, WHOLE)
    array = np.frombuffer(file.data, np.uint8)
    del file
    gc.collect()
    bench.files()[0].unlink()
    assert array.tobytes() == DATA


# folder stores


class TestFilesOfAFolderStore:
    @pytest.fixture
    async def local(self, tmp_path):
        store = LocalStore(tmp_path / "data")
        await store.put_if_absent(KEY, DATA)
        yield store
        await store.close()

    @pytest.fixture
    async def cache(self, local, compute, tmp_path):
        cache = ObjectCache(MeteredStore(local), compute=compute, folder=tmp_path / "cache")
        yield cache
        await cache.close()

    async def test_the_stores_own_file_is_mapped_checked_and_nothing_is_copied(self, cache, tmp_path):
        file = cache.file(KEY, REF)
        await brought(file, unit_span(4), (5, 9))
        assert not file.has(*unit_span(3))
        await brought(file, WHOLE)
        assert not (tmp_path / "cache").exists()
        assert file.held_bytes() == (0, 0)

    @pytest.mark.parametrize("place", [0, REF.head_bytes - 1, unit_span(9)[0] + 77, len(DATA) - 1])
    async def test_damage_is_reported_with_key_and_offset_when_it_is_first_wanted(
        self, cache, tmp_path, place
    ):
        damage(tmp_path / "data" / KEY, place)
        file = cache.file(KEY, REF)
        unit = (place - REF.head_bytes) // UNIT_BYTES
        if unit >= 0:
            await brought(file, unit_span(unit - 1))
        for _ in range(2):
            with pytest.raises(CorruptObject) as caught:
                await file.bring([WHOLE], 0)
            assert (caught.value.key, caught.value.offset) == (KEY, unit_span(unit)[0] if unit >= 0 else 0)
        assert not file.has(place, place + 1)

    async def test_a_file_cut_short_and_one_that_is_gone_are_typed_errors(self, cache, local, tmp_path):
        path = tmp_path / "data" / KEY
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(CorruptObject, match="trailer"):
            await cache.file(KEY, REF).bring([WHOLE], 0)
        await local.put_if_absent("short", DATA[:-1])
        with pytest.raises(CorruptObject, match=f"{len(DATA) - 1} bytes where the manifest says {len(DATA)}"):
            await cache.file("short", REF).bring([WHOLE], 0)
        with pytest.raises(ObjectMissing):
            await cache.file("gone", REF).bring([WHOLE], 0)

    async def test_bytes_outlive_the_deletion_of_the_object(self, cache, local):
        file = cache.file(KEY, REF)
        await file.bring([unit_span(1)], 0)
        await local.delete(KEY)
        await brought(file, WHOLE)


async def test_ranges_come_from_an_s3_bucket(moto_server, compute, tmp_path):
    store: S3Store = moto_server.store("blocks/")
    metered = MeteredStore(store)
    data, ref = sample(300, eager_bytes=30_000)
    await store.put_if_absent(KEY, data)
    cache = ObjectCache(metered, compute=compute, folder=tmp_path / "cache")
    file = cache.file(KEY, ref)
    await brought(file, unit_span(250, ref), unit_span(100, ref), data=data, gap_bytes=GAP_BYTES)
    assert metered.counts == {"get_ranges": 1}
    await brought(file, (0, len(data)), data=data)
    await cache.close()
    await store.close()
    gc.collect()
