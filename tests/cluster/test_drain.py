"""Real processes that leave: told to stop, killed, or paused; and who writes their namespaces then."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import httpx
import pytest
from cluster.harness import cluster_of, places
from crash.processes import until
from crash.storages import in_folder

SUCCESSION_S_MAX = 5.0
# as they are by default; the folder's locks must not be held by a process that is paused
SETTINGS = {"suspect_s": 10.0, "liveness_timeout_s": 1.0, "upkeep_period_s": 3600, "shutdown_timeout_s": 20.0}


def body(id_):
    return {"documents": [{"id": id_, "attributes": {"year": 2000 + id_}}]}


@contextlib.asynccontextmanager
async def pair(folder, **settings):
    """Two indexers, and a namespace of the first with one document."""
    nodes = places(2, 0)
    storage = in_folder(folder / "data")
    async with cluster_of(folder, storage, nodes, **SETTINGS | settings) as cluster:
        name = next(f"docs-{n}" for n in range(1000) if cluster.ring.owner(f"docs-{n}") == "indexer-0")
        async with cluster.http("indexer-0") as first, cluster.http("indexer-1") as second:
            url = f"/v1/namespaces/{name}"
            assert (await first.put(url, json={"schema": {}})).status_code == 200
            assert (await first.post(f"{url}/upsert", json=body(1))).status_code == 200
            # from here on the second trusts the first for a moment
            assert (await second.post(f"{url}/upsert", json=body(1))).status_code in (200, 307)
            yield cluster, first, second, url


async def succeed(http, url, id_):
    """Write through one node, following nothing, until it is taken; how long that took in seconds."""
    began_s = time.monotonic()

    async def is_taken():
        with contextlib.suppress(httpx.TransportError):
            return (await http.post(f"{url}/upsert", json=body(id_))).status_code == 200
        return False

    await until(is_taken)
    return time.monotonic() - began_s


async def ids_of(http, url):
    answer = await http.post(f"{url}/query", json={"order_by": [["id", "asc"]], "top_k": 100})
    return [row["id"] for row in answer.json()["results"]]


async def test_the_tails_that_a_dead_owner_left_are_folded_without_a_request_for_them(tmp_path):
    async with pair(tmp_path) as (cluster, first, second, url):
        other = next(
            name for name in (f"other-{n}" for n in range(1000)) if cluster.ring.owner(name) == "indexer-0"
        )
        assert (await first.put(f"/v1/namespaces/{other}", json={"schema": {}})).status_code == 200
        cluster.servers["indexer-0"].kill()
        # this write shows that the owner is dead
        assert await succeed(second, f"/v1/namespaces/{other}", 1) < SUCCESSION_S_MAX

        async def is_adopted():
            metrics = (await second.get("/metrics")).text
            return 'elacsym_upkeep_adoptions_total{outcome="folded"} 1.0' in metrics

        async def is_folded():
            return (await second.get(url)).json()["wal_tail"]["slots"] == 0

        await until(is_adopted)
        await until(is_folded)
        assert await ids_of(second, url) == [1]


@pytest.mark.parametrize("forward", [False, True])
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
async def test_a_successor_writes_within_seconds(tmp_path, end, forward):
    async with pair(tmp_path, forward=forward) as (cluster, _, second, url):
        cluster.servers["indexer-0"].signal(end)
        assert await succeed(second, url, 2) < SUCCESSION_S_MAX
        began_s = time.monotonic()
        assert (await second.post(f"{url}/upsert", json=body(3))).headers["x-served-by"] == "indexer-1"
        assert time.monotonic() - began_s < 1.0
        assert await ids_of(second, url) == [1, 2, 3]


async def test_an_owner_that_was_paused_is_fenced_and_names_its_successor(tmp_path):
    async with pair(tmp_path, suspect_s=4.0) as (cluster, first, second, url):
        paused = cluster.servers["indexer-0"]
        paused.signal(signal.SIGSTOP)
        await succeed(second, url, 2)
        paused.signal(signal.SIGCONT)
        # it believes that the log is its own until it tries
        fenced = await first.post(f"{url}/upsert?x=%2F", json=body(3))
        assert (fenced.status_code, fenced.headers["x-correct-indexer"]) == (307, "indexer-1")
        assert fenced.headers["location"] == f"{cluster.url('indexer-1')}{url}/upsert?x=%2F"
        assert (await second.post(f"{url}/upsert", json=body(4))).headers["x-served-by"] == "indexer-1"
        # and again once the successor has seen that it is back
        await succeed(first, url, 5)

        async def is_sent_back():
            return (await second.post(f"{url}/upsert", json=body(6))).status_code == 307

        await until(is_sent_back)
        assert await ids_of(second, url) == [1, 2, 4, 5]
        assert cluster.errors() == []


async def test_an_owner_killed_and_started_again_at_once_leaves_its_stand_in_the_suspicion(tmp_path):
    async with pair(tmp_path, suspect_s=3.0) as (cluster, first, second, url):
        cluster.servers["indexer-0"].kill()
        await succeed(second, url, 2)
        await cluster.servers["indexer-0"].start()
        statuses = [(await first.post(f"{url}/upsert", json=body(3))).status_code for _ in range(3)]
        assert set(statuses) <= {200, 307}
        await succeed(first, url, 4)
        assert cluster.errors() == []


async def test_a_draining_node_says_so_hands_over_and_finishes_what_it_has_begun(tmp_path):
    async with pair(tmp_path) as (cluster, first, second, url):
        server = cluster.servers["indexer-0"]
        address = httpx.URL(cluster.url("indexer-0"))
        reader, writer = await asyncio.open_connection(address.host, address.port)
        content = b'{"documents": [{"id": 2}]}'
        head = (
            f"POST {url}/upsert HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(content)}"
        )
        writer.write(head.encode() + b"\r\n\r\n")
        # asking for the body shows that the request was let in
        assert (await reader.readline()).startswith(b"HTTP/1.1 100")
        server.signal(signal.SIGTERM)

        async def is_draining():
            return (await first.get("/readyz")).status_code == 503

        await until(is_draining)
        assert (await first.get("/livez")).headers["x-node-state"] == "draining"
        refused = await first.post(f"{url}/upsert", json=body(9))
        assert (refused.status_code, refused.headers["x-correct-indexer"]) == (307, "indexer-1")
        assert (await first.get(f"{url}/documents/1")).status_code == 200
        writer.write(content)
        await reader.readline()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()
        await succeed(second, url, 3)
        assert await server.wait() == 0
        assert await ids_of(second, url) == [1, 2, 3]
        assert cluster.errors() == []


async def test_the_admin_key_drains_a_node(tmp_path):
    async with pair(tmp_path, admin_keys="an-admin-key") as pairing:
        cluster, first, second, url = pairing
        for headers in ({}, {"authorization": "Bearer an-api-key"}):
            assert (await first.post("/internal/drain", headers=headers)).status_code == 401
        answer = await first.post("/internal/drain", headers={"authorization": "Bearer an-admin-key"})
        assert (answer.status_code, answer.json()) == (202, {"status": "draining", "node": "indexer-0"})
        assert await succeed(second, url, 2) < SUCCESSION_S_MAX
        assert await cluster.servers["indexer-0"].wait() == 0
        assert await ids_of(second, url) == [1, 2]


async def test_no_write_fails_for_good_while_its_owner_drains(tmp_path):
    async with pair(tmp_path, forward=True) as (cluster, _, _, url):
        name = url.removeprefix("/v1/namespaces/")
        written = 0
        is_over = asyncio.Event()

        async def write(start):
            nonlocal written
            async with cluster.client("indexer-1") as client:
                while not is_over.is_set():
                    await client.upsert(name, [{"id": start + written, "attributes": {}}])
                    written += 1

        async with asyncio.TaskGroup() as tasks:
            for n in range(4):
                tasks.create_task(write((n + 1) * 10_000))
            await asyncio.sleep(0.3)
            before = written
            assert await cluster.servers["indexer-0"].stop() == 0
            await asyncio.sleep(0.3)
            is_over.set()
        assert written > before > 0
        async with cluster.http("indexer-1") as http:
            answer = await http.post(f"{url}/query", json={"aggregate": {"count": True}})
            assert answer.json()["aggregations"]["count"] == written + 1
        assert cluster.errors() == []
