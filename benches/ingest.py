"""Bulk ingest by HTTP on a folder with fsync: 384-d base64 vectors, 1,000 documents a request.

    python benches/ingest.py [--documents 100000] [--json out.json]

Yardstick of the same run: the rate of writing the same bytes to the same folder with one fsync per request.
"""

from __future__ import annotations

import argparse
import base64
import os
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
from support import Figure, report, running_server

DIMENSIONS, PER_REQUEST, CONNECTIONS = 384, 1_000, 2
SCHEMA = {
    "schema": {
        "vector_dim": DIMENSIONS,
        "attributes": {"year": {"type": "integer"}, "category": {"type": "string"}},
    }
}


def body(start: int, rng: np.random.Generator) -> bytes:
    matrix = rng.standard_normal((PER_REQUEST, DIMENSIONS), np.float32)
    return orjson.dumps(
        {
            "documents": [
                {
                    "id": start + i,
                    "vector": base64.b64encode(row.tobytes()).decode(),
                    "attributes": {"year": 2000 + i % 30, "category": f"c{i % 7}"},
                }
                for i, row in enumerate(matrix)
            ]
        }
    )


def written_s(folder: Path, bodies: list[bytes]) -> float:
    began_s = time.perf_counter()
    for number, data in enumerate(bodies):
        with (folder / f"raw-{number}").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return time.perf_counter() - began_s


def ingested_s(url: str, bodies: list[bytes]) -> tuple[float, int]:
    """Seconds until everything is acknowledged, and how often a request was told to come back later."""
    waiting, lock = iter(bodies), threading.Lock()
    refused = 0

    def work() -> None:
        nonlocal refused
        with httpx.Client(timeout=120) as client:
            while True:
                with lock:
                    data = next(waiting, None)
                if data is None:
                    return
                while (answer := client.post(url, content=data)).status_code == 429:
                    refused += 1
                    time.sleep(float(answer.headers["Retry-After"]))
                answer.raise_for_status()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began_s, refused


def measure(documents: int) -> list[Figure]:
    rng = np.random.default_rng(1)
    bodies = [body(start, rng) for start in range(0, documents, PER_REQUEST)]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        raw_s = written_s(folder, bodies)
        with running_server(folder) as server:
            namespace = f"{server.url}/v1/namespaces/bench"
            httpx.put(namespace, json=SCHEMA).raise_for_status()
            took_s, refused = ingested_s(f"{namespace}/upsert", bodies)
            found = httpx.get(namespace, timeout=60).raise_for_status().json()["documents"]
    assert found == documents, f"{found} documents where {documents} were acknowledged"
    rate = documents / took_s
    return [
        Figure(
            "acknowledged", rate, "≥ 8,000 documents/s", rate >= 8_000, "documents/s", {"refused": refused}
        ),
        Figure("bytes of bodies", sum(map(len, bodies)) / took_s / 1e6, unit="MB/s"),
        Figure("over writing the same bytes with one fsync each", raw_s / took_s),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    return report("ingest", measure(arguments.documents), arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
