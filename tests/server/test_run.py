"""A real server process, spoken to over a socket: start, stop, odd clients."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from elacsym.config import Config
from elacsym.server import run

SCRIPT = """
import sys
from elacsym.config import Config
from elacsym.server.run import serve
settings = dict(node_id="node-1", port=0, storage=sys.argv[1], cache_path=sys.argv[1] + "-cache", threads=2)
serve(Config(**settings | eval(sys.argv[2])), announce=lambda line: print(line, flush=True))
"""


@contextmanager
def server(folder, **settings):
    """A server process with its address; killed in the end if it still runs."""
    command = [sys.executable, "-c", SCRIPT, str(folder / "data"), repr(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            assert match, (line, process.stderr.read() if process.poll() is not None else "")
            yield process, int(match[1])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of one server that all tests of this module share."""
    with server(tmp_path_factory.mktemp("server"), request_bytes_max=2**20) as (_, port):
        yield port


def exchange(port, sent):
    """What the server answers to raw bytes until it closes, or the answer is whole: status, headers, body."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        return answer(connection)


def answer(connection):
    file = connection.makefile("rb")
    status = int(file.readline().split()[1])
    headers = {}
    while (line := file.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, file.read(int(headers["content-length"]))


def request(method, path, body=b"", *lines):
    head = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("spelling", ["..", ".", "%2E%2E", "%2e", "...", "a%2Db"])
def test_names_of_dots_are_names_in_every_spelling(port, spelling):
    status, _, body = exchange(port, request("PUT", f"/v1/namespaces/{spelling}", b'{"schema": {}}'))
    name = json.loads(body)["namespace"]
    assert (status, name) == (200, spelling.replace("%2E", ".").replace("%2e", ".").replace("%2D", "-"))
    status, _, body = exchange(port, request("GET", f"/v1/namespaces/{spelling}"))
    assert (status, json.loads(body)["namespace"]) == (200, name)


def test_a_connection_serves_many_requests(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for path, expected in [("/health", 200), ("/nowhere", 404), ("/health", 200)]:
            connection.sendall(request("GET", path))
            assert answer(connection)[0] == expected


def test_a_refused_body_leaves_the_connection_usable_when_it_is_small(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(request("POST", "/nowhere", b"x" * 1000))
            assert answer(connection)[0] == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(port):
    head = b"POST /v1/namespaces/a/upsert HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n"
    status, headers, body = exchange(port, head)
    assert (status, headers["connection"], json.loads(body)["code"]) == (413, "close", "payload_too_large")


def test_a_client_that_goes_on_sending_gets_the_refusal(port):
    status, _, body = exchange(port, request("POST", "/v1/namespaces/a/upsert", b" " * (4 * 2**20)))
    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")


def test_a_client_that_asks_first_is_refused_without_its_body(port):
    head = (
        b"POST /v1/namespaces/a/upsert HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Content-Length: 2000000\r\n\r\n"
    )
    assert exchange(port, head)[0] == 413


def test_a_body_cut_short_stores_nothing_and_harms_nobody(port):
    exchange(port, request("PUT", "/v1/namespaces/cut", b'{"schema": {}}'))
    whole = request("POST", "/v1/namespaces/cut/upsert", b'{"documents": [{"id": 1}]}')
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(whole[:-5])
    status, _, body = exchange(port, request("GET", "/v1/namespaces/cut"))
    assert (status, json.loads(body)["documents"]) == (200, 0)


def test_chunked_bodies_are_taken(port):
    exchange(port, request("PUT", "/v1/namespaces/chunks", b'{"schema": {}}'))
    body = b'{"documents": [{"id": 1}]}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    head = b"POST /v1/namespaces/chunks/upsert HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, _, answered = exchange(port, head + chunks)
    assert (status, json.loads(answered)["count"]) == (200, 1)


def test_a_stop_lets_running_requests_finish_and_keeps_what_was_written(tmp_path):
    body = b'{"documents": [{"id": 1}, {"id": 2}]}'
    with server(tmp_path) as (process, port):
        exchange(port, request("PUT", "/v1/namespaces/docs", b'{"schema": {}}'))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            sent = request("POST", "/v1/namespaces/docs/upsert", body, "Expect: 100-continue")
            connection.sendall(sent[: -len(body)])
            # asking for the body shows that the request is being served
            assert connection.recv(100).startswith(b"HTTP/1.1 100")
            process.send_signal(signal.SIGTERM)
            while _listens(port):
                pass
            connection.sendall(body)
            assert answer(connection)[0] == 200
        assert process.wait(20) == 0
    with server(tmp_path) as (_, port):
        info = httpx.get(f"http://127.0.0.1:{port}/v1/namespaces/docs").json()
        assert info["documents"] == 2


def _listens(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10):
            return True
    except (ConnectionRefusedError, ConnectionResetError):
        return False


def test_an_address_in_use_is_named(tmp_path, port):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "data"), repr({"port": port})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_an_open_listener_without_keys_is_refused(tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "data"), repr({"host": "0.0.0.0"})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode != 0
    assert "ELACSYM_API_KEYS" in done.stderr
    assert not (tmp_path / "data").exists()


async def test_who_is_told_to_stop_stops_even_where_the_hand_over_fails():
    class Service:
        config = Config(shutdown_timeout_s=10)
        stop_wanted = asyncio.Event()

        async def leave(self):
            raise RuntimeError("nobody expected this")

    server = uvicorn.Server(uvicorn.Config(lambda: None))
    Service.stop_wanted.set()
    await run._leave(Service(), server)
    assert server.should_exit
    assert server.config.timeout_graceful_shutdown == 5
