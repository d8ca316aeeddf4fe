"""Many small namespaces on one node: opened, queried, let go of, within the budgets; idle ones add no memory.

    python benches/namespaces.py [--namespaces 10000] [--work FOLDER] [--json out.json]

Each has 100 documents of 64 dimensions with a number and a text, folded into a segment.

A server that lets go of what exceeds 200 open ones every second, and of what is idle for 5 s, answers two
queries in every namespace. Its anonymous memory is compared when all are closed again: after a tenth of them,
and after all.

The same store behind a store that keeps no local files, in process, with small cache budgets: bytes on disk
and in memory must stay within them, and every answer must be right.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benches import generated, processes
from benches.distant import DistantStore
from benches.embedded import fill, folder_store, opened, stored
from benches.support import Figure, Server, options, report, running_server, wait_until, working_folder
from benches.vector_sets import vector_body
from elacsym.engine.database import Database
from elacsym.engine.request import Document
from elacsym.query.ast import Query, VectorLeg
from elacsym.telemetry import REGISTRY
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

DOCUMENTS, DIMENSIONS, CLIENTS = 100, 64, 8
OPEN_MAX, IDLE_S, UPKEEP_S = 200, 5.0, 1.0
BYTES_PER_IDLE_MAX = 1_024
DISK_BYTES_MAX, MEMORY_BYTES_MAX = 32 * 2**20, 8 * 2**20
SCHEMA = Schema(
    None,
    Metric.L2,
    {
        "vector": Attribute(AttributeType.parse(f"[{DIMENSIONS}]f32"), filterable=False),
        "text": Attribute(AttributeType.parse("string"), filterable=False, full_text=FullText()),
        "number": Attribute(AttributeType.parse("int")),
    },
)


def name_of(number: int) -> str:
    """The name of the n-th namespace."""
    return f"tenant-{number:06}"


def documents(number: int) -> Iterator[Document]:
    """The n-th namespace's documents; document 7's vector finds document 7 first."""
    for row, (vector, text) in enumerate(zip(vectors(number), _texts(), strict=True)):
        yield Document(row, {"vector": vector, "text": text, "number": row})


@functools.cache
def _texts() -> list[str]:
    return [generated.text(ranks) for ranks in generated.texts(DOCUMENTS)]


def vectors(number: int) -> generated.Floats:
    """(DOCUMENTS, DIMENSIONS) float32 of the n-th namespace."""
    return np.random.default_rng((9, number)).standard_normal((DOCUMENTS, DIMENSIONS), np.float32)


def store(work: Path, count: int) -> Path:
    """A folder store in `work` with all namespaces, folded."""

    async def build(database: Database) -> None:
        numbers = iter(range(count))

        async def some() -> None:
            for number in numbers:
                name = name_of(number)
                await fill(database, name, SCHEMA, documents(number))
                database.evict(await database.namespace(name))

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(some())

    return stored(work, f"namespaces-{count}", build)


@dataclass(frozen=True)
class Asked:
    """Latencies in ms, wrong or failed answers, most namespaces seen open, namespaces asked per second."""

    latencies_ms: Sequence[float]
    failed: int
    open_most: int
    rate: float


def ask_all(server: Server, numbers: Sequence[int]) -> Asked:
    """Two queries in each namespace: for a document's own vector, and for a text."""
    latencies_ms, failed, opened_counts = [], 0, [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            opened_counts.append(open_namespaces(server))

    def ask(number: int) -> tuple[list[float], int]:
        url, wrong, taken_ms = f"/v1/namespaces/{name_of(number)}/query", 0, []
        for body in (
            vector_body(vectors(number)[7], include_attributes=["number"]),
            b'{"full_text":{"field":"text","query":"w0 w1 w2"},"include_attributes":["number"]}',
        ):
            began_s = time.perf_counter()
            answer = client.post(url, content=body)
            taken_ms.append((time.perf_counter() - began_s) * 1000)
            results = answer.json()["results"] if answer.status_code == 200 else []
            wrong += len(results) != 10 or (b'"vector"' in body and results[0]["id"] != 7)
        return taken_ms, wrong

    watcher, began_s = threading.Thread(target=watch), time.perf_counter()
    watcher.start()
    with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(CLIENTS) as pool:
        for taken_ms, wrong in pool.map(ask, numbers):
            latencies_ms += taken_ms
            failed += wrong
    took_s = time.perf_counter() - began_s
    done.set()
    watcher.join()
    return Asked(latencies_ms, failed, max(opened_counts), len(numbers) / took_s)


def open_namespaces(server: Server) -> int:
    """How many namespaces the server holds open."""
    for line in httpx.get(f"{server.url}/metrics", timeout=60).text.splitlines():
        if line.startswith("elacsym_open_namespaces "):
            return int(float(line.split()[1]))
    return 0


def closed_bytes(server: Server) -> int:
    """Anonymous bytes of the server once no namespace is open."""
    wait_until(lambda: open_namespaces(server) == 0, "closing idle namespaces", timeout_s=60)
    time.sleep(1)
    return processes.memory(server.process.pid).anonymous_bytes


def measure_server(folder: Path, count: int) -> list[Figure]:
    """Opened, queried and let go of by a server."""
    settings: dict[str, Any] = {
        "storage": folder,
        "open_namespaces_max": OPEN_MAX,
        "namespace_idle_s": IDLE_S,
        "upkeep_period_s": UPKEEP_S,
    }
    tenth = count // 10
    with (
        tempfile.TemporaryDirectory() as name,
        running_server(Path(name), **settings) as server,
    ):
        first = ask_all(server, range(tenth))
        before = closed_bytes(server)
        rest = ask_all(server, range(tenth, count))
        after = closed_bytes(server)
    per_idle = (after - before) / (count - tenth)
    failed, most = first.failed + rest.failed, max(first.open_most, rest.open_most)
    # upkeep lets go of the surplus: until the end of its next round more are opened
    open_max = OPEN_MAX + 2 * UPKEEP_S * max(first.rate, rest.rate)
    return [
        Figure("answers that failed or are wrong", failed, f"0 of {2 * count:,}", failed == 0),
        Figure("first queries of a namespace, p50", float(np.median(rest.latencies_ms[::2])), unit="ms"),
        Figure("first queries, p99", float(np.percentile(rest.latencies_ms[::2], 99)), unit="ms"),
        Figure("namespaces", rest.rate, unit="/s"),
        Figure(
            "most namespaces open at once",
            most,
            f"≤ {OPEN_MAX} + those of two rounds of upkeep = {open_max:.0f}",
            most <= open_max,
        ),
        Figure("anonymous, all closed, after a tenth", before / 2**20, unit="MiB"),
        Figure("anonymous, all closed, after all", after / 2**20, unit="MiB"),
        Figure(
            "bytes per idle namespace",
            per_idle,
            f"≤ {BYTES_PER_IDLE_MAX:,}",
            per_idle <= BYTES_PER_IDLE_MAX,
        ),
    ]


async def measure_budgets(folder: Path, count: int) -> list[Figure]:
    """The caches over a store without local files."""
    distant = DistantStore(folder_store(folder), latency_s=0)
    wrong, disk_most, memory_most = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name)
        async with opened(
            distant, folder=cache, disk_bytes_max=DISK_BYTES_MAX, memory_bytes_max=MEMORY_BYTES_MAX
        ) as database:
            for number in range(count):
                query = Query((VectorLeg("vector", vectors(number)[7]),), include_attributes=("number",))
                answer = await database.query(name_of(number), query)
                wrong += len(answer.hits) != 10 or answer.hits[0].id != 7
                database.evict(await database.namespace(name_of(number)))
                if number % 100 == 99:
                    disk_most = max(disk_most, bytes_of(cache))
                    memory_most = max(memory_most, _cached_in_memory())
    fetched = distant.bytes_read
    return [
        Figure("cache budgets: answers that are wrong", wrong, f"0 of {count:,}", wrong == 0),
        Figure("cache budgets: bytes fetched", fetched / 2**20, unit="MiB"),
        Figure(
            "cache budgets: on disk, at most",
            disk_most / 2**20,
            f"≤ {DISK_BYTES_MAX / 2**20:g} MiB",
            disk_most <= DISK_BYTES_MAX,
            "MiB",
        ),
        Figure(
            "cache budgets: in memory, at most",
            memory_most / 2**20,
            f"≤ {MEMORY_BYTES_MAX / 2**20:g} MiB",
            memory_most <= MEMORY_BYTES_MAX,
            "MiB",
        ),
    ]


def bytes_of(folder: Path) -> int:
    """Bytes that the files below `folder` take on disk; holes take none."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _cached_in_memory() -> float:
    tiers = ("structures", "memory", "maps")
    return sum(REGISTRY.get_sample_value("elacsym_cache_bytes", {"tier": tier}) or 0.0 for tier in tiers)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--namespaces", type=int, default=10_000)
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        folder = store(work, arguments.namespaces)
        figures = measure_server(folder, arguments.namespaces)
        figures += asyncio.run(measure_budgets(folder, arguments.namespaces))
    return report("many namespaces", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
