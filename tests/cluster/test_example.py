"""`examples/cluster.sh`, which the README shows: the cluster of docker-compose.yml as processes."""

import asyncio
import os
import random
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from cluster.harness import PORTS
from cluster.nginx_process import nginx_program

from elacsym.client import AsyncClient

ROOT = Path(__file__).parents[2]
PROCESSES = 6
START_S_MAX = 120.0


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def port():
    """The first of as many free ports in a row as the example takes."""
    for first in random.sample(range(PORTS.start, PORTS.stop - PROCESSES), 200):
        if all(is_free(first + i) for i in range(PROCESSES)):
            return first
    pytest.fail("there are no free ports")


async def start(*arguments):
    nginx_program()
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("ELACSYM_", "AWS_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return await asyncio.create_subprocess_exec(
        ROOT / "examples/cluster.sh",
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # a shell cannot trap what was ignored when it began, as SIGINT is below a job in the background
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
async def test_the_check_writes_and_searches_through_nginx_and_leaves_nothing_running(port):
    process = await start("--check", "--port", str(port))
    async with asyncio.timeout(START_S_MAX):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert b"4 namespaces written, found by all nodes, and deleted" in output
    assert not any(listens(port + i) for i in range(PROCESSES))


@pytest.mark.slow
async def test_it_serves_until_it_is_interrupted_even_without_one_of_its_nodes(port):
    process = await start("--port", str(port))
    try:
        async with asyncio.timeout(START_S_MAX):
            shown = ""
            while "Ctrl-C ends it." not in shown:
                line = (await process.stdout.readline()).decode()
                assert line, shown
                shown += line
        async with AsyncClient(f"http://127.0.0.1:{port}", read_your_writes=True) as client:
            await client.create("docs", {"vector_dim": 2})
            await client.upsert("docs", [{"id": 1, "vector": [1, 0]}])
            found = await client.query("docs", vector=[1, 0])
            assert [r.id for r in found.results] == [1]
            assert len((await client.cluster()).members) == PROCESSES - 1
            owner = await client.owner("docs")
            os.kill(int(re.search(rf"{owner.id} .* process (\d+)", shown)[1]), signal.SIGKILL)
            await client.upsert("docs", [{"id": 2, "vector": [0, 1]}])
            assert None not in await client.documents("docs", [1, 2])
    finally:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(START_S_MAX):
            await process.communicate()
    assert process.returncode == 130
    assert not any(listens(port + i) for i in range(PROCESSES))


async def test_an_unknown_option_is_refused(port):
    process = await start("--ports", str(port))
    output, _ = await process.communicate()
    assert process.returncode == 2
    assert b"unknown option --ports" in output
