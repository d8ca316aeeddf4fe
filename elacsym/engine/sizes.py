"""How many bytes documents are without encoding and compression: what a write is said to have written."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.index.ids import IdColumn

Ints = npt.NDArray[np.int64]


def row_bytes(ids: IdColumn, arrays: Mapping[str, pa.Array]) -> Ints:
    """(n,) int64: the bytes of each row's id and values. Numbers take their stored width (a bool one byte),
    texts their UTF-8 length, arrays and vectors the sum of their elements; null takes nothing."""
    sizes = value_bytes(ids.to_arrow())
    for array in arrays.values():
        sizes = sizes + value_bytes(array)
    return sizes


def value_bytes(array: pa.Array) -> Ints:
    """(n,) int64, fresh: the bytes of each value."""
    kind = array.type
    if pa.types.is_struct(kind):
        parts = [value_bytes(part) for part in array.flatten()]
        return np.sum(parts, axis=0, dtype=np.int64) if parts else np.zeros(len(array), np.int64)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _list_bytes(array)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        sizes: Ints = pc.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return sizes
    width = 1 if pa.types.is_boolean(kind) else 0 if pa.types.is_null(kind) else kind.bit_width // 8
    sizes = np.full(len(array), width, np.int64)
    if array.null_count:
        sizes[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return sizes


def _list_bytes(array: pa.Array) -> Ints:
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    # the elements of null rows are not among them
    before = np.concatenate([[0], np.cumsum(value_bytes(array.flatten()))])
    ends = np.cumsum(lengths)
    sizes: Ints = before[ends] - before[ends - lengths]
    return sizes
