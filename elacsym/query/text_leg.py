"""The text leg of a ranked query: exact BM25 over all parts, under statistics of all live rows.

A cold leg takes one round for dictionary blocks and lengths, and one for postings, of all parts and fields
together. What does not depend on the query's terms, and what was learnt about terms, stays with the snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps, done, together
from elacsym.index.bm25 import Best, Chosen, FieldRows, FieldScoring, Search, TermList, exact, joined
from elacsym.index.text import Term, TextIndex
from elacsym.index.text_build import Unsigned
from elacsym.index.tokenize import Analyzer, analyzer
from elacsym.query.ast import TextLeg
from elacsym.query.matching import Matches, live_rows, remembered
from elacsym.query.ranking import Beside, Floats, PartRows, Ranking, ranked
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import FullText

# terms whose places and statistics a snapshot remembers, for each field
TERMS_REMEMBERED = 512
# filters whose rows a snapshot remembers, by run of parts, and their bytes
MASKS_REMEMBERED = 32
MASK_BYTES_REMEMBERED = 2 * 2**20
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
    """One field of a leg. indexes: by part, None where no row lives; terms: the query's, sorted, with their
    counts; known: those that are remembered, and after `_know` those that live rows have, sorted."""

    memory: _Memory
    weight: float
    indexes: Sequence[TextIndex | None]
    terms: dict[str, int]
    known: dict[str, _Known]

    def unknown(self) -> list[str]:
        """The terms that nothing is known of."""
        return [term for term in self.terms if term not in self.known]


def relevant(
    snapshot: SearchSnapshot, leg: TextLeg, matches: Matches, depth: int, beside: Beside | None = None
) -> Steps[Ranking]:
    """The `depth` rows among `matches` of highest BM25, if above 0."""
    fields = yield from _opened(snapshot, leg)
    yield from _at_hand(snapshot, fields, matches)
    for one in fields:
        _know(snapshot, one)
    best, scored = Best(depth), 0
    found: list[PartRows] = []
    for run in _runs(snapshot):
        is_matched = any(matches.counts[run.start : run.stop])
        lists = [_term_lists(snapshot, one, run, matches) for one in fields] if is_matched else []
        flat = [one for of_field in lists for one in of_field]
        if not flat:
            continue
        search = Search(flat, _chosen(snapshot, matches, run), best)
        rows = search.candidates()
        scored += search.scored
        found += _by_part(snapshot, run, rows, exact(lists, rows).astype(np.float32))

    def figures() -> dict[str, Any]:
        return {
            "index": "postings",
            "terms": sorted({term for one in fields for term in one.known}),
            "postings": sum(known.live for one in fields for known in one.known.values()),
            "rows_scored": scored,
        }

    return (yield from ranked(snapshot, found, depth, ascending=False, figures=figures, beside=beside))


def _opened(snapshot: SearchSnapshot, leg: TextLeg) -> Steps[list[_Field]]:
    """The fields of a leg, their indexes open."""
    live = live_rows(snapshot).counts
    openings = [
        view.part.text(name) if rows else done(None)
        for name, _ in leg.fields
        for view, rows in zip(snapshot.parts, live, strict=True)
    ]
    indexes = yield from together(openings)
    memories: dict[str, _Memory] = snapshot.memo.setdefault("text", {})
    fields = []
    for number, (name, weight) in enumerate(leg.fields):
        memory = memories.get(name)
        if memory is None:
            settings = snapshot.schema.attributes[name].full_text
            assert settings is not None, name
            memory = memories[name] = _Memory(settings, analyzer(settings))
        terms: dict[str, int] = {}
        for term in memory.analyzer.tokens(leg.query):
            terms[term] = terms.get(term, 0) + 1
        of_field = indexes[number * len(live) : (number + 1) * len(live)]
        found = {term: known for term in terms if (known := memory.known.get(term)) is not None}
        fields.append(_Field(memory, weight, of_field, dict(sorted(terms.items())), found))
    return fields


def _at_hand(snapshot: SearchSnapshot, fields: Sequence[_Field], matches: Matches) -> Steps[None]:
    """Have at hand what scoring takes: one round for dictionaries and lengths, one for postings."""
    cold = [
        (one, part, index)
        for one in fields
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


def _know(snapshot: SearchSnapshot, one: _Field) -> None:
    """Complete what is known of the field and its terms, and remember it."""
    memory = one.memory
    if memory.scoring is None:
        memory.scoring = _scoring(snapshot, memory.settings, one.indexes)
    unknown = one.unknown()
    if unknown:
        if len(memory.known) + len(unknown) > TERMS_REMEMBERED:
            memory.known.clear()
        for term in unknown:
            entries = tuple([None if index is None else index.term(term) for index in one.indexes])
            memory.known[term] = one.known[term] = _Known(entries, _live(snapshot, one.indexes, entries))
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


def _runs(snapshot: SearchSnapshot) -> list[range]:
    """The parts, in order, in runs that are searched as one."""
    runs, start, rows = [], 0, 0
    for number, view in enumerate(snapshot.parts):
        if rows and rows + view.part.rows > RUN_ROWS_MAX:
            runs.append(range(start, number))
            start, rows = number, 0
        rows += view.part.rows
    return [*runs, range(start, len(snapshot.parts))]


def _chosen(snapshot: SearchSnapshot, matches: Matches, run: range) -> Chosen | None:
    """The rows of a run that may be answered; None: all. Remembered for as long as the matches are likely to
    come again."""
    count, rows = (
        sum(matches.counts[run.start : run.stop]),
        sum(snapshot.parts[part].part.rows for part in run),
    )
    if count == rows:
        return None
    entries_max = max(1, min(MASKS_REMEMBERED, MASK_BYTES_REMEMBERED // rows))

    def make() -> tuple[Matches, Chosen]:
        masks = matches.masks[run.start : run.stop]
        return matches, Chosen.of(masks[0] if len(run) == 1 else np.concatenate(masks), count)

    # what is remembered refers to the matches, so that no others have their identity
    return remembered(snapshot, "text_rows", (id(matches), run.start), entries_max, make)[1]


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
    lists: list[TermList] = []
    scoring = one.memory.scoring
    if scoring is None or not one.known:
        return lists
    of_field = FieldRows(scoring, _lengths(snapshot, one, run), one.weight)
    sizes = [snapshot.parts[part].part.rows for part in run]
    for term, known in one.known.items():
        entries = known.terms[run.start : run.stop]
        postings = [
            index.postings(entry)
            if index is not None and entry is not None and matches.counts[part]
            else None
            for part, index, entry in zip(run, one.indexes[run.start : run.stop], entries, strict=True)
        ]
        if any(part is not None for part in postings):
            most = max(entry.frequency_max for entry in entries if entry is not None)
            weight = scoring.weight(known.live, one.terms[term])
            lists.append(TermList(of_field, joined(postings, sizes), weight, most))
    return lists


def _by_part(
    snapshot: SearchSnapshot, run: range, rows: npt.NDArray[np.intp], scores: Floats
) -> list[PartRows]:
    """Rows of a run, ascending, as rows of its parts; those whose score is 0 left out."""
    if not scores.all():
        rows, scores = rows[scores > 0], scores[scores > 0]
    if len(run) == 1:
        return [(run.start, scores, rows)]
    starts = [0, *accumulate(snapshot.parts[part].part.rows for part in run)]
    edges = np.searchsorted(rows, starts).tolist()
    return [
        (part, scores[first:stop], rows[first:stop] - start)
        for part, start, (first, stop) in zip(run, starts, pairwise(edges), strict=False)
        if first < stop
    ]
