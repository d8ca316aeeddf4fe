"""A real server, and the command line in this process."""

import socket

import pytest

from elacsym.cli import main
from elacsym.client import Client
from elacsym.demo.local import running_server


@pytest.fixture(scope="session")
def server_url(tmp_path_factory):
    """A server without settings on a folder of its own."""
    with running_server(tmp_path_factory.mktemp("data")) as url:
        yield url


@pytest.fixture
def client(server_url):
    with Client(server_url) as made:
        yield made


@pytest.fixture
def elacsym(capsys, monkeypatch):
    """`elacsym(*arguments)` runs a command: exit code, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def unused_tcp_port_url(monkeypatch):
    """An address where nothing listens; clients do not wait before they try again."""
    monkeypatch.setattr("elacsym.client.conversation.full_jitter_s", lambda *_, **__: 0.0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"
