"""Pins are released by those who hold them, and withdrawn from those who will never be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from support.branches import Branches
from support.clocks import ManualClock
from support.database import FAST, open_database, schema
from support.hooks import HookedStore

from elacsym.format import keys
from elacsym.format.manifest import Pin
from elacsym.log import transitions
from elacsym.log.manifest_file import ManifestFile
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.pins import Pins
from elacsym.upkeep.supervisor import Upkeep

GRACE_S = 900.0


@pytest.fixture
async def world(tmp_path):
    settings = replace(FAST, fold_age_s=0.0)
    database = await open_database(
        HookedStore(MemoryStore()), cache_path=tmp_path / "cache", clock=ManualClock(), settings=settings
    )
    made = Branches(database, database.services.store, tmp_path)
    await database.create("source", schema())
    yield made
    await made.close()


def file_of(world, name):
    return ManifestFile(world.store, name, world.database.services.rng)


def pins_of(world, name):
    services = world.database.services
    return Pins(services.store, name, services.clock, services.rng, grace_s=GRACE_S)


async def test_upkeep_alone_removes_what_a_deleted_source_kept_for_its_branch(world):
    """The branch is folded and merged away from it, and nobody but the hints says so to the collectors."""
    clock, upkeep = world.database.services.clock, Upkeep(world.database)
    for start in (0, 10):
        await world.put("source", *range(start, start + 10))
        await world.fold("source")
    await world.put("source", 20)
    await world.database.branch("source", "branch")
    await world.database.delete("source")
    await world.ids("branch")
    for _ in range(12):
        await upkeep.run_once()
        clock.now_s += 300
    # the tail is folded by now; the segments are still shared
    left = await world.keys("source")
    assert any("/seg/" in key for key in left)
    assert not any("/wal/" in key for key in left)
    await world.merge("branch")
    for _ in range(12):
        await upkeep.run_once()
        clock.now_s += 300
    assert [key.rpartition("/")[2] for key in await world.keys("source")] == ["manifest"]
    assert [info.key async for info in world.store.list(keys.DROPPED_PREFIX)] == []
    assert sorted(await world.ids("branch")) == list(range(21))


async def test_a_pin_of_nobody_is_withdrawn_after_the_grace_and_not_before(world):
    pin = Pin("nobody", "b" * 16, (await world.manifest("source")).inc, (), (0, 3))
    await file_of(world, "source").update(lambda m: transitions.add_pin(m, pin))
    pins, clock = pins_of(world, "source"), world.database.services.clock
    assert await pins.check(await world.manifest("source")) == 1
    clock.now_s += GRACE_S - 1
    assert await pins.check(await world.manifest("source")) == 1
    clock.now_s += 1
    assert await pins.check(await world.manifest("source")) == 0
    assert (await world.manifest("source")).pins == ()


async def test_a_holder_that_was_seen_is_not_asked_again(world):
    await world.put("source", 1)
    await world.database.branch("source", "branch")
    asked = Counter()
    get = world.store.get

    async def counted(key):
        asked[key] += 1
        return await get(key)

    world.store.get = counted
    pins = pins_of(world, "source")
    for _ in range(5):
        assert await pins.check(await world.manifest("source")) == 0
    assert asked[keys.NamespaceKeys("branch").manifest] == 1


async def test_a_release_that_breaks_off_halfway_is_done_again(world):
    await world.put("source", 1)
    await world.database.branch("source", "branch")
    await world.database.delete("branch")

    class Crash(Exception):
        pass

    async def crash(operation, key):
        if operation == "put_if_match" and key == keys.NamespaceKeys("branch").manifest:
            raise Crash

    world.store.hook = crash
    with pytest.raises(Crash):
        await pins_of(world, "branch").release(await world.manifest("branch"))
    world.store.hook = None
    assert (await world.manifest("source")).pins == ()
    assert (await world.manifest("branch")).holds != ()
    await pins_of(world, "branch").release(await world.manifest("branch"))
    assert (await world.manifest("branch")).holds == ()


async def test_a_reminder_that_comes_while_a_collector_looks_is_not_lost(world):
    """It was there already, and was removed a moment later, when the collector had found nothing."""
    clock, upkeep = world.database.services.clock, Upkeep(world.database)
    await world.put("source", 1)
    await world.fold("source")
    await world.database.branch("source", "branch")
    await world.database.delete("source")
    for _ in range(8):
        await upkeep.run_once()
        clock.now_s += 300
    await world.store.put_if_absent(keys.dropped_hint("source"), b"again")

    async def release_before_the_hint_goes(operation, key):
        if operation == "delete" and key == keys.dropped_hint("source"):
            world.store.hook = None
            await world.database.delete("branch")
            await pins_of(world, "branch").release(await world.manifest("branch"))

    world.store.hook = release_before_the_hint_goes
    for _ in range(12):
        await upkeep.run_once()
        clock.now_s += 300
    assert world.store.hook is None
    assert [key.rpartition("/")[2] for key in await world.keys("source")] == ["manifest"]
