"""The client against servers that answer as the test says; every test runs on both kinds of client."""

import base64

import httpx
import numpy as np
import orjson
import pytest
from client.scripted import WRITTEN, Script, refusal

from elacsym.client import (
    ApiError,
    Client,
    MissingError,
    OverloadedError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)


async def test_an_upsert_sends_vectors_as_base64_float32_and_returns_the_token(call):
    script = Script(httpx.Response(200, json=WRITTEN))
    vector = np.array([0.5, -1.25], np.float64)
    document = {"id": np.uint64(2**64 - 1), "vector": vector, "attributes": {"year": np.int64(2024)}}
    written = await call(script, "upsert", "docs", [document, {"id": "b", "vector": [1, 2]}])
    assert (written.count, written.seq, written.token) == (1, 17, "9f2c000000000000:17")
    (request,) = script.requests
    assert (request.method, request.url.path) == ("POST", "/v1/namespaces/docs/upsert")
    sent = orjson.loads(request.content)["documents"]
    assert sent[0]["id"] == 2**64 - 1
    assert sent[0]["attributes"] == {"year": 2024}
    assert np.frombuffer(base64.b64decode(sent[0]["vector"]), "<f4").tolist() == [0.5, -1.25]
    assert np.frombuffer(base64.b64decode(sent[1]["vector"]), "<f4").tolist() == [1.0, 2.0]


async def test_a_retried_write_keeps_its_idempotency_key_and_two_writes_differ(call):
    script = Script(
        refusal(503, "unavailable"),
        refusal(429, "overloaded"),
        httpx.ReadError("cut"),
        httpx.Response(200, json=WRITTEN),
        httpx.Response(200, json=WRITTEN),
    )
    await call(script, "upsert", "docs", [{"id": 1}])
    await call(script, "upsert", "docs", [{"id": 1}])
    assert len(set(script.keys[:4])) == 1
    assert None not in script.keys
    assert script.keys[4] != script.keys[0]
    assert len({r.content for r in script.requests}) == 1


async def test_a_given_idempotency_key_is_used(call):
    script = Script(httpx.Response(200, json=WRITTEN))
    await call(script, "delete", "docs", [1], idempotency_key="mine")
    assert script.keys == ["mine"]


async def test_retry_after_is_obeyed_up_to_a_bound_and_other_waits_are_jitter(call):
    script = Script(
        refusal(429, "overloaded", **{"Retry-After": "3"}),
        refusal(503, "unavailable", **{"Retry-After": "9000"}),
        refusal(503, "unavailable", **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
        httpx.ConnectError("refused"),
        httpx.Response(200, json={"status": "ok"}),
    )
    assert await call(script, "health", client={"retry_for_s": 100}) == {"status": "ok"}
    assert 3.0 <= script.waits[0] <= 3.75
    assert 30.0 <= script.waits[1] <= 37.5
    assert 0.0 <= script.waits[2] <= 0.4
    assert 0.0 <= script.waits[3] <= 0.8


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        (RejectedError, 400, "invalid_request"),
        (RejectedError, 422, "invalid_shape"),
        (RejectedError, 401, "unauthorized"),
        (MissingError, 404, "namespace_not_found"),
        (ApiError, 500, "data_corruption"),
    ],
)
async def test_an_answer_that_will_not_change_is_raised_at_once_with_its_code(call, kind, status, code):
    script = Script(refusal(status, code))
    with pytest.raises(kind) as caught:
        await call(script, "query", "docs", top_k=1)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, code, "r-1")
    assert str(caught.value) == "no"
    assert len(script.requests) == 1


async def test_retries_are_bounded_and_the_last_refusal_is_raised(call):
    script = Script(*[refusal(429, "overloaded") for _ in range(3)])
    with pytest.raises(OverloadedError):
        await call(script, "upsert", "docs", [{"id": 1}], client={"retries": 2})
    assert len(script.requests) == 3
    assert len(script.waits) == 2


