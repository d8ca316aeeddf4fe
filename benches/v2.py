"""Vector queries by HTTP under v1 and v2, the same vectors on the same namespace, one at a time in turns.

python benches/v2.py [--documents 20000] [--queries 1000] [--json out.json]
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import orjson

from benches.support import Figure, options, report, running_server

DIMENSIONS, K = 128, 10
RATIO_MAX = 1.1
_BATCH = 5_000
_WARM = 50


def measure(documents: int, queries: int) -> list[Figure]:
    """Medians and p99 under both APIs."""
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((documents, DIMENSIONS), np.float32)
    asked = rng.standard_normal((queries + _WARM, DIMENSIONS), np.float32).tolist()
    with tempfile.TemporaryDirectory() as name, running_server(Path(name)) as server:
        path = "/v2/namespaces/both"
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for start in range(0, documents, _BATCH):
                ids = list(range(start, min(start + _BATCH, documents)))
                columns = {"id": ids, "vector": [matrix[i].tolist() for i in ids]}
                body = {"upsert_columns": columns, "distance_metric": "cosine_distance"}
                client.post(path, json=body).raise_for_status()
            bodies = {
                "v1": [orjson.dumps({"vector": v, "top_k": K, "include_attributes": ["id"]}) for v in asked],
                "v2": [orjson.dumps({"rank_by": ["vector", "ANN", v], "limit": K}) for v in asked],
            }
            took_ms: dict[str, list[float]] = {version: [] for version in bodies}
            for index in range(len(asked)):
                # in turns, so that whatever else the machine does strikes both
                for version in bodies if index % 2 else reversed(bodies):
                    url = f"/{version}/namespaces/both/query"
                    began_s = time.perf_counter()
                    client.post(url, content=bodies[version][index]).raise_for_status()
                    took_ms[version].append((time.perf_counter() - began_s) * 1000)
    found = {version: np.array(several[_WARM:]) for version, several in took_ms.items()}
    medians = {version: float(np.median(several)) for version, several in found.items()}
    ratio = medians["v2"] / medians["v1"]
    return [
        *[Figure(f"{version}: p50", medians[version], unit="ms") for version in found],
        *[Figure(f"{name}: p99", float(np.percentile(found[name], 99)), unit="ms") for name in found],
        Figure("p50 of v2 over v1", ratio, f"≤ {RATIO_MAX}", ratio <= RATIO_MAX),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=1_000)
    chosen = parser.parse_args()
    return report("v2 beside v1", measure(chosen.documents, chosen.queries), chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
