"""`elacsym cluster` against nodes that run."""

import asyncio
import json

import pytest
from cluster.harness import Cluster, places
from crash.storages import in_folder

from elacsym.client import Client
from elacsym.cluster.ring import HashRing

NAMESPACES = [f"docs-{i}" for i in range(12)]
ADMIN_KEY = "key-of-the-operator"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Three indexers and a query node that found each other in a folder."""
    folder = tmp_path_factory.mktemp("cluster")
    made = Cluster(
        folder, in_folder(folder / "data"), places(3, 1), mode="dynamic", admin_keys=ADMIN_KEY, forward=True
    )

    async def start():
        await made.start()
        await made.agree()

    try:
        asyncio.run(start())
        with Client(made.url("indexer-0")) as client:
            for name in NAMESPACES:
                client.create(name, {"attributes": {"title": {"type": "string"}}})
        yield made
    finally:
        made.kill()


@pytest.fixture
def url(cluster):
    return ("--url", cluster.url("query-0"))


def test_members_are_shown_as_a_table(elacsym, cluster, url):
    code, printed, _ = elacsym("cluster", *url)
    assert code == 0
    title, _, *rows = printed.splitlines()
    assert title.startswith("dynamic · epoch ")
    assert cluster.ring.digest in title
    assert title.rstrip().endswith("as seen by query-0")
    assert [row.split()[0] for row in rows] == ["indexer-0", "indexer-1", "indexer-2", "query-0"]
    for row in rows:
        assert " live " in row
        assert row.rstrip().endswith("s ago")


def test_members_are_shown_as_json_with_what_they_own(elacsym, cluster, url):
    code, printed, _ = elacsym("cluster", "--json", *url)
    body = json.loads(printed)
    assert code == 0
    owners = cluster.ring.owners(NAMESPACES)
    assert {m["id"]: m["namespaces"] for m in body["members"]} == {
        node_id: owners.count(node_id) for node_id in cluster.places
    }


def test_the_owner_of_a_namespace_is_shown(elacsym, cluster, url):
    for name in [*NAMESPACES[:3], "not-there"]:
        owner = cluster.ring.owner(name)
        code, printed, told = elacsym("cluster", "owner", name, *url)
        assert (code, printed.split()) == (0, [owner, cluster.url(owner)])
        assert told.strip() == "best read at: query-0"
    code, printed, _ = elacsym("cluster", "owner", "docs-0", "--json", *url)
    owner = cluster.ring.owner("docs-0")
    assert json.loads(printed) == {
        "namespace": "docs-0",
        "owner": {"id": owner, "url": cluster.url(owner)},
        "preferred_readers": ["query-0"],
    }


def test_what_another_member_would_take_is_shown(elacsym, cluster, url):
    after = HashRing(cluster.ring.weights | {"indexer-9": 2.0}).owners(NAMESPACES)
    expected = [name for name, owner in zip(NAMESPACES, after, strict=True) if owner == "indexer-9"]
    assert expected
    code, printed, _ = elacsym("cluster", "rebalance", "--dry-run", "--add", "indexer-9=2", *url)
    summary, _, *rows = printed.splitlines()
    assert code == 0
    assert summary.startswith(f"{len(expected)} of {len(NAMESPACES)} namespaces would move")
    assert sorted(row.split()[0] for row in rows) == sorted(expected)
    assert {row.split()[2] for row in rows} == {"indexer-9"}


def test_what_a_member_would_leave_is_shown(elacsym, cluster, url):
    owners = cluster.ring.owners(NAMESPACES)
    code, printed, _ = elacsym("cluster", "rebalance", "--dry-run", "--remove", "indexer-1", "--json", *url)
    body = json.loads(printed)
    assert code == 0
    assert body["moved"] == owners.count("indexer-1")
    assert {move["from"] for move in body["moves"]} <= {"indexer-1"}
    code, printed, _ = elacsym("cluster", "rebalance", "--dry-run", *url)
    assert printed.startswith("0 of 12 namespaces would move")


def test_there_is_nothing_to_rebalance(elacsym):
    code, printed, told = elacsym("cluster", "rebalance")
    assert (code, printed) == (2, "")
    assert "there is nothing to do" in told


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("rebalance", "--dry-run", "--remove", "query-0"), "'query-0' owns no namespaces"),
        (("rebalance", "--dry-run", "--add", "x=0"), "a weight from 0.01 to 16"),
        (("rebalance", "--dry-run", "--add", "a b"), "1 to 128 of"),
        (
            ("rebalance", "--dry-run", *(f"--remove=indexer-{i}" for i in range(3))),
            "no indexer would be left",
        ),
        (("drain", "nobody"), "'nobody' is none of indexer-0, indexer-1, indexer-2, query-0"),
    ],
)
def test_what_cannot_be_is_a_usage_error(elacsym, url, arguments, named):
    code, printed, told = elacsym("cluster", *arguments, *url)
    assert (code, printed) == (2, "")
    assert named in " ".join(told.replace("│", " ").split())


def test_nobody_answers(elacsym, unused_tcp_port_url):
    code, _, told = elacsym("cluster", "--url", unused_tcp_port_url)
    assert code == 1
    assert "error:" in told


# the last one: it takes a node out
def test_a_node_is_drained_with_the_key_of_operators_only(elacsym, cluster, url, monkeypatch):
    code, _, told = elacsym("cluster", "drain", "indexer-2", *url)
    assert code == 1
    assert "key" in told
    monkeypatch.setenv("ELACSYM_ADMIN_KEY", ADMIN_KEY)
    code, _, told = elacsym("cluster", "drain", "indexer-2", *url)
    assert (code, told.split()[0]) == (0, "indexer-2")
    assert asyncio.run(cluster.servers["indexer-2"].wait()) == 0
    asyncio.run(cluster.agree(["indexer-0", "indexer-1", "query-0"]))
    code, printed, _ = elacsym("cluster", "--json", *url)
    # a node that left may be shown as draining until the next look at the heartbeats
    live = {m["id"] for m in json.loads(printed)["members"] if m["health"] == "live"}
    assert live == {"indexer-0", "indexer-1", "query-0"}
