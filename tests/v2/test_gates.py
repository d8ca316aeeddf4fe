"""Pressure and patience: refusals that a client repeats, large bodies, connections that wait."""

from __future__ import annotations

import asyncio
import base64
import random

import httpx
import numpy as np
import orjson
import pytest
from crash.processes import serving as serving_process
from server.in_process import serving
from v2.ways import KEY

from elacsym.config import Config
from elacsym.server import run
from elacsym.server.node import open_node
from elacsym.store.memory import MemoryStore

NS = "/v2/namespaces/docs"


class SlowStore(MemoryStore):
    """Answers no GET while `answers` is not set; `waiting` GETs want one."""

    def __init__(self):
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()
        self.waiting = 0

    async def get(self, key):
        await self._wait()
        return await super().get(key)

    async def get_if_changed(self, key, etag):
        await self._wait()
        return await super().get_if_changed(key, etag)

    async def _wait(self):
        self.waiting += 1
        await self.answers.wait()
        self.waiting -= 1


@pytest.mark.feature("H-06")
def test_connections_stay_open_for_longer_than_clients_keep_them(monkeypatch, tmp_path):
    class SeenError(Exception):
        pass

    def seen(_, **settings):
        raise SeenError(settings["timeout_keep_alive"])

    monkeypatch.setattr("elacsym.server.run.uvicorn.Config", seen)
    config = Config(storage=str(tmp_path / "data"), cache_path=str(tmp_path / "cache"), port=0)
    with pytest.raises(SeenError) as caught:
        run.serve(config, open_node)
    assert caught.value.args[0] > 60


@pytest.mark.feature("H-12", "H-08")
async def test_queries_beyond_a_namespaces_limit_wait_and_are_then_refused():
    store = SlowStore()
    limits = {"namespace_query_concurrency_max": 4, "namespace_query_wait_s": 0.05}
    async with serving(store, **limits) as client:
        await client.post(NS, json={"upsert_rows": [{"id": 1, "n": 1}]})
        await client.post("/v2/namespaces/other", json={"upsert_rows": [{"id": 1, "n": 1}]})
        store.answers.clear()
        # one aggregation takes all four places
        count = {"aggregate_by": {"rows": ["Count"]}}
        first = asyncio.create_task(client.post(f"{NS}/query", json=count))
        while not store.waiting:
            await asyncio.sleep(0)
        refused = await client.post(f"{NS}/query", json={"limit": 1})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["status"] == "error"
        # who comes while there is hope waits
        second = asyncio.create_task(client.post(f"{NS}/query", json={"limit": 1}))
        store.answers.set()
        assert (await first).json()["aggregations"] == {"rows": 1}
        assert (await second).json()["rows"] == [{"id": 1}]


@pytest.mark.feature("H-08", "W-20")
async def test_writes_are_refused_while_indexing_lags_unless_they_insist(tmp_path):
    # nothing is folded, and little may wait for it
    limits = {"unindexed_bytes_max": 2**20, "upkeep_period_s": 3_600}
    async with (
        serving_process(tmp_path / "server", str(tmp_path / "data"), **limits) as process,
        process.http() as http,
    ):
        schema = {"s": {"type": "string", "filterable": False}}
        for n in range(40):
            text = random.Random(n).randbytes(100_000).hex()
            body = {"upsert_rows": [{"id": n, "s": text}], "schema": schema}
            answer = await http.post(NS, json=body)
            if answer.status_code == 429:
                break
        assert answer.status_code == 429
        assert float(answer.headers["retry-after"]) > 0
        insisting = await http.post(NS, json=body | {"disable_backpressure": True})
        assert insisting.json()["rows_upserted"] == 1


@pytest.mark.feature("H-11", "V-02", "V-03")
async def test_large_bodies_do_not_hold_up_other_requests(server):
    rows, dimensions = 4_000, 1_024
    vectors = np.random.default_rng(7).random((rows, dimensions), dtype=np.float32)
    large = orjson.dumps(
        {
            "upsert_columns": {
                "id": list(range(rows)),
                "vector": base64.b64encode(vectors.tobytes()).decode(),
            },
            "distance_metric": "euclidean_squared",
        }
    )
    assert len(large) > 16 * 2**20
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=60) as client:
        small = {"upsert_rows": [{"id": 1, "n": 1}]}
        assert (await client.post("/v2/namespaces/large-other", json=small)).status_code == 200
        writing = asyncio.create_task(client.post("/v2/namespaces/large", content=large))
        answered = 0
        while not writing.done():
            answer = await client.post("/v2/namespaces/large-other/query", json={"limit": 1})
            assert answer.json()["rows"] == [{"id": 1}]
            answered += 1
        assert (await writing).json()["rows_upserted"] == rows
        assert answered > 10
        query = {"rank_by": ["vector", "ANN", vectors[777].tolist()], "limit": 1}
        nearest = (await client.post("/v2/namespaces/large/query", json=query)).json()["rows"]
        assert nearest == [{"id": 777, "$dist": 0.0}]
        await client.delete("/v2/namespaces/large")


@pytest.mark.feature("W-08", "W-06", "W-07")
async def test_operations_by_filter_stop_at_their_limits_in_id_order():
    async with serving(delete_by_filter_max=3, patch_by_filter_max=2) as client:
        rows = [{"id": n, "n": 1} for n in range(10)]
        await client.post(NS, json={"upsert_rows": rows})
        matching = ["n", "Eq", 1]
        patch = {"filters": matching, "patch": {"n": 2}}
        for body in ({"delete_by_filter": matching}, {"patch_by_filter": patch}):
            refused = await client.post(NS, json=body)
            assert refused.status_code == 400
        body = {"patch_by_filter": patch, "patch_by_filter_allow_partial": True, "return_affected_ids": True}
        answer = (await client.post(NS, json=body)).json()
        assert (answer["patched_ids"], answer["rows_remaining"]) == ([0, 1], True)
        body = {
            "delete_by_filter": matching,
            "delete_by_filter_allow_partial": True,
            "return_affected_ids": True,
        }
        answer = (await client.post(NS, json=body)).json()
        assert (answer["deleted_ids"], answer["rows_remaining"]) == ([2, 3, 4], True)
        await client.post(NS, json=body)
        answer = (await client.post(NS, json=body)).json()
        assert (answer["deleted_ids"], answer["rows_remaining"]) == ([8, 9], False)
        left = (await client.post(f"{NS}/query", json={"limit": 10})).json()["rows"]
        assert [row["id"] for row in left] == [0, 1]
