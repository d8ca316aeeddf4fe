"""Nodes that die, leave and join under load: nothing is lost, and a client that asks again is served."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from cluster.clients import SCHEMA, document
from cluster.harness import Place, cluster_of, free_port, places
from cluster.nemesis import Nemesis
from cluster.recording import entrances, load
from cluster.run import kills
from crash.storages import in_folder

from elacsym.cluster.ring import HashRing

SECONDS, PERIOD_S = 12.0, 3.0
NAMESPACES = 40


def _wrong(histories):
    return [problem for history in histories for problem in history.violations()]


@pytest.mark.slow
@pytest.mark.parametrize("forward", [False, True], ids=["redirecting", "forwarding"])
async def test_kills_of_indexers_under_writes_lose_and_double_nothing(tmp_path, forward):
    """A random indexer is killed and started again every few seconds; clients ask until they are answered."""
    nodes = places(3, 1)
    storage = in_folder(tmp_path / "data")
    async with cluster_of(tmp_path, storage, nodes, forward=forward) as cluster:
        figures, wrong = await kills(cluster, SECONDS, seed=5, folder=tmp_path, period_s=PERIOD_S)
        print(figures)
        assert cluster.errors() == []
    assert wrong == []
    assert figures["kills"] >= 3
    assert figures["acked"] > 300
    # else no kill has met a write
    assert figures["retried"] > 0
    assert figures["unknown"] + figures["refused"] == 0


@pytest.mark.slow
async def test_drains_under_load_fail_no_request(tmp_path):
    """Every indexer in turn leaves the ring, ends by itself and comes back."""
    nodes, names = places(3, 0), [f"drain-{n}" for n in range(6)]
    storage = in_folder(tmp_path / "data")
    async with cluster_of(tmp_path, storage, nodes, mode="dynamic") as cluster:
        nemesis, stop = Nemesis(cluster, random.Random(6)), asyncio.Event()
        async with entrances(cluster) as ways:
            for name in names:
                await ways.patient[0].create(name, SCHEMA)
            loading = asyncio.create_task(load(names, ways, stop, seed=6, each=2, pause_s=0.05))
            try:
                for node in nodes:
                    await nemesis.drain(node.node_id)
            finally:
                stop.set()
                histories, tally = await loading
        print(tally.summary())
        assert cluster.errors() == []
    assert _wrong(histories) == []
    assert tally.failed == 0
    assert tally.acked > 100


@pytest.mark.slow
async def test_a_fourth_indexer_takes_its_share_and_nothing_else_moves(tmp_path):
    """The ring goes from three nodes to four under load."""
    nodes, fourth = places(3, 0), Place("indexer-3", "indexer", free_port())
    names = [f"move-{n}" for n in range(NAMESPACES)]
    storage = in_folder(tmp_path / "data")
    async with cluster_of(tmp_path, storage, nodes, mode="dynamic") as cluster:
        three, stop = cluster.ring, asyncio.Event()
        async with entrances(cluster) as ways:
            for name in names:
                await ways.patient[0].create(name, SCHEMA)
            loading = asyncio.create_task(load(names, ways, stop, seed=7, each=1, pause_s=0.2))
            try:
                before = await _writers_of(cluster, names)
                await cluster.add(fourth)
                await cluster.agree()
                after = await _writers_of(cluster, names)
            finally:
                stop.set()
                histories, tally = await loading
        print(tally.summary(), dict(Counter(after.values())))
        assert cluster.errors() == []
    assert before == {name: three.owner(name) for name in names}
    moved = {name for name in names if after[name] != before[name]}
    assert {after[name] for name in moved} == {fourth.node_id}
    assert after == {
        name: HashRing(dict(three.weights) | {fourth.node_id: 1.0}).owner(name) for name in names
    }
    assert 0 < len(moved) <= 1.5 * NAMESPACES / 4
    assert _wrong(histories) == []
    assert tally.failed == 0
    assert tally.acked > NAMESPACES


async def _writers_of(cluster, names):
    """Which node serves a write of each namespace."""
    found = {}
    async with cluster.http(cluster.indexers[0].node_id) as http:
        for name in names:
            body = document(1_000, 0, -1) | {"vector": [0, 0, 0, 0]}
            answer = await http.post(
                f"/v1/namespaces/{name}/upsert", json={"documents": [body]}, follow_redirects=True
            )
            assert answer.is_success, answer.text
            found[name] = answer.headers["x-served-by"]
    return found
