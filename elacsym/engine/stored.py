"""Stored documents as columns: what patches keep, and what conditions are tested against.

Values stay Arrow values on the way, so that what is written again is exactly what was stored.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.engine.memtable import Chunk
from elacsym.format.reading import Steps, resident, together
from elacsym.index.columns import arrow_type, fitted
from elacsym.index.ids import IdColumn, MemoryIds
from elacsym.index.sizes import width_bytes
from elacsym.query.columns import Bools, Ints
from elacsym.query.hits import placed
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.types import Attribute, Schema


@dataclass(frozen=True, slots=True)
class Stored:
    """Documents with distinct ids. arrays: one per attribute that was asked for, in the order of `ids`."""

    ids: IdColumn
    arrays: dict[str, pa.Array]
    _rows: MemoryIds = field(repr=False)

    @classmethod
    def of(cls, ids: IdColumn, arrays: dict[str, pa.Array]) -> Stored:
        """These documents."""
        return cls(ids, arrays, MemoryIds(ids))

    @classmethod
    def none(cls, schema: Schema) -> Stored:
        """No documents."""
        return cls.of(IdColumn.of(schema.id_type or "uint", []), {})

    def __len__(self) -> int:
        """Documents."""
        return len(self.ids)

    def rows_of(self, ids: IdColumn) -> Ints:
        """(n,) int64: the row of each id, -1 where it is not stored."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        return resident(self._rows.rows_of(ids))

    def under(self, before: Schema, after: Schema) -> Stored:
        """The documents as a later schema sees them: without attributes that were dropped in between."""
        arrays = {
            name: fitted(array, attribute.type)
            for name, attribute in after.attributes.items()
            if (array := self.arrays.get(name)) is not None
            and before.attributes[name].stored_as == attribute.stored_as
        }
        return Stored(self.ids, arrays, self._rows)

    def column(self, name: str, schema: Schema) -> pa.Array:
        """An attribute of the schema, null where it was not asked for or not stored."""
        array = self.arrays.get(name)
        return pa.nulls(len(self), arrow_type(schema.attributes[name].type)) if array is None else array

    def chunk(self, rows: Ints, names: Collection[str], schema: Schema) -> Chunk:
        """Some rows as a part that filters look at; `names` are the attributes they look at."""
        places = pa.array(rows)
        arrays = {schema.stored(n): self.column(n, schema).take(places) for n in names}
        versions = np.zeros(len(rows), np.uint64)
        return Chunk(self.ids.select(rows), versions, arrays, schema)


def stored(snapshot: SearchSnapshot, ids: IdColumn, names: Sequence[str]) -> Steps[Stored]:
    """The documents of these distinct ids that exist, in the order of the ids, with the named attributes.

    Two rounds where nothing is at hand, whatever the number of parts and attributes, after those that open
    them.
    """
    chosen = yield from _placed(snapshot, ids)
    if not chosen:
        return Stored.none(snapshot.schema)
    order = np.concatenate([places for _, _, places in chosen])
    turned = np.argsort(order)
    attributes = snapshot.schema.attributes
    values = yield from together(
        [_values(part, name, attributes[name], rows) for name in names for part, rows, _ in chosen]
    )
    arrays = {
        name: pa.concat_arrays(values[start : start + len(chosen)]).take(pa.array(turned))
        for name, start in zip(names, range(0, len(values), len(chosen)), strict=True)
    }
    return Stored.of(ids.select(order[turned]), arrays)


def stored_bytes(snapshot: SearchSnapshot, ids: IdColumn) -> Steps[Ints]:
    """(n,) int64: about how many bytes the documents of these distinct ids are, 0 for absent ones. Their
    values are not read: a null of fixed width counts as a value does."""
    total = np.zeros(len(ids), np.int64)
    chosen = yield from _placed(snapshot, ids)
    pieces = [
        (_sizes(part, name, attribute, rows), places)
        for name, attribute in snapshot.schema.attributes.items()
        for part, rows, places in chosen
    ]
    found = yield from together([steps for steps, _ in pieces])
    for sizes, (_, places) in zip(found, pieces, strict=True):
        total[places] += sizes
    return total


def _placed(snapshot: SearchSnapshot, ids: IdColumn) -> Steps[list[tuple[Part, Ints, Ints]]]:
    """The parts that have some of these documents: the part, their rows in it, and their places among the
    ids."""
    if not len(ids):
        return []
    return [(snapshot.parts[n].part, rows, places) for n, rows, places in (yield from placed(snapshot, ids))]


def _sizes(part: Part, name: str, attribute: Attribute, rows: Ints) -> Steps[Ints]:
    if not attribute.type.is_vector:
        return (yield from (yield from part.attribute(name)).sizes(rows))
    has_any = len((yield from part.vectors(name))) > 0
    return np.full(len(rows), width_bytes(arrow_type(attribute.type)) if has_any else 0, np.int64)


def _values(part: Part, name: str, attribute: Attribute, rows: Ints) -> Steps[pa.Array]:
    if not attribute.type.is_vector:
        return fitted((yield from (yield from part.attribute(name)).select(rows)), attribute.type)
    matrix, is_present = yield from (yield from part.vectors(name)).select(rows)
    if not is_present.any():
        return pa.nulls(len(rows), arrow_type(attribute.type))
    flat = pa.array(matrix.reshape(-1))
    mask = None if is_present.all() else pa.array(~is_present)
    return pa.FixedSizeListArray.from_arrays(flat, attribute.type.dimensions, mask=mask)


def replaced(column: pa.Array, rows: Ints, values: pa.Array) -> pa.Array:
    """`column` with values[i] in the place of row rows[i]."""
    order = np.arange(len(column))
    order[rows] = len(column) + np.arange(len(rows))
    return pa.concat_arrays([column, values]).take(pa.array(order))


def is_among(ids: IdColumn, others: IdColumn) -> Bools:
    """(n,) bool: which ids are among others of the same type."""
    found: Any = pc.is_in(ids.to_arrow(), value_set=others.to_arrow())
    mask: Bools = found.to_numpy(zero_copy_only=False)
    return mask
