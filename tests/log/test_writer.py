"""Writing a log: what a commit costs, how requests are grouped, and the three outcomes."""

import asyncio
import random
from dataclasses import replace

import pytest
from log_nodes import FAST, Item, Node, new_store
from test_reader import fold_all

from elacsym.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NamespaceNotFound,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    Unavailable,
)
from elacsym.format.wal_entry import EntryKind
from elacsym.log import catalog
from elacsym.log.commit import Ownership


@pytest.fixture
async def store():
    return await new_store()


async def settle(rounds=20):
    """Let every task run until it waits for something outside."""
    for _ in range(rounds):
        await asyncio.sleep(0)


def kinds(node):
    return [slot.kind for slot in node.reader.slots]


async def test_an_acknowledged_commit_costs_one_put_and_one_conditional_read(store):
    node = Node(store)
    await node.write(b"first")
    node.store.sent.clear()
    for i in range(10):
        await node.write(b"%d" % i)
    assert node.store.sent == {"put_slot": 10, "get_if_changed": 10}


async def test_nothing_is_claimed_before_the_first_write(store):
    node = Node(store)
    await settle()
    assert not node.store.sent
    committed = await node.write(b"first")
    assert kinds(node) == [EntryKind.CLAIM, EntryKind.WRITE]
    assert committed == type(committed)(node.reader.manifest.inc, 1, 5)


async def test_an_acknowledged_write_is_applied_to_the_writers_own_consumer(store):
    node = Node(store)
    await node.write(b"first")
    assert node.consumer.applied == [(1, b"first")]


async def test_requests_that_come_while_an_entry_is_in_flight_share_the_next(store):
    node = Node(store)
    await node.write(b"first")
    node.store.slots_open.clear()
    flying = asyncio.ensure_future(node.write(b"flying"))
    await settle()
    others = [asyncio.ensure_future(node.write(b"%d" % i)) for i in range(20)]
    await settle()
    node.store.slots_open.set()
    seqs = {(await o).seq for o in others}
    assert seqs == {(await flying).seq + 1}
    assert node.preparer.groups[-1] == (3, [b"%d" % i for i in range(20)])


async def test_an_entry_is_cut_at_its_bounds_and_a_larger_request_is_alone(store):
    settings = replace(FAST, entry_bytes_max=10, entry_requests_max=3)
    node = Node(store, settings=settings)
    payloads = [b"1", b"2", b"3", b"4", b"x" * 50, b"5", b"666666", b"77777"]
    await asyncio.gather(*(node.write(p) for p in payloads))
    groups = [group for _, group in node.preparer.groups]
    assert groups == [[b"1", b"2", b"3"], [b"4"], [b"x" * 50], [b"5", b"666666"], [b"77777"]]


async def test_a_rejected_request_leaves_the_others_of_its_group_alone(store):
    node = Node(store)
    results = await asyncio.gather(
        node.write(b"one"), node.write(b"bad"), node.write(b"two"), return_exceptions=True
    )
    assert results[0].seq == results[2].seq == 1
    assert isinstance(results[1], InvalidRequest)
    assert node.consumer.payloads == [b"one", b"two"]


async def test_a_group_of_rejected_requests_commits_nothing(store):
    node = Node(store)
    with pytest.raises(InvalidRequest):
        await node.write(b"bad")
    assert kinds(node) == [EntryKind.CLAIM]


async def test_what_a_preparer_did_not_take_goes_into_the_next_entry(store):
    node = Node(store)
    prepare = node.preparer.prepare

    async def one_by_one(items, seq):
        return await prepare(items[:1], seq)

    node.preparer.prepare = one_by_one
    results = await asyncio.gather(*(node.write(b"%d" % i) for i in range(3)))
    assert [r.seq for r in results] == [1, 2, 3]
    assert node.consumer.payloads == [b"0", b"1", b"2"]


