"""moto's S3 server as a program: prints its address, serves until it is killed.

Mutations are served one at a time: moto looks whether a condition holds before it writes, and two threads
could both find that it does. `PUT /crash/down` with 1 or 0 switches a storm of 503 answers on and off.
`PUT /crash/delay` with seconds delays every answer; `GET /crash/requests` says what was asked since the last
time: the program's AWS_SDK_UA_APP_ID, method, path with query string, whether under a condition, and when it
came and was answered.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import make_server

REMEMBERED = 20_000
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>storm</Message></Error>"


class Application:
    """moto's WSGI application behind a lock and a switch."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._is_down = False
        self._delay_s = 0.0
        self._requests: deque[tuple[str, str, str, bool, float, float]] = deque(maxlen=REMEMBERED)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == "/crash/down":
            self._is_down = environ["wsgi.input"].read(1) == b"1"
            start_response("204 No Content", [])
            return [b""]
        if environ["PATH_INFO"] == "/crash/delay":
            self._delay_s = float(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
            start_response("204 No Content", [])
            return [b""]
        if environ["PATH_INFO"] == "/crash/requests":
            told = [self._requests.popleft() for _ in range(len(self._requests))]
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(told).encode()]
        began_s = time.monotonic()
        time.sleep(self._delay_s)
        try:
            return self._answer(environ, start_response)
        finally:
            is_conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
            asked = f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}"
            app = re.search(r"\bapp/(\S+)", environ.get("HTTP_USER_AGENT", ""))
            self._requests.append(
                (
                    app[1] if app else "",
                    environ["REQUEST_METHOD"],
                    asked,
                    is_conditional,
                    began_s,
                    time.monotonic(),
                )
            )

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
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
