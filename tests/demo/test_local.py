"""The demo's server."""

import pytest

from elacsym.client import Client, UnavailableError
from elacsym.demo.local import running_server
from elacsym.errors import StoreUnavailable


def test_the_server_runs_for_the_block_and_keeps_what_was_stored(tmp_path):
    with running_server(tmp_path) as url, Client(url) as client:
        client.create("n", {})
        client.upsert("n", [{"id": 1, "attributes": {"a": "b"}}])
    with Client(url, retries=0) as client, pytest.raises(UnavailableError):
        client.health()
    with running_server(tmp_path) as url, Client(url) as client:
        assert client.documents("n", [1])[0].attributes == {"a": "b"}


def test_a_folder_that_cannot_be_used_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable), running_server(tmp_path / "file"):
        pass
