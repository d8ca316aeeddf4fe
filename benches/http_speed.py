"""Vector queries by HTTP, eight connections of wrk, against empty POSTs of the same sizes to the same server.

    python benches/http_speed.py --data FOLDER [--sets fashion-mnist,medquad] [--seconds 5] [--json out.json]

The empty POST goes to the same route; its body is blanks, which the server reads and refuses at once. The
recall is that of the answers to the very bodies that wrk sends.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx
import numpy as np

from benches.support import Figure, options, report, running_server, working_folder
from benches.truth import Distances, judge, recall
from benches.vector_sets import NAMESPACE, VectorSet, load_sets
from benches.wrk import compare_with_empty
from elacsym.types import Metric

K, RECALL_MIN, RATIO_MIN = 10, 0.98, 0.45


def answered_recall(url: str, bodies: list[bytes], vectors: VectorSet) -> float:
    """Recall of the answers to all bodies."""
    distances = Distances(vectors.base, cosine=vectors.metric is Metric.COSINE)
    everything = np.ones(len(vectors.base), np.bool_)
    judged = []
    with httpx.Client(timeout=60) as client:
        for body, query in zip(bodies, vectors.queries, strict=True):
            results = client.post(url, content=body).raise_for_status().json()["results"]
            rows = np.array([result["id"] for result in results], np.int64)
            judged.append(judge(distances.to(query), everything, rows, K))
    return recall(judged)


def measure(vectors: VectorSet, folder: Path, seconds: float) -> list[Figure]:
    """One set."""
    bodies = vectors.bodies()
    with tempfile.TemporaryDirectory() as name, running_server(Path(name), storage=folder) as server:
        url = f"{server.url}/v1/namespaces/{NAMESPACE}/query"
        found = answered_recall(url, bodies, vectors)
        compared = compare_with_empty(url, bodies, seconds=seconds)
    ratio = compared.ratio
    return [
        Figure(f"{vectors.name}: recall@{K}", found, f"≥ {RECALL_MIN}", found >= RECALL_MIN),
        Figure(f"{vectors.name}: queries", compared.rate, unit="/s", notes=vars(compared.queries)),
        Figure(f"{vectors.name}: empty POSTs", compared.empty_rate, unit="/s", notes=vars(compared.empty)),
        Figure(f"{vectors.name}: p99", compared.queries.p99_ms, unit="ms"),
        Figure(f"{vectors.name}: queries over empty POSTs", ratio, f"≥ {RATIO_MIN}", ratio >= RATIO_MIN),
    ]


def main() -> int:
    parser = options(__doc__, data=True)
    parser.add_argument("--sets", default="fashion-mnist,medquad", help="names, separated by commas")
    parser.add_argument("--queries", type=int, default=1_000, help="of each set, at most")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each of six runs")
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        sets = load_sets(Path(arguments.data), arguments.sets, arguments.queries)
        figures = [
            figure for vectors in sets for figure in measure(vectors, vectors.store(work), arguments.seconds)
        ]
    return report("vector queries by HTTP", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
