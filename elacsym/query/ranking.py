"""What a leg of a ranked query finds: its best rows over all parts, ties by id.

Scores are float32 when they are compared. Every part gives its best `depth` rows and all that tie with the
last of them, so the merge sees every candidate that can reach the answer and the result does not depend on
how rows are spread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps, together
from elacsym.query.columns import Ints
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import DocumentId

Floats = npt.NDArray[np.float32]

# a part's candidates: its number in the snapshot, scores (n,) float32, rows (n,) int64
PartRows = tuple[int, Floats, Ints]
# what else to bring for rows that may be in the answer, in the round that brings their ids
Beside = Callable[[int, Ints], Steps[Any]]


@dataclass(frozen=True, slots=True)
class Ranking:
    """A leg's candidates, best first: scores (n,) float32, and for each its id, part number and row there.

    figures: what happened, for `explain`, JSON-ready.
    """

    scores: Floats
    ids: tuple[DocumentId, ...]
    places: tuple[tuple[int, int], ...]
    figures: Mapping[str, Any] = field(default_factory=dict)


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
    figures: Mapping[str, Any],
    beside: Beside | None = None,
) -> Steps[Ranking]:
    """The best `depth` of what the parts found, ties by id."""
    scores = np.concatenate([np.empty(0, np.float32), *(s for _, s, _ in found)])
    scores, flat = cut(scores, np.arange(len(scores), dtype=np.int64), depth, ascending=ascending)
    chosen: list[tuple[int, Ints]] = []
    start = 0
    for number, part_scores, rows in found:
        inside = flat[(flat >= start) & (flat < start + len(part_scores))] - start
        if len(inside):
            chosen.append((number, rows[inside]))
        start += len(part_scores)
    fetching: list[Steps[Any]] = [_ids(snapshot, number, rows) for number, rows in chosen]
    if beside is not None:
        fetching += [beside(number, rows) for number, rows in chosen]
    fetched = yield from together(fetching)
    places = [(number, row) for number, rows in chosen for row in rows.tolist()]
    ids = [document for part_ids in fetched[: len(chosen)] for document in part_ids]
    keys = (scores if ascending else -scores).tolist()
    # ids differ, so the third element only travels along
    order = [index for _, _, index in sorted(zip(keys, ids, range(len(ids)), strict=True))[:depth]]
    return Ranking(scores[order], tuple(ids[i] for i in order), tuple(places[i] for i in order), figures)


def _ids(snapshot: SearchSnapshot, number: int, rows: Ints) -> Steps[list[DocumentId]]:
    column = yield from (yield from snapshot.parts[number].part.ids()).select(rows)
    return column.to_list()
