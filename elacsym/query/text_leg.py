"""The text leg of a ranked query: exact BM25 over all parts, under statistics of all live rows.

A cold leg takes one round for dictionary blocks and lengths, and one for postings, of all parts and fields
together. What does not depend on the query's terms, and what was learnt about terms, stays with the snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps, done, together
from elacsym.index.bm25 import Best, FieldRows, FieldScoring, Search, TermList, exact, joined
from elacsym.index.text import Term, TextIndex
from elacsym.index.text_build import Unsigned
from elacsym.index.tokenize import Analyzer, analyzer
from elacsym.query.ast import TextLeg
from elacsym.query.columns import Bools
from elacsym.query.matching import Matches, live_rows
from elacsym.query.ranking import Beside, Floats, PartRows, Ranking, ranked
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import FullText

# terms whose places and statistics a snapshot remembers, for each field
TERMS_REMEMBERED = 512
# neighbouring parts of up to so many rows together are searched as one: every part has a fixed cost
RUN_ROWS_MAX = 2**18


@dataclass(frozen=True, slots=True)
class _Known:
    """A term of a field. terms: by part, None where no row has it; live: the live rows that have it."""

    terms: tuple[Term | None, ...]
    live: int


@dataclass(slots=True)
class _Memory:
    """What a snapshot remembers of a field; nothing that would hold a file open. lengths: by run of several
    parts, their lengths joined."""

    settings: FullText
    analyzer: Analyzer
    scoring: FieldScoring | None = None
    known: dict[str, _Known] = field(default_factory=dict)
    lengths: dict[range, Unsigned] = field(default_factory=dict)


@dataclass(slots=True)
class _Field:
    """One field of a leg. indexes: by part, None where no row lives; terms: the query's, and how often it has
    each; known, scoring: filled in by `_look_up`, known with what live rows have, sorted by term."""

    memory: _Memory
    weight: float
    indexes: Sequence[TextIndex | None]
    terms: Counter[str]
    known: dict[str, _Known] = field(default_factory=dict)
    scoring: FieldScoring | None = None


def relevant(
    snapshot: SearchSnapshot, leg: TextLeg, matches: Matches, depth: int, beside: Beside | None = None
) -> Steps[Ranking]:
    """The `depth` rows among `matches` of highest BM25, if above 0."""
    fields = yield from together([_opened(snapshot, leg.query, *one) for one in leg.fields])
    yield from together([_look_up(snapshot, one, matches) for one in fields])
    best, scored = Best(depth), 0
    found: list[PartRows] = []
    for run in _runs(snapshot):
        matched = sum(matches.counts[run.start : run.stop])
        lists = [_term_lists(snapshot, one, run, matches) for one in fields] if matched else []
        flat = [one for of_field in lists for one in of_field]
        if not flat:
            continue
        search = Search(flat, _mask(snapshot, matches, run, matched), matched, best)
        rows = search.candidates()
        scored += search.scored
        found += _by_part(snapshot, run, rows, exact(lists, rows).astype(np.float32))
    figures = {
        "index": "postings",
        "terms": sorted({term for one in fields for term in one.known}),
        "postings": sum(known.live for one in fields for known in one.known.values()),
        "rows_scored": scored,
    }
    return (yield from ranked(snapshot, found, depth, ascending=False, figures=figures, beside=beside))


def _opened(snapshot: SearchSnapshot, query: str, name: str, weight: float) -> Steps[_Field]:
    memories: dict[str, _Memory] = snapshot.memo.setdefault("text", {})
    memory = memories.get(name)
    if memory is None:
        settings = snapshot.schema.attributes[name].full_text
        assert settings is not None, name
        memory = memories[name] = _Memory(settings, analyzer(settings))
    live = live_rows(snapshot).counts
    indexes = yield from together(
        [
            view.part.text(name) if rows else done(None)
            for view, rows in zip(snapshot.parts, live, strict=True)
        ]
    )
    return _Field(memory, weight, indexes, Counter(memory.analyzer.tokens(query)))


def _look_up(snapshot: SearchSnapshot, one: _Field, matches: Matches) -> Steps[None]:
    """Have at hand what the field's terms take, and know their statistics."""
    memory, live = one.memory, live_rows(snapshot).counts
    indexes = [index for index in one.indexes if index is not None]
    found = {term: known for term in one.terms if (known := memory.known.get(term)) is not None}
    unknown = [term for term in one.terms if term not in found]
    if unknown or memory.scoring is None or not all(index.is_whole for index in indexes):
        terms = sorted(one.terms)
        absent: list[Term | None] = [None] * len(terms)
        entries = yield from together(
            [done(absent) if index is None else index.find(terms) for index in one.indexes]
        )
        yield from together(
            [
                index.bring([entry for entry in of_part if entry is not None])
                # deleted rows are counted in postings
                for view, index, of_part, rows, matched in zip(
                    snapshot.parts, one.indexes, entries, live, matches.counts, strict=True
                )
                if index is not None and (matched or rows < view.part.rows)
            ]
        )
        if memory.scoring is None:
            memory.scoring = _scoring(snapshot, memory.settings, one.indexes)
        for term, of_term in zip(terms, zip(*entries, strict=True), strict=True):
            if term in unknown:
                found[term] = _Known(of_term, _live(snapshot, one.indexes, of_term))
        if len(memory.known) + len(found) > TERMS_REMEMBERED:
            memory.known.clear()
        memory.known |= found
    one.scoring = memory.scoring
    # a term that no live row has may still be in deleted rows, which are not worth scoring
    one.known = {term: known for term, known in sorted(found.items()) if known.live}


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
            total += term.count if rows == view.part.rows else index.postings(term).live(view.alive)
    return total


