"""Nodes that do nothing but note what reaches them, behind an nginx."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web
from cluster.harness import Place, free_port

BODY_BYTES_MAX = 1 << 30


@dataclass
class Arrived:
    """A request as a node saw it. target: path and query string as they were sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FakeNode:
    """How it answers can be changed at any time. is_cutting: it reads the request, then closes the
    connection. connections: the ports that requests came from."""

    place: Place
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    is_cutting: bool = False
    arrived: list[Arrived] = field(default_factory=list)
    connections: set[int] = field(default_factory=set)
    first_bytes: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    @property
    def targets(self) -> list[str]:
        """Methods and targets of the requests that arrived."""
        return [f"{a.method} {a.target}" for a in self.arrived]

    async def _answer(self, request: web.Request) -> web.Response:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            self.first_bytes.set()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.connections.add(request.transport.get_extra_info("peername")[1])
        self.arrived.append(Arrived(request.method, request.raw_path, headers, bytes(body)))
        if self.is_cutting:
            request.transport.abort()
        named = self.headers | {"X-Served-By": self.place.node_id}
        return web.json_response({"node": self.place.node_id}, status=self.status, headers=named)

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, keepalive_timeout=75.0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.place.port).start()

    async def stop(self) -> None:
        """Connections are closed, and new ones refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


@contextlib.asynccontextmanager
async def fake_nodes(indexers: int, queries: int) -> AsyncIterator[list[FakeNode]]:
    """`indexer-0` …, then `query-0` …, listening."""
    kinds = [("indexer", n) for n in range(indexers)] + [("query", n) for n in range(queries)]
    nodes = [FakeNode(Place(f"{role}-{n}", role, free_port())) for role, n in kinds]
    try:
        for node in nodes:
            await node.start()
        yield nodes
    finally:
        for node in nodes:
            await node.stop()
