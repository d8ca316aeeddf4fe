"""The client against real nodes that redirect."""

import numpy as np
from cluster import served
from cluster.harness import cluster_of, places
from crash.storages import in_folder

from elacsym.client import AsyncClient

KEY = "key-of-the-test"
SCHEMA = {"vector_dim": 2}


async def test_writes_reach_every_owner_with_the_key_wherever_they_begin(tmp_path):
    nodes = places(indexers=2, queries=1)
    storage = in_folder(tmp_path / "data")
    async with cluster_of(tmp_path, storage, nodes, api_keys=KEY, is_split=True) as cluster:
        names = [f"ns-{n}" for n in range(8)]
        owners = {name: cluster.ring.owner(name) for name in names}
        assert set(owners.values()) == {"indexer-0", "indexer-1"}
        for node in nodes:
            async with AsyncClient(node.url, api_key=KEY, read_your_writes=True) as client:
                for name in names:
                    await client.create(name, SCHEMA)
                    written = await client.upsert(name, [{"id": node.port, "vector": [1, 0]}])
                    (found,) = await client.documents(name, [node.port])
                    assert found is not None
                    (found,) = await client.documents(name, [node.port], consistency=written)
                    assert found is not None
                    owner = await client.owner(name)
                    assert (owner.id, owner.url) == (owners[name], cluster.url(owners[name]))
                seen = await client.cluster(count_namespaces=True)
                assert {m.id for m in seen.members} == {n.node_id for n in nodes}
                moves = await client.rebalance({"indexer-0": 1.0})
                assert {m.namespace for m in moves.moves} == {n for n in names if owners[n] == "indexer-1"}


async def test_a_write_outlives_the_death_of_the_owner(tmp_path):
    nodes = places(indexers=2, queries=0)
    async with cluster_of(tmp_path, in_folder(tmp_path / "data"), nodes) as cluster:
        name = next(n for n in map(str, range(99)) if cluster.ring.owner(n) == "indexer-1")
        async with AsyncClient(cluster.url("indexer-0")) as client:
            await client.create(name, SCHEMA)
            await client.upsert(name, [{"id": 1, "vector": [1, 0]}])
            cluster.servers["indexer-1"].kill()
            await client.upsert(name, [{"id": 2, "vector": [0, 1]}])
            assert None not in await client.documents(name, [1, 2])


async def test_a_write_that_is_longer_than_what_a_wrong_node_reads_arrives():
    async with served.cluster_of("indexer", "indexer") as nodes:
        (name,) = served.owned_by("node-1", [node.member for node in nodes])
        async with AsyncClient(nodes[0].member.url, retries=0) as client:
            await client.create(name, {"vector_dim": 4096})
            # 40 MiB
            documents = [{"id": n, "vector": np.zeros(4096, np.float32)} for n in range(1920)]
            assert (await client.upsert(name, documents)).count == 1920
