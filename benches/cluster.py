"""Take-over after a node is lost, and what a write costs by the way it comes.

    python benches/cluster.py [--turns 5] [--writes 300] [--json out.json]

Two indexers over a folder, with default settings. A namespace's owner is killed, stopped (SIGSTOP), told to
end (SIGTERM), or drained; measured is the time until a client of the other node, which gives every attempt
2 s and asks again, has a write acknowledged, in the worst of all turns. Writes of one document, one after the
other: to the owner, to the other node that redirects, to one that forwards, and, where nginx is installed,
through nginx.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from benches.support import Figure, Server, options, report, running_server, wait_until
from elacsym.client import Client
from elacsym.cluster.nginx import render
from elacsym.cluster.ring import HashRing

NAMESPACE = "bench"
SCHEMA = {"attributes": {"n": {"type": "integer"}}}
NODES = ("indexer-0", "indexer-1")
TAKE_OVER_S_MAX = 5.0
ATTEMPT_S = 2.0
# between a node's start and its loss: both have been asked and found alive
SETTLE_S = 1.5


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_pair(folder: Path, **settings: object) -> Iterator[tuple[Server, Server]]:
    """The owner of NAMESPACE and another indexer over one folder."""
    ports = {node: _free_port() for node in NODES}
    nodes = ",".join(f"{node}=http://127.0.0.1:{port}" for node, port in ports.items())
    owner = HashRing(dict.fromkeys(NODES, 1.0)).owner(NAMESPACE)
    with contextlib.ExitStack() as stack:
        servers = {
            node: stack.enter_context(
                running_server(
                    folder / node, storage=folder / "data", nodes=nodes, node_id=node, port=port, **settings
                )
            )
            for node, port in ports.items()
        }
        (other,) = set(NODES) - {owner}
        yield servers[owner], servers[other]


def _drain(owner: Server) -> None:
    httpx.post(f"{owner.url}/internal/drain", trust_env=False).raise_for_status()


LOSSES: dict[str, Callable[[Server], None]] = {
    "SIGKILL": lambda owner: owner.process.kill(),
    "SIGSTOP": lambda owner: owner.process.send_signal(signal.SIGSTOP),
    "SIGTERM": lambda owner: owner.process.send_signal(signal.SIGTERM),
    "drain": _drain,
}


def take_over_s(lose: Callable[[Server], None]) -> float:
    """How long a client of the other node waits for its first write after the owner was lost."""
    with tempfile.TemporaryDirectory() as name, running_pair(Path(name)) as (owner, other):
        with Client(other.url, timeout_s=ATTEMPT_S) as client:
            client.create(NAMESPACE, SCHEMA)
            client.upsert(NAMESPACE, [{"id": 1, "attributes": {"n": 1}}])
            time.sleep(SETTLE_S)
            client.upsert(NAMESPACE, [{"id": 1, "attributes": {"n": 2}}])
            began_s = time.monotonic()
            lose(owner)
            client.upsert(NAMESPACE, [{"id": 1, "attributes": {"n": 3}}])
            took_s = time.monotonic() - began_s
        if owner.process.poll() is None:
            owner.process.send_signal(signal.SIGCONT)
    return took_s


def take_overs(turns: int) -> list[Figure]:
    """Every kind of loss, `turns` times."""
    figures = []
    for kind, lose in LOSSES.items():
        taken_s = [take_over_s(lose) for _ in range(turns)]
        worst_s = max(taken_s)
        figures.append(
            Figure(
                f"writes again after {kind}",
                worst_s,
                f"< {TAKE_OVER_S_MAX:g} s",
                worst_s < TAKE_OVER_S_MAX,
                "s",
                {"turns": taken_s},
            )
        )
    return figures


def write_ms(url: str, writes: int) -> float:
    """The median time of a write of one document, one after the other."""
    taken = []
    path = f"{url}/v1/namespaces/{NAMESPACE}/upsert"
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=30) as http:
        for number in range(writes):
            began_s = time.perf_counter()
            body = {"documents": [{"id": number, "attributes": {"n": number}}]}
            http.post(path, json=body).raise_for_status()
            taken.append(1000 * (time.perf_counter() - began_s))
    return statistics.median(taken)


@contextlib.contextmanager
def running_nginx(program: str, folder: Path, servers: tuple[Server, ...]) -> Iterator[str]:
    """The address of an nginx in front of the servers."""
    port = _free_port()
    folder.mkdir()
    configuration = folder / "nginx.conf"
    configuration.write_text(render([server.url for server in servers], listen=f"127.0.0.1:{port}"))
    # as root, nginx lets another user work, who may not enter a temporary folder
    user = "user root;" if os.geteuid() == 0 else ""
    command = [program, "-p", folder, "-c", configuration, "-g", f"daemon off;{user}"]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: _listens(port), "nginx")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ways(writes: int) -> list[Figure]:
    """What a write costs by the way it takes."""
    found = {}
    with tempfile.TemporaryDirectory() as name, running_pair(Path(name)) as (owner, other):
        with Client(owner.url) as client:
            client.create(NAMESPACE, SCHEMA)
        write_ms(owner.url, writes // 10)
        found["to the owner"] = write_ms(owner.url, writes)
        found["redirected"] = write_ms(other.url, writes)
    with tempfile.TemporaryDirectory() as name, running_pair(Path(name), forward=True) as (owner, other):
        with Client(owner.url) as client:
            client.create(NAMESPACE, SCHEMA)
        write_ms(other.url, writes // 10)
        found["forwarded"] = write_ms(other.url, writes)
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is not None:
            with running_nginx(program, Path(name) / "nginx", (owner, other)) as url:
                write_ms(url, writes // 10)
                found["through nginx"] = write_ms(url, writes)
    return [Figure(f"one write, {way}: p50", taken_ms, unit="ms") for way, taken_ms in found.items()]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--turns", type=int, default=5, help="of every kind of loss")
    parser.add_argument("--writes", type=int, default=300, help="of every way")
    arguments = parser.parse_args()
    figures = take_overs(arguments.turns) + ways(arguments.writes)
    return report("a cluster", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
