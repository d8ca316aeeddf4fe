"""Large upserts are decoded in a child process: a JSON parser holds the interpreter until it is done.

The child reads the body to its end and answers in parts, each a length (u32) and a pickle: lists of documents
of about a mebibyte, so that reading one holds nobody up, or the refusal of the body. A length of 0 ends it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, BinaryIO

from elacsym.compute import Compute
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import InvalidRequest, InvalidShape, Unavailable
from elacsym.query.language.vector import decode as decode_vector
from elacsym.server import codec, decode
from elacsym.types import VECTOR

_LENGTH = struct.Struct("<I")
_PART_BYTES = 2**20
_ERRORS: dict[str, type[InvalidRequest]] = {e.code: e for e in (InvalidRequest, InvalidShape)}


async def upsert(body: bytes | bytearray, compute: Compute) -> WriteRequest:
    """What `decode.upsert` makes of the JSON.

    Raises InvalidRequest, InvalidShape; Unavailable where the child dies.
    """
    script = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import answer; answer()"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_PART_BYTES,
        # Ctrl-C is for the server, which lets running requests end
        start_new_session=True,
    )
    assert process.stdin is not None, "stdin is a pipe"
    assert process.stdout is not None, "stdout is a pipe"
    feeding = asyncio.create_task(_feed(process.stdin, body))
    documents: list[Document] = []
    try:
        async for part in _parts(process.stdout):
            documents += await compute.bulk.run(_documents, part)
    except asyncio.IncompleteReadError as error:
        raise Unavailable("the process that decodes large bodies ended early; nothing was stored") from error
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        if process.returncode is None:
            process.kill()
        await process.wait()
    return decode.upsert_of(documents)


async def _feed(pipe: asyncio.StreamWriter, body: bytes | bytearray) -> None:
    view = memoryview(body)
    for start in range(0, len(view), _PART_BYTES):
        pipe.write(view[start : start + _PART_BYTES])
        await pipe.drain()
    pipe.close()


async def _parts(pipe: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        (length,) = _LENGTH.unpack(await pipe.readexactly(_LENGTH.size))
        if length == 0:
            return
        yield await pipe.readexactly(length)


def _documents(part: bytes) -> list[Document]:
    value = pickle.loads(part)  # noqa: S301 - our own child wrote it
    if isinstance(value, tuple):
        code, field, reason = value
        raise _ERRORS[code](field, reason)
    return [Document(id_, attributes) for id_, attributes in value]


def answer() -> None:
    """The child: standard input to standard output."""
    # millions of values, none of them garbage: looking for some takes half of the time
    gc.disable()
    try:
        write_parts(sys.stdin.buffer.read(), sys.stdout.buffer)
    except BrokenPipeError:
        # the server is gone: nobody is left to tell, and nothing to flush
        os._exit(1)


def write_parts(body: bytes, out: BinaryIO) -> None:
    """Decode the body of an upsert and write it in parts."""
    try:
        documents = decode.upsert(codec.loads(body)).upserts
    except InvalidRequest as error:
        _write_part(out, (error.code, error.field, error.reason))
    else:
        step = max(1, len(documents) * _PART_BYTES // len(body))
        for start in range(0, len(documents), step):
            _write_part(out, _plain(documents[start : start + step]))
    out.write(_LENGTH.pack(0))
    out.flush()


def _write_part(out: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value, protocol=5)
    out.write(_LENGTH.pack(len(data)))
    out.write(data)


def _plain(documents: Sequence[Document]) -> list[tuple[Any, dict[str, Any]]]:
    """Ids and attributes; vectors of numbers as float32, which is smaller and quick to read."""
    plain = []
    for document in documents:
        attributes = dict(document.attributes)
        vector = attributes.get(VECTOR)
        # what is no vector stays as it came: the engine says what is wrong with it
        if type(vector) is list and set(map(type, vector)) <= {int, float}:
            attributes[VECTOR] = decode_vector(vector, VECTOR)
        plain.append((document.id, attributes))
    return plain
