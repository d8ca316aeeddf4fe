"""The vector leg, of one query or of several at once: candidates of every part, one cut over all of them,
exact distances.

A part's way is `scan` (every vector, exactly), `gather` (the vectors of few matching rows, exactly) or
`codes` (quantised vectors of the lists that a stop rule chooses). What codes propose is cut to the best over
all parts by estimated distance, and only these are re-ranked. Distances that leave this module are exact,
those beyond float32 its largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from elacsym.format.reading import Steps, both, together
from elacsym.index.distance import Queries, within_f32
from elacsym.index.vector import Candidates, Effort, Vectors
from elacsym.query.ast import VectorLeg
from elacsym.query.columns import Bools
from elacsym.query.matching import Matches
from elacsym.query.ranking import Beside, PartRows, Ranking, ranked_each
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import Metric

Way = Literal["scan", "gather", "codes"]

# how many candidates are re-ranked for an answer of k rows: constants for small k, multiples for large. In
# between, those whose estimates leave room for a place among the k
RERANKED_LEAST, RERANKED_LEAST_PER_ROW = 16, 2
RERANKED_MOST, RERANKED_MOST_PER_ROW = 120, 4

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
    legs: Sequence[VectorLeg],
    matches: Matches,
    depth: int,
    *,
    effort: Effort | None,
    beside: Beside | None = None,
) -> Steps[list[Ranking]]:
    """For each leg the `depth` nearest rows among `matches`.

    legs: at least one, all by the same attribute. effort: how hard to look; None: at every row.
    """
    metric = snapshot.schema.metric
    assert metric is not None, "a namespace with vectors has a metric"
    numbers = [number for number, count in enumerate(matches.counts) if count]
    opened = yield from together([snapshot.parts[n].part.vectors(legs[0].attribute) for n in numbers])
    searches = [
        _planned(number, vectors, matches, effort)
        for number, vectors in zip(numbers, opened, strict=True)
        if len(vectors)
    ]
    queries = legs[0].vector[None] if len(legs) == 1 else np.array([leg.vector for leg in legs])
    reranked = RERANKED_MOST + RERANKED_MOST_PER_ROW * depth
    wanted = Effort(k=depth) if effort is None else effort._replace(k=depth)
    exact = [search for search in searches if search.way != "codes"]
    coded = [search for search in searches if search.way == "codes"]
    proposing = together([s.vectors.propose(queries, reranked, metric, s.mask, wanted) for s in coded])
    scanned: list[list[PartRows]] = []
    if exact:
        scanning = together([_scanned(search, queries, depth, metric) for search in exact])
        scanned, proposed = yield from both(scanning, proposing)
    else:
        proposed = yield from proposing
    kept = _kept(proposed, depth)
    found = scanned + (
        yield from together(
            [
                _reranked(search, queries, depth, metric, candidates, mask)
                for search, candidates, mask in zip(coded, proposed, kept, strict=True)
                if mask.any()
            ]
        )
    )
    rankings = yield from ranked_each(
        snapshot,
        [[by_part[number] for by_part in found] for number in range(len(legs))],
        depth,
        ascending=metric is not Metric.DOT,
        figures=[
            partial(_figures, snapshot, searches, proposed, kept, number) for number in range(len(legs))
        ],
        beside=beside,
    )
    return [ranking._replace(scores=within_f32(ranking.scores)) for ranking in rankings]


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


def _kept(proposed: Sequence[Candidates], depth: int) -> list[Bools]:
    """(B, c) for each part: the candidates of all parts whose estimates leave room for a place among the best
    `depth` of a query, and all that tie with the last one kept."""
    least = RERANKED_LEAST + RERANKED_LEAST_PER_ROW * depth
    most = RERANKED_MOST + RERANKED_MOST_PER_ROW * depth
    if not proposed:
        return []
    keys, slack = proposed[0].keys, proposed[0].slack
    if len(proposed) > 1:
        keys = np.sort(np.concatenate([c.keys for c in proposed], axis=1), axis=1)
        slack = np.max([c.slack for c in proposed], axis=0)
    queries, count = keys.shape
    if count <= least:
        return [np.ones(c.keys.shape, np.bool_) for c in proposed]
    inside = np.count_nonzero(keys <= (keys[:, depth - 1] + slack)[:, None], axis=1)
    last = np.minimum(np.maximum(inside, least), min(most, count)) - 1
    limits = keys[np.arange(queries), last][:, None]
    return [c.keys <= limits for c in proposed]


def _scanned(search: _Search, queries: Queries, depth: int, metric: Metric) -> Steps[list[PartRows]]:
    found = yield from together([search.vectors.scan(query, depth, metric, search.mask) for query in queries])
    return [(search.number, distances, rows) for distances, rows in found]


def _reranked(
    search: _Search, queries: Queries, depth: int, metric: Metric, candidates: Candidates, kept: Bools
) -> Steps[list[PartRows]]:
    counts = kept.sum(1).tolist()
    found = yield from search.vectors.rerank(candidates.positions[kept], counts, queries, depth, metric)
    return [(search.number, distances, rows) for distances, rows in found]


def _figures(
    snapshot: SearchSnapshot,
    searches: Sequence[_Search],
    proposed: Sequence[Candidates],
    kept: Sequence[Bools],
    number: int,
) -> dict[str, Any]:
    """What happened for one of the legs, by part."""
    found = iter(zip(proposed, kept, strict=True))
    parts = []
    for search in searches:
        figures: dict[str, Any] = {
            "part": snapshot.parts[search.number].part.label,
            "way": search.way,
            "matched": search.count,
        }
        if search.way == "codes":
            candidates, mask = next(found)
            lists, codes = candidates.looked_at(number)
            figures |= {
                "lists_probed": lists,
                "codes_scanned": codes,
                "candidates": candidates.positions.shape[1],
                "reranked": int(mask[number].sum()),
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