def _runs(snapshot: SearchSnapshot) -> list[range]:
    """The parts, in order, in runs that are searched as one."""
    runs, start, rows = [], 0, 0
    for number, view in enumerate(snapshot.parts):
        if rows and rows + view.part.rows > RUN_ROWS_MAX:
            runs.append(range(start, number))
            start, rows = number, 0
        rows += view.part.rows
    return [*runs, range(start, len(snapshot.parts))]


def _mask(snapshot: SearchSnapshot, matches: Matches, run: range, matched: int) -> Bools | None:
    """(rows,) which rows of a run may be answered; None: all."""
    if matched == sum(snapshot.parts[part].part.rows for part in run):
        return None
    return matches.masks[run.start] if len(run) == 1 else np.concatenate(matches.masks[run.start : run.stop])


def _lengths(snapshot: SearchSnapshot, one: _Field, run: range) -> Unsigned:
    """(rows,) the lengths of a run's rows."""
    first = one.indexes[run.start]
    if len(run) == 1 and first is not None:
        return first.lengths
    lengths = one.memory.lengths.get(run)
    if lengths is None:
        indexes = zip(snapshot.parts[run.start : run.stop], one.indexes[run.start : run.stop], strict=True)
        lengths = one.memory.lengths[run] = np.concatenate(
            [np.zeros(v.part.rows, np.uint8) if index is None else index.lengths for v, index in indexes]
        )
    return lengths


def _term_lists(snapshot: SearchSnapshot, one: _Field, run: range, matches: Matches) -> list[TermList]:
    """The lists of a field's terms over a run, in the order of the terms."""
    lists = []
    scoring = one.scoring
    assert scoring is not None, "looked up"
    of_field = FieldRows(scoring, _lengths(snapshot, one, run), one.weight) if one.known else None
    sizes = [snapshot.parts[part].part.rows for part in run]
    for term, known in one.known.items():
        postings = [
            index.postings(entry)
            if index is not None and entry is not None and matches.counts[part]
            else None
            for part, index, entry in ((part, one.indexes[part], known.terms[part]) for part in run)
        ]
        if of_field is not None and any(part is not None for part in postings):
            most = max(
                entry.frequency_max for entry in known.terms[run.start : run.stop] if entry is not None
            )
            weight = scoring.weight(known.live, one.terms[term])
            lists.append(TermList(of_field, joined(postings, sizes), weight, most))
    return lists


def _by_part(
    snapshot: SearchSnapshot, run: range, rows: npt.NDArray[np.intp], scores: Floats
) -> list[PartRows]:
    """Rows of a run, ascending, as rows of its parts; those whose score is 0 left out."""
    rows, scores = rows[scores > 0], scores[scores > 0]
    starts = [0, *accumulate(snapshot.parts[part].part.rows for part in run)]
    edges = np.searchsorted(rows, starts).tolist()
    return [
        (part, scores[first:stop], rows[first:stop] - start)
        for part, start, (first, stop) in zip(run, starts, pairwise(edges), strict=False)
        if first < stop
    ]
