"""Branches and copies that others get in the way of, that crash, and that meet damage."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from support.branches import ALL, RNG, Branches
from support.database import document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.engine.request import SchemaChange, WriteRequest
from elacsym.errors import CorruptObject, InvalidRequest, OutcomeUnknown, StoreUnavailable
from elacsym.format.keys import NamespaceKeys, dropped_hint
from elacsym.format.manifest import State
from elacsym.log import catalog
from elacsym.log.transitions import TransitionRefused
from elacsym.query.ast import OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.scrub import scrub

YEARS = Query(order_by=(OrderKey("id"),), top_k=10, include_attributes=("year",))


@pytest.fixture
async def world(tmp_path):
    database = await open_database(HookedStore(MemoryStore()), cache_path=tmp_path / "cache")
    made = Branches(database, database.services.store, tmp_path)
    await database.create("source", schema())
    yield made
    await made.close()


async def test_a_write_that_comes_before_the_copy_is_sealed_stops_the_copy(world):
    await world.put("source", 1)
    await world.database.create("target", schema())
    other = await world.other()

    async def write_first(operation, key):
        if key == NamespaceKeys("target").manifest:
            world.store.hook = None
            await other.write("target", upsert(document(9, RNG)))

    world.store.hook = write_first
    with pytest.raises(InvalidRequest, match="has 1 documents"):
        await world.database.branch("source", "target", is_copy=True)
    await world.put("target", 10)
    await world.assert_sound("target", [9, 10])
    assert (await world.manifest("source")).pins == ()


async def test_a_write_that_comes_between_seal_and_copy_is_never_acknowledged_and_lost(world):
    await world.put("source", 1)
    await world.database.create("target", schema())
    other = await world.other()
    await other.write("target", upsert(document(9, RNG)))
    await other.write("target", WriteRequest(deletes=[9]))
    answers = []

    async def write_under_the_seal(operation, key):
        if key == NamespaceKeys("source").manifest:
            world.store.hook = None
            try:
                answers.append(await other.write("target", upsert(document(10, RNG))))
            except OutcomeUnknown as error:
                answers.append(error)

    world.store.hook = write_under_the_seal
    await world.database.branch("source", "target", is_copy=True)
    assert isinstance(answers[0], OutcomeUnknown)
    await world.assert_sound("target", [1])
    # the next write finds the new log
    await other.write("target", upsert(document(11, RNG)))
    await world.assert_sound("target", [1, 11])


async def test_a_seal_that_nobody_lifts_is_lifted_by_the_next_write_and_ends_the_copy(world):
    await world.put("source", 1)
    await world.database.create("target", schema())
    other = await world.other()

    async def write_meanwhile(operation, key):
        if key == NamespaceKeys("source").manifest:
            world.store.hook = None
            await other.write("target", upsert(document(10, RNG)))

    world.store.hook = write_meanwhile
    with pytest.raises(TransitionRefused):
        await world.database.branch("source", "target", is_copy=True)
    await world.assert_sound("target", [10])
    assert (await world.manifest("source")).pins == ()


class _Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("happens", [False, True])
@pytest.mark.parametrize("step", range(5))
async def test_a_crash_at_any_step_leaves_all_or_nothing_and_no_garbage_for_ever(world, step, happens):
    """After a crash nothing is taken back: not even the cleaning up reaches the store."""
    await world.put("source", 1, 2)
    await world.fold("source")
    await world.put("source", 3)
    crashing = HookedStore(world.store)
    other = await world.other(crashing)
    steps = iter(range(100))

    async def crash(operation, key):
        number = next(steps)
        if number == step and happens:
            inner = crashing.inner
            if operation == "put_if_absent":
                await inner.put_if_absent(key, sent[-1])
            else:
                await inner.put_if_match(key, *sent[-1])
        if number >= step:
            raise _Crash

    sent = []
    absent, match = crashing.put_if_absent, crashing.put_if_match

    async def put_if_absent(key, data):
        sent.append(data)
        return await absent(key, data)

    async def put_if_match(key, data, etag):
        sent.append((data, etag))
        return await match(key, data, etag)

    crashing.put_if_absent, crashing.put_if_match = put_if_absent, put_if_match
    crashing.hook = crash
    with pytest.raises(_Crash):
        await other.branch("source", "branch")
    await world.collect("source")
    made = await world.manifest("branch")
    exists = made is not None and made.state is State.ACTIVE
    assert exists == (step == 4 and happens)
    await world.put("source", 4)
    await world.fold("source")
    await world.merge("source")
    await world.collect("source")
    if exists:
        await world.assert_sound("branch", [1, 2, 3])
        await world.database.delete("branch")
        await world.collect("branch")
    else:
        # a late last step finds itself refused, and the name is free
        await world.database.branch("source", "branch")
        await world.assert_sound("branch", [1, 2, 3, 4])
        await world.database.delete("branch")
        await world.collect("branch")
    await world.collect("source")
    source = await world.manifest("source")
    assert source.pins == ()
    live = {f for s in source.segments for f in (source.home.segment_file(s.job, x.part) for x in s.files)}
    assert {key for key in await world.keys("source") if "/seg/" in key} == live
    assert not [key for key in await world.keys("source") if "/wal/" in key]
    await world.assert_sound("source", [1, 2, 3, 4])


async def test_a_branch_that_was_given_up_cannot_be_put_in_place_any_more(world):
    """It stalls before its last step for longer than the collector's grace, and its pin is withdrawn."""
    await world.put("source", 1)
    await world.fold("source")
    other = await world.other()

    async def stall(operation, key):
        if key == "names/branch":
            world.store.hook = None
            await world.collect("source")
            assert (await world.manifest("source")).pins == ()

    world.store.hook = stall
    with pytest.raises(TransitionRefused, match="taken by somebody else"):
        await other.branch("source", "branch")
    assert (await world.manifest("branch")).state is State.DELETED
    assert await other.branch("source", "branch") == 1


