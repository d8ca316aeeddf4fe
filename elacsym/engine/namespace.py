"""One open namespace: its log position, its view, and its writer once something is written."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from elacsym.clock import Clock
from elacsym.compute import Compute
from elacsym.engine.batching import Batcher, answers
from elacsym.engine.build import Builder
from elacsym.engine.draft import drafted
from elacsym.engine.pace import Pace
from elacsym.engine.prepare import Preparer, item_of
from elacsym.engine.request import WriteRequest
from elacsym.engine.tuning import Tuning
from elacsym.engine.view import NamespaceView
from elacsym.errors import CorruptObject, InvalidRequest, Unavailable
from elacsym.format.keys import NamespaceKeys
from elacsym.format.reading import Steps
from elacsym.log.claims import Claims, ClaimsOfAll
from elacsym.log.reader import LogReader
from elacsym.log.settings import LogSettings
from elacsym.log.writer import LogWriter
from elacsym.query.ast import Hit, Query, QueryResult
from elacsym.query.cost import is_small
from elacsym.query.execute import EffortOf, checked, execute
from elacsym.query.hits import documents
from elacsym.query.plan import Needs
from elacsym.query.searchable import SearchSnapshot
from elacsym.store.base import ObjectStore
from elacsym.store.cache import ObjectCache, ObjectMissing
from elacsym.store.drive import drive
from elacsym.telemetry import WRITES_PACED
from elacsym.types import Consistency, DocumentId, Effects, Schema, Token, WriteResult

T = TypeVar("T")
NeedsOf = Callable[[Schema], Needs]

_INLINE_IDS = 8
# a namespace counts as queried for so long after a query
_QUERIED_S = 5.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits and thresholds of the engine and its upkeep. Durations are in seconds.

    A tail is folded when it passes fold_bytes or fold_slots, or fold_age_s after its oldest write.
    """

    log: LogSettings = field(default_factory=LogSettings)
    fold_bytes: int = 16 * 2**20
    fold_slots: int = 4_096
    fold_age_s: float = 30.0
    gc_grace_s: float = 900.0
    open_namespaces_max: int = 1_024
    namespace_idle_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Services:
    """What every namespace of a process shares. `store` is the wrapped store, `cache` holds immutable
    objects, `builder` makes segments, `tuning` knows how hard to look, `claims` says what this node may
    write, `fold_wanted` is set when a tail has become long enough to be folded."""

    store: ObjectStore
    cache: ObjectCache
    compute: Compute
    clock: Clock
    rng: random.Random
    settings: EngineSettings
    node_id: str
    builder: Builder
    tuning: Tuning
    claims: Claims = field(default_factory=ClaimsOfAll)
    fold_wanted: asyncio.Event = field(default_factory=asyncio.Event)


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
            lambda: self.view.schema, self._read_at_tail, self.view.expect, services.rng, services.compute
        )
        self.writer = LogWriter(
            self.reader,
            services.store,
            preparer,
            *shared,
            node_id=services.node_id,
            compute=services.compute,
            claims=services.claims,
        )
        self._pace = Pace(services.settings.fold_bytes)
        self._batcher = Batcher(
            self._fresh, self._refreshed, self.reader.is_current_since, self._effort_of, services.compute
        )
        self.used_s = services.clock.monotonic_s()
        self._queried_s = -_QUERIED_S
        # jobs of a kind on one namespace exclude each other within a process; everything else is left to the
        # manifest's compare-and-swap, as it is across processes
        self._jobs: dict[str, asyncio.Lock] = {}
        self._ahead: asyncio.Task[None] | None = None
        self.is_retired = False
        self._users = 0
        self._is_unused = asyncio.Event()

    async def open(self, needs: NeedsOf | None = None) -> None:
        """Read manifest and tail. Raises NamespaceNotFound.

        needs: what a query is going to look at; its files are opened as soon as the manifest is known, and
        the query joins that.
        """
        if needs is not None:
            self._ahead = asyncio.create_task(self._open_ahead(needs), name=f"open ahead {self.name}")
        await self.reader.open()

    @property
    def is_fold_wanted(self) -> bool:
        """Whether the tail is long enough to be folded."""
        return self.reader.unfolded_bytes >= self.services.settings.fold_bytes

    @property
    def _is_queried(self) -> bool:
        return self.services.clock.monotonic_s() - self._queried_s < _QUERIED_S

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
    async def job(self, kind: str) -> AsyncIterator[None]:
        """Keep the namespace open for a job on its segments, one of each kind at a time, and begin from the
        current view.

        Raises NamespaceNotFound, StoreUnavailable.
        """
        with self.used():
            async with self._jobs.setdefault(kind, asyncio.Lock()):
                # nobody else may ask: a view that others' jobs have overtaken refers to files that are gone
                await self.reader.check()
                yield

    async def write(self, request: WriteRequest, *, key: str | None, deadline_s: float | None) -> WriteResult:
        """Commit one atomic write; the result means that it is durable and every later strong read sees
        it."""
        self._touch()
        if request.is_empty or self._says_nothing_new(request):
            await self.reader.check()
            if request.is_empty or self._says_nothing_new(request):
                # nothing to commit; the token is that of the last slot
                token = Token(self.reader.manifest.inc, max(0, self.reader.tail - 1))
                return WriteResult(0, token, Effects())
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

    def _says_nothing_new(self, request: WriteRequest) -> bool:
        """Whether a request of only a schema says what is known of it already."""
        if request.has_documents:
            return False
        try:
            return drafted(request, self.view.schema).after is self.view.schema
        except InvalidRequest:
            # for the commit to refuse, or to find that others have changed what it rests on
            return False

    async def _committed(
        self, request: WriteRequest, key: str | None, deadline_s: float | None
    ) -> WriteResult:
        item = await item_of(request, self.view.schema, key, self.services.compute)
        if not request.ignores_pressure:
            await self._paced(item.size_bytes, deadline_s)
        committed = await self.writer.write(
            item, deadline_s=deadline_s, ignores_pressure=request.ignores_pressure
        )
        if self.is_fold_wanted:
            self.services.fold_wanted.set()
        effects = committed.detail if isinstance(committed.detail, Effects) else None
        return WriteResult(committed.count, Token(committed.inc, committed.seq), effects)

    async def query(self, query: Query, *, since_s: float | None = None) -> QueryResult:
        """Answer one query from one snapshot, together with others that wait. since_s: see `snapshot`."""
        if query.explain or not is_small(query):
            # its figures are its own, and others do not wait until it is checked
            return await self._read(query.consistency, since_s, lambda snapshot: self._alone(snapshot, query))
        result, snapshot = await self._batcher.answer(query, since_s)
        self._observe(snapshot, query)
        return result

    async def queries(
        self, queries: Sequence[Query], consistency: Consistency, *, since_s: float | None = None
    ) -> list[QueryResult]:
        """Answer several queries from one snapshot; `consistency` counts, not theirs. since_s: see
        `snapshot`."""

        async def answer(snapshot: SearchSnapshot) -> list[QueryResult]:
            # before any of them costs anything
            fitting = [await checked(query, snapshot.schema, self.services.compute) for query in queries]
            results = await answers(snapshot, fitting, self.services.compute, self._effort_of(snapshot))
            for query in queries:
                self._observe(snapshot, query)
            return results

        return await self._read(consistency, since_s, answer)

    async def _alone(self, snapshot: SearchSnapshot, query: Query) -> QueryResult:
        result = await execute(snapshot, query, self.services.compute, self._effort_of(snapshot))
        self._observe(snapshot, query)
        return result

    def _effort_of(self, snapshot: SearchSnapshot) -> EffortOf:
        return partial(self.services.tuning.effort, snapshot.inc)

    def _observe(self, snapshot: SearchSnapshot, query: Query) -> None:
        # nothing is kept of what was refused: its names and vectors have any size
        self.services.tuning.observe(self.name, snapshot.inc, query)

    async def documents(
        self,
        ids: Sequence[DocumentId],
        consistency: Consistency,
        *,
        include_vector: bool,
        since_s: float | None = None,
    ) -> list[Hit | None]:
        """The documents of these ids, None where there is none. since_s: see `snapshot`."""

        def answer(snapshot: SearchSnapshot) -> Awaitable[list[Hit | None]]:
            steps = documents(snapshot, ids, include_vector=include_vector)
            return drive(steps, self.services.compute, inline=len(ids) <= _INLINE_IDS)

        return await self._read(consistency, since_s, answer)

    async def warm(self) -> None:
        """Bring the files that queries look at into the cache. Raises StoreUnavailable, CorruptObject."""
        with self.used():
            await self.reader.check()
            for state in self.view.segments:
                await state.part.warm()

    async def snapshot(self, consistency: Consistency, *, since_s: float | None = None) -> SearchSnapshot:
        """A snapshot that is as fresh as `consistency` demands.

        since_s: when the request came; a view that was proven current since then needs no other proof.
        """
        self._touch()
        if consistency.level == "strong":
            if since_s is None or not self.reader.is_current_since(since_s):
                await self.reader.check()
        elif consistency.level == "at_least":
            await self.reader.at_least(consistency.min_seq, consistency.inc)
        else:
            await self.reader.eventual(consistency.staleness_ms_max / 1000)
            return await self.view.snapshot(staleness_ms=self.reader.staleness_ms)
        return await self.view.snapshot()

    async def _read(
        self,
        consistency: Consistency,
        since_s: float | None,
        answer: Callable[[SearchSnapshot], Awaitable[T]],
    ) -> T:
        try:
            return await answer(await self._fresh(consistency, since_s))
        except ObjectMissing:
            # the snapshot's files were collected under it: one fresh start, never a partial answer
            return await answer(await self._refreshed())

    def _fresh(self, consistency: Consistency, since_s: float | None) -> Awaitable[SearchSnapshot]:
        # what asks for a snapshot itself, as information, branches and measurements do, is no query
        self._queried_s = self.services.clock.monotonic_s()
        return self.snapshot(consistency, since_s=since_s)

    async def _refreshed(self) -> SearchSnapshot:
        await self.reader.check()
        return await self.view.snapshot()

    async def _read_at_tail(self, make: Callable[[SearchSnapshot], Steps[T]]) -> T:
        """What steps give over everything that is applied."""
        try:
            return await drive(make(await self.view.snapshot()), self.services.compute)
        except ObjectMissing:
            # others' jobs have replaced the files: the state is the same in newer ones
            await self.reader.check()
            return await drive(make(await self.view.snapshot()), self.services.compute)

    async def _paced(self, size_bytes: int, deadline_s: float | None) -> None:
        """Let folding keep up with writes, within half of the time that a write has."""
        clock = self.services.clock
        now_s = clock.monotonic_s()
        delay_s = self._pace.delay_s(
            now_s, size_bytes, self.reader.unfolded_bytes, is_queried=self._is_queried
        )
        if deadline_s is not None:
            delay_s = min(delay_s, max(0.0, deadline_s - now_s) / 2)
        if delay_s > 0.0:
            WRITES_PACED.inc(delay_s)
            await asyncio.sleep(delay_s)

    async def _open_ahead(self, needs: NeedsOf) -> None:
        # a failure is the query's to meet
        with contextlib.suppress(Unavailable, CorruptObject):
            await self.view.open_ahead(needs)

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
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        await self._batcher.close()
        await self.writer.close()
        await self.reader.close()
        if self.view.manifest is not None:
            self.services.tuning.let_go(self.view.manifest.inc, self.view.schema.vectors())
        await self.view.closed()
