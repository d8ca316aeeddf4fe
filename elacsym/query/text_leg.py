"""The best rows by weighted sums of BM25: exact over all parts, under statistics of all live rows.

A cold leg takes one round for dictionary blocks and lengths, and one for postings (`query.terms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps
from elacsym.index.bm25 import Best, Chosen, FieldRows, Search, TermList, exact, joined
from elacsym.index.text_build import Unsigned
from elacsym.query.ast import Bm25, TextLeg
from elacsym.query.matching import Matches, remembered
from elacsym.query.ranking import Beside, Figures, Floats, PartRows, Ranking, ranked
from elacsym.query.searchable import SearchSnapshot
from elacsym.query.terms import Clause, looked_up

# filters whose rows a snapshot remembers, by run of parts, and their bytes
MASKS_REMEMBERED = 32
MASK_BYTES_REMEMBERED = 2 * 2**20
# neighbouring parts of up to so many rows together are searched as one: every part has a fixed cost
RUN_ROWS_MAX = 2**18


def relevant(
    snapshot: SearchSnapshot, leg: TextLeg, matches: Matches, depth: int, beside: Beside | None = None
) -> Steps[Ranking]:
    """The `depth` rows among `matches` of highest BM25, if above 0."""
    found, figures = yield from relevant_rows(snapshot, leg, matches, depth)
    return (yield from ranked(snapshot, found, depth, ascending=False, figures=figures, beside=beside))


def relevant_rows(
    snapshot: SearchSnapshot, leg: TextLeg, matches: Matches, depth: int
) -> Steps[tuple[list[PartRows], Figures]]:
    """What `relevant` ranks: rows with their scores, the best `depth` and all that tie with the last of them
    among these, and what happened."""
    clauses = [(Bm25(name, leg.query), weight) for name, weight in leg.fields]
    return rows_by_texts(snapshot, clauses, matches, depth)


def best_by_texts(
    snapshot: SearchSnapshot,
    clauses: Sequence[tuple[Bm25, float]],
    matches: Matches,
    depth: int,
    beside: Beside | None = None,
) -> Steps[Ranking]:
    """The `depth` rows among `matches` of the highest sum of weight · BM25, if above 0. Weights are finite
    and >= 0; no clause looks for prefixes."""
    found, figures = yield from rows_by_texts(snapshot, clauses, matches, depth)
    return (yield from ranked(snapshot, found, depth, ascending=False, figures=figures, beside=beside))


def rows_by_texts(
    snapshot: SearchSnapshot, clauses: Sequence[tuple[Bm25, float]], matches: Matches, depth: int
) -> Steps[tuple[list[PartRows], Figures]]:
    """What `best_by_texts` ranks, see `relevant_rows`."""
    fields = yield from looked_up(snapshot, clauses, matches)
    best, scored = Best(depth), 0
    found: list[PartRows] = []
    for run in _runs(snapshot):
        is_matched = any(matches.counts[run.start : run.stop])
        lists = [term_lists(snapshot, one, run, matches) for one in fields] if is_matched else []
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

    return found, figures


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
    """The rows of a run that may be answered; None: all. Many are remembered for as long as the matches are
    likely to come again."""
    count, total = (
        sum(matches.counts[run.start : run.stop]),
        sum(snapshot.parts[part].part.rows for part in run),
    )
    if count == total:
        return None
    if Chosen.are_few(count, total):
        starts = accumulate((snapshot.parts[part].part.rows for part in run), initial=0)
        rows = [matches.rows(part) + start for part, start in zip(run, starts, strict=False)]
        return Chosen.listed(rows[0] if len(rows) == 1 else np.concatenate(rows), total)
    entries_max = max(1, min(MASKS_REMEMBERED, MASK_BYTES_REMEMBERED // total))

    def make() -> tuple[Matches, Chosen]:
        masks = matches.masks[run.start : run.stop]
        return matches, Chosen(masks[0] if len(run) == 1 else np.concatenate(masks), None)

    # what is remembered refers to the matches, so that no others have their identity
    return remembered(snapshot, "text_rows", (id(matches), run.start), entries_max, make)[1]


def _lengths(snapshot: SearchSnapshot, one: Clause, run: range) -> Unsigned:
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


def term_lists(snapshot: SearchSnapshot, one: Clause, run: range, matches: Matches) -> list[TermList]:
    """The lists of a clause's terms over a run, in the order of the terms."""
    lists: list[TermList] = []
    if not one.known:
        return lists
    scoring = one.scoring
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