async def test_an_error_of_the_preparer_reaches_its_group_only(store):
    node = Node(store)
    prepare = node.preparer.prepare

    async def fail(items, seq):
        node.preparer.prepare = prepare
        raise StoreUnavailable("rows could not be read")

    node.preparer.prepare = fail
    with pytest.raises(StoreUnavailable, match="rows"):
        await node.write(b"one")
    assert (await node.write(b"two")).seq == 1


async def test_a_write_that_comes_as_the_last_one_ends_is_not_forgotten(store):
    """The loop had left its last round while its task still counted as running: the write waited for ever."""
    node = Node(store)
    await node.write(b"first")
    for steps in range(40):
        one = asyncio.ensure_future(node.write(b"one"))
        await settle(steps)
        await asyncio.wait_for(node.write(b"two"), 5)
        await one
    assert len(node.consumer.payloads) == 81


# idempotency


async def test_a_repeated_key_gets_the_first_result_from_tail_fold_and_another_node(store):
    node, other = Node(store), Node(store, seed=1)
    first = await node.write(b"first", "key")
    await node.write(b"more")
    assert await node.write(b"changed", "key") == first
    assert await other.write(b"first", "key") == first
    await node.reader.check()
    await fold_all(node)
    assert not node.reader.slots
    assert await node.write(b"first", "key") == first
    await other.reader.check()
    assert await other.write(b"first", "key") == first
    assert node.consumer.payloads.count(b"first") == 1


async def test_duplicates_in_flight_share_one_outcome(store):
    node = Node(store)
    results = await asyncio.gather(*(node.write(b"same", "key") for _ in range(5)))
    assert len(set(results)) == 1
    assert node.consumer.payloads == [b"same"]


async def test_a_duplicate_outlives_the_caller_that_came_first(store):
    node = Node(store)
    await node.write(b"first")
    node.store.slots_open.clear()
    flying = asyncio.ensure_future(node.write(b"flying"))
    await settle()
    impatient = asyncio.ensure_future(node.write(b"same", "key"))
    patient = asyncio.ensure_future(node.write(b"same", "key"))
    await settle()
    impatient.cancel()
    node.store.slots_open.set()
    assert (await patient).count == 4
    await flying


async def test_a_rejected_key_may_be_used_again(store):
    node = Node(store)
    with pytest.raises(InvalidRequest):
        await node.write(b"bad", "key")
    assert (await node.write(b"good", "key")).count == 4


# deadlines and unknown outcomes


async def test_a_deadline_that_has_passed_is_refused_at_once(store):
    node = Node(store)
    with pytest.raises(DeadlineExceeded):
        await node.write(b"late", deadline_s=node.clock.monotonic_s())
    assert not node.store.sent


async def test_a_deadline_that_passes_in_the_queue_means_nothing_happened(store):
    node = Node(store)
    await node.write(b"first")
    node.store.slots_open.clear()
    flying = asyncio.ensure_future(node.write(b"flying"))
    await settle()
    with pytest.raises(DeadlineExceeded):
        await node.write(b"queued", deadline_s=node.clock.monotonic_s() + 0.001)
    node.store.slots_open.set()
    await flying
    await node.write(b"last")
    assert node.consumer.payloads == [b"first", b"flying", b"last"]


async def test_a_deadline_that_passes_in_flight_is_unknown_and_the_key_tells(store):
    node = Node(store)
    await node.write(b"first")
    node.store.slots_open.clear()
    with pytest.raises(OutcomeUnknown) as caught:
        await node.write(b"flying", "key", deadline_s=node.clock.monotonic_s() + 0.001)
    assert caught.value.idempotency_key == "key"
    node.store.slots_open.set()
    assert (await node.write(b"flying", "key")).seq == 2
    assert node.consumer.payloads == [b"first", b"flying"]


