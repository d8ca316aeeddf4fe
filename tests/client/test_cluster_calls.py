"""What the client asks about the cluster."""

import httpx
import orjson
from client.scripted import Script

from elacsym.client import ClusterMember, Move

MEMBER = {
    "id": "indexer-0",
    "url": "http://indexer-0:3000",
    "role": "indexer",
    "weight": 1.0,
    "health": "live",
    "ring_share": 0.4,
    "heartbeat_age_s": 1.5,
    "namespaces": None,
    "is_self": True,
}


async def test_the_cluster_is_read_member_by_member(call):
    body = {"node": "indexer-0", "mode": "dynamic", "epoch": 3, "ring": "ab12", "members": [MEMBER]}
    script = Script(httpx.Response(200, json=body), httpx.Response(200, json=body))
    seen = await call(script, "cluster")
    assert (seen.node, seen.mode, seen.epoch, seen.ring) == ("indexer-0", "dynamic", 3, "ab12")
    assert seen.members == (ClusterMember(**MEMBER),)
    assert seen.body == body
    await call(script, "cluster", count_namespaces=True)
    assert script.asked == [
        "GET http://node-a:3000/v1/cluster",
        "GET http://node-a:3000/v1/cluster?namespaces=true",
    ]


async def test_the_owner_of_a_namespace_may_be_nobody(call):
    owned = {
        "namespace": "docs",
        "owner": {"id": "i-0", "url": "http://i-0"},
        "preferred_readers": ["q-1", "q-0"],
    }
    script = Script(httpx.Response(200, json=owned), httpx.Response(200, json=owned | {"owner": None}))
    found = await call(script, "owner", "..")
    assert (found.id, found.url, found.preferred_readers) == ("i-0", "http://i-0", ("q-1", "q-0"))
    assert script.requests[0].url.raw_path == b"/v1/cluster/owner/%2E%2E"
    found = await call(script, "owner", "docs")
    assert (found.namespace, found.id, found.url) == ("docs", None, None)


async def test_a_rebalance_sends_weights_and_reads_moves(call):
    body = {"moved": 2, "total": 9, "moves": [{"namespace": "a", "from": "i-0", "to": "i-3"}]}
    script = Script(httpx.Response(200, json=body))
    plan = await call(script, "rebalance", {"i-0": 1, "i-3": 2.5})
    assert orjson.loads(script.requests[0].content) == {"members": {"i-0": 1, "i-3": 2.5}}
    assert (plan.moved, plan.total, plan.moves) == (2, 9, (Move("a", "i-0", "i-3"),))


async def test_draining_asks_the_node_itself(call):
    script = Script(httpx.Response(202, json={"status": "draining"}))
    assert await call(script, "drain", client={"api_key": "admin"}) == {"status": "draining"}
    assert script.asked == ["POST http://node-a:3000/internal/drain"]
    assert script.requests[0].headers["authorization"] == "Bearer admin"
