"""The rows of an answer: attribute values of exactly the hits, and documents by id."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa

from elacsym.compute import Compute
from elacsym.index.ids import IdColumn
from elacsym.query.ast import Hit, LegShare
from elacsym.query.searchable import Needs, Part, SearchSnapshot
from elacsym.query.validate import check_ids, check_names
from elacsym.types import DocumentId, Schema


@dataclass(frozen=True, slots=True)
class Found:
    """A row of the answer whose attributes have not been read yet."""

    part: int
    row: int
    id: DocumentId
    score: float | None = None
    cursor: str | None = None
    shares: tuple[LegShare, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """Which attributes hits show: names of columns and of vectors."""

    columns: tuple[str, ...]
    vectors: tuple[str, ...]

    @property
    def needs(self) -> Needs:
        """What a part with hits must have prepared."""
        return Needs(frozenset(self.columns), frozenset(self.vectors))


def shown(schema: Schema, include_attributes: Sequence[str] | None, *, include_vector: bool) -> Shown:
    """The attributes asked for: all but vectors when no names are given; vectors when named or wanted in
    general."""
    vectors = schema.vectors()
    names = [name for name in schema.attributes if include_attributes is None or name in include_attributes]
    return Shown(
        tuple(name for name in names if name not in vectors),
        tuple(name for name in vectors if include_vector or name in (include_attributes or ())),
    )


async def prepare(snapshot: SearchSnapshot, needs: Sequence[Needs | None]) -> None:
    """Prepare the parts, all at the same time; None leaves a part alone."""
    waiting = [
        view.part.prepare(wanted)
        for view, wanted in zip(snapshot.parts, needs, strict=True)
        if wanted is not None
    ]
    if len(waiting) == 1:
        await waiting[0]
    elif waiting:
        await asyncio.gather(*waiting)


async def prepare_rows(snapshot: SearchSnapshot, found: Sequence[Found], wanted: Shown) -> None:
    """Prepare what showing rows takes, in the parts that have them."""
    parts = {row.part for row in found}
    if wanted.columns or wanted.vectors:
        await prepare(snapshot, [wanted.needs if i in parts else None for i in range(len(snapshot.parts))])


def read(snapshot: SearchSnapshot, found: Sequence[Found], wanted: Shown) -> list[Hit]:
    """The hits in the order of `found`: plain Python values, arrays as lists, vectors as (d,) float32; null
    is left out."""
    attributes: list[dict[str, Any]] = [{} for _ in found]
    by_part: dict[int, list[int]] = {}
    for index, row in enumerate(found):
        by_part.setdefault(row.part, []).append(index)
    for number, indices in by_part.items():
        part = snapshot.parts[number].part
        rows = np.array([found[i].row for i in indices], np.int64)
        for name in wanted.columns:
            for index, value in zip(indices, part.column(name).take(pa.array(rows)).to_pylist(), strict=True):
                if value is not None:
                    attributes[index][name] = value
        for name in wanted.vectors:
            _read_vectors(part, name, rows, indices, attributes)
    return [
        Hit(row.id, row.score, values, row.cursor, row.shares)
        for row, values in zip(found, attributes, strict=True)
    ]


def _read_vectors(
    part: Part,
    name: str,
    rows: np.ndarray[Any, np.dtype[np.int64]],
    indices: Sequence[int],
    attributes: list[dict[str, Any]],
) -> None:
    column = part.vectors(name)
    if len(column.rows) == 0:
        return
    places = np.minimum(np.searchsorted(column.rows, rows), len(column.rows) - 1)
    has_vector = column.rows[places] == rows
    for index, place, is_there in zip(indices, places.tolist(), has_vector.tolist(), strict=True):
        if is_there:
            attributes[index][name] = column.matrix[
                place
            ].copy()  # the map it is in may go before the answer does


async def documents(
    snapshot: SearchSnapshot,
    ids: Sequence[DocumentId],
    compute: Compute,
    *,
    include_vector: bool = False,
    include_attributes: Sequence[str] | None = None,
) -> list[Hit | None]:
    """The documents of the ids, in their order, None where there is none. Raises InvalidRequest for an id of
    another type or an unknown attribute."""
    check_ids(ids, snapshot.schema)
    check_names(include_attributes, snapshot.schema)
    if snapshot.schema.id_type is None or not ids:
        return [None] * len(ids)
    await prepare(snapshot, [Needs() if view.rows_live else None for view in snapshot.parts])
    # checked above: all ids are of the namespace's type
    column = IdColumn.of(snapshot.schema.id_type, cast("Sequence[int] | Sequence[str]", ids))
    found = await compute.run(_look_up, snapshot, column, ids)
    wanted = shown(snapshot.schema, include_attributes, include_vector=include_vector)
    rows = [row for row in found if row is not None]
    await prepare_rows(snapshot, rows, wanted)
    hits = iter(await compute.run(read, snapshot, rows, wanted))
    return [None if row is None else next(hits) for row in found]


def _look_up(snapshot: SearchSnapshot, wanted: IdColumn, ids: Sequence[DocumentId]) -> list[Found | None]:
    found: list[Found | None] = [None] * len(ids)
    for number, view in enumerate(snapshot.parts):
        if not view.rows_live:
            continue
        rows = view.part.rows_of(wanted)
        for index in np.flatnonzero(rows >= 0).tolist():
            if view.alive[rows[index]]:
                found[index] = Found(number, int(rows[index]), ids[index])
    return found
