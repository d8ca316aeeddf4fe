"""`inspect`, `scrub` and `doctor` on a folder, without a server."""

import asyncio
import random

import numpy as np
import orjson
import pytest
from support.database import document, open_database, schema, upsert

from elacsym.client import Client
from elacsym.demo.local import running_server
from elacsym.engine.fold import fold
from elacsym.format.keys import NamespaceKeys
from elacsym.log import bucket
from elacsym.store.local import LocalStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that a server wrote two namespaces to, and left."""
    path = tmp_path_factory.mktemp("stored")
    with running_server(path) as url, Client(url) as client:
        for name in ("Docs", "other"):
            client.create(name, {"vector_dim": 2, "vector_metric": "l2"})
            client.upsert(name, [{"id": n, "vector": [n, 0], "attributes": {"t": "x"}} for n in range(5)])
            client.delete(name, [4])
    return path


def wal_files(folder, name):
    return sorted((folder / NamespaceKeys(name).prefix).rglob("wal/*"))


def test_inspect_shows_manifest_and_log(elacsym, folder):
    code, out, err = elacsym("inspect", "Docs", "--storage", folder)
    assert code == 0, err
    assert "namespace Docs" in out
    assert "vector [2]f32" in out
    assert "claim" in out
    assert out.count("write") >= 2


def test_inspect_as_json_counts_what_it_does_not_show(elacsym, folder):
    code, out, _ = elacsym("inspect", "Docs", "--storage", folder, "--json", "--limit", 1)
    found = orjson.loads(out)
    assert code == 0
    assert (found["name"], found["state"], len(found["tail"])) == ("Docs", "active", 1)
    assert found["tail_slots"] == len(wal_files(folder, "Docs"))
    assert found["tail_bytes"] > 0


def test_inspect_of_nothing_is_one_line(elacsym, folder):
    for name in ("docs", "no/name"):
        code, _, err = elacsym("inspect", name, "--storage", folder)
        assert (code, err.count("\n")) == (1, 1)
        assert name in err


def test_scrub_reads_every_namespace_and_finds_nothing_wrong(elacsym, folder):
    code, out, _ = elacsym("scrub", "--storage", folder, "--json")
    assert code == 0
    reports = {r["name"]: r for r in orjson.loads(out)}
    assert set(reports) == {"Docs", "other"}
    assert all(r["problems"] == [] and r["objects"] >= 3 and r["bytes"] > 0 for r in reports.values())


def test_a_storage_that_no_node_wrote_to_is_neither_judged_nor_made(elacsym, tmp_path):
    missing, other = tmp_path / "elacsym-dta", tmp_path / "photos"
    other.mkdir()
    for arguments in (("scrub",), ("inspect", "Docs")):
        for storage in (missing, other, f"file://{missing}"):
            code, _, err = elacsym(*arguments, "--storage", storage)
            assert (code, err.count("\n")) == (1, 1)
            assert str(storage) in err
    assert not missing.exists()


def test_scrub_names_a_damaged_object_and_ends_with_code_1(elacsym, folder):
    victim = wal_files(folder, "other")[-1]
    good = victim.read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    victim.write_bytes(bad)
    try:
        code, out, _ = elacsym("scrub", "other", "--storage", folder)
        assert code == 1
        assert victim.name in out
        code, out, _ = elacsym("inspect", "other", "--storage", folder)
        assert code in (0, 1)
        assert elacsym("scrub", "Docs", "--storage", folder)[0] == 0
    finally:
        victim.write_bytes(good)


def test_doctor_proves_the_store_and_hides_secrets(elacsym, folder, monkeypatch):
    monkeypatch.setenv("ELACSYM_API_KEYS", "a-very-secret-key")
    code, out, err = elacsym("doctor", "--storage", folder)
    assert code == 0, err
    assert "honours conditional writes" in out
    assert "a-very-secret-key" not in out + err
    assert "pyarrow" in out
    assert [p.name for p in folder.iterdir() if p.name == "probe" and any(p.rglob("*.*"))] == []


def test_doctor_reports_a_store_that_cannot_be_used_and_ends_with_code_1(elacsym, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, out, _ = elacsym("doctor", "--storage", tmp_path / "file", "--json")
    assert code == 1
    verdicts = {f["what"]: f["verdict"] for f in orjson.loads(out)["findings"]}
    assert verdicts["store"] == "problem"
    assert verdicts["python"] == "ok"


def test_a_bad_setting_is_one_line(elacsym, monkeypatch):
    monkeypatch.setenv("ELACSYM_STORAG", "x")
    for command in ("doctor", "serve", "scrub"):
        code, _, err = elacsym(command)
        assert (code, err.count("\n")) == (1, 1)
        assert "did you mean ELACSYM_STORAGE" in err


def test_inspect_shows_what_a_branch_shares(elacsym, tmp_path):
    async def branch():
        store = LocalStore(tmp_path / "data")
        await bucket.ensure(store, random.Random(1))
        database = await open_database(store, cache_path=tmp_path)
        await database.create("source", schema())
        for id_ in (1, 2):
            await database.write("source", upsert(document(id_, np.random.default_rng(id_))))
            if id_ == 1:
                await fold(await database.namespace("source"))
        await database.branch("source", "leaf")
        await database.write("leaf", upsert(document(3, np.random.default_rng(3))))
        await database.close()
        await store.close()

    asyncio.run(branch())
    code, out, err = elacsym("inspect", "leaf", "--storage", tmp_path / "data", "--json")
    found = orjson.loads(out)
    assert code == 0, err
    assert [segment["home"]["name"] for segment in found["segments"]] == ["source"]
    assert [line["kind"] for line in found["tail"]] == ["write", "claim", "write"]
    assert [base["home"]["name"] for base in found["bases"]] == ["source"]
    _, out, _ = elacsym("inspect", "source", "--storage", tmp_path / "data")
    assert "leaf" in out
    code, out, _ = elacsym("scrub", "leaf", "--storage", tmp_path / "data", "--json")
    assert (code, orjson.loads(out)[0]["problems"]) == (0, [])
