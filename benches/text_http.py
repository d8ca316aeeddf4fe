"""Text queries by HTTP against empty POSTs, and how fast texts are indexed.

    python benches/text_http.py [--rows 200000] [--seconds 5] [--work FOLDER] [--json out.json]

Generated documents of 40 words (Zipf, exponent 1.05, 100,000 words); queries of three words, one of which is
in more than 10 % of the documents, the others together in one; plain and with a filter that takes 1 % of the
documents, another one for each query. Eight connections of wrk; the yardstick is an empty POST of the same
size to the same route. Answers to a sample are compared with BM25 by counting words: ids, order and scores.

Indexing: the processor time, of all processes, from the first write into an empty namespace to the fold of
its log into a segment, and of the fold alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benches import generated, mixed, processes
from benches.embedded import DOCUMENTS_PER_WRITE, opened_folder
from benches.support import Figure, options, report, running_server, working_folder
from benches.vector_sets import window
from benches.wrk import compare_with_empty
from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.types import Schema

K, QUERIES, SAMPLE = 10, 1_000, 60
RATIO_MIN, TOKENS_PER_S_MIN = 0.3, 250_000
SCORE_TOLERANCE = 1e-6
FILTER_WIDTH = 1


def equals_truth(results: list[dict[str, Any]], ranks: generated.Ranks, query: Any, keep: Any | None) -> bool:
    """Whether an answer is the exact one: ids in order, scores to float32's last digit."""
    rows, scores = generated.best_bm25(ranks, query, K, keep)
    answered = np.array([r["score"] for r in results], np.float32)
    return [r["id"] for r in results] == rows.tolist() and bool(
        np.allclose(answered, scores, rtol=SCORE_TOLERANCE, atol=0)
    )


def measure_queries(folder: Path, ranks: generated.Ranks, seconds: float) -> list[Figure]:
    """Both kinds of queries: exactness, rates, ratios."""
    queries, shares = generated.text_queries(ranks, QUERIES), mixed.shares(len(ranks))
    figures = []
    with (
        tempfile.TemporaryDirectory() as name,
        running_server(Path(name), storage=folder) as server,
        httpx.Client(timeout=60) as client,
    ):
        url = f"{server.url}/v1/namespaces/{mixed.NAMESPACE}/query"
        for kind, width in (("plain", None), (f"filter {FILTER_WIDTH} %", FILTER_WIDTH)):
            bodies = mixed.text_bodies(queries, width)
            exact = 0
            for number in range(SAMPLE):
                low, high = window(number, FILTER_WIDTH)
                keep = None if width is None else (shares >= low) & (shares < high)
                results = client.post(url, content=bodies[number]).raise_for_status().json()["results"]
                exact += equals_truth(results, ranks, queries[number], keep)
            compared = compare_with_empty(url, bodies, seconds=seconds)
            ratio = compared.ratio
            figures += [
                Figure(f"{kind}: exact answers", exact, f"all {SAMPLE}", exact == SAMPLE),
                Figure(f"{kind}: queries", compared.rate, unit="/s", notes=vars(compared.queries)),
                Figure(f"{kind}: empty POSTs", compared.empty_rate, unit="/s", notes=vars(compared.empty)),
                Figure(f"{kind}: p99", compared.queries.p99_ms, unit="ms"),
                Figure(f"{kind}: queries over empty POSTs", ratio, f"≥ {RATIO_MIN}", ratio >= RATIO_MIN),
            ]
    return figures


async def measure_indexing(folder: Path, ranks: generated.Ranks) -> list[Figure]:
    """Tokens per second of one core."""
    documents = [Document(row, {"text": generated.text(words)}) for row, words in enumerate(ranks)]
    pid = os.getpid()
    async with opened_folder(folder) as database:
        await database.create("texts", Schema(attributes={"text": mixed.SCHEMA.attributes["text"]}))
        namespace = await database.namespace("texts")
        began_s = processes.cpu_s(pid)
        for start in range(0, len(documents), DOCUMENTS_PER_WRITE):
            part = documents[start : start + DOCUMENTS_PER_WRITE]
            await database.write("texts", WriteRequest(upserts=part))
        written_s = processes.cpu_s(pid)
        await fold(namespace)
        folded_s = processes.cpu_s(pid)
    everything, indexing = ranks.size / (folded_s - began_s), ranks.size / (folded_s - written_s)
    goal = f"≥ {TOKENS_PER_S_MIN:,}/s"
    return [
        Figure("tokens per core, fold", indexing, goal, indexing >= TOKENS_PER_S_MIN, "/s"),
        Figure("tokens per core, write and fold", everything, goal, everything >= TOKENS_PER_S_MIN, "/s"),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="documents")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each of twelve runs of wrk")
    arguments = parser.parse_args()
    ranks = generated.texts(arguments.rows)
    with working_folder(arguments.work) as work:
        with tempfile.TemporaryDirectory(dir=work) as name:
            figures = asyncio.run(measure_indexing(Path(name), ranks))
        folder = mixed.store(work, arguments.rows)
        figures += measure_queries(folder, ranks, arguments.seconds)
    return report("texts", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
