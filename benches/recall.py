"""Recall@10 of real queries with default settings, unfiltered and filtered, on two layouts.

    python benches/recall.py --data FOLDER [--sets fashion-mnist,medquad] [--queries 1000] [--json out.json]

Layouts: the set as one segment, and as 12 segments with 10 % of the rows deleted. The truth is a scan in
float64 of the rows that are left; a row is right when its distance is at most the 10th there. Filters take
50, 10 and 1 % of the rows (windows of a random attribute, another one for each query), one class label, and 5
single rows. Every answer must have min(10, matches) rows, and none that is deleted or does not match.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benches.embedded import fill, opened_folder, stored
from benches.support import Figure, options, report, working_folder
from benches.truth import Bools, Distances, Judged, judge, recall
from benches.vector_sets import NAMESPACE, VectorSet, load_sets, share_filter, window
from elacsym.engine.database import Database
from elacsym.query.ast import And, Compare, Filter, Op, Query, VectorLeg
from elacsym.types import Metric

K, SEGMENTS, DELETED_SHARE = 10, 12, 0.1
RECALL_MIN, RERANKED_SHARE_MAX = 0.98, 0.01
FEW = 5


@dataclass(frozen=True)
class Layout:
    """A store and which rows are alive there."""

    name: str
    folder: Path
    segments: int
    alive: Bools


def layouts(vectors: VectorSet, work: Path) -> list[Layout]:
    """Both layouts of a set, built unless they are in `work`."""
    rows = len(vectors.base)
    gone = np.random.default_rng(7).choice(rows, round(rows * DELETED_SHARE), replace=False)
    alive = np.ones(rows, np.bool_)
    alive[gone] = False

    async def build(database: Database) -> None:
        await fill(
            database,
            NAMESPACE,
            vectors.schema,
            vectors.documents(),
            rows_per_fold=-(-rows // SEGMENTS),
            deletes=gone.tolist(),
            merges=False,
        )

    many = stored(work, f"{vectors.name}-twelve", build)
    return [
        Layout("1 segment", vectors.store(work), 1, np.ones(rows, np.bool_)),
        Layout("12 segments, 10 % deleted", many, SEGMENTS, alive),
    ]


def variants(vectors: VectorSet, number: int) -> dict[str, tuple[Filter | None, Bools]]:
    """The filters of the `number`-th query and the rows they match, dead or alive."""
    found: dict[str, tuple[Filter | None, Bools]] = {
        "unfiltered": (None, np.ones(len(vectors.base), np.bool_))
    }
    for width in (50, 10, 1):
        low, high = window(number, width)
        mask = (vectors.shares >= low) & (vectors.shares < high)
        found[f"filter {width} %"] = (share_filter(low, high), mask)
    label = str(vectors.labels[number * 7919 % len(vectors.labels)])
    found["filter by class label"] = (Compare("label", Op.EQ, label), vectors.labels == label)
    first = number * 104_729 % (len(vectors.base) - FEW)
    few = np.zeros(len(vectors.base), np.bool_)
    few[first : first + FEW] = True
    found[f"filter of {FEW} rows"] = (
        And((Compare("place", Op.GTE, first), Compare("place", Op.LT, first + FEW))),
        few,
    )
    return found


def reranked_rows(plan: dict[str, Any]) -> int:
    """How many rows a vector query computed exact distances for, as its explanation says."""
    return int(plan["legs"][0]["rows_scored"])


async def ask(
    layout: Layout, vectors: VectorSet, distances: Distances
) -> tuple[dict[str, list[Judged]], list[float]]:
    """All answers of a layout, judged, by variant; and the share of rows re-ranked by unfiltered queries."""
    judged: dict[str, list[Judged]] = defaultdict(list)
    reranked = []
    async with opened_folder(layout.folder) as database:
        info = await database.info(NAMESPACE)
        expected = (layout.segments, 0, int(layout.alive.sum()))
        if (info.segments, info.tail_slots, info.documents) != expected:
            raise RuntimeError(f"{layout.name}: segments, tail, documents are {info}, not {expected}")
        for number, vector in enumerate(vectors.queries):
            truth = distances.to(vector)
            for name, (condition, mask) in variants(vectors, number).items():
                query = Query(
                    (VectorLeg("vector", vector),), condition, top_k=K, include_attributes=(), explain=True
                )
                answer = await database.query(NAMESPACE, query)
                judged[name].append(judge(truth, mask & layout.alive, _rows(answer.hits), K))
                if condition is None:
                    assert answer.plan is not None
                    reranked.append(reranked_rows(answer.plan) / expected[2])
    return judged, reranked


def _rows(hits: Any) -> npt.NDArray[np.int64]:
    return np.array([hit.id for hit in hits], np.int64)


def measure(vectors: VectorSet, work: Path) -> list[Figure]:
    """Both layouts of one set."""
    distances = Distances(vectors.base, cosine=vectors.metric is Metric.COSINE)
    figures = []
    for layout in layouts(vectors, work):
        judged, reranked = asyncio.run(ask(layout, vectors, distances))
        title = f"{vectors.name}, {layout.name}"
        for name, answers in judged.items():
            value = recall(answers)
            figures.append(
                Figure(f"{title}: recall@{K}, {name}", value, f"≥ {RECALL_MIN}", value >= RECALL_MIN)
            )
        share = float(np.mean(reranked))
        figures.append(
            Figure(
                f"{title}: rows re-ranked, unfiltered",
                100 * share,
                "≤ 1 %",
                share <= RERANKED_SHARE_MAX,
                "%",
                {"most": max(reranked)},
            )
        )
        everything = [j for answers in judged.values() for j in answers]
        for what, count in (
            ("answers that are short of min(k, matches)", sum(j.missing != 0 for j in everything)),
            ("answers with rows that are dead or do not match", sum(j.wrong != 0 for j in everything)),
        ):
            figures.append(Figure(f"{title}: {what}", count, f"0 of {len(everything):,}", count == 0))
    return figures


def main() -> int:
    parser = options(__doc__, data=True)
    parser.add_argument("--sets", default="fashion-mnist,medquad", help="names, separated by commas")
    parser.add_argument("--queries", type=int, default=1_000, help="of each set, at most")
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        sets = load_sets(Path(arguments.data), arguments.sets, arguments.queries)
        figures = [figure for vectors in sets for figure in measure(vectors, work)]
    return report("recall of the vector index", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
