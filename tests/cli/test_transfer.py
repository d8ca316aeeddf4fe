"""`import` and `export` against a real server."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from elacsym.cli import main


@pytest.fixture
def load(elacsym, server_url):
    """`load(file, name, *flags)` imports."""
    return lambda file, name, *flags: elacsym("import", file, "-n", name, "--url", server_url, *flags)


@pytest.fixture
def dump(elacsym, server_url):
    """`dump(name, *flags)` exports."""
    return lambda name, *flags: elacsym("export", name, "--url", server_url, *flags)


def write_lines(path, documents):
    path.write_bytes(b"".join(orjson.dumps(d) + b"\n" for d in documents))
    return path


def flat(n, **more):
    return {"id": n, "title": f"document {n}", "year": 2000 + n % 30, "vector": [n + 1.0, 1.0]} | more


def test_json_lines_come_back_as_they_went_in(tmp_path, load, dump):
    documents = [
        {
            "id": n,
            "vector": [n + 0.5, -1.0],
            "attributes": {"title": f"t{n}", "year": n, "tags": ["a", str(n)]},
        }
        for n in range(25)
    ]
    documents[3].pop("vector")
    documents[4]["attributes"] = {}
    code, _, err = load(write_lines(tmp_path / "in.jsonl", documents), "round-trip", "--batch-size", 7)
    assert code == 0, err
    assert "25 documents stored in round-trip" in err
    code, _, err = dump("round-trip", "-o", tmp_path / "out.jsonl", "--batch-size", 4)
    assert code == 0, err
    assert [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()] == documents
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_every_vector_is_exported_or_none(tmp_path, load, dump, client, suffix):
    client.create("vectors", {"attributes": {"a": {"type": "[2]f16"}, "b": {"type": "[3]i8"}}})
    documents = [{"id": n, "attributes": {"a": [n, 0.5], "b": [n, -n, 0], "n": n}} for n in range(5)]
    client.upsert("vectors", [*documents[:4], {"id": 4, "attributes": {"n": 4}}])
    for flag, names in (("--vectors", {"a", "b", "n"}), ("--no-vectors", {"n"})):
        path = tmp_path / f"out{flag}.{suffix}"
        code, _, err = dump("vectors", "-o", path, flag)
        assert code == 0, err
        if suffix == "parquet":
            rows = pq.read_table(path).to_pylist()
            assert [row.pop("id") for row in rows] == list(range(5))
        else:
            rows = [orjson.loads(line)["attributes"] for line in path.read_bytes().splitlines()]
        assert set(rows[3]) == names
        assert rows[3]["n"] == 3
        if "a" in names:
            assert (rows[3]["a"], rows[3]["b"]) == ([3.0, 0.5], [3.0, -3.0, 0.0])
            assert rows[4].get("a") is None
    client.delete_namespace("vectors")


def test_parquet_comes_back_as_it_went_in(tmp_path, load, dump):
    table = pa.table({
        "id": pa.array([f"k{i}" for i in range(9)]),
        "vector": pa.array(np.arange(18, dtype=np.float32).reshape(9, 2).tolist(), pa.list_(pa.float32(), 2)),
        "title": [None if i == 2 else f"t{i}" for i in range(9)],
        "score": [i / 4 for i in range(9)],
        "open": [i % 2 == 0 for i in range(9)],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "in.parquet")
    code, _, err = load(tmp_path / "in.parquet", "parquet", "--metric", "l2")
    assert code == 0, err
    code, _, err = dump("parquet", "-o", tmp_path / "out.parquet", "--batch-size", 4)
    assert code == 0, err
    assert pq.read_table(tmp_path / "out.parquet").select(table.column_names).to_pydict() == table.to_pydict()


def test_a_missing_namespace_is_created_with_the_dimension_and_the_full_text_that_were_asked(
    tmp_path, load, client
):
    file = write_lines(tmp_path / "a.jsonl", [{"id": 0, "title": "no vector"}, flat(1), flat(2)])
    code, _, err = load(file, "made", "--full-text", "title", "--metric", "l2")
    assert code == 0, err
    schema = client.info("made")["schema"]
    assert (schema["vector_dim"], schema["vector_metric"]) == (2, "l2")
    assert schema["attributes"]["title"]["full_text"]
    assert client.query("made", full_text={"field": "title", "query": "2"}).results[0].id == 2


def test_a_schema_may_be_given_as_a_file(tmp_path, load, client):
    schema = {"vector_dim": 2, "vector_metric": "dot", "attributes": {"year": {"type": "float"}}}
    (tmp_path / "schema.json").write_bytes(orjson.dumps({"schema": schema}))
    file = write_lines(tmp_path / "a.jsonl", [flat(1)])
    code, _, err = load(file, "schemed", "--schema", f"@{tmp_path / 'schema.json'}")
    assert code == 0, err
    assert client.info("schemed")["schema"]["attributes"]["year"]["type"] == "float"


def test_a_document_that_the_server_refuses_is_named_by_its_line_and_the_import_can_go_on(
    tmp_path, load, client
):
    documents = [flat(n) for n in range(10)]
    documents[6]["year"] = "not a number"
    file = write_lines(tmp_path / "bad.jsonl", documents)
    code, _, err = load(file, "refused", "--batch-size", 4)
    assert code == 1
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert f"{file}: line 7: documents[2].attributes.year" in line
    assert "--skip 4" in line
    assert client.info("refused")["documents"] == 4
    documents[6]["year"] = 2006
    code, _, err = load(write_lines(file, documents), "refused", "--skip", 4)
    assert code == 0, err
    assert "6 documents stored" in err
    assert client.info("refused")["documents"] == 10


def test_a_line_that_is_no_json_is_named_and_says_what_is_stored(tmp_path, load, client):
    file = write_lines(tmp_path / "bad.jsonl", [flat(n) for n in range(3)])
    file.write_bytes(file.read_bytes() + b"{oops\n")
    code, _, err = load(file, "oops", "--batch-size", 2)
    assert code == 1
    assert "line 4, column 2: " in err
    assert "--skip 3" in err
    assert client.info("oops")["documents"] == 3


def test_of_two_rows_with_one_id_the_later_one_wins(tmp_path, load, client):
    file = write_lines(tmp_path / "twice.jsonl", [flat(1), flat(2), flat(1, title="later")])
    code, _, err = load(file, "twice")
    assert code == 0, err
    (found,) = client.documents("twice", [1])
    assert found.attributes["title"] == "later"
    assert client.info("twice")["documents"] == 2


def test_stdin_is_imported_and_stdout_is_exported(monkeypatch, server_url, capfdbinary):
    lines = b'{"id": 1, "attributes": {"title": "x"}}\n{"id": 2, "attributes": {}}\n'
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    with pytest.raises(SystemExit) as ended:
        main(["import", "-", "-n", "piped", "--url", server_url])
    assert not ended.value.code
    capfdbinary.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["export", "piped", "--url", server_url])
    assert not ended.value.code
    assert capfdbinary.readouterr().out == lines.replace(b": ", b":").replace(b", ", b",")


def test_an_empty_file_stores_nothing(tmp_path, load):
    (tmp_path / "none.jsonl").write_bytes(b"\n")
    code, _, err = load(tmp_path / "none.jsonl", "nothing")
    assert code == 0
    assert "0 documents stored" in err


def test_a_missing_file_and_a_missing_namespace_are_one_line_each(tmp_path, load, dump):
    code, _, err = load(tmp_path / "no.jsonl", "x")
    assert (code, err.count("\n")) == (1, 1)
    assert "no.jsonl" in err
    code, _, err = dump("no-such-namespace", "-o", tmp_path / "out.jsonl")
    assert (code, err.count("\n")) == (1, 1)
    assert "no-such-namespace" in err
    assert list(tmp_path.iterdir()) == []


def test_an_export_without_vectors_leaves_them_out(tmp_path, load, dump):
    load(write_lines(tmp_path / "a.jsonl", [flat(1)]), "lean")
    code, _, err = dump("lean", "--no-vectors", "-o", tmp_path / "out.jsonl")
    assert code == 0, err
    assert "vector" not in orjson.loads((tmp_path / "out.jsonl").read_bytes())
