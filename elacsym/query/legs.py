"""One leg of a ranked query over all parts: exact distances or exact BM25, the best candidates, ties by id.

Distances and scores are float32 when they are compared. Every part gives its best `depth` rows and all that
tie with the last of them, so the merge sees every candidate that can reach the answer and the result does not
depend on how rows are spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elacsym.index.text import FieldStatistics, bm25_scores
from elacsym.index.tokenize import analyzer
from elacsym.index.vector import top_k
from elacsym.query.ast import Leg, TextLeg, VectorLeg
from elacsym.query.columns import Ints
from elacsym.query.matching import Matches, remembered
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.types import DocumentId, FullText, Metric

STATISTICS_MEMO_ENTRIES_MAX = 256

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ranking:
    """A leg's candidates, best first: scores (n,) float32, and for each its id, part number and row there."""

    scores: Floats
    ids: tuple[DocumentId, ...]
    places: tuple[tuple[int, int], ...]
    rows_scored: int = 0
    postings: int = 0
    terms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Field:
    """One analysed field of a text leg: how often each term is in the query, the snapshot's statistics."""

    name: str
    weight: float
    settings: FullText
    terms: dict[str, int]
    statistics: FieldStatistics


def leg_name(leg: Leg) -> str:
    """How explanations call a leg."""
    match leg:
        case VectorLeg():
            return f"vector:{leg.attribute}"
        case TextLeg():
            return "text:" + "+".join(name for name, _ in leg.fields)


def is_ascending(leg: Leg, metric: Metric | None) -> bool:
    """Whether a smaller score is better: distances are, products and BM25 are not."""
    return isinstance(leg, VectorLeg) and metric is not Metric.DOT


def nearest(snapshot: SearchSnapshot, leg: VectorLeg, matches: Matches, depth: int) -> Ranking:
    """The `depth` nearest rows among `matches`; few of a part are gathered by `top_k`, many are scanned."""
    metric = snapshot.schema.metric
    assert metric is not None, "a namespace with vectors has a metric"
    found: list[tuple[int, Floats, Ints]] = []
    scored = 0
    for number, (view, mask, count) in enumerate(
        zip(snapshot.parts, matches.masks, matches.counts, strict=True)
    ):
        if not count:
            continue
        column = view.part.vectors(leg.attribute)
        found.append(
            (number, *top_k(column, leg.vector, depth, metric, mask if count < view.part.rows else None))
        )
        scored += min(count, len(column.rows))
    return _merged(snapshot, found, depth, ascending=metric is not Metric.DOT, rows_scored=scored)


def relevant(snapshot: SearchSnapshot, leg: TextLeg, matches: Matches, depth: int) -> Ranking:
    """The `depth` rows among `matches` of highest BM25, if above 0; statistics are of all live rows."""
    fields = [field for field in _analysed(snapshot, leg) if field.terms]
    found: list[tuple[int, Floats, Ints]] = []
    scored = 0
    for number, (view, mask, count) in enumerate(
        zip(snapshot.parts, matches.masks, matches.counts, strict=True)
    ):
        if not count or not fields:
            continue
        rows, scores = _scores(view.part, fields)
        scored += len(rows)
        rounded = scores.astype(np.float32)
        keep = mask[rows] & (rounded > 0)
        found.append((number, *_cut(rounded[keep], rows[keep], depth, ascending=False)))
    return _merged(
        snapshot,
        found,
        depth,
        ascending=False,
        rows_scored=scored,
        postings=sum(sum(field.statistics.document_frequency.values()) for field in fields),
        terms=tuple(sorted({term for field in fields for term in field.terms})),
    )


def _scores(part: Part, fields: Sequence[_Field]) -> tuple[Ints, npt.NDArray[np.float64]]:
    """(rows, scores): the weighted sum over the fields, in their order, for each row that has a term."""
    if len(fields) == 1:
        field = fields[0]
        rows, scores = bm25_scores(part.text(field.name), field.statistics, field.terms, field.settings)
        return rows, field.weight * scores
    total = np.zeros(part.rows, np.float64)
    for field in fields:
        rows, scores = bm25_scores(part.text(field.name), field.statistics, field.terms, field.settings)
        total[rows] += field.weight * scores
    touched = np.flatnonzero(total)
    return touched, total[touched]


def _analysed(snapshot: SearchSnapshot, leg: TextLeg) -> Iterable[_Field]:
    for name, weight in leg.fields:
        settings = snapshot.schema.attributes[name].full_text
        assert settings is not None, name
        terms = Counter(analyzer(settings).tokens(leg.query))
        statistics = _statistics(snapshot, name, tuple(sorted(terms)))
        # a term that no live row has may still be in dead rows, which are not worth scoring
        present = {term: count for term, count in terms.items() if statistics.document_frequency[term]}
        yield _Field(name, weight, settings, present, statistics)


def _statistics(snapshot: SearchSnapshot, name: str, terms: tuple[str, ...]) -> FieldStatistics:
    """Statistics of a field over the live rows of the snapshot."""

    def count() -> FieldStatistics:
        total = FieldStatistics.none(terms)
        for view in snapshot.parts:
            if view.rows_live:
                total = total + view.part.text(name).statistics(terms, view.alive)
        return total

    return remembered(snapshot, "statistics", (name, terms), STATISTICS_MEMO_ENTRIES_MAX, count)


def _cut(scores: Floats, rows: Ints, depth: int, *, ascending: bool) -> tuple[Floats, Ints]:
    """The best `depth` rows and all that tie with the last of them, in any order."""
    if len(scores) <= depth:
        return scores, rows
    keys = scores if ascending else -scores
    keep = keys <= np.partition(keys, depth - 1)[depth - 1]
    return scores[keep], rows[keep]


def _merged(
    snapshot: SearchSnapshot,
    found: Sequence[tuple[int, Floats, Ints]],
    depth: int,
    *,
    ascending: bool,
    rows_scored: int,
    postings: int = 0,
    terms: tuple[str, ...] = (),
) -> Ranking:
    """The best `depth` of what the parts found, ties by id."""
    scores = np.concatenate([np.empty(0, np.float32), *(s for _, s, _ in found)])
    flat = np.arange(len(scores), dtype=np.int64)
    scores, flat = _cut(scores, flat, depth, ascending=ascending)
    places: list[tuple[int, int]] = []
    ids: list[DocumentId] = []
    start = 0
    for number, part_scores, rows in found:
        chosen = rows[flat[(flat >= start) & (flat < start + len(part_scores))] - start]
        places += [(number, row) for row in chosen.tolist()]
        ids += snapshot.parts[number].part.ids().take(chosen)
        start += len(part_scores)
    keys = (scores if ascending else -scores).tolist()
    # ids differ, so the third element only travels along
    order = [index for _, _, index in sorted(zip(keys, ids, range(len(ids)), strict=True))[:depth]]
    return Ranking(
        scores[order],
        tuple(ids[i] for i in order),
        tuple(places[i] for i in order),
        rows_scored,
        postings,
        terms,
    )
