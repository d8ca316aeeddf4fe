"""A store that is far away: every request waits, and requests, bytes and sequential rounds are counted.

It is the innermost store to everything above it: its objects are no local files, whatever holds them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from elacsym.store.base import Etag, ObjectInfo, ObjectStore, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX, coalesce, cut

T = TypeVar("T")


@dataclass(frozen=True)
class Read:
    """One request for bytes: its round from 1, its key, how many bytes came."""

    round: int
    key: str
    size_bytes: int


class DistantStore:
    """`backing` behind `latency_s` per request.

    reads: every request for bytes; one for several ranges counts once for each span that an S3 client
    fetches, the gaps between coalesced ranges included. requests: these and all others. rounds: the largest
    number of requests of which each began after the one before had ended; requests that overlap share a
    round.
    """

    def __init__(self, backing: ObjectStore, *, latency_s: float) -> None:
        self.backing, self.latency_s = backing, latency_s
        self.reset()

    def reset(self) -> None:
        """Start counting anew, when no request is under way."""
        self.reads: list[Read] = []
        self.requests = self.rounds = self._ended_round = 0

    @property
    def bytes_read(self) -> int:
        """Bytes of all reads."""
        return sum(read.size_bytes for read in self.reads)

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        number, found = await self._request(self.backing.get(key))
        self.reads.append(Read(number, key, len(found.data) if found else 0))
        return found

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        number, found = await self._request(self.backing.get_if_changed(key, etag))
        self.reads.append(Read(number, key, len(found.data) if isinstance(found, StoredObject) else 0))
        return found

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """See ObjectStore; one request per coalesced span, all at the same time."""
        spans = coalesce(ranges, gap_bytes_max=gap_bytes) or [(0, 1)]
        fetched = await asyncio.gather(*(self._span(key, span) for span in spans))
        parts = {span: data for span, data in zip(spans, fetched, strict=True) if data is not None}
        return cut(ranges, parts) if len(parts) == len(spans) else None

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        return (await self._request(self.backing.put_if_absent(key, data)))[1]

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        return (await self._request(self.backing.put_if_match(key, data, etag)))[1]

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._request(self.backing.delete(key))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        await self._request(asyncio.sleep(0))
        async for row in self.backing.list(prefix):
            yield row

    async def close(self) -> None:
        """See ObjectStore."""
        await self.backing.close()

    async def _span(self, key: str, span: tuple[int, int]) -> bytes | None:
        number, found = await self._request(self.backing.get_ranges(key, [span]))
        self.reads.append(Read(number, key, len(found[0]) if found else 0))
        return found[0] if found else None

    async def _request(self, request: Awaitable[T]) -> tuple[int, T]:
        """The round of a request and its result."""
        number = self._ended_round + 1
        self.requests += 1
        self.rounds = max(self.rounds, number)
        try:
            await asyncio.sleep(self.latency_s)
            return number, await request
        finally:
            self._ended_round = max(self._ended_round, number)
