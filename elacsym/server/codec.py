"""Bytes to JSON values and back, gzip on the way in and out; big work happens in the compute pool."""

from __future__ import annotations

import zlib
from typing import Any

import orjson

from elacsym.compute import Compute
from elacsym.errors import InvalidRequest
from elacsym.index.values import render_bytes
from elacsym.server.limits import BodyAllowance

INLINE_BYTES_MAX = 64 * 2**10
# the parser holds the interpreter: beyond this size, everybody would wait for tenths of a second
POOL_BYTES_MAX = 16 * 2**20
GZIP_ANSWER_BYTES_MIN = 1_024
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_GZIP = 16 + zlib.MAX_WBITS
_STEP_BYTES = 4 * 2**20


def loads(body: bytes | bytearray) -> Any:
    """The JSON value of a body. Raises InvalidRequest for anything that is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("", f"Failed to parse the request body as JSON: {error}") from error


async def gunzip(body: bytes | bytearray, allowance: BodyAllowance, compute: Compute) -> bytearray:
    """What a gzip body decompresses to; every step is paid for before the next, so that no bomb goes off.

    Raises InvalidRequest for damaged or truncated data, PayloadTooLarge, Overloaded.
    """
    decompressor = zlib.decompressobj(_GZIP)
    plain = bytearray()
    packed, read = memoryview(body), 0
    rest: bytes | memoryview = b""
    try:
        while not decompressor.eof:
            if not rest:
                # in slices: what a step leaves over is copied
                rest = packed[read : read + _STEP_BYTES]
                read += len(rest)
            step = await compute.run(decompressor.decompress, rest, _STEP_BYTES)
            rest = decompressor.unconsumed_tail
            if not step and not rest and read == len(packed) and not decompressor.eof:
                raise InvalidRequest("", "the gzip body is truncated")
            allowance.check(len(plain) + len(step), "a decompressed body")
            allowance.take(len(step))
            plain += step
    except zlib.error as error:
        raise InvalidRequest("", f"the body is not gzip: {error}") from error
    trailing = len(decompressor.unused_data) + len(packed) - read
    if trailing:
        raise InvalidRequest("", f"{trailing} bytes follow the end of the gzip body")
    return plain


def dumps(value: Any) -> bytes:
    """JSON; numpy float32 prints as the shortest decimal that identifies it, bytes as base64."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=_rendered)


def piece(value: Any) -> orjson.Fragment:
    """A part of a large answer, as `dumps` takes it: between parts other threads get the interpreter."""
    return orjson.Fragment(dumps(value))


def exact(value: Any) -> Any:
    """A sum for `dumps`, which by itself takes no integers beyond 64 bits."""
    if type(value) is int and not _INT_MIN <= value <= _INT_MAX:
        return orjson.Fragment(str(value).encode())
    return value


def _rendered(value: Any) -> Any:
    if isinstance(value, bytes):
        return render_bytes(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


async def gzip(body: bytes, compute: Compute) -> bytes:
    """The body gzip-compressed, fast rather than small."""
    if len(body) <= INLINE_BYTES_MAX:
        return zlib.compress(body, 1, _GZIP)
    return await compute.run(zlib.compress, body, 1, _GZIP)


def accepts_gzip(header: bytes | None) -> bool:
    """Whether an `Accept-Encoding` header takes gzip."""
    if not header or b"gzip" not in header.lower():
        return False
    for part in header.lower().split(b","):
        coding, *parameters = (piece.strip() for piece in part.split(b";"))
        if coding in (b"gzip", b"x-gzip"):
            return not any(p.startswith(b"q=") and p[2:].strip(b"0.") == b"" for p in parameters)
    return False
