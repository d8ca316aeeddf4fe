"""moto's S3 server as a program: prints its address, serves until it is killed.

Mutations are served one at a time: moto looks whether a condition holds before it writes, and two threads
could both find that it does. `PUT /crash/down` with 1 or 0 switches a storm of 503 answers on and off.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import make_server

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>storm</Message></Error>"


class Application:
    """moto's WSGI application behind a lock and a switch."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._is_down = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == "/crash/down":
            self._is_down = environ["wsgi.input"].read(1) == b"1"
            start_response("204 No Content", [])
            return [b""]
        # whole, before the lock: a client that is stopped while it sends must not stop the others
        is_chunked = environ.get("wsgi.input_terminated", False)
        body = environ["wsgi.input"].read(-1 if is_chunked else int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if self._is_down:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [SLOW_DOWN]
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return self._moto(environ, start_response)
        with self._lock:
            return list(self._moto(environ, start_response))


if __name__ == "__main__":
    server = make_server("127.0.0.1", 0, Application(), threaded=True, request_handler=MotoRequestHandler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
