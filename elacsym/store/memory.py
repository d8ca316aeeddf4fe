"""MemoryStore: the reference semantics of the object store protocol, in a dictionary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from elacsym.clock import Clock, SystemClock
from elacsym.store.base import UNCHANGED, Etag, ObjectInfo, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX


class MemoryStore:
    """Objects in this process. No method gives up the event loop: each is atomic."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.objects: dict[str, StoredObject] = {}
        self._modified_ms: dict[str, int] = {}
        self._clock = clock or SystemClock()
        self._version = 0

    @property
    def identity(self) -> str:
        """A name for people."""
        return "memory://"

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        return self.objects.get(key)

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        found = self.objects.get(key)
        return UNCHANGED if found is not None and found.etag == etag else found

    async def get_ranges(
        self,
        key: str,
        ranges: Sequence[tuple[int, int]],
        *,
        gap_bytes: int = GAP_BYTES_MAX,  # noqa: ARG002 - nothing is sent
    ) -> list[bytes] | None:
        """See ObjectStore."""
        found = self.objects.get(key)
        return None if found is None else [found.data[start:end] for start, end in ranges]

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        return None if key in self.objects else self._store(key, data)

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        found = self.objects.get(key)
        return None if found is None or found.etag != etag else self._store(key, data)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        self.objects.pop(key, None)
        self._modified_ms.pop(key, None)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore; the listing is of the moment it begins."""
        rows = [
            ObjectInfo(key, len(found.data), self._modified_ms[key])
            for key, found in sorted(self.objects.items())
            if key.startswith(prefix)
        ]
        for row in rows:
            yield row

    async def close(self) -> None:
        """Nothing to release; the objects stay."""

    def _store(self, key: str, data: bytes) -> Etag:
        assert data, f"empty object '{key}'"
        self._version += 1  # never repeats, so that an object deleted and made again has another ETag
        etag = Etag(f"v{self._version}")
        self.objects[key] = StoredObject(bytes(data), etag)
        self._modified_ms[key] = self._clock.wall_ms()
        return etag
