"""The vector leg: candidates of every part, one cut over all of them, exact distances.

A part's way is `scan` (every vector, exactly), `gather` (the vectors of few matching rows, exactly) or
`codes` (quantised vectors of the lists that a stop rule chooses). What codes propose is cut to the best over
all parts by estimated distance, and only these are re-ranked. Distances that leave this module are exact,
those beyond float32 its largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from elacsym.format.reading import Steps, both, together
from elacsym.index.distance import within_f32
from elacsym.index.vector import Candidates, Effort, Vectors
from elacsym.query.ast import VectorLeg
from elacsym.query.columns import Bools
from elacsym.query.matching import Matches
from elacsym.query.ranking import Beside, PartRows, Ranking, ranked
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import Metric

Way = Literal["scan", "gather", "codes"]

# how many candidates are re-ranked for an answer of k rows: constants for small k, multiples for large. In
# between, those whose estimates leave room for a place among the k
RERANKED_LEAST, RERANKED_LEAST_PER_ROW = 32, 2
RERANKED_MOST, RERANKED_MOST_PER_ROW = 200, 4

# the share of a part below which reading scattered vectors beats streaming all of them
_GATHER_SHARE_MAX = 1 / 4


@dataclass(slots=True)
class _Search:
    """One part to search. mask: (rows,) bool of the rows that may be found, None where all may."""

    number: int
    vectors: Vectors
    mask: Bools | None
    count: int
    way: Way


def nearest(
    snapshot: SearchSnapshot,
    leg: VectorLeg,
    matches: Matches,
    depth: int,
    *,
    effort: Effort | None,
    beside: Beside | None = None,
) -> Steps[Ranking]:
    """The `depth` nearest rows among `matches`. effort: how hard to look; None: at every row."""
    metric = snapshot.schema.metric
    assert metric is not None, "a namespace with vectors has a metric"
    numbers = [number for number, count in enumerate(matches.counts) if count]
    opened = yield from together([snapshot.parts[n].part.vectors(leg.attribute) for n in numbers])
    searches = [
        _planned(number, vectors, matches, effort)
        for number, vectors in zip(numbers, opened, strict=True)
        if len(vectors)
    ]
    reranked = RERANKED_MOST + RERANKED_MOST_PER_ROW * depth
    wanted = Effort(k=depth) if effort is None else effort._replace(k=depth)
    exact = [search for search in searches if search.way != "codes"]
    coded = [search for search in searches if search.way == "codes"]
    scanned, proposed = yield from both(
        together([s.vectors.scan(leg.vector, depth, metric, s.mask) for s in exact]),
        together([s.vectors.propose(leg.vector, reranked, metric, s.mask, wanted) for s in coded]),
    )
    found: list[PartRows] = [(s.number, d, rows) for s, (d, rows) in zip(exact, scanned, strict=True)]
    chosen = _cut(proposed, depth)
    found += yield from together(
        [
            _reranked(search, leg, depth, metric, candidates)
            for search, candidates in zip(coded, chosen, strict=True)
            if len(candidates.positions)
        ]
    )
    ranking = yield from ranked(
        snapshot,
        found,
        depth,
        ascending=metric is not Metric.DOT,
        figures=lambda: _figures(snapshot, searches, proposed, chosen),
        beside=beside,
    )
    return ranking._replace(scores=within_f32(ranking.scores))


def _planned(number: int, vectors: Vectors, matches: Matches, effort: Effort | None) -> _Search:
    count, mask = matches.counts[number], matches.masks[number]
    rows = len(mask)
    way: Way = "gather" if count <= rows * _GATHER_SHARE_MAX else "scan"
    # an index has codes where searching all of it by them is cheaper
    if (
        effort is not None
        and vectors.has_codes
        and (count == rows or vectors.propose_cost_us(count / rows) < vectors.scan_cost_us(count))
    ):
        way = "codes"
    return _Search(number, vectors, mask if count < rows else None, count, way)


def _cut(proposed: Sequence[Candidates], depth: int) -> list[Candidates]:
    """The candidates of all parts whose estimates leave room for a place among the best `depth`, and all that
    tie with the last one kept."""
    least = RERANKED_LEAST + RERANKED_LEAST_PER_ROW * depth
    most = RERANKED_MOST + RERANKED_MOST_PER_ROW * depth
    if sum(len(c.positions) for c in proposed) <= least:
        return list(proposed)
    keys = proposed[0].keys if len(proposed) == 1 else np.sort(np.concatenate([c.keys for c in proposed]))
    slack = max(c.slack for c in proposed)
    inside = int(keys.searchsorted(float(keys[depth - 1]) + slack, "right"))
    limit = keys[min(max(inside, least), most, len(keys)) - 1]
    kept = [int(c.keys.searchsorted(limit, "right")) for c in proposed]
    return [
        Candidates(c.positions[:count], c.keys[:count], c.slack, c.lists, c.codes)
        for c, count in zip(proposed, kept, strict=True)
    ]


def _reranked(
    search: _Search, leg: VectorLeg, depth: int, metric: Metric, candidates: Candidates
) -> Steps[PartRows]:
    distances, rows = yield from search.vectors.rerank(candidates.positions, leg.vector, depth, metric)
    return search.number, distances, rows


def _figures(
    snapshot: SearchSnapshot,
    searches: Sequence[_Search],
    proposed: Sequence[Candidates],
    chosen: Sequence[Candidates],
) -> dict[str, Any]:
    """What happened, by part."""
    found = iter(zip(proposed, chosen, strict=True))
    parts = []
    for search in searches:
        figures: dict[str, Any] = {
            "part": snapshot.parts[search.number].part.label,
            "way": search.way,
            "matched": search.count,
        }
        if search.way == "codes":
            candidates, kept = next(found)
            figures |= {
                "lists_probed": candidates.lists,
                "codes_scanned": candidates.codes,
                "candidates": len(candidates.positions),
                "reranked": len(kept.positions),
                "cost_estimated_us": round(
                    search.vectors.propose_cost_us(search.count / search.vectors.rows_total)
                ),
            }
        else:
            figures |= {
                "reranked": min(search.count, len(search.vectors)),
                "cost_estimated_us": round(search.vectors.scan_cost_us(search.count)),
            }
        parts.append(figures)
    return {
        "index": "vectors",
        "parts": parts,
        "rows_scored": sum(figures["reranked"] for figures in parts),
    }
