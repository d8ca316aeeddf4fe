"""The rows of an answer: attribute values of exactly the hits, and documents by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from elacsym.format.reading import Steps, together
from elacsym.index.ids import IdColumn
from elacsym.query.ast import Hit, LegShare
from elacsym.query.columns import Ints
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.query.shown import Shown, shown
from elacsym.query.validate import check_names, checked_ids
from elacsym.types import DocumentId


class Found(NamedTuple):
    """A row of the answer whose attributes have not been read yet."""

    part: int
    row: int
    id: DocumentId
    score: float | None = None
    cursor: str | None = None
    shares: tuple[LegShare, ...] = ()


def read(snapshot: SearchSnapshot, found: Sequence[Found], wanted: Shown) -> Steps[list[Hit]]:
    """The hits in the order of `found`: plain Python values, arrays as lists, vectors as (d,) float32, sparse
    ones as dictionaries, arrays of them as (m, d) float32; null is left out."""
    attributes: list[dict[str, Any]] = [{} for _ in found]
    if wanted.columns or wanted.vectors:
        places = by_part(found)
        values = yield from together(
            [
                values_of(snapshot.parts[number].part, np.array([found[i].row for i in indices]), wanted)
                for number, indices in places.items()
            ]
        )
        for indices, rows in zip(places.values(), values, strict=True):
            for index, row_values in zip(indices, rows, strict=True):
                attributes[index] = row_values
    return [
        Hit(row.id, row.score, values_, row.cursor, row.shares)
        for row, values_ in zip(found, attributes, strict=True)
    ]


def by_part(found: Sequence[Found]) -> Mapping[int, Sequence[int]]:
    """The places of rows by their parts."""
    if len({row.part for row in found}) == 1:
        return {found[0].part: range(len(found))}
    places: dict[int, list[int]] = {}
    for index, row in enumerate(found):
        places.setdefault(row.part, []).append(index)
    return places


def values_of(part: Part, rows: Ints, wanted: Shown) -> Steps[list[dict[str, Any]]]:
    """The wanted attributes of these rows, in their order; nulls are left out."""
    names = (*wanted.columns, *wanted.vectors)
    columns = yield from together(
        [_column_values(part, name, rows) for name in wanted.columns]
        + [_vector_values(part, name, rows) for name in wanted.vectors]
    )
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in (zip(*columns, strict=True) if columns else [()] * len(rows))
    ]


def _column_values(part: Part, name: str, rows: Ints) -> Steps[list[Any]]:
    values: list[Any] = yield from (yield from part.attribute(name)).values(rows)
    return values


def _vector_values(part: Part, name: str, rows: Ints) -> Steps[list[Any]]:
    matrix, is_present = yield from (yield from part.vectors(name)).select(rows)
    # copies, because the map they are in may go before the answer does
    return [
        vector.astype(np.float32) if present else None
        for vector, present in zip(matrix, is_present.tolist(), strict=True)
    ]


def documents(
    snapshot: SearchSnapshot,
    ids: Sequence[DocumentId],
    *,
    include_vector: bool = False,
    include_attributes: Sequence[str] | None = None,
) -> Steps[list[Hit | None]]:
    """The documents of the ids, in their order, None where there is none. Raises InvalidRequest for an id of
    another type or an unknown attribute."""
    ids = checked_ids(ids, snapshot.schema)
    check_names(include_attributes, snapshot.schema)
    if snapshot.schema.id_type is None or not ids:
        return [None] * len(ids)
    wanted = shown(snapshot.schema, include_attributes, include_vector=include_vector)
    # checked above: all ids are of the namespace's type
    column = IdColumn.of(snapshot.schema.id_type, cast("Sequence[int] | Sequence[str]", ids))
    found = yield from _look_up(snapshot, column, ids)
    hits = iter((yield from read(snapshot, [row for row in found if row is not None], wanted)))
    return [None if row is None else next(hits) for row in found]


def _look_up(
    snapshot: SearchSnapshot, wanted: IdColumn, ids: Sequence[DocumentId]
) -> Steps[list[Found | None]]:
    found: list[Found | None] = [None] * len(ids)
    for number, rows, places in (yield from placed(snapshot, wanted)):
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            found[place] = Found(number, row, ids[place])
    return found


def placed(snapshot: SearchSnapshot, ids: IdColumn) -> Steps[list[tuple[int, Ints, Ints]]]:
    """The parts that have some of these documents alive: number, (n,) rows there, (n,) places in `ids`."""
    numbers = [number for number, view in enumerate(snapshot.parts) if view.alive.any()]
    # all of them first: keys of one part and the head of another in one round would make two rounds of keys
    opened = yield from together([snapshot.parts[number].part.ids() for number in numbers])
    in_parts = yield from together([part_ids.rows_of(ids) for part_ids in opened])
    found: list[tuple[int, Ints, Ints]] = []
    for number, rows in zip(numbers, in_parts, strict=True):
        places = np.flatnonzero(rows >= 0)
        places = places[snapshot.parts[number].alive[rows[places]]]
        if len(places):
            found.append((number, rows[places], places))
    return found
