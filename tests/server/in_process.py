"""A server application over a real database in memory, called without a socket."""

from contextlib import asynccontextmanager

import httpx

from elacsym.clock import SystemClock, system_random
from elacsym.cluster.member import Member
from elacsym.cluster.membership import Alone
from elacsym.cluster.node import ClusterNode
from elacsym.config import Config
from elacsym.engine.build import InlineBuilder
from elacsym.engine.database import Database
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.tuning import Tuning
from elacsym.server.app import create_app
from elacsym.server.service import Node
from elacsym.store.cache import ObjectCache
from elacsym.store.memory import MemoryStore


def alone(config):
    """A cluster of one."""
    return ClusterNode.of(Alone(Member(config.node_id, "http://test", config.node_type)), SystemClock())


def opener(store, cluster_of=alone):
    """An `OpenNode` over `store`; `cluster_of` makes its part in a cluster of its settings."""

    @asynccontextmanager
    async def open_node(config, compute):
        cache = ObjectCache(store, compute=compute)
        cluster = cluster_of(config)
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
            cluster.placement,
        )
        database = Database(services)
        await cluster.start()
        try:
            yield Node(database, cluster)
        finally:
            await database.close()
            await cluster.stop()

    return open_node


@asynccontextmanager
async def serving(store=None, **settings):
    """A client of an application with these settings; `client.app` is the application."""
    config = Config(**({"node_id": "node-1", "threads": 2} | settings))
    app = create_app(config, opener(store or MemoryStore()))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=30) as client:
            yield client
