"""Throughput of reads with one and with two query processes over one store.

    python benches/cluster_reads.py [--rows 70000] [--seconds 8] [--turns 3] [--json out.json]

The queries are exact vector queries with strong consistency, each of 5 ms of processor time or more. A query
process has one thread for searching, so that it stands for a machine of one core; wrk asks every process by
four connections. One and two processes are measured in turns, and the medians compared. On two cores the load
takes its part of them, too.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import orjson

from benches import generated, mixed
from benches.support import Figure, Server, options, report, running_server, working_folder
from benches.vector_sets import vector_body
from benches.wrk import Wrk, run_wrk

CONNECTIONS = 4
CPU_MS_MIN = 5.0
RATIO_MIN = 1.6
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(server: Server) -> float:
    """Processor time that the process has taken."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def asked(servers: list[Server], bodies: list[bytes], seconds: float) -> list[Wrk]:
    """Ask all servers at once. Raises RuntimeError if a query fails."""
    with ThreadPoolExecutor(len(servers)) as pool:
        urls = [f"{server.url}/v1/namespaces/{mixed.NAMESPACE}/query" for server in servers]
        runs = list(
            pool.map(lambda url: run_wrk(url, bodies, connections=CONNECTIONS, seconds=seconds), urls)
        )
    if any(run.refused or run.broken for run in runs):
        raise RuntimeError(f"queries must succeed: {runs}")
    return runs


def measure(servers: list[Server], bodies: list[bytes], seconds: float, turns: int) -> list[Figure]:
    """One and two processes in turns."""
    asked(servers, bodies, 1.0)  # both have opened the namespace and mapped its files
    one_rates, two_rates, cpu_ms, last = [], [], [], []
    for turn in range(turns):
        server = servers[turn % len(servers)]
        began_s = cpu_s(server)
        (alone,) = asked([server], bodies, seconds)
        cpu_ms.append(1000 * (cpu_s(server) - began_s) / alone.answers)
        one_rates.append(alone.rate)
        last = asked(servers, bodies, seconds)
        two_rates.append(sum(run.rate for run in last))
    one, two = statistics.median(one_rates), statistics.median(two_rates)
    per_query_ms = statistics.median(cpu_ms)
    return [
        Figure(
            "processor time per query",
            per_query_ms,
            f"≥ {CPU_MS_MIN:g} ms",
            per_query_ms >= CPU_MS_MIN,
            "ms",
        ),
        Figure("one query process", one, unit="/s", notes={"turns": one_rates}),
        Figure("two query processes", two, unit="/s", notes={"turns": two_rates}),
        Figure("p99 of two", max(run.p99_ms for run in last), unit="ms"),
        Figure("two over one", two / one, f"≥ {RATIO_MIN}", two / one >= RATIO_MIN),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=70_000, help="documents in the namespace")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    queries = generated.vector_queries(50)
    bodies = [vector_body(query, include_attributes=["number"], exact=True) for query in queries]
    assert all(orjson.loads(body)["exact"] for body in bodies)
    with working_folder(arguments.work) as work, ExitStack() as stack:
        store = mixed.store(work, arguments.rows)
        servers = []
        for number in range(2):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            node = {"node_id": f"query-{number}", "node_type": "query", "threads": 1}
            servers.append(stack.enter_context(running_server(folder, storage=store, **node)))
        figures = measure(servers, bodies, arguments.seconds, arguments.turns)
    return report("reads with one and with two query processes", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
