"""A process that looks after its own namespaces only, and what falls to it when others are gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from crash.processes import until
from support.clocks import ManualClock
from support.database import FAST, open_database, upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import Document
from elacsym.format import keys
from elacsym.store.memory import MemoryStore
from elacsym.telemetry import ADOPTIONS
from elacsym.types import Schema
from elacsym.upkeep import adopt
from elacsym.upkeep.adopt import Adoption
from elacsym.upkeep.supervisor import Upkeep

AT_ONCE = replace(FAST, fold_age_s=1.0, fold_slots=1, gc_grace_s=0.0)


class Chosen:
    """Duties that a test chooses. everything: whether all namespaces are owned."""

    def __init__(self, *owned, preferred=(), everything=False):
        self.owned, self.preferred, self.everything = set(owned), set(preferred), everything
        self.view = 0

    def owns(self, namespace):
        return self.everything or namespace in self.owned

    def prefers(self, namespace):
        return namespace in self.preferred


@pytest.fixture
async def node(tmp_path):
    """Opens databases over one store, and closes them in the end."""
    opened = []
    store = MemoryStore()

    async def open_one(settings=AT_ONCE, clock=None):
        folder = tmp_path / str(len(opened))
        opened.append(
            await open_database(store, cache_path=folder, settings=settings, clock=clock, seed=len(opened))
        )
        return opened[-1]

    yield open_one
    for database in opened:
        await database.close()


async def filled(database, *names):
    for name in names:
        await database.create(name, Schema())
        await database.write(name, upsert(Document(1, {"year": 2000})))


async def slots(database, name):
    return (await database.info(name)).tail_slots


async def test_a_node_folds_what_it_owns_and_leaves_the_rest_to_its_owner(node):
    database = await node()
    await filled(database, "mine", "theirs")
    await Upkeep(database, duties=Chosen("mine")).run_once()
    assert await slots(database, "mine") == 0
    assert await slots(database, "theirs") > 0


async def test_a_tail_that_its_owner_does_not_fold_for_long_is_folded_by_whoever_has_it(node):
    clock = ManualClock()
    database = await node(clock=clock)
    await filled(database, "theirs")
    upkeep = Upkeep(database, duties=Chosen())
    await upkeep.run_once()
    clock.now_s += 3.9
    await upkeep.run_once()
    assert await slots(database, "theirs") > 0
    clock.now_s += 0.2
    await upkeep.run_once()
    assert await slots(database, "theirs") == 0


async def test_only_the_owner_merges_and_collects(node):
    database = await node()
    await filled(database, "docs")
    namespace = await database.namespace("docs")
    for id_ in range(2, 18):
        await database.write("docs", upsert(Document(id_, {"year": 2000})))
        await fold(namespace)
    before = (await database.info("docs")).segments

    async def objects():
        prefix = keys.NamespaceKeys("docs").prefix
        return [info.key async for info in database.services.store.list(prefix)]

    listed = await objects()
    other = Upkeep(database, duties=Chosen())
    for _ in range(3):
        await other.run_once()
    assert (await database.info("docs")).segments == before
    assert await objects() == listed
    owner = Upkeep(database, duties=Chosen("docs"))
    for _ in range(3):
        await owner.run_once()
    assert (await database.info("docs")).segments < before
    assert len(await objects()) < len(listed)


async def test_a_node_that_loses_a_namespace_stops_collecting_it(node):
    database = await node(replace(AT_ONCE, gc_grace_s=1000.0))
    await filled(database, "docs")
    duties = Chosen("docs")
    upkeep = Upkeep(database, duties=duties)
    await upkeep.run_once()
    assert set(upkeep._due_s) == {"docs"}
    duties.owned.clear()
    await upkeep.run_once()
    assert upkeep._due_s == {}
    duties.owned.add("docs")
    await upkeep.run_once()
    assert set(upkeep._due_s) == {"docs"}


async def test_the_data_of_a_dropped_namespace_is_collected_by_its_owner_alone(node):
    database = await node()
    await filled(database, "docs")
    await database.delete("docs")
    duties = Chosen()
    upkeep = Upkeep(database, duties=duties)

    async def hints():
        return [info.key async for info in database.services.store.list(keys.DROPPED_PREFIX)]

    for _ in range(3):
        await upkeep.run_once()
    assert len(await hints()) == 1
    duties.owned.add("docs")
    for _ in range(3):
        await upkeep.run_once()
    assert await hints() == []


async def test_namespaces_that_queries_are_not_meant_to_find_here_are_closed_first(node):
    clock = ManualClock()
    database = await node(replace(AT_ONCE, open_namespaces_max=2, namespace_idle_s=100.0), clock)
    await filled(database, "meant", "other", "used")
    duties = Chosen(everything=True, preferred=("meant",))
    upkeep = Upkeep(database, duties=duties)
    clock.now_s += 60.0
    await database.info("other")
    clock.now_s += 1.0
    await database.info("used")
    clock.now_s += 1.0
    await upkeep.run_once()
    # what was used a moment ago stays, whoever it is meant for
    assert {n.name for n in database.opened()} == {"other", "used"}
    await database.info("meant")
    clock.now_s += 60.0
    await upkeep.run_once()
    assert {n.name for n in database.opened()} == {"meant"}


async def left_behind(node, *names):
    """A database over a store in which another process left unfolded tails."""
    gone = await node()
    await filled(gone, *names)
    return await node()


def counted(outcome):
    return ADOPTIONS.labels(outcome)._value.get()


async def test_the_tails_of_a_dead_node_are_folded_by_those_who_own_them_now(node):
    database = await left_behind(node, "a", "b", "c")
    upkeep = Upkeep(database, duties=Chosen("a", "c"))
    adoption = Adoption(
        database, Chosen("a", "c"), lambda n: upkeep._queue.offer("fold", n), upkeep._queue.holds
    )
    folded, clean = counted("folded"), counted("clean")
    await adoption.look()
    await upkeep._queue.drained()
    assert {n.name for n in database.opened()} == {"a", "c"}
    assert [await slots(database, name) for name in "abc"] == [0, 2, 0]
    assert (counted("folded"), counted("clean")) == (folded + 2, clean)


async def test_namespaces_without_a_tail_are_not_opened(node):
    first = await node()
    await filled(first, "a")
    await fold(await first.namespace("a"))
    database = await node()
    clean = counted("clean")
    await Adoption(database, Chosen("a"), pytest.fail, lambda _: False).look()
    assert database.opened() == []
    assert counted("clean") == clean + 1


async def test_a_namespace_that_cannot_be_read_does_not_keep_the_others_from_being_looked_at(node):
    database = await left_behind(node, "a", "b")
    key = keys.NamespaceKeys("a").manifest
    found = await database.services.store.get(key)
    await database.services.store.put_if_match(key, found.data[:-1] + b"?", found.etag)
    folds, failed = [], counted("failed")
    await Adoption(database, Chosen("a", "b"), folds.append, lambda _: False).look()
    assert folds == ["b"]
    assert counted("failed") == failed + 1


async def test_folds_under_way_are_waited_for(node):
    names = [f"n{n}" for n in range(12)]
    database = await left_behind(node, *names)
    folds, busy = [], set()

    def begin(name):
        folds.append(name)
        busy.add(name)

    looking = asyncio.create_task(Adoption(database, Chosen(*names), begin, lambda name: name in busy).look())

    async def is_full():
        return len(busy) == 8

    await until(is_full)
    await asyncio.sleep(0.1)
    assert len(folds) == 8
    busy.clear()
    await looking
    assert sorted(folds) == sorted(names)


async def test_a_look_follows_every_change_that_lasts(node):
    database = await left_behind(node, "a", "b")
    duties, folds = Chosen("a"), []
    adoption = Adoption(database, duties, folds.append, lambda _: False, settled_s=0.05)
    running = asyncio.create_task(adoption.run())

    async def has_folded(count):
        return len(folds) == count

    await until(lambda: has_folded(1))
    await asyncio.sleep(0.3)
    assert folds == ["a"]
    duties.owned.add("b")
    duties.view += 1
    await until(lambda: has_folded(2))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_looking_goes_on_after_a_failure_that_nobody_expected(node, monkeypatch):
    monkeypatch.setattr(adopt, "_RETRY_S", 0.01)
    database = await left_behind(node, "a")
    folds, failed = [], counted("failed")

    def begin(name):
        folds.append(name)
        if len(folds) == 1:
            raise RuntimeError("a mistake")

    adoption = Adoption(database, Chosen("a"), begin, lambda _: False, settled_s=0.01)
    running = asyncio.create_task(adoption.run())

    async def is_counted():
        return counted("failed") == failed + 1

    await until(is_counted)
    await asyncio.sleep(0.1)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_process_that_is_alone_looks_at_nothing(node):
    database = await left_behind(node, "a")
    duties = Chosen("a")
    duties.view = None
    async with asyncio.timeout(5):
        await Adoption(database, duties, pytest.fail, lambda _: False).run()
