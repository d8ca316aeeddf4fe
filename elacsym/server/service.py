"""What all requests of one server share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from elacsym.clock import SystemClock
from elacsym.cluster.census import Census
from elacsym.cluster.liveness import TRUSTED_S
from elacsym.cluster.node import ClusterNode
from elacsym.compute import Compute
from elacsym.config import Config
from elacsym.engine.database import Database
from elacsym.errors import Unavailable
from elacsym.format import keys
from elacsym.server.auth import AdminKeys, ApiKeys
from elacsym.server.limits import ByteBudget, Gate, NamespaceGate
from elacsym.server.unknown_fields import UnknownFields
from elacsym.server.warming import Warming
from elacsym.telemetry import get_logger


@dataclass(frozen=True, slots=True)
class Node:
    """What a server serves: its database, and its part in the cluster."""

    database: Database
    cluster: ClusterNode


OpenNode = Callable[[Config, Compute], AbstractAsyncContextManager[Node]]

_LOG = get_logger("server")

_READY_FOR_S = 1.0
_PROBE_TIMEOUT_S = 3.0
_CLOSING_S_MIN = 1.0
# each is decoded in a process of its own, which holds its body once more, and as Python objects
_LARGE_BODIES_MAX = 2
# each is many exact searches, one after another
_RECALLS_MAX = 2


class Service:
    """Settings, database, cluster, pool and limits. Database and cluster are there while the application
    runs."""

    def __init__(self, config: Config, compute: Compute) -> None:
        """`compute` is the pool for searching and decoding."""
        self.config = config
        self.compute = compute
        self.keys = ApiKeys(config.api_keys)
        self.admin_keys = AdminKeys(config.admin_keys)
        # set when the server is to drain and to stop
        self.stop_wanted = asyncio.Event()
        self.budget = ByteBudget(config.body_bytes_in_flight_max)
        self.large_bodies = asyncio.Semaphore(_LARGE_BODIES_MAX)
        self.queries = Gate(config.query_concurrency_max, "queries")
        self.namespace_queries = NamespaceGate(
            config.namespace_query_concurrency_max, wait_s=config.namespace_query_wait_s
        )
        self.unknown_fields = UnknownFields()
        self.recalls = Gate(_RECALLS_MAX, "measurements of recall")
        self.warming = Warming()
        self.census = Census(SystemClock(), compute)
        self._node: Node | None = None
        self._ready_until_s = 0.0

    @property
    def database(self) -> Database:
        """The open database. Raises Unavailable before the start and after the stop."""
        return self._running.database

    @property
    def cluster(self) -> ClusterNode:
        """This node's part in the cluster. Raises Unavailable before the start and after the stop."""
        return self._running.cluster

    @property
    def _running(self) -> Node:
        if self._node is None:
            raise Unavailable("the server is starting or stopping")
        return self._node

    @asynccontextmanager
    async def running(self, open_node: OpenNode) -> AsyncIterator[None]:
        """Have the database open. Closing may take half of the time for a stop; no write depends on it."""
        stack = AsyncExitStack()
        self._node = await stack.enter_async_context(open_node(self.config, self.compute))
        try:
            yield
        finally:
            self._node = None
            limit_s = max(_CLOSING_S_MIN, self.config.shutdown_timeout_s / 2)
            try:
                async with asyncio.timeout(limit_s):
                    await self.warming.close()
                    await stack.aclose()
            except TimeoutError:
                _LOG.warning("the database did not close in time", limit_s=limit_s)

    async def leave(self) -> float:
        """Hand over to the other nodes of the cluster, if there are any, while this one still answers.
        Returns the seconds that it took, at most a quarter of the time for a stop."""
        started_s = time.monotonic()
        limit_s = self.config.shutdown_timeout_s / 4
        await self.cluster.drain(limit_s)
        if self.cluster.membership.mode != "single":
            # whom the news did not reach goes on sending writes here for as long as it trusts an old answer
            rest_s = limit_s - (time.monotonic() - started_s)
            await asyncio.sleep(max(0.0, min(TRUSTED_S, rest_s)))
        return time.monotonic() - started_s

    async def check_ready(self) -> None:
        """Ask the store for one small object, at most once a second. Raises Unavailable, StoreUnavailable."""
        store = self.database.services.store
        if self.cluster.fault is not None:
            raise Unavailable(f"this node is not to be used: {self.cluster.fault}")
        if time.monotonic() < self._ready_until_s:
            return
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                await store.get(keys.CLUSTER)
        except TimeoutError as error:
            raise Unavailable(f"the store did not answer within {_PROBE_TIMEOUT_S:g} s") from error
        self._ready_until_s = time.monotonic() + _READY_FOR_S
