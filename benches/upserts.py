"""Single upserts on a folder with fsync: latency of one client, group commit and rate of sixteen.

    python benches/upserts.py [--seconds 5] [--json out.json]

Yardsticks of the same run: the p50 of an fsync in the same folder, and the rate of an empty POST to the same
route of the same server (which answers 400) by the same client.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from load import Load, closed_loop
from support import Figure, report, running_server

SCHEMA = {
    "schema": {
        "vector_dim": 4,
        "attributes": {"title": {"type": "string", "full_text": True}, "year": {"type": "integer"}},
    }
}
CLIENTS = 16


def upsert(number: int) -> bytes:
    return (
        b'{"documents":[{"id":%d,"vector":[0.1,0.2,0.3,0.4],"attributes":{"year":2020,"title":"a title"}}]}'
        % number
    )


def nothing(_: int) -> bytes:
    return b""


def fsync_ms(folder: Path, count: int = 300) -> float:
    """The median time of writing 500 bytes to a new file and fsyncing it."""
    taken = []
    for number in range(count):
        path = folder / f"fsync-{number}"
        handle = os.open(path, os.O_CREAT | os.O_WRONLY)
        began_s = time.perf_counter()
        os.write(handle, b"x" * 500)
        os.fsync(handle)
        taken.append((time.perf_counter() - began_s) * 1000)
        os.close(handle)
        path.unlink()
    return statistics.median(taken)


def commits(url: str) -> float:
    """Log entries committed so far."""
    for line in httpx.get(f"{url}/metrics").text.splitlines():
        if line.startswith('elacsym_commits_total{outcome="committed"}'):
            return float(line.split()[-1])
    return 0.0


def measure(seconds: float) -> list[Figure]:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        fsync = fsync_ms(folder)
        with running_server(folder) as server:
            route = f"{server.url}/v1/namespaces/bench/upsert"
            httpx.put(f"{server.url}/v1/namespaces/bench", json=SCHEMA).raise_for_status()
            httpx.post(route, content=upsert(10**9)).raise_for_status()
            one = closed_loop(route, upsert, connections=1, seconds=seconds)
            before = commits(server.url)
            many = closed_loop(route, upsert, connections=CLIENTS, seconds=seconds)
            made = commits(server.url) - before
            empty = closed_loop(route, nothing, connections=CLIENTS, seconds=seconds)
        fsync = max(fsync, fsync_ms(folder))
    return figures(fsync, one, many, made, empty)


def figures(fsync: float, one: Load, many: Load, made: float, empty: Load) -> list[Figure]:
    limit = 2 * fsync + 3
    per_write, ratio = made / many.answers, many.rate / empty.rate
    assert set(one.statuses) | set(many.statuses) == {200}, (one.statuses, many.statuses)
    return [
        Figure("fsync, p50", fsync, unit="ms"),
        Figure(
            "one client, p50",
            one.p50_ms,
            f"≤ 2 fsyncs + 3 ms = {limit:.2f} ms",
            one.p50_ms <= limit,
            "ms",
            vars(one),
        ),
        Figure("one client, rate", one.rate, unit="/s"),
        Figure(f"{CLIENTS} clients, rate", many.rate, unit="/s", notes=vars(many)),
        Figure(f"{CLIENTS} clients, commits per write", per_write, "≤ 0.2", per_write <= 0.2),
        Figure("empty POST, rate", empty.rate, unit="/s", notes=vars(empty)),
        Figure(f"{CLIENTS} clients, rate over empty POST", ratio, "≥ 0.5", ratio >= 0.5),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    return report("single upserts", measure(arguments.seconds), arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
