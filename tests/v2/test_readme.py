"""The README's section for those who come from turbopuffer, as typed; only addresses are other ones."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import turbopuffer
from crash.processes import ServerProcess

README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.split("## Coming from turbopuffer\n")[1].split("\n## ")[0]
HERE, THERE = "http://127.0.0.1:3000", "https://aws-us-east-1.turbopuffer.com"


def block(language):
    """The block of the section in this language."""
    return re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[1]


def key_in(pattern):
    """A key that the section tells."""
    return re.search(rf"{pattern}=(\S+)", SECTION)[1]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """The server of the section, and one in the place of the old one."""
    folder = tmp_path_factory.mktemp("readme")
    keys = {"here": key_in("ELACSYM_API_KEYS"), "there": key_in("TURBOPUFFER_API_KEY")}
    made = {
        name: ServerProcess(folder / name, str(folder / f"data-{name}"), api_keys=key)
        for name, key in keys.items()
    }
    try:
        for server in made.values():
            asyncio.run(server.start())
        yield made
    finally:
        for server in made.values():
            server.kill()


def run(command, servers, folder):
    """Run a block with the addresses of these servers; what it printed."""
    # the command as it is installed
    program = folder / "elacsym"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m elacsym.cli "$@"\n')
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ELACSYM_")}
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    environment["COLUMNS"] = "200"
    command = [
        part.replace(HERE, servers["here"].url).replace(THERE, servers["there"].url) for part in command
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_program_finds_what_it_wrote(servers, tmp_path):
    printed = run([sys.executable, "-c", block("python")], servers, tmp_path).splitlines()
    assert "id=1" in printed[0]
    assert "copper kettle" in printed[0]
    assert "id=2" in printed[1]


def test_a_namespace_is_moved_over(servers, tmp_path):
    there = turbopuffer.Turbopuffer(base_url=servers["there"].url, api_key=key_in("TURBOPUFFER_API_KEY"))
    there.namespace("kettles").write(
        upsert_rows=[{"id": 7, "vector": [0.5, 1.5]}], distance_metric="euclidean_squared"
    )
    here = turbopuffer.Turbopuffer(base_url=servers["here"].url, api_key=key_in("ELACSYM_API_KEYS"))
    namespace = here.namespace("kettles")
    if namespace.exists():
        namespace.delete_all()
    assert "1 documents of kettles stored in kettles" in run(
        ["bash", "-ec", block("bash")], servers, tmp_path
    )
    (row,) = namespace.query(rank_by=["id", "asc"], limit=9, include_attributes=True).rows
    assert (row.id, row.vector) == (7, [0.5, 1.5])
    here.close()
    there.close()
