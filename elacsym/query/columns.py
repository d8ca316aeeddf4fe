"""Attributes of a part as arrays: what filters, orders and aggregations share.

`id` counts as an attribute everywhere here. Values order numerically, false before true, strings by UTF-8
bytes; null is smaller than every value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.query.searchable import Part
from elacsym.types import ID, Attribute, AttributeType, Scalar, Schema

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def attribute_of(schema: Schema, name: str) -> Attribute | None:
    """The attribute, None if the schema does not name it. `id` is there in every schema; before the first
    document it is `uint`."""
    if name == ID:
        return Attribute(AttributeType(Scalar.STRING if schema.id_type == "string" else Scalar.UINT))
    return schema.attributes.get(name)


def column_of(part: Part, name: str) -> Any:
    """The attribute, or `id`, as one pyarrow.Array in row order."""
    return part.ids().to_arrow() if name == ID else part.column(name)


def stored(names: frozenset[str]) -> frozenset[str]:
    """The names that are columns of a part: all but `id`."""
    return names - {ID}


def to_bools(array: Any) -> Bools:
    """A boolean Arrow array as (n,) bool, null as False; a fresh, writable array."""
    values: Bools = array.fill_null(False).to_numpy(zero_copy_only=False)
    return values if values.flags.writeable else values.copy()


def is_valid(array: Any) -> Bools:
    """(n,) bool: where the array has a value."""
    return to_bools(pc.is_valid(array))


def ordered_codes(array: Any) -> tuple[Ints, Any]:
    """Numbers that order and compare as the values do.

    Returns `(codes, distinct)`: codes (n,) int64, -1 for null, otherwise the index into `distinct`, the
    array's distinct values in ascending order (a pyarrow.Array). Zero and negative zero are one value. Cost:
    one hash per row, one sort of the distinct.
    """
    if pa.types.is_floating(array.type):
        array = pc.add(array, pa.scalar(0.0, array.type))  # turns -0.0 into 0.0
    encoded = array.dictionary_encode()
    codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    order = pc.sort_indices(encoded.dictionary).to_numpy(zero_copy_only=False).astype(np.int64)
    # one place more than there are values, for the index -1 of null
    rank = np.full(len(order) + 1, -1, np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes], encoded.dictionary.take(pa.array(order))
