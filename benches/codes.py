"""Which codes to search: recall, time and size of faiss's 4-bit and 1-bit codes on real vectors.

    python benches/codes.py --data FOLDER [--sets fashion-mnist,medquad] [--queries 300] [--json out.json]

Every kind of code proposes 100 and 200 rows, of which the best 10 by true distance count. Recall is the share
of the true first 10 (or of rows as near as the 10th). Times are processor time of one thread a query, without
the re-ranking that is the same for all. `all` looks at every code, `n lists` at those of the n nearest of as
many clusters as an index of ours has. RaBitQ is also tried on rotated vectors, as its authors advise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from benches.support import Figure, options, report
from benches.vector_sets import VectorSet, load_sets
from elacsym.index.cluster import ROWS_PER_CLUSTER
from elacsym.types import Metric

K, DEPTHS = 10, (100, 200)
SHARES = (0.05, 0.25, 0.5, 1.0)
SEED = 3

Points = npt.NDArray[np.float32]
Search = Callable[[Points, int], npt.NDArray[np.int64]]


def measured(name: str, bytes_row: float, search: Search, base: Points, queries: Points) -> list[Figure]:
    """Recall and time of a kind of codes at every depth."""
    products = queries @ base.T
    squares = (base * base).sum(1)[None, :] - 2 * products
    kth = np.partition(squares, K - 1, axis=1)[:, K - 1]
    slack = 1e-5 * np.abs(kth)
    figures = []
    for depth in DEPTHS:
        found = [search(query[None, :], depth) for query in queries]  # warms up, too
        right = [
            min(K, np.count_nonzero(squares[i, rows[rows >= 0]] <= kth[i] + slack[i]))
            for i, rows in enumerate(found)
        ]
        began_s = time.thread_time()
        for query in queries:
            search(query[None, :], depth)
        query_us = (time.thread_time() - began_s) / len(queries) * 1e6
        recall = float(np.mean(right)) / K
        notes = {"query_us": round(query_us, 1), "bytes_row": bytes_row}
        shown = f"{name}, {depth}: {query_us:.0f} µs, {bytes_row:.0f} bytes a row"
        figures.append(Figure(shown, recall, unit="recall@10", notes=notes))
    return figures


def flat(index: Any, base: Points, rotation: Any = None) -> Search:
    """All codes of an index."""
    rows = base if rotation is None else rotation.apply(base)
    index.train(rows)
    index.add(rows)

    def search(query: Points, depth: int) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = index.search(
            query if rotation is None else rotation.apply(query), depth
        )[1][0]
        return found

    return search


def by_lists(index: Any, lists: int) -> Search:
    """The codes of the nearest lists of a filled index."""

    def search(query: Points, depth: int) -> npt.NDArray[np.int64]:
        index.nprobe = lists
        found: npt.NDArray[np.int64] = index.search(query, depth)[1][0]
        return found

    return search


def compare(vectors: VectorSet) -> list[Figure]:
    """All kinds of codes on one set."""
    base, queries = _points(vectors.base, vectors.metric), _points(vectors.queries, vectors.metric)
    width, lists = base.shape[1], len(base) // ROWS_PER_CLUSTER
    rotation = faiss.RandomRotationMatrix(width, width)
    rotation.init(SEED)
    rabitq_bytes, pq_bytes = width / 8 + 8, width / 8
    figures = []
    coarses = []  # faiss only points to them
    kinds: list[tuple[str, float, Search]] = [
        ("RaBitQ, all", rabitq_bytes, flat(faiss.IndexRaBitQFastScan(width, faiss.METRIC_L2), base)),
        (
            "RaBitQ rotated, all",
            rabitq_bytes,
            flat(faiss.IndexRaBitQFastScan(width, faiss.METRIC_L2), base, rotation),
        ),
        ("4-bit PQ, all", pq_bytes, flat(faiss.IndexPQFastScan(width, width // 4, 4), base)),
    ]
    for name, bytes_row, make in (
        ("RaBitQ", rabitq_bytes, lambda q: faiss.IndexIVFRaBitQFastScan(q, width, lists, faiss.METRIC_L2)),
        ("4-bit PQ", pq_bytes, lambda q: _plain(faiss.IndexIVFPQFastScan(q, width, lists, width // 4, 4))),
    ):
        coarse = faiss.IndexFlatL2(width)
        index = make(coarse)
        index.cp.niter = 8
        index.train(base)
        index.add(base)
        coarses.append(coarse)
        for share in SHARES:
            probed = max(1, round(share * lists))
            kinds.append((f"{name}, {probed} of {lists} lists", bytes_row, by_lists(index, probed)))
    for name, bytes_row, search in kinds:
        figures += measured(f"{vectors.name}: {name}", bytes_row, search, base, queries)
    return figures


def _plain(index: Any) -> Any:
    """Codes of the vectors themselves: one table serves all lists."""
    index.by_residual = False
    return index


def _points(matrix: Points, metric: Metric) -> Points:
    if metric is Metric.COSINE:
        matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.ascontiguousarray(matrix, np.float32)


def main() -> int:
    """Compare codes on the sets."""
    parser = options(__doc__, data=True)
    parser.add_argument("--sets", default="fashion-mnist,medquad")
    parser.add_argument("--queries", type=int, default=300, help="at most so many of a set")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    figures = []
    for vectors in load_sets(args.data, args.sets, args.queries):
        figures += compare(vectors)
    return report("Codes: the first 10 among what they propose", figures, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
