"""Writes that a node passes on to the owner of their namespace."""

from __future__ import annotations

import asyncio
import gzip
import json

import httpx
import pytest
from aiohttp import web
from cluster.fake_owner import with_fake_owner
from cluster.served import LIVENESS_TIMEOUT_S, cluster_of, listeners, owned_by, served, url_of
from crash.processes import until

from elacsym.cluster.liveness import TRUSTED_S
from elacsym.cluster.member import Member
from elacsym.store.memory import MemoryStore
from elacsym.telemetry import FORWARDS

BODY = {"documents": [{"id": 1, "attributes": {"year": 2020}}]}


def outcomes():
    return {labels[0]: child._value.get() for labels, child in FORWARDS._metrics.items()}


async def test_every_kind_of_write_is_answered_through_a_node_that_does_not_own(monkeypatch):
    keys = {"api_keys": ("a-secret-key",), "forward": True}
    async with cluster_of("indexer", "indexer", "query", **keys) as nodes:
        (name,) = owned_by("node-1", [node.member for node in nodes])
        url = f"/v1/namespaces/{name}"
        for wrong in (nodes[0], nodes[2]):
            for method, path, body in [
                ("PUT", url, {"schema": {}}),
                ("POST", f"{url}/upsert", BODY),
                ("POST", f"{url}/delete", {"ids": [1]}),
                ("DELETE", url, None),
            ]:
                headers = {"authorization": "Bearer a-secret-key", "x-request-id": "mine"}
                response = await wrong.http.request(method, path, json=body, headers=headers)
                assert response.status_code == 200, response.text
                assert response.headers["x-correct-indexer"] == "node-1"
                assert response.headers.get_list("x-served-by") == ["node-1"]
                assert response.headers.get_list("x-request-id") == ["mine"]
            unknown = await wrong.http.post(f"{url}/upsert", json=BODY)
            assert (unknown.status_code, unknown.headers["x-served-by"]) == (401, wrong.member.node_id)


async def test_a_write_through_another_node_is_read_by_all():
    async with cluster_of("indexer", "indexer", "query", forward=True) as nodes:
        (name,) = owned_by("node-0", [node.member for node in nodes])
        url = f"/v1/namespaces/{name}"
        assert (await nodes[2].http.put(url, json={"schema": {}})).status_code == 200
        packed = gzip.compress(json.dumps(BODY).encode())
        headers = {"content-encoding": "gzip", "content-type": "application/json"}
        assert (await nodes[1].http.post(f"{url}/upsert", content=packed, headers=headers)).status_code == 200
        for node in nodes:
            response = await node.http.get(f"{url}/documents/1")
            assert response.json() == {"id": 1, "attributes": {"year": 2020}}
            assert response.headers["x-served-by"] == node.member.node_id
            assert "x-correct-indexer" not in response.headers


