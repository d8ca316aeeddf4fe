"""Conditions on the tokens of full-text attributes.

All and any are answered by postings alone. For a sequence the postings tell which rows have all tokens; the
texts of these are analysed again, because postings do not know the order. A token that analysis drops keeps
its place, in the query and in the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from elacsym.format.reading import Steps, folded
from elacsym.index.text import TextIndex, mark
from elacsym.index.tokenize import PRE_TOKENIZED, Analyzer, analyzer
from elacsym.query.ast import Tokens
from elacsym.query.columns import Bools, Ints, conjoin, disjoin, values_in
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
        numbers = {term: number for number, term in enumerate(dict.fromkeys(terms))}
        wanted = _places_of(sequence, numbers)
        rows = np.flatnonzero(mask)
        texts = yield from (yield from values_in(part, condition.field)).select(rows)
        is_one = settings.tokenizer == PRE_TOKENIZED
        for row, value in zip(rows.tolist(), texts.to_pylist(), strict=True):
            sequences = _sequences(analysis, value, is_one=is_one)
            mask[row] = any(_occurs(wanted, _numbered(one, numbers)) for one in sequences)
    return mask


def _with_tokens(index: TextIndex, terms: Sequence[str], prefix: str | None, *, is_all: bool) -> Steps[Bools]:
    """The rows that have all or any of some terms and, where there is a prefix, of terms that begin so."""
    steps = [_with_term(index, term) for term in dict.fromkeys(terms)]
    if prefix is not None:
        steps.append(index.rows_with_prefix(prefix))
    return (yield from folded(steps, conjoin if is_all else disjoin))


def _with_term(index: TextIndex, term: str) -> Steps[Bools]:
    """(rows,) bool, fresh: which rows have a term. Two rounds."""
    yield from index.want([term])
    entry = index.term(term)
    if entry is not None:
        yield from index.bring([entry])
    # made when nothing is waited for any more, so that few exist at a time
    mask = np.zeros(index.rows_total, np.bool_)
    if entry is not None:
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


def _places_of(sequence: Sequence[str], numbers: Mapping[str, int]) -> list[tuple[int, int]]:
    """The numbers of the terms with their distances from the first."""
    kept = [(place, numbers[term]) for place, term in enumerate(sequence) if term]
    return [(place - kept[0][0], number) for place, number in kept]


def _numbered(sequence: Sequence[str], numbers: Mapping[str, int]) -> Ints:
    """(n,) int64: the number of each term of a text; that of those that nobody looks for is the one behind
    all numbers."""
    return np.array([numbers.get(term, len(numbers)) for term in sequence], np.int64)


def _occurs(wanted: Sequence[tuple[int, int]], sequence: Ints) -> bool:
    """Whether terms stand in a sequence at these distances from each other.

    Cost: a pass over the sequence for each term at most; the rarest come first, so that few are needed.
    """
    starts = len(sequence) - wanted[-1][0]
    if starts <= 0:
        return False
    counts = np.bincount(sequence, minlength=max(number for _, number in wanted) + 1).tolist()
    is_start = np.ones(starts, np.bool_)
    for place, number in sorted(wanted, key=lambda one: counts[one[1]]):
        is_start &= sequence[place : place + starts] == number
        if not is_start.any():
            return False
    return True
