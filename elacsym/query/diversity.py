"""Diversity: of the rows that share values only the first few of a ranking.

The ranking is walked from its beginning. It is looked at ever deeper until enough rows are kept or it is at
its end, so the answer is that of the whole ranking.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from elacsym.format.reading import Steps, together
from elacsym.query.ast import Per, Query, VectorLeg
from elacsym.query.columns import Ints, values_in
from elacsym.query.hits import Found, by_part
from elacsym.query.plan import rows_wanted
from elacsym.query.ranking import Ranking
from elacsym.query.searchable import Part, SearchSnapshot

# how much deeper the first look goes than the answer, and each further one than the one before
_DEEPER = 8


class First(Protocol):
    """Gives the first `depth` rows of a ranking, and what its legs found. exact: not only as far as an index
    chooses to look."""

    def __call__(self, depth: int, *, exact: bool) -> Steps[tuple[list[Found], list[Ranking]]]:
        """See the class."""
        ...


def diversified(
    snapshot: SearchSnapshot, query: Query, rows_total: int, first: First
) -> Steps[tuple[list[Found], list[Ranking]]]:
    """The first rows of a ranking that `query.per` keeps, and what the legs found at last.

    rows_total: no ranking is longer.
    """
    assert query.per is not None, "a query with diversity"
    wanted = depth = rows_wanted(query)
    # an index may end before the ranking does
    is_exact = query.exact or not any(isinstance(leg, VectorLeg) for leg in query.legs)
    while True:
        depth = min(_DEEPER * depth, max(1, rows_total))
        found, rankings = yield from first(depth, exact=is_exact)
        kept = _kept(found, (yield from _keys(snapshot, query.per, found)), query.per.limit)
        is_whole = len(found) >= rows_total or (is_exact and len(found) < depth)
        if len(kept) >= wanted or is_whole:
            return kept[:wanted], rankings
        is_exact = True


def _kept(found: Sequence[Found], keys: Sequence[Hashable], limit: int) -> list[Found]:
    counts: dict[Hashable, int] = {}
    kept = []
    for row, key in zip(found, keys, strict=True):
        count = counts[key] = counts.get(key, 0) + 1
        if count <= limit:
            kept.append(row)
    return kept


def _keys(snapshot: SearchSnapshot, per: Per, found: Sequence[Found]) -> Steps[list[Hashable]]:
    """The values that make rows alike, of each row."""
    places = by_part(found)
    columns = yield from together(
        [
            _values(snapshot.parts[number].part, name, np.array([found[i].row for i in indices]))
            for number, indices in places.items()
            for name in per.attributes
        ]
    )
    keys: list[Hashable] = [None] * len(found)
    width = len(per.attributes)
    for place, indices in enumerate(places.values()):
        of_part = zip(*columns[place * width : (place + 1) * width], strict=True)
        for index, key in zip(indices, of_part, strict=True):
            keys[index] = key
    return keys


def _values(part: Part, name: str, rows: Ints) -> Steps[list[Hashable]]:
    values: list[Any] = yield from (yield from values_in(part, name)).values(rows)
    return [tuple(value) if isinstance(value, list) else value for value in values]
