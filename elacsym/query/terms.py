"""The terms of text queries in a snapshot: looked up in every part, counted over all live rows.

A cold look-up takes one round for dictionary blocks and lengths, and one for postings, of all parts and
clauses together. What does not depend on the query's terms, and what was learnt about terms, stays with the
snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from elacsym.format.reading import Steps, done, together
from elacsym.index.bm25 import FieldScoring, Floats
from elacsym.index.text import Term, TextIndex
from elacsym.index.text_build import Unsigned
from elacsym.index.tokenize import Analyzer, analyzer
from elacsym.query.ast import Bm25
from elacsym.query.columns import Ints
from elacsym.query.matching import Matches, live_rows
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import FullText

# terms whose places and statistics a snapshot remembers, for each field
TERMS_REMEMBERED = 512


@dataclass(frozen=True, slots=True)
class Known:
    """A term of a field. terms: by part, None where no row has it; live: the live rows that have it."""

    terms: tuple[Term | None, ...]
    live: int


@dataclass(slots=True)
class FieldMemory:
    """What a snapshot remembers of a field; nothing that would hold a file open. lengths: by run of several
    parts, their lengths joined."""

    settings: FullText
    analyzer: Analyzer
    scoring: FieldScoring | None = None
    known: dict[str, Known] = field(default_factory=dict)
    lengths: dict[range, Unsigned] = field(default_factory=dict)


@dataclass(slots=True)
class Clause:
    """A BM25 clause in a snapshot.

    indexes: by part, None where no row lives; terms: the query's, sorted, with their counts; known: those
    that are remembered, and after `looked_up` those that live rows have, sorted. prefix: what a term may
    begin with to count.
    """

    memory: FieldMemory
    weight: float
    indexes: Sequence[TextIndex | None]
    terms: dict[str, int]
    known: dict[str, Known]
    prefix: str | None

    @property
    def scoring(self) -> FieldScoring:
        """How the field scores, after `looked_up`."""
        assert self.memory.scoring is not None, "looked up"
        return self.memory.scoring

    def unknown(self) -> list[str]:
        """The terms that nothing is known of."""
        return [term for term in self.terms if term not in self.known]


def query_terms(analyzer_: Analyzer, query: str | tuple[str, ...]) -> list[str]:
    """The terms of a query in order: a text is cut, tokens are analysed each."""
    if isinstance(query, str):
        return analyzer_.tokens(query)
    return [term for token in query for term in analyzer_.tokens(token)]


def looked_up(
    snapshot: SearchSnapshot, clauses: Sequence[tuple[Bm25, float]], matches: Matches
) -> Steps[list[Clause]]:
    """Weighted clauses with what scoring them takes at hand: statistics, and the postings of their terms in
    the parts that have matches."""
    found = yield from _opened(snapshot, clauses)
    yield from _at_hand(snapshot, found, matches)
    for one in found:
        _know(snapshot, one)
    return found


def _opened(snapshot: SearchSnapshot, clauses: Sequence[tuple[Bm25, float]]) -> Steps[list[Clause]]:
    """The clauses, their indexes open."""
    live = live_rows(snapshot).counts
    openings = [
        view.part.text(clause.attribute) if rows else done(None)
        for clause, _ in clauses
        for view, rows in zip(snapshot.parts, live, strict=True)
    ]
    indexes = yield from together(openings)
    memories: dict[str, FieldMemory] = snapshot.memo.setdefault("text", {})
    found = []
    for number, (clause, weight) in enumerate(clauses):
        memory = memories.get(clause.attribute)
        if memory is None:
            settings = snapshot.schema.attributes[clause.attribute].full_text
            assert settings is not None, clause.attribute
            memory = memories[clause.attribute] = FieldMemory(settings, analyzer(settings))
        tokens, terms = query_terms(memory.analyzer, clause.query), dict[str, int]()
        for term in tokens:
            terms[term] = terms.get(term, 0) + 1
        prefix = tokens[-1] if clause.last_as_prefix and tokens else None
        of_clause = indexes[number * len(live) : (number + 1) * len(live)]
        known = {term: known for term in terms if (known := memory.known.get(term)) is not None}
        found.append(Clause(memory, weight, of_clause, dict(sorted(terms.items())), known, prefix))
    return found


def _at_hand(snapshot: SearchSnapshot, clauses: Sequence[Clause], matches: Matches) -> Steps[None]:
    """Have at hand what scoring takes: one round for dictionaries and lengths, one for postings."""
    cold = [
        (one, part, index)
        for one in clauses
        for part, index in enumerate(one.indexes)
        if index is not None and not index.is_whole
    ]
    if not cold:
        return
    yield from together([index.want(one.unknown()) for one, _, index in cold])
    live = live_rows(snapshot).counts
    bringing = []
    for one, part, index in cold:
        # deleted rows are counted in postings
        is_counted = live[part] < snapshot.parts[part].part.rows
        names = one.terms if matches.counts[part] else one.unknown() if is_counted else ()
        entries = [one.known[term].terms[part] if term in one.known else index.term(term) for term in names]
        bringing.append(index.bring([entry for entry in entries if entry is not None]))
    yield from together(bringing)


def _know(snapshot: SearchSnapshot, one: Clause) -> None:
    """Complete what is known of a clause's field and terms, and remember it."""
    memory = one.memory
    if memory.scoring is None:
        memory.scoring = _scoring(snapshot, memory.settings, one.indexes)
    unknown = one.unknown()
    if unknown:
        if len(memory.known) + len(unknown) > TERMS_REMEMBERED:
            memory.known.clear()
        for term in unknown:
            entries = tuple([None if index is None else index.term(term) for index in one.indexes])
            memory.known[term] = one.known[term] = Known(entries, _live(snapshot, one.indexes, entries))
    # a term that no live row has may still be in deleted rows, which are not worth scoring
    one.known = {term: one.known[term] for term in one.terms if one.known[term].live}


