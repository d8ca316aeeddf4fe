"""All namespaces of a store as one process sees them: opened on first use, forgotten when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from elacsym.engine.branch import BranchRequest, branch
from elacsym.engine.namespace import Namespace, NeedsOf, Services
from elacsym.engine.operations import Operations
from elacsym.engine.prepare import check_first
from elacsym.engine.request import WriteRequest
from elacsym.engine.schema import check_writable, extended
from elacsym.errors import InvalidRequest, NamespaceNotFound
from elacsym.format.keys import is_valid_name
from elacsym.log import catalog
from elacsym.query.ast import Hit, Query, QueryResult
from elacsym.query.cost import is_small
from elacsym.query.plan import Needs, needs_of
from elacsym.query.shown import shown
from elacsym.telemetry import OPEN_NAMESPACES
from elacsym.types import STRONG, Consistency, DocumentId, Schema, WriteResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """What a namespace holds. `documents` counts live rows; bytes are those of segments and of the unfolded
    tail, whose rows are in no index yet.

    Times are milliseconds since 1970, by the clocks of the nodes that wrote. updated_ms: of the last write of
    any kind. last_write_ms: of the last one of documents, which a branch may have from its parent; None where
    there was none.
    """

    name: str
    schema: Schema
    documents: int
    segment_bytes: int
    segments: int
    tail_slots: int
    tail_bytes: int
    generation: int
    next_seq: int
    inc: str
    tail_rows: int
    created_ms: int
    updated_ms: int
    last_write_ms: int | None


class Database:
    """The namespaces of a store. Safe for any number of concurrent callers on one event loop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.operations = Operations(services.store, services.clock, services.rng, services.node_id)
        self._open: dict[str, asyncio.Task[Namespace]] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def create(self, name: str, schema: Schema) -> bool:
        """Create the namespace, or add attributes to it: True if it was created.

        Raises InvalidRequest for a bad name, and where the schema disagrees with what is there; nothing
        changes then.
        """
        self._check_name(name)
        services = self.services
        log = services.settings.log
        # a first schema obeys the rules of growing ones, and gets the same defaults
        first = extended(Schema(), schema)
        created = await catalog.create(
            services.store, name, first, clock=services.clock, rng=services.rng, settings=log
        )
        if not created.is_new:
            snapshot = await self._with(name, lambda namespace: namespace.snapshot(STRONG))
            if extended(snapshot.schema, schema) is not snapshot.schema:
                await self.write(name, WriteRequest(schema=schema, path="schema"))
        return created.is_new

    async def write(
        self,
        name: str,
        request: WriteRequest,
        *,
        idempotency_key: str | None = None,
        deadline_s: float | None = None,
    ) -> WriteResult:
        """Commit one atomic write. `deadline_s`: seconds from now until DeadlineExceeded or OutcomeUnknown.

        A namespace that is missing is made first where the request says so; one that would be refused makes
        none. Should the store fail between the two, an empty namespace is left, which a repetition fills.

        Raises NamespaceNotFound, InvalidRequest, Overloaded, NotOwner, StoreUnavailable, OutcomeUnknown.
        """
        # the log wants a reading of the clock; opening the namespace counts
        until_s = None if deadline_s is None else self.services.clock.monotonic_s() + deadline_s

        def write(namespace: Namespace) -> Awaitable[WriteResult]:
            return namespace.write(request, key=idempotency_key, deadline_s=until_s)

        try:
            return await self._with(name, write)
        except NamespaceNotFound:
            if not (bool(request.upserts) if request.creates is None else request.creates):
                raise
        await self._make_for(name, request)
        return await self._with(name, write)

    async def _make_for(self, name: str, request: WriteRequest) -> None:
        """Make the namespace that a request is the first of. Raises InvalidRequest if it would be refused
        there."""
        declared = request.change and request.change.id_type
        if not (request.upserts or declared or (request.schema and request.schema.id_type)):
            raise InvalidRequest(
                "create_namespace", "a namespace without documents needs the type of its ids in schema.id"
            )
        services = self.services
        await check_first(request, services.compute)
        log = services.settings.log
        await catalog.create(
            services.store, name, Schema(), clock=services.clock, rng=services.rng, settings=log
        )

    async def query(self, name: str, query: Query) -> QueryResult:
        """Answer one query. Raises NamespaceNotFound, InvalidRequest, StoreUnavailable, CorruptObject."""
        since_s = self.services.clock.monotonic_s()
        return await self._with(
            name,
            lambda namespace: namespace.query(query, since_s=since_s),
            lambda schema: _needs_ahead(schema, [query]),
        )

    async def queries(
        self, name: str, queries: Sequence[Query], *, consistency: Consistency = STRONG
    ) -> list[QueryResult]:
        """Answer several queries from one snapshot, in their order; one that is refused fails all.

        `consistency` counts, not theirs. Raises as `query`.
        """
        since_s = self.services.clock.monotonic_s()
        return await self._with(
            name,
            lambda namespace: namespace.queries(queries, consistency, since_s=since_s),
            lambda schema: _needs_ahead(schema, queries),
        )

    async def documents(
        self,
        name: str,
        ids: Sequence[DocumentId],
        *,
        consistency: Consistency = STRONG,
        include_vector: bool = False,
    ) -> list[Hit | None]:
        """The documents of these ids in order, None where there is none."""
        since_s = self.services.clock.monotonic_s()
        return await self._with(
            name,
            lambda namespace: namespace.documents(
                ids, consistency, include_vector=include_vector, since_s=since_s
            ),
            lambda schema: _shown_needs(schema, include_vector=include_vector),
        )

    async def warm(self, name: str) -> None:
        """Bring what queries of the namespace look at into the cache. Raises NamespaceNotFound,
        StoreUnavailable, CorruptObject."""
        await self._with(name, lambda namespace: namespace.warm())

    async def info(self, name: str) -> NamespaceInfo:
        """What the namespace holds, strongly consistent."""
        return await self._with(name, _info)

    async def delete(self, name: str) -> None:
        """Delete the namespace; its data is collected later. Raises NamespaceNotFound."""
        self._check_name(name)
        services = self.services
        await catalog.delete(services.store, name, rng=services.rng, settings=services.settings.log)
        services.tuning.forget(name)
        if (namespace := _opened(self._open.get(name))) is not None:
            self.evict(namespace)

    async def branch(
        self, source: str, name: str, *, is_copy: bool = False, shards: int | None = None
    ) -> int:
        """Make namespace `name` of the documents that `source` has now; how many there are. No data is
        copied, and neither sees what becomes of the other.

        is_copy: `name` may exist if it has no documents, and becomes a namespace of its own; else it is a
        branch, which remembers its parent and is read-only if that is. shards: of a copy.
        Raises what `engine.branch` does.
        """
        self._check_name(name)
        request = BranchRequest(name, is_copy, shards)
        return await self._with(
            source, lambda namespace: branch(namespace, request, lambda: self._with(name, _documents))
        )

    async def list(
        self, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
    ) -> tuple[list[str], str | None]:
        """One page of the names that begin with `prefix`, in order, and where the next page starts (None: no
        more)."""
        return await catalog.list_names(
            self.services.store, prefix=prefix, cursor=cursor, page_size=page_size
        )

    async def namespace(self, name: str, needs: NeedsOf | None = None) -> Namespace:
        """The open namespace. Raises NamespaceNotFound, InvalidRequest for a bad name.

        needs: what is going to be looked at; it is fetched along with the log if the namespace has to be
        opened.
        """
        self._check_name(name)
        task = self._open.get(name)
        if task is None:
            task = self._open[name] = asyncio.create_task(self._opening(name, needs), name=f"open {name}")
            # whether or not anybody still waits: the next request must not meet an old failure
            task.add_done_callback(lambda done: self._forget_failed(name, done))
            OPEN_NAMESPACES.set(len(self._open))
        elif task.done():
            return task.result()
        # one caller giving up must not cancel the opening that others wait for
        return await asyncio.shield(task)

    def opened(self) -> Sequence[Namespace]:
        """The namespaces held in memory."""
        return [namespace for task in self._open.values() if (namespace := _opened(task)) is not None]

    def evict(self, namespace: Namespace) -> None:
        """Let go of an open namespace: it is closed when nothing runs on it any more, and the next request
        opens it again."""
        if _opened(self._open.get(namespace.name)) is not namespace:
            return  # somebody else let go of it
        del self._open[namespace.name]
        OPEN_NAMESPACES.set(len(self._open))
        task = asyncio.create_task(namespace.retire(), name=f"retire {namespace.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def closed(self, timeout_s: float) -> None:
        """Wait until what was let go of is closed, for at most so long: some of it may be in use."""
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=timeout_s)

    async def close(self) -> None:
        """Break off operations and close every namespace; acknowledged writes are durable already."""
        await self.operations.close()
        tasks, self._open = list(self._open.values()), {}
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Namespace):
                await result.close()
        await asyncio.gather(*self._retiring)
        OPEN_NAMESPACES.set(0)

    async def _opening(self, name: str, needs: NeedsOf | None) -> Namespace:
        namespace = Namespace(name, self.services)
        try:
            await namespace.open(needs)
        except BaseException:
            await namespace.close()
            raise
        return namespace

    async def _with(
        self, name: str, work: Callable[[Namespace], Awaitable[T]], needs: NeedsOf | None = None
    ) -> T:
        """What `work` makes of the open namespace, which stays open for it."""
        namespace = await self.namespace(name, needs)
        while namespace.is_retired:  # since it was opened
            namespace = await self.namespace(name, needs)
        try:
            with namespace.used():
                return await work(namespace)
        except NamespaceNotFound:
            self.evict(namespace)
            raise

    def _forget_failed(self, name: str, task: asyncio.Task[Namespace]) -> None:
        if _opened(task) is None and self._open.get(name) is task:
            del self._open[name]
            OPEN_NAMESPACES.set(len(self._open))

    @staticmethod
    def _check_name(name: str) -> None:
        if not is_valid_name(name):
            raise InvalidRequest(
                "namespace", f"{name!r} is no name; 1 to 128 of A-Z a-z 0-9 - _ . are allowed"
            )


