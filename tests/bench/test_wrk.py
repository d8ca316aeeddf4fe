import shutil
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benches.wrk import empty_bodies, run_wrk

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture
def server():
    seen = Counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen[body] += 1
            self.send_response(200 if body.strip() else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever).start()
        yield f"http://127.0.0.1:{running.server_port}/query", seen
        running.shutdown()


@needs_wrk
def test_all_bodies_are_sent_in_turn(server):
    url, seen = server
    load = run_wrk(url, [b'{"n":1}', b'{"n":2}', b'{"n":3}'], connections=2, seconds=1)
    assert set(seen) == {b'{"n":1}', b'{"n":2}', b'{"n":3}'}
    # the connections take bodies from one row, and the last request of each may be cut off
    assert max(seen.values()) - min(seen.values()) <= 3
    assert load.answers > 0
    assert (load.refused, load.broken) == (0, 0)


@needs_wrk
def test_refused_requests_are_counted(server):
    url, seen = server
    load = run_wrk(url, empty_bodies([b"12345"]), connections=2, seconds=1)
    assert set(seen) == {b"     "}
    assert load.refused == load.answers > 0


@needs_wrk
def test_a_server_that_is_not_there_is_no_measurement():
    with pytest.raises(RuntimeError):
        run_wrk("http://127.0.0.1:1/query", [b"{}"], seconds=1)


def test_empty_bodies_have_the_sizes_of_the_queries():
    assert empty_bodies([b"123", b""]) == [b"   ", b""]
