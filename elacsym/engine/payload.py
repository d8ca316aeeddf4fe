"""The payload of one batch in the log: whole documents and deleted ids as Arrow IPC streams.

    documents length u64 | Arrow stream (one record batch: `id`, attributes) | Arrow stream (one record batch:
    `id`)

Either stream may be empty (0 bytes). Little-endian. Checksums are the log entry's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pyarrow as pa

from elacsym.errors import CorruptObject
from elacsym.format.joined import joined
from elacsym.index.ids import IdColumn
from elacsym.types import ID

_LENGTH = struct.Struct("<Q")
# given explicitly, because without it pyarrow asks the environment for every stream
_OPTIONS = pa.ipc.IpcWriteOptions()


@dataclass(frozen=True, slots=True)
class RowChanges:
    """What one batch does: `upserts` replace whole documents (`arrays` has one array per attribute),
    `deletes` remove ids."""

    upserts: IdColumn | None
    arrays: dict[str, pa.Array]
    deletes: IdColumn | None

    @property
    def rows(self) -> int:
        """Documents upserted."""
        return 0 if self.upserts is None else len(self.upserts)


def encode(changes: RowChanges) -> bytes:
    """The changes as a batch payload."""
    documents: bytes | memoryview = b""
    if changes.upserts is not None:
        documents = _stream(
            {ID: changes.upserts.to_arrow()} | {f"a:{name}": a for name, a in changes.arrays.items()}
        )
    deleted = b"" if changes.deletes is None else _stream({ID: changes.deletes.to_arrow()})
    return joined((_LENGTH.pack(len(documents)), documents, deleted))


def decode(payload: bytes | memoryview, *, key: str) -> RowChanges:
    """The changes in a batch payload; arrays refer to `payload`. Raises CorruptObject."""
    view = memoryview(payload)
    try:
        (length,) = _LENGTH.unpack_from(view)
        start = _LENGTH.size
        documents = _batch(view[start : start + length])
        deleted = _batch(view[start + length :])
        arrays = (
            {}
            if documents is None
            else {n[2:]: documents.column(n) for n in documents.schema.names if n != ID}
        )
        return RowChanges(
            None if documents is None else IdColumn.from_arrow(documents.column(ID)),
            arrays,
            None if deleted is None else IdColumn.from_arrow(deleted.column(ID)),
        )
    except (struct.error, pa.ArrowInvalid, KeyError, OSError) as error:
        raise CorruptObject(key, f"a batch is no Arrow stream: {error}") from error


def _stream(arrays: dict[str, pa.Array]) -> memoryview:
    batch = pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def _batch(view: memoryview) -> pa.RecordBatch | None:
    if not len(view):
        return None
    return pa.ipc.open_stream(pa.py_buffer(view)).read_next_batch()
