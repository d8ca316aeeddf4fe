"""What a leg of a ranked query finds: its best rows over all parts, ties by id.

Scores are float32 when they are compared. Every part gives its best `depth` rows and all that tie with the
last of them, so the merge sees every candidate that can reach the answer and the result does not depend on
how rows are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from elacsym.format.reading import Steps, together
from elacsym.query.columns import Ints
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import DocumentId

Floats = npt.NDArray[np.float32]

# so many rows beyond the answer are sorted one by one; of more, ties are told apart by whole arrays of ids
TIES_MAX = 256

# a part's candidates: its number in the snapshot, scores (n,) float32, rows (n,) int64
PartRows = tuple[int, Floats, Ints]
# what else to bring for rows that may be in the answer, in the round that brings their ids
Beside = Callable[[int, Ints], Steps[Any]]
Figures = Callable[[], Mapping[str, Any]]


class Ranking(NamedTuple):
    """A leg's candidates, best first: scores (n,) float32, and for each its id, part number and row there.

    figures: gives what happened, JSON-ready, if somebody asks for an explanation.
    """

    scores: Floats
    ids: tuple[DocumentId, ...]
    places: tuple[tuple[int, int], ...]
    figures: Figures


def cut(scores: Floats, rows: Ints, depth: int, *, ascending: bool) -> tuple[Floats, Ints]:
    """The best `depth` rows and all that tie with the last of them, in any order."""
    if len(scores) <= depth:
        return scores, rows
    keys = scores if ascending else -scores
    keep = keys <= np.partition(keys, depth - 1)[depth - 1]
    return scores[keep], rows[keep]


def ranked(
    snapshot: SearchSnapshot,
    found: Sequence[PartRows],
    depth: int,
    *,
    ascending: bool,
    figures: Figures,
    beside: Beside | None = None,
) -> Steps[Ranking]:
    """The best `depth` of what the parts found, ties by id."""
    (ranking,) = yield from ranked_each(
        snapshot, [found], depth, ascending=ascending, figures=[figures], beside=beside
    )
    return ranking


def ranked_each(
    snapshot: SearchSnapshot,
    found: Sequence[Sequence[PartRows]],
    depth: int,
    *,
    ascending: bool,
    figures: Sequence[Figures],
    beside: Beside | None = None,
) -> Steps[list[Ranking]]:
    """`ranked` for each of several legs; ids and what is beside them are fetched together."""
    chosen = [_cut_over_parts(of_leg, depth, ascending=ascending) for of_leg in found]
    for number, of_leg in enumerate(chosen):
        if sum(len(scores) for _, scores, _ in of_leg) > depth + TIES_MAX:
            chosen[number] = yield from _without_late_ties(snapshot, of_leg, depth, ascending=ascending)
    by_part: dict[int, list[Ints]] = {}
    for of_leg in chosen:
        for number, _, rows in of_leg:
            by_part.setdefault(number, []).append(rows)
    all_rows = {
        number: rows[0] if len(rows) == 1 else np.concatenate(rows) for number, rows in by_part.items()
    }
    fetching: list[Steps[Any]] = [_ids(snapshot, number, rows) for number, rows in all_rows.items()]
    if beside is not None:
        fetching += [beside(number, rows) for number, rows in all_rows.items()]
    fetched = yield from together(fetching)
    # the ids of a part stand in the order of the legs
    ids_of = {number: iter(ids) for number, ids in zip(all_rows, fetched, strict=False)}
    return [
        _ordered(of_leg, ids_of, depth, figures_of_leg, ascending=ascending)
        for of_leg, figures_of_leg in zip(chosen, figures, strict=True)
    ]


def _ordered(
    chosen: Sequence[PartRows],
    ids_of: Mapping[int, Iterator[DocumentId]],
    depth: int,
    figures: Figures,
    *,
    ascending: bool,
) -> Ranking:
    """The best rows of one leg. ids_of: of each part, those of the leg's rows next."""
    scores = np.concatenate([np.empty(0, np.float32), *(s for _, s, _ in chosen)])
    places = [(number, row) for number, _, rows in chosen for row in rows.tolist()]
    ids = [document for number, _, rows in chosen for document in islice(ids_of[number], len(rows))]
    keys = (scores if ascending else -scores).tolist()
    # ids differ, so the third element only travels along
    order = [index for _, _, index in sorted(zip(keys, ids, range(len(ids)), strict=True))[:depth]]
    return Ranking(scores[order], tuple(ids[i] for i in order), tuple(places[i] for i in order), figures)


def _cut_over_parts(found: Sequence[PartRows], depth: int, *, ascending: bool) -> Sequence[PartRows]:
    """What of each part is among the best `depth` of all, or ties with the last of them."""
    if len(found) == 1:
        number, scores, rows = found[0]
        return [(number, *cut(scores, rows, depth, ascending=ascending))]
    if sum(len(scores) for _, scores, _ in found) <= depth:
        return found
    keys = np.concatenate([scores if ascending else -scores for _, scores, _ in found])
    limit = np.partition(keys, depth - 1)[depth - 1]
    keeps = [scores <= limit if ascending else -scores <= limit for _, scores, _ in found]
    return [
        (number, scores[keep], rows[keep])
        for (number, scores, rows), keep in zip(found, keeps, strict=True)
        if keep.any()
    ]


def _without_late_ties(
    snapshot: SearchSnapshot, chosen: Sequence[PartRows], depth: int, *, ascending: bool
) -> Steps[list[PartRows]]:
    """Of the rows that tie with the last of the best `depth`, those whose ids are the smallest of their part,
    as many as there may be in the answer. One round."""
    everything = np.concatenate([scores for _, scores, _ in chosen])
    last = everything.max() if ascending else everything.min()
    missing = depth - int(np.count_nonzero(everything != last))

    def of_part(number: int, scores: Floats, rows: Ints) -> Steps[PartRows]:
        is_tied = scores == last
        tied = np.flatnonzero(is_tied)
        if len(tied) > missing:
            ids = yield from (yield from snapshot.parts[number].part.ids()).select(rows[tied])
            first = pc.select_k_unstable(ids.to_arrow(), missing, [("", "ascending")]).to_numpy()
            kept = np.concatenate([np.flatnonzero(~is_tied), tied[first]])
            scores, rows = scores[kept], rows[kept]
        return number, scores, rows

    return (yield from together([of_part(*one) for one in chosen]))


def _ids(snapshot: SearchSnapshot, number: int, rows: Ints) -> Steps[list[DocumentId]]:
    return (yield from (yield from snapshot.parts[number].part.ids()).documents(rows))