async def test_a_write_that_lost_one_answer_and_is_refused_later_has_an_unknown_outcome(call):
    script = Script(httpx.ReadTimeout("late"), refusal(429, "overloaded"))
    with pytest.raises(UnknownOutcomeError) as caught:
        await call(script, "upsert", "docs", [{"id": 1}], client={"retries": 1}, idempotency_key="k")
    assert caught.value.idempotency_key == "k"
    assert caught.value.code == "outcome_unknown"


async def test_a_write_that_never_reached_the_server_did_not_happen(call):
    script = Script(httpx.ConnectError("refused"), httpx.ConnectError("refused"))
    with pytest.raises(UnavailableError) as caught:
        await call(script, "upsert", "docs", [{"id": 1}], client={"retries": 1})
    assert (caught.value.status, caught.value.code) == (0, "no_answer")
    assert "refused" in str(caught.value)


async def test_a_write_answered_with_outcome_unknown_is_repeated_and_then_reported_as_unknown(call):
    script = Script(*[refusal(503, "outcome_unknown") for _ in range(2)])
    with pytest.raises(UnknownOutcomeError):
        await call(script, "upsert", "docs", [{"id": 1}], client={"retries": 1})
    assert len(set(script.keys)) == 1


async def test_a_read_without_an_answer_is_unavailable_not_unknown(call):
    script = Script(httpx.ReadError("cut"))
    with pytest.raises(UnavailableError):
        await call(script, "info", "docs", client={"retries": 0})


async def test_deleting_a_namespace_succeeds_when_the_lost_attempt_had_deleted_it(call):
    script = Script(httpx.ReadError("cut"), refusal(404, "namespace_not_found"))
    assert await call(script, "delete_namespace", "docs") is None


async def test_deleting_a_namespace_that_was_never_there_is_reported(call):
    script = Script(refusal(503, "unavailable"), refusal(404, "namespace_not_found"))
    with pytest.raises(MissingError):
        await call(script, "delete_namespace", "docs")


async def test_a_query_reads_results_with_vectors_cursors_and_shares(call):
    share = {"leg": "text:t", "rank": 1, "score": 9.25, "contribution": 0.5}
    rows = [
        {"id": 3, "score": 0.5, "attributes": {"t": "x"}, "vector": [1.0, 2.0], "explain": [share]},
        {"id": "b", "score": None, "cursor": "c9"},
    ]
    script = Script(httpx.Response(200, json={"results": rows, "took_ms": 3, "plan": {"parts": 1}}))
    answer = await call(script, "query", "docs", vector=[1.0, 2.0], top_k=2, include_vector=True)
    first, second = answer.results
    assert (first.id, first.score, first.attributes) == (3, 0.5, {"t": "x"})
    assert [str(s) for s in first.shares] == ["text:t: rank 1, score 9.2500, gives 0.5000"]
    assert first.vector is not None
    assert first.vector.dtype == np.float32
    assert first.vector.tolist() == [1.0, 2.0]
    assert (second.id, second.score, second.attributes, second.cursor) == ("b", None, {}, "c9")
    assert (answer.took_ms, answer.body["plan"]) == (3, {"parts": 1})


async def test_names_of_dots_and_slashes_reach_the_server_as_one_path_segment(call):
    for name, path in [
        ("..", b"/v1/namespaces/%2E%2E"),
        (".", b"/v1/namespaces/%2E"),
        ("a/b", b"/v1/namespaces/a%2Fb"),
    ]:
        script = Script(httpx.Response(200, json={}))
        await call(script, "info", name)
        assert script.requests[0].url.raw_path == path


async def test_a_base_url_with_a_path_keeps_it(call):
    script = Script(httpx.Response(200, json={}))
    await call(script, "info", "docs", client={"url": "http://gate/elacsym/"})
    assert str(script.requests[0].url) == "http://gate/elacsym/v1/namespaces/docs"


