"""Segments as parts of a query: what is made of their files is made once for all."""

from __future__ import annotations

import numpy as np
from support.database import document, open_database, schema, upsert

from elacsym.engine.fold import fold
from elacsym.store.drive import bring
from elacsym.store.memory import MemoryStore


async def cold_part(tmp_path):
    store, rng = MemoryStore(), np.random.default_rng(1)
    writer = await open_database(store, cache_path=tmp_path / "writer")
    await writer.create("docs", schema())
    await writer.write("docs", upsert(*(document(i, rng) for i in range(50))))
    await fold(await writer.namespace("docs"))
    await writer.close()
    reader = await open_database(store, cache_path=tmp_path / "reader")
    [state] = (await reader.namespace("docs")).view.segments
    return reader, state.part


async def test_queries_that_waited_for_the_same_bytes_share_what_is_made_of_them(tmp_path):
    database, part = await cold_part(tmp_path)
    waiting = [part.vectors("vector") for _ in range(3)]
    await bring([want for steps in waiting for want in next(steps)])
    made = []
    for steps in waiting:
        try:
            next(steps)
        except StopIteration as done:
            made.append(done.value)
    assert len(made) == 3
    assert made[0] is made[1] is made[2]
    await database.close()