async def test_paths_and_queries_arrive_byte_for_byte():
    async with with_fake_owner() as (node, owner, name):
        target = f"/v1/namespaces/%{ord(name[0]):02x}{name[1:]}/upsert?a=%2F%c3%a4&b=+&c"
        async with Raw(node) as (reader, writer):
            writer.write(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            assert await status_of(reader) == 200
        assert owner.requests[0].raw_path == target


async def test_headers_of_one_connection_stay_on_it():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            await request.read()
            return web.Response(headers={"Connection": "x-theirs", "X-Theirs": "1", "X-End": "2"})

        owner.handle = handle
        headers = {"Connection": "X-Mine", "X-Mine": "1", "TE": "trailers", "X-Kept": "ä".encode()}
        response = await node.http.post(f"/v1/namespaces/{name}/upsert", json={}, headers=headers)
        seen = owner.requests[0].headers
        assert not {"X-Mine", "TE"} & set(seen)
        assert (seen["X-Kept"], seen["X-Elacsym-Hops"]) == ("ä", "1")
        assert "User-Agent" in seen
        assert seen["Host"] == owner.member.url.removeprefix("http://")
        assert "x-theirs" not in response.headers
        assert response.headers["x-end"] == "2"
        assert len(response.headers.get_list("date")) == 1


async def test_the_rest_of_the_time_is_passed_on():
    async with with_fake_owner(request_timeout_s=5) as (node, owner, name):
        await node.http.post(
            f"/v1/namespaces/{name}/upsert", json={}, headers={"X-Request-Timeout-Ms": "9000"}
        )
        assert 1000 < int(owner.requests[0].headers["X-Request-Timeout-Ms"]) <= 5000


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_is_not_held_while_the_owner_does_not_read_it(is_chunked):
    size, piece = 96 * 2**20, b"x" * 2**16
    async with with_fake_owner() as (node, owner, name):
        may_read = asyncio.Event()

        async def handle(request):
            await may_read.wait()
            count = 0
            async for part in request.content.iter_any():
                count += len(part)
            return web.json_response({"bytes": count})

        owner.handle = handle
        sent = 0

        async def body():
            nonlocal sent
            while sent < size:
                sent += len(piece)
                yield piece

        headers = {} if is_chunked else {"content-length": str(size)}
        request = asyncio.create_task(
            node.http.post(f"/v1/namespaces/{name}/upsert", content=body(), headers=headers)
        )

        async def is_stuck():
            before = sent
            await asyncio.sleep(0.2)
            return sent == before > 0

        await until(is_stuck)
        # the buffers of four sockets, and of the servers between them
        assert sent < 32 * 2**20
        may_read.set()
        assert (await request).json() == {"bytes": size}


async def test_a_long_answer_streams_back():
    async with with_fake_owner() as (node, owner, name):
        rest = asyncio.Event()

        async def handle(request):
            response = web.StreamResponse()
            await response.prepare(request)
            # more than is held back
            await response.write(100_000 * b"-")
            await rest.wait()
            await response.write(b"end")
            return response

        owner.handle = handle
        async with node.http.stream("DELETE", f"/v1/namespaces/{name}") as response:
            parts = response.aiter_raw()
            assert await anext(parts)
            rest.set()
            assert b"".join([part async for part in parts]).endswith(b"-end")


async def test_an_owner_that_refuses_connections_is_replaced_by_its_stand_in():
    sockets = listeners(2)
    members = [Member(f"node-{n}", url_of(sockets[n])) for n in range(2)]
    (name,) = owned_by("node-1", members)
    sockets[1].close()
    async with served(sockets[0], members[0], members, MemoryStore(), forward=True) as node:
        response = await node.http.put(f"/v1/namespaces/{name}", json={"schema": {}})
        assert (response.status_code, response.headers["x-served-by"]) == (200, "node-0")


async def test_an_owner_that_dies_after_it_was_asked_is_replaced_before_the_body_is_read():
    """It was alive a moment ago, so that nobody asks it again."""
    sockets = listeners(2)
    members = [Member(f"node-{n}", url_of(sockets[n])) for n in range(2)]
    (name,) = owned_by("node-1", members)
    store = MemoryStore()
    before = outcomes().get("refused", 0)
    async with served(sockets[0], members[0], members, store, forward=True) as node:
        async with served(sockets[1], members[1], members, store, forward=True):
            response = await node.http.put(f"/v1/namespaces/{name}", json={"schema": {}})
            assert response.headers["x-served-by"] == "node-1"
        response = await node.http.post(f"/v1/namespaces/{name}/upsert", json=BODY)
        assert (response.status_code, response.headers["x-served-by"]) == (200, "node-0")
    assert outcomes()["refused"] == before + 1


async def test_an_owner_that_breaks_off_after_the_whole_body_leaves_the_outcome_open():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            await request.read()
            request.transport.abort()
            return web.Response()

        owner.handle = handle
        for method, body in (("POST", "{}"), ("PUT", "{}"), ("DELETE", "")):
            suffix = "/upsert" if method == "POST" else ""
            response = await node.http.request(
                method, f"/v1/namespaces/{name}{suffix}", content=body, headers={"idempotency-key": "k"}
            )
            answer = response.json()
            assert (response.status_code, answer["code"], answer["idempotency_key"]) == (
                503,
                "outcome_unknown",
                "k",
            )
            assert response.headers["x-served-by"] == "real"
        # nothing was sent twice
        assert [request.method for request in owner.requests] == ["POST", "PUT", "DELETE"]


async def test_an_owner_that_breaks_off_in_the_middle_of_its_answer_leaves_the_outcome_open():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            await request.read()
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b'{"count"')
            request.transport.abort()
            return response

        owner.handle = handle
        response = await node.http.post(
            f"/v1/namespaces/{name}/upsert", json={}, headers={"Idempotency-Key": "key-1"}
        )
        assert (response.status_code, response.json()["code"]) == (503, "outcome_unknown")
        assert response.json()["idempotency_key"] == "key-1"


async def test_an_owner_that_breaks_off_before_it_has_the_whole_body_has_done_nothing():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            await request.content.readany()
            request.transport.abort()
            return web.Response()

        owner.handle = handle

        async def body():
            yield b"x" * 1000
            await asyncio.sleep(0.3)
            yield b"y" * 1000

        response = await node.http.post(f"/v1/namespaces/{name}/upsert", content=body())
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert "retry-after" in response.headers


async def test_an_owner_that_stops_answering_is_not_waited_for():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            await request.read()
            owner.is_alive = False
            await asyncio.Event().wait()

        owner.handle = handle
        async with asyncio.timeout(10):
            response = await node.http.post(f"/v1/namespaces/{name}/upsert", json={})
        assert (response.status_code, response.json()["code"]) == (503, "outcome_unknown")
        # whoever comes next is served here
        created = await node.http.put(f"/v1/namespaces/{name}", json={"schema": {}})
        assert (created.status_code, created.headers["x-served-by"]) == (200, "real")