async def test_documents_come_back_in_the_asked_order_with_none_for_the_missing(call):
    found = {"documents": [{"id": 1, "attributes": {"a": 1}}, {"id": 3, "attributes": {}}]}
    script = Script(httpx.Response(200, json=found))
    got = await call(script, "documents", "docs", [3, 2, 1])
    assert [d and d.id for d in got] == [3, None, 1]


async def test_an_answer_of_another_shape_is_reported_not_half_read(call):
    for answer in [httpx.Response(200, json=[1]), httpx.Response(200, content=b"<html>")]:
        with pytest.raises(ApiError) as caught:
            await call(Script(answer), "upsert", "docs", [{"id": 1}])
        assert caught.value.code == "unexpected_answer"


async def test_an_error_page_that_is_no_json_names_the_status(call):
    with pytest.raises(RejectedError, match="the server answered 413"):
        await call(Script(httpx.Response(413, content=b"<html>")), "upsert", "docs", [{"id": 1}])


async def test_delete_needs_exactly_one_of_ids_and_filter(call):
    for arguments in [{}, {"ids": [1], "filter": {"field": "a", "op": "eq", "value": 1}}]:
        with pytest.raises(ValueError, match="either ids or a filter"):
            await call(Script(), "delete", "docs", **arguments)


async def test_a_recall_measurement_is_read_and_only_what_was_given_is_sent(call):
    answer = {
        "avg_recall": 0.984,
        "avg_ann_count": 10.0,
        "avg_exhaustive_count": 9.5,
        "queries": {"recent": 20, "stored": 5},
        "took_ms": 3.0,
    }
    script = Script(httpx.Response(200, json=answer), httpx.Response(200, json=answer))
    found = await call(script, "recall", "docs")
    assert (found.average, found.found, found.exact, found.recent, found.stored) == (0.984, 10, 9.5, 20, 5)
    assert found.body == answer
    condition = {"field": "a", "op": "eq", "value": 1}
    await call(script, "recall", "docs", num=3, filters=condition, vector_field="v", queries="stored")
    first, second = (orjson.loads(r.content) for r in script.requests)
    assert script.requests[0].url.path == "/v1/namespaces/docs/_debug/recall"
    assert first == {"num": 25, "top_k": 10, "queries": "recent", "include_ground_truth": False}
    assert second == first | {"num": 3, "filters": condition, "vector_field": "v", "queries": "stored"}


async def test_warming_asks_and_waits_for_nothing(call):
    script = Script(httpx.Response(202, json={"status": "ACCEPTED", "message": "begun"}))
    assert await call(script, "warm", "docs") is None
    (request,) = script.requests
    assert (request.method, request.url.path) == ("GET", "/v1/namespaces/docs/hint_cache_warm")


async def test_listing_goes_on_until_there_is_no_cursor(call):
    script = Script(
        httpx.Response(200, json={"namespaces": [{"id": "a"}, {"id": "b"}], "next_cursor": "x"}),
        httpx.Response(200, json={"namespaces": [{"id": "c"}], "next_cursor": None}),
    )
    first = await call(script, "namespaces", prefix="p")
    second = await call(script, "namespaces", prefix="p", cursor=first.cursor)
    assert first.names + second.names == ("a", "b", "c")
    assert second.cursor is None
    assert dict(script.requests[1].url.params) == {"page_size": "100", "prefix": "p", "cursor": "x"}


def test_a_url_that_is_none_is_refused_before_anything_is_sent():
    for url in ["localhost:3000", "ftp://x", "", ["http://a", "b"], "http://[::1"]:
        with pytest.raises(ValueError, match="no http or https address"):
            Client(url)
    with pytest.raises(ValueError, match="needs the address of a server"):
        Client([])


async def test_a_refusal_in_plain_text_is_told_in_its_words(call):
    told = "Invalid URL: Namespace contains invalid characters"
    with pytest.raises(RejectedError) as caught:
        await call(Script(httpx.Response(400, text=told)), "delete_namespace", "a b")
    assert (str(caught.value), caught.value.status) == (told, 400)
