"""Work in the background: any node tells what became of it, also when the node that did it died."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.clocks import ManualClock
from support.hooks import HookedStore

from elacsym.engine.operations import Operations, OperationSettings
from elacsym.errors import CorruptObject, InvalidRequest, NotFound, Overloaded, StoreUnavailable
from elacsym.format import keys
from elacsym.format.operation import Failure, Operation
from elacsym.store.memory import MemoryStore

FAST = OperationSettings(beat_s=0.01, silent_s=30.0)


def operations(store, clock, node="node-1", settings=FAST):
    return Operations(store, clock, random.Random(node), node, settings)


async def ended(asked, token):
    """The operation once it has ended."""
    while (found := await asked.state("docs", token)).is_running:
        await asyncio.sleep(0.001)
    return found


def gives(value):
    async def work():
        return value

    return work


def raises(error):
    async def work():
        raise error

    return work


async def for_ever():
    await asyncio.Event().wait()


async def test_any_node_tells_that_work_goes_on_and_what_it_gave():
    store, clock = MemoryStore(), ManualClock()
    here, elsewhere = operations(store, clock), operations(store, clock, "node-2")
    may_end = asyncio.Event()

    async def work():
        await may_end.wait()
        return {"rows_affected": 3}

    token = await here.start("docs", work)
    for node in (here, elsewhere):
        found = await node.state("docs", token)
        assert (found.is_running, found.started_ms, found.finished_ms) == (True, 1_000_000, None)
    clock.now_s += 5
    may_end.set()
    await ended(here, token)
    found = await elsewhere.state("docs", token)
    assert (found.result, found.failure, found.finished_ms) == ({"rows_affected": 3}, None, 1_005_000)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (InvalidRequest("source", "is odd"), Failure(400, "invalid_request", "source: is odd")),
        (RuntimeError("secret"), Failure(500, "internal", "internal error")),
    ],
)
async def test_an_error_is_told_with_its_status(error, failure):
    store, clock = MemoryStore(), ManualClock()
    here = operations(store, clock)
    token = await here.start("docs", raises(error))
    assert (await ended(here, token)).failure == failure


async def test_no_more_operations_run_than_a_node_can_renew(monkeypatch):
    monkeypatch.setattr("elacsym.engine.operations.RUNNING_MAX", 3)
    here, may_end, begun = operations(MemoryStore(), ManualClock()), asyncio.Event(), []

    async def work():
        begun.append(1)
        await may_end.wait()

    started = await asyncio.gather(*(here.start("docs", work) for _ in range(5)), return_exceptions=True)
    tokens = [answer for answer in started if isinstance(answer, str)]
    assert [type(answer) for answer in started if answer not in tokens] == [Overloaded, Overloaded]
    with pytest.raises(Overloaded):
        await here.start("docs", work)
    may_end.set()
    for token in tokens:
        await ended(here, token)
    assert len(begun) == 3
    await asyncio.sleep(0)
    await ended(here, await here.start("docs", work))


@pytest.mark.parametrize("token", ["", "../x", "0" * 32, "0" * 31 + "g"])
async def test_an_unknown_token_is_not_found(token):
    with pytest.raises(NotFound):
        await operations(MemoryStore(), ManualClock()).state("docs", token)


async def test_a_token_belongs_to_its_namespace():
    here = operations(MemoryStore(), ManualClock())
    token = await here.start("docs", gives(1))
    await ended(here, token)
    with pytest.raises(NotFound):
        await here.state("other", token)


async def test_stopping_ends_the_work_and_says_so():
    store, clock = MemoryStore(), ManualClock()
    here = operations(store, clock)
    token = await here.start("docs", for_ever)
    await asyncio.sleep(0)
    await here.close()
    found = await operations(store, clock, "node-2").state("docs", token)
    assert (found.failure.status, found.failure.code) == (503, "unavailable")


async def test_work_that_is_renewed_is_alive_however_long_it_takes():
    store, clock = MemoryStore(), ManualClock()
    here, elsewhere = operations(store, clock), operations(store, clock, "node-2")
    token = await here.start("docs", for_ever)
    for _ in range(3):
        beat = (await elsewhere.state("docs", token)).beat
        while (found := await elsewhere.state("docs", token)).beat == beat:
            await asyncio.sleep(0.001)
        clock.now_s += 29
        assert found.is_running
    await here.close()


async def test_work_of_a_dead_node_is_found_failed_and_stays_so():
    """Its node went silent, was given up, and comes back with a result: nobody must hear two answers."""
    store, clock = HookedStore(MemoryStore()), ManualClock()
    silent = operations(store, clock, settings=OperationSettings(beat_s=1_000.0))
    asked, late = (operations(store, clock, f"node-{i}") for i in (2, 3))
    may_end = asyncio.Event()

    async def work():
        await may_end.wait()
        return 1

    token = await silent.start("docs", work)
    assert (await asked.state("docs", token)).is_running
    clock.now_s += 29
    assert (await asked.state("docs", token)).is_running
    # whoever has not seen it for long enough does not judge
    assert (await late.state("docs", token)).is_running
    clock.now_s += 1
    found = await asked.state("docs", token)
    assert (found.failure.code, found.result) == ("outcome_unknown", None)
    may_end.set()
    await silent.close()
    assert await late.state("docs", token) == await silent.state("docs", token) == found


async def test_a_result_is_recorded_when_the_store_comes_back():
    store, clock = HookedStore(MemoryStore()), ManualClock()
    here = operations(store, clock, settings=OperationSettings(beat_s=1_000.0))
    failures = iter([True, True])

    async def fail_twice(operation, key):
        if operation == "put_if_match" and next(failures, False):
            raise StoreUnavailable("told to fail")

    store.hook = fail_twice
    token = await here.start("docs", gives(7))
    assert (await ended(here, token)).result == 7


async def test_old_operations_are_removed_and_others_are_not():
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    here = operations(store, clock)
    old = await here.start("docs", gives(1))
    await ended(here, old)
    clock.now_s += 86_000
    young = await here.start("docs", gives(2))
    await ended(here, young)
    assert await here.tidy() == 0
    clock.now_s += 401
    assert await here.tidy() == 1
    assert (await here.state("docs", young)).result == 2
    with pytest.raises(NotFound):
        await here.state("docs", old)


async def test_a_damaged_object_is_reported():
    store, token = MemoryStore(), "0" * 32
    good = Operation("docs", token, "node", 1, "1" * 32).encode()
    await store.put_if_absent(keys.operation("docs", token), good[:-1] + b"!")
    with pytest.raises(CorruptObject):
        await operations(store, ManualClock()).state("docs", token)
