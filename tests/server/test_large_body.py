"""Large upserts, decoded in a child process: the same documents and refusals as in the server itself."""

import asyncio
import io
import os
import signal

import numpy as np
import orjson
import pytest

from elacsym.compute import InlineCompute
from elacsym.errors import InvalidRequest, InvalidShape, Unavailable
from elacsym.server import codec, decode, large_body

NS = "/v1/namespaces/docs"


def numbers(vector):
    if isinstance(vector, bytes):
        return np.frombuffer(vector, "<f4").tolist()
    return np.asarray(vector, np.float32).tolist()


def plain(request):
    return [
        (d.id, {k: numbers(v) if k == "vector" else v for k, v in d.attributes.items()})
        for d in request.upserts
    ]


async def test_a_child_decodes_to_the_same_documents_in_the_same_order():
    documents = [
        {"id": n, "vector": [n / 7, -n], "attributes": {"title": "ü" * (n % 50), "tags": ["a"], "x": n / 3}}
        for n in range(5_000)
    ]
    documents[7] = {"id": 7, "vector": "AACAPwAAAMA="}
    documents[8] = {"id": 8}
    body = orjson.dumps({"documents": documents})
    found = await large_body.upsert(body, InlineCompute())
    assert plain(found) == plain(decode.upsert(orjson.loads(body)))


@pytest.mark.parametrize(
    ("body", "error", "field"),
    [
        (b'{"documents": [{"id": 1}, {"id": 1.5}]}', InvalidShape, "documents[1].id"),
        (b'{"documents": [{"id": 1, "vector": "%"}]}', InvalidRequest, "documents[0].vector"),
        (b'{"documents": [', InvalidRequest, ""),
    ],
)
async def test_a_refusal_in_the_child_is_the_refusal_of_the_request(body, error, field):
    with pytest.raises(error) as here:
        decode.upsert(codec.loads(body))
    with pytest.raises(error) as there:
        await large_body.upsert(body, InlineCompute())
    assert (type(there.value), there.value.field) == (error, field)
    assert str(there.value) == str(here.value)


def test_a_vector_that_is_none_reaches_the_engine_as_it_came():
    out = io.BytesIO()
    large_body.write_parts(b'{"documents": [{"id": 1, "vector": [1, "a"]}]}', out)
    assert b"float32" not in out.getvalue()


async def test_a_child_that_dies_stores_nothing_and_may_be_tried_again(monkeypatch):
    start = asyncio.create_subprocess_exec

    async def start_and_kill(*arguments, **options):
        process = await start(*arguments, **options)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_kill)
    with pytest.raises(Unavailable, match="ended early"):
        await large_body.upsert(b'{"documents": [{"id": 1}]}' + b" " * 2**20, InlineCompute())


async def test_a_large_upsert_goes_through_the_child_and_a_bad_one_stores_nothing(docs, monkeypatch):
    monkeypatch.setattr(codec, "POOL_BYTES_MAX", 200_000)
    seen = []
    child = asyncio.create_subprocess_exec

    async def counted(*arguments, **options):
        seen.append(arguments)
        return await child(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    before = (await docs.get(NS)).json()
    good = [{"id": n, "vector": [n, 1], "attributes": {"title": "x" * 100}} for n in range(100, 2_100)]
    bad = [*good, {"id": 9, "vector": [1, 2, 3]}]
    answer = await docs.post(f"{NS}/upsert", json={"documents": bad})
    assert (answer.status_code, answer.json()["error"][:22]) == (400, "documents[2000].vector")
    assert (await docs.get(NS)).json() == before
    answer = await docs.post(f"{NS}/upsert", json={"documents": good})
    assert answer.json()["count"] == 2_000
    assert (await docs.get(NS)).json()["documents"] == before["documents"] + 2_000
    assert len(seen) == 2


@pytest.fixture
def large(monkeypatch):
    """Every body that the event loop does not decode goes through a child."""
    monkeypatch.setattr(codec, "INLINE_BYTES_MAX", 0)
    monkeypatch.setattr(codec, "POOL_BYTES_MAX", 100)


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize(
    ("kind", "value"), [("string", "AACAPw=="), ("bytes", "AACAPw=="), ("[]int", [1, 2])]
)
async def test_a_vector_that_is_declared_as_something_else_is_that(client, large, kind, value, is_stored):
    ns, declared = "/v2/namespaces/odd", {"schema": {"vector": kind}}
    if is_stored:
        answer = await client.post(ns, json={"upsert_rows": [{"id": 1}], **declared})
        assert answer.status_code == 200, answer.text
    rows = [{"id": n, "vector": value} for n in range(2, 9)]
    answer = await client.post(ns, json={"upsert_rows": rows, **({} if is_stored else declared)})
    assert answer.status_code == 200, answer.text
    query = {"filters": ["id", "Eq", 3], "limit": 1, "include_attributes": ["vector"]}
    found = await client.post(f"{ns}/query", json=query)
    assert found.json()["rows"] == [{"id": 3, "vector": value}]


async def test_vectors_of_other_names_are_known_from_the_schema(client, large, monkeypatch):
    known = []
    write = large_body.write

    async def noted(body, compute, vectors):
        known.append(vectors)
        return await write(body, compute, vectors)

    monkeypatch.setattr(large_body, "write", noted)
    schema = {"dense": {"type": "[1]f32", "ann": True}, "n": "int"}
    first = {
        "upsert_rows": [{"id": 1, "dense": [1.0]}],
        "schema": schema,
        "distance_metric": "cosine_distance",
    }
    for body in (first, {"upsert_rows": [{"id": n, "dense": [n, 2]} for n in range(2, 20)]}):
        answer = await client.post("/v2/namespaces/named", json=body)
    assert (answer.status_code, answer.json()["error"][:20]) == (400, "upsert_rows[0].dense")
    assert known == [("vector",), ("dense", "vector")]
