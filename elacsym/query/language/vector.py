"""Vectors in JSON: an array of numbers, or base64 of little-endian 32-bit floats."""

from __future__ import annotations

import binascii
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.shapes import kind

_F32 = np.dtype("<f4")


def decode(value: Any, path: str) -> npt.NDArray[np.float32]:
    """The (d,) vector of a JSON value; beyond 32 bits: infinite. Raises InvalidShape, InvalidRequest."""
    if type(value) is str:
        data = _bytes(value, path)
        if not data or len(data) % _F32.itemsize:
            raise InvalidRequest(
                path, f"base64 of {len(data)} bytes where a vector has a multiple of 4, and some"
            )
        return np.frombuffer(data, _F32)
    if type(value) is list:
        if not set(map(type, value)) <= {int, float}:
            index = next(i for i, v in enumerate(value) if type(v) not in (int, float))
            raise InvalidShape(f"{path}[{index}]", f"{kind(value[index])} where a number is expected")
        with np.errstate(over="ignore"):
            return np.array(value, np.float64).astype(np.float32)
    raise InvalidShape(path, f"{kind(value)} where an array of numbers or base64 is expected")


def decode_several(value: list[Any], path: str) -> npt.NDArray[np.float32]:
    """The (m, d) matrix of a JSON array of m >= 1 vectors. Raises InvalidShape, InvalidRequest."""
    vectors = [decode(one, f"{path}[{index}]") for index, one in enumerate(value)]
    for index, vector in enumerate(vectors):
        if vector.shape != vectors[0].shape:
            raise InvalidRequest(
                f"{path}[{index}]", f"has {vector.size} dimensions, the first vector has {vectors[0].size}"
            )
    return np.stack(vectors)


def _bytes(text: str, path: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidRequest(path, f"not base64: {error}") from error
