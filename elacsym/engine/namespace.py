"""One open namespace: its log position, its view, and its writer once something is written."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from elacsym.clock import Clock
from elacsym.compute import Compute
from elacsym.engine.prepare import Preparer, item_of
from elacsym.engine.request import WriteRequest
from elacsym.engine.view import NamespaceView
from elacsym.errors import InvalidRequest
from elacsym.format.keys import NamespaceKeys
from elacsym.index.ids import IdColumn
from elacsym.log.reader import LogReader
from elacsym.log.settings import LogSettings
from elacsym.log.writer import LogWriter
from elacsym.query.ast import Filter, Hit, Query, QueryResult
from elacsym.query.execute import execute, matching_ids
from elacsym.query.hits import documents
from elacsym.query.searchable import SearchSnapshot
from elacsym.store.base import ObjectStore
from elacsym.store.cache import ObjectCache, ObjectMissing
from elacsym.types import Consistency, DocumentId, Token, WriteResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits and thresholds of the engine and its upkeep. Durations are in seconds.

    A tail is folded when it passes fold_bytes or fold_slots, or fold_age_s after its oldest write.
    """

    log: LogSettings = field(default_factory=LogSettings)
    fold_bytes: int = 64 * 2**20
    fold_slots: int = 4_096
    fold_age_s: float = 30.0
    gc_grace_s: float = 900.0
    open_namespaces_max: int = 1_024
    namespace_idle_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every namespace of a process shares. `store` is the wrapped store, `cache` maps immutable
    objects."""

    store: ObjectStore
    cache: ObjectCache
    compute: Compute
    clock: Clock
    rng: random.Random
    settings: EngineSettings
    node_id: str


class Namespace:
    """The life of one namespace in this process. Opened with `open`; every method raises NamespaceNotFound
    once it is deleted."""

    def __init__(self, name: str, services: Services) -> None:
        self.name = name
        self.keys = NamespaceKeys(name)
        self.services = services
        self.view = NamespaceView(name, services.cache, services.compute)
        shared = (services.clock, services.rng, services.settings.log)
        self.reader = LogReader(services.store, name, self.view, *shared, compute=services.compute)
        preparer = Preparer(
            lambda: self.view.schema, self._matching_ids, self.view.expect, services.rng, services.compute
        )
        self.writer = LogWriter(
            self.reader, services.store, preparer, *shared, node_id=services.node_id, compute=services.compute
        )
        self.used_s = services.clock.monotonic_s()
        # fold, compaction and collection of one namespace exclude each other within a process; across
        # processes the manifest's compare-and-swap does
        self._upkeep = asyncio.Lock()
        self.is_retired = False
        self._users = 0
        self._is_unused = asyncio.Event()

    async def open(self) -> None:
        """Read manifest and tail. Raises NamespaceNotFound."""
        await self.reader.open()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keep the namespace open for as long as the block runs."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._is_unused.set()

    @asynccontextmanager
    async def job(self) -> AsyncIterator[None]:
        """Keep the namespace open for a job on its segments, one at a time, and begin from the current view.

        Raises NamespaceNotFound, StoreUnavailable.
        """
        with self.used():
            async with self._upkeep:
                # nobody else may ask: a view that others' jobs have overtaken refers to files that are gone
                await self.reader.check()
                yield

    async def write(self, request: WriteRequest, *, key: str | None, deadline_s: float | None) -> WriteResult:
        """Commit one atomic write; the result means that it is durable and every later strong read sees
        it."""
        self._touch()
        known = self.view.schema
        try:
            return await self._committed(request, key, deadline_s)
        except InvalidRequest:
            # no commit has shown that what the refusal rests on is still so: others may have declared an
            # attribute, or made the namespace anew
            await self.reader.check()
            if self.view.schema is known:
                raise
        return await self._committed(request, key, deadline_s)

    async def _committed(
        self, request: WriteRequest, key: str | None, deadline_s: float | None
    ) -> WriteResult:
        item = await item_of(request, self.view.schema, key, self.services.compute)
        committed = await self.writer.write(item, deadline_s=deadline_s)
        return WriteResult(committed.count, Token(committed.inc, committed.seq))

    async def query(self, query: Query) -> QueryResult:
        """Answer one query from one snapshot."""
        compute = self.services.compute
        return await self._read(query.consistency, lambda snapshot: execute(snapshot, query, compute))

    async def documents(
        self, ids: Sequence[DocumentId], consistency: Consistency, *, include_vector: bool
    ) -> list[Hit | None]:
        """The documents of these ids, None where there is none."""
        compute = self.services.compute
        return await self._read(
            consistency, lambda snapshot: documents(snapshot, ids, compute, include_vector=include_vector)
        )

    async def snapshot(self, consistency: Consistency) -> SearchSnapshot:
        """A snapshot that is as fresh as `consistency` demands."""
        self._touch()
        if consistency.level == "strong":
            await self.reader.check()
        elif consistency.level == "at_least":
            await self.reader.at_least(consistency.min_seq, consistency.inc)
        else:
            await self.reader.eventual(consistency.staleness_ms_max / 1000)
            return await self.view.snapshot(staleness_ms=self.reader.staleness_ms)
        return await self.view.snapshot()

    async def _read(self, consistency: Consistency, answer: Callable[[SearchSnapshot], Awaitable[T]]) -> T:
        try:
            return await answer(await self.snapshot(consistency))
        except ObjectMissing:
            # the snapshot's files were collected under it: one fresh start, never a partial answer
            await self.reader.check()
            return await answer(await self.view.snapshot())

    async def _matching_ids(self, filter_: Filter) -> IdColumn:
        snapshot = await self.view.snapshot()
        return await matching_ids(snapshot, filter_, self.services.compute)

    def _touch(self) -> None:
        self.used_s = self.services.clock.monotonic_s()

    async def retire(self) -> None:
        """Close when the last block of `used` has ended; no other may begin."""
        self.is_retired = True
        while self._users:
            self._is_unused.clear()
            await self._is_unused.wait()
        await self.close()

    async def close(self) -> None:
        """Finish or refuse what is queued and let go of everything; a check that runs is cancelled."""
        await self.writer.close()
        await self.reader.close()
