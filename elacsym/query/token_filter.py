"""Conditions on the tokens of full-text attributes.

All and any are answered by postings alone. For a sequence the postings tell which rows have all tokens; the
texts of these are analysed again, because postings do not know the order. A token that analysis drops keeps
its place, in the query and in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from elacsym.format.reading import Steps, together
from elacsym.index.text import TextIndex, mark
from elacsym.index.tokenize import PRE_TOKENIZED, Analyzer, analyzer
from elacsym.query.ast import Tokens
from elacsym.query.columns import Bools, values_in
from elacsym.query.searchable import Part
from elacsym.types import Schema


def token_rows(condition: Tokens, schema: Schema, part: Part) -> Steps[Bools]:
    """(rows,) bool, fresh: where a checked condition holds; nowhere if the query has no tokens.

    Two rounds where it is cold, and one more for the texts of a sequence. Cost: the postings of the tokens;
    for a sequence of several also the texts of the rows that have all of them.
    """
    settings = schema.attributes[condition.field].full_text
    assert settings is not None, condition.field
    analysis = analyzer(settings)
    sequence = analysis.query_places(condition.query)
    terms = [term for term in sequence if term]
    if not terms:
        return np.zeros(part.rows, np.bool_)
    index = yield from part.text(condition.field)
    prefix = terms.pop() if condition.last_as_prefix else None
    mask = yield from _with_tokens(index, terms, prefix, is_all=condition.mode != "any")
    if condition.mode == "sequence" and len(terms) > 1:
        wanted = _places_of(sequence)
        rows = np.flatnonzero(mask)
        texts = yield from (yield from values_in(part, condition.field)).select(rows)
        is_one = settings.tokenizer == PRE_TOKENIZED
        for row, value in zip(rows.tolist(), texts.to_pylist(), strict=True):
            sequences = _sequences(analysis, value, is_one=is_one)
            mask[row] = any(_occurs(wanted, one) for one in sequences)
    return mask


def _with_tokens(index: TextIndex, terms: Sequence[str], prefix: str | None, *, is_all: bool) -> Steps[Bools]:
    """The rows that have all or any of some terms and, where there is a prefix, of terms that begin so."""
    steps = [_with_term(index, term) for term in dict.fromkeys(terms)]
    if prefix is not None:
        steps.append(index.rows_with_prefix(prefix))
    mask, *others = yield from together(steps)
    for other in others:
        (np.logical_and if is_all else np.logical_or)(mask, other, out=mask)
    return mask


def _with_term(index: TextIndex, term: str) -> Steps[Bools]:
    """(rows,) bool, fresh: which rows have a term. Two rounds."""
    yield from index.want([term])
    entry = index.term(term)
    mask = np.zeros(index.rows_total, np.bool_)
    if entry is not None:
        yield from index.bring([entry])
        mark(mask, index.postings(entry))
    return mask


def _sequences(analysis: Analyzer, value: str | list[str], *, is_one: bool) -> Iterator[list[str]]:
    """The terms of each text of a value by their places; is_one: its elements are the tokens of one text."""
    if isinstance(value, str):
        yield analysis.places(value)
    elif is_one:
        yield analysis.query_places(value)
    else:
        yield from (analysis.places(element) for element in value)


def _places_of(sequence: Sequence[str]) -> list[tuple[int, str]]:
    """The terms with their distances from the first."""
    kept = [(place, term) for place, term in enumerate(sequence) if term]
    return [(place - kept[0][0], term) for place, term in kept]


def _occurs(wanted: Sequence[tuple[int, str]], sequence: Sequence[str]) -> bool:
    """Whether terms stand in a sequence at these distances from each other."""
    first, length = wanted[0][1], wanted[-1][0]
    return any(
        sequence[start] == first and all(sequence[start + place] == term for place, term in wanted)
        for start in range(len(sequence) - length)
    )
