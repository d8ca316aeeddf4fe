"""Three indexers, two query nodes and nginx over a bucket: what clients see while nothing goes wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import httpx
import pytest
from cluster.clients import SCHEMA, document
from cluster.harness import SHIPPED, Cluster, cluster_of, places
from cluster.nginx_process import Nginx
from crash.storages import in_bucket, in_folder

from elacsym.client import AsyncClient

# as deployed, but for one thing: nobody is taken for dead because two cores serve seven processes
CALM = {
    **SHIPPED,
    "liveness_timeout_s": 5.0,
    "fold_slots": 4096,
    "fold_age_s": 30,
    "gc_grace_s": 900,
    "upkeep_period_s": 1.0,
}
PAIRS, PAIR_WORKERS = 1_000, 16
WRITERS, NAMESPACES, WRITES_EACH = 16, 60, 50
CHECKS = 20
S3_DELAY_S = 0.1


@pytest.fixture(scope="module")
def forwarding(tmp_path_factory, moto):
    """The cluster that is shipped: nodes that pass writes on, and nginx."""
    folder, nodes = tmp_path_factory.mktemp("cluster"), places(3, 2)
    cluster = Cluster(folder, in_bucket(moto.server, "service"), nodes, forward=True, **CALM)
    nginx = Nginx(folder / "nginx", nodes)

    async def start() -> None:
        await cluster.start()
        await cluster.agree()
        await nginx.ready()

    try:
        with nginx:
            asyncio.run(start())
            yield cluster, nginx
    finally:
        cluster.kill()


class ServedBy(httpx.AsyncHTTPTransport):
    """Counts the answers of each node that are successes."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: Counter[str] = Counter()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if response.is_success:
            self.answers[response.headers["x-served-by"]] += 1
        return response


