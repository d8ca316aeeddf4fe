"""How many bytes documents are without encoding and compression: what a write is said to have written,
and may write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.index.ids import IdColumn
from elacsym.index.values import UUID_ARROW

Ints = npt.NDArray[np.int64]

_FIXED_SIZE_LIST = pa.list_(pa.int8(), 1).id
# by number of the type: asking Arrow what kind of type one is takes longer than a small column
_WIDTHS: dict[int, int] = {pa.bool_().id: 1, UUID_ARROW.id: UUID_ARROW.byte_width} | {
    kind.id: kind.bit_width // 8
    for kind in (pa.int64(), pa.uint64(), pa.float64(), pa.float32(), pa.float16(), pa.int8())
}


def row_bytes(ids: IdColumn, arrays: Mapping[str, pa.Array]) -> Ints:
    """(n,) int64: the bytes of each row's id and values. Numbers take their stored width (a bool one byte),
    texts their UTF-8 length, arrays and vectors the sum of their elements; null takes nothing."""
    sizes = value_bytes(ids.to_arrow())
    for array in arrays.values():
        sizes += value_bytes(array)
    return sizes


def total_bytes(*arrays: pa.Array) -> int:
    """The sum of `row_bytes` over all rows, for some columns. Cost: a look at the ends of each."""
    return sum(map(_total_bytes, arrays))


def _total_bytes(array: pa.Array) -> int:
    width = width_bytes(array.type)
    if width is not None:
        return width * int(len(array) - array.null_count)
    if pa.types.is_struct(array.type):
        return total_bytes(*array.flatten())
    if not len(array):
        return 0
    # read where they are: an Arrow kernel costs more to call than a small write has values
    offsets = memoryview(array.buffers()[1]).cast("i")
    first, last = int(offsets[array.offset]), int(offsets[array.offset + len(array)])
    if not pa.types.is_list(array.type):
        return last - first
    inner = width_bytes(array.type.value_type)
    return _total_bytes(array.values.slice(first, last - first)) if inner is None else inner * (last - first)


def value_bytes(array: pa.Array) -> Ints:
    """(n,) int64, fresh: the bytes of each value, see `row_bytes`."""
    kind, rows = array.type, len(array)
    width = width_bytes(kind)
    sizes: Ints
    if width is not None:
        sizes = np.full(rows, width, np.int64)
        if array.null_count:
            sizes[array.is_null().to_numpy(zero_copy_only=False)] = 0
        return sizes
    if pa.types.is_struct(kind):
        sizes = np.sum([value_bytes(part) for part in array.flatten()], axis=0, dtype=np.int64)
        return sizes
    if not rows:
        return np.zeros(0, np.int64)
    # null texts and arrays are empty
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + rows + 1]
    sizes = _steps(offsets)
    if not pa.types.is_list(kind):
        return sizes
    inner = width_bytes(kind.value_type)
    return sizes * inner if inner is not None else _between(value_bytes(array.values), offsets)


def width_bytes(kind: pa.DataType) -> int | None:
    """The bytes of every value of a type; None where they differ."""
    number = kind.id
    width = _WIDTHS.get(number)
    if width is None and number == _FIXED_SIZE_LIST:
        return int(kind.list_size) * _WIDTHS[kind.value_type.id]
    return width


def _between(sizes: Ints, offsets: npt.NDArray[np.int32]) -> Ints:
    """The sums of the runs that offsets cut `sizes` into."""
    return _steps(np.concatenate([[0], np.cumsum(sizes)])[offsets])


def _steps(ends: npt.NDArray[np.integer[Any]]) -> Ints:
    steps: Ints = (ends[1:] - ends[:-1]).astype(np.int64)
    return steps
