"""Cold queries: empty caches and a store that takes 30 ms for every request; rounds, bytes, milliseconds.

    python benches/cold.py [--rows 200000] [--queries 10] [--work FOLDER] [--json out.json]

Every query meets a database that was made for it: nothing is in memory or on its disk, the namespace is not
open. A round is a step of the longest chain of requests of which each began after the one before had ended.
Bytes are all that was read for the query, manifest and log included, over those of all vectors, or of all
texts.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benches import generated, mixed
from benches.distant import DistantStore, Read
from benches.embedded import folder_store, opened
from benches.support import Figure, options, report, table, working_folder
from benches.truth import Distances
from benches.vector_sets import share_filter, window
from elacsym.engine.database import Database
from elacsym.query.ast import And, Compare, Op, OrderKey, Query, TextLeg, VectorLeg

LATENCY_S = 0.03
VECTOR_ROUNDS_MAX, VECTOR_BYTES_SHARE_MAX, VECTOR_MS_MAX = 4, 0.06, 400
TEXT_ROUNDS_MAX, TEXT_BYTES_SHARE_MAX = 5, 0.05
LOOKUP_ROUNDS_MAX = 4
K = 10

Ask = Callable[[Database], Awaitable[Any]]


@dataclass(frozen=True)
class Cold:
    """One cold request: its answer and what it took."""

    answer: Any
    took_ms: float
    rounds: int
    reads: tuple[Read, ...]

    @property
    def bytes_read(self) -> int:
        """Bytes of all reads."""
        return sum(read.size_bytes for read in self.reads)


async def asked_cold(folder: Path, ask: Ask) -> Cold:
    """What `ask` gets from a database with empty caches."""
    store = DistantStore(folder_store(folder), latency_s=LATENCY_S)
    with tempfile.TemporaryDirectory() as cache:
        async with opened(store, folder=Path(cache)) as database:
            began_s = time.perf_counter()
            answer = await ask(database)
            took_ms = (time.perf_counter() - began_s) * 1000
            return Cold(answer, took_ms, store.rounds, tuple(store.reads))


def query_of(query: Query) -> Ask:
    """Ask the query."""
    return lambda database: database.query(mixed.NAMESPACE, query)


def documents_of(ids: list[int]) -> Ask:
    """Ask for the documents."""
    return lambda database: database.documents(mixed.NAMESPACE, ids)


def questions(rows: int, count: int) -> dict[str, list[Ask]]:
    """The requests of each kind."""
    vectors = [VectorLeg("vector", vector) for vector in generated.vector_queries(count)]
    words = generated.text_queries(generated.texts(rows), count)
    texts = [TextLeg((("text", 1.0),), generated.text(query)) for query in words]
    filters = [share_filter(*window(number, 1)) for number in range(count)]
    shown: dict[str, Any] = {"top_k": K, "include_attributes": ("number", "share")}
    ids = np.random.default_rng(8).integers(0, rows, (count, K)).tolist()
    listed = [Compare("id", Op.IN, some) for some in ids]
    half = share_filter(0, 50)
    return {
        "vector": [query_of(Query((leg,), **shown)) for leg in vectors],
        "vector, filter 1 %": [
            query_of(Query((leg,), f, **shown)) for leg, f in zip(vectors, filters, strict=True)
        ],
        "text": [query_of(Query((leg,), **shown)) for leg in texts],
        "text, filter 1 %": [
            query_of(Query((leg,), f, **shown)) for leg, f in zip(texts, filters, strict=True)
        ],
        "documents by id": [documents_of(some) for some in ids],
        "filtered lookup by id": [
            query_of(Query(filter=And((condition, half)), order_by=(OrderKey("number"),), **shown))
            for condition in listed
        ],
    }


def check_answers(work: Path, rows: int, colds: dict[str, list[Cold]]) -> list[Figure]:
    """That cold answers are right: as many rows as there should be, and the recall of the vector queries."""
    shares = mixed.shares(rows)
    distances = Distances(generated.vectors(work, rows), cosine=True)
    found = []
    for cold, vector in zip(colds["vector"], generated.vector_queries(len(colds["vector"])), strict=True):
        truth = distances.to(vector)
        ids = [hit.id for hit in cold.answer.hits]
        found.append(np.mean(truth[ids] <= np.partition(truth, K - 1)[K - 1] * (1 + 1e-6)))
    asked = np.random.default_rng(8).integers(0, rows, (len(colds["vector"]), K))
    expected = [sorted({int(i) for i in some if shares[i] < 50}) for some in asked]
    right = [
        sorted(hit.id for hit in cold.answer.hits) == some
        for cold, some in zip(colds["filtered lookup by id"], expected, strict=True)
    ]
    right += [
        [hit.id for hit in cold.answer] == some.tolist()
        for cold, some in zip(colds["documents by id"], asked, strict=True)
    ]
    full = [len(c.answer.hits) == K for kind in ("vector", "vector, filter 1 %", "text") for c in colds[kind]]
    value = float(np.mean(found))
    return [
        Figure("recall@10 of the vector queries", value, "≥ 0.95", value >= 0.95),
        Figure("lookups by id that are right", sum(right), f"all {len(right)}", all(right)),
        Figure("ranked answers of 10 rows", sum(full), f"all {len(full)}", all(full)),
    ]


def summed(reads: Sequence[Read]) -> list[tuple[int, str, int, int]]:
    """Round, what was read, requests, bytes; slots of the log are one thing."""
    totals: dict[tuple[int, str], tuple[int, int]] = {}
    for read in reads:
        *_, folder, name = read.key.split("/")
        key = (read.round, "log" if folder == "wal" else name)
        requests, size_bytes = totals.get(key, (0, 0))
        totals[key] = (requests + 1, size_bytes + read.size_bytes)
    return [(*key, *total) for key, total in sorted(totals.items())]


def figures_of(
    kind: str, colds: Sequence[Cold], raw_bytes: int, *, rounds_max: float, share_max: float, ms_max: float
) -> list[Figure]:
    """Rounds and bytes at most, milliseconds in the median; a limit of infinity is no goal."""

    def figure(name: str, value: float, limit: float, unit: str = "") -> Figure:
        if limit == np.inf:
            return Figure(f"{kind}: {name}", value, unit=unit)
        return Figure(f"{kind}: {name}", value, f"≤ {limit:g} {unit}".strip(), value <= limit, unit)

    worst = max(colds, key=lambda cold: cold.bytes_read)
    notes = {"reads": summed(worst.reads)}
    rounds = figure("rounds, at most", max(cold.rounds for cold in colds), rounds_max)
    return [
        Figure(rounds.name, rounds.value, rounds.goal, rounds.reached, notes=notes),
        figure("bytes read, at most", 100 * worst.bytes_read / raw_bytes, 100 * share_max, "%"),
        figure("time, median", statistics.median(cold.took_ms for cold in colds), ms_max, "ms"),
    ]


def measure(work: Path, rows: int, count: int) -> list[Figure]:
    folder = mixed.store(work, rows)
    asks = questions(rows, count)

    async def everything() -> dict[str, list[Cold]]:
        return {kind: [await asked_cold(folder, ask) for ask in several] for kind, several in asks.items()}

    colds = asyncio.run(everything())
    vector_bytes = rows * generated.DIMENSIONS * 4
    text_bytes = sum(len(generated.text(ranks)) for ranks in generated.texts(rows))
    limits = {
        "vector": (vector_bytes, VECTOR_ROUNDS_MAX, VECTOR_BYTES_SHARE_MAX, VECTOR_MS_MAX),
        "vector, filter 1 %": (vector_bytes, np.inf, np.inf, np.inf),
        "text": (text_bytes, TEXT_ROUNDS_MAX, TEXT_BYTES_SHARE_MAX, np.inf),
        "text, filter 1 %": (text_bytes, np.inf, np.inf, np.inf),
        "documents by id": (vector_bytes, LOOKUP_ROUNDS_MAX, np.inf, np.inf),
        "filtered lookup by id": (vector_bytes, LOOKUP_ROUNDS_MAX, np.inf, np.inf),
    }
    figures = []
    for kind, (raw_bytes, rounds_max, share_max, ms_max) in limits.items():
        figures += figures_of(
            kind, colds[kind], raw_bytes, rounds_max=rounds_max, share_max=share_max, ms_max=ms_max
        )
    return figures + check_answers(work, rows, colds)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="documents")
    parser.add_argument("--queries", type=int, default=10, help="of each kind")
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        figures = measure(work, arguments.rows, arguments.queries)
    rows: list[tuple[object, ...]] = [
        (
            figure.name.rpartition(":")[0],
            *(f"{value:,}" if isinstance(value, int) else value for value in read),
        )
        for figure in figures
        for read in figure.notes.get("reads", ())
    ]
    table("the queries that read most", ("query", "round", "object", "requests", "bytes"), rows)
    return report("cold queries", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
