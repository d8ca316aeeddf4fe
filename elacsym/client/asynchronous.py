"""`AsyncClient`: moves bytes and sleeps; everything else is `calls`, `cluster` and `session`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from elacsym.client import calls, cluster
from elacsym.client.calls import (
    Answer,
    Call,
    Consistency,
    Document,
    NamespacePage,
    QueryParams,
    Recall,
    Result,
    Written,
)
from elacsym.client.cluster import Cluster, Owner, Rebalance
from elacsym.client.conversation import Heard, Wait
from elacsym.client.session import DEFAULT_URL, RETRIES, RETRY_FOR_S, Session, request
from elacsym.clock import Clock
from elacsym.types import DocumentId

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors."""

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        api_key: str | None = None,
        redirect_hosts: Iterable[str] = (),
        retries: int = RETRIES,
        retry_for_s: float = RETRY_FOR_S,
        timeout_s: float = 60.0,
        read_your_writes: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises ValueError for a `url` that is none. Nothing is sent yet."""
        self._session = Session(
            url,
            api_key=api_key,
            redirect_hosts=redirect_hosts,
            retries=retries,
            retry_for_s=retry_for_s,
            timeout_s=timeout_s,
            read_your_writes=read_your_writes,
            rng=rng,
            clock=clock,
        )
        self._http = httpx.AsyncClient(transport=transport, **self._session.http_settings())
        self._sleep = sleep

    async def run(self, call: Call[T]) -> T:
        """Any call, also one that no method here makes."""
        conversation = self._session.run(call)
        heard: Heard | None = None
        while True:
            try:
                step = conversation.send(heard)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Wait):
                await self._sleep(step.seconds)
                heard = None
                continue
            try:
                heard = await self._http.send(request(self._http, step))
            except httpx.RequestError as error:
                heard = error

    async def create(self, namespace: str, schema: Mapping[str, Any]) -> bool:
        """Create the namespace or add attributes to it; whether it is new. `schema` as in the v1 API."""
        return await self.run(calls.create(namespace, schema))

    async def upsert(
        self, namespace: str, documents: Iterable[Document], *, idempotency_key: str | None = None
    ) -> Written:
        """Insert or replace the documents, all or none of them."""
        return await self.run(calls.upsert(namespace, calls.encode_documents(documents), idempotency_key))

    async def delete(
        self,
        namespace: str,
        ids: Iterable[DocumentId] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        idempotency_key: str | None = None,
    ) -> Written:
        """Delete the documents with these ids, or those that match the filter; one of them is needed."""
        return await self.run(calls.delete(namespace, ids, filter, idempotency_key))

    async def query(self, namespace: str, **params: Unpack[QueryParams]) -> Answer:
        """Search, or look up in the order of attributes."""
        return await self.run(calls.query(namespace, self._session.query(namespace, params)))

    async def documents(
        self,
        namespace: str,
        ids: Sequence[DocumentId],
        *,
        include_vector: bool = False,
        consistency: Consistency | None = None,
    ) -> list[Result | None]:
        """The documents with these ids, in their order, None where there is none."""
        seen = self._session.consistency(namespace, consistency)
        return await self.run(calls.documents(namespace, ids, include_vector, seen))

    async def info(self, namespace: str) -> dict[str, Any]:
        """Schema, document count, bytes, segments, log tail, owner."""
        return await self.run(calls.info(namespace))

    async def warm(self, namespace: str) -> None:
        """Have the server bring what queries of the namespace look at into its cache, in the background."""
        await self.run(calls.warm(namespace))

    async def recall(
        self,
        namespace: str,
        *,
        num: int = 25,
        top_k: int = 10,
        filters: Mapping[str, Any] | None = None,
        vector_field: str | None = None,
        queries: str = "recent",
        include_ground_truth: bool = False,
    ) -> Recall:
        """Compare `num` vector queries with exact search: ones asked lately, or (`stored`) stored vectors."""
        return await self.run(
            calls.recall(namespace, num, top_k, filters, vector_field, queries, include_ground_truth)
        )

    async def delete_namespace(self, namespace: str) -> None:
        """Delete the namespace with everything in it."""
        await self.run(calls.delete_namespace(namespace))

    async def namespaces(
        self, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
    ) -> NamespacePage:
        """One page of the names that begin with `prefix`, in byte order."""
        return await self.run(calls.namespaces(prefix, cursor, page_size))

    async def all_namespaces(self, *, prefix: str = "") -> AsyncIterator[str]:
        """Every name that begins with `prefix`."""
        page = await self.namespaces(prefix=prefix, page_size=1000)
        while page.names:
            for name in page.names:
                yield name
            if page.cursor is None:
                return
            page = await self.namespaces(prefix=prefix, cursor=page.cursor, page_size=1000)

    async def health(self) -> dict[str, Any]:
        """Status, version, node id and role of the server."""
        return await self.run(calls.health())

    async def cluster(self, *, count_namespaces: bool = False) -> Cluster:
        """Who is in the cluster, as the server that answers sees it; how many namespaces each owns, if
        counted."""
        return await self.run(cluster.cluster(count_namespaces))

    async def owner(self, namespace: str) -> Owner:
        """Who writes the namespace, and which nodes read it best."""
        return await self.run(cluster.owner(namespace))

    async def rebalance(self, members: Mapping[str, float]) -> Rebalance:
        """What would move if these were the indexers, with their weights; nothing is changed."""
        return await self.run(cluster.rebalance(members))

    async def drain(self) -> dict[str, Any]:
        """Have the node at this client's address leave the ring and stop; the API key is its admin key."""
        return await self.run(cluster.drain())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()
