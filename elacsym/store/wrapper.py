"""What every store wrapper shares: delegation, and the way down to the store that holds the bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from elacsym.store.base import Etag, ObjectInfo, ObjectStore, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX


class StoreWrapper:
    """Passes everything to `inner`; subclasses override what they are about."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        return await self.inner.get(key)

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        return await self.inner.get_if_changed(key, etag)

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """See ObjectStore."""
        return await self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        return await self.inner.put_if_absent(key, data)

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        return await self.inner.put_if_match(key, data, etag)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self.inner.delete(key)

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        return self.inner.list(prefix)

    async def close(self) -> None:
        """See ObjectStore."""
        await self.inner.close()


def base_of(store: ObjectStore) -> ObjectStore:
    """The innermost store: the one that holds the bytes."""
    while isinstance(store, StoreWrapper):
        store = store.inner
    return store


def identity_of(store: ObjectStore) -> str:
    """Where the bytes are, for people: a URL, with the server's name where it gave one."""
    base = base_of(store)
    return str(getattr(base, "identity", type(base).__name__))


def local_file_of(store: ObjectStore, key: str) -> tuple[Path, int] | None:
    """The file that begins with the object's bytes and how many they are, or None.

    None where there is no such object, or where the store keeps no files. Blocks: call it off the event loop.
    """
    find = getattr(base_of(store), "local_file", None)
    return find(key) if find is not None else None


def is_unchanged_now(store: ObjectStore, key: str, etag: Etag, absent: str) -> bool:
    """Whether there is no object `absent`, and after that `key` still has `etag`, where the store can tell
    without a request; False where it cannot."""
    tell = getattr(base_of(store), "is_unchanged_now", None)
    return tell is not None and bool(tell(key, etag, absent))


def keeps_files(store: ObjectStore) -> bool:
    """Whether `local_file_of` can find objects of this store."""
    return hasattr(base_of(store), "local_file")
