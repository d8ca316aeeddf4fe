"""A v2 write of 256 MiB of columns, vectors as base64, while small requests go on: how long they wait.

    python benches/large_body.py [--mib 256] [--json out.json]

`/livez` does nothing but turn the event loop, so its slowest answer bounds how long the loop was held up.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import orjson

from benches.support import Figure, options, report, running_server

DIMENSIONS, SMALL_DOCUMENTS = 768, 1_000
HELD_MS_MAX = 50.0
_PAUSE_S = 0.005
# a process of its own: what the sender of a large body does would hold up the probes beside it
_SENDER = """
import sys, urllib.request
body = sys.stdin.buffer.read()
request = urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"})
sys.stdout.buffer.write(urllib.request.urlopen(request, timeout=600).read())
"""


def body_of(mib: int) -> tuple[bytes, int]:
    """A write of about so many mebibytes, and how many documents it has."""
    count = mib * 2**20 // (DIMENSIONS * 4 * 4 // 3 + 120)
    matrix = np.random.default_rng(1).standard_normal((count, DIMENSIONS), np.float32)
    columns = {
        "id": list(range(count)),
        "vector": [base64.b64encode(row.tobytes()).decode() for row in matrix],
        "title": [f"document {n} of a large body with some text in it" for n in range(count)],
        "rank": [n % 100 for n in range(count)],
    }
    body = {"upsert_columns": columns, "distance_metric": "cosine_distance"}
    return orjson.dumps(body), count


@dataclass
class Prober(threading.Thread):
    """Sends a request again and again until it is told to stop, and keeps the milliseconds of each."""

    url: str
    body: dict[str, object] | None
    took_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = threading.Event()

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while not self.stopping.wait(_PAUSE_S):
                began_s = time.perf_counter()
                answer = client.get(self.url) if self.body is None else client.post(self.url, json=self.body)
                self.took_ms.append((time.perf_counter() - began_s) * 1000)
                answer.raise_for_status()

    def finish(self) -> np.ndarray:
        """Stop; what was measured."""
        self.stopping.set()
        self.join()
        return np.array(self.took_ms)


def measure(mib: int) -> list[Figure]:
    """One large body, with probes beside it."""
    body, count = body_of(mib)
    with tempfile.TemporaryDirectory() as name, running_server(Path(name)) as server:
        small = f"{server.url}/v2/namespaces/small"
        rng = np.random.default_rng(2)
        rows = [{"id": n, "vector": rng.random(32).tolist()} for n in range(SMALL_DOCUMENTS)]
        first = {"upsert_rows": rows, "distance_metric": "cosine_distance"}
        httpx.post(small, json=first, timeout=60).raise_for_status()
        query = {"rank_by": ["vector", "ANN", rows[0]["vector"]], "limit": 10}
        probes = Prober(f"{server.url}/livez", None), Prober(f"{small}/query", query)
        for probe in probes:
            probe.start()
        began_s = time.perf_counter()
        sent = subprocess.run(
            [sys.executable, "-c", _SENDER, f"{server.url}/v2/namespaces/large"],
            input=body,
            capture_output=True,
            check=True,
        )
        took_s = time.perf_counter() - began_s
        live, queries = (probe.finish() for probe in probes)
    slowest = float(live.max())
    is_whole = orjson.loads(sent.stdout)["rows_upserted"] == count
    return [
        Figure(f"body of {len(body) / 2**20:.0f} MiB, {count} documents", took_s, "accepted", is_whole, "s"),
        Figure("event loop: slowest /livez", slowest, f"≤ {HELD_MS_MAX:g}", slowest <= HELD_MS_MAX, "ms"),
        Figure("event loop: p99 of /livez", float(np.percentile(live, 99)), unit="ms"),
        Figure("queries beside it: p50", float(np.percentile(queries, 50)), unit="ms"),
        Figure("queries beside it: p99", float(np.percentile(queries, 99)), unit="ms"),
        Figure("queries beside it", len(queries) / took_s, unit="/s"),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--mib", type=int, default=256, help="size of the body")
    chosen = parser.parse_args()
    return report("large bodies", measure(chosen.mib), chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
