"""A damaged object harms its own namespace alone, and the answer names it."""

from __future__ import annotations

import random

import pytest
from crash.processes import SMALL, serving, until
from crash.run import scrubbed

DOCS = {
    "vector_dim": 16,
    "vector_metric": "l2",
    "attributes": {"text": {"type": "string", "full_text": True}},
}
VECTOR = [0.5] * 16
BOTH = {"vector": VECTOR, "full_text": {"field": "text", "query": "document"}, "top_k": 3}
# namespace -> what of it is damaged
FOLDED = {
    "ids": "/ids",
    "values": "/attr.text",
    "vectors": "/vector",
    "texts": "/text",
    "bitmap": "/deletes",
}
# what no query looks at
DURABLE = {"rows": "/rows.parquet", "versions": "/versions"}
UNFOLDED = {"log": "/wal/"}
MANIFEST = {"head": "/manifest"}
DAMAGED = FOLDED | UNFOLDED | MANIFEST | DURABLE
SOUND = "sound"
NEVER = {"fold_slots": 100_000, "fold_age_s": 3600}


async def _fill(client, name):
    rng = random.Random(name)
    rows = [
        {"id": i, "vector": [rng.gauss(0, 1) for _ in VECTOR], "attributes": {"text": f"document {i}"}}
        for i in range(50)
    ]
    await client.create(name, DOCS)
    await client.upsert(name, rows)


async def _folded(client, name):
    async def is_folded():
        return (await client.info(name))["wal_tail"]["slots"] == 0

    await until(is_folded)


async def _damage(storage, name, part, damage):
    """Damage one object of a namespace where it lies; its key."""
    async with storage.opened() as store:
        keys = [row.key async for row in store.list("ns/") if f"/{name}/" in row.key]
        key = max(key for key in keys if part in key.partition(f"/{name}")[2])
        data = bytearray((await store.get(key)).data)
        if damage == "flip":
            data[len(data) // 2] ^= 1
        else:
            del data[len(data) // 2 :]
        await store.delete(key)
        assert await store.put_if_absent(key, bytes(data)) is not None
    return key


@pytest.mark.parametrize("damage", ["flip", "cut"])
async def test_a_damaged_object_is_named_and_other_namespaces_go_on(tmp_path, storage, damage):
    start = (tmp_path / "server", storage.url, storage.environment)
    async with serving(*start, **SMALL | {"fold_slots": 1}) as server, server.client() as client:
        names = [name for name in (*DAMAGED, SOUND) if name not in UNFOLDED]
        for name in names:
            await _fill(client, name)
        for name in names:
            await _folded(client, name)
        await client.delete("bitmap", [1])
        await _folded(client, "bitmap")
    async with serving(*start, **SMALL | NEVER) as server, server.client() as client:
        await _fill(client, "log")
    keys = {name: await _damage(storage, name, part, damage) for name, part in DAMAGED.items()}
    async with serving(*start, **SMALL) as server, server.client() as client, server.http() as http:
        for name, key in keys.items():
            answer = await http.post(f"/v1/namespaces/{name}/query", json=BOTH)
            if name in DURABLE:
                assert (name, answer.status_code, len(answer.json()["results"])) == (name, 200, 3)
            else:
                assert (name, answer.status_code, answer.json()["code"]) == (name, 500, "data_corruption")
                assert key in answer.json()["error"]
            assert len((await client.query(SOUND, **BOTH)).results) == 3
        for name in ("log", "head"):
            document = {"documents": [{"id": 99}]}
            answer = await http.post(f"/v1/namespaces/{name}/upsert", json=document)
            assert (answer.status_code, answer.json()["code"]) == (500, "data_corruption")
        assert {SOUND, "rows", "log"} <= set((await client.namespaces()).names)
        # upkeep of the others goes on beside the damaged ones
        await client.upsert(SOUND, [{"id": 99, "vector": VECTOR}])
        await _folded(client, SOUND)
        assert (await client.info(SOUND))["documents"] == 51
        assert {event["event"] for event in server.errors()} == {"request refused"}
        assert set(keys.values()) <= {key for key, _ in scrubbed(server)}