@pytest.mark.parametrize("step", range(5))
async def test_a_store_that_fails_for_a_moment_is_tried_again(world, step):
    await world.put("source", 1)
    steps = iter(range(100))

    async def fail_once(operation, key):
        if next(steps) == step:
            raise StoreUnavailable("told to fail")

    world.store.hook = fail_once
    try:
        assert await world.database.branch("source", "branch") == 1
    except StoreUnavailable:
        # hints are not tried again
        world.store.hook = None
        assert await world.database.branch("source", "branch") == 1
    world.store.hook = None
    await world.assert_sound("branch", [1])


async def test_who_loses_a_free_name_leaves_the_winner_listed(world):
    """The second announces over the first and writes the hint; the first is refused and cleans up; only then
    does the second take its place."""
    await world.put("source", 1)
    first_store, second_store = HookedStore(world.store.inner), HookedStore(world.store.inner)
    first, second = await world.other(first_store), await world.other(second_store)
    is_ready, may_end = asyncio.Event(), asyncio.Event()
    swaps = itertools.count()
    manifest = NamespaceKeys("branch").manifest

    async def wait_before_the_last_step(operation, key):
        if key == manifest and next(swaps) == 1:
            is_ready.set()
            await may_end.wait()

    async def be_overtaken(operation, key):
        if key == manifest and operation == "put_if_match":
            first_store.hook = None
            tasks.append(asyncio.create_task(second.branch("source", "branch")))
            await is_ready.wait()

    tasks = []
    second_store.hook, first_store.hook = wait_before_the_last_step, be_overtaken
    with pytest.raises(TransitionRefused):
        await first.branch("source", "branch")
    may_end.set()
    assert await tasks[0] == 1
    assert "branch" in (await catalog.list_names(world.store))[0]
    assert [pin.holder_inc for pin in (await world.manifest("source")).pins] == [
        (await world.manifest("branch")).inc
    ]


