"""Following a log: what a check costs, proves and refuses."""

import asyncio
import random
from dataclasses import replace

import pytest
from log_nodes import FAST, Node, create, entry_of, new_store, put_entry

from elacsym.errors import CorruptObject, InvalidRequest, NamespaceNotFound, StoreUnavailable
from elacsym.format.wal_entry import EntryKind
from elacsym.log import catalog, transitions
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.types import Schema


async def fold_all(node):
    """Fold the node's whole tail without segments."""
    slots = list(node.reader.slots)
    done = await node.reader.file.update(lambda m: transitions.fold(m, slots, job="-", schema=Schema()))
    node.reader.adopt(done.manifest, done.etag)


async def two_nodes(count=3):
    """A writer of `count` single writes, and a reader that has not looked yet."""
    store = await new_store()
    writer, reader = Node(store), Node(store, seed=1)
    for i in range(count):
        await writer.write(b"%d" % i)
    return store, writer, reader


async def test_a_strong_check_of_an_unchanged_log_costs_two_reads():
    _, _, node = await two_nodes()
    await node.reader.open()
    node.store.sent.clear()
    await node.reader.check()
    assert node.store.sent == {"get_slot": 1, "get_if_changed": 1}


async def test_a_cold_open_probes_32_slots_and_the_manifest():
    _, _, node = await two_nodes()
    await node.reader.open()
    assert node.store.sent == {"get": 1, "get_slot": 32, "get_if_changed": 1}
    assert node.consumer.payloads == [b"0", b"1", b"2"]
    assert node.reader.tail == 4


async def test_one_entry_behind_is_caught_up_by_galloping_eight_wide():
    _, writer, node = await two_nodes()
    await node.reader.open()
    await writer.write(b"3")
    node.store.sent.clear()
    await node.reader.check()
    assert node.store.sent == {"get_slot": 9, "get_if_changed": 2}
    assert node.consumer.payloads[-1] == b"3"


async def test_a_long_tail_is_read_in_few_rounds():
    _, writer, node = await two_nodes(200)
    await node.reader.open()
    assert node.store.sent["get_if_changed"] == 3
    assert node.reader.tail == writer.reader.tail == 201
    assert node.reader.unfolded_bytes == writer.reader.unfolded_bytes > 0


async def test_callers_that_come_while_a_check_runs_share_the_next_one():
    _, _, node = await two_nodes()
    await node.reader.open()
    node.store.sent.clear()
    await asyncio.gather(*(node.reader.check() for _ in range(50)))
    assert node.store.sent == {"get_slot": 2, "get_if_changed": 2}


