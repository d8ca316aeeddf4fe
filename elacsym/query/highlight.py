"""Highlighting: the fragments of a stored text that match best.

Fragments are scored by an expression of BM25 clauses, for which the row's own fragments are the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.errors import InvalidRequest
from elacsym.index.bm25 import FieldScoring
from elacsym.index.sentences import sentence_spans
from elacsym.index.tokenize import PRE_TOKENIZED, Analyzer, analyzer
from elacsym.query.ast import Bm25, Highlight, Query, Score, ScoreLeg, Sum, TextLeg
from elacsym.query.check_score import check_score
from elacsym.query.operands import known
from elacsym.query.scores import Leaf, evaluated, leaves_of, to_f32
from elacsym.query.terms import query_terms
from elacsym.types import FullText, Schema

FRAGMENT = "$fragment"
FRAGMENTS_MAX = 1_024

Floats = npt.NDArray[np.float64]
Span = tuple[int, int]


@dataclass(slots=True)
class _Fragment:
    """One fragment. place: (start, end) in its text, in characters; spans: of its tokens, from its start."""

    array_index: int
    place: Span
    text: str
    terms: list[str]
    spans: list[Span]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The terms of a clause with their counts; prefix: what its last token stands for, too."""

    terms: Counter[str]
    prefix: str | None

    def has(self, term: str) -> bool:
        """Whether a term of a fragment is a match."""
        return term in self.terms or self.has_prefix(term)

    def has_prefix(self, term: str) -> bool:
        """Whether it begins as the last token does."""
        return self.prefix is not None and term.startswith(self.prefix)


def check_highlight(wanted: Highlight, query: Query, schema: Schema) -> Highlight:
    """The highlighting, known to fit the schema, with the expression that ranks fragments settled.

    Raises InvalidRequest.
    """
    attribute = known(wanted.attribute, schema, wanted.path)
    settings = attribute.full_text
    if settings is None:
        raise InvalidRequest(wanted.path, f"attribute '{wanted.attribute}' has no full-text search")
    if settings.tokenizer == PRE_TOKENIZED:
        raise InvalidRequest(
            wanted.path, f"attribute '{wanted.attribute}' is tokenized already; it has no fragments"
        )
    if not 1 <= wanted.limit <= FRAGMENTS_MAX:
        raise InvalidRequest(
            f"{wanted.path}.fragment_limit", f"{wanted.limit} where 1 to {FRAGMENTS_MAX} are allowed"
        )
    score = _own_clauses(query, wanted.attribute) if wanted.rank_by is None else wanted.rank_by
    if score is None:
        raise InvalidRequest(
            wanted.path, f"the query has no BM25 clause on '{wanted.attribute}'; give rank_fragments_by"
        )
    if any(not isinstance(leaf, Bm25) for leaf in leaves_of(score)):
        raise InvalidRequest(f"{wanted.path}.rank_fragments_by", "only BM25 clauses can rank fragments")
    # fragments are all that there is to search
    fragments = Schema(attributes=MappingProxyType({FRAGMENT: attribute}))
    checked = check_score(score, fragments, f"{wanted.path}.rank_fragments_by")
    return Highlight(wanted.attribute, wanted.fragment_by, wanted.limit, wanted.offsets, checked)


def _own_clauses(query: Query, attribute: str) -> Score | None:
    """The query's text clauses on an attribute, as clauses on fragments."""
    found: list[Score] = []
    for leg in query.legs:
        match leg:
            case TextLeg():
                found += [Bm25(FRAGMENT, leg.query) for name, _ in leg.fields if name == attribute]
            case ScoreLeg():
                found += [
                    Bm25(FRAGMENT, leaf.query, leaf.last_as_prefix)
                    for leaf in leaves_of(leg.score)
                    if isinstance(leaf, Bm25) and leaf.attribute == attribute
                ]
    return Sum(tuple(found)) if found else None


