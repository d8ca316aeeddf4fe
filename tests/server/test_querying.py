"""Queries and bulk work share the interpreter: the one goes ahead of the other wherever it computes."""

import asyncio

import pytest
from in_process import serving

from elacsym import compute
from elacsym.engine.database import Database
from elacsym.server import codec

QUERIES = {
    "v1": {"order_by": [["year", "asc"]], "top_k": 1},
    "v2": {"rank_by": ["year", "asc"], "limit": 1},
}


@pytest.mark.parametrize("version", QUERIES)
async def test_bulk_work_gives_way_while_a_query_is_answered(monkeypatch, version):
    """Also where the query runs on the event loop, as short ones do."""
    monkeypatch.setattr(compute, "BULK_WAIT_S", 60.0)
    held, release = asyncio.Event(), asyncio.Event()
    query = Database.query

    async def slow_query(self, name, wanted):
        held.set()
        await release.wait()
        return await query(self, name, wanted)

    monkeypatch.setattr(Database, "query", slow_query)
    async with serving() as client:
        rows = {"upsert_rows": [{"id": 1, "year": 2000}]}
        (await client.post("/v2/namespaces/docs", json=rows)).raise_for_status()
        asking = asyncio.create_task(client.post(f"/{version}/namespaces/docs/query", json=QUERIES[version]))
        await held.wait()
        bulk = asyncio.create_task(client._transport.app.state.service.compute.bulk.run(lambda: "done"))
        await asyncio.sleep(0.05)
        assert not bulk.done()
        release.set()
        async with asyncio.timeout(10):
            assert await bulk == "done"
        assert (await asking).status_code == 200


@pytest.mark.parametrize("version", QUERIES)
async def test_a_large_query_does_not_wait_for_itself(monkeypatch, version):
    """Its body is decoded in a pool; that of a write in one which gives way to queries."""
    async with serving() as client, asyncio.timeout(10):
        rows = {"upsert_rows": [{"id": 1, "year": 2000}]}
        (await client.post("/v2/namespaces/docs", json=rows)).raise_for_status()
        monkeypatch.setattr(compute, "BULK_WAIT_S", 60.0)
        monkeypatch.setattr(codec, "INLINE_BYTES_MAX", 10)
        with client._transport.app.state.service.compute.ahead():
            answer = await client.post(f"/{version}/namespaces/docs/query", json=QUERIES[version])
        assert answer.status_code == 200
