"""A database whose namespaces are branched, with collectors that wait for nothing."""

from __future__ import annotations

import asyncio

import numpy as np
from support.database import document, open_database, upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.format.keys import NamespaceKeys
from elacsym.log.manifest_file import ManifestFile
from elacsym.query.ast import OrderKey, Query
from elacsym.upkeep.collect import Collector
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)
RNG = np.random.default_rng(7)


class Branches:
    """A store, a database over it, and collectors without grace for every namespace."""

    def __init__(self, database, store, path):
        self.database, self.store, self.path = database, store, path
        self.opened = []
        self._collectors = {}

    async def close(self):
        await asyncio.gather(*(opened.close() for opened in self.opened))
        await self.database.close()

    async def other(self, store=None):
        """Another process over the same store."""
        number = len(self.opened) + 2
        made = await open_database(store or self.store, cache_path=self.path / f"{number}", seed=number)
        self.opened.append(made)
        return made

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
                    name,
                    Collector(
                        self.store,
                        name,
                        self.database.services.clock,
                        self.database.services.rng,
                        grace_s=0.0,
                    ),
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
        fresh = await self.other()
        found = (await fresh.query(name, ALL)).hits
        assert [hit.id for hit in found] == ids
        report = await scrub(self.store, name, compute=fresh.services.compute, rng=fresh.services.rng)
        assert report.problems == []