def highlights(
    value: str | Sequence[str] | None, wanted: Highlight, settings: FullText
) -> list[dict[str, Any]]:
    """The best fragments of a value, JSON-ready; `wanted` comes from `check_highlight`. Null has none.

    Cost: the whole value is analysed.
    """
    if value is None or wanted.rank_by is None:
        return []
    analysis = analyzer(settings)
    texts = [value] if isinstance(value, str) else value
    fragments = [f for index, text in enumerate(texts) for f in _fragments(index, text, wanted, analysis)]
    leaves = [leaf for leaf in leaves_of(wanted.rank_by) if isinstance(leaf, Bm25)]
    clauses = {leaf: _wanted(leaf, analysis) for leaf in leaves}
    scores = to_f32(evaluated(wanted.rank_by, _leaf_scores(fragments, clauses, settings)))
    best = sorted(np.flatnonzero(scores > 0).tolist(), key=lambda i: (-scores[i], i))[: wanted.limit]
    is_array = not isinstance(value, str)
    return [_shown(fragments[i], texts, wanted, clauses.values(), is_array=is_array) for i in best]


def _fragments(index: int, text: str, wanted: Highlight, analysis: Analyzer) -> Iterator[_Fragment]:
    for start, end in _cut(text, wanted.fragment_by, analysis):
        fragment = text[start:end]
        found = [
            (term, span)
            for span in analysis.spans(fragment)
            if (term := analysis.term(fragment[span[0] : span[1]]))
        ]
        yield _Fragment(index, (start, end), fragment, [t for t, _ in found], [s for _, s in found])


def _cut(text: str, by: str, analysis: Analyzer) -> list[Span]:
    match by:
        case "sentence":
            return sentence_spans(text)
        case "word":
            return analysis.spans(text)
        case "paragraph":
            return list(_paragraphs(text))
        case _:
            return [(0, len(text))]


def _paragraphs(text: str) -> Iterator[Span]:
    """What stands between line breaks, without white space around it."""
    start = 0
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if bare:
            first = start + line.index(bare)
            yield first, first + len(bare)
        start += len(line)


def _wanted(clause: Bm25, analysis: Analyzer) -> _Wanted:
    terms = query_terms(analysis, clause.query)
    return _Wanted(Counter(terms), terms[-1] if clause.last_as_prefix and terms else None)


def _leaf_scores(
    fragments: Sequence[_Fragment], clauses: Mapping[Bm25, _Wanted], settings: FullText
) -> dict[Leaf, Floats]:
    """(n,) of each clause: the BM25 of every fragment among all of them."""
    counts = [Counter(fragment.terms) for fragment in fragments]
    lengths = np.array([len(fragment.terms) for fragment in fragments], np.uint64)
    scoring = FieldScoring(settings, len(fragments), int(lengths.sum()), 0, int(lengths.max(initial=0)))
    norms = scoring.norms(lengths)
    scores: dict[Leaf, Floats] = {}
    for clause, wanted in clauses.items():
        total = np.zeros(len(fragments))
        for term, in_query in sorted(wanted.terms.items()):
            tf = np.array([count[term] for count in counts], np.float64)
            weight = scoring.weight(int(np.count_nonzero(tf)), in_query)
            total += weight * (tf * scoring.gain / (tf + norms))
        if wanted.prefix is not None:
            total += [wanted.prefix not in count and any(map(wanted.has_prefix, count)) for count in counts]
        scores[clause] = total
    return scores


def _shown(
    fragment: _Fragment,
    texts: Sequence[str],
    wanted: Highlight,
    clauses: Collection[_Wanted],
    *,
    is_array: bool,
) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": fragment.text}
    if wanted.offsets is None:
        return shown
    is_match = [any(clause.has(term) for clause in clauses) for term in fragment.terms]
    matches = [span for span, matched in zip(fragment.spans, is_match, strict=True) if matched]
    shown["fragment_range"] = _in_unit(texts[fragment.array_index], [fragment.place], wanted.offsets)[0]
    shown["match_ranges"] = _in_unit(fragment.text, matches, wanted.offsets)
    if is_array:
        shown["array_index"] = fragment.array_index
    return shown


def _in_unit(text: str, spans: Sequence[Span], unit: str) -> list[list[int]]:
    """Ranges of characters, ascending, as ranges of a unit."""
    if unit == "codepoints" or text.isascii():
        return [list(span) for span in spans]
    encoding = "utf-16-le" if unit == "utf-16" else "utf-8"
    width = 2 if unit == "utf-16" else 1
    ranges, at, passed = [], 0, 0
    for start, end in spans:
        passed += len(text[at:start].encode(encoding)) // width
        length = len(text[start:end].encode(encoding)) // width
        ranges.append([passed, passed + length])
        passed, at = passed + length, end
    return ranges
