"""The edge around the handlers: ids, keys, limits, deadlines, errors, metrics."""

import asyncio

import pytest
import structlog
from in_process import serving

import elacsym
from elacsym.errors import CorruptObject, OutcomeUnknown, StoreUnavailable
from elacsym.store.memory import MemoryStore
from elacsym.telemetry import HTTP_IN_FLIGHT_BYTES, HTTP_REQUESTS, configure_events

NS = "/v1/namespaces/docs"


class TroubledStore(MemoryStore):
    """Fails with `failure` where there is one, and answers nothing while `answers` is not set."""

    def __init__(self):
        super().__init__()
        self.failure = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def _suffer(self):
        if self.failure is not None:
            raise self.failure
        await self.answers.wait()

    async def get(self, key):
        await self._suffer()
        return await super().get(key)

    async def get_if_changed(self, key, etag):
        await self._suffer()
        return await super().get_if_changed(key, etag)

    async def put_if_absent(self, key, data):
        await self._suffer()
        return await super().put_if_absent(key, data)

    async def list(self, prefix):
        await self._suffer()
        async for info in super().list(prefix):
            yield info


async def test_a_request_id_is_echoed_or_made(client):
    echoed = await client.get("/health", headers={"X-Request-Id": "my-id-17"})
    assert (echoed.headers["x-request-id"], echoed.headers["x-served-by"]) == ("my-id-17", "node-1")
    made = [(await client.get("/health")).headers["x-request-id"] for _ in range(2)]
    assert len(set(made)) == 2
    refused = await client.get("/health", headers={"X-Request-Id": "a b\x7f"})
    assert refused.headers["x-request-id"] != "a b\x7f"


async def test_an_error_carries_the_request_id(client):
    response = await client.get("/v1/namespaces/none", headers={"X-Request-Id": "seen"})
    assert response.json() == {
        "status": "error",
        "error": "namespace 'none' was not found",
        "code": "namespace_not_found",
        "request_id": "seen",
    }


async def test_unknown_paths_and_methods_are_json_errors(client):
    for path in ("/", "/v1", "/v1/namespaces/docs/unknown", "/health/", "/v2/nothing"):
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), path
    wrong = await client.put("/v1/namespaces/docs/query")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert (await client.post(NS)).headers["allow"] == "DELETE, GET, HEAD, PUT"
    assert (await client.delete(f"{NS}/documents/get")).status_code == 405


async def test_head_is_answered_as_get(client):
    assert (await client.head("/health")).status_code == 200


async def test_health_names_the_node(client):
    assert (await client.get("/health")).json() == {
        "status": "ok",
        "version": elacsym.__version__,
        "node_id": "node-1",
        "role": "all",
    }
    assert (await client.get("/version")).json()["version"] == elacsym.__version__
    for path in ("/livez", "/readyz"):
        assert (await client.get(path)).json() == {"status": "ok"}


async def test_a_node_is_not_ready_while_the_store_does_not_answer():
    store = TroubledStore()
    async with serving(store) as client:
        store.failure = StoreUnavailable("no bucket today")
        response = await client.get("/readyz")
        assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
        assert int(response.headers["retry-after"]) >= 1
        assert (await client.get("/livez")).status_code == 200
        store.failure = None
        assert (await client.get("/readyz")).status_code == 200


async def test_keys_are_asked_for_where_the_server_has_some():
    async with serving(api_keys=("first-key", "second-key")) as client:
        for path in ("/health", "/livez", "/readyz", "/version", "/openapi.json"):
            assert (await client.get(path)).status_code == 200, path
        for method, path in [
            ("GET", "/v1/namespaces"),
            ("GET", "/metrics"),
            ("PUT", NS),
            ("POST", f"{NS}/upsert"),
        ]:
            response = await client.request(method, path)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized"), path
            assert response.headers["www-authenticate"] == "Bearer"
        wrong = await client.get("/v1/namespaces", headers={"Authorization": "Bearer third-key"})
        assert wrong.status_code == 401
        for key in ("first-key", "second-key"):
            right = await client.get("/v1/namespaces", headers={"Authorization": f"Bearer {key}"})
            assert right.status_code == 200


async def test_a_body_over_the_limit_is_refused_and_the_account_stays_clear():
    held = HTTP_IN_FLIGHT_BYTES._value.get()
    async with serving(request_bytes_max=2_000, body_bytes_in_flight_max=10_000) as client:
        await client.put(NS, json={"schema": {}})
        declared = await client.post(f"{NS}/upsert", content=b" " * 2_001)
        assert (declared.status_code, declared.json()["code"]) == (413, "payload_too_large")

        async def chunks():
            for _ in range(5):
                yield b" " * 500

        streamed = await client.post(f"{NS}/upsert", content=chunks())
        assert streamed.status_code == 413
        assert (await client.post(f"{NS}/upsert", json={"documents": [{"id": 1}]})).status_code == 200
    assert HTTP_IN_FLIGHT_BYTES._value.get() == held


async def test_bodies_beyond_the_budget_of_all_are_refused_with_a_time_to_come_back():
    async with serving(request_bytes_max=2_000, body_bytes_in_flight_max=3_000) as client:
        await client.put(NS, json={"schema": {}})
        is_held, may_go_on = asyncio.Event(), asyncio.Event()

        async def slow_body():
            yield b'{"documents": [{"id": 1}]'
            is_held.set()
            await may_go_on.wait()
            yield b"}" + b" " * (1_999 - 26)

        size = {"Content-Length": "1999"}
        first = asyncio.create_task(client.post(f"{NS}/upsert", content=slow_body(), headers=size))
        await is_held.wait()
        refused = await client.post(f"{NS}/upsert", content=b" " * 1_500)
        assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        may_go_on.set()
        assert (await first).status_code == 200


