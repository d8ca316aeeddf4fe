"""`elacsym serve` as a process of its own."""

import re
import signal
import subprocess
import sys

import pytest

from elacsym.client import Client


@pytest.fixture
def served(tmp_path):
    """A started `elacsym serve`, and its URL."""
    command = [sys.executable, "-m", "elacsym.cli", "serve", "--port", "0", "--node-id", "n1"]
    with subprocess.Popen(
        command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        line = process.stdout.readline()
        yield process, re.search(r"http://\S+", line)[0]
        process.kill()


def test_it_may_hold_as_many_file_descriptors_as_the_system_allows(tmp_path):
    resource = pytest.importorskip("resource")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = """
import resource, sys
from elacsym.server.run import raise_descriptor_limit
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
raise_descriptor_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, check=True)
    assert done.stdout.split() == [str(hard)] * 2


def test_without_settings_it_listens_on_loopback_stores_in_the_folder_and_stops_on_sigterm(served, tmp_path):
    process, url = served
    assert url.startswith("http://127.0.0.1:")
    with Client(url) as client:
        assert client.health()["status"] == "ok"
        client.create("n", {})
        client.upsert("n", [{"id": 1}])
    assert any((tmp_path / "elacsym-data" / "ns").rglob("wal/*"))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert errors.index('"signal": "SIGTERM", "event": "stopping"') < errors.index('"event": "stopped"')
