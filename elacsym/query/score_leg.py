"""The leg of a score expression: exact over all rows that the filter leaves.

A sum of weighted BM25 and nothing else is left to `query.text_leg`, which need not look at every row. Any
other expression is evaluated for every matching row: its leaves are fetched for all parts in shared rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from elacsym.format.reading import Steps, both, together
from elacsym.index.bm25 import exact
from elacsym.query.ast import AttributeValue, Bm25, Distance, Indicator, ScoreLeg
from elacsym.query.columns import Bools, Ints, values_in
from elacsym.query.filters import matches as rows_where
from elacsym.query.matching import Matches
from elacsym.query.ranking import Beside, PartRows, Ranking, cut, ranked
from elacsym.query.scores import Floats, Leaf, evaluated, keeps_zero, leaves_of, to_f32, weighted_texts
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.query.terms import Clause, looked_up, term_lists, with_prefix
from elacsym.query.text_leg import best_by_texts
from elacsym.types import Schema

# leaves that are columns of a part
ColumnLeaf = Indicator | AttributeValue | Distance


def scored(
    snapshot: SearchSnapshot, leg: ScoreLeg, matches: Matches, depth: int, beside: Beside | None = None
) -> Steps[Ranking]:
    """The `depth` rows among `matches` of the highest score; rows of score 0 as `scores.keeps_zero` says."""
    clauses = weighted_texts(leg.score)
    if clauses is not None:
        return (yield from best_by_texts(snapshot, clauses, matches, depth, beside))
    numbers = [number for number, count in enumerate(matches.counts) if count]
    rows = [np.flatnonzero(matches.masks[number]) for number in numbers]
    leaves = leaves_of(leg.score)
    texts, columns = split(leaves)
    looking: Steps[list[Clause]] = looked_up(snapshot, [(leaf, 1.0) for leaf in texts], matches)
    parts = [snapshot.parts[number].part for number in numbers]
    reading = together(
        [
            column_values(part, columns, of_part, snapshot.schema)
            for part, of_part in zip(parts, rows, strict=True)
        ]
    )
    found_clauses, by_columns = yield from both(looking, reading)
    by_texts = yield from together(
        [
            _text_values(snapshot, number, dict(zip(texts, found_clauses, strict=True)), of_part, matches)
            for number, of_part in zip(numbers, rows, strict=True)
        ]
    )
    found: list[PartRows] = []
    for number, of_part, of_columns, of_texts in zip(numbers, rows, by_columns, by_texts, strict=True):
        scores = to_f32(evaluated(leg.score, {**of_columns, **of_texts}))
        kept = of_part
        if not keeps_zero(leg.score):
            kept, scores = of_part[scores != 0], scores[scores != 0]
        found.append((number, *cut(scores, kept, depth, ascending=False)))

    def figures() -> Mapping[str, Any]:
        return {"index": "scores", "leaves": len(leaves), "rows_scored": matches.total}

    return (yield from ranked(snapshot, found, depth, ascending=False, figures=figures, beside=beside))


def split(leaves: Sequence[Leaf]) -> tuple[list[Bm25], list[ColumnLeaf]]:
    """The leaves that take postings, and those that take columns."""
    return (
        [leaf for leaf in leaves if isinstance(leaf, Bm25)],
        [leaf for leaf in leaves if not isinstance(leaf, Bm25)],
    )


def column_values(
    part: Part, leaves: Sequence[ColumnLeaf], rows: Ints, schema: Schema
) -> Steps[dict[Leaf, Floats]]:
    """(n,) float64 of each leaf for these rows of a part. One round where it is cold."""
    found = yield from together([_column_value(part, leaf, rows, schema) for leaf in leaves])
    return dict(zip(leaves, found, strict=True))


def _column_value(part: Part, leaf: ColumnLeaf, rows: Ints, schema: Schema) -> Steps[Floats]:
    match leaf:
        case Indicator():
            mask: Bools = yield from rows_where(leaf.condition, schema, part)
            return mask[rows].astype(np.float64)
        case AttributeValue():
            array = yield from _selected(part, leaf.attribute, rows)
            numbers: Floats = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.float64)
            return numbers
        case Distance():
            return distances((yield from _selected(part, leaf.attribute, rows)), leaf.origin)


def _selected(part: Part, attribute: str, rows: Ints) -> Steps[Any]:
    values = yield from values_in(part, attribute)
    return (yield from values.column() if len(rows) == part.rows else values.select(rows))


def distances(array: Any, origin: float | str) -> Floats:
    """(n,) float64: |value - origin| of an Arrow array of numbers, NaN where it is null. Between integers it
    is exact before it is rounded."""
    assert not isinstance(origin, str), "checked"
    numbers = array.fill_null(0).to_numpy(zero_copy_only=False)
    bounds = np.iinfo(numbers.dtype) if numbers.dtype.kind in "iu" else None
    if bounds is not None and isinstance(origin, int) and bounds.min <= origin <= bounds.max:
        near = numbers.dtype.type(origin)
        # differences of 64-bit integers fit into 64 bits without a sign, where arithmetic is modulo 2^64
        unsigned, start = numbers.view(np.uint64), np.array([near]).view(np.uint64)
        far = np.where(numbers >= near, unsigned - start, start - unsigned).astype(np.float64)
    else:
        with np.errstate(over="ignore"):
            far = np.abs(numbers.astype(np.float64) - float(origin)).clip(max=np.finfo(np.float64).max)
    if array.null_count:
        far[pc.is_null(array).to_numpy(zero_copy_only=False)] = np.nan
    found: Floats = far
    return found


def _text_values(
    snapshot: SearchSnapshot, number: int, clauses: Mapping[Bm25, Clause], rows: Ints, matches: Matches
) -> Steps[dict[Leaf, Floats]]:
    """(n,) float64 of each BM25 clause for rows of a part, which ascend."""
    return dict(
        zip(
            clauses,
            (yield from together([_shares(snapshot, number, c, rows, matches) for c in clauses.values()])),
            strict=True,
        )
    )


def _shares(
    snapshot: SearchSnapshot, number: int, clause: Clause, rows: Ints, matches: Matches
) -> Steps[Floats]:
    shares = exact([term_lists(snapshot, clause, range(number, number + 1), matches)], rows)
    index = clause.indexes[number]
    if clause.prefix is None or index is None:
        return shares
    known = clause.known.get(clause.prefix)
    whole = None if known is None else known.terms[number]
    return (yield from with_prefix(index, clause.prefix, whole, shares, rows))
