"""Copies that take longer than a client likes to wait: answered 202, and polled."""

import httpx
import pytest
import turbopuffer

from elacsym.demo.local import running_server


@pytest.fixture
def url(tmp_path, monkeypatch):
    """A server for which every copy takes long."""
    monkeypatch.setattr("elacsym.server.v2_copy._PROMPT_S", 0.0)
    with running_server(tmp_path) as address:
        yield address


@pytest.mark.feature("H-09", "W-23")
def test_the_client_polls_until_a_copy_is_there(url):
    with turbopuffer.Turbopuffer(base_url=url, api_key="a-key-of-tests", max_retries=0) as client:
        client.namespace("source").write(upsert_rows=[{"id": n, "n": n} for n in range(3)])
        copy = client.namespace("copy")
        assert copy.copy_from(source_namespace="source").rows_affected == 3
        assert [row.id for row in copy.query(rank_by=["id", "asc"], limit=9).rows] == [0, 1, 2]
        with pytest.raises(turbopuffer.NotFoundError, match="was not found"):
            client.namespace("other").copy_from(source_namespace="missing")


@pytest.mark.feature("H-09", "W-24")
def test_the_answer_names_where_to_ask(url):
    with httpx.Client(base_url=url, trust_env=False) as http:
        http.post("/v2/namespaces/source", json={"upsert_rows": [{"id": 1, "n": 1}]})
        body = {"copy_from_namespace": "source"}
        answer = http.post("/v2/namespaces/copy", json=body, headers={"Prefer": "respond-async"})
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "respond-async"
        while (state := http.get(answer.headers["location"]).json())["status"] == "running":
            pass
        assert state["result"]["success"]["rows_affected"] == 1
        # nobody who did not ask for it is sent away
        answer = http.post("/v2/namespaces/second", json=body)
        assert (answer.status_code, answer.json()["rows_affected"]) == (200, 1)
