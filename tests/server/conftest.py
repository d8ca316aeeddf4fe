"""Clients of an empty server, and of one with a few documents."""

import pytest
from in_process import serving


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