def _scoring(
    snapshot: SearchSnapshot, settings: FullText, indexes: Sequence[TextIndex | None]
) -> FieldScoring:
    """How a field scores: statistics of its live rows. Lengths are at hand."""
    documents = tokens = 0
    for view, index in zip(snapshot.parts, indexes, strict=True):
        if index is not None:
            dead = np.flatnonzero(~view.alive)
            documents += index.documents - int(np.count_nonzero(index.has_value[dead]))
            tokens += index.tokens - int(index.lengths[dead].sum(dtype=np.uint64))
    lengths = [
        (index.length_min, index.length_max) for index in indexes if index is not None and index.tokens
    ]
    shortest, longest = (
        min((low for low, _ in lengths), default=0),
        max((high for _, high in lengths), default=0),
    )
    return FieldScoring(settings, documents, tokens, shortest, longest)


def _live(snapshot: SearchSnapshot, indexes: Sequence[TextIndex | None], terms: Sequence[Term | None]) -> int:
    """In how many live rows a term is."""
    total = 0
    for view, index, term, rows in zip(
        snapshot.parts, indexes, terms, live_rows(snapshot).counts, strict=True
    ):
        if index is not None and term is not None:
            total += term.rows if rows == view.part.rows else index.postings(term).live(view.alive)
    return total


def with_prefix(
    index: TextIndex, prefix: str, whole: Term | None, shares: Floats, rows: Ints
) -> Steps[Floats]:
    """BM25 of rows of a part, (n,), and 1.0 more for those that have longer terms beginning with `prefix` but
    not the term `whole` itself. Two rounds where it is cold. Cost: in proportion to the longer terms."""
    mask = yield from index.rows_with_prefix(prefix)
    if whole is not None:
        mask[index.postings(whole).listed()[0]] = False
    return shares + mask[rows]