@pytest.mark.parametrize("dies", [False, True])
async def test_a_collector_is_reminded_of_a_pin_that_nobody_holds(world, dies):
    """The node dies before the last step; or the pin's answer is lost, and what follows fails."""
    await world.put("source", 1)
    failing = HookedStore(world.store.inner)
    other = await world.other(failing)
    pinned = False

    async def die(operation, key):
        nonlocal pinned
        if pinned:
            raise _Crash if dies else StoreUnavailable("told to fail")
        if key == NamespaceKeys("source").manifest:
            pinned = True
            await world.store.inner.put_if_match(key, *sent)
            raise _Crash if dies else StoreUnavailable("no answer")

    sent = ()
    match = failing.put_if_match

    async def put_if_match(key, data, etag):
        nonlocal sent
        sent = (data, etag)
        return await match(key, data, etag)

    failing.put_if_match, failing.hook = put_if_match, die
    with pytest.raises(_Crash if dies else (StoreUnavailable, OutcomeUnknown)):
        await other.branch("source", "branch")
    assert (await world.manifest("source")).pins != ()
    assert await world.store.get(dropped_hint("source")) is not None


async def test_a_pin_whose_answer_was_lost_is_taken_back(world):
    await world.put("source", 1)
    lossy = HookedStore(world.store.inner)
    other = await world.other(lossy)
    match, is_lost = lossy.put_if_match, False

    async def lose_every_answer(key, data, etag):
        nonlocal is_lost
        if key == NamespaceKeys("source").manifest and not is_lost:
            is_lost = True
            await match(key, data, etag)
            raise _Crash
        return await match(key, data, etag)

    lossy.put_if_match = lose_every_answer
    with pytest.raises(_Crash):
        await other.branch("source", "branch")
    assert (await world.manifest("source")).pins == ()


async def test_a_merge_does_not_take_away_what_a_drop_behind_the_branch_takes_away(world):
    """The drop is in the tail; the branch begins before it, and takes over segments merged after it."""
    for number in (1, 2):
        await world.put("source", number)
        await world.fold("source")
    other = await world.other()
    years = [hit.attributes["year"] for hit in (await other.query("source", YEARS)).hits]

    async def drop_and_merge(operation, key):
        if key == NamespaceKeys("branch").manifest:
            world.store.hook = None
            await world.database.write("source", WriteRequest(change=SchemaChange({"year": None})))
            assert await world.merge("source")

    world.store.hook = drop_and_merge
    assert await other.branch("source", "branch") == 2
    assert len((await world.manifest("branch")).segments) == 1
    fresh = await world.other()
    assert [hit.attributes["year"] for hit in (await fresh.query("branch", YEARS)).hits] == years
    # what is dropped goes with the next merge after the fold
    await world.put("source", 3)
    await world.fold("source")
    await world.merge("source")
    [segment] = (await world.manifest("source")).segments
    assert segment.file("attr.year") is None


async def test_what_is_folded_while_the_branch_is_made_is_taken_over_folded(world):
    await world.put("source", 1)
    other = await world.other()

    async def fold_meanwhile(operation, key):
        if key == NamespaceKeys("branch").manifest:
            world.store.hook = None
            await world.put("source", 2)
            await world.fold("source")
            await world.collect("source")

    world.store.hook = fold_meanwhile
    assert await other.branch("source", "branch") == 2
    await world.assert_sound("branch", [1, 2])
    assert (await world.manifest("branch")).bases == ()


async def test_a_missing_shared_slot_is_damage_and_not_the_end_of_the_log(world):
    await world.put("source", 1)
    await world.put("source", 2)
    await world.database.branch("source", "branch")
    await world.store.inner.delete((await world.manifest("branch")).slot_key(2))
    fresh = await world.other()
    with pytest.raises(CorruptObject, match="a slot is missing"):
        await fresh.query("branch", ALL)
    report = await scrub(world.store, "branch", compute=fresh.services.compute, rng=fresh.services.rng)
    assert [reason for _, reason in report.problems] == ["the object is missing"]
