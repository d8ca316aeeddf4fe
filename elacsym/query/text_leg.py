"""The best rows by weighted sums of BM25: exact over all parts, under statistics of all live rows.

A cold leg takes one round for dictionary blocks and lengths, and one for postings (`query.terms`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from elacsym.format.reading import Steps, together
from elacsym.index.bm25 import Rows
from elacsym.index.maxscore import Best, Chosen, Search
from elacsym.query.ast import Bm25, TextLeg
from elacsym.query.matching import Matches, live_rows, remembered
from elacsym.query.ranking import Beside, Figures, Floats, PartRows, Ranking, ranked, ranked_each
from elacsym.query.remembered import Budget, Remembered
from elacsym.query.searchable import SearchSnapshot
from elacsym.query.terms import looked_up, term_lists

# what a snapshot remembers of the rows that filters leave in runs of parts
CHOSEN_BYTES_MAX = 2 * 2**20
_ENTRY_BYTES = 400
# neighbouring parts of up to so many rows together are searched as one: every part has a fixed cost
RUN_ROWS_MAX = 2**18


def relevant(
    snapshot: SearchSnapshot,
    legs: Sequence[TextLeg],
    matches: Sequence[Matches],
    depth: int,
    beside: Beside | None = None,
) -> Steps[list[Ranking]]:
    """For each leg the `depth` rows among its own `matches` of highest BM25, if above 0."""
    found = yield from together(
        [relevant_rows(snapshot, leg, own, depth) for leg, own in zip(legs, matches, strict=True)]
    )
    rows, figures = [rows for rows, _ in found], [figures for _, figures in found]
    return (yield from ranked_each(snapshot, rows, depth, ascending=False, figures=figures, beside=beside))


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
    runs = _runs(snapshot)
    fields = yield from looked_up(snapshot, clauses, matches, [run.parts for run in runs])
    best, scored = Best(depth), 0
    found: list[PartRows] = []
    for run in runs:
        if any(matches.counts[run.parts.start : run.parts.stop]):
            lists = [term_lists(snapshot, one, run.parts, matches) for one in fields]
            search = Search(lists, _chosen(snapshot, matches, run), best)
            rows, scores = search.best_rows()
            scored += search.scored
            found += _by_part(run, rows, scores.astype(np.float32))

    def figures() -> dict[str, Any]:
        return {
            "index": "postings",
            "terms": sorted({term for one in fields for term in one.known}),
            "postings": sum(known.live for one in fields for known in one.known.values()),
            "rows_scored": scored,
        }

    return found, figures


class _Run(NamedTuple):
    """Neighbouring parts that are searched as one. starts: where the rows of each begin, and the end;
    edges: the same as an array."""

    parts: range
    starts: list[int]
    edges: Rows

    @property
    def rows(self) -> int:
        """Rows of all parts."""
        return self.starts[-1]


def _runs(snapshot: SearchSnapshot) -> list[_Run]:
    """The parts, in order, in runs; remembered."""
    return remembered(snapshot, "text_runs", RUN_ROWS_MAX, 1, lambda: _cut_into_runs(snapshot))


def _cut_into_runs(snapshot: SearchSnapshot) -> list[_Run]:
    sizes = [view.part.rows for view in snapshot.parts]
    ranges, start, rows = [], 0, 0
    for number, size in enumerate(sizes):
        if rows and rows + size > RUN_ROWS_MAX:
            ranges.append(range(start, number))
            start, rows = number, 0
        rows += size
    ranges.append(range(start, len(sizes)))
    starts = [[0, *accumulate(sizes[parts.start : parts.stop])] for parts in ranges]
    return [_Run(parts, edges, np.array(edges, np.intp)) for parts, edges in zip(ranges, starts, strict=True)]


def _chosen(snapshot: SearchSnapshot, matches: Matches, run: _Run) -> Chosen | None:
    """The rows of a run that may be answered; None: all. Many are remembered for as long as the matches are
    likely to come again."""
    parts, total = run.parts, run.rows
    count = sum(matches.counts[parts.start : parts.stop])
    if count == total:
        return None
    is_few = Chosen.are_few(count, total)

    def make() -> Any:
        found: Sequence[Any] = (
            [matches.rows(part) + start for part, start in zip(parts, run.starts, strict=False)]
            if is_few
            else matches.masks[parts.start : parts.stop]
        )
        return found[0] if len(found) == 1 else np.concatenate(found)

    chosen = _chosen_before(snapshot, matches, parts.start, make)
    if is_few:
        return Chosen.listed(chosen, total)
    return Chosen(chosen, None, total, is_all=matches is live_rows(snapshot))


def _chosen_before(snapshot: SearchSnapshot, matches: Matches, start: int, make: Callable[[], Any]) -> Any:
    """What was made of these matches over the run that begins at part `start`; remembered, within bytes."""
    kept: Remembered[tuple[Matches, Any]] | None = snapshot.memo.get("text_rows")
    if kept is None:
        kept = snapshot.memo.setdefault("text_rows", Remembered(Budget(CHOSEN_BYTES_MAX)))
    # what is remembered refers to the matches, so that no others have their identity
    found = kept.get((id(matches), start))
    if found is None:
        found = (matches, make())
        kept.put((id(matches), start), found, _ENTRY_BYTES + found[1].nbytes)
    return found[1]


def _by_part(run: _Run, rows: Rows, scores: Floats) -> list[PartRows]:
    """Rows of a run, ascending, as rows of its parts."""
    if len(run.parts) == 1:
        return [(run.parts.start, scores, rows)]
    edges = rows.searchsorted(run.edges).tolist()
    return [
        (part, scores[first:stop], rows[first:stop] - start)
        for part, start, (first, stop) in zip(run.parts, run.starts, pairwise(edges), strict=False)
        if first < stop
    ]
