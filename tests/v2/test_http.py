"""What the wire shows and a client hides: headers, shapes, compression, names."""

from __future__ import annotations

import gzip
import itertools

import httpx
import orjson
import pytest

_numbers = itertools.count()


@pytest.fixture
def name():
    """The name of a namespace that nobody else uses."""
    return f"http-{next(_numbers)}"


@pytest.fixture
def post(http, name):
    """`post(body, path="")` to the namespace; a body that is no bytes is written as JSON."""

    def send(body, path="", **headers):
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return http.post(f"/v2/namespaces/{name}{path}", content=content, headers=headers)

    return send


@pytest.fixture
def stored(post):
    """The namespace has one document."""
    answer = post(
        {"upsert_rows": [{"id": 1, "n": 1, "vector": [1, 2]}], "distance_metric": "cosine_distance"}
    )
    assert answer.status_code == 200, answer.text


def refused(answer, status, *texts):
    """Whether this is the refusal that it should be: the body has the two keys, and these texts."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["status"] == "error"
    for text in texts:
        assert text in body["error"]
    return body


@pytest.mark.feature("H-01")
@pytest.mark.parametrize("header", [None, "Bearer no-such-key-here", "Basic abc", "Bearer"])
def test_without_a_known_key_nothing_is_answered(server, name, header):
    headers = {} if header is None else {"Authorization": header}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as http:
        refused(http.get("/v1/namespaces"), 401)
        refused(http.post(f"/v2/namespaces/{name}", json={"upsert_rows": [{"id": 1}]}), 401)
        refused(http.post(f"/v2/namespaces/{name}/query", json={"limit": 1}), 401)


@pytest.mark.feature("H-02")
def test_bodies_that_are_no_json(post, stored):
    for path in ("", "/query"):
        for body in (b"{", b"", b'{"limit": 1} x', b"\xff"):
            refused(post(body, path), 400, "Failed to parse the request body as JSON: ")


@pytest.mark.feature("H-02", "H-03")
def test_errors_have_a_status_and_a_message(post, stored):
    body = refused(post({"rank_by": ["nowhere", "asc"], "limit": 1}, "/query"), 400, "nowhere")
    assert set(body) == {"status", "error"}


@pytest.mark.feature("H-03", "H-02")
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ([], "invalid type: sequence"),
        ({"upsert_rows": {"id": 1}}, "upsert_rows: invalid type: map, expected a sequence"),
        ({"upsert_rows": [7]}, "upsert_rows[0]: invalid type: integer `7`"),
        ({"upsert_rows": [{"n": 1}]}, "upsert_rows[0]: missing field `id`"),
        ({"upsert_rows": [{"id": None}]}, "data did not match any variant of untagged enum Id"),
        ({"upsert_rows": [{"id": True}]}, "data did not match any variant of untagged enum Id"),
        ({"upsert_columns": [1]}, "upsert_columns: invalid type: sequence"),
        ({"patch_rows": "x"}, "patch_rows: invalid type: string"),
        ({"deletes": {"id": 1}}, "deletes: invalid type: map, expected a sequence"),
        ({"deletes": [1.5]}, "data did not match any variant of untagged enum Id"),
        ({"distance_metric": "nearby"}, "unknown variant `nearby`"),
        ({"schema": []}, "schema: invalid type: sequence"),
        ({"schema": {"a": {"filterable": True}}}, "missing field `type`"),
        ({"return_affected_ids": 1}, "return_affected_ids: invalid type: integer `1`, expected a boolean"),
        ({"patch_by_filter": {"patch": {}}}, "missing field `filters`"),
        ({"delete_by_filter": {"a": 1}}, "delete_by_filter"),
    ],
)
def test_writes_of_the_wrong_shape_are_told_where(post, stored, body, text):
    refused(post(body), 422, "Failed to deserialize the JSON body into the target type: ", text)


@pytest.mark.feature("H-03", "Q-17")
@pytest.mark.parametrize(
    "body",
    [
        {"rank_by": 7, "limit": 1},
        {"rank_by": ["vector", "ANN"], "limit": 1},
        {"rank_by": ["n", "upwards"], "limit": 1},
        {"limit": "1"},
        {"limit": {"per": {}}},
        {"limit": 1, "filters": "n"},
        {"limit": 1, "filters": ["n", "Likes", 1]},
        {"limit": 1, "include_attributes": 7},
        {"limit": 1, "consistency": "strong"},
        {"limit": 1, "vector_encoding": "hex"},
        {"aggregate_by": ["Count"]},
        {"aggregate_by": {"n": ["Mean", "n"]}},
        {"queries": {"limit": 1}},
        {"limit": 1, "compute_attributes": []},
    ],
)
def test_queries_of_the_wrong_shape(post, stored, body):
    refused(post(body, "/query"), 422, "Failed to deserialize the JSON body into the target type: ")


@pytest.mark.feature("H-02")
def test_unknown_fields_at_the_top_are_ignored(post, stored):
    assert post({"upsert_rows": [{"id": 2, "n": 2, "vector": [1, 1]}], "colour": "red"}).status_code == 200
    assert len(post({"limit": 9, "colour": "red"}, "/query").json()["rows"]) == 2


@pytest.mark.feature("H-04")
def test_requests_may_be_compressed(post, stored):
    rows = [{"id": n, "s": "x" * 100, "vector": [1, n]} for n in range(100)]
    packed = gzip.compress(orjson.dumps({"upsert_rows": rows}))
    assert post(packed, **{"Content-Encoding": "gzip"}).json()["rows_upserted"] == 100
    refused(post(b"no gzip", **{"Content-Encoding": "gzip"}), 400)
    assert post(packed, **{"Content-Encoding": "brotli"}).status_code in {400, 415}


@pytest.mark.feature("H-05")
def test_only_large_answers_are_compressed_and_only_where_accepted(post):
    rows = [{"id": n, "vector": [n + 0.5] * 256} for n in range(8)]
    assert post({"upsert_rows": rows, "distance_metric": "cosine_distance"}).status_code == 200
    large = {"limit": 8, "include_attributes": True}
    plain = post(large, "/query", **{"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = post(large, "/query", **{"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["rows"] == plain.json()["rows"]
    small = post({"limit": 1}, "/query", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in small.headers


@pytest.mark.feature("H-07")
def test_numbers_are_written_as_they_are(post):
    big = 2**64 - 1
    row = b'{"id": %d, "vector": [0.7, 16777217], "i": -9007199254740993, "f": 0.1}' % big
    body = b'{"upsert_rows": [%s], "distance_metric": "cosine_distance", "schema": {"f": "float"}}' % row
    assert post(body).status_code == 200
    text = post({"limit": 1, "include_attributes": True}, "/query").text
    assert f'"id":{big}' in text
    assert '"vector":[0.7,16777216.0]' in text
    assert '"i":-9007199254740993' in text
    assert '"f":0.1' in text


@pytest.mark.feature("H-10")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/namespaces/{}"),
        ("POST", "/v2/namespaces/{}/async"),
        ("GET", "/v1/namespaces/{}/operations/token"),
        ("DELETE", "/v1/namespaces/{}"),
        ("DELETE", "/v2/namespaces/{}"),
        ("POST", "/v2/namespaces/{}/query"),
        ("POST", "/v2/namespaces/{}/explain_query"),
        ("GET", "/v1/namespaces/{}/hint_cache_warm"),
        ("GET", "/v1/namespaces/{}/metadata"),
        ("GET", "/v2/namespaces/{}/metadata"),
        ("PATCH", "/v1/namespaces/{}/metadata"),
        ("GET", "/v1/namespaces/{}/schema"),
        ("POST", "/v1/namespaces/{}/schema"),
        ("POST", "/v1/namespaces/{}/_debug/recall"),
    ],
)
def test_names_of_namespaces_are_checked_in_plain_text(http, method, path):
    wanted = dict.fromkeys(
        ("a%20b", "%C3%A4", "a%2Bb", "a%2Fb", "a%2fquery"),
        "Invalid URL: Namespace contains invalid characters, must be [A-Za-z0-9-_.]",
    )
    long = "a" * 129
    wanted[long] = f"Invalid URL: Namespace `{long}` is too long, limit is currently 128 characters"
    for name, text in wanted.items():
        answer = http.request(method, path.format(name), json={"limit": 1})
        assert (answer.status_code, answer.text) == (400, text), name
        assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.feature("H-10")
def test_the_longest_name(http):
    assert http.post(f"/v2/namespaces/{'a' * 128}", json={"upsert_rows": [{"id": 1}]}).status_code == 200


@pytest.mark.feature("H-02", "N-02")
def test_both_versions_of_a_path_are_answered(http, name, stored):
    for version in ("v1", "v2"):
        prefix = f"/{version}/namespaces/{name}"
        assert http.get(f"{prefix}/metadata").status_code == 200
        assert http.get(f"{prefix}/schema").status_code == 200
        assert http.get(f"{prefix}/hint_cache_warm").status_code == 202
    for version in ("v1", "v2"):
        assert http.delete(f"/{version}/namespaces/{name}").json()["status"] == "OK"
        body = {"upsert_rows": [{"id": 1}]}
        assert http.post(f"/v2/namespaces/{name}", json=body).json()["rows_upserted"] == 1


@pytest.mark.feature("N-08", "N-09", "H-02")
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_missing_namespaces_are_told_with_their_mark(http, name, version):
    prefix = f"/{version}/namespaces/{name}"
    for answer in (
        http.get(f"{prefix}/hint_cache_warm"),
        http.post(f"{prefix}/_debug/recall", json={}),
        http.delete(prefix),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"] == f"🤷 namespace '{name}' was not found"


@pytest.mark.feature("N-01")
def test_pages_of_names(http, post, stored, name):
    for bad in ("0", "1001", "x", "-1"):
        refused(http.get("/v1/namespaces", params={"page_size": bad}), 400, "page_size")
    refused(http.get("/v1/namespaces", params={"cursor": "no cursor"}), 400, "cursor")
    answer = http.get("/v1/namespaces", params={"prefix": name}).json()
    assert {"id": name} in answer["namespaces"]
    assert not answer.get("next_cursor")


@pytest.mark.feature("N-09")
def test_recall_takes_an_empty_object(post, stored):
    assert post({}, "/_debug/recall").json()["avg_recall"] == 1


@pytest.mark.feature("H-09", "W-23")
def test_copies_may_be_answered_later(http, name, stored):
    body = {"copy_from_namespace": name}
    answer = http.post(f"/v2/namespaces/{name}-copy", json=body, headers={"prefer": "respond-async"})
    if answer.status_code == 202:
        assert answer.headers["preference-applied"] == "respond-async"
        while (state := http.get(answer.headers["location"]).json())["status"] == "running":
            pass
        result = state["result"]["success"]
    else:
        assert answer.status_code == 200
        result = answer.json()
    assert result["rows_affected"] == 1
