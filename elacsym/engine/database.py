"""All namespaces of a store as one process sees them: opened on first use, forgotten when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from elacsym.engine.namespace import Namespace, Services
from elacsym.engine.request import WriteRequest
from elacsym.engine.schema import extended
from elacsym.errors import InvalidRequest, NamespaceNotFound
from elacsym.format.keys import is_valid_name
from elacsym.log import catalog
from elacsym.query.ast import Hit, Query, QueryResult
from elacsym.telemetry import OPEN_NAMESPACES
from elacsym.types import STRONG, Consistency, DocumentId, Schema, WriteResult

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """What a namespace holds. `documents` counts live rows; bytes are those of segments and of the unfolded
    tail."""

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


class Database:
    """The namespaces of a store. Safe for any number of concurrent callers on one event loop."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._open: dict[str, asyncio.Task[Namespace]] = {}

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
            namespace = await self.namespace(name)
            snapshot = await self._guard(name, namespace.snapshot(STRONG))
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

        Raises NamespaceNotFound, InvalidRequest, Overloaded, NotOwner, StoreUnavailable, OutcomeUnknown.
        """
        # the log wants a reading of the clock; opening the namespace counts
        until_s = None if deadline_s is None else self.services.clock.monotonic_s() + deadline_s
        namespace = await self.namespace(name)
        return await self._guard(name, namespace.write(request, key=idempotency_key, deadline_s=until_s))

    async def query(self, name: str, query: Query) -> QueryResult:
        """Answer one query. Raises NamespaceNotFound, InvalidRequest, StoreUnavailable, CorruptObject."""
        namespace = await self.namespace(name)
        return await self._guard(name, namespace.query(query))

    async def documents(
        self,
        name: str,
        ids: Sequence[DocumentId],
        *,
        consistency: Consistency = STRONG,
        include_vector: bool = False,
    ) -> list[Hit | None]:
        """The documents of these ids in order, None where there is none."""
        namespace = await self.namespace(name)
        return await self._guard(name, namespace.documents(ids, consistency, include_vector=include_vector))

    async def info(self, name: str) -> NamespaceInfo:
        """What the namespace holds, strongly consistent."""
        namespace = await self.namespace(name)
        snapshot = await self._guard(name, namespace.snapshot(STRONG))
        manifest, reader = namespace.reader.manifest, namespace.reader
        return NamespaceInfo(
            name,
            snapshot.schema,
            sum(view.rows_live for view in snapshot.parts),
            sum(segment.size_bytes for segment in manifest.segments),
            len(manifest.segments),
            reader.tail - manifest.applied,
            reader.unfolded_bytes,
            manifest.generation,
            reader.tail,
            manifest.inc,
        )

    async def delete(self, name: str) -> None:
        """Delete the namespace; its data is collected later. Raises NamespaceNotFound."""
        self._check_name(name)
        services = self.services
        await catalog.delete(services.store, name, rng=services.rng, settings=services.settings.log)
        await self._drop(name)

    async def list(
        self, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
    ) -> tuple[list[str], str | None]:
        """One page of the names that begin with `prefix`, in order, and where the next page starts (None: no
        more)."""
        return await catalog.list_names(
            self.services.store, prefix=prefix, cursor=cursor, page_size=page_size
        )

    async def namespace(self, name: str) -> Namespace:
        """The open namespace. Raises NamespaceNotFound, InvalidRequest for a bad name."""
        self._check_name(name)
        task = self._open.get(name)
        if task is None:
            task = self._open[name] = asyncio.create_task(self._opened(name), name=f"open {name}")
            OPEN_NAMESPACES.set(len(self._open))
        elif task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        try:
            # one caller giving up must not cancel the opening that others wait for
            return await asyncio.shield(task)
        except BaseException:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._forget(name, task)
            raise

    def opened(self) -> Sequence[Namespace]:
        """The namespaces held in memory."""
        return [
            t.result()
            for t in self._open.values()
            if t.done() and not t.cancelled() and t.exception() is None
        ]

    async def evict(self, namespace: Namespace) -> None:
        """Let go of an open namespace; the next request opens it again."""
        self._forget(namespace.name)
        await namespace.close()

    async def close(self) -> None:
        """Close every namespace; acknowledged writes are durable already."""
        tasks, self._open = list(self._open.values()), {}
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Namespace):
                await result.close()
        OPEN_NAMESPACES.set(0)

    async def _opened(self, name: str) -> Namespace:
        namespace = Namespace(name, self.services)
        await namespace.open()
        return namespace

    async def _guard(self, name: str, work: Awaitable[T]) -> T:
        try:
            return await work
        except NamespaceNotFound:
            await self._drop(name)
            raise

    async def _drop(self, name: str) -> None:
        task = self._open.get(name)
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            await self.evict(task.result())

    def _forget(self, name: str, task: asyncio.Task[Namespace] | None = None) -> None:
        if task is None or self._open.get(name) is task:
            self._open.pop(name, None)
        OPEN_NAMESPACES.set(len(self._open))

    @staticmethod
    def _check_name(name: str) -> None:
        if not is_valid_name(name):
            raise InvalidRequest(
                "namespace", f"{name!r} is no name; 1 to 128 of A-Z a-z 0-9 - _ . are allowed"
            )
