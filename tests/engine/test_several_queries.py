"""Several queries see one snapshot, and one that is refused fails all."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.database import document, schema, upsert
from support.queries import aggregate_of

from elacsym.errors import InvalidRequest, NamespaceNotFound
from elacsym.query.ast import Compare, Op, OrderKey, Query, TextLeg


async def test_answers_are_those_of_the_queries_alone(database):
    rng = np.random.default_rng(3)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(200))))
    queries = [
        Query((TextLeg((("text", 1.0),), "copper kettle"),), top_k=20),
        Query(order_by=(OrderKey("year"),), top_k=5),
        Query(aggregate=aggregate_of(group_by=("year",)), filter=Compare("year", Op.GT, 2010)),
    ]
    assert await database.queries("docs", queries) == [await database.query("docs", q) for q in queries]


async def test_all_queries_see_one_snapshot_while_documents_are_written(database):
    rng = np.random.default_rng(3)
    await database.create("docs", schema())

    async def write():
        for number in range(60):
            await database.write("docs", upsert(document(number, rng)))

    writing = asyncio.create_task(write())
    seen = set()
    while not writing.done():
        counts = await database.queries("docs", [Query(aggregate=aggregate_of())] * 5)
        (count,) = {result.aggregations["count"] for result in counts}
        seen.add(count)
    await writing
    assert len(seen) > 1


async def test_one_refused_query_fails_all(database):
    await database.create("docs", schema())
    good = Query(order_by=(OrderKey("year"),))
    with pytest.raises(InvalidRequest):
        await database.queries("docs", [good, Query(order_by=(OrderKey("nothing"),))])
    with pytest.raises(NamespaceNotFound):
        await database.queries("other", [good])
