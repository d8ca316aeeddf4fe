"""Kills a real server under concurrent writes again and again, and says what was lost.

    cd tests && python -m crash.run --kills 200 --store local
    cd tests && python -m crash.run --kills 200 --store s3 --json kills.json
    cd tests && python -m crash.run --kills 50 --store ceph          # as root, with Debian's ceph packages

Prints a table of every tenth life (`--all`: every one) and a summary, and ends with exit code 1 if an
acknowledged write was lost or doubled, a document was torn or a ghost, the server logged an error, a
restart took more than 5 s, or the final scrub found damage. The journal and the server's log stay in
`--folder` if one is given. `--seed` repeats the same draws; what the machine makes of them differs from
run to run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crash.kill_loop import RESTART_S_MAX, KillLoop, Round
from crash.processes import SMALL, ServerProcess
from crash.storages import Storage, empty
from rich.console import Console
from rich.table import Table


async def kill(folder: Path, storage: Storage, kills: int, *, seed: int) -> tuple[KillLoop, list[str]]:
    """Run the loop, then scrub; the loop, and everything that is wrong."""
    server = ServerProcess(folder, storage.url, storage.environment, **SMALL)
    loop = KillLoop(server, folder / "journal", seed=seed)
    async with storage.opened() as store:
        await loop.run(kills, store)
    logged = [f"the server logged an error: {event}" for event in server.errors()]
    found = [f"scrub: {key}: {reason}" for key, reason in scrubbed(server)]
    return loop, [*loop.violations, *logged, *found]


def scrubbed(server: ServerProcess) -> list[tuple[str, str]]:
    """Key and reason of whatever `elacsym scrub` finds wrong in a server's storage."""
    command = [sys.executable, "-m", "elacsym.cli", "scrub", "--json"]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    reports = json.loads(done.stdout)
    problems = [(key, reason) for report in reports for key, reason in report["problems"]]
    assert bool(problems) == bool(done.returncode), done.stdout
    return problems


def summary(rounds: list[Round]) -> dict[str, Any]:
    """The figures of all rounds together."""
    restarts = sorted(r.restart_s for r in rounds)
    return {
        "kills": len(rounds) - 1,
        "acknowledged": sum(r.acked for r in rounds),
        "unknown": sum(r.unknown for r in rounds),
        "sent_again": sum(r.sent_again for r in rounds),
        "jobs_done": {job: sum(r.jobs.get(job, 0) for r in rounds) for job in ("fold", "compact", "collect")},
        "kills_within_a_job": sum(r.is_job_cut for r in rounds),
        "restart_s_median": restarts[len(restarts) // 2],
        "restart_s_p99": restarts[min(len(restarts) - 1, int(len(restarts) * 0.99))],
        "restart_s_max": restarts[-1],
    }


def shown(rounds: list[Round], *, is_all: bool) -> Table:
    """The rounds as a table."""
    table = Table()
    for heading in (
        "kill",
        "restart s",
        "life s",
        "acked",
        "unknown",
        "again",
        "documents",
        "folds",
        "merges",
        "cut",
    ):
        table.add_column(heading, justify="right")
    for r in rounds:
        if is_all or r.number % 10 == 1 or r is rounds[-1]:
            cells = (
                r.number,
                f"{r.restart_s:.2f}",
                f"{r.life_s:.2f}",
                r.acked,
                r.unknown,
                r.sent_again,
                r.documents,
            )
            jobs = (r.jobs.get("fold", 0), r.jobs.get("compact", 0), "yes" if r.is_job_cut else "")
            table.add_row(*map(str, (*cells, *jobs)))
    return table


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--store", choices=("local", "s3", "ceph"), default="local")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--all", action="store_true", help="show every life")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--folder", type=Path, help="keep everything here; default: a temporary folder")
    chosen = parser.parse_args()
    console = Console()
    with contextlib.ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        storage = stack.enter_context(empty(chosen.store, folder, "crash"))
        loop, wrong = asyncio.run(kill(folder, storage, chosen.kills, seed=chosen.seed))
    figures = {"store": chosen.store, "seed": chosen.seed, **summary(loop.rounds), "wrong": wrong}
    console.print(shown(loop.rounds, is_all=chosen.all))
    for name, value in figures.items():
        if name != "wrong":
            console.print(f"{name}: {value}")
    for message in wrong:
        console.print(f"WRONG: {message}", markup=False)
    console.print(f"{len(wrong)} wrong; goal: 0 lost, 0 doubled, restart < {RESTART_S_MAX:g} s")
    if chosen.json:
        chosen.json.write_text(json.dumps({**figures, "rounds": [asdict(r) for r in loop.rounds]}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