async def test_queries_beyond_the_limit_are_refused_with_a_time_to_come_back():
    store = TroubledStore()
    async with serving(store, query_concurrency_max=1) as client:
        await client.put(NS, json={"schema": {"vector_dim": 1}})
        store.answers.clear()
        first = asyncio.create_task(client.post(f"{NS}/query", json={"vector": [1]}))
        for _ in range(20):
            await asyncio.sleep(0)
        refused = await client.post(f"{NS}/query", json={"vector": [1]})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        store.answers.set()
        assert (await first).status_code == 200


async def test_a_read_past_its_deadline_is_unavailable_and_a_write_of_unknown_outcome():
    store = TroubledStore()
    async with serving(store, request_timeout_s=0.05) as client:
        await client.put(NS, json={"schema": {"vector_dim": 1}})
        await client.post(f"{NS}/upsert", json={"documents": [{"id": 1}]})
        store.answers.clear()
        read = await client.post(f"{NS}/query", json={"vector": [1]})
        assert (read.status_code, read.json()["code"]) == (503, "deadline_exceeded")
        written = await client.post(
            f"{NS}/upsert", json={"documents": [{"id": 1}]}, headers={"Idempotency-Key": "k-1"}
        )
        assert (written.status_code, written.json()["code"]) == (503, "outcome_unknown")
        assert written.json()["idempotency_key"] == "k-1"
        assert int(written.headers["retry-after"]) >= 1
        store.answers.set()


async def test_a_client_may_shorten_the_deadline():
    store = TroubledStore()
    async with serving(store) as client:
        await client.put(NS, json={"schema": {"vector_dim": 1}})
        store.answers.clear()
        response = await client.post(
            f"{NS}/query", json={"vector": [1]}, headers={"X-Request-Timeout-Ms": "20"}
        )
        assert (response.status_code, response.json()["code"]) == (503, "deadline_exceeded")
        assert "0.02 s" in response.json()["error"]
        store.answers.set()


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (CorruptObject("ns/x/1", "crc differs", offset=8), 500, "data_corruption"),
        (StoreUnavailable("the store is away"), 503, "store_unavailable"),
        (OutcomeUnknown("no answer"), 503, "outcome_unknown"),
        (RuntimeError("secret detail"), 500, "internal"),
    ],
)
async def test_failures_have_one_form_and_unexpected_ones_say_nothing(failure, status, code):
    store = TroubledStore()
    async with serving(store) as client:
        store.failure = failure
        response = await client.get("/v1/namespaces")
        body = response.json()
        assert (response.status_code, body["code"], body["status"]) == (status, code, "error")
        assert set(body) == {"status", "error", "code", "request_id"}
        assert "secret" not in response.text
        assert ("retry-after" in response.headers) is (status == 503)
        store.failure = None


async def test_a_query_node_refuses_writes():
    async with serving(node_type="query") as client:
        for method, path, body in [
            ("PUT", NS, {"schema": {}}),
            ("POST", f"{NS}/upsert", {"documents": [{"id": 1}]}),
            ("POST", f"{NS}/delete", {"ids": [1]}),
            ("DELETE", NS, None),
        ]:
            response = await client.request(method, path, json=body)
            assert (response.status_code, response.json()["code"]) == (503, "not_owner"), (method, path)


async def test_requests_are_counted_by_route_not_by_path(client):
    def count(route, status):
        return HTTP_REQUESTS.labels("GET", route, status)._value.get()

    before = count("/v1/namespaces/{ns}", "404"), count("unrouted", "404")
    await client.get("/v1/namespaces/none-1")
    await client.get("/v1/namespaces/none-2")
    await client.get("/nowhere")
    assert (count("/v1/namespaces/{ns}", "404"), count("unrouted", "404")) == (before[0] + 2, before[1] + 1)
    text = (await client.get("/metrics")).text
    for name in (
        "elacsym_http_requests_total",
        "elacsym_commits",
        "elacsym_store_operations",
        "elacsym_unindexed_bytes",
    ):
        assert name in text
    assert "none-1" not in text


async def test_every_request_is_logged_once_without_secrets():
    async with serving(api_keys=("first-key",)) as client:
        configure_events(level="info")
        with structlog.testing.capture_logs() as lines:
            await client.get(
                "/v1/namespaces/none?token=hidden",
                headers={"Authorization": "Bearer first-key", "X-Request-Id": "r-1"},
            )
    (line,) = [line for line in lines if line.get("request_id") == "r-1"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/namespaces/none", 404)
    assert line["ms"] >= 0
    assert "first-key" not in str(lines)
    assert "hidden" not in str(lines)


async def test_an_unexpected_failure_is_logged_with_its_cause():
    store = TroubledStore()
    async with serving(store) as client:
        store.failure = RuntimeError("what happened")
        configure_events(level="info")
        with structlog.testing.capture_logs() as lines:
            await client.get("/v1/namespaces", headers={"X-Request-Id": "r-2"})
        store.failure = None
    (line,) = [line for line in lines if line.get("request_id") == "r-2"]
    assert (line["log_level"], line["status"]) == ("error", 500)
    assert str(line["exc_info"]) == "what happened"
