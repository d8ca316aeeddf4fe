"""`elacsym import --from turbopuffer` between two real server processes."""

import asyncio
import json

import httpx
import pytest
from crash.processes import ServerProcess

from elacsym.client import Client

THERE, HERE = "key-of-the-source", "key-of-the-target"
UUIDS = ["01890a5d-ac96-774b-bcce-b302099a8057", "f47ac10b-58cc-4372-a567-0e02b2c3d479"]
SCHEMA = {
    "id": "uuid",
    "vector": {"type": "[2]f32", "ann": True},
    "half": {"type": "[2]f16", "ann": True},
    "sparse": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}},
    "title": {"type": "string", "full_text_search": {"language": "german", "stemming": True, "k1": 2.0}},
    "tokens": {"type": "[]string", "full_text_search": {"tokenizer": "pre_tokenized_array"}},
    "sku": {"type": "string", "glob": True, "regex": True, "fuzzy": True},
    "hidden": {"type": "int", "filterable": False},
    "at": "datetime",
    "key": "uuid",
    "raw": "bytes",
    "u": "uint",
    "times": "[]datetime",
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Two servers with different keys."""
    folder = tmp_path_factory.mktemp("import")
    made = [
        ServerProcess(folder / name, str(folder / f"data-{name}"), api_keys=key)
        for name, key in (("there", THERE), ("here", HERE))
    ]
    try:
        for server in made:
            asyncio.run(server.start())
        yield made
    finally:
        for server in made:
            server.kill()


@pytest.fixture
def there(servers):
    """A plain client of the server that documents come from."""
    with client(servers[0], THERE) as http:
        yield http


@pytest.fixture
def here(servers):
    """A plain client of the server that they go to."""
    with client(servers[1], HERE) as http:
        yield http


@pytest.fixture
def moved(elacsym, servers, monkeypatch):
    """`moved(name, *flags)` imports a namespace; the keys are in the environment."""
    monkeypatch.setenv("TURBOPUFFER_API_KEY", THERE)
    monkeypatch.setenv("ELACSYM_API_KEY", HERE)
    monkeypatch.setenv("ELACSYM_URL", servers[1].url)
    return lambda name, *flags: elacsym("import", "--from", "turbopuffer", servers[0].url, name, *flags)


def client(server, key):
    return httpx.Client(
        base_url=server.url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60
    )


def written(http, name, body):
    answer = http.post(f"/v2/namespaces/{name}", content=json.dumps(body))
    assert answer.status_code == 200, answer.text
    return answer.json()


def documents(http, name):
    body = {"rank_by": ["id", "asc"], "limit": 10_000, "include_attributes": True}
    answer = http.post(f"/v2/namespaces/{name}/query", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def schema_of(http, name):
    metadata = http.get(f"/v2/namespaces/{name}/metadata").json()
    return http.get(f"/v1/namespaces/{name}/schema").json(), metadata["schema"]


@pytest.mark.feature("N-11")
def test_schema_and_values_of_every_type_come_over(there, here, moved):
    first = {
        "id": UUIDS[0],
        "vector": [0.1, -2.0],
        "half": [0.1, 1.0],
        "sparse": {"17": 0.5, "40210": 1.25},
        "title": "Häuser",
        "tokens": ["Big", "data set"],
        "sku": "A-17",
        "hidden": -5,
        "at": "2024-03-02T04:05:06.789000000Z",
        "key": UUIDS[1],
        "raw": "AAECAw==",
        "u": 2**64 - 1,
        "times": ["2024-03-02T04:05:06.000000000Z"],
        "tags": ["x", "x", "y"],
        "flag": False,
        "nothing": [],
    }
    second = {"id": UUIDS[1], "vector": [1.0, 2.0], "half": [0.5, 0.5]}
    body = {"upsert_rows": [first, second], "schema": SCHEMA, "distance_metric": "cosine_distance"}
    written(there, "types", body)
    code, _, err = moved("types")
    assert code == 0, err
    assert "2 documents of types stored in types" in err
    assert documents(here, "types") == documents(there, "types")
    assert schema_of(here, "types") == schema_of(there, "types")
    search = {"rank_by": ["title", "BM25", "haus"], "limit": 1}
    found = here.post("/v2/namespaces/types/query", json=search).json()["rows"]
    assert [row["id"] for row in found] == [UUIDS[0]]


@pytest.mark.feature("N-11")
def test_an_interrupted_import_goes_on_where_it_was(there, here, moved):
    rows = [{"id": n, "n": n} for n in range(1, 26)]
    written(there, "numbers", {"upsert_rows": rows})
    written(here, "moved", {"upsert_rows": rows[:10]})
    code, _, err = moved("numbers", "-n", "moved")
    assert code == 0, err
    assert "15 documents of numbers stored in moved" in err
    assert "10 documents of moved were the same already" in err
    assert documents(here, "moved") == rows
    code, _, err = moved("numbers", "-n", "moved")
    assert (code, "0 documents of numbers stored in moved" in err) == (0, True)


def test_what_is_not_the_beginning_of_the_source_is_written_anew(there, here, moved):
    rows = [{"id": n, "n": n} for n in range(1, 6)]
    written(there, "five", {"upsert_rows": rows})
    written(here, "five", {"upsert_rows": [{"id": 4, "n": 0}]})
    code, _, err = moved("five")
    assert (code, "5 documents of five stored in five" in err) == (0, True)
    assert documents(here, "five") == rows


@pytest.mark.feature("N-11")
def test_a_rerun_takes_over_what_differs_and_nothing_else(there, here, moved, monkeypatch):
    monkeypatch.setattr("elacsym.cli.migrate.PAGE_BYTES_MAX", 4_000)
    schema = {"vector": {"type": "[2]f32", "ann": True}, "half": {"type": "[2]f16", "ann": True}}
    rows = [{"id": f"{n:02}", "vector": [n, 0.1], "half": [0.1, n], "n": n, "s": "x"} for n in range(30)]
    body = {"upsert_rows": rows, "schema": schema, "distance_metric": "euclidean_squared"}
    written(there, "edited", body)
    assert moved("edited")[0] == 0
    # one value, one that is gone, one vector; and at the target one that differs, one missing, one of its own
    shorter = {"id": "04", "vector": [4, 0.1], "half": [0.1, 4], "n": 4}
    changes = [rows[3] | {"n": -3}, shorter, rows[9] | {"vector": [0, 0]}]
    written(there, "edited", {"upsert_rows": changes, "deletes": ["20"]})
    own = rows[0] | {"id": "03 of its own"}
    written(here, "edited", {"upsert_rows": [rows[25] | {"n": 0}, own], "deletes": ["27"]})
    deleted = next(row for row in documents(here, "edited") if row["id"] == "20")
    code, _, err = moved("edited")
    assert code == 0, err
    assert "24 documents of edited were the same already" in err
    assert "5 documents of edited stored in edited" in err
    found = documents(here, "edited")
    stayed = [row for row in found if row["id"] in ("03 of its own", "20")]
    assert [row for row in found if row not in stayed] == documents(there, "edited")
    assert deleted in stayed
    assert len(stayed) == 2


@pytest.mark.feature("N-11")
def test_documents_that_lack_vectors_come_over(there, here, moved):
    first = {"a": {"type": "[2]f32", "ann": True}}
    metric = {"distance_metric": "cosine_distance"}
    written(there, "grown", {"upsert_rows": [{"id": 1, "a": [1, 2]}], "schema": first} | metric)
    second = {"b": {"type": "[1]f16", "ann": True}}
    written(there, "grown", {"upsert_rows": [{"id": 2, "a": [3, 4], "b": [5]}], "schema": second})
    # neither set of vectors contains the other one
    lacking = {"upsert_rows": [{"id": 3, "b": [6]}, {"id": 4}]}
    assert there.post("/v2/namespaces/grown", json=lacking).status_code == 400
    written(there, "grown", lacking | {"require_all_vectors": False})
    code, _, err = moved("grown")
    assert code == 0, err
    assert documents(here, "grown") == documents(there, "grown")
    assert schema_of(here, "grown") == schema_of(there, "grown")


def test_a_rerun_brings_the_first_vectors_of_a_namespace(there, here, moved):
    written(there, "later", {"upsert_rows": [{"id": 1, "n": 1}]})
    assert moved("later")[0] == 0
    body = {"upsert_rows": [{"id": 2, "vector": [1, 2]}], "distance_metric": "euclidean_squared"}
    written(there, "later", body | {"require_all_vectors": False})
    code, _, err = moved("later")
    assert code == 0, err
    assert "1 documents of later stored in later" in err
    assert documents(here, "later") == documents(there, "later")


@pytest.mark.parametrize(
    ("name", "schema", "reason"),
    [
        ("empty", {}, "nor a type of ids"),
        (
            "dots",
            {"vector_dim": 2, "vector_metric": "dot"},
            "metric is 'dot_product'; only cosine_distance and euclidean_squared",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused_before_anything_is_written(
    there, here, moved, name, schema, reason
):
    with Client(str(there.base_url), api_key=THERE) as v1:
        v1.create(name, schema)
        if schema:
            v1.upsert(name, [{"id": 1, "vector": [1.0, 2.0]}])
    code, _, err = moved(name)
    assert (code, reason in err, "goes on" in err) == (1, True, False)
    assert here.get(f"/v2/namespaces/{name}/metadata").status_code == 404


def test_pages_are_cut_by_bytes(there, here, moved, monkeypatch):
    monkeypatch.setattr("elacsym.cli.migrate.PAGE_BYTES_MAX", 5_000)
    rows = [{"id": f"row {n:03}", "text": "x" * (n % 7 * 100)} for n in range(60)]
    written(there, "texts", {"upsert_rows": rows})
    code, _, err = moved("texts")
    assert code == 0, err
    assert documents(here, "texts") == rows


def test_what_the_target_refuses_is_not_promised_to_go_on(there, here, moved):
    written(there, "numbered", {"upsert_rows": [{"id": 1, "n": 1}]})
    written(here, "numbered", {"upsert_rows": [{"id": "one", "n": 1}]})
    code, _, err = moved("numbered")
    assert (code, "0 documents were written" in err, "goes on" in err) == (1, True, False)
    assert [row["id"] for row in documents(here, "numbered")] == ["one"]


def test_what_is_wrong_is_told_in_one_line(moved, elacsym, monkeypatch, there):
    code, _, err = moved("missing")
    assert code == 1
    assert "'missing' was not found" in err
    code, _, err = elacsym("import", "--from", "turbopuffer", "http://127.0.0.1:1")
    assert code == 2
    assert "namespace" in err
    written(there, "locked", {"upsert_rows": [{"id": 1, "n": 1}]})
    monkeypatch.setenv("TURBOPUFFER_API_KEY", "another-key")
    code, _, err = moved("locked")
    assert code == 1
    assert "key" in err
