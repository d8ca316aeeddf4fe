"""`Client` and `AsyncClient`: they move bytes and sleep; everything else is `calls` and `conversation`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from elacsym.client import calls
from elacsym.client.calls import Answer, Call, Document, NamespacePage, QueryParams, Recall, Result, Written
from elacsym.client.conversation import Policy, Send, Wait, converse
from elacsym.clock import system_random
from elacsym.types import DocumentId

DEFAULT_URL = "http://127.0.0.1:3000"
CONNECT_TIMEOUT_S = 5.0

T = TypeVar("T")


def _policy(
    url: str, api_key: str | None, redirect_hosts: Iterable[str], retries: int, rng: random.Random | None
) -> Policy:
    base = httpx.URL(url)
    if base.scheme not in {"http", "https"} or not base.host:
        raise ValueError(f"{url!r} is no http or https address")
    return Policy(base, api_key, frozenset(redirect_hosts), retries, rng or system_random())


def _settings(policy: Policy, timeout_s: float) -> dict[str, Any]:
    return {
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        # a proxy of the environment cannot reach this machine's own servers
        "trust_env": policy.base_url.host not in {"localhost", "127.0.0.1", "::1"},
    }


def _request(http: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    return http.build_request(
        send.method, send.url, headers=send.headers, content=send.body, params=send.params or None
    )


class Client:
    """A blocking client; may be shared by threads. Every method raises ApiError.

    redirect_hosts: `host` or `host:port` of the nodes that a redirected request may bring the API key to.
    retries: how many times a call is repeated at most. timeout_s: per attempt.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        redirect_hosts: Iterable[str] = (),
        retries: int = 4,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """Raises ValueError if `url` is none. Nothing is sent yet."""
        self._policy = _policy(url, api_key, redirect_hosts, retries, rng)
        self._http = httpx.Client(transport=transport, **_settings(self._policy, timeout_s))
        self._sleep = sleep

    def _run(self, call: Call[T]) -> T:
        conversation = converse(self._policy, call)
        heard: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = conversation.send(heard)
            except StopIteration as end:
                value: T = end.value
                return value
            if isinstance(step, Wait):
                self._sleep(step.seconds)
                heard = None
                continue
            try:
                heard = self._http.send(_request(self._http, step))
            except httpx.TransportError as error:
                heard = error

    def create(self, namespace: str, schema: Mapping[str, Any]) -> bool:
        """Create the namespace or add attributes to it; whether it is new. `schema` as in the v1 API."""
        return self._run(calls.create(namespace, schema))

    def upsert(
        self, namespace: str, documents: Iterable[Document], *, idempotency_key: str | None = None
    ) -> Written:
        """Insert or replace the documents, all or none of them."""
        return self._run(calls.upsert(namespace, calls.encode_documents(documents), idempotency_key))

    def delete(
        self,
        namespace: str,
        ids: Iterable[DocumentId] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        idempotency_key: str | None = None,
    ) -> Written:
        """Delete the documents with these ids, or those that match the filter; one of them is needed."""
        return self._run(calls.delete(namespace, ids, filter, idempotency_key))

    def query(self, namespace: str, **params: Unpack[QueryParams]) -> Answer:
        """Search, or look up in the order of attributes."""
        return self._run(calls.query(namespace, params))

    def documents(
        self,
        namespace: str,
        ids: Sequence[DocumentId],
        *,
        include_vector: bool = False,
        consistency: str | Mapping[str, Any] = "strong",
    ) -> list[Result | None]:
        """The documents with these ids, in their order, None where there is none."""
        return self._run(calls.documents(namespace, ids, include_vector, consistency))

    def info(self, namespace: str) -> dict[str, Any]:
        """Schema, document count, bytes, segments, log tail, owner."""
        return self._run(calls.info(namespace))

    def warm(self, namespace: str) -> None:
        """Have the server bring what queries of the namespace look at into its cache, in the background."""
        self._run(calls.warm(namespace))

    def recall(
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
        return self._run(
            calls.recall(namespace, num, top_k, filters, vector_field, queries, include_ground_truth)
        )

    def delete_namespace(self, namespace: str) -> None:
        """Delete the namespace with everything in it."""
        self._run(calls.delete_namespace(namespace))

    def namespaces(
        self, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
    ) -> NamespacePage:
        """One page of the names that begin with `prefix`, in byte order."""
        return self._run(calls.namespaces(prefix, cursor, page_size))

    def all_namespaces(self, *, prefix: str = "") -> Iterator[str]:
        """Every name that begins with `prefix`."""
        page = self.namespaces(prefix=prefix, page_size=1000)
        yield from page.names
        while page.cursor and page.names:
            page = self.namespaces(prefix=prefix, cursor=page.cursor, page_size=1000)
            yield from page.names

    def health(self) -> dict[str, Any]:
        """Status, version, node id and role of the server."""
        return self._run(calls.health())

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self.close()


class AsyncClient:
    """`Client` for asyncio: the same arguments, methods and errors."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        redirect_hosts: Iterable[str] = (),
        retries: int = 4,
        timeout_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """Raises ValueError if `url` is none. Nothing is sent yet."""
        self._policy = _policy(url, api_key, redirect_hosts, retries, rng)
        self._http = httpx.AsyncClient(transport=transport, **_settings(self._policy, timeout_s))
        self._sleep = sleep

    async def _run(self, call: Call[T]) -> T:
        conversation = converse(self._policy, call)
        heard: httpx.Response | httpx.TransportError | None = None
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
                heard = await self._http.send(_request(self._http, step))
            except httpx.TransportError as error:
                heard = error

    async def create(self, namespace: str, schema: Mapping[str, Any]) -> bool:
        """Create the namespace or add attributes to it; whether it is new. `schema` as in the v1 API."""
        return await self._run(calls.create(namespace, schema))

    async def upsert(
        self, namespace: str, documents: Iterable[Document], *, idempotency_key: str | None = None
    ) -> Written:
        """Insert or replace the documents, all or none of them."""
        return await self._run(calls.upsert(namespace, calls.encode_documents(documents), idempotency_key))

    async def delete(
        self,
        namespace: str,
        ids: Iterable[DocumentId] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        idempotency_key: str | None = None,
    ) -> Written:
        """Delete the documents with these ids, or those that match the filter; one of them is needed."""
        return await self._run(calls.delete(namespace, ids, filter, idempotency_key))

    async def query(self, namespace: str, **params: Unpack[QueryParams]) -> Answer:
        """Search, or look up in the order of attributes."""
        return await self._run(calls.query(namespace, params))

    async def documents(
        self,
        namespace: str,
        ids: Sequence[DocumentId],
        *,
        include_vector: bool = False,
        consistency: str | Mapping[str, Any] = "strong",
    ) -> list[Result | None]:
        """The documents with these ids, in their order, None where there is none."""
        return await self._run(calls.documents(namespace, ids, include_vector, consistency))

    async def info(self, namespace: str) -> dict[str, Any]:
        """Schema, document count, bytes, segments, log tail, owner."""
        return await self._run(calls.info(namespace))

    async def warm(self, namespace: str) -> None:
        """Have the server bring what queries of the namespace look at into its cache, in the background."""
        await self._run(calls.warm(namespace))

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
        return await self._run(
            calls.recall(namespace, num, top_k, filters, vector_field, queries, include_ground_truth)
        )

    async def delete_namespace(self, namespace: str) -> None:
        """Delete the namespace with everything in it."""
        await self._run(calls.delete_namespace(namespace))

    async def namespaces(
        self, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
    ) -> NamespacePage:
        """One page of the names that begin with `prefix`, in byte order."""
        return await self._run(calls.namespaces(prefix, cursor, page_size))

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
        return await self._run(calls.health())

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
