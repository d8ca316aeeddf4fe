"""What the API tells of the cluster."""

from collections import Counter
from contextlib import asynccontextmanager

import pytest
from server.in_process import opener, serving
from support.clocks import ManualClock

from elacsym.clock import SystemClock, system_random
from elacsym.cluster.census import KEPT_S, Census
from elacsym.cluster.node import ClusterNode
from elacsym.cluster.open import open_membership
from elacsym.cluster.ring import HashRing
from elacsym.compute import InlineCompute
from elacsym.config import Config
from elacsym.errors import StoreUnavailable
from elacsym.format import keys
from elacsym.server import app as application
from elacsym.server.service import Node
from elacsym.server.v1_cluster import MOVES_SHOWN_MAX
from elacsym.store.faults import FaultyStore
from elacsym.store.memory import MemoryStore

NODES = "a=http://a.invalid,b=http://b.invalid;weight=2,c=http://c.invalid,q=http://q.invalid;role=query"
RING = HashRing({"a": 1.0, "b": 2.0, "c": 1.0})
NAMES = [f"namespace-{i}" for i in range(1_500)]


async def store_of(names):
    store = MemoryStore()
    for name in names:
        await store.put_if_absent(keys.name_hint(name), b"x")
    return store


@asynccontextmanager
async def node_of(monkeypatch, store=None, **environment):
    """A client of an application that is the node these settings describe; `client.node` is that node."""
    store = store or MemoryStore()
    environment = {f"ELACSYM_{name.upper()}": value for name, value in environment.items()}
    config = Config.load(environment=environment)
    opened = []

    @asynccontextmanager
    async def open_node(config, compute):
        async with opener(store)(config, compute) as alone:
            membership = open_membership(config, store, SystemClock(), system_random())
            cluster = ClusterNode.of(membership, SystemClock())
            await cluster.start()
            opened.append(cluster)
            try:
                yield Node(alone.database, cluster)
            finally:
                await cluster.stop()

    monkeypatch.setattr("server.in_process.create_app", lambda *_: application.create_app(config, open_node))
    async with serving() as client:
        client.node = opened[0]
        yield client


@pytest.fixture
async def a(monkeypatch):
    async with node_of(monkeypatch, await store_of(NAMES), nodes=NODES, node_id="a") as client:
        yield client


async def members(client, query=""):
    response = await client.get(f"/v1/cluster{query}")
    assert response.status_code == 200, response.text
    return {member["id"]: member for member in response.json()["members"]}


async def test_a_node_that_is_alone_owns_all():
    async with serving(await store_of(["one", "two"])) as client:
        body = (await client.get("/v1/cluster?namespaces=true")).json()
        assert body == {
            "node": "node-1",
            "mode": "single",
            "epoch": 0,
            "ring": HashRing({"node-1": 1.0}).digest,
            "members": [
                {
                    "id": "node-1",
                    "url": "http://test",
                    "role": "all",
                    "weight": 1.0,
                    "health": "live",
                    "ring_share": 1.0,
                    "heartbeat_age_s": None,
                    "namespaces": 2,
                    "is_self": True,
                }
            ],
        }


async def test_members_are_shown_with_their_shares(a):
    body = (await a.get("/v1/cluster")).json()
    assert (body["node"], body["mode"], body["ring"]) == ("a", "static", RING.digest)
    shown = {member["id"]: member for member in body["members"]}
    assert list(shown) == ["a", "b", "c", "q"]
    assert [m["id"] for m in shown.values() if m["is_self"]] == ["a"]
    assert {name: m["ring_share"] for name, m in shown.items()} == pytest.approx(
        {**RING.shares(), "q": 0.0}, abs=1e-6
    )
    assert {name: m["role"] for name, m in shown.items()} == dict.fromkeys("abc", "indexer") | {"q": "query"}
    assert all(m["namespaces"] is None and m["heartbeat_age_s"] is None for m in shown.values())


async def test_namespaces_are_counted_by_owner(a):
    shown = await members(a, "?namespaces=true")
    expected = Counter(RING.owners(NAMES))
    assert {name: m["namespaces"] for name, m in shown.items()} == {**expected, "q": 0}


async def test_what_was_learned_of_a_member_by_asking_it_is_shown(a):
    a.node.liveness.suspect(a.node.membership.member("b"), "it refused")
    assert {name: m["health"] for name, m in (await members(a)).items()} == {
        "a": "live",
        "b": "suspect",
        "c": "live",
        "q": "live",
    }
    await a.node.membership.drain()
    assert (await members(a))["a"]["health"] == "draining"
    assert (await members(a))["a"]["ring_share"] == 0.0


