"""Vectors as documents bring them to the fixed-size lists that are stored, rounded to the stored width.

A vector is a list of numbers, a (d,) array, or base64: its text, or the bytes it stands for, which are d
little-endian 32-bit floats or d elements of the stored width. Whatever the form, every element is read as a
32-bit float first, so that a value is stored alike however it came.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym import shapes
from elacsym.compute import give_way
from elacsym.engine.schema import check_text
from elacsym.errors import InvalidRequest
from elacsym.index.columns import SPARSE_ARROW
from elacsym.shapes import kind
from elacsym.types import SPARSE_ENTRIES_MAX, VALUE_BYTES_MAX, AttributeType, Scalar

Floats = npt.NDArray[np.float32]

_F32 = np.dtype("<f4")
_STORED: dict[Scalar, np.dtype[Any]] = {
    Scalar.F32: _F32,
    Scalar.F16: np.dtype("<f2"),
    Scalar.I8: np.dtype("i1"),
}
_I8_MIN, _I8_MAX = -128, 127
_VECTORS_AT_ONCE = 16  # half a millisecond, where they are lists of numbers
_ELEMENTS_SHOWN = 64
_F16_END = 65_520  # the least number that rounds to infinity


def encoded_vectors(values: Sequence[Any], type_: AttributeType, field: Callable[[int], str]) -> pa.Array:
    """The vectors of a column, one fixed-size list of the stored element type per value, None as null.

    `field(i)` names the i-th value in errors. Raises InvalidRequest for what is no vector of the type: too
    few or too many elements, NaN, infinity, beyond the range of the stored type, a fraction where that is
    `i8`.
    """
    dimensions = type_.dimensions or 0
    present = [i for i, v in enumerate(values) if v is not None]
    given = _floats([values[i] for i in present], type_, lambda i: field(present[i]))
    stored = _narrowed(given, type_.scalar, lambda i: field(present[i]))
    if len(present) == len(values):
        return pa.FixedSizeListArray.from_arrays(pa.array(stored.reshape(-1)), dimensions)
    matrix = np.zeros((len(values), dimensions), stored.dtype)
    matrix[present] = stored
    is_null = np.ones(len(values), np.bool_)
    is_null[present] = False
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), dimensions, mask=pa.array(is_null))


def encoded_multivectors(
    values: Sequence[Any], type_: AttributeType, field: Callable[[int], str]
) -> pa.Array:
    """The arrays of vectors of a column as lists of fixed-size lists, None as null.

    Each is a list of vectors, or an (m, d) array. Raises InvalidRequest like `encoded_vectors`, and for one
    that is too large.
    """
    flat: list[Any] = []
    names: list[tuple[int, int]] = []
    offsets = [0]
    size = (type_.dimensions or 0) * _F32.itemsize
    for index, value in enumerate(values):
        is_matrix = isinstance(value, np.ndarray) and value.ndim == 2
        if not (value is None or is_matrix or isinstance(value, list)):
            raise InvalidRequest(field(index), f"{shown(value)} where the type is {type_}")
        vectors = [] if value is None else list(value)
        if len(vectors) * size > VALUE_BYTES_MAX:
            raise InvalidRequest(
                field(index), f"{len(vectors) * size} bytes where a value may have {VALUE_BYTES_MAX}"
            )
        if None in [v for v in vectors if not isinstance(v, np.ndarray)]:
            raise InvalidRequest(f"{field(index)}[{vectors.index(None)}]", "null where a vector is expected")
        flat += vectors
        names += [(index, place) for place in range(len(vectors))]
        offsets.append(len(flat))

    def element(number: int) -> str:
        index, place = names[number]
        return f"{field(index)}[{place}]"

    inner = replace(type_, is_array=False)
    vectors_array = encoded_vectors(flat, inner, element)
    mask = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), vectors_array, mask=mask)


def encoded_sparse(values: Sequence[Any], field: Callable[[int], str]) -> pa.Array:
    """The sparse vectors of a column, dictionaries of weights by dimension, None as null; weights are rounded
    to 16-bit floats. Raises InvalidRequest for too many entries, and for weights that are no such numbers."""
    names: list[str] = []
    weights: list[float] = []
    offsets = [0]
    for index, value in enumerate(values):
        if value is not None:
            give_way()
            _check_sparse(value, field(index))
            names += value
            weights += value.values()
        offsets.append(len(names))
    halves = np.array(weights, np.float64).astype(np.float16)
    entries = pa.StructArray.from_arrays(
        [pa.array(names, pa.string()), pa.array(halves)], fields=list(SPARSE_ARROW.value_type)
    )
    mask = pa.array([value is None for value in values], pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries, type=SPARSE_ARROW, mask=mask)


def _check_sparse(value: Any, field: str) -> None:
    if not isinstance(value, dict):
        raise InvalidRequest(field, f"{shown(value)} where an object of weights by dimension is expected")
    if len(value) > SPARSE_ENTRIES_MAX:
        raise InvalidRequest(field, f"{len(value)} entries where {SPARSE_ENTRIES_MAX} are allowed")
    for name, weight in value.items():
        check_text(name, field)
        if type(weight) not in (int, float):
            raise InvalidRequest(f"{field}.{name}", f"{shown(weight)} where a weight is a number")
        if not abs(weight) < _F16_END:
            raise InvalidRequest(f"{field}.{name}", f"{shown(weight)} is outside the range of 16-bit floats")
    size = sum(len(name.encode()) + 2 for name in value)
    if size > VALUE_BYTES_MAX:
        raise InvalidRequest(field, f"{size} bytes where a value may have {VALUE_BYTES_MAX}")


def decode_base64(text: str, field: str) -> bytes:
    """The bytes that base64 (standard alphabet, padded) stands for. Raises InvalidRequest."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidRequest(field, f"not base64: {error}") from error


