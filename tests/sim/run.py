"""Runs many seeds of the simulation, prints a table, writes JSON if asked.

python tests/sim/run.py --seeds 20000 --jobs 2
python tests/sim/run.py --seeds 200 --mutants all
ELACSYM_SIM_SEEDS=17,91 python tests/sim/run.py
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from sim_mutants import MUTANTS
from sim_world import World

Outcome = tuple[int, list[str], Counter[str], str]


def run_one(task: tuple[int, str | None, int]) -> Outcome:
    """Seed, violations, counts, trace hash of one run."""
    seed, mutant, requests = task
    world = World(seed, mutant, requests).run()
    counts = world.history.counts + Counter({"requests": world.sent.total()})
    counts += Counter({f"fault {kind}": n for kind, n in world.faulty.injected.items()})
    return seed, world.history.violations, counts, world.digest


def run_many(seeds: Iterable[int], mutant: str | None, requests: int, jobs: int) -> Iterator[Outcome]:
    """All runs, in order of seeds."""
    tasks = ((seed, mutant, requests) for seed in seeds)
    if jobs == 1:
        yield from map(run_one, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_one, tasks, chunksize=8)


def summary(mutant: str | None, outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """One row of the table; violations are printed as they come when no rule was taken away."""
    began_s = time.monotonic()
    totals: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failing: list[int] = []
    seeds = 0
    for seed, violations, counts, _ in outcomes:
        seeds += 1
        totals += counts
        if violations:
            failing.append(seed)
            kinds.update({v.split(":")[0] for v in violations})
            if mutant is None:
                print(
                    f"seed {seed} violates: {violations[:3]}  (ELACSYM_SIM_SEEDS={seed} replays it)",
                    flush=True,
                )
    seconds = time.monotonic() - began_s
    return {
        "removed rule": mutant or "-",
        "seeds": seeds,
        "violating": len(failing),
        "first": failing[:5],
        "kinds": dict(kinds.most_common(4)),
        "seconds": round(seconds, 1),
        "seeds_per_s": round(seeds / max(seconds, 1e-9), 1),
        "totals": dict(sorted(totals.items())),
    }


def main() -> int:
    """The command; 1 if the full protocol was violated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--requests", type=int, default=900, help="store requests per seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--mutants", default="", help="'all', or names separated by commas: " + ", ".join(MUTANTS)
    )
    parser.add_argument("--json", help="write the rows here")
    arguments = parser.parse_args()
    named = os.environ.get("ELACSYM_SIM_SEEDS")
    seeds = (
        [int(s) for s in named.split(",")]
        if named
        else range(arguments.first, arguments.first + arguments.seeds)
    )
    chosen = MUTANTS if arguments.mutants == "all" else [m for m in arguments.mutants.split(",") if m]
    rows = []
    for mutant in chosen or [None]:
        row = summary(mutant, run_many(seeds, mutant, arguments.requests, arguments.jobs))
        rows.append(row)
        print(
            f"{row['removed rule']:12} seeds={row['seeds']} violating={row['violating']} "
            f"first={row['first']} {row['seeds_per_s']} seeds/s {row['kinds']}",
            flush=True,
        )
        if mutant is None:
            print(json.dumps(row["totals"], indent=1))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    return int(any(row["violating"] for row in rows if row["removed rule"] == "-"))


if __name__ == "__main__":
    sys.exit(main())