async def test_a_put_without_any_answer_is_unknown_and_the_writer_recovers_by_a_new_claim(store):
    node = Node(store)
    await node.write(b"first")
    node.store.failing["put_slot"] = FAST.store_attempts
    with pytest.raises(OutcomeUnknown) as caught:
        await node.write(b"second", "key")
    assert caught.value.idempotency_key == "key"
    node.store.failing.clear()
    committed = await node.write(b"second", "key")
    assert kinds(node) == [EntryKind.CLAIM, EntryKind.WRITE, EntryKind.CLAIM, EntryKind.WRITE]
    assert committed.seq == 3


async def test_a_put_that_was_applied_before_its_answers_were_lost_is_found_by_its_key(store):
    node = Node(store)
    await node.write(b"first")
    put = store.put_if_absent

    async def apply_and_fail(key, data):
        if "/wal/" in key:
            await put(key, data)
            node.store.failing["get_slot"] = FAST.store_attempts
            raise StoreUnavailable("answer lost")
        return await put(key, data)

    store.put_if_absent = apply_and_fail
    with pytest.raises(OutcomeUnknown):
        await node.write(b"second", "key")
    store.put_if_absent = put
    node.store.failing.clear()
    assert (await node.write(b"second", "key")).seq == 2
    assert node.consumer.payloads == [b"first", b"second"]


async def test_lost_answers_are_resolved_by_the_nonce(store):
    node = Node(store)
    await node.write(b"first")
    put = store.put_if_absent
    sent = []

    async def lose_answer(key, data):
        sent.append(key)
        await put(key, data)
        raise StoreUnavailable("answer lost")

    store.put_if_absent = lose_answer
    assert (await node.write(b"second")).seq == 2
    assert len(sent) == 1
    assert node.consumer.payloads == [b"first", b"second"]


async def test_a_store_that_is_down_fails_writes_and_serves_them_again_afterwards(store):
    node = Node(store)
    for kind in ("get", "get_slot", "get_if_changed", "put_slot"):
        node.store.failing[kind] = 10_000
    with pytest.raises(StoreUnavailable):
        await node.write(b"first")
    node.store.failing.clear()
    assert (await node.write(b"first")).seq == 1


# ownership


async def test_two_writers_take_the_log_from_each_other_and_nothing_is_lost_or_doubled(store):
    nodes = [Node(store, seed=i) for i in range(2)]
    for i in range(10):
        await nodes[i % 2].write(b"%d" % i)
    await nodes[0].reader.check()
    assert nodes[0].consumer.payloads == [b"%d" % i for i in range(10)]
    epochs = [s.epoch for s in nodes[0].reader.slots]
    assert epochs == sorted(epochs)
    assert not any(s.is_void for s in nodes[0].reader.slots)


async def test_contending_writers_acknowledge_exactly_what_is_in_the_log(store):
    nodes = [Node(store, seed=i) for i in range(4)]
    payloads = [b"%d-%d" % (n, i) for i in range(8) for n in range(4)]
    results = await asyncio.gather(
        *(nodes[i % 4].write(p) for i, p in enumerate(payloads)), return_exceptions=True
    )
    acked = [p for p, r in zip(payloads, results, strict=True) if not isinstance(r, BaseException)]
    assert all(isinstance(r, NotOwner) for r in results if isinstance(r, BaseException))
    assert acked
    reader = Node(store, seed=9)
    await reader.reader.open()
    assert sorted(reader.consumer.payloads) == sorted(acked)


async def test_a_request_that_loses_slot_after_slot_is_not_retried_for_ever(store):
    """Whatever claim this writer wins, another one is in the slot of the entry behind it."""
    node, thief = Node(store), Node(store, seed=1)
    prepare = node.preparer.prepare

    async def steal_first(items, seq):
        thief.writer._ownership = Ownership()
        await thief.write(b"stolen")
        return await prepare(items, seq)

    node.preparer.prepare = steal_first
    with pytest.raises(NotOwner, match=f"taken over {FAST.write_attempts} times"):
        await node.write(b"never")
    await thief.reader.check()
    assert set(thief.consumer.payloads) == {b"stolen"}