@pytest.mark.slow
async def test_a_strong_query_at_any_node_sees_what_was_just_written_through_nginx(forwarding):
    """2,000 operations of 16 clients in turns: a write through nginx, a strong query through another node."""
    cluster, nginx = forwarding
    stale, answered = [], 0
    namespaces = [f"fresh-{n}" for n in range(4)]

    async def write_and_look(worker: int, writing: AsyncClient, reading: list[AsyncClient]) -> None:
        nonlocal answered
        rng = random.Random(worker)
        for turn in range(PAIRS // PAIR_WORKERS + 1):
            namespace, id_ = rng.choice(namespaces), worker
            number = 1 + turn * PAIR_WORKERS + worker
            await writing.upsert(namespace, [document(id_, number, worker)])
            is_it = {"field": "write", "op": "eq", "value": number}
            found = await rng.choice(reading).query(namespace, filter=is_it, order_by=[["id", "asc"]])
            answered += 2
            if [(r.id, r.attributes["write"]) for r in found.results] != [(id_, number)]:
                stale.append((namespace, number, found.results))

    async with AsyncClient(nginx.url, retries=0) as writing:
        for namespace in namespaces:
            await writing.create(namespace, SCHEMA)
        reading = [AsyncClient(url, retries=0) for url in [*cluster.urls(), nginx.url]]
        async with asyncio.TaskGroup() as tasks:
            for worker in range(PAIR_WORKERS):
                tasks.create_task(write_and_look(worker, writing, reading))
        for client in reading:
            await client.close()
    assert answered >= 2 * PAIRS
    assert stale == []


@pytest.mark.slow
async def test_many_writers_over_many_namespaces_use_all_indexers_and_lose_no_document(forwarding):
    cluster, nginx = forwarding
    served, written = ServedBy(), Counter()
    namespaces = [f"spread-{n}" for n in range(NAMESPACES)]

    async def write(worker: int, client: AsyncClient) -> None:
        rng = random.Random(worker)
        for turn in range(WRITES_EACH):
            namespace = rng.choice(namespaces)
            count = rng.randint(1, 5)
            first = 1 + 10 * (worker * WRITES_EACH + turn)
            answer = await client.upsert(namespace, [document(first + i, turn, worker) for i in range(count)])
            assert answer.count == count
            written[namespace] += count

    # a retry would hide an error
    async with AsyncClient(nginx.url, retries=0, transport=served) as client:
        async with asyncio.TaskGroup() as tasks:
            for namespace in namespaces:
                tasks.create_task(client.create(namespace, SCHEMA))
        async with asyncio.TaskGroup() as tasks:
            for worker in range(WRITERS):
                tasks.create_task(write(worker, client))
    print(dict(served.answers))
    assert set(served.answers) == {place.node_id for place in cluster.indexers}
    assert sum(served.answers.values()) == WRITERS * WRITES_EACH + NAMESPACES
    owners = Counter(cluster.ring.owner(namespace) for namespace in namespaces)
    assert set(owners) == set(served.answers)
    counted = {}
    asked = list(cluster.places)
    for place, node_id in enumerate(asked):
        async with cluster.client(node_id, retries=0) as client:
            for namespace in namespaces[place :: len(asked)]:
                answer = await client.query(namespace, aggregate={"count": True})
                counted[namespace] = answer.body["aggregations"]["count"]
    assert counted == {namespace: written[namespace] for namespace in namespaces}


async def test_a_strong_query_costs_a_query_node_one_conditional_round(forwarding, moto):
    cluster, nginx = forwarding
    namespace, query_node = "unchanged", cluster.queries[0].node_id
    async with AsyncClient(nginx.url, retries=0) as client:
        await client.create(namespace, SCHEMA)
        await client.upsert(namespace, [document(n, n, -1) for n in range(1, 200)])
    query = {"vector": [1.0, 0.0, 0.0, 1.0], "top_k": 5}
    async with cluster.client(query_node, retries=0) as client:
        assert (await client.query(namespace, **query)).results
        moto.requests()
        moto.set_delay(S3_DELAY_S)
        try:
            before = await _store_operations(cluster, query_node)
            for _ in range(CHECKS):
                await client.query(namespace, **query)
            after = await _store_operations(cluster, query_node)
        finally:
            moto.set_delay(0.0)
    own = after - before
    asked = [r for r in moto.requests() if r.app == query_node]
    print(dict(own), len(asked) / CHECKS, "requests per query")
    # by the node's own count: the slot behind the tail is not there, the manifest is unchanged
    assert own == Counter({("get", "missing"): CHECKS, ("get_if_changed", "unchanged"): CHECKS})
    # at the store: in pairs, begun together
    assert len(asked) == 2 * CHECKS
    assert sum(r.is_conditional for r in asked) == CHECKS
    assert {r.method for r in asked} == {"GET"}
    assert not any("list-type" in r.asked for r in asked)
    asked.sort(key=lambda r: r.began_s)
    for one, other in zip(asked[::2], asked[1::2], strict=True):
        assert other.began_s < one.began_s + S3_DELAY_S / 2


async def _store_operations(cluster: Cluster, node_id: str) -> Counter[tuple[str, str]]:
    """Requests to the store by operation and outcome."""
    found: Counter[tuple[str, str]] = Counter()
    async with cluster.http(node_id) as http:
        text = (await http.get("/metrics")).text
    for line in text.splitlines():
        if line.startswith("elacsym_store_operations_total{"):
            labels = dict(part.split("=") for part in line[line.index("{") + 1 : line.index("}")].split(","))
            key = labels["operation"].strip('"'), labels["outcome"].strip('"')
            found[key] = round(float(line.rpartition(" ")[2]))
    return found


async def test_every_wrong_node_redirects_every_write_to_the_owner(tmp_path):
    nodes = places(3, 2)
    names = ["plain", "with.dots", "UPPER-lower_9", *(f"n-{i}" for i in range(9))]
    judged = 0
    async with cluster_of(tmp_path, in_folder(tmp_path / "data"), nodes, **CALM) as cluster:
        async with cluster.client() as client:
            for name in names:
                await client.create(name, SCHEMA)
        assert {cluster.ring.owner(name) for name in names} == {p.node_id for p in cluster.indexers}
        for place in nodes:
            async with cluster.http(place.node_id) as http:
                for name in names:
                    owner = cluster.ring.owner(name)
                    if place.node_id == owner:
                        continue
                    for method, path, body in _writes(name):
                        answer = await http.request(method, path, json=body)
                        assert answer.status_code == 307, (place, path, answer.text)
                        assert answer.headers["x-correct-indexer"] == owner
                        assert answer.headers["location"] == cluster.url(owner) + path
                        assert answer.headers["x-served-by"] == place.node_id
                        assert answer.json()["status"] == "error"
                        judged += 1
        # none of them was applied by anybody
        async with cluster.client(cluster.queries[0].node_id) as client:
            for name in names:
                answer = await client.query(name, aggregate={"count": True})
                assert answer.body["aggregations"]["count"] == 0
        assert cluster.errors() == []
    assert judged == len(names) * (len(nodes) - 1) * len(_writes("any"))


def _writes(name: str):
    """Every route of v1 that changes something, with a query string that must survive."""
    path = f"/v1/namespaces/{name}"
    return [
        ("PUT", path, {"schema": SCHEMA}),
        ("POST", f"{path}/upsert", {"documents": [{"id": 1, "vector": [1, 2, 3, 4]}]}),
        ("POST", f"{path}/upsert?from=a%2Fb&c=%20d", {"documents": [{"id": 1, "vector": [1, 2, 3, 4]}]}),
        ("POST", f"{path}/delete", {"ids": [1]}),
        ("DELETE", path, None),
    ]
