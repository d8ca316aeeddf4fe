"""A cluster of real processes on loopback: indexers and query nodes.

Every node has a port that is known before it starts, so that the others can name it, and keeps it over
restarts. Ports lie below those that the system gives to outgoing connections: nobody takes the port of a node
that is down for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import httpx
from crash.processes import SMALL, ServerProcess, until
from crash.storages import Storage

from elacsym.client import AsyncClient
from elacsym.cluster.ring import HashRing

PORTS = range(20_000, 32_000)
READY_S_MAX = 60.0

# seconds instead of half minutes; under load a slow node is taken for a dead one now and then, which must be
# safe
QUICK: Mapping[str, object] = MappingProxyType(
    SMALL
    | {
        "heartbeat_s": 0.5,
        # a round takes at most half of it, and moto, which all nodes ask at once, is slow
        "heartbeat_silent_s": 3.0,
        "suspect_s": 1.0,
        "liveness_timeout_s": 0.3,
        "shutdown_timeout_s": 10.0,
        # many namespaces, each of which is used for a short time
        "fold_age_s": 2.0,
        "upkeep_period_s": 0.2,
        "namespace_idle_s": 5.0,
        "threads": 1,
    }
)
# what concerns the cluster, as shipped
SHIPPED: Mapping[str, object] = MappingProxyType(
    {"heartbeat_s": 5.0, "heartbeat_silent_s": 30.0, "suspect_s": 10.0, "liveness_timeout_s": 1.0}
)
NONE: Mapping[str, object] = MappingProxyType({})
SERVE = ("-m", "elacsym.cli", "serve")
Mode = Literal["static", "dynamic"]


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port from {PORTS.start} to {PORTS.stop}")


@dataclass(frozen=True)
class Place:
    """Where a node is."""

    node_id: str
    role: Literal["indexer", "query"]
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def entry(self) -> str:
        """Its place in `ELACSYM_NODES`."""
        return f"{self.node_id}={self.url}" + (";role=query" if self.role == "query" else "")


def places(indexers: int, queries: int) -> list[Place]:
    """`indexer-0` … and `query-0` …, on free ports."""
    kinds = [("indexer", n) for n in range(indexers)] + [("query", n) for n in range(queries)]
    return [Place(f"{role}-{n}", role, free_port()) for role, n in kinds]


def listed(nodes: Iterable[Place]) -> str:
    """A value for `ELACSYM_NODES`."""
    return ",".join(node.entry for node in nodes)


class Cluster:
    """Nodes over one storage. Every node of a `static` cluster is told of all others, unless it has a setting
    `nodes` of its own; those of a `dynamic` one find each other in the bucket.

    own: settings of single nodes, by node id. command: what Python runs, as `ServerProcess` takes it.
    """

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        nodes: Sequence[Place],
        *,
        mode: Mode = "static",
        own: Mapping[str, Mapping[str, object]] = NONE,
        command: Sequence[str] = SERVE,
        **settings: object,
    ) -> None:
        self._command = command
        self.folder, self.storage, self.mode = folder, storage, mode
        self.places: dict[str, Place] = {}
        self.servers: dict[str, ServerProcess] = {}
        self._settings = dict(QUICK) | settings
        self._listed = listed(nodes)
        for node in nodes:
            self._add(node, own.get(node.node_id, NONE))

    def _add(self, node: Place, own: Mapping[str, object]) -> ServerProcess:
        where = {"nodes": self._listed} if self.mode == "static" else {"advertise_url": node.url}
        who = {"node_id": node.node_id, "node_type": node.role, "port": node.port}
        server = ServerProcess(
            self.folder / node.node_id,
            self.storage.url,
            # an S3 server sees who asks
            {**self.storage.environment, "AWS_SDK_UA_APP_ID": node.node_id},
            command=self._command,
            **self._settings | where | who | own,
        )
        self.places[node.node_id], self.servers[node.node_id] = node, server
        return server

    @property
    def indexers(self) -> list[Place]:
        """Nodes that may own namespaces."""
        return [p for p in self.places.values() if p.role == "indexer"]

    @property
    def queries(self) -> list[Place]:
        """Nodes that only answer queries."""
        return [p for p in self.places.values() if p.role == "query"]

    @property
    def ring(self) -> HashRing:
        """What all nodes should agree on while all are up."""
        return HashRing({p.node_id: 1.0 for p in self.indexers})

    def url(self, node_id: str) -> str:
        """Where a node is."""
        return self.places[node_id].url

    def urls(self, *node_ids: str) -> list[str]:
        """Where nodes are; without ids: all of them."""
        return [self.places[n].url for n in node_ids or self.places]

    async def start(self) -> None:
        """Start all nodes."""
        async with asyncio.TaskGroup() as tasks:
            for server in self.servers.values():
                tasks.create_task(server.start())

    async def add(self, node: Place) -> None:
        """Start one more node, which the others learn of by its heartbeat."""
        assert self.mode == "dynamic", "a static cluster has the nodes that it was given"
        await self._add(node, NONE).start()

    async def agree(self, node_ids: Iterable[str] | None = None) -> None:
        """Wait until every one of these nodes (None: all) sees exactly them, all alive.

        Raises TimeoutError.
        """
        wanted = set(self.places if node_ids is None else node_ids)

        async def do_agree() -> bool:
            views = [await self.members(node_id) for node_id in sorted(wanted)]
            alive = [{m["id"] for m in view if m["health"] == "live"} for view in views]
            return all(seen == wanted for seen in alive)

        await until(do_agree, timeout_s=READY_S_MAX, pause_s=0.1)

    async def members(self, node_id: str) -> list[dict[str, Any]]:
        """The members of the cluster as one node sees them; none if it does not answer."""
        async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
            try:
                answer = await http.get(f"{self.url(node_id)}/v1/cluster")
            except httpx.TransportError:
                return []
        answer.raise_for_status()
        return list(answer.json()["members"])

    def client(self, *node_ids: str, retries: int | None = None, timeout_s: float = 30.0) -> AsyncClient:
        """A client of these nodes (none: all of them). retries: None, as the client does by itself."""
        chosen = {} if retries is None else {"retries": retries}
        return AsyncClient(self.urls(*node_ids), timeout_s=timeout_s, **chosen)

    def http(self, node_id: str) -> httpx.AsyncClient:
        """A plain client of one node, for answers as they are; it follows no redirect."""
        return httpx.AsyncClient(base_url=self.url(node_id), timeout=30.0, trust_env=False)

    def errors(self) -> list[str]:
        """What the nodes logged as errors."""
        return [
            f"{node_id}: {event}" for node_id, server in self.servers.items() for event in server.errors()
        ]

    def kill(self) -> None:
        """End whatever still runs."""
        for server in self.servers.values():
            server.kill()


@contextlib.asynccontextmanager
async def cluster_of(
    folder: Path, storage: Storage, nodes: Sequence[Place], *, is_split: bool = False, **options: Any
) -> AsyncIterator[Cluster]:
    """A started cluster whose nodes agree on who takes part, unless it is to be split; killed in the end.

    options: as `Cluster` takes them.
    """
    cluster = Cluster(folder, storage, nodes, **options)
    try:
        await cluster.start()
        if not is_split:
            await cluster.agree()
        yield cluster
    finally:
        cluster.kill()
