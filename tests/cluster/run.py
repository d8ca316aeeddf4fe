"""Records and judges histories of a real cluster whose nodes are killed, stopped and drained; then writes
while an indexer is killed every 5 s.

    cd tests && python -m cluster.run --histories 200 --store local
    cd tests && python -m cluster.run --histories 200 --minutes 2 --store moto --mode dynamic --forward
    cd tests && python -m cluster.run --minutes 2 --store ceph     # as root, with Debian's ceph packages

Prints the figures and what is wrong, and ends with exit code 1 if a history is not linearizable (an
acknowledged write was lost or doubled, a strong read was stale), if less than 99.9 % of the writes that had
to be repeated were acknowledged within 15 s, or if a node logged an error. What is wrong stays in `--folder`
if one is given, as a history that `cluster.history.load` reads, beside the logs of the nodes. `--seed`
repeats the same draws; what the machine makes of them differs from run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from cluster.clients import SCHEMA
from cluster.harness import SHIPPED, Cluster, cluster_of, places
from cluster.nemesis import Nemesis
from cluster.recording import entrances, load, record_many
from crash.storages import Storage, empty
from rich.console import Console

KILL_PERIOD_S = 5.0
RETRIED_S_MAX = 15.0
RETRIED_SHARE_MIN = 0.999
KILL_NAMESPACES, KILL_CLIENTS_EACH, KILL_PAUSE_S = 8, 3, 0.05


async def histories(
    cluster: Cluster, count: int, *, seed: int, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """Figures and faults of `count` histories, while one node after the other is killed, stopped, drained."""
    nemesis, stop = Nemesis(cluster, random.Random(seed)), asyncio.Event()
    async with entrances(cluster) as ways:
        acting = asyncio.create_task(nemesis.run(stop, [nemesis.kill, nemesis.pause, nemesis.drain]))
        try:
            findings = await record_many(count, ways, seed=seed, folder=folder)
        finally:
            stop.set()
            await acting
    figures = {"histories": findings.histories, **findings.tally.summary()}
    return figures | Counter(incident.what for incident in nemesis.incidents), findings.wrong


async def kills(
    cluster: Cluster, seconds: float, *, seed: int, folder: Path, period_s: float = KILL_PERIOD_S
) -> tuple[dict[str, Any], list[str]]:
    """Figures and faults of writes while a random indexer is killed, and started again, every `period_s`."""
    nemesis, stop = Nemesis(cluster, random.Random(seed)), asyncio.Event()
    names = [f"kills-{n}" for n in range(KILL_NAMESPACES)]
    async with entrances(cluster) as ways:
        for name in names:
            await ways.patient[0].create(name, SCHEMA)
        loading = asyncio.create_task(
            load(names, ways, stop, seed=seed, each=KILL_CLIENTS_EACH, pause_s=KILL_PAUSE_S)
        )
        ended = asyncio.get_running_loop().call_later(seconds, stop.set)
        try:
            await nemesis.run(stop, [nemesis.kill], period_s=period_s)
        finally:
            ended.cancel()
            stop.set()
            recorded, tally = await loading
    wrong = []
    for history in recorded:
        found = await asyncio.to_thread(history.violations)
        if found:
            history.save(folder / f"{history.namespace}.jsonl")
        wrong += found
    share = tally.retried_within(RETRIED_S_MAX)
    if share < RETRIED_SHARE_MIN:
        wrong.append(f"{share:.2%} of the repeated writes were acknowledged within {RETRIED_S_MAX:g} s")
    return {"kills": len(nemesis.incidents), **tally.summary(), "retried_within_15_s": share}, wrong


async def run(chosen: argparse.Namespace, folder: Path, storage: Storage) -> tuple[dict[str, Any], list[str]]:
    """All parts that were asked for."""
    figures: dict[str, Any] = {}
    wrong: list[str] = []
    nodes = places(chosen.indexers, chosen.queries)
    options = {"mode": chosen.mode, "forward": chosen.forward, **(SHIPPED if chosen.shipped else {})}
    async with cluster_of(folder / "nodes", storage, nodes, **options) as cluster:
        if chosen.histories:
            figures["histories"], found = await histories(
                cluster, chosen.histories, seed=chosen.seed, folder=folder
            )
            wrong += found
        if chosen.minutes:
            figures["kills"], found = await kills(
                cluster, 60 * chosen.minutes, seed=chosen.seed, folder=folder
            )
            wrong += found
        wrong += cluster.errors()
    return figures, wrong


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--histories", type=int, default=50, help="to record and judge; 0: none")
    parser.add_argument("--minutes", type=float, default=0.0, help="of writes under kills; 0: none")
    parser.add_argument("--store", choices=("local", "moto", "ceph"), default="local")
    parser.add_argument("--mode", choices=("static", "dynamic"), default="static")
    parser.add_argument("--forward", action="store_true", help="nodes pass writes on instead of redirecting")
    parser.add_argument(
        "--shipped", action="store_true", help="heartbeats and suspicion as shipped; default: quicker ones"
    )
    parser.add_argument("--indexers", type=int, default=3)
    parser.add_argument("--queries", type=int, default=2, help="query nodes")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    chosen = parser.parse_args()
    console = Console()
    with contextlib.ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        storage = stack.enter_context(empty(chosen.store, folder, "cluster"))
        figures, wrong = asyncio.run(run(chosen, folder, storage))
    console.print({"store": chosen.store, "mode": chosen.mode, "seed": chosen.seed, **figures})
    for problem in wrong:
        console.print(f"WRONG: {problem}", markup=False)
    console.print(f"{len(wrong)} wrong")
    if chosen.json:
        chosen.json.write_text(json.dumps({"seed": chosen.seed, **figures, "wrong": wrong}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
