"""Warm latency and recall as a namespace grows, in process and by HTTP, with a plot.

    python benches/growth.py [--rows 10000,30000,100000,300000,1000000] [--plot growth.svg] [--work FOLDER]
                             [--json out.json]

Generated clustered vectors of 384 dimensions; every size is a namespace of its own, folded and merged as a
server does. Queries are of the vectors' distribution, none of them stored, and are asked one at a time.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benches import generated
from benches.embedded import fill, opened_folder, stored
from benches.support import Figure, options, report, running_server, working_folder
from benches.truth import Distances, Rows, found_share, nearest_distances
from benches.vector_sets import vector_body
from benches.wrk import run_wrk
from elacsym.engine.database import Database
from elacsym.engine.request import Document
from elacsym.query.ast import Query, VectorLeg
from elacsym.types import Attribute, AttributeType, Metric, Schema

K, QUERIES, ROUNDS = 10, 200, 3
RECALL_MIN, RATIO_MAX = 0.95, 4.0
NAMESPACE = "growth"
SCHEMA = Schema(
    None,
    Metric.COSINE,
    {
        "vector": Attribute(AttributeType.parse(f"[{generated.DIMENSIONS}]f32"), filterable=False),
        "number": Attribute(AttributeType.parse("int")),
    },
)


@dataclass(frozen=True)
class Point:
    """One size: milliseconds in the median, in process and by HTTP, and the recall."""

    rows: int
    segments: int
    process_ms: float
    http_ms: float
    recall: float


def _documents(vectors: generated.Floats, rows: int) -> Iterator[Document]:
    for row in range(rows):
        yield Document(row, {"vector": np.array(vectors[row]), "number": row})


async def asked(folder: Path, queries: generated.Floats) -> tuple[float, list[Rows], int]:
    """The median ms of a query in process when all were asked before, the rows answered, the segments."""
    async with opened_folder(folder) as database:
        segments = (await database.info(NAMESPACE)).segments
        rows, taken_ms = [], []
        for number in range(ROUNDS):
            for vector in queries:
                query = Query((VectorLeg("vector", vector),), top_k=K, include_attributes=("number",))
                began_s = time.perf_counter()
                answer = await database.query(NAMESPACE, query)
                taken_ms.append((time.perf_counter() - began_s) * 1000)
                if not number:
                    rows.append(np.unique([hit.id for hit in answer.hits]).astype(np.int64))
    return float(np.median(taken_ms[len(queries) :])), rows, segments


def measured_point(work: Path, rows: int, vectors: generated.Floats, queries: generated.Floats) -> Point:
    """One size."""

    async def build(database: Database) -> None:
        await fill(database, NAMESPACE, SCHEMA, _documents(vectors, rows))

    folder = stored(work, f"growth-{rows}", build)
    limits = nearest_distances(vectors[:rows], queries, K, cosine=True)[:, -1]
    process_ms, answers, segments = asyncio.run(asked(folder, queries))
    distances = [
        Distances(vectors[found], cosine=True).to(query)
        for found, query in zip(answers, queries, strict=True)
    ]
    bodies = [vector_body(query, include_attributes=["number"]) for query in queries]
    with tempfile.TemporaryDirectory() as name, running_server(Path(name), storage=folder) as server:
        url = f"{server.url}/v1/namespaces/{NAMESPACE}/query"
        run_wrk(url, bodies, connections=1, seconds=3)
        load = run_wrk(url, bodies, connections=1, seconds=5)
    if load.refused or load.broken:
        raise RuntimeError(f"queries must succeed: {load}")
    return Point(rows, segments, process_ms, load.p50_ms, found_share(limits, distances, K))


def figures_of(points: Sequence[Point]) -> list[Figure]:
    """Every point, and the last one over the first one."""
    figures = []
    for p in points:
        size = f"{p.rows:,} rows in {p.segments} segments"
        figures += [
            Figure(f"{size}: p50 in process", p.process_ms, unit="ms"),
            Figure(f"{size}: p50 by HTTP", p.http_ms, unit="ms"),
            Figure(f"{size}: recall@{K}", p.recall, f"≥ {RECALL_MIN}", p.recall >= RECALL_MIN),
        ]
    first, last = points[0], points[-1]
    for where, ratio in (
        ("in process", last.process_ms / first.process_ms),
        ("by HTTP", last.http_ms / first.http_ms),
    ):
        name = f"p50 {where} at {last.rows:,} over {first.rows:,}"
        figures.append(Figure(name, ratio, f"≤ {RATIO_MAX:g}", ratio <= RATIO_MAX))
    return figures


def plot(points: Sequence[Point], path: Path) -> None:
    """Draw latencies and recall over rows; needs matplotlib."""
    import matplotlib as mpl  # only here: nothing else needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [p.rows for p in points]
    figure, latency = plt.subplots(figsize=(7, 4))
    latency.plot(rows, [p.process_ms for p in points], "o-", label="p50 in process")
    latency.plot(rows, [p.http_ms for p in points], "s-", label="p50 by HTTP")
    latency.set(xscale="log", xlabel="rows", ylabel="ms", ylim=(0, None))
    latency.legend(loc="upper left")
    found = latency.twinx()
    found.plot(rows, [p.recall for p in points], "k:", label=f"recall@{K}")
    found.set(ylabel=f"recall@{K} (dotted)", ylim=(0.9, 1.001))
    figure.tight_layout()
    figure.savefig(path)


def text_plot(points: Sequence[Point]) -> str:
    """The latencies as bars of characters."""
    longest = max(p.http_ms for p in points)
    lines = []
    for p in points:
        for where, ms in (("process", p.process_ms), ("HTTP", p.http_ms)):
            bar = "█" * max(1, round(50 * ms / longest))
            lines.append(f"{p.rows:>10,} {where:<8}{bar} {ms:.2f} ms")
    return "\n".join(lines)


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", default="10000,30000,100000,300000,1000000", help="ascending sizes")
    parser.add_argument("--plot", type=Path, help="draw here (.svg, .png); needs matplotlib")
    arguments = parser.parse_args()
    sizes = [int(word) for word in arguments.rows.split(",")]
    with working_folder(arguments.work) as work:
        vectors, queries = generated.vectors(work, sizes[-1]), generated.vector_queries(QUERIES)
        points = [measured_point(work, rows, vectors, queries) for rows in sizes]
    print(text_plot(points))
    if arguments.plot is not None:
        plot(points, arguments.plot)
    return report("growth", figures_of(points), arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
