"""Large writes are decoded in a child process: a JSON parser holds the interpreter until it is done.

The child reads the body to its end and answers in parts, each a length (u32) and a pickle: first the write
without its documents, then these and the ids to be deleted in lists of about a mebibyte, so that reading one
holds nobody up; or the refusal of the body. A length of 0 ends it.
"""

from __future__ import annotations

import asyncio
import binascii
import gc
import os
import pickle
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from elacsym.compute import Compute
from elacsym.engine.database import Database
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import InvalidRequest, InvalidShape, NamespaceNotFound, Unavailable
from elacsym.server import codec, decode, v2_write
from elacsym.server.v2_write import Write
from elacsym.types import VECTOR

_LENGTH = struct.Struct("<I")
_PART_BYTES = 2**20
_DECODERS: dict[str, Callable[[Any], Write]] = {
    "upsert": lambda body: Write(decode.upsert(body)),
    "write": v2_write.decode,
}
# parts of a write that come in lists
_LISTS = ("upserts", "patches", "deletes")


async def upsert(
    body: bytes | bytearray, compute: Compute, vectors: Sequence[str] = (VECTOR,)
) -> WriteRequest:
    """What `decode.upsert` makes of the JSON. vectors: the attributes that `vector_names` tells.

    Raises InvalidRequest, InvalidShape; Unavailable where the child dies.
    """
    return (await _decoded("upsert", body, compute, vectors)).request


async def write(body: bytes | bytearray, compute: Compute, vectors: Sequence[str] = (VECTOR,)) -> Write:
    """What `v2_write.decode` makes of the JSON. Arguments and errors are those of `upsert`."""
    return await _decoded("write", body, compute, vectors)


async def vector_names(database: Database, name: str) -> tuple[str, ...]:
    """The attributes whose values in a write to the namespace are dense vectors, unless the write says
    otherwise. Raises InvalidRequest for a bad name, StoreUnavailable."""
    try:
        attributes = (await database.info(name)).schema.attributes
    except NamespaceNotFound:
        return (VECTOR,)
    names = [name for name, attribute in attributes.items() if attribute.type.is_vector]
    return (*names, *(() if VECTOR in attributes else (VECTOR,)))


async def _decoded(decoder: str, body: bytes | bytearray, compute: Compute, vectors: Sequence[str]) -> Write:
    call = f"answer({decoder!r}, {tuple(vectors)!a})"
    script = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import answer; {call}"
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
    lists: dict[str, list[Any]] = {name: [] for name in _LISTS}
    frame: Write | None = None
    try:
        async for part in _parts(process.stdout):
            name, value = await compute.bulk.run(_read, part)
            if name in lists:
                lists[name] += value
            else:
                frame = value
    except asyncio.IncompleteReadError as error:
        raise Unavailable("the process that decodes large bodies ended early; nothing was stored") from error
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert frame is not None, "the first part"
    request = replace(
        frame.request, upserts=lists["upserts"], patches=lists["patches"], deletes=lists["deletes"]
    )
    return replace(frame, request=request)


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


def _read(part: bytes) -> tuple[str, Any]:
    name, value = pickle.loads(part)  # noqa: S301 - our own child wrote it
    if name == InvalidShape.code:
        field, reason, typed = value
        raise InvalidShape(field, reason, typed=typed)
    if name == InvalidRequest.code:
        raise InvalidRequest(*value)
    if name in ("upserts", "patches"):
        return name, [Document(id_, attributes) for id_, attributes in value]
    return name, value


def answer(decoder: str, vectors: Sequence[str]) -> None:
    """The child: standard input to standard output. vectors: as for `upsert`."""
    # millions of values, none of them garbage: looking for some takes half of the time
    gc.disable()
    try:
        write_parts(sys.stdin.buffer.read(), sys.stdout.buffer, decoder, vectors)
    except BrokenPipeError:
        # the server is gone: nobody is left to tell, and nothing to flush
        os._exit(1)


def write_parts(
    body: bytes, out: BinaryIO, decoder: str = "upsert", vectors: Sequence[str] = (VECTOR,)
) -> None:
    """Decode the body of a write and write it in parts. vectors: as for `upsert`."""
    try:
        wanted = _DECODERS[decoder](codec.loads(body))
    except InvalidShape as error:
        _write_part(out, error.code, (error.field, error.reason, error.typed))
    except InvalidRequest as error:
        _write_part(out, error.code, (error.field, error.reason))
    else:
        request = wanted.request
        bare = replace(request, upserts=(), patches=(), deletes=())
        _write_part(out, "write", replace(wanted, request=bare))
        items = max(1, len(request.upserts) + len(request.patches) + len(request.deletes))
        step = max(1, items * _PART_BYTES // len(body))
        vectors = _vectors(request, vectors)
        for name in _LISTS:
            values = getattr(request, name)
            for start in range(0, len(values), step):
                several = values[start : start + step]
                _write_part(out, name, several if name == "deletes" else _plain(several, vectors))
    out.write(_LENGTH.pack(0))
    out.flush()


def _write_part(out: BinaryIO, name: str, value: Any) -> None:
    data = pickle.dumps((name, value), protocol=5)
    out.write(_LENGTH.pack(len(data)))
    out.write(data)


def _vectors(request: WriteRequest, known: Sequence[str]) -> tuple[str, ...]:
    """The attributes that are dense vectors: the known ones, but for what the request says of types."""
    is_vector = dict.fromkeys(known, True)
    if request.schema is not None:
        is_vector |= {name: a.type.is_vector for name, a in request.schema.attributes.items()}
    if request.change is not None:
        changes = request.change.attributes.items()
        is_vector |= {name: change.type.is_vector for name, change in changes if change is not None}
    return tuple(name for name, is_one in is_vector.items() if is_one)


def _plain(documents: Sequence[Document], vectors: Sequence[str]) -> list[tuple[Any, dict[str, Any]]]:
    """Ids and attributes; vectors as float32 or their bytes, which is smaller and quick to read."""
    plain = []
    for document in documents:
        attributes = dict(document.attributes)
        for name in vectors:
            if name in attributes:
                attributes[name] = _plain_vector(attributes[name])
        plain.append((document.id, attributes))
    return plain


def _plain_vector(value: Any) -> Any:
    # what is no vector stays as it came: the engine says what is wrong with it
    if type(value) is list and value and set(map(type, value)) <= {int, float}:
        with np.errstate(over="ignore"):
            return np.array(value, np.float64).astype(np.float32)
    if type(value) is str:
        try:
            return binascii.a2b_base64(value, strict_mode=True)
        except ValueError:
            return value
    return value
