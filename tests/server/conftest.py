"""A server application over a real database in memory, and a client that calls it without a socket."""

from contextlib import asynccontextmanager

import httpx
import pytest

from elacsym.clock import SystemClock, system_random
from elacsym.config import Config
from elacsym.engine.database import Database
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.server.app import create_app
from elacsym.store.cache import ObjectCache
from elacsym.store.memory import MemoryStore


def opener(store):
    """An `OpenDatabase` over `store`."""

    @asynccontextmanager
    async def open_database(config, compute):
        cache = ObjectCache(store, compute=compute)
        services = Services(
            store, cache, compute, SystemClock(), system_random(), EngineSettings(), config.node_id
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


@pytest.fixture
async def client():
    """A client of an empty server."""
    async with serving() as client:
        yield client


SCHEMA = {
    "vector_dim": 2,
    "vector_metric": "l2",
    "attributes": {
        "title": {"type": "string", "full_text": True},
        "category": {"type": "string"},
        "year": {"type": "integer"},
        "price": {"type": "float"},
        "hidden": {"type": "string", "indexed": False},
        "tags": {"type": "array<string>"},
    },
}

DOCUMENTS = [
    {
        "id": 1,
        "vector": [0.0, 0.0],
        "attributes": {"title": "object storage", "category": "db", "year": 2020, "tags": ["a", "b"]},
    },
    {
        "id": 2,
        "vector": [1.0, 0.0],
        "attributes": {"title": "vector search on object storage", "category": "db", "year": 2022},
    },
    {"id": 3, "vector": [0.7, 0.7], "attributes": {"title": "full text", "category": "text", "year": 2024}},
    {"id": 4, "attributes": {"title": "no vector here", "year": 2021, "price": 1.5}},
]


@pytest.fixture
async def docs(client):
    """The same client, with the namespace `docs` filled."""
    assert (await client.put("/v1/namespaces/docs", json={"schema": SCHEMA})).status_code == 200
    response = await client.post("/v1/namespaces/docs/upsert", json={"documents": DOCUMENTS})
    assert response.status_code == 200, response.text
    return client
