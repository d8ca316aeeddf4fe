"""Ingest until everything is folded, merged and indexed, with queries going on all the while.

    python benches/folding.py [--documents 200000] [--json out.json]

A quarter of the documents is written and settled first. Then the rest is posted over two connections, 1,000
documents of 384 dimensions a request, while another process asks 20 vector queries a second. The clock stops
when the log's tail is empty, the manifest stays as it is and the server's processes are idle. The same
queries are asked again at rest. The server's settings are the defaults but one: a tail is folded after 2 s
instead of 30 s.
"""

from __future__ import annotations

import base64
import http.client
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson

from benches import generated
from benches.ingest import ingested_s
from benches.processes import IDLE_SHARE_MAX, cpu_s, wait_settled
from benches.support import Figure, Server, options, report, running_server, working_folder
from benches.vector_sets import vector_body

RATE_MIN, P99_RATIO_MAX = 4_000, 3.0
PER_REQUEST, FIRST_SHARE = 1_000, 0.25
QUERY_PERIOD_S, QUERIES, REST_S, LOOK_S = 0.05, 200, 20.0, 5.0
NAMESPACE = "folding"
SCHEMA = {
    "schema": {
        "vector_dim": generated.DIMENSIONS,
        "attributes": {"year": {"type": "integer"}, "category": {"type": "string"}},
    }
}


@dataclass(frozen=True)
class Asked:
    """Latencies of queries in ms, and how many did not succeed with 10 rows."""

    latencies_ms: Sequence[float]
    failed: int

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return float(np.percentile(self.latencies_ms, 99))


def bodies(vectors: generated.Floats) -> list[bytes]:
    """Upserts of all vectors."""
    return [
        orjson.dumps(
            {
                "documents": [
                    {
                        "id": start + i,
                        "vector": base64.b64encode(row.tobytes()).decode(),
                        "attributes": {"year": 2000 + i % 30, "category": f"c{i % 7}"},
                    }
                    for i, row in enumerate(vectors[start : start + PER_REQUEST])
                ]
            }
        )
        for start in range(0, len(vectors), PER_REQUEST)
    ]


def _ask(url: str, stop: Event, sender: Connection) -> None:
    """Ask at a steady pace until `stop` is set. Runs in a process of its own, so that nothing but the server
    makes a query late."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    queries = [vector_body(query, include_attributes=["year"]) for query in generated.vector_queries(QUERIES)]
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    latencies_ms, failed, number = [], 0, 0
    due_s = time.perf_counter()
    while not stop.is_set():
        time.sleep(max(0.0, due_s - time.perf_counter()))
        began_s = time.perf_counter()
        connection.request("POST", parts.path, queries[number % QUERIES])
        answer = connection.getresponse()
        body = answer.read()
        latencies_ms.append((time.perf_counter() - began_s) * 1000)
        failed += answer.status != 200 or len(orjson.loads(body)["results"]) != 10
        number += 1
        # a late answer delays the next question: nothing piles up
        due_s = max(due_s + QUERY_PERIOD_S, time.perf_counter())
    sender.send(Asked(latencies_ms, failed))


@contextmanager
def asking(url: str) -> Iterator[list[Asked]]:
    """Queries go on while the block runs; the list holds what they saw afterwards."""
    context = multiprocessing.get_context("spawn")
    stop, (receiver, sender) = context.Event(), multiprocessing.Pipe(duplex=False)
    process = context.Process(target=_ask, args=(url, stop, sender))
    process.start()
    sender.close()  # so that a client that dies ends the wait below
    found: list[Asked] = []
    try:
        yield found
    finally:
        stop.set()
        found.append(receiver.recv())
        process.join()


def query_load(server: Server, url: str) -> float:
    """The share of a core that the queries take when nothing else goes on."""
    with asking(url):
        before_s = cpu_s(server.process.pid)
        time.sleep(LOOK_S)
        return (cpu_s(server.process.pid) - before_s) / LOOK_S


def ingested(
    server: Server, upserts: list[bytes], idle_share_max: float = IDLE_SHARE_MAX
) -> tuple[float, float, int]:
    """Seconds until all is acknowledged, seconds until all is settled, refused requests."""
    began_s = time.monotonic()
    acknowledged_s, refused = ingested_s(f"{server.url}/v1/namespaces/{NAMESPACE}/upsert", upserts)
    settled_s = wait_settled(server, NAMESPACE, idle_share_max=idle_share_max)
    return acknowledged_s, settled_s - began_s, refused


def measure(work: Path, documents: int) -> list[Figure]:
    upserts = bodies(generated.vectors(work, documents))
    first = round(len(upserts) * FIRST_SHARE)
    with (
        tempfile.TemporaryDirectory(dir=work) as name,
        running_server(Path(name), fold_age_s=2) as server,
    ):
        namespace = f"{server.url}/v1/namespaces/{NAMESPACE}"
        httpx.put(namespace, json=SCHEMA).raise_for_status()
        ingested(server, upserts[:first])
        idle_share_max = IDLE_SHARE_MAX + query_load(server, f"{namespace}/query")
        with asking(f"{namespace}/query") as during:
            acknowledged_s, settled_s, refused = ingested(server, upserts[first:], idle_share_max)
        with asking(f"{namespace}/query") as rest:
            time.sleep(REST_S)
        info = httpx.get(namespace).raise_for_status().json()
    if info["documents"] != documents:
        raise RuntimeError(f"{info['documents']} documents where {documents} were acknowledged")
    written = documents - min(documents, first * PER_REQUEST)
    rate, ratio = written / settled_s, during[0].p99_ms / rest[0].p99_ms
    failed = during[0].failed + rest[0].failed
    asked = len(during[0].latencies_ms)
    return [
        Figure("acknowledged", written / acknowledged_s, unit="documents/s", notes={"refused": refused}),
        Figure(
            "folded, merged and indexed",
            rate,
            f"≥ {RATE_MIN:,} documents/s",
            rate >= RATE_MIN,
            "documents/s",
            {"settled_s": settled_s, "segments": info["segments"]},
        ),
        Figure("queries at rest, p50", float(np.median(rest[0].latencies_ms)), unit="ms"),
        Figure("queries at rest, p99", rest[0].p99_ms, unit="ms"),
        Figure("queries during it, p50", float(np.median(during[0].latencies_ms)), unit="ms"),
        Figure("queries during it, p99", during[0].p99_ms, unit="ms", notes={"asked": asked}),
        Figure("p99 during it over at rest", ratio, f"≤ {P99_RATIO_MAX:g}", ratio <= P99_RATIO_MAX),
        Figure("queries that failed", failed, f"0 of {asked + len(rest[0].latencies_ms):,}", failed == 0),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--documents", type=int, default=200_000)
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        figures = measure(work, arguments.documents)
    return report("ingest until settled", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
