"""Nodes of one cluster in this process, on real sockets, over one store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

import httpx
import uvicorn
from server.in_process import opener

from elacsym.clock import SystemClock
from elacsym.cluster.member import Member
from elacsym.cluster.node import ClusterNode
from elacsym.cluster.ring import HashRing
from elacsym.cluster.static import StaticMembership
from elacsym.config import Config
from elacsym.server.app import create_app
from elacsym.server.service import Service
from elacsym.store.memory import MemoryStore

SUSPECT_S = 0.3
LIVENESS_TIMEOUT_S = 0.3


@dataclass
class Served:
    """One node: its client sends each request once and follows nothing."""

    member: Member
    service: Service
    http: httpx.AsyncClient

    @property
    def cluster(self) -> ClusterNode:
        return self.service.cluster


class _Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


def listeners(count):
    """Sockets that listen on free ports of loopback."""
    return [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(count)]


def url_of(listener):
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def owned_by(node_id, members, count=1):
    """Names of namespaces that the ring gives to this node."""
    ring = HashRing({m.node_id: m.weight for m in members if m.is_indexer})
    names = (f"docs-{n}" for n in range(10_000))
    return list(islice((name for name in names if ring.owner(name) == node_id), count))


@asynccontextmanager
async def served(listener, member, members, store, **settings) -> AsyncIterator[Served]:
    """A node that serves on this socket for as long as the block runs."""
    config = Config(**({"node_id": member.node_id, "node_type": member.role, "threads": 1} | settings))

    def cluster(_):
        membership = StaticMembership(member, members)
        return ClusterNode.of(
            membership, SystemClock(), suspect_s=SUSPECT_S, liveness_timeout_s=LIVENESS_TIMEOUT_S
        )

    app = create_app(config, opener(store, cluster))
    async with app.router.lifespan_context(app):
        chosen = uvicorn.Config(app, http="httptools", lifespan="off", log_config=None, access_log=False)
        server = _Quiet(chosen)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with httpx.AsyncClient(base_url=member.url, timeout=30, trust_env=False) as http:
                yield Served(member, app.state.service, http)
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def cluster_of(*roles, store=None, **settings) -> AsyncIterator[list[Served]]:
    """Nodes `node-0`, `node-1` … of these roles, all with the same settings."""
    sockets = listeners(len(roles))
    members = [Member(f"node-{n}", url_of(sockets[n]), role) for n, role in enumerate(roles)]
    store = store or MemoryStore()
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(served(listener, member, members, store, **settings))
            for listener, member in zip(sockets, members, strict=True)
        ]
