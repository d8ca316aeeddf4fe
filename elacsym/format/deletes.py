"""Delete bitmaps: which rows of a segment are dead. A frame of kind DELETES around: rows u64 | bits, row 0 in
the highest bit of byte 0."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from elacsym.errors import CorruptObject
from elacsym.format import frame

_ROWS = struct.Struct("<Q")


def encode(dead: npt.NDArray[np.bool_]) -> bytes:
    """The bitmap of `dead`, (rows,) bool."""
    return frame.encode(frame.Kind.DELETES, _ROWS.pack(len(dead)) + np.packbits(dead).tobytes())


def decode(data: bytes | memoryview, *, key: str, rows: int) -> npt.NDArray[np.bool_]:
    """The (rows,) bool array of dead rows. Raises CorruptObject, also when the bitmap is of another number of
    rows."""
    body = frame.decode(data, key=key, kind=frame.Kind.DELETES)
    if (
        len(body) < _ROWS.size
        or _ROWS.unpack_from(body)[0] != rows
        or len(body) != _ROWS.size + (rows + 7) // 8
    ):
        raise CorruptObject(key, f"no bitmap of {rows} rows", offset=frame.HEADER_BYTES)
    bits = np.frombuffer(body, np.uint8, offset=_ROWS.size)
    return np.unpackbits(bits, count=rows).astype(np.bool_)