async def test_an_answer_that_comes_while_the_owner_is_asked_whether_it_lives_is_passed_on():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            await request.read()
            owner.is_alive = False
            # beyond the time for which an answer is trusted, within the time for the next one
            await asyncio.sleep(TRUSTED_S + LIVENESS_TIMEOUT_S / 2)
            return web.json_response({"count": 1})

        owner.handle = handle
        response = await node.http.post(f"/v1/namespaces/{name}/upsert", json={})
        assert (response.status_code, response.json()) == (200, {"count": 1})


async def test_looking_for_an_owner_takes_no_longer_than_the_request_may():
    async with with_fake_owner() as (node, owner, name):
        owner.is_alive = False
        async with asyncio.timeout(4):
            response = await node.http.post(
                f"/v1/namespaces/{name}/upsert", json={}, headers={"X-Request-Timeout-Ms": "200"}
            )
        assert (response.status_code, response.json()["code"]) == (503, "deadline_exceeded")


async def test_a_slow_owner_that_lives_is_waited_for_until_the_deadline():
    async with with_fake_owner(request_timeout_s=2) as (node, owner, name):

        async def handle(request):
            await request.read()
            await asyncio.Event().wait()

        owner.handle = handle
        response = await node.http.post(f"/v1/namespaces/{name}/upsert", json={})
        assert (response.status_code, response.json()["code"]) == (503, "outcome_unknown")
        assert "no answer within 2 s" in response.json()["error"]


async def test_a_client_that_goes_away_takes_its_request_with_it():
    async with with_fake_owner() as (node, owner, name):
        gone = asyncio.Event()

        async def handle(request):
            await request.read()
            try:
                await asyncio.Event().wait()
            finally:
                gone.set()

        owner.handle = handle
        async with Raw(node) as (_, writer):
            head = f"POST /v1/namespaces/{name}/upsert HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
            writer.write(head.encode() + b"{}")

            async def has_arrived():
                return len(owner.requests) == 1

            await until(has_arrived)
        async with asyncio.timeout(10):
            await gone.wait()


async def test_an_answer_that_comes_before_the_body_has_been_read_is_passed_on():
    async with with_fake_owner() as (node, owner, name):

        async def handle(request):
            return web.json_response({"code": "payload_too_large"}, status=413)

        owner.handle = handle
        head = f"POST /v1/namespaces/{name}/upsert HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
        async with Raw(node) as (reader, writer):
            writer.write(head.encode() + b"x" * 2**20)
            assert await status_of(reader) == 413


async def test_a_client_that_asks_first_is_asked_for_its_body_only_when_the_owner_is_reached():
    async with with_fake_owner() as (node, _, name):
        head = (
            f"POST /v1/namespaces/{name}/upsert HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            "Content-Length: 2\r\n\r\n"
        )
        async with Raw(node) as (reader, writer):
            writer.write(head.encode())
            assert await status_of(reader) == 100
            await reader.readline()
            writer.write(b"{}")
            assert await status_of(reader) == 200


async def test_nodes_that_take_each_other_for_the_owner_give_up_after_two_hops():
    """Each has another list of the nodes: the first knows itself and the second, the second only others."""
    sockets = listeners(2)
    one, two = (Member(f"node-{n}", url_of(sockets[n]), "query") for n in range(2))
    store = MemoryStore()
    # either takes the other one for the only indexer
    first = Member(one.node_id, one.url, "indexer")
    second = Member(two.node_id, two.url, "indexer")
    async with (
        served(sockets[0], one, [one, second], store, forward=True) as left,
        served(sockets[1], two, [two, first], store, forward=True),
    ):
        response = await left.http.put("/v1/namespaces/docs", json={"schema": {}})
        assert (response.status_code, response.json()["code"]) == (503, "not_owner")
        assert "2 nodes" in response.json()["error"]
        assert "retry-after" in response.headers


@pytest.mark.parametrize("hops", ["x", "-1", "1000"])
async def test_a_number_of_hops_that_no_node_sends_is_refused(hops):
    async with with_fake_owner() as (node, owner, name):
        response = await node.http.put(
            f"/v1/namespaces/{name}", json={"schema": {}}, headers={"X-Elacsym-Hops": hops}
        )
        assert response.status_code == 400
        assert owner.requests == []


async def test_the_header_for_affinity_must_name_the_namespace_of_the_path():
    async with with_fake_owner() as (node, owner, name):
        url = f"/v1/namespaces/{name}"
        right = await node.http.put(url, json={}, headers={"X-Namespace": name})
        wrong = await node.http.put(url, json={}, headers={"X-Namespace": "other"})
        assert (right.status_code, wrong.status_code, len(owner.requests)) == (200, 400, 1)
        assert "X-Namespace" in wrong.json()["error"]


class Raw:
    """A connection to a node, and what is written and read on it."""

    def __init__(self, node) -> None:
        self._url = httpx.URL(node.member.url)

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection(self._url.host, self._url.port)
        return self._reader, self._writer

    async def __aexit__(self, *error):
        self._writer.transport.abort()


async def status_of(reader):
    async with asyncio.timeout(10):
        return int((await reader.readline()).split()[1])
