"""Membership by settings, and which kind of membership the settings ask for."""

import pytest

from elacsym.clock import SystemClock, system_random
from elacsym.cluster.dynamic import HeartbeatMembership
from elacsym.cluster.member import Health, Member, MemberState
from elacsym.cluster.membership import Alone, readers_of, ring_of
from elacsym.cluster.open import open_membership
from elacsym.cluster.static import StaticMembership
from elacsym.config import Config
from elacsym.store.memory import MemoryStore

NODES = "a=http://one:3000,b=http://two:3000;weight=2,q=http://three:3000;role=query"


def open_with(**environment):
    config = Config.load(environment={f"ELACSYM_{name}": value for name, value in environment.items()})
    return open_membership(config, MemoryStore(), SystemClock(), system_random())


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


async def test_all_nodes_of_a_list_see_the_same_ring():
    kinds = {"a": "all", "b": "indexer", "q": "query"}
    opened = {name: open_with(NODES=NODES, NODE_ID=name, NODE_TYPE=kind) for name, kind in kinds.items()}
    for name, membership in opened.items():
        await membership.start()
        assert isinstance(membership, StaticMembership)
        assert membership.mode == "static"
        assert membership.own == membership.member(name)
        assert membership.own.node_id == name
        assert membership.ring.weights == {"a": 1.0, "b": 2.0}
        assert membership.readers.weights == {"q": 1.0}
        assert [(s.member.node_id, s.health, s.heartbeat_age_s) for s in membership.states()] == [
            (known, Health.LIVE, None) for known in "abq"
        ]
        assert membership.may_claim is (name != "q")
        assert (membership.epoch, membership.fault) == (0, None)
        assert membership.member("z") is None
        await membership.stop()


async def test_a_node_leaves_its_ring_whichever_value_of_it_the_list_holds():
    membership = StaticMembership(Member("a", "http://one"), [Member("a", "http://one", weight=2.0)])
    await membership.drain()
    assert membership.ring.weights == {}


async def test_a_draining_node_is_out_of_its_own_ring():
    membership = open_with(NODES=NODES, NODE_ID="a")
    other = membership.ring
    await membership.drain()
    await membership.drain()
    assert membership.ring is not other
    assert membership.ring.weights == {"b": 2.0}
    assert not membership.may_claim
    assert membership.epoch == 1
    assert [s.health for s in membership.states()] == [Health.DRAINING, Health.LIVE, Health.LIVE]
    await membership.refresh()
    assert membership.ring.weights == {"b": 2.0}


async def test_numbered_nodes_are_a_list():
    membership = open_with(NODE_INDEX="1", TOTAL_NODES="3", NODE_URL_PATTERN="http://10.0.0.{index}")
    assert membership.own == Member("indexer-1", "http://10.0.0.1", "indexer")
    assert list(membership.ring.weights) == ["indexer-0", "indexer-1", "indexer-2"]
    assert membership.readers.weights == membership.ring.weights


async def test_a_query_node_need_not_be_listed():
    membership = open_with(
        NODES="a=http://one", NODE_ID="x", NODE_TYPE="query", ADVERTISE_URL="http://mine:1", NODE_WEIGHT="3"
    )
    assert membership.own == Member("x", "http://mine:1", "query", 3.0)
    assert not membership.may_claim
    assert membership.ring.weights == {"a": 1.0}
    assert membership.readers.weights == {"x": 3.0}


async def test_an_address_without_a_list_joins_by_heartbeats():
    membership = open_with(
        NODE_ID="a", ADVERTISE_URL="http://one", NODE_WEIGHT="2", HEARTBEAT_S="0.2", HEARTBEAT_SILENT_S="2"
    )
    assert isinstance(membership, HeartbeatMembership)
    assert membership.mode == "dynamic"
    assert membership.own == Member("a", "http://one", "all", 2.0)
    await membership.start()
    assert membership.may_claim
    assert membership.ring.weights == {"a": 2.0}
    await membership.stop()


@pytest.mark.parametrize(("kind", "ring"), [("all", {"a": 1.0}), ("query", {})])
async def test_without_settings_a_node_is_alone(kind, ring):
    membership = open_with(NODE_ID="a", NODE_TYPE=kind, HOST="::1", PORT="7")
    await membership.start()
    assert isinstance(membership, Alone)
    assert membership.mode == "single"
    assert membership.own == Member("a", "http://[::1]:7", kind)
    assert membership.ring.weights == ring
    assert membership.readers.weights == {"a": 1.0}
    assert membership.may_claim is (kind == "all")
    await membership.refresh()
    await membership.drain()
    assert not membership.may_claim
    assert [s.health for s in membership.states()] == [Health.DRAINING]
    assert membership.member("a") == membership.own
    assert membership.member("b") is None
    await membership.stop()


def test_a_look_that_finds_the_same_nodes_makes_no_other_ring():
    def states(*weights):
        members = [Member(f"n{i}", f"http://n{i}", weight=w) for i, w in enumerate(weights)]
        return [MemberState(member, Health.LIVE) for member in members]

    assert ring_of(states(1, 2)) is ring_of(states(1, 2)[::-1]) is readers_of(states(1, 2))
    assert ring_of(states(1, 2)) is not ring_of(states(2, 1))
