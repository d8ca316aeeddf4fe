"""Length-prefixed, checksummed frames: the outermost layer of every small file elacsym writes itself.

    magic 4 | version u8 | kind u8 | reserved u16 | body length u64 | body crc32 u32 | header crc32 u32 | body

Little-endian. The header has its own CRC so that a damaged length is never used to size a read.
Pure functions over bytes: no I/O here, so fuzzers and the simulator run this exact code.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from elacsym.errors import CorruptObject
from elacsym.format.digest import crc32
from elacsym.format.joined import joined

MAGIC = b"elac"
VERSION = 1
_HEADER = struct.Struct("<4sBBHQI")
_CRC = struct.Struct("<I")
HEADER_BYTES = _HEADER.size + _CRC.size
BODY_BYTES_MAX = 4 * 2**30  # one PUT, never multipart
assert HEADER_BYTES == 24  # the format is public: a change here is a new VERSION


class Kind(IntEnum):
    """What a frame holds."""

    WAL_ENTRY = 1
    MANIFEST = 2
    DELETES = 3
    CLUSTER = 4
    BLOB = 5
    NAME = 7
    HEARTBEAT = 8
    OPERATION = 9


def encode(kind: Kind, *parts: bytes | memoryview) -> bytes:
    """The frame around the concatenated `parts`, which are copied once."""
    body_crc = 0
    for part in parts:
        body_crc = crc32(part, body_crc)
    length = sum(memoryview(part).nbytes for part in parts)
    header = _HEADER.pack(MAGIC, VERSION, kind, 0, length, body_crc)
    return joined((header, _CRC.pack(crc32(header)), *parts))


def decode(data: bytes | memoryview, *, key: str, kind: Kind) -> memoryview:
    """The body of the frame of this `kind` that fills `data`; `key` names the object in errors.

    Raises CorruptObject and nothing else: short or surplus bytes, wrong magic, version or kind, a failed
    checksum.
    """
    view = memoryview(data)
    if len(view) < HEADER_BYTES:
        raise CorruptObject(key, f"{len(view)} bytes is shorter than a header", offset=0)
    header = view[: _HEADER.size]
    (header_crc,) = _CRC.unpack_from(view, _HEADER.size)
    if crc32(header) != header_crc:
        raise CorruptObject(key, "header checksum mismatch", offset=0)
    magic, version, found, reserved, length, body_crc = _HEADER.unpack(header)
    if magic != MAGIC or version != VERSION or reserved:
        raise CorruptObject(key, f"not a frame of version {VERSION}", offset=0)
    if found != kind:
        raise CorruptObject(key, f"frame kind {found} where {int(kind)} belongs", offset=5)
    if length > BODY_BYTES_MAX or length != len(view) - HEADER_BYTES:
        raise CorruptObject(
            key, f"body of {len(view) - HEADER_BYTES} bytes where the header says {length}", offset=8
        )
    body = view[HEADER_BYTES:]
    if crc32(body) != body_crc:
        raise CorruptObject(key, "body checksum mismatch", offset=HEADER_BYTES)
    return body
