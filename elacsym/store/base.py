"""The object store protocol: the only things elacsym asks of a bucket.

Two primitives carry all correctness: `put_if_absent` and `put_if_match`. Nothing else is atomic to us.
Objects are whole: a reader sees one version's bytes and that version's ETag, never a mix. There is no
unconditional put.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NewType, Protocol

from elacsym.errors import Unavailable
from elacsym.store.ranges import GAP_BYTES_MAX

Etag = NewType("Etag", str)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The bytes of one version of an object, and that version's ETag."""

    data: bytes
    etag: Etag


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One row of a listing. `modified_ms` is the store's own clock, milliseconds since 1970."""

    key: str
    size_bytes: int
    modified_ms: int


class Unchanged(Enum):
    """The answer of a conditional read whose object still has the known ETag."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


class ObjectMissing(Unavailable):
    """An object that a snapshot refers to is gone: the snapshot was collected and must be rebuilt."""

    code = "object_missing"

    def __init__(self, key: str) -> None:
        super().__init__(f"object '{key}' is missing")
        self.key = key


class ObjectStore(Protocol):
    """A bucket. Keys are relative, '/'-separated, ASCII without '..' segments. Every method may raise
    StoreUnavailable.

    StoreUnavailable from a mutation leaves its outcome open: it may have been applied, or be applied later.
    """

    async def get(self, key: str) -> StoredObject | None:
        """The object, or None where there is none. One request; body and ETag belong together."""
        ...

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """UNCHANGED if the object still has `etag` (304), the object if it has another, None if it is
        gone."""
        ...

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """The byte ranges [start, end) of one object, in order; None where there is no object.

        Ranges less than gap_bytes apart are fetched by one request, the others side by side. A range that
        passes the end is cut there.
        """
        ...

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """Create the object: its ETag, or None if the key exists. `data` is not empty. One PUT, never
        multipart."""
        ...

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """Replace the version `etag`: the new ETag, or None if the object is missing or has another ETag."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; removing nothing is no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """All objects whose key begins with `prefix`, in key order. May be stale; nothing correct depends on
        it."""
        ...

    async def close(self) -> None:
        """Release connections and files."""
        ...