def _opened(task: asyncio.Task[Namespace] | None) -> Namespace | None:
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


def _needs_ahead(schema: Schema, queries: Sequence[Query]) -> Needs:
    """What queries open first, but for those of which that takes long to tell."""
    needs = [needs_of(query, schema) for query in queries if is_small(query)]
    return Needs(
        frozenset().union(*(n.columns for n in needs)),
        frozenset().union(*(n.vectors for n in needs)),
        frozenset().union(*(n.texts for n in needs)),
    )


def _shown_needs(schema: Schema, *, include_vector: bool) -> Needs:
    wanted = shown(schema, None, include_vector=include_vector)
    return Needs(frozenset(wanted.columns), frozenset(wanted.vectors))


async def _documents(namespace: Namespace) -> int:
    """How many documents stand in the way of a copy. Raises InvalidRequest if none may take the place."""
    snapshot = await namespace.snapshot(STRONG)
    check_writable(namespace.view.schema)
    return sum(view.rows_live for view in snapshot.parts)


async def _info(namespace: Namespace) -> NamespaceInfo:
    snapshot = await namespace.snapshot(STRONG)
    manifest, reader = namespace.reader.manifest, namespace.reader
    return NamespaceInfo(
        namespace.name,
        snapshot.schema,
        sum(view.rows_live for view in snapshot.parts),
        sum(segment.size_bytes for segment in manifest.segments),
        len(manifest.segments),
        reader.tail - manifest.applied,
        reader.unfolded_bytes,
        manifest.generation,
        reader.tail,
        manifest.inc,
        namespace.view.memtable.rows,
        manifest.created_ms,
        reader.changed_ms,
        reader.written_ms,
    )