async def test_members_by_heartbeats_have_an_age(monkeypatch):
    async with node_of(monkeypatch, node_id="x", advertise_url="http://x:1") as client:
        body = (await client.get("/v1/cluster")).json()
        assert body["mode"] == "dynamic"
        (member,) = body["members"]
        assert (member["id"], member["url"]) == ("x", "http://x:1")
        assert 0 <= member["heartbeat_age_s"] < 30


async def test_a_parameter_that_is_neither_is_refused(a):
    response = await a.get("/v1/cluster?namespaces=maybe")
    assert response.status_code == 400
    assert "namespaces: 'maybe'" in response.json()["error"]


def owned_by(node_id):
    return next(name for name in NAMES if RING.owner(name) == node_id)


async def test_an_owner_is_shown_whether_the_namespace_exists_or_not(a):
    name = owned_by("a")
    for namespace in (name, next(f"new-{i}" for i in range(99) if RING.owner(f"new-{i}") == "a")):
        body = (await a.get(f"/v1/cluster/owner/{namespace}")).json()
        assert body == {
            "namespace": namespace,
            "owner": {"id": "a", "url": "http://a.invalid"},
            "preferred_readers": ["q"],
        }
    assert (await a.get("/v1/cluster/owner/a%20b")).status_code == 400


async def test_the_owner_is_the_next_in_preference_when_the_first_is_suspect(a):
    name = next(n for n in NAMES if RING.preference(n, 2) == ["b", "a"])
    a.node.liveness.suspect(a.node.membership.member("b"), "it refused")
    assert (await a.get(f"/v1/cluster/owner/{name}")).json()["owner"]["id"] == "a"


async def test_nobody_owns_anything_while_no_indexer_can_be_reached(monkeypatch):
    async with node_of(monkeypatch, node_id="x", node_type="query") as client:
        body = (await client.get("/v1/cluster/owner/docs")).json()
        assert body == {"namespace": "docs", "owner": None, "preferred_readers": ["x"]}


async def test_a_new_member_would_take_its_share(a):
    response = await a.post("/v1/cluster/rebalance", json={"members": {**RING.weights, "d": 1}})
    body = response.json()
    after = HashRing({**RING.weights, "d": 1.0})
    expected = [name for name in NAMES if after.owner(name) == "d"]
    assert (body["moved"], body["total"]) == (len(expected), len(NAMES))
    assert sorted(m["namespace"] for m in body["moves"]) == sorted(expected)
    assert {m["to"] for m in body["moves"]} == {"d"}
    assert all(m["from"] == RING.owner(m["namespace"]) for m in body["moves"])


async def test_the_same_members_would_move_nothing(a):
    body = (await a.post("/v1/cluster/rebalance", json={"members": RING.weights})).json()
    assert body == {"moved": 0, "total": len(NAMES), "moves": []}


async def test_of_many_moves_the_first_are_shown(a):
    body = (await a.post("/v1/cluster/rebalance", json={"members": {"other": 1}})).json()
    assert body["moved"] == len(NAMES) > MOVES_SHOWN_MAX == len(body["moves"])


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 422, "members: missing field"),
        ({"members": []}, 422, "members: an array where an object is expected"),
        ({"members": {}}, 400, "members: 0 where 1 to 256 are allowed"),
        ({"members": {"a": "1"}}, 422, "members.a: a string where a number is expected"),
        ({"members": {"a": True}}, 422, "members.a: a boolean"),
        ({"members": {"a": 0}}, 400, "members.a: 0 where a weight from 0.01 to 16 is allowed"),
        ({"members": {"a b": 1}}, 400, "members: 'a b' is no node id"),
        ({"members": {f"n{i}": 1 for i in range(257)}}, 400, "members: 257 where 1 to 256"),
        ({"members": {f"n{i}": 16 for i in range(33)}}, 400, "weights of 528 together where 512"),
        ({"members": {"a": 1}, "dry_run": True}, 422, "dry_run: unknown field"),
    ],
)
async def test_members_that_cannot_be_are_refused(a, body, status, named):
    response = await a.post("/v1/cluster/rebalance", json=body)
    assert response.status_code == status, response.text
    assert named in response.json()["error"]


async def test_names_are_listed_again_when_they_are_old():
    watch = ManualClock(0.0)
    census = Census(watch, InlineCompute())
    store = FaultyStore(await store_of(["one"]), system_random())
    store.is_down = True
    with pytest.raises(StoreUnavailable):
        await census.names(store)
    store.is_down = False
    assert list(await census.names(store)) == ["one"]
    await store.inner.put_if_absent(keys.name_hint("Two.2"), b"x")
    await store.inner.put_if_absent(keys.NAMES_PREFIX + "no name", b"x")
    watch.now_s = KEPT_S - 0.1
    assert list(await census.names(store)) == ["one"]
    watch.now_s = KEPT_S
    assert list(await census.names(store)) == ["one", "Two.2"]
