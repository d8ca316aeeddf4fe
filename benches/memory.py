"""Anonymous memory of a server that serves generated vectors warm, above that of an idle server.

    python benches/memory.py [--rows 200000] [--queries 1000] [--work FOLDER] [--json out.json]

A server is started over a store that is folded and merged. Its anonymous memory (RssAnon, of all its
processes) is read before the first query and after two rounds of all queries, unfiltered and with a filter
that takes 10 %. Mapped files are reported beside it: they are cache that the system may take back. Text
queries follow, without a goal.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import httpx

from benches import generated, mixed, processes
from benches.support import Figure, Server, options, report, running_server, working_folder

SHARE_MAX, ROUNDS = 0.2, 2
_IDLE_S = 3.0


def ask(url: str, bodies: list[bytes]) -> None:
    """Send the bodies, each ROUNDS times."""
    with httpx.Client(timeout=60) as client:
        for _ in range(ROUNDS):
            for body in bodies:
                client.post(url, content=body).raise_for_status()


def idle_memory(server: Server) -> processes.Memory:
    """After a while without requests."""
    time.sleep(_IDLE_S)
    return processes.memory(server.process.pid)


def measure(folder: Path, rows: int, queries: int) -> list[Figure]:
    raw = rows * generated.DIMENSIONS * 4
    with tempfile.TemporaryDirectory() as name, running_server(Path(name), storage=folder) as server:
        url = f"{server.url}/v1/namespaces/{mixed.NAMESPACE}/query"
        httpx.get(f"{server.url}/health").raise_for_status()
        idle = idle_memory(server)
        ask(url, mixed.vector_bodies(queries))
        plain = idle_memory(server)
        ask(url, mixed.vector_bodies(queries, 10))
        warm = idle_memory(server)
        words = generated.text_queries(generated.texts(rows), queries)
        ask(url, mixed.text_bodies(words))
        with_text = idle_memory(server)
    grown = warm.anonymous_bytes - idle.anonymous_bytes
    share = grown / raw
    return [
        Figure("raw vectors", raw / 2**20, unit="MiB"),
        Figure("anonymous, idle", idle.anonymous_bytes / 2**20, unit="MiB"),
        Figure("anonymous, after unfiltered queries", plain.anonymous_bytes / 2**20, unit="MiB"),
        Figure("anonymous, after filtered ones, too", warm.anonymous_bytes / 2**20, unit="MiB"),
        Figure("mapped files then", warm.file_bytes / 2**20, unit="MiB"),
        Figure("anonymous above idle over raw vectors", share, f"≤ {SHARE_MAX}", share <= SHARE_MAX),
        Figure("anonymous, after text queries, too", with_text.anonymous_bytes / 2**20, unit="MiB"),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="documents")
    parser.add_argument("--queries", type=int, default=1_000, help="of each kind")
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        figures = measure(mixed.store(work, arguments.rows), arguments.rows, arguments.queries)
    return report("memory of a warm server", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
