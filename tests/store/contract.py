"""The contract that every object store passes: subclass, and give a `store` fixture."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from elacsym.store.base import UNCHANGED, Etag, ObjectStore, StoredObject

KIB = 1024


async def keys_under(store: ObjectStore, prefix: str) -> list[str]:
    return [row.key async for row in store.list(prefix)]


class ObjectStoreContract:
    """What elacsym relies on, one sentence per test. Every test works under a prefix of its own."""

    racers = 32

    @pytest.fixture
    def prefix(self) -> str:
        return f"contract/{uuid.uuid4().hex}/"

    async def test_what_was_created_is_read_back_with_the_etag_that_was_returned(self, store, prefix):
        etag = await store.put_if_absent(prefix + "a", b"one")
        assert etag is not None
        assert await store.get(prefix + "a") == StoredObject(b"one", etag)

    async def test_a_missing_object_is_none_however_it_is_read(self, store, prefix):
        assert await store.get(prefix + "a") is None
        assert await store.get_if_changed(prefix + "a", Etag("x")) is None
        assert await store.get_ranges(prefix + "a", [(0, 1)]) is None
        assert await store.get_ranges(prefix + "a", []) is None

    async def test_creating_twice_is_refused_and_keeps_the_first_bytes(self, store, prefix):
        etag = await store.put_if_absent(prefix + "a", b"one")
        assert await store.put_if_absent(prefix + "a", b"two") is None
        assert await store.get(prefix + "a") == StoredObject(b"one", etag)

    async def test_replacing_with_the_current_etag_gives_another_etag_and_the_new_bytes(self, store, prefix):
        first = await store.put_if_absent(prefix + "a", b"one")
        second = await store.put_if_match(prefix + "a", b"two and longer", first)
        assert second not in (None, first)
        assert await store.get(prefix + "a") == StoredObject(b"two and longer", second)

    async def test_replacing_with_a_stale_etag_is_refused(self, store, prefix):
        first = await store.put_if_absent(prefix + "a", b"one")
        second = await store.put_if_match(prefix + "a", b"two", first)
        assert await store.put_if_match(prefix + "a", b"three", first) is None
        assert await store.get(prefix + "a") == StoredObject(b"two", second)

    async def test_replacing_a_missing_object_is_refused_and_creates_nothing(self, store, prefix):
        etag = await store.put_if_absent(prefix + "a", b"one")
        assert await store.put_if_match(prefix + "b", b"two", etag) is None
        assert await store.get(prefix + "b") is None

    async def test_a_conditional_read_says_unchanged_changed_or_gone(self, store, prefix):
        first = await store.put_if_absent(prefix + "a", b"one")
        assert await store.get_if_changed(prefix + "a", first) is UNCHANGED
        second = await store.put_if_match(prefix + "a", b"two", first)
        assert await store.get_if_changed(prefix + "a", first) == StoredObject(b"two", second)
        assert await store.get_if_changed(prefix + "a", second) is UNCHANGED
        await store.delete(prefix + "a")
        assert await store.get_if_changed(prefix + "a", second) is None

    async def test_a_deleted_key_can_be_created_again(self, store, prefix):
        await store.put_if_absent(prefix + "a", b"one")
        await store.delete(prefix + "a")
        assert await store.get(prefix + "a") is None
        etag = await store.put_if_absent(prefix + "a", b"two")
        assert await store.get(prefix + "a") == StoredObject(b"two", etag)

    async def test_deleting_nothing_is_no_error(self, store, prefix):
        await store.delete(prefix + "a")
        await store.delete(prefix + "b/c/d")

    async def test_ranges_come_in_the_order_asked_and_are_cut_at_the_end(self, store, prefix):
        data = bytes(range(256)) * 4
        await store.put_if_absent(prefix + "a", data)
        ranges = [(1000, 1010), (0, 4), (1020, 2000), (5, 5), (2, 6), (5000, 6000), (1024, 1025)]
        assert await store.get_ranges(prefix + "a", ranges) == [data[s:e] for s, e in ranges]

    async def test_ranges_far_apart_are_right_too(self, store, prefix):
        data = b"".join(i.to_bytes(4, "little") for i in range(400 * KIB))
        await store.put_if_absent(prefix + "a", data)
        ranges = [
            (1500 * KIB, 1500 * KIB + 9),
            (3, 70),
            (300 * KIB, 301 * KIB),
            (1599 * KIB, 1700 * KIB),
            (90, 99),
        ]
        for gap_bytes in (0, 1, 256 * KIB, 2048 * KIB):
            parts = await store.get_ranges(prefix + "a", ranges, gap_bytes=gap_bytes)
            assert parts == [data[s:e] for s, e in ranges]

    async def test_one_of_many_concurrent_creators_wins(self, store, prefix):
        bodies = [b"creator %d" % i for i in range(self.racers)]
        etags = await asyncio.gather(*(store.put_if_absent(prefix + "a", body) for body in bodies))
        winners = [(body, etag) for body, etag in zip(bodies, etags, strict=True) if etag is not None]
        assert len(winners) == 1
        assert await store.get(prefix + "a") == StoredObject(*winners[0])

    async def test_one_of_many_concurrent_replacements_wins(self, store, prefix):
        first = await store.put_if_absent(prefix + "a", b"one")
        bodies = [b"writer %d" % i for i in range(self.racers)]
        etags = await asyncio.gather(*(store.put_if_match(prefix + "a", body, first) for body in bodies))
        winners = [(body, etag) for body, etag in zip(bodies, etags, strict=True) if etag is not None]
        assert len(winners) == 1
        assert await store.get(prefix + "a") == StoredObject(*winners[0])

    async def test_concurrent_writers_who_check_their_own_effect_lose_and_double_nothing(self, store, prefix):
        key = prefix + "journal"
        await store.put_if_absent(key, b"start")

        async def write(entry: bytes) -> None:
            while entry not in (found := await store.get(key)).data.split():
                await store.put_if_match(key, found.data + b" " + entry, found.etag)

        async def writer(name: int) -> None:
            for step in range(5):
                await write(b"%d.%d" % (name, step))

        await asyncio.gather(*(writer(name) for name in range(4)))
        entries = (await store.get(key)).data.split()[1:]
        assert sorted(entries) == sorted(b"%d.%d" % (name, step) for name in range(4) for step in range(5))

    async def test_a_listing_shows_exactly_what_begins_with_the_prefix_in_key_order(self, store, prefix):
        names = ["b/2", "a", "b/1", "b-x", "b.y", "b/1x/z", "c", "b/10"]
        for name in names:
            await store.put_if_absent(prefix + name, b"x" * len(name))
        assert await keys_under(store, prefix) == sorted(prefix + name for name in names)
        assert await keys_under(store, prefix + "b/") == sorted(
            prefix + n for n in names if n.startswith("b/")
        )
        assert await keys_under(store, prefix + "b/1") == [prefix + "b/1", prefix + "b/10", prefix + "b/1x/z"]
        assert await keys_under(store, prefix + "nothing") == []

    async def test_a_listing_gives_sizes_and_times(self, store, prefix):
        await store.put_if_absent(prefix + "a", b"12345")
        [row] = [row async for row in store.list(prefix)]
        assert (row.key, row.size_bytes) == (prefix + "a", 5)
        assert row.modified_ms > 1_500_000_000_000

    async def test_a_deleted_object_leaves_the_listing(self, store, prefix):
        await store.put_if_absent(prefix + "d/a", b"1")
        await store.put_if_absent(prefix + "d/b", b"1")
        await store.delete(prefix + "d/a")
        assert await keys_under(store, prefix) == [prefix + "d/b"]

    async def test_an_object_of_several_mebibytes_survives_the_round_trip(self, store, prefix):
        data = bytes(range(251)) * 40_000
        etag = await store.put_if_absent(prefix + "large", data)
        found = await store.get(prefix + "large")
        assert found.etag == etag
        assert found.data == data
        replaced = await store.put_if_match(prefix + "large", data[1:], etag)
        assert await store.put_if_match(prefix + "large", b"stale", etag) is None
        assert (await store.get(prefix + "large")) == StoredObject(data[1:], replaced)
