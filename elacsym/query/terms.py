"""The terms of text queries in a snapshot: looked up in every part, counted over all live rows.

A cold look-up takes one round for dictionary blocks and lengths, and one for postings, of all parts and
clauses together. What does not depend on the query's terms, and what was learnt about terms, stays with the
snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from elacsym.format.reading import Steps, done, together
from elacsym.index.bm25 import (
    AnyList,
    FieldLists,
    FieldRows,
    FieldScoring,
    Floats,
    ScoredList,
    TermList,
    joined,
)
from elacsym.index.text import Postings, Term, TextIndex
from elacsym.index.text_build import Bools
from elacsym.index.tokenize import Analyzer, analyzer
from elacsym.query.ast import Bm25
from elacsym.query.columns import Ints
from elacsym.query.matching import Matches, live_rows
from elacsym.query.remembered import Budget, Remembered
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import FullText

# what snapshots remember of terms, all together
TERM_BYTES_MAX = 32 * 2**20
_BUDGET = Budget(TERM_BYTES_MAX)
_ENTRY_BYTES = 400
_PART_BYTES = 120
# a term of a remembered text
_TERM_BYTES = 100
# lists of a term are remembered for queries that have it up to so often, else any query would make more
_COUNT_MAX = 3
# of what all terms may take one may take 1/_SHARE
_SHARE = 4
# the terms of longer texts are not remembered
_QUERY_CHARACTERS_MAX = 256
# terms of at most so many rows of a run are remembered with their shares
_SCORED_MAX = 4_096


@dataclass(slots=True, eq=False)
class Known:
    """A term of a field. terms: by part, None where no row has it; live: the live rows that have it; lists:
    by the term's count in the query, up to _COUNT_MAX, and run of parts, as far as they are remembered."""

    terms: tuple[Term | None, ...]
    live: int
    lists: dict[tuple[int, range], AnyList] = field(default_factory=dict)
    lists_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """About what it takes."""
        return _ENTRY_BYTES * (1 + len(self.lists)) + _PART_BYTES * len(self.terms) + self.lists_bytes


def _within_budget() -> Remembered[Any]:
    return Remembered(_BUDGET)


@dataclass(slots=True)
class FieldMemory:
    """What a snapshot remembers of a field; nothing that would hold a file open.

    queries: the terms of texts, sorted, with their counts; known: by term; rows: by run of several parts.
    """

    settings: FullText
    analyzer: Analyzer
    scoring: FieldScoring | None = None
    queries: Remembered[dict[str, int]] = field(default_factory=_within_budget)
    known: Remembered[Known] = field(default_factory=_within_budget)
    rows: dict[range, FieldRows] = field(default_factory=dict)

    def keep(self, term: str, known: Known) -> None:
        """Remember a term as it is now."""
        self.known.put(term, known, len(term) + known.size_bytes)


@dataclass(slots=True)
class Clause:
    """A BM25 clause in a snapshot.

    indexes: by part, None where no row lives; none at all where what is wanted was remembered. terms: the
    query's, sorted, with their counts; known: those that are remembered, and after `looked_up` those that
    live rows have, sorted. lists, rows: by run of parts, as far as they are made. prefix: what a term may
    begin with to count.
    """

    attribute: str
    memory: FieldMemory
    weight: float
    terms: dict[str, int]
    known: dict[str, Known]
    prefix: str | None
    indexes: Sequence[TextIndex | None] = ()
    lists: dict[range, FieldLists] = field(default_factory=dict)
    rows: dict[range, FieldRows] = field(default_factory=dict)

    @property
    def scoring(self) -> FieldScoring:
        """How the field scores, after `looked_up`."""
        assert self.memory.scoring is not None, "looked up"
        return self.memory.scoring

    def unknown(self) -> list[str]:
        """The terms that nothing is known of."""
        return [term for term in self.terms if term not in self.known]

    def recall(self, runs: Sequence[range]) -> bool:
        """Take the lists over these runs from memory; False if some of them are not there."""
        if self.memory.scoring is None or len(self.known) < len(self.terms):
            return False
        for run in runs:
            lists = [
                known.lists.get((self.terms[term], run)) for term, known in self.known.items() if known.live
            ]
            if None in lists:
                return False
            self.lists[run] = FieldLists(self.weight, [one for one in lists if one is not None])
        return True


def query_terms(analyzer_: Analyzer, query: str | tuple[str, ...]) -> list[str]:
    """The terms of a query in order: a text is cut, tokens are analysed each."""
    if isinstance(query, str):
        return analyzer_.tokens(query)
    return [term for token in query for term in analyzer_.tokens(token)]


def looked_up(
    snapshot: SearchSnapshot,
    clauses: Sequence[tuple[Bm25, float]],
    matches: Matches,
    runs: Sequence[range] | None = None,
) -> Steps[list[Clause]]:
    """Weighted clauses with what scoring them takes at hand: statistics, and the postings of their terms in
    the parts that have matches. runs: those whose lists are all that is wanted, which may be remembered."""
    found = [_clause(snapshot, *clause) for clause in clauses]
    waiting = [one for one in found if runs is None or not one.recall(runs)]
    if waiting:
        yield from _open(snapshot, waiting)
        yield from _at_hand(snapshot, waiting, matches)
        for one in waiting:
            _know(snapshot, one)
    for one in found:
        # a term that no live row has may still be in deleted rows, which are not worth scoring
        one.known = {term: known for term in one.terms if (known := one.known[term]).live}
    return found