async def test_a_restarted_node_claims_above_its_former_self(store):
    first = Node(store)
    await first.write(b"first")
    again = Node(store, seed=0)
    assert (await again.write(b"second")).seq == 3
    assert again.reader.epoch > first.reader.epoch
    assert (await first.write(b"third")).seq == 5  # fenced, it catches up and claims
    assert first.consumer.payloads == [b"first", b"second", b"third"]


async def test_a_deleted_namespace_takes_no_writes(store):
    node = Node(store)
    await node.write(b"first")
    await catalog.delete(store, "Docs", rng=random.Random(0))
    with pytest.raises(OutcomeUnknown):  # its entry was in the log when the deletion was seen
        await node.write(b"second")
    with pytest.raises(NamespaceNotFound):
        await node.write(b"third")


# back-pressure and the end


async def test_too_much_unfolded_log_refuses_writes_until_it_is_folded(store):
    node = Node(store, settings=replace(FAST, unfolded_bytes_max=1_000))
    with pytest.raises(Overloaded, match="not indexed yet") as caught:
        for _ in range(20):
            await node.write(b"x" * 100)
    assert caught.value.retry_after_s > 0
    before = len(node.consumer.payloads)
    await fold_all(node)
    await node.write(b"again")
    assert len(node.consumer.payloads) == before + 1


async def test_writes_that_ignore_pressure_are_refused_where_memory_ends(store):
    node = Node(store, settings=replace(FAST, unfolded_bytes_max=1_000, insisting_factor=3))
    while node.reader.unfolded_bytes <= 3_000:
        await node.write(b"x" * 100, ignores_pressure=True)
        assert node.reader.unfolded_bytes < 4_000
    with pytest.raises(Overloaded, match="not indexed yet"):
        await node.write(b"x", ignores_pressure=True)
    await fold_all(node)
    await node.write(b"again", ignores_pressure=True)


async def test_the_queue_is_bounded_in_bytes_and_in_callers(store):
    node = Node(store, settings=replace(FAST, queue_bytes_max=100, waiters_max=4))
    await node.write(b"first")
    node.store.slots_open.clear()
    waiting = [asyncio.ensure_future(node.write(b"x" * 60))]
    await settle()
    waiting.append(asyncio.ensure_future(node.write(b"y" * 60)))
    await settle()
    with pytest.raises(Overloaded, match="bytes wait already"):
        await node.write(b"z" * 60)
    waiting += [asyncio.ensure_future(node.write(b"s")) for _ in range(2)]
    await settle()
    with pytest.raises(Overloaded, match="4 writes wait already"):
        await node.write(b"s")
    node.store.slots_open.set()
    assert len(await asyncio.gather(*waiting)) == 4


async def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(store):
    node = Node(store, settings=replace(FAST, queue_bytes_max=100))
    assert (await node.write(b"x" * 500)).count == 500


async def test_closing_finishes_what_is_queued_and_refuses_the_rest(store):
    node = Node(store)
    writes = [asyncio.ensure_future(node.writer.write(Item(b"%d" % i))) for i in range(3)]
    await asyncio.sleep(0)
    await node.writer.close()
    assert [w.result().seq for w in writes] == [1, 1, 1]
    with pytest.raises(Unavailable, match="closing"):
        await node.write(b"late")


async def test_a_broken_preparer_breaks_nobody_else_and_leaves_no_caller_waiting(store):
    node = Node(store)
    prepare = node.preparer.prepare

    async def crash(items, seq):
        node.preparer.prepare = prepare
        raise ZeroDivisionError

    node.preparer.prepare = crash
    with pytest.raises(OutcomeUnknown):
        await node.write(b"one")
    assert (await node.write(b"two")).count == 3
