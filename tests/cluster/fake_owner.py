"""A node that owns everything and answers as a test wants."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from aiohttp import web
from cluster.served import listeners, owned_by, served, url_of

from elacsym.cluster.member import Member
from elacsym.store.memory import MemoryStore


class FakeOwner:
    """Answers `/livez` while `is_alive`, and other requests by `handle`, which a test sets."""

    def __init__(self, member) -> None:
        self.member = member
        self.is_alive = True
        self.requests: list[web.Request] = []
        self.handle = self.accept

    async def accept(self, request):
        """Read the body and answer how long it was."""
        return web.json_response({"bytes": len(await request.read())})

    async def answer(self, request):
        if request.path == "/livez":
            if not self.is_alive:
                await asyncio.Event().wait()
            return web.json_response({}, headers={"X-Served-By": self.member.node_id})
        self.requests.append(request)
        response = await self.handle(request)
        response.headers["X-Served-By"] = self.member.node_id
        return response


@asynccontextmanager
async def with_fake_owner(**settings):
    """A real node that forwards, the fake owner, and the name of a namespace that is the fake one's."""
    sockets = listeners(2)
    real, fake = (Member(name, url_of(s)) for name, s in zip(("real", "fake"), sockets, strict=True))
    owner = FakeOwner(fake)
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{path:.*}", owner.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, sockets[1]).start()
    try:
        async with served(
            sockets[0], real, [real, fake], MemoryStore(), **({"forward": True} | settings)
        ) as node:
            yield node, owner, owned_by("fake", [real, fake])[0]
    finally:
        await runner.cleanup()
