"""The v1 API over a real database: what it answers when all is well."""

import base64
import gzip
import threading

import numpy as np
import pytest

from elacsym.server import codec

NS = "/v1/namespaces/docs"


async def query(client, **body):
    response = await client.post(f"{NS}/query", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def ids(answer):
    return [row["id"] for row in answer["results"]]


@pytest.mark.parametrize("kind", ["f32", "f16", "i8"])
async def test_a_namespace_has_several_vectors_of_several_types(client, kind):
    schema = {"vector_dim": 2, "vector_metric": "l2", "attributes": {"other": {"type": f"[3]{kind}"}}}
    await client.put(NS, json={"schema": schema})
    assert (await client.get(NS)).json()["schema"]["attributes"] == schema["attributes"]
    half = base64.b64encode(np.array([1, 2, 3], "<f4").tobytes()).decode()
    documents = [
        {"id": 1, "vector": [0, 0], "attributes": {"other": [1, 2, 4]}},
        {"id": 2, "vector": [9, 9], "attributes": {"other": half}},
        {"id": 3, "vector": [1, 1]},
    ]
    assert (await client.post(f"{NS}/upsert", json={"documents": documents})).status_code == 200
    answer = await query(client, vector=[1, 2, 3], vector_field="other", include_vector=True)
    assert [(row["id"], row["score"]) for row in answer["results"]] == [(2, 0.0), (1, 1.0)]
    assert answer["results"][0]["attributes"] == {"other": [1.0, 2.0, 3.0]}
    assert answer["results"][0]["vector"] == [9.0, 9.0]
    refused = await client.post(f"{NS}/query", json={"vector": [1, 2, 3], "vector_field": "absent"})
    assert refused.status_code == 400
    assert "absent" in refused.json()["error"]


async def test_narrow_vectors_are_answered_as_the_32_bit_floats_they_were_rounded_to(client):
    schema = {"vector_dim": 2, "vector_type": "f16", "vector_metric": "l2"}
    await client.put(NS, json={"schema": schema})
    await client.post(f"{NS}/upsert", json={"documents": [{"id": 1, "vector": [0.1, 2049]}]})
    response = await client.get(f"{NS}/documents/1", params={"include_vector": "true"})
    assert b'"vector":[0.099975586,2048.0]' in response.content
    assert (await client.get(NS)).json()["schema"]["vector_type"] == "f16"


async def test_creating_twice_changes_nothing_and_new_attributes_are_added(client):
    schema = {"vector_dim": 3, "vector_metric": "cosine", "attributes": {"a": {"type": "string"}}}
    first = await client.put(NS, json={"schema": schema})
    assert (first.status_code, first.json()) == (200, {"namespace": "docs", "created": True})
    again = await client.put(NS, json={"schema": schema})
    assert (again.status_code, again.json()) == (200, {"namespace": "docs", "created": False})
    more = await client.put(NS, json={"schema": {"attributes": {"b": {"type": "float"}}}})
    assert more.json() == {"namespace": "docs", "created": False}
    shown = (await client.get(NS)).json()["schema"]
    assert set(shown["attributes"]) == {"a", "b"}
    assert (shown["vector_dim"], shown["vector_metric"]) == (3, "cosine")


async def test_a_first_schema_obeys_the_rules_and_gets_the_defaults(client):
    reserved = await client.put(NS, json={"schema": {"attributes": {"$x": {"type": "string"}}}})
    assert reserved.status_code == 400
    assert (await client.get(NS)).status_code == 404
    for _ in range(2):
        assert (await client.put(NS, json={"schema": {"vector_dim": 2}})).status_code == 200
    assert (await client.get(NS)).json()["schema"]["vector_metric"] == "cosine"
    assert await query(client, vector=[1, 0]) | {"took_ms": 0} == {"results": [], "took_ms": 0}


async def test_a_conflicting_schema_is_refused_and_changes_nothing(docs):
    before = (await docs.get(NS)).json()
    for schema in (
        {"attributes": {"year": {"type": "string"}, "fresh": {"type": "string"}}},
        {"vector_metric": "cosine"},
        {"vector_dim": 3},
    ):
        assert (await docs.put(NS, json={"schema": schema})).status_code == 400
    assert (await docs.get(NS)).json() == before


async def test_an_upsert_answers_count_place_and_token(client):
    await client.put(NS, json={"schema": {}})
    answer = await client.post(f"{NS}/upsert", json={"documents": [{"id": 1}, {"id": 2}]})
    body = answer.json()
    assert body["count"] == 2
    assert body["token"].endswith(f":{body['seq']}")
    assert set(body) == {"count", "seq", "token"}


async def test_an_upsert_needs_an_existing_namespace(client):
    answer = await client.post(f"{NS}/upsert", json={"documents": [{"id": 1}]})
    assert (answer.status_code, answer.json()["code"]) == (404, "namespace_not_found")


async def test_nearest_documents_come_first_with_their_distance(docs):
    answer = await query(docs, vector=[0.7, 0.7], top_k=2)
    assert ids(answer) == [3, 2]
    assert answer["results"][0]["score"] == 0.0
    assert answer["results"][0]["attributes"] == {"title": "full text", "category": "text", "year": 2024}


async def test_scores_and_vectors_print_as_short_as_32_bit_floats_can(docs):
    response = await docs.post(f"{NS}/query", json={"vector": [0.0, 0.0], "include_vector": True})
    assert b'"vector":[0.7,0.7]' in response.content
    by_id = {row["id"]: row for row in response.json()["results"]}
    assert by_id[3]["score"] == float(str(np.float32(0.7) ** 2 * np.float32(2)))
    assert "vector" not in by_id[1]["attributes"]


async def test_text_is_found_by_relevance(docs):
    answer = await query(docs, full_text={"field": "title", "query": "object storage"})
    assert ids(answer) == [1, 2]
    assert answer["results"][0]["score"] > answer["results"][1]["score"] > 0


async def test_hybrid_search_fuses_ranks(docs):
    answer = await query(
        docs, vector=[1, 0], full_text={"field": "title", "query": "object storage"}, explain=True
    )
    assert ids(answer)[:2] in ([1, 2], [2, 1])
    top = answer["results"][0]
    assert top["score"] == pytest.approx(1 / 61 + 1 / 62)
    assert sum(share["contribution"] for share in top["explain"]) == pytest.approx(top["score"])
    assert {share["rank"] for share in top["explain"]} == {1, 2}
    assert answer["plan"]


async def test_filters_narrow_what_is_ranked(docs):
    year = {"field": "year", "op": "gte", "value": 2022}
    assert ids(await query(docs, vector=[0, 0], filter=year)) == [3, 2]
    both = {
        "type": "and",
        "conditions": [year, {"type": "not", "condition": {"field": "category", "op": "eq", "value": "db"}}],
    }
    assert ids(await query(docs, vector=[0, 0], filter=both)) == [3]


async def test_attribute_orders_go_on_from_a_cursor(docs):
    order = {"order_by": [["year", "desc"]], "top_k": 3}
    first = await query(docs, **order)
    assert ids(first) == [3, 2, 4]
    assert "score" not in first["results"][0]
    rest = await query(docs, **order, after=first["results"][-1]["cursor"])
    assert ids(rest) == [1]


async def test_aggregations_are_exact_over_the_filtered_set(docs):
    answer = await query(
        docs,
        aggregate={"count": True, "sum": ["year"]},
        filter={"field": "category", "op": "eq", "value": "db"},
    )
    assert answer["aggregations"]["count"] == 2
    assert "4042" in str(answer["aggregations"])
    grouped = await query(docs, aggregate={"count": True, "group_by": ["category"]})
    assert len(grouped["groups"]) == 3


async def test_attributes_are_chosen_by_name(docs):
    answer = await query(docs, vector=[0, 0], include_attributes=["year"], top_k=1)
    assert answer["results"][0]["attributes"] == {"year": 2020}
    everything = await query(docs, vector=[0, 0], include_attributes=[], top_k=1)
    assert set(everything["results"][0]["attributes"]) == {"title", "category", "year", "tags"}


async def test_a_read_sees_the_write_whose_token_it_is_given(docs):
    written = (await docs.post(f"{NS}/upsert", json={"documents": [{"id": 9, "vector": [5, 5]}]})).json()
    for consistency in ("strong", {"token": written["token"]}, {"min_seq": written["seq"]}):
        assert 9 in ids(await query(docs, vector=[5, 5], consistency=consistency))
    assert "staleness_ms" in await query(docs, vector=[5, 5], consistency="eventual")


async def test_documents_are_read_by_id(docs):
    one = await docs.get(f"{NS}/documents/3")
    assert one.json() == {"id": 3, "attributes": {"title": "full text", "category": "text", "year": 2024}}
    with_vector = await docs.get(f"{NS}/documents/3?include_vector=true")
    assert with_vector.json()["vector"] == [0.7, 0.7]
    many = await docs.post(f"{NS}/documents/get", json={"ids": [4, 99, 1]})
    assert [d and d["id"] for d in many.json()["documents"]] == [4, None, 1]
    for missing in ("99", "abc", "03", "-1", "99999999999999999999999"):
        answer = await docs.get(f"{NS}/documents/{missing}")
        assert (answer.status_code, answer.json()["code"]) == (404, "document_not_found"), missing


async def test_string_ids_may_look_like_anything(client):
    await client.put(NS, json={"schema": {}})
    names = ["17", "a/b", "get", "", "ü", "%2F", "a b"]
    written = await client.post(f"{NS}/upsert", json={"documents": [{"id": name} for name in names]})
    assert written.json()["count"] == len(names)
    for name, path in zip(names, ["17", "a%2Fb", "get", "", "%C3%BC", "%252F", "a%20b"], strict=True):
        found = await client.get(f"{NS}/documents/{path}")
        assert found.json() == {"id": name, "attributes": {}}, name


async def test_deletes_by_ids_and_by_filter(docs):
    by_id = await docs.post(f"{NS}/delete", json={"ids": [1, 99]})
    assert by_id.status_code == 200
    by_filter = await docs.post(
        f"{NS}/delete", json={"filter": {"field": "category", "op": "eq", "value": "text"}}
    )
    assert by_filter.json()["count"] == 1
    assert (await docs.get(NS)).json()["documents"] == 2


async def test_a_repeat_with_the_same_key_is_one_write(docs):
    headers = {"Idempotency-Key": "once"}
    first = await docs.post(f"{NS}/upsert", json={"documents": [{"id": 50}]}, headers=headers)
    again = await docs.post(f"{NS}/upsert", json={"documents": [{"id": 50}]}, headers=headers)
    assert first.json() == again.json()


async def test_the_information_counts_what_is_there(docs):
    body = (await docs.get(NS)).json()
    assert (body["documents"], body["segments"], body["owner"]) == (4, 0, "node-1")
    assert body["wal_tail"]["slots"] >= 1
    assert body["bytes"] >= body["wal_tail"]["bytes"] > 0


async def test_names_are_listed_by_page_and_prefix(client):
    for name in ("b", "a-1", "a-2", "."):
        await client.put(f"/v1/namespaces/{name.replace('.', '%2E')}", json={"schema": {}})
    everything = (await client.get("/v1/namespaces")).json()
    assert sorted(n["id"] for n in everything["namespaces"]) == [".", "a-1", "a-2", "b"]
    page = (await client.get("/v1/namespaces?prefix=a-&page_size=1")).json()
    assert page["namespaces"] == [{"id": "a-1"}]
    rest = (await client.get("/v1/namespaces", params={"prefix": "a-", "cursor": page["next_cursor"]})).json()
    assert rest["namespaces"] == [{"id": "a-2"}]
    assert rest["next_cursor"] is None


async def test_names_that_differ_in_case_are_two_namespaces(client):
    for name in ("docs", "Docs"):
        assert (await client.put(f"/v1/namespaces/{name}", json={"schema": {}})).json()["created"]
    await client.post("/v1/namespaces/docs/upsert", json={"documents": [{"id": 1}]})
    assert (await client.get("/v1/namespaces/Docs")).json()["documents"] == 0


async def test_a_deleted_namespace_is_gone_and_its_name_free(docs):
    assert (await docs.delete(NS)).json() == {"status": "OK"}
    assert (await docs.get(NS)).status_code == 404
    assert (await docs.delete(NS)).status_code == 404
    assert (await docs.put(NS, json={"schema": {}})).json()["created"]
    assert (await docs.get(NS)).json()["documents"] == 0


async def test_bodies_may_be_compressed_both_ways(docs):
    vector = base64.b64encode(np.array([3.0, 3.0], "<f4").tobytes()).decode()
    body = gzip.compress(b'{"documents": [{"id": 70, "vector": "%s"}]}' % vector.encode())
    written = await docs.post(f"{NS}/upsert", content=body, headers={"Content-Encoding": "gzip"})
    assert written.json()["count"] == 1
    texts = [{"id": 100 + i, "attributes": {"title": "long text " * 20}} for i in range(10)]
    await docs.post(f"{NS}/upsert", json={"documents": texts})
    search = {"full_text": {"field": "title", "query": "long"}}
    packed = await docs.post(f"{NS}/query", json=search, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert len(packed.json()["results"]) == 10
    plain = await docs.post(f"{NS}/query", json=search, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json()["results"] == packed.json()["results"]
    small = await docs.get(f"{NS}/documents/1", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


async def test_a_big_upsert_of_base64_vectors_is_stored_exactly(client):
    await client.put(NS, json={"schema": {"vector_dim": 64, "vector_metric": "l2"}})
    vectors = np.random.default_rng(1).standard_normal((1000, 64)).astype("<f4")
    body = {
        "documents": [
            {"id": i, "vector": base64.b64encode(v.tobytes()).decode()} for i, v in enumerate(vectors)
        ]
    }
    assert (await client.post(f"{NS}/upsert", json=body)).json()["count"] == 1000
    got = await client.post(f"{NS}/documents/get", json={"ids": [0, 517, 999], "include_vector": True})
    for row in got.json()["documents"]:
        np.testing.assert_array_equal(np.array(row["vector"], np.float32), vectors[row["id"]])


@pytest.mark.parametrize(
    ("shown", "is_large"),
    [({"include_attributes": ["id"]}, False), ({"include_attributes": ["other"]}, True), ({}, True)],
)
async def test_what_takes_long_to_render_is_rendered_off_the_event_loop(client, monkeypatch, shown, is_large):
    # the estimate once counted rows alone, unless vectors were asked for by `include_vector`
    attributes = {"other": {"type": "[4096]f32"}, "text": {"type": "string", "indexed": False}}
    await client.put(NS, json={"schema": {"vector_dim": 1, "vector_metric": "l2", "attributes": attributes}})
    documents = [
        {"id": i, "vector": [i], "attributes": {"other": [0.5] * 4096, "text": "t" * 100_000}}
        for i in range(2)
    ]
    assert (await client.post(f"{NS}/upsert", json={"documents": documents})).status_code == 200
    rendered, dumps = [], codec.dumps

    def noted(value):
        rendered.append(threading.current_thread())
        return dumps(value)

    monkeypatch.setattr(codec, "dumps", noted)
    assert len((await query(client, vector=[0], **shown))["results"]) == 2
    (thread,) = set(rendered)
    assert (thread is not threading.main_thread()) == is_large
