"""Computed attributes: what a query wants to know of the rows that it answers, beside what they store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elacsym.format.reading import Steps, both, together
from elacsym.index.bm25 import FieldLists, FieldRows, FieldScoring, TermList, exact
from elacsym.index.distance import exact_distances, norms_of, within_f32
from elacsym.index.tokenize import analyzer
from elacsym.query.ast import (
    AttributeValue,
    Bm25,
    Computed,
    Decay,
    Highlight,
    Indicator,
    Max,
    Product,
    Query,
    Saturate,
    Score,
    Sum,
    VectorDistance,
)
from elacsym.query.columns import Bools, Ints
from elacsym.query.filters import matches
from elacsym.query.highlight import highlights
from elacsym.query.hits import Found
from elacsym.query.score_leg import column_values, split
from elacsym.query.scores import Floats, Leaf, evaluated, leaves_of, to_f32
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.query.terms import query_terms, with_prefix
from elacsym.types import Schema


def computed(snapshot: SearchSnapshot, query: Query, found: Sequence[Found]) -> Steps[list[dict[str, Any]]]:
    """The computed attributes of the rows by name, in the order of `found`; nulls are left out.

    BM25 stands here for how a row's own text matches, without statistics: no document is counted, and the
    mean length is 1.
    """
    attributes: list[dict[str, Any]] = [{} for _ in found]
    by_part: dict[int, list[int]] = {}
    for index in sorted(range(len(found)), key=lambda i: found[i].row):  # rows ascend
        by_part.setdefault(found[index].part, []).append(index)
    columns = yield from together(
        [
            _values(snapshot.schema, snapshot.parts[number].part, one, _rows(found, indices))
            for number, indices in by_part.items()
            for _, one in query.compute
        ]
    )
    values = iter(columns)
    for indices in by_part.values():
        for name, _ in query.compute:
            for index, value in zip(indices, next(values), strict=True):
                if value is not None:
                    attributes[index][name] = value
    return attributes


def _rows(found: Sequence[Found], indices: Sequence[int]) -> Ints:
    return np.array([found[index].row for index in indices], np.int64)


def _values(schema: Schema, part: Part, wanted: Computed, rows: Ints) -> Steps[Sequence[Any]]:
    """The values of one computed attribute for rows of a part, which ascend."""
    match wanted:
        case VectorDistance():
            return (yield from _distances(schema, part, wanted, rows))
        case Highlight():
            return (yield from _highlights(schema, part, wanted, rows))
        case Bm25() | Sum() | Max() | Product() | Indicator() | AttributeValue() | Saturate() | Decay():
            scores = to_f32((yield from _scores(schema, part, wanted, rows)))
            return list(scores.tolist())
        case _:
            mask: Bools = yield from matches(wanted, schema, part)
            return list(mask[rows].tolist())


def _distances(
    schema: Schema, part: Part, wanted: VectorDistance, rows: Ints
) -> Steps[Sequence[float | None]]:
    assert schema.metric is not None, "a namespace with vectors has a metric"
    matrix, is_present = yield from (yield from part.vectors(wanted.attribute)).select(rows)
    stored = matrix[is_present]
    distances = exact_distances(stored, norms_of(stored), wanted.vector, schema.metric)
    found = iter(within_f32(distances).tolist())
    return [next(found) if present else None for present in is_present.tolist()]


def _highlights(schema: Schema, part: Part, wanted: Highlight, rows: Ints) -> Steps[Sequence[Any]]:
    settings = schema.attributes[wanted.attribute].full_text
    assert settings is not None, wanted.attribute
    values = yield from (yield from part.attribute(wanted.attribute)).values(rows)
    return [highlights(value, wanted, settings) for value in values]


def _scores(schema: Schema, part: Part, score: Score, rows: Ints) -> Steps[Floats]:
    texts, columns = split(leaves_of(score))
    by_texts, by_columns = yield from both(
        together([_text_values(schema, part, leaf, rows) for leaf in texts]),
        column_values(part, columns, rows, schema),
    )
    values: dict[Leaf, Floats] = {**by_columns, **dict(zip(texts, by_texts, strict=True))}
    return evaluated(score, values)


def _text_values(schema: Schema, part: Part, leaf: Bm25, rows: Ints) -> Steps[Floats]:
    """(n,) BM25 of a clause without statistics."""
    settings = schema.attributes[leaf.attribute].full_text
    assert settings is not None, leaf.attribute
    index = yield from part.text(leaf.attribute)
    tokens = query_terms(analyzer(settings), leaf.query)
    terms = sorted(set(tokens))
    yield from index.want(terms)
    entries = {term: entry for term in terms if (entry := index.term(term)) is not None}
    yield from index.bring(entries.values())
    # no documents, and one token among them: the mean length is 1
    scoring = FieldScoring(settings, 0, 1, index.length_min, index.length_max)
    of_field = FieldRows(scoring, index.lengths)
    lists = [
        TermList(of_field, index.postings(entry), scoring.weight(0, tokens.count(term)), entry.frequency_max)
        for term, entry in entries.items()
    ]
    shares = exact([FieldLists(1.0, lists)], rows)
    if not (leaf.last_as_prefix and tokens):
        return shares
    return (yield from with_prefix(index, tokens[-1], entries.get(tokens[-1]), shares, rows))
