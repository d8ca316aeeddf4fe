"""The engine in process against raw faiss: queries per second, one at a time, at the same recall.

    python benches/engine_speed.py --data FOLDER [--sets fashion-mnist,medquad]
                           [--seconds 1] [--json out.json]

The yardstick: all rows as RaBitQ codes after a random rotation, scanned by faiss's FastScan, and the best k'
refined with the full vectors by faiss, on one thread. k' is the smallest at which its recall@10 is at least
the engine's. The engine answers whole queries: strong consistency, ids, exact distances. Both are measured in
turns.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from benches.embedded import opened_folder
from benches.support import Figure, options, report, working_folder
from benches.truth import Distances, Judged, judge, recall
from benches.vector_sets import NAMESPACE, VectorSet, load_sets
from elacsym.engine.database import Database
from elacsym.query.ast import Query, VectorLeg
from elacsym.types import Consistency, Metric

K, RATIO_MIN, TURNS = 10, 0.5, 5
REFINED = (10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1_200, 1_600)

Answer = Callable[[int], Awaitable[npt.NDArray[np.int64]]]


class Yardstick:
    """faiss: RaBitQ FastScan over all rows and refinement of `refined` candidates. base: (n, d) float32."""

    def __init__(self, base: npt.NDArray[np.float32], *, cosine: bool) -> None:
        # of unit vectors, cosine orders as the Euclidean distance does
        self._cosine = cosine
        self._rows = self._scaled(base)
        dimensions = base.shape[1]
        codes = faiss.IndexPreTransform(
            faiss.RandomRotationMatrix(dimensions, dimensions),
            faiss.IndexRaBitQFastScan(dimensions, faiss.METRIC_L2),
        )
        self._index = faiss.IndexRefineFlat(codes)
        self._index.train(self._rows)
        self._index.add(self._rows)
        self.refined = REFINED[0]

    def _scaled(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        if not self._cosine:
            return np.ascontiguousarray(vectors)
        scaled: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return scaled

    def rows(self, query: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The rows it answers."""
        parameters = faiss.IndexRefineSearchParameters(k_factor=self.refined / K)  # type: ignore[call-arg]  # SWIG
        found: npt.NDArray[np.int64] = self._index.search(self._scaled(query[None]), K, params=parameters)[1][
            0
        ]
        return found[found >= 0]


async def judged(answer: Answer, vectors: VectorSet, distances: Distances) -> list[Judged]:
    """All queries' answers against the truth."""
    everything = np.ones(len(vectors.base), np.bool_)
    return [
        judge(distances.to(query), everything, await answer(number), K)
        for number, query in enumerate(vectors.queries)
    ]


async def queries_per_s(answer: Answer, count: int, seconds: float) -> float:
    """The rate of `answer`, called over and over with 0…count - 1, one call at a time."""
    began_s = time.perf_counter()
    asked = 0
    while time.perf_counter() - began_s < seconds:
        await answer(asked % count)
        asked += 1
    return asked / (time.perf_counter() - began_s)


def engine_answers(database: Database, vectors: VectorSet, consistency: Consistency) -> Answer:
    """The engine's way to answer the n-th query."""
    queries = [
        Query((VectorLeg("vector", query),), top_k=K, include_attributes=(), consistency=consistency)
        for query in vectors.queries
    ]

    async def answer(number: int) -> npt.NDArray[np.int64]:
        result = await database.query(NAMESPACE, queries[number])
        return np.array([hit.id for hit in result.hits], np.int64)

    return answer


async def measure(vectors: VectorSet, folder: Path, seconds: float) -> list[Figure]:
    """One set: its rates and their ratio."""
    cosine = vectors.metric is Metric.COSINE
    distances, yardstick = Distances(vectors.base, cosine=cosine), Yardstick(vectors.base, cosine=cosine)

    async def faiss_answer(number: int) -> npt.NDArray[np.int64]:
        return yardstick.rows(vectors.queries[number])

    async with opened_folder(folder) as database:
        strong = engine_answers(database, vectors, Consistency())
        eventual = engine_answers(database, vectors, Consistency("eventual"))
        engine_recall = recall(await judged(strong, vectors, distances))
        for refined in REFINED:
            yardstick.refined = refined
            faiss_recall = recall(await judged(faiss_answer, vectors, distances))
            if faiss_recall >= engine_recall:
                break
        rates: dict[str, list[float]] = {"engine": [], "engine, eventual": [], "faiss": []}
        for _ in range(TURNS):
            for name, answer in zip(rates, (strong, eventual, faiss_answer), strict=True):
                rates[name].append(await queries_per_s(answer, len(vectors.queries), seconds))
    by_name = {name: statistics.median(values) for name, values in rates.items()}
    ratio = by_name["engine"] / by_name["faiss"]
    name = vectors.name
    return [
        Figure(f"{name}: recall@{K}, engine", engine_recall),
        Figure(f"{name}: recall@{K}, faiss refining {yardstick.refined}", faiss_recall),
        Figure(f"{name}: engine", by_name["engine"], unit="queries/s", notes={"turns": rates["engine"]}),
        Figure(f"{name}: engine, eventual consistency", by_name["engine, eventual"], unit="queries/s"),
        Figure(f"{name}: faiss", by_name["faiss"], unit="queries/s", notes={"turns": rates["faiss"]}),
        Figure(f"{name}: engine over faiss", ratio, f"≥ {RATIO_MIN}", ratio >= RATIO_MIN),
    ]


def main() -> int:
    parser = options(__doc__, data=True)
    parser.add_argument("--sets", default="fashion-mnist,medquad", help="names, separated by commas")
    parser.add_argument("--queries", type=int, default=1_000, help="of each set, at most")
    parser.add_argument("--seconds", type=float, default=1.0, help=f"of each of {TURNS} turns")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(1)
    figures = []
    with working_folder(arguments.work) as work:
        for vectors in load_sets(Path(arguments.data), arguments.sets, arguments.queries):
            figures += asyncio.run(measure(vectors, vectors.store(work), arguments.seconds))
    return report("engine in process and raw faiss", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