async def test_a_cancelled_caller_does_not_take_the_check_from_the_others():
    _, _, node = await two_nodes()
    first, second = (asyncio.ensure_future(node.reader.check()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert node.consumer.payloads == [b"0", b"1", b"2"]
    await node.reader.close()


async def test_a_changed_manifest_resets_and_keeps_the_unfolded_slots():
    _, writer, node = await two_nodes()
    await node.reader.open()
    slots = list(writer.reader.slots)[:2]
    done = await writer.reader.file.update(lambda m: transitions.fold(m, slots, job="-", schema=Schema()))
    await node.reader.check()
    assert node.reader.manifest == done.manifest
    assert node.consumer.resets == [(done.manifest.inc, 0), (done.manifest.inc, 2)]
    assert [s.seq for s in node.reader.slots] == [2, 3]
    assert node.consumer.payloads == [b"0", b"1", b"2"]  # none is applied again


async def test_a_reader_that_fell_behind_the_fold_jumps_over_it():
    store, writer, node = await two_nodes(0)
    await node.reader.open()
    for i in range(3):
        await writer.write(b"%d" % i)
    await fold_all(writer)
    for slot in range(4):
        await store.delete(writer.reader.keys.wal(writer.reader.manifest.inc, slot))
    await writer.write(b"3")
    await node.reader.check()
    assert node.reader.tail == 5
    assert node.consumer.payloads == [b"3"]
    assert node.consumer.resets[-1] == (writer.reader.manifest.inc, 4)
    assert node.reader.tail_digest == writer.reader.tail_digest
    assert node.reader.epoch == writer.reader.epoch


async def test_void_entries_are_slots_but_are_not_applied():
    store, _, node = await two_nodes(1)
    await node.reader.open()
    epoch = node.reader.epoch
    for e, kind, payload in (
        (epoch + 5, EntryKind.CLAIM, b""),
        (epoch, EntryKind.WRITE, b"void"),
        (epoch + 5, EntryKind.WRITE, b"counts"),
    ):
        await put_entry(store, node.reader, entry_of(node.reader, payload, epoch=e, kind=kind))
        await node.reader.check()
    assert node.consumer.payloads == [b"0", b"counts"]
    assert [s.is_void for s in node.reader.slots][-3:] == [False, True, False]
    assert node.reader.epoch == epoch + 5


async def test_at_least_asks_nothing_when_the_view_holds_the_slot():
    _, writer, node = await two_nodes()
    committed = await writer.write(b"3")
    writer.store.sent.clear()
    await writer.reader.at_least(committed.seq, committed.inc)
    assert not writer.store.sent
    await node.reader.at_least(committed.seq, committed.inc)
    assert node.consumer.payloads[-1] == b"3"


async def test_at_least_a_slot_that_is_not_written_is_refused():
    _, _, node = await two_nodes()
    with pytest.raises(InvalidRequest, match="slot 99 is not written yet") as caught:
        await node.reader.at_least(99)
    assert caught.value.field == "min_seq"


async def test_at_least_a_slot_of_a_gone_incarnation_is_a_strong_read():
    _, _, node = await two_nodes()
    await node.reader.at_least(99, "11" * 8)
    assert node.consumer.payloads == [b"0", b"1", b"2"]


async def test_an_eventual_read_serves_what_is_there_and_is_bounded():
    _, writer, node = await two_nodes()
    await node.reader.eventual(60.0)
    await writer.write(b"3")
    node.store.sent.clear()
    node.clock.now_s += 0.875
    await node.reader.eventual(60.0)
    assert not node.store.sent
    assert node.reader.staleness_ms == 875
    node.clock.now_s += 60.0
    await node.reader.eventual(60.0)
    assert node.consumer.payloads[-1] == b"3"
    assert node.reader.staleness_ms == 0


async def test_an_eventual_read_of_an_aging_view_checks_behind_the_callers_back():
    _, writer, node = await two_nodes()
    await node.reader.eventual(60.0)
    await writer.write(b"3")
    node.clock.now_s += 1.5
    await node.reader.eventual(60.0)
    assert node.consumer.payloads[-1] == b"2"
    await node.reader.check()
    assert node.consumer.payloads[-1] == b"3"


async def test_an_eventual_read_beyond_its_bound_fails_with_the_store():
    store = await new_store()
    faulty = FaultyStore(store, random.Random(0))
    node = Node(faulty)
    await node.reader.open()
    faulty.is_down = True
    await node.reader.eventual(60.0)
    node.clock.now_s += 61.0
    with pytest.raises(StoreUnavailable):
        await node.reader.eventual(60.0)


async def test_a_deleted_namespace_is_not_found_until_it_is_created_again():
    store, _, node = await two_nodes()
    await node.reader.open()
    await catalog.delete(store, "Docs", rng=random.Random(0))
    for _ in range(2):
        with pytest.raises(NamespaceNotFound):
            await node.reader.check()
    assert not node.reader.is_open
    inc = (await create(store, seed=100)).loaded.manifest.inc
    await node.reader.check()
    assert node.consumer.resets[-1] == (inc, 0)
    assert (node.reader.tail, node.reader.manifest.inc) == (0, inc)


async def test_a_name_that_was_never_used_is_not_found():
    node = Node(MemoryStore())
    with pytest.raises(NamespaceNotFound):
        await node.reader.open()


async def replace_slot(store, node, seq, data):
    key = node.reader.keys.wal(node.reader.manifest.inc, seq)
    await store.delete(key)
    await store.put_if_absent(key, data)
    return key


async def test_a_swapped_slot_breaks_the_chain():
    store, writer, node = await two_nodes()
    inc = writer.reader.manifest.inc
    data = store.objects[writer.reader.keys.wal(inc, 1)].data
    key = await replace_slot(store, writer, 2, data)
    with pytest.raises(CorruptObject, match=r"holds slot .*:1 where .*:2 belongs") as caught:
        await node.reader.open()
    assert caught.value.key == key


async def test_a_rewritten_slot_breaks_the_chain():
    store, writer, node = await two_nodes(1)
    other = Node(store, seed=2)
    await other.reader.open()
    entry = entry_of(other.reader, b"forged", epoch=9)
    await writer.write(b"1")
    await writer.write(b"2")
    await replace_slot(store, writer, entry.seq, entry.encode())
    with pytest.raises(CorruptObject, match="follows digest"):
        await node.reader.open()


async def test_bits_that_flip_on_the_way_are_read_again():
    store, _, _ = await two_nodes()
    faulty = FaultyStore(store, random.Random(1), FaultRates(corrupt=0.0))
    node = Node(faulty)
    await node.reader.open()
    faulty.rates = FaultRates()
    before = Node(store, seed=3)
    await before.write(b"3")
    get = faulty.get
    damaged = []

    async def damage_once(key):
        found = await get(key)
        if "/wal/" in key and found is not None and not damaged:
            damaged.append(key)
            return replace(found, data=found.data[:-1] + b"\x00")
        return found

    faulty.get = damage_once
    await node.reader.check()
    assert damaged
    assert node.consumer.payloads[-1] == b"3"


async def test_a_manifest_that_goes_back_is_damage():
    store, writer, node = await two_nodes()
    key = writer.reader.file.key
    old = store.objects[key].data
    await writer.reader.file.update(lambda m: replace(m, created_ms=7))
    await node.reader.open()
    await store.delete(key)
    await store.put_if_absent(key, old)
    with pytest.raises(CorruptObject, match="generation went from 1 to 0") as caught:
        await node.reader.check()
    assert caught.value.key == key


async def test_a_failed_probe_beyond_the_first_does_not_fail_the_round():
    _, _, node = await two_nodes()
    node.store.failing["get_slot"] = 0
    get = node.store.inner.get

    async def fail_late_slots(key):
        if key.endswith("7"):
            raise StoreUnavailable("slot 7")
        return await get(key)

    node.store.inner = type(
        "Inner", (), {"get": staticmethod(fail_late_slots), "get_if_changed": node.store.inner.get_if_changed}
    )()
    await node.reader.open()
    assert node.consumer.payloads == [b"0", b"1", b"2"]
    assert node.store.sent["get_if_changed"] == 1


async def test_a_store_that_stays_down_fails_the_check_after_bounded_attempts():
    _, _, node = await two_nodes()
    await node.reader.open()
    node.store.failing["get_if_changed"] = 10_000
    node.store.sent.clear()
    with pytest.raises(StoreUnavailable):
        await node.reader.check()
    assert node.store.sent["get_if_changed"] == FAST.store_attempts


async def test_a_store_that_recovers_is_not_noticed():
    _, _, node = await two_nodes()
    node.store.failing["get_if_changed"] = 3
    await node.reader.open()
    assert node.consumer.payloads == [b"0", b"1", b"2"]