def _floats(values: Sequence[Any], type_: AttributeType, field: Callable[[int], str]) -> Floats:
    """(n, d) float32; what is beyond their range is infinite."""
    dimensions = type_.dimensions or 0
    if values and all(type(v) is bytes and len(v) == dimensions * _F32.itemsize for v in values):
        return np.frombuffer(b"".join(values), _F32).reshape(-1, dimensions)
    matrix = np.empty((len(values), dimensions), np.float32)
    with np.errstate(over="ignore"):
        for index, value in enumerate(values):
            if index % _VECTORS_AT_ONCE == 0:
                give_way()
            vector = _vector(value, type_, field, index)
            if vector.shape != (dimensions,):
                raise InvalidRequest(
                    field(index), f"{vector.size} dimensions where the namespace has {dimensions}"
                )
            matrix[index] = vector
    return matrix


def _vector(value: Any, type_: AttributeType, field: Callable[[int], str], index: int) -> npt.NDArray[Any]:
    if isinstance(value, list):
        if not set(map(type, value)) <= {int, float}:
            place = next(i for i, v in enumerate(value) if type(v) not in (int, float))
            raise InvalidRequest(
                f"{field(index)}[{place}]", f"{shown(value[place])} where the type is a number"
            )
        try:
            return np.array(value, np.float64)
        except OverflowError as error:
            raise InvalidRequest(field(index), "a number is outside the range of 32-bit floats") from error
    if isinstance(value, str):
        value = decode_base64(value, field(index))
    if isinstance(value, bytes):
        return _of_bytes(value, type_, field(index))
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        return value
    raise InvalidRequest(field(index), f"{shown(value)} where a vector is expected")


def _of_bytes(data: bytes, type_: AttributeType, field: str) -> npt.NDArray[Any]:
    dimensions, stored = type_.dimensions or 0, _STORED[type_.scalar]
    if len(data) != dimensions * _F32.itemsize and len(data) == dimensions * stored.itemsize:
        return np.frombuffer(data, stored)
    if not data or len(data) % _F32.itemsize:
        raise InvalidRequest(
            field, f"{len(data)} bytes where {dimensions} dimensions are {dimensions * _F32.itemsize}"
        )
    return np.frombuffer(data, _F32)


def _narrowed(
    matrix: Floats, scalar: Scalar, field: Callable[[int], str]
) -> npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]:
    """The matrix in the stored type."""
    is_finite = np.isfinite(matrix)
    if not is_finite.all():
        row, _ = _first(~is_finite)
        raise InvalidRequest(field(row), "a vector may not hold NaN or infinity (as 32-bit floats)")
    if scalar is Scalar.F32:
        return matrix
    if scalar is Scalar.F16:
        with np.errstate(over="ignore"):
            halves = matrix.astype(np.float16)
        is_beyond = np.isinf(halves)
        if is_beyond.any():
            row, place = _first(is_beyond)
            raise InvalidRequest(
                f"{field(row)}[{place}]", f"{matrix[row, place]} is outside the range of 16-bit floats"
            )
        return halves
    is_wrong = (matrix < _I8_MIN) | (matrix > _I8_MAX) | (matrix != np.rint(matrix))
    if is_wrong.any():
        row, place = _first(is_wrong)
        raise InvalidRequest(
            f"{field(row)}[{place}]",
            f"{matrix[row, place]} where whole numbers from {_I8_MIN} to {_I8_MAX} are stored",
        )
    return matrix.astype(np.int8)


def _first(mask: npt.NDArray[np.bool_]) -> tuple[int, int]:
    row, place = np.unravel_index(int(np.argmax(mask)), mask.shape)
    return int(row), int(place)


def shown(value: Any) -> str:
    """A refused value for a message: its type in words of JSON, and the beginning of it."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"base64 of {len(value)} bytes"
    if isinstance(value, np.ndarray):
        value = value[:_ELEMENTS_SHOWN].tolist()
    return f"{kind(value)} {shapes.shown(value)}"
