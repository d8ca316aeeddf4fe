"""One log entry: a claim of ownership, or a group of writes that commit together. One entry is one object.

    frame of kind WAL_ENTRY around: header length u32 | header crc32 u32 | header (JSON) | payload 0 | payload
        1 | …

Little-endian. The header names the place in the log (`inc`, `seq`), who wrote it (`epoch`, `writer`, `nonce`)
and what stands before it (`previous`, the digest of the object in slot `seq` - 1), so that a gap, a swap or a
replay breaks the chain. Payloads are opaque here; their sizes stand in the header and add up to the rest of
the body.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import Any, Self

import orjson

from elacsym.errors import CorruptObject
from elacsym.format import frame
from elacsym.format.digest import crc32
from elacsym.types import Schema

_PREFIX = struct.Struct("<II")
HEADER_JSON_BYTES_MAX = 64 * 2**20
_INC = re.compile(r"[0-9a-f]{16}")
_HEX128 = re.compile(r"[0-9a-f]{32}")


class EntryKind(StrEnum):
    """`claim` takes the log over under a higher epoch; `write` carries batches."""

    CLAIM = "claim"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: applied whole or not at all.

    id: 32 hexadecimal digits. key: the request's idempotency key. count: what the request's answer says.
    rows: rows in the payload. payload: opaque bytes; after `decode` a view of the object.
    """

    id: str
    key: str | None
    count: int
    rows: int
    payload: bytes | memoryview

    @property
    def size_bytes(self) -> int:
        """The payload's length."""
        return memoryview(self.payload).nbytes


@dataclass(frozen=True, slots=True)
class WalEntry:
    """What one slot of the log holds.

    epoch:    of the claim under which it was written; lower than an epoch before it makes the entry void.
    previous: blake2b-128 of the object in slot seq - 1; empty in slot 0.
    schema:   the whole schema from this entry on, or None where it does not change.
    written_ms: when it was written, in milliseconds since 1970 by its writer's clock; for people.
    """

    inc: str
    seq: int
    epoch: int
    kind: EntryKind
    writer: str
    nonce: str
    previous: str
    schema: Schema | None = None
    batches: tuple[Batch, ...] = ()
    written_ms: int = 0

    @property
    def has_documents(self) -> bool:
        """Whether it writes or deletes documents."""
        return any(batch.count or batch.rows for batch in self.batches)

    def check(self) -> str | None:
        """What is wrong with this entry, or None."""
        if not _INC.fullmatch(self.inc) or not _HEX128.fullmatch(self.nonce):
            return "incarnation or nonce has the wrong form"
        if self.seq < 0 or self.epoch < 1 or self.written_ms < 0:
            return f"seq {self.seq}, epoch {self.epoch} or time {self.written_ms} is out of range"
        if (self.previous == "") != (self.seq == 0) or not (
            self.seq == 0 or _HEX128.fullmatch(self.previous)
        ):
            return f"previous digest {self.previous!r} in slot {self.seq}"
        if self.kind is EntryKind.CLAIM and (self.batches or self.schema is not None):
            return "a claim carries writes"
        if any(not _HEX128.fullmatch(b.id) or b.count < 0 or b.rows < 0 for b in self.batches):
            return "a batch has a wrong id or a negative count"
        return None

    def encode(self) -> bytes:
        """The entry as an object's bytes; every payload is copied once."""
        wrong = self.check()
        assert wrong is None, wrong
        header = orjson.dumps(
            {
                "inc": self.inc,
                "seq": self.seq,
                "epoch": self.epoch,
                "kind": self.kind,
                "writer": self.writer,
                "nonce": self.nonce,
                "previous": self.previous,
                "written_ms": self.written_ms,
                "schema": None if self.schema is None else self.schema.to_json(),
                "batches": [[b.id, b.key, b.count, b.rows, b.size_bytes] for b in self.batches],
            }
        )
        assert len(header) <= HEADER_JSON_BYTES_MAX, f"header of {len(header)} bytes"
        prefix = _PREFIX.pack(len(header), crc32(header))
        return frame.encode(frame.Kind.WAL_ENTRY, prefix, header, *(b.payload for b in self.batches))

    @classmethod
    def decode(cls, data: bytes | memoryview, *, key: str) -> Self:
        """The entry in an object's bytes; payloads are views of `data`.

        Raises CorruptObject, which names `key` and the offset, and nothing else.
        """
        body = frame.decode(data, key=key, kind=frame.Kind.WAL_ENTRY)
        header, payloads = _split(body, key=key)
        try:
            value: dict[str, Any] = orjson.loads(header)
            value["kind"] = EntryKind(value["kind"])
            value["schema"] = None if value["schema"] is None else Schema.from_json(value["schema"])
            value["batches"] = tuple(_batches(value["batches"], payloads))
            entry = cls(**value)
            wrong = entry.check()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CorruptObject(
                key, f"not a log entry: {error}", offset=frame.HEADER_BYTES + _PREFIX.size
            ) from error
        if wrong is not None:
            raise CorruptObject(key, wrong, offset=frame.HEADER_BYTES + _PREFIX.size)
        return entry


def _split(body: memoryview, *, key: str) -> tuple[memoryview, memoryview]:
    if len(body) < _PREFIX.size:
        raise CorruptObject(
            key, f"body of {len(body)} bytes is shorter than its prefix", offset=frame.HEADER_BYTES
        )
    length, header_crc = _PREFIX.unpack_from(body)
    if length > min(HEADER_JSON_BYTES_MAX, len(body) - _PREFIX.size):
        reason = f"header of {length} bytes in a body of {len(body)} bytes"
        raise CorruptObject(key, reason, offset=frame.HEADER_BYTES)
    header = body[_PREFIX.size : _PREFIX.size + length]
    if crc32(header) != header_crc:
        raise CorruptObject(key, "entry header checksum mismatch", offset=frame.HEADER_BYTES + _PREFIX.size)
    return header, body[_PREFIX.size + length :]


def _batches(rows: list[list[Any]], payloads: memoryview) -> list[Batch]:
    sizes = [row[4] for row in rows]
    if any(type(size) is not int or size < 0 for size in sizes) or sum(sizes) != len(payloads):
        raise ValueError(f"payloads of {len(payloads)} bytes where the header says {sizes}")
    ends = accumulate(sizes)
    return [
        Batch(id_, key, count, rows_count, payloads[end - size : end])
        for (id_, key, count, rows_count, size), end in zip(rows, ends, strict=True)
    ]
