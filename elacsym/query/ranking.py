"""What a leg of a ranked query finds: its best rows over all parts, ties by id.

Scores are float32 when they are compared. Every part gives its best `depth` rows and all that tie with the
last of them, so the merge sees every candidate that can reach the answer and the result does not depend on
how rows are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    chosen = _cut_over_parts(found, depth, ascending=ascending)
    if sum(len(scores) for _, scores, _ in chosen) > depth + TIES_MAX:
        chosen = yield from _without_late_ties(snapshot, chosen, depth, ascending=ascending)
    scores = np.concatenate([np.empty(0, np.float32), *(s for _, s, _ in chosen)])
    fetching: list[Steps[Any]] = [_ids(snapshot, number, rows) for number, _, rows in chosen]
    if beside is not None:
        fetching += [beside(number, rows) for number, _, rows in chosen]
    fetched = yield from together(fetching)
    places = [(number, row) for number, _, rows in chosen for row in rows.tolist()]
    ids = [document for part_ids in fetched[: len(chosen)] for document in part_ids]
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
