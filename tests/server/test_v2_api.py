"""The v2 API over HTTP: what its handlers add to decoders and engine, and the forms of its answers."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import pytest
from in_process import serving

from elacsym.errors import OutcomeUnknown, Overloaded
from elacsym.server import v2_copy

NS = "/v2/namespaces/shop"
FIRST = {
    "upsert_rows": [
        {"id": 1, "vector": [0.7, 0.1], "city": "Oslo", "at": "2024-03-02T01:02:03.4567Z", "raw": "AAE="},
        {"id": 2, "vector": [0.3, 0.1], "city": "Rome", "tags": ["a", "b"]},
    ],
    "distance_metric": "euclidean_squared",
    "schema": {"at": "datetime", "raw": "bytes", "text": {"type": "string", "full_text_search": True}},
}


async def call(client, path, body, *, status=200, method="POST"):
    answer = await client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.fixture
async def shop(client):
    """A client of a server with the namespace `shop`."""
    await call(client, NS, FIRST)
    return client


async def test_a_write_tells_what_it_did(client):
    found = await call(client, NS, FIRST | {"return_affected_ids": True})
    assert (found["status"], found["rows_affected"], found["rows_upserted"]) == ("OK", 2, 2)
    assert found["upserted_ids"] == [1, 2]
    assert "rows_deleted" not in found
    assert found["billing"]["billable_logical_bytes_written"] > 0
    assert type(found["performance"]["server_total_ms"]) is int
    body = {"patch_rows": [{"id": 1, "city": "Bern"}, {"id": 9, "city": "x"}], "deletes": [2, 8]}
    found = await call(client, NS, body)
    assert (found["rows_affected"], found["rows_patched"], found["rows_deleted"]) == (3, 1, 2)
    assert "query" in found["billing"]
    assert "patched_ids" not in found


async def test_rows_are_flat_and_values_have_their_forms(shop):
    body = {"rank_by": ["vector", "ANN", [0.7, 0.1]], "limit": 5, "include_attributes": True}
    first, second = (await call(shop, f"{NS}/query", body))["rows"]
    assert first == {
        "id": 1,
        "$dist": 0.0,
        "vector": [0.7, 0.1],
        "city": "Oslo",
        "at": "2024-03-02T01:02:03.456000000Z",
        "raw": "AAE=",
    }
    assert second == {"id": 2, "$dist": 0.15999998, "vector": [0.3, 0.1], "city": "Rome", "tags": ["a", "b"]}
    encoded = await call(shop, f"{NS}/query", body | {"vector_encoding": "base64"})
    text = encoded["rows"][0]["vector"]
    assert np.frombuffer(base64.b64decode(text), "<f4").tolist() == np.float32([0.7, 0.1]).tolist()


async def test_a_row_is_id_and_distance_unless_more_is_asked_for(shop):
    body = {"rank_by": ["vector", "ANN", [0.7, 0.1]], "limit": 2}
    answer = await call(shop, f"{NS}/query", body)
    assert [set(row) for row in answer["rows"]] == [{"id", "$dist"}] * 2
    assert answer["billing"] == {
        "billable_logical_bytes_queried": 256_000_000,
        "billable_logical_bytes_returned": 24,
    }
    performance = answer["performance"]
    assert type(performance["cache_hit_ratio"]) is float
    assert performance["server_total_ms"] > 2
    assert (performance["exhaustive_search_count"], performance["approx_namespace_size"]) == (2, 2)
    assert (await call(shop, f"{NS}/query", {"limit": 1}))["rows"] == [{"id": 1}]


async def test_bytes_returned_are_those_of_ids_distances_and_values(client):
    rows = [{"id": n, "vector": [n, 1]} for n in range(5)]
    rows[3]["name"] = "abcde"
    await call(client, NS, {"upsert_rows": rows, "distance_metric": "cosine_distance"})
    body = {"rank_by": ["vector", "ANN", [1, 1]], "limit": 10, "include_attributes": ["vector", "name"]}
    answer = await call(client, f"{NS}/query", body)
    assert answer["billing"]["billable_logical_bytes_returned"] == 105


async def test_aggregations_and_several_queries_have_their_own_forms(shop):
    grouped = {"aggregate_by": {"n": ["Count"]}, "group_by": ["at"]}
    answer = await call(shop, f"{NS}/query", grouped)
    assert answer["aggregation_groups"] == [
        {"at": None, "n": 1},
        {"at": "2024-03-02T01:02:03.456000000Z", "n": 1},
    ]
    ranked = {"rank_by": ["vector", "ANN", [0.3, 0.1]], "limit": 1}
    answer = await call(shop, f"{NS}/query", {"queries": [ranked, {"aggregate_by": {"n": ["Count"]}}]})
    assert answer["results"] == [{"rows": [{"id": 2, "$dist": 0.0}]}, {"aggregations": {"n": 2}}]
    assert answer["billing"]["billable_logical_bytes_queried"] == 512_000_000
    fused = {"queries": [ranked, ranked | {"limit": 2}], "rerank_by": ["RRF"], "limit": 1}
    assert [row["id"] for row in (await call(shop, f"{NS}/query", fused))["results"][0]["rows"]] == [2]


SHAPE = "Failed to deserialize the JSON body into the target type: "
RANKED = {"rank_by": ["vector", "ANN", [1, 1]], "limit": 1}
REFUSED = [
    ({"rank_by": ["vector", "ANN", [1, 1]]}, 400, "💔 rank_by queries must specify top_k or limit"),
    (RANKED | {"limit": 0}, 400, "💔 top_k must be between 1 and 10000"),
    (RANKED | {"limit": 10_000, "offset": 1}, 400, "offset: limit and offset are 10001"),
    (RANKED | {"top_k": 1}, 400, "limit: top_k is the same"),
    (RANKED | {"limit": 1.5}, 422, SHAPE + "limit: invalid type: floating point `1.5`, expected"),
    (RANKED | {"offset": -1}, 422, SHAPE + "offset: invalid value: integer `-1`, expected usize"),
    ({}, 400, "one of rank_by, aggregate_by and limit is needed"),
    ({"rank_by": [], "limit": 1}, 400, "rank_by: is empty"),
    ({"limit": 1, "offset": 1}, 400, "offset: it needs a ranking"),
    (RANKED | {"include_attributes": True, "exclude_attributes": ["a"]}, 400, "include_attributes: "),
    (RANKED | {"include_attributes": 1}, 422, SHAPE + "include_attributes: invalid type: integer `1`"),
    (
        RANKED | {"consistency": "eventual"},
        422,
        SHAPE + 'consistency: invalid type: string "eventual", expected struct Consistency',
    ),
    (
        RANKED | {"consistency": {"level": "no"}},
        422,
        SHAPE + "consistency.level: unknown variant `no`, expected `strong` or `eventual`",
    ),
    (RANKED | {"consistency": {}}, 422, SHAPE + "consistency: missing field `level`"),
    (
        RANKED | {"vector_encoding": "x"},
        422,
        SHAPE + "vector_encoding: unknown variant `x`, expected `float`",
    ),
    (RANKED | {"aggregate_by": {"n": ["Count"]}}, 422, SHAPE + "aggregate_by: "),
    ({"aggregate_by": {"n": ["Count"]}, "offset": 1}, 400, "offset: aggregations have no offset"),
    (RANKED | {"rerank_by": {"model": "m"}}, 400, "rerank_by: model 'm' is not available"),
    (RANKED | {"distance_metric": "cosine_distance"}, 400, "💔 distance metric mismatch, expected euclid"),
    ({"queries": []}, 400, "queries: 0 queries where 1 to 16"),
    ({"queries": [RANKED] * 17}, 400, "queries: 17 queries where 1 to 16"),
    ({"queries": [RANKED], "offset": 1}, 400, "offset: "),
    ({"queries": [{"aggregate_by": {"n": ["Count"]}}], "rerank_by": ["RRF"]}, 400, "rerank_by: "),
    (
        {
            "queries": [RANKED],
            "rerank_by": ["RRF"],
            "limit": {"total": 2, "per": {"attributes": ["id"], "limit": 1}},
        },
        400,
        "limit.per: ",
    ),
    (
        {"rank_by": ["city", "asc"], "limit": {"total": 1, "per": {"attributes": ["city"], "limit": 2}}},
        400,
        "limit.per.limit: 2 where at most 1",
    ),
]


@pytest.mark.parametrize(("body", "status", "message"), REFUSED)
async def test_queries_are_refused_in_known_words(shop, body, status, message):
    answer = await call(shop, f"{NS}/query", body, status=status)
    assert answer["error"].startswith(message)
    assert answer == {"status": "error", "error": answer["error"]}


async def test_errors_have_two_fields_and_some_have_marks(shop):
    answer = await shop.post(NS, content=b"{")
    assert (answer.status_code, set(answer.json())) == (400, {"status", "error"})
    assert answer.json()["error"].startswith("Failed to parse the request body as JSON: ")
    found = await call(shop, NS, {"schema": {"city": "int"}}, status=400)
    assert found == {
        "status": "error",
        "error": "🙅 invalid schema update for attribute 'city': "
        "cannot change attribute type from string to int",
        "attribute": "city",
    }
    found = await call(shop, "/v2/namespaces/none/query", {"limit": 1}, status=404)
    assert found == {"status": "error", "error": "🤷 namespace 'none' was not found"}
    row = {"id": 1, "vector": [1]}
    found = await call(shop, "/v2/namespaces/new", {"upsert_rows": [row]}, status=400)
    assert found["error"] == "💔 distance_metric must be specified for write to namespace with a vector"
    for body in ({"deletes": [1]}, {"schema": {"a": "int"}}, {"create_namespace": False}):
        await call(shop, "/v2/namespaces/new", body, status=404)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a$b", "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]"),
        ("a" * 129, f"Invalid URL: Namespace `{'a' * 129}` is too long, limit is currently 128 characters"),
    ],
)
async def test_bad_names_are_refused_in_plain_text(client, name, text):
    for path in (f"/v2/namespaces/{name}/query", f"/v2/namespaces/{name}", f"/v1/namespaces/{name}/schema"):
        answer = await client.post(path, json={})
        assert (answer.status_code, answer.text) == (400, text)
        assert answer.headers["content-type"].startswith("text/plain")


async def test_a_key_is_asked_for():
    async with serving(api_keys=("secret",)) as client:
        found = await client.post(f"{NS}/query", json={})
        assert (found.status_code, set(found.json())) == (401, {"status", "error"})
        found = await client.post(f"{NS}/query", json={}, headers={"authorization": "Bearer secret"})
        assert found.status_code == 400


async def test_the_schema_is_shown_in_two_views(shop):
    view = await call(shop, "/v1/namespaces/shop/schema", None, method="GET")
    assert view == await call(shop, f"{NS}/schema", None, method="GET")
    assert view["id"] == {"type": "uint", "filterable": None, "full_text_search": None}
    assert view["vector"] == {
        "type": "[2]f32",
        "filterable": None,
        "full_text_search": None,
        "ann": True,
    }
    assert view["city"] == {"type": "string", "filterable": True, "full_text_search": None}
    settings = {
        "k1": 1.2,
        "k3": 8.0,
        "b": 0.75,
        "language": "english",
        "stemming": False,
        "remove_stopwords": False,
        "case_sensitive": False,
        "ascii_folding": False,
        "max_token_length": 39,
        "tokenizer": "word_v4",
    }
    assert view["text"] == {"type": "string", "filterable": False, "full_text_search": settings}
    metadata = await call(shop, f"{NS}/metadata", None, method="GET")
    assert metadata["schema"]["id"] == {"type": "uint"}
    assert metadata["schema"]["vector"]["ann"] == {"distance_metric": "euclidean_squared"}
    assert metadata["schema"]["text"] == {"type": "string", "filterable": False, "full_text_search": settings}
    assert metadata["index"] == {"status": "up-to-date"}
    assert metadata["approx_row_count"] == 2
    assert metadata["encryption"] == {"mode": "default"}
    assert (await call(shop, "/v1/namespaces/shop/metadata", None, method="GET"))["encryption"] == {
        "sse": True
    }
    assert metadata["created_at"] <= metadata["updated_at"]
    assert {"read_only", "pinning", "sharding", "branching"}.isdisjoint(metadata)


async def test_a_schema_update_answers_the_whole_schema(shop):
    change = {"city": {"type": "string", "glob": True}, "more": "uint"}
    view = await call(shop, "/v1/namespaces/shop/schema", change)
    assert view["city"]["glob"] is True
    assert view["more"]["type"] == "uint"
    assert set(view) >= {"id", "vector", "text"}
    assert await call(shop, f"{NS}/schema", {}) == view
    await call(shop, "/v1/namespaces/none/schema", {}, status=404)


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("metadata", "PATCH", {}),
        ("metadata", "PATCH", {"read_only": False, "pinning": None}),
        ("schema", "POST", {}),
        ("schema", "POST", {"city": "string"}),
    ],
)
async def test_a_change_that_says_nothing_new_stores_nothing(shop, path, method, body):
    before = await call(shop, f"{NS}/metadata", None, method="GET")
    seq = (await shop.get("/v1/namespaces/shop")).json()["wal_tail"]
    await call(shop, f"{NS}/{path}", body, method=method)
    assert await call(shop, f"{NS}/metadata", None, method="GET") == before
    assert (await shop.get("/v1/namespaces/shop")).json()["wal_tail"] == seq


async def test_metadata_is_changed_field_by_field(shop):
    path = "/v1/namespaces/shop/metadata"
    found = await call(shop, path, {"read_only": True, "pinning": True}, method="PATCH")
    assert (found["read_only"], found["pinning"]) == (True, {"replicas": 1})
    for body in ({"deletes": [1]}, {"schema": {"x": "int"}}):
        refused = await call(shop, NS, body, status=400)
        assert refused["error"] == "💔 Writes not permitted. This namespace is read-only."
    found = await call(shop, path, {"pinning": {"replicas": 3}}, method="PATCH")
    assert (found["read_only"], found["pinning"]) == (True, {"replicas": 3})
    found = await call(shop, path, {"read_only": False, "pinning": None}, method="PATCH")
    assert {"read_only", "pinning"}.isdisjoint(found)
    await call(shop, path, {"read_only": 1}, method="PATCH", status=422)
    await call(shop, path, {"read_only": None}, method="PATCH", status=422)
    await call(shop, NS, {"deletes": [1]})


async def test_shards_are_stored_shown_and_stay(client):
    body = FIRST | {"sharding": {"num_shards": 4}}
    await call(client, NS, body)
    assert (await call(client, f"{NS}/metadata", None, method="GET"))["sharding"] == {"num_shards": 4}
    await call(client, NS, body)
    await call(client, NS, {"sharding": {"num_shards": 5}, "deletes": [1]}, status=400)
    await call(client, "/v2/namespaces/b", {"branch_from_namespace": "shop"}, status=400)


async def test_copies_and_branches(shop):
    found = await call(shop, "/v2/namespaces/copy", {"copy_from_namespace": "shop"})
    assert (found["rows_affected"], "rows_upserted" in found) == (2, False)
    await call(shop, "/v2/namespaces/branch", {"branch_from_namespace": {"source_namespace": "shop"}})
    branch = await call(shop, "/v2/namespaces/branch/metadata", None, method="GET")
    assert branch["branching"] == {"parent": "shop"}
    await call(shop, NS, None, method="DELETE")
    await call(shop, f"{NS}/query", {"limit": 1}, status=404)
    for name in ("copy", "branch"):
        rows = (await call(shop, f"/v2/namespaces/{name}/query", {"limit": 5}))["rows"]
        assert rows == [{"id": 1}, {"id": 2}]
    await call(shop, "/v2/namespaces/c", {"copy_from_namespace": "none"}, status=404)
    await call(shop, "/v2/namespaces/copy", {"branch_from_namespace": "branch"}, status=400)


async def test_a_copy_takes_only_keys_of_this_server():
    async with serving(api_keys=("secret",)) as client:
        client.headers["authorization"] = "Bearer secret"
        await call(client, NS, FIRST)
        for key, status in (("secret", 200), ("other", 400)):
            source = {"source_namespace": "shop", "source_api_key": key}
            await call(client, f"/v2/namespaces/{key}", {"copy_from_namespace": source}, status=status)


async def operation(client, location):
    for _ in range(200):
        state = await call(client, location, None, method="GET")
        if state["status"] == "finished":
            return state
        await asyncio.sleep(0.01)
    raise AssertionError(state)


async def test_a_copy_can_be_an_operation(shop):
    body = {"copy_from_namespace": "shop"}
    token = (await call(shop, "/v2/namespaces/copy/async", body))["token"]
    state = await operation(shop, f"/v1/namespaces/copy/operations/{token}")
    assert state["result"]["success"]["rows_affected"] == 2
    assert state["start_time"] <= state["finish_time"]
    token = (await call(shop, "/v2/namespaces/x/async", {"copy_from_namespace": "none"}))["token"]
    state = await operation(shop, f"/v1/namespaces/x/operations/{token}")
    assert state["result"] == {
        "error": {
            "status_code": 404,
            "detail": {"status": "error", "error": "🤷 namespace 'none' was not found"},
        }
    }
    await call(shop, "/v1/namespaces/x/operations/nope", None, method="GET", status=404)
    await call(shop, "/v2/namespaces/x/async", {"deletes": [1]}, status=400)


async def test_where_no_more_operations_may_run_a_copy_is_answered_when_it_is_done(shop, monkeypatch):
    monkeypatch.setattr(v2_copy, "_PROMPT_S", 0.0)
    monkeypatch.setattr("elacsym.engine.operations.RUNNING_MAX", 0)
    body, prefer = {"copy_from_namespace": "shop"}, {"prefer": "respond-async"}
    answer = await shop.post("/v2/namespaces/copy", json=body, headers=prefer)
    assert (answer.status_code, answer.json()["rows_affected"]) == (200, 2)
    await call(shop, "/v2/namespaces/other/async", body, status=429)
    await call(shop, "/v2/namespaces/other/metadata", None, method="GET", status=404)


async def test_a_long_copy_goes_on_after_its_answer_where_the_client_prefers_that(shop, monkeypatch):
    body, prefer = {"copy_from_namespace": "shop"}, {"prefer": "respond-async"}
    prompt = await shop.post("/v2/namespaces/prompt", json=body, headers=prefer)
    assert (prompt.status_code, prompt.json()["rows_affected"]) == (200, 2)
    monkeypatch.setattr(v2_copy, "_PROMPT_S", 0.0)
    begun = await shop.post("/v2/namespaces/late", json=body, headers=prefer)
    assert (begun.status_code, begun.headers["preference-applied"]) == (202, "respond-async")
    state = await operation(shop, begun.headers["location"])
    assert state["result"]["success"]["rows_affected"] == 2
    assert len((await call(shop, "/v2/namespaces/late/query", {"limit": 9}))["rows"]) == 2
    await call(shop, "/v2/namespaces/never", body)


async def test_a_namespace_has_so_many_queries_at_once(monkeypatch):
    async with serving(namespace_query_concurrency_max=4, namespace_query_wait_s=0.05) as client:
        await call(client, NS, FIRST)
        database = client._transport.app.state.service.database
        going, go_on = asyncio.Semaphore(0), asyncio.Event()
        ordinary = database.query

        async def held(name, query):
            going.release()
            await go_on.wait()
            return await ordinary(name, query)

        monkeypatch.setattr(database, "query", held)
        aggregation = {"aggregate_by": {"n": ["Count"]}}
        first = asyncio.create_task(client.post(f"{NS}/query", json=aggregation))
        await going.acquire()
        refused = await client.post(f"{NS}/query", json={"limit": 1})
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert set(refused.json()) == {"status", "error"}
        go_on.set()
        assert (await first).status_code == 200
        await call(client, f"{NS}/query", {"limit": 1})


@pytest.mark.parametrize(("error", "status"), [(OutcomeUnknown("x"), 503), (Overloaded("x"), 429)])
async def test_who_may_try_again_is_told_when(shop, monkeypatch, error, status):
    async def failing(*_, **__):
        raise error

    monkeypatch.setattr(shop._transport.app.state.service.database, "write", failing)
    answer = await shop.post(NS, json={"deletes": [1]})
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "1")


async def test_unknown_fields_are_passed_over(shop):
    await call(shop, NS, {"deletes": [77], "surprise": 1})
    assert (await call(shop, f"{NS}/query", RANKED | {"surprise": 1}))["rows"][0]["id"] == 1


async def test_explain_is_a_text_and_warming_a_message(shop):
    assert (await call(shop, f"{NS}/explain_query", RANKED))["plan_text"]
    for version in ("v1", "v2"):
        path = f"/{version}/namespaces/shop/hint_cache_warm"
        found = await call(shop, path, None, method="GET", status=202)
        assert (found["status"], type(found["message"])) == ("ACCEPTED", str)


async def test_large_answers_are_compressed_only_for_who_accepts_that(shop):
    rows = [{"id": n, "vector": [n, 0], "city": f"city {n}"} for n in range(100, 300)]
    await call(shop, NS, {"upsert_rows": rows})
    body = {"rank_by": ["id", "asc"], "limit": 200, "include_attributes": True}
    for accepted, encoding in (("identity", None), ("gzip", "gzip")):
        answer = await shop.post(f"{NS}/query", json=body, headers={"accept-encoding": accepted})
        assert answer.headers.get("content-encoding") == encoding
        assert len(answer.json()["rows"]) == 200
        answer = await shop.post(f"{NS}/query", json={"limit": 1}, headers={"accept-encoding": accepted})
        assert "content-encoding" not in answer.headers


async def test_sums_are_exact_beyond_64_bits(client):
    rows = [{"id": n, "n": 2**64 - 1, "g": "x"} for n in range(3)]
    await call(client, NS, {"upsert_rows": rows, "schema": {"n": "uint"}})
    body = {"aggregate_by": {"s": ["Sum", "n"]}}
    assert (await call(client, f"{NS}/query", body))["aggregations"] == {"s": 3 * (2**64 - 1)}
    grouped = await call(client, f"{NS}/query", body | {"group_by": ["g"]})
    assert grouped["aggregation_groups"] == [{"g": "x", "s": 3 * (2**64 - 1)}]
    answer = await client.post("/v1/namespaces/shop/query", json={"aggregate": {"sum": ["n"]}})
    assert answer.json()["aggregations"]["sum"] == {"n": 3 * (2**64 - 1)}
