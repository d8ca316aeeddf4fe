"""The innermost values of stored arrays: those of varying length, and records, which are of one width."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


class Texts:
    """Strings as a sequence of bytes, for bisection."""

    __slots__ = ("_data", "_offsets")

    def __init__(self, offsets: npt.NDArray[np.int32], data: Bytes) -> None:
        self._offsets, self._data = offsets.data, data.data

    def __len__(self) -> int:
        """Strings."""
        return len(self._offsets) - 1

    def __getitem__(self, place: int) -> bytes:
        """The UTF-8 bytes of one string."""
        return bytes(self._data[self._offsets[place] : self._offsets[place + 1]])


class Records:
    """Values of one width as a sequence of bytes, for bisection."""

    __slots__ = ("_values",)

    def __init__(self, values: Bytes) -> None:
        self._values = values

    def __len__(self) -> int:
        """Values."""
        return len(self._values)

    def __getitem__(self, place: int) -> bytes:
        """The bytes of one value."""
        return bytes(self._values[place].data)


Octets = Texts | Records


def has_offsets(type_: pa.DataType) -> bool:
    """Whether values are of varying length, beginning where offsets say."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(is_kind(type_) for is_kind in kinds)


def record_of(type_: pa.DataType) -> tuple[np.dtype[Any], int] | None:
    """What the values of a type of one width consist of, and of how many; None for other types."""
    if pa.types.is_fixed_size_binary(type_):
        return np.dtype("u1"), type_.byte_width
    if pa.types.is_fixed_size_list(type_):
        return np.dtype(np.dtype(type_.value_type.to_pandas_dtype()).str), type_.list_size
    return None


def record_values(array: pa.Array, dtype: np.dtype[Any], width: int) -> npt.NDArray[Any]:
    """(n, width) the records of an array, zero where it is null."""
    if pa.types.is_fixed_size_list(array.type):
        assert array.null_count == 0, "records of lists have no nulls"
        return cast("npt.NDArray[Any]", array.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
    whole = array.fill_null(bytes(width)) if array.null_count else array
    data = whole.buffers()[1]
    if data is None or not len(whole):
        return np.empty((0, width), dtype)
    start = whole.offset * width
    return np.frombuffer(data, dtype)[start : start + len(whole) * width].reshape(-1, width)


def record_array(values: npt.NDArray[Any], type_: pa.DataType, mask: Bools | None) -> pa.Array:
    """The Arrow array of (n, width) records; mask: where it is null."""
    if pa.types.is_fixed_size_list(type_):
        return pa.FixedSizeListArray.from_arrays(
            pa.array(values.reshape(-1)), type=type_, mask=None if mask is None else pa.array(mask)
        )
    valid = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little"))
    return pa.Array.from_buffers(type_, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def string_buffers(array: pa.Array) -> tuple[npt.NDArray[Any], Bytes]:
    """Offsets from 0, (n + 1,) int32 or for large strings int64, and the bytes they point into, of an Arrow
    string or binary array."""
    kind = np.int64 if pa.types.is_large_string(array.type) else np.int32
    _, offset_buffer, data_buffer = array.buffers()
    if offset_buffer is None or not len(array):
        return np.zeros(len(array) + 1, kind), np.empty(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, kind)[array.offset : array.offset + len(array) + 1]
    data = np.empty(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]
