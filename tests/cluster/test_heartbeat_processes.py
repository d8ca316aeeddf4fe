"""Membership by heartbeats between real processes: restarts, two processes of one id, pauses."""

from __future__ import annotations

import asyncio
import signal

import pytest
from cluster.clients import SCHEMA
from cluster.harness import QUICK, Place, cluster_of, free_port, places
from crash.processes import ServerProcess, until
from crash.storages import in_bucket, in_folder


def create(http, name):
    return http.put(f"/v1/namespaces/{name}", json={"schema": SCHEMA})


async def test_a_killed_node_that_comes_back_under_its_id_writes_at_once(tmp_path):
    (node,) = places(1, 0)
    async with cluster_of(tmp_path, in_folder(tmp_path / "data"), [node], mode="dynamic") as cluster:
        server = cluster.servers[node.node_id]
        for turn in range(2):
            async with cluster.http(node.node_id) as http:
                # the first request of all: nothing has been waited for
                assert (await create(http, f"docs-{turn}")).status_code == 200
                assert (await http.get("/readyz")).status_code == 200
            server.kill()
            await server.start()
        async with cluster.http(node.node_id) as http:
            assert (await create(http, "docs-2")).status_code == 200


async def test_of_two_processes_of_one_id_the_first_stops_claiming(tmp_path):
    node = Place("twin", "indexer", free_port())
    storage = in_folder(tmp_path / "data")
    async with cluster_of(tmp_path, storage, [node], mode="dynamic") as cluster:
        port = free_port()
        own = {"node_id": "twin", "port": port, "advertise_url": f"http://127.0.0.1:{port}"}
        second = ServerProcess(tmp_path / "second", storage.url, storage.environment, **dict(QUICK) | own)
        await second.start()
        try:
            async with cluster.http("twin") as first_http, second.http() as second_http:
                assert (await create(second_http, "docs")).status_code == 200

                async def is_unready():
                    return (await first_http.get("/readyz")).status_code == 503

                await until(is_unready)
                assert "another process has started" in (await first_http.get("/readyz")).json()["error"]
                refused = await create(first_http, "more")
                assert refused.status_code == 503
                assert refused.headers["retry-after"]
                # it still answers what needs no claim
                assert (await first_http.get("/v1/namespaces/docs")).status_code == 200
                assert (await second_http.get("/readyz")).status_code == 200
            (event,) = cluster.servers["twin"].errors()
            assert "displaced" in event["event"]
        finally:
            assert await second.stop() == 0


@pytest.mark.slow
async def test_over_s3_nobody_leaves_who_lives_and_whoever_is_paused_comes_back(tmp_path, moto):
    nodes = places(2, 1)
    settings = {"mode": "dynamic", "heartbeat_s": 0.5, "heartbeat_silent_s": 4.0}
    async with cluster_of(tmp_path, in_bucket(moto.server, "heartbeats"), nodes, **settings) as cluster:

        async def view(node_id):
            async with cluster.http(node_id) as http:
                return (await http.get("/v1/cluster")).json()

        before = [await view(node.node_id) for node in nodes]
        assert len({body["ring"] for body in before}) == 1
        # longer than the limit: whole seconds of the store's clock must not add up to silence
        await asyncio.sleep(6.0)
        after = [await view(node.node_id) for node in nodes]
        assert [body["epoch"] for body in after] == [body["epoch"] for body in before]

        cluster.servers["indexer-1"].signal(signal.SIGSTOP)

        async def is_silent():
            found = {m["id"]: m for m in await cluster.members("indexer-0")}
            return found["indexer-1"]["ring_share"] == 0.0

        await until(is_silent)
        cluster.servers["indexer-1"].signal(signal.SIGCONT)
        await cluster.agree()
        assert len({(await view(node.node_id))["ring"] for node in nodes}) == 1
