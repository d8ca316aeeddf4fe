"""Vectors in JSON: an array of numbers, or base64 of little-endian 32-bit floats."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.server.shapes import kind

_F32 = np.dtype("<f4")


def decode(value: Any, path: str) -> npt.NDArray[np.float32]:
    """The (d,) vector of a JSON value; beyond 32 bits: infinite. Raises InvalidShape, InvalidRequest."""
    if type(value) is str:
        return np.frombuffer(_bytes(value, path), _F32)
    if type(value) is list:
        if not set(map(type, value)) <= {int, float}:
            index = next(i for i, v in enumerate(value) if type(v) not in (int, float))
            raise InvalidShape(f"{path}[{index}]", f"{kind(value[index])} where a number is expected")
        with np.errstate(over="ignore"):
            return np.array(value, np.float64).astype(np.float32)
    raise InvalidShape(path, f"{kind(value)} where an array of numbers or base64 is expected")


def decode_many(texts: Sequence[str], paths: Sequence[str]) -> list[npt.NDArray[np.float32]]:
    """The vectors of many base64 texts: read-only views of one array, where all are of one length."""
    chunks = [_bytes(text, path) for text, path in zip(texts, paths, strict=True)]
    if len({len(chunk) for chunk in chunks}) == 1:
        return list(np.frombuffer(b"".join(chunks), _F32).reshape(len(chunks), -1))
    return [np.frombuffer(chunk, _F32) for chunk in chunks]


def _bytes(text: str, path: str) -> bytes:
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidRequest(path, f"not base64: {error}") from error
    if not data or len(data) % _F32.itemsize:
        raise InvalidRequest(
            path, f"base64 of {len(data)} bytes where a vector has a multiple of 4, and some"
        )
    return data
