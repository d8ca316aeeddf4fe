"""`Client`: moves bytes and sleeps; everything else is `calls`, `cluster` and `session`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


class Client:
    """A blocking client; may be shared by threads. Every method raises ApiError.

    url: one address or several; when one does not answer, or cannot serve, the next is asked.
    redirect_hosts: `host` or `host:port` to which requests may be redirected besides members of the cluster.
    retries, retry_for_s: how many times, and for how long after its first failure, a call is repeated.
    timeout_s: per attempt.
    read_your_writes: reads that ask for no consistency see what this client wrote to the namespace, mostly
    without a request to the store; what others wrote they may miss. Otherwise they are strong.
    """

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
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
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
        self._http = httpx.Client(transport=transport, **self._session.http_settings())
        self._sleep = sleep

    def run(self, call: Call[T]) -> T:
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
                self._sleep(step.seconds)
                heard = None
                continue
            try:
                heard = self._http.send(request(self._http, step))
            except httpx.RequestError as error:
                heard = error

    def create(self, namespace: str, schema: Mapping[str, Any]) -> bool:
        """Create the namespace or add attributes to it; whether it is new. `schema` as in the v1 API."""
        return self.run(calls.create(namespace, schema))

    def upsert(
        self, namespace: str, documents: Iterable[Document], *, idempotency_key: str | None = None
    ) -> Written:
        """Insert or replace the documents, all or none of them."""
        return self.run(calls.upsert(namespace, calls.encode_documents(documents), idempotency_key))

    def delete(
        self,
        namespace: str,
        ids: Iterable[DocumentId] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        idempotency_key: str | None = None,
    ) -> Written:
        """Delete the documents with these ids, or those that match the filter; one of them is needed."""
        return self.run(calls.delete(namespace, ids, filter, idempotency_key))

    def query(self, namespace: str, **params: Unpack[QueryParams]) -> Answer:
        """Search, or look up in the order of attributes."""
        return self.run(calls.query(namespace, self._session.query(namespace, params)))

    def documents(
        self,
        namespace: str,
        ids: Sequence[DocumentId],
        *,
        include_vector: bool = False,
        consistency: Consistency | None = None,
    ) -> list[Result | None]:
        """The documents with these ids, in their order, None where there is none."""
        seen = self._session.consistency(namespace, consistency)
        return self.run(calls.documents(namespace, ids, include_vector, seen))

    def info(self, namespace: str) -> dict[str, Any]:
        """Schema, document count, bytes, segments, log tail, owner."""
        return self.run(calls.info(namespace))

    def warm(self, namespace: str) -> None:
        """Have the server bring what queries of the namespace look at into its cache, in the background."""
        self.run(calls.warm(namespace))

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
        return self.run(
            calls.recall(namespace, num, top_k, filters, vector_field, queries, include_ground_truth)
        )

    def delete_namespace(self, namespace: str) -> None:
        """Delete the namespace with everything in it."""
        self.run(calls.delete_namespace(namespace))

    def namespaces(
        self, *, prefix: str = "", cursor: str | None = None, page_size: int = 100
    ) -> NamespacePage:
        """One page of the names that begin with `prefix`, in byte order."""
        return self.run(calls.namespaces(prefix, cursor, page_size))

    def all_namespaces(self, *, prefix: str = "") -> Iterator[str]:
        """Every name that begins with `prefix`."""
        page = self.namespaces(prefix=prefix, page_size=1000)
        yield from page.names
        while page.cursor and page.names:
            page = self.namespaces(prefix=prefix, cursor=page.cursor, page_size=1000)
            yield from page.names

    def health(self) -> dict[str, Any]:
        """Status, version, node id and role of the server."""
        return self.run(calls.health())

    def cluster(self, *, count_namespaces: bool = False) -> Cluster:
        """Who is in the cluster, as the server that answers sees it; how many namespaces each owns, if
        counted."""
        return self.run(cluster.cluster(count_namespaces))

    def owner(self, namespace: str) -> Owner:
        """Who writes the namespace, and which nodes read it best."""
        return self.run(cluster.owner(namespace))

    def rebalance(self, members: Mapping[str, float]) -> Rebalance:
        """What would move if these were the indexers, with their weights; nothing is changed."""
        return self.run(cluster.rebalance(members))

    def drain(self) -> dict[str, Any]:
        """Have the node at this client's address leave the ring and stop; the API key is its admin key."""
        return self.run(cluster.drain())

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
