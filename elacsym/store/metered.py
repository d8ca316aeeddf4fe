"""MeteredStore: counts and times every request, for metrics and for tests of what an operation costs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from elacsym.errors import StoreUnavailable
from elacsym.store.base import Etag, ObjectInfo, ObjectStore, StoredObject, Unchanged
from elacsym.store.ranges import GAP_BYTES_MAX
from elacsym.store.wrapper import StoreWrapper
from elacsym.telemetry import STORE_BYTES, STORE_OPERATIONS, STORE_SECONDS

T = TypeVar("T")
_Outcome = list[str]


class MeteredStore(StoreWrapper):
    """Counts the requests that reach `inner`.

    `counts` by operation; `rounds` counts how often a request began while none was under way: the sequential
    round trips of a piece of work that runs alone. Both may be cleared at any time with `reset`.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.counts: Counter[str] = Counter()
        self.rounds = 0
        self._in_flight = 0

    def reset(self) -> None:
        """Start counting anew."""
        self.counts.clear()
        self.rounds = 0

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        found = await self._measure("get", self.inner.get(key), missing="missing")
        STORE_BYTES.labels("in").inc(len(found.data) if found else 0)
        return found

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore."""
        request = self.inner.get_if_changed(key, etag)
        found = await self._measure("get_if_changed", request, missing="missing")
        STORE_BYTES.labels("in").inc(len(found.data) if isinstance(found, StoredObject) else 0)
        return found

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], *, gap_bytes: int = GAP_BYTES_MAX
    ) -> list[bytes] | None:
        """See ObjectStore."""
        request = self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)
        parts = await self._measure("get_ranges", request, missing="missing")
        STORE_BYTES.labels("in").inc(sum(map(len, parts or ())))
        return parts

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        STORE_BYTES.labels("out").inc(len(data))
        return await self._measure("put_if_absent", self.inner.put_if_absent(key, data), missing="refused")

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        STORE_BYTES.labels("out").inc(len(data))
        return await self._measure(
            "put_if_match", self.inner.put_if_match(key, data, etag), missing="refused"
        )

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._measure("delete", self.inner.delete(key), missing="ok")

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore; counts as one request, and its time includes what the caller does between rows."""
        with self._request("list") as outcome:
            async for row in self.inner.list(prefix):
                yield row
            outcome.append("ok")

    async def _measure(self, operation: str, request: Awaitable[T], *, missing: str) -> T:
        with self._request(operation) as outcome:
            result = await request
            if isinstance(result, Unchanged):
                outcome.append("unchanged")
            else:
                outcome.append(missing if result is None else "ok")
            return result

    @contextmanager
    def _request(self, operation: str) -> Iterator[_Outcome]:
        """Count one request; the body appends its outcome, and none means that it was given up."""
        self.counts[operation] += 1
        self.rounds += self._in_flight == 0
        self._in_flight += 1
        outcome: _Outcome = []
        start_s = time.perf_counter()
        try:
            yield outcome
        except StoreUnavailable:
            outcome.append("error")
            raise
        finally:
            self._in_flight -= 1
            STORE_SECONDS.labels(operation).observe(time.perf_counter() - start_s)
            STORE_OPERATIONS.labels(operation, outcome[0] if outcome else "abandoned").inc()