def _clause(snapshot: SearchSnapshot, clause: Bm25, weight: float) -> Clause:
    """A clause and what is remembered of its terms."""
    memories: dict[str, FieldMemory] = snapshot.memo.setdefault("text", {})
    memory = memories.get(clause.attribute)
    if memory is None:
        settings = snapshot.schema.attributes[clause.attribute].full_text
        assert settings is not None, clause.attribute
        memory = memories[clause.attribute] = FieldMemory(settings, analyzer(settings))
    terms, prefix = None if clause.last_as_prefix else memory.queries.get(clause.query), None
    if terms is None:
        tokens = query_terms(memory.analyzer, clause.query)
        terms = dict(sorted(Counter(tokens).items()))
        if clause.last_as_prefix:
            prefix = tokens[-1] if tokens else None
        elif len(clause.query) <= _QUERY_CHARACTERS_MAX and isinstance(clause.query, str):
            size_bytes = _ENTRY_BYTES + 2 * len(clause.query) + _TERM_BYTES * len(terms)
            memory.queries.put(clause.query, terms, size_bytes)
    known = {term: known for term in terms if (known := memory.known.get(term)) is not None}
    return Clause(clause.attribute, memory, weight, terms, known, prefix)


def _open(snapshot: SearchSnapshot, clauses: Sequence[Clause]) -> Steps[None]:
    """Open the indexes of the parts with live rows."""
    live = live_rows(snapshot).counts
    openings = [
        view.part.text(one.attribute) if rows else done(None)
        for one in clauses
        for view, rows in zip(snapshot.parts, live, strict=True)
    ]
    indexes = yield from together(openings)
    for number, one in enumerate(clauses):
        one.indexes = indexes[number * len(live) : (number + 1) * len(live)]


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
    for term in one.unknown():
        entries = tuple([None if index is None else index.term(term) for index in one.indexes])
        known = one.known[term] = Known(entries, _live(snapshot, one.indexes, entries))
        memory.keep(term, known)


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


def term_lists(snapshot: SearchSnapshot, one: Clause, run: range, matches: Matches) -> FieldLists:
    """The lists of a clause's terms over a run, in the order of the terms, after `looked_up`."""
    made = one.lists.get(run)
    if made is None:
        lists = [_term_list(snapshot, one, term, run, matches) for term in one.known]
        made = one.lists[run] = FieldLists(one.weight, lists)
    return made


def _term_list(snapshot: SearchSnapshot, one: Clause, term: str, run: range, matches: Matches) -> AnyList:
    """The list of a term over a run; remembered where it is worth it, and complete."""
    known, count = one.known[term], one.terms[term]
    found = known.lists.get((count, run))
    if found is not None:
        return found
    postings, most, is_complete = _postings(one, known, run, matches)
    sizes = [snapshot.parts[part].part.rows for part in run]
    if most:
        whole = joined(postings, sizes)
        weight = one.scoring.weight(known.live, count)
        found = TermList(_field_rows(one, run, sizes), whole, weight, most)
        size_bytes = whole.size_bytes
        # of a single part these are views of its file
        is_kept = len(run) > 1
    if found is None or whole.count <= _SCORED_MAX:
        found = ScoredList.none(sum(sizes)) if found is None else ScoredList.of(found, _alive(snapshot, run))
        size_bytes, is_kept = found.size_bytes, True
    is_kept = is_kept and is_complete and count <= _COUNT_MAX
    if is_kept and known.size_bytes + size_bytes <= _BUDGET.bytes_max // _SHARE:
        known.lists[count, run] = found
        known.lists_bytes += size_bytes
        one.memory.keep(term, known)
    return found


def _postings(
    one: Clause, known: Known, run: range, matches: Matches
) -> tuple[list[Postings | None], int, bool]:
    """The postings of a term by part of a run, None where no row has it, or no row matches and they are not
    at hand; how often a row of these may have it, 0 if none does; whether none is missing."""
    postings: list[Postings | None] = []
    most, is_complete = 0, True
    for part in run:
        entry, index = known.terms[part], one.indexes[part]
        if entry is None or index is None:
            postings.append(None)
        elif index.is_whole or matches.counts[part]:
            postings.append(index.postings(entry))
            most = max(most, entry.frequency_max)
        else:
            postings.append(None)
            is_complete = False
    return postings, most, is_complete


def _field_rows(one: Clause, run: range, sizes: Sequence[int]) -> FieldRows:
    """The field over a run, the same for all its terms; remembered with the snapshot if it is no view of a
    file."""
    rows = (one.memory.rows if len(run) > 1 else one.rows).get(run)
    if rows is None:
        lengths = [
            np.zeros(size, np.uint8) if index is None else index.lengths
            for size, index in zip(sizes, one.indexes[run.start : run.stop], strict=True)
        ]
        if len(run) == 1:
            rows = one.rows[run] = FieldRows(one.scoring, lengths[0])
        else:
            rows = one.memory.rows[run] = FieldRows(one.scoring, np.concatenate(lengths))
    return rows


def _alive(snapshot: SearchSnapshot, run: range) -> Bools | None:
    """(rows,) which rows of a run live; None: all."""
    views, counts = snapshot.parts[run.start : run.stop], live_rows(snapshot).counts[run.start : run.stop]
    if all(view.part.rows == live for view, live in zip(views, counts, strict=True)):
        return None
    return views[0].alive if len(views) == 1 else np.concatenate([view.alive for view in views])


def with_prefix(
    index: TextIndex, prefix: str, whole: Term | None, shares: Floats, rows: Ints
) -> Steps[Floats]:
    """BM25 of rows of a part, (n,), and 1.0 more for those that have longer terms beginning with `prefix` but
    not the term `whole` itself. Two rounds where it is cold. Cost: in proportion to the longer terms."""
    mask = yield from index.rows_with_prefix(prefix)
    if whole is not None:
        mask[index.postings(whole).listed()[0]] = False
    return shares + mask[rows]
