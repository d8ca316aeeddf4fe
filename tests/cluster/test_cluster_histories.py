"""Histories of 16 clients through all nodes of a cluster are linearizable, whatever happens to the nodes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from cluster.harness import cluster_of, places
from cluster.nemesis import Nemesis
from cluster.recording import entrances, record_many
from crash.storages import in_bucket, in_folder

# a run in which most of this did not happen would show nothing
ACKED_MIN = 40  # per history
FAULTS_MIN = 3


async def _recorded(cluster, count, *, faults, seed, folder):
    """Findings of histories during which nodes are killed, stopped and drained, and what was done."""
    nemesis, stop = Nemesis(cluster, random.Random(seed)), asyncio.Event()
    actions = [getattr(nemesis, name) for name in faults]
    async with entrances(cluster) as ways:
        acting = asyncio.create_task(nemesis.run(stop, actions))
        try:
            findings = await record_many(count, ways, seed=seed, folder=folder)
        finally:
            stop.set()
            await acting
    return findings, Counter(incident.what for incident in nemesis.incidents)


def _judge(findings, happened, count):
    print(findings.histories, "histories", findings.tally.summary(), dict(happened))
    assert findings.wrong == []
    assert findings.histories == count
    assert findings.tally.acked > ACKED_MIN * count
    assert findings.tally.unknown > 0
    assert sum(happened.values()) >= FAULTS_MIN


@pytest.mark.slow
async def test_histories_during_kills_and_pauses_are_linearizable(tmp_path):
    """Writes are redirected by nodes that were told of each other."""
    nodes, count = places(3, 2), 38
    async with cluster_of(tmp_path, in_folder(tmp_path / "data"), nodes) as cluster:
        found = await _recorded(cluster, count, faults=("kill", "pause"), seed=1, folder=tmp_path)
        _judge(*found, count)
        assert cluster.errors() == []


@pytest.mark.slow
async def test_histories_during_kills_pauses_and_drains_with_forwarding_are_linearizable(tmp_path, moto):
    """Nodes find each other in the bucket and pass writes on."""
    nodes, count = places(3, 1), 12
    storage = in_bucket(moto.server, "histories")
    async with cluster_of(tmp_path, storage, nodes, mode="dynamic", forward=True) as cluster:
        found = await _recorded(cluster, count, faults=("kill", "pause", "drain"), seed=2, folder=tmp_path)
        _judge(*found, count)
        assert cluster.errors() == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [12])
async def test_two_nodes_that_both_believe_they_own_everything_are_linearizable(tmp_path, count):
    """Each was told of itself alone: the log fences, and both make progress."""
    nodes = places(2, 0)
    own = {node.node_id: {"nodes": node.entry} for node in nodes}
    storage = in_folder(tmp_path / "data")
    async with cluster_of(tmp_path, storage, nodes, own=own, is_split=True) as cluster:
        async with entrances(cluster) as ways:
            findings = await record_many(count, ways, seed=3, folder=tmp_path)
        claims = [await _metric(cluster, node, 'elacsym_claims_total{outcome="won"}') for node in nodes]
        assert cluster.errors() == []
    print(findings.tally.summary(), claims)
    assert findings.wrong == []
    # every namespace went back and forth, or one of the two would have refused all that came to it
    assert min(claims) > count
    assert findings.tally.acked > ACKED_MIN * count


async def _metric(cluster, node, name):
    async with cluster.http(node.node_id) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


async def test_a_node_that_does_not_check_its_reads_is_noticed(tmp_path):
    nodes = places(2, 0)
    stale = str(Path(__file__).with_name("stale_server.py"))
    own = {node.node_id: {"nodes": node.entry} for node in nodes}
    storage = in_folder(tmp_path / "data")
    cluster = cluster_of(tmp_path, storage, nodes, own=own, command=[stale], is_split=True)
    async with cluster as split, entrances(split) as ways:
        findings = await record_many(3, ways, seed=4)
    assert findings.wrong
