"""The view of a namespace while the log moves on under those who wait for it."""

from __future__ import annotations

import asyncio

import numpy as np
from support.database import document, open_database, schema, upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.query.ast import OrderKey, Query
from elacsym.store.memory import MemoryStore
from elacsym.store.wrapper import StoreWrapper

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)


class SlowDeletes(StoreWrapper):
    """Delete bitmaps arrive when `release` is set; `is_asked` is set when one is asked for."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_asked, self.release = asyncio.Event(), asyncio.Event()

    async def get(self, key):
        if "/deletes" in key:
            self.is_asked.set()
            await self.release.wait()
        return await self.inner.get(key)


async def test_a_write_that_comes_while_delete_bitmaps_are_read_hides_the_rows_that_it_replaces(tmp_path):
    """A server that had just opened a namespace without a tail took its first write while a bitmap was on its
    way; the ids of the segments were not opened then, and every query failed with an internal error."""
    rng = np.random.default_rng(1)
    store = MemoryStore()
    first = await open_database(store, cache_path=tmp_path / "a")
    await first.create("docs", schema())
    for request in (upsert(*(document(i, rng) for i in range(5))), WriteRequest(deletes=(0,))):
        await first.write("docs", request)
        await fold(await first.namespace("docs"))
    slow = SlowDeletes(store)
    second = await open_database(slow, cache_path=tmp_path / "b", seed=2)
    query = asyncio.create_task(second.query("docs", ALL))
    await slow.is_asked.wait()
    await second.write("docs", WriteRequest(deletes=(1,)))
    slow.release.set()
    assert [hit.id for hit in (await query).hits] == [2, 3, 4]
    await first.close()
    await second.close()
