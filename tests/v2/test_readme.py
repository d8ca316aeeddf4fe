"""The README's section for those who come from turbopuffer, as typed; only addresses are other ones."""

import asyncio
import contextlib
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
def environment(tmp_path_factory):
    """The environment of a user who set nothing, with the command as it is installed."""
    folder = tmp_path_factory.mktemp("installed")
    program = folder / "elacsym"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m elacsym.cli "$@"\n')
    program.chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("ELACSYM_")}
    return own | {"PATH": f"{folder}:{own['PATH']}", "COLUMNS": "200"}


@contextlib.contextmanager
def as_typed(folder, environment):
    """The address of the section's server, on a free port instead of the usual one, which may be taken."""
    (line,) = re.findall(r"^ {4}(.* elacsym serve)$", SECTION, re.MULTILINE)
    # exec, so that the process is the server's
    setting, _, command = line.partition(" ")
    with subprocess.Popen(
        ["bash", "-c", f"{setting} exec {command}"],
        cwd=folder,
        env=environment | {"ELACSYM_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield re.search(r"http://\S+", process.stdout.readline())[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory, environment):
    """The addresses in the section, and those of the servers that stand for them."""
    folder = tmp_path_factory.mktemp("readme")
    old = ServerProcess(folder / "old", str(folder / "data-old"), api_keys=key_in("TURBOPUFFER_API_KEY"))
    try:
        asyncio.run(old.start())
        with as_typed(folder, environment) as here:
            yield {HERE: here, THERE: old.url}
    finally:
        old.kill()


def run(command, addresses, environment):
    """Run a block with these addresses; what it printed."""
    for typed, real in addresses.items():
        command = [part.replace(typed, real) for part in command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_program_finds_what_it_wrote(addresses, environment):
    printed = run([sys.executable, "-c", block("python")], addresses, environment).splitlines()
    assert "id=1" in printed[0]
    assert "copper kettle" in printed[0]
    assert "id=2" in printed[1]


def test_a_namespace_is_moved_over(addresses, environment):
    there = turbopuffer.Turbopuffer(base_url=addresses[THERE], api_key=key_in("TURBOPUFFER_API_KEY"))
    there.namespace("kettles").write(
        upsert_rows=[{"id": 7, "vector": [0.5, 1.5]}], distance_metric="euclidean_squared"
    )
    here = turbopuffer.Turbopuffer(base_url=addresses[HERE], api_key=key_in("ELACSYM_API_KEYS"))
    namespace = here.namespace("kettles")
    if namespace.exists():
        namespace.delete_all()
    assert "1 documents of kettles stored in kettles" in run(
        ["bash", "-ec", block("bash")], addresses, environment
    )
    (row,) = namespace.query(rank_by=["id", "asc"], limit=9, include_attributes=True).rows
    assert (row.id, row.vector) == (7, [0.5, 1.5])
    here.close()
    there.close()
