"""Branches and copies: both keep the documents of that moment and go separate ways; no data is copied."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.clocks import ManualClock
from support.database import document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.format.keys import NamespaceKeys
from elacsym.log.manifest_file import ManifestFile
from elacsym.query.ast import OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.collect import Collector
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)
RNG = np.random.default_rng(7)


class World:
    """A store, a database over it, and collectors without grace for every namespace."""

    def __init__(self, database, store, clock):
        self.database, self.store, self.clock = database, store, clock
        self._collectors = {}

    async def put(self, name, *ids):
        await self.database.write(name, upsert(*(document(i, RNG) for i in ids)))

    async def delete(self, name, *ids):
        await self.database.write(name, WriteRequest(deletes=ids))

    async def ids(self, name):
        return [hit.id for hit in (await self.database.query(name, ALL)).hits]

    async def fold(self, name):
        return await fold(await self.database.namespace(name))

    async def merge(self, name):
        return await compact(await self.database.namespace(name), force=True)

    async def collect(self, *names, passes=3):
        """Garbage goes at once; a pass for what another let go of."""
        for _ in range(passes):
            for name in names:
                collector = self._collectors.setdefault(
                    name, Collector(self.store, name, self.clock, self.database.services.rng, grace_s=0.0)
                )
                await collector.run()

    async def keys(self, name):
        return [info.key async for info in self.store.list(NamespaceKeys(name).prefix)]

    async def manifest(self, name):
        loaded = await ManifestFile(self.store, name, self.database.services.rng).load()
        return None if loaded is None else loaded.manifest

    async def assert_sound(self, name, ids):
        """A process that knows nothing sees these documents, and every byte of them checks."""
        ids = list(ids)
        fresh = await open_database(self.store, cache_path=self.path / f"fresh-{len(self.opened)}", seed=99)
        self.opened.append(fresh)
        found = (await fresh.query(name, ALL)).hits
        assert [hit.id for hit in found] == ids
        report = await scrub(self.store, name, compute=fresh.services.compute, rng=fresh.services.rng)
        assert report.problems == []


@pytest.fixture
async def world(tmp_path):
    store = HookedStore(MemoryStore())
    clock = ManualClock()
    database = await open_database(store, cache_path=tmp_path / "cache", clock=clock)
    made = World(database, store, clock)
    made.path, made.opened = tmp_path, []
    await database.create("source", schema())
    yield made
    await asyncio.gather(*(opened.close() for opened in made.opened))
    await database.close()


async def test_both_sides_keep_what_was_there_and_go_separate_ways(world):
    await world.put("source", 1, 2, 3)
    await world.fold("source")
    await world.put("source", 4)
    await world.delete("source", 1)
    assert await world.database.branch("source", "branch") == 3
    await world.put("source", 5)
    await world.delete("branch", 2)
    await world.put("branch", 6)
    assert await world.ids("source") == [2, 3, 4, 5]
    assert await world.ids("branch") == [3, 4, 6]
    await world.assert_sound("branch", [3, 4, 6])
    for name in ("branch", "source"):
        await world.fold(name)
        await world.merge(name)
    await world.collect("source", "branch")
    await world.assert_sound("source", [2, 3, 4, 5])
    await world.assert_sound("branch", [3, 4, 6])
