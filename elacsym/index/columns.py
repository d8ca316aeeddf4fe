"""The Arrow arrays that hold an attribute's values in the log, in memory and in `rows.parquet`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.index.values import UUID_ARROW
from elacsym.types import AttributeType, Scalar

_ARROW = {
    Scalar.STRING: pa.string(),
    Scalar.INT: pa.int64(),
    Scalar.UINT: pa.uint64(),
    Scalar.FLOAT: pa.float64(),
    Scalar.BOOL: pa.bool_(),
    Scalar.UUID: UUID_ARROW,
    Scalar.DATETIME: pa.int64(),
    Scalar.BYTES: pa.binary(),
    # any type would do: there are no elements
    Scalar.UNKNOWN: pa.bool_(),
    Scalar.F32: pa.float32(),
    Scalar.F16: pa.float16(),
    Scalar.I8: pa.int8(),
}
UNKNOWN_ARROW = pa.list_(_ARROW[Scalar.UNKNOWN])
"""Of arrays whose elements nobody told."""
# of each row its dimensions, distinct, and the weights there
SPARSE_ARROW = pa.list_(pa.struct([("dimension", pa.string()), ("weight", pa.float16())]))


def arrow_type(kind: AttributeType) -> pa.DataType:
    """The Arrow type that stores the values of an attribute."""
    if kind.is_sparse:
        return SPARSE_ARROW
    leaf = _ARROW[kind.scalar]
    if kind.dimensions is not None:
        leaf = pa.list_(leaf, kind.dimensions)
    return pa.list_(leaf) if kind.is_array else leaf


def fitted(array: pa.Array, kind: AttributeType) -> pa.Array:
    """A column of an attribute of this type. It may have been written when the type of the elements was not
    known: then all its arrays are empty."""
    return retyped(array, arrow_type(kind))


def retyped(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """An array of this type; one of another must hold nothing but empty arrays."""
    if array.type == type_:
        return array
    assert pa.types.is_list(array.type) and not len(array.flatten()), (array.type, type_)
    return _empties(array.is_valid().to_numpy(zero_copy_only=False), type_)


def _empties(valid: npt.NDArray[np.bool_], type_: pa.DataType) -> pa.Array:
    """Empty arrays, null where `valid` is not set."""
    offsets = pa.array(np.zeros(len(valid) + 1, np.int32))
    return pa.ListArray.from_arrays(
        offsets, pa.array([], type_.value_type), type=type_, mask=pa.array(~valid)
    )
