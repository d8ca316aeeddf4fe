"""Attributes of a part as arrays: what filters, orders and aggregations share.

`id` counts as an attribute everywhere here. Values order numerically, false before true, strings by UTF-8
bytes, UUIDs by their bytes; null is smaller than every value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from elacsym.format.reading import Steps, done
from elacsym.index.attribute import SortedValues, Values
from elacsym.index.ids import Ids
from elacsym.index.sizes import value_bytes
from elacsym.query.searchable import Part
from elacsym.types import ID, Attribute, AttributeType, Scalar, Schema

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class IdValues:
    """`Values` of the ids."""

    index: SortedValues | None = None

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def __len__(self) -> int:
        """See Values."""
        return len(self._ids)

    def column(self) -> Steps[Any]:
        """See Values."""
        return (yield from self._ids.column()).to_arrow()

    def select(self, rows: Ints) -> Steps[Any]:
        """See Values."""
        return (yield from self._ids.select(rows)).to_arrow()

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """See Values."""
        return self._ids.documents(rows)

    def valid(self) -> Steps[Bools]:
        """See Values."""
        return done(np.ones(len(self._ids), np.bool_))

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """See Values."""
        return value_bytes((yield from self.select(rows)))


def attribute_of(schema: Schema, name: str) -> Attribute | None:
    """The attribute, None if the schema does not name it. `id` is there in every schema; before the first
    document it is `uint`."""
    if name == ID:
        return Attribute(AttributeType(Scalar(schema.id_type or "uint")))
    return schema.attributes.get(name)


def stored(names: frozenset[str]) -> frozenset[str]:
    """The names that are columns of a part: all but `id`."""
    return names - {ID}


def values_in(part: Part, name: str) -> Steps[Values]:
    """The values of an attribute, or of `id`."""
    if name == ID:
        return IdValues((yield from part.ids()))
    return (yield from part.attribute(name))


def matched(part: Part, name: str, mask: Bools) -> Steps[Any]:
    """The values of the rows where mask, (rows,) bool, is set (a pyarrow.Array)."""
    values = yield from values_in(part, name)
    if mask.all():
        return (yield from values.column())
    return (yield from values.select(np.flatnonzero(mask)))


def to_bools(array: Any) -> Bools:
    """A boolean Arrow array as (n,) bool, null as False; a fresh, writable array."""
    values: Bools = array.fill_null(False).to_numpy(zero_copy_only=False)
    return values if values.flags.writeable else values.copy()


def conjoin(mask: Bools, other: Bools) -> Bools:
    """Both masks, into the first."""
    return np.logical_and(mask, other, out=mask)


def disjoin(mask: Bools, other: Bools) -> Bools:
    """Either mask, into the first."""
    return np.logical_or(mask, other, out=mask)


def is_valid(array: Any) -> Bools:
    """(n,) bool: where the array has a value."""
    return to_bools(pc.is_valid(array))
