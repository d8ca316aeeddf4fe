"""A server application over a real database in memory, called without a socket."""

from contextlib import asynccontextmanager

import httpx

from elacsym.clock import SystemClock, system_random
from elacsym.config import Config
from elacsym.engine.build import InlineBuilder
from elacsym.engine.database import Database
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.tuning import Tuning
from elacsym.server.app import create_app
from elacsym.store.cache import ObjectCache
from elacsym.store.memory import MemoryStore


def opener(store):
    """An `OpenDatabase` over `store`."""

    @asynccontextmanager
    async def open_database(config, compute):
        cache = ObjectCache(store, compute=compute)
        services = Services(
            store,
            cache,
            compute,
            SystemClock(),
            system_random(),
            EngineSettings(),
            config.node_id,
            InlineBuilder(compute),
            Tuning(system_random()),
        )
        database = Database(services)
        try:
            yield database
        finally:
            await database.close()

    return open_database


@asynccontextmanager
async def serving(store=None, **settings):
    """A client of an application with these settings; `client.app` is the application."""
    config = Config(**({"node_id": "node-1", "threads": 2} | settings))
    app = create_app(config, opener(store or MemoryStore()))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client:
            yield client
