"""The outermost layer: request ids, the access log, request metrics, and every error as one JSON form."""

from __future__ import annotations

import math
import os
import re
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from elacsym.errors import ElacsymError, NotFound, NotOwner, OutcomeUnknown, Unauthorized
from elacsym.server import codec, v2_errors
from elacsym.server.endpoint import send_answer
from elacsym.server.exchange import (
    JSON,
    TEXT,
    InvalidName,
    MethodNotAllowed,
    Trace,
    WrongOwner,
    check_slashes,
)
from elacsym.server.unread import drain, is_much_unread
from elacsym.telemetry import HTTP_REQUESTS, HTTP_SECONDS, get_logger

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNROUTED = "unrouted"
_QUIET = frozenset({"/health", "/livez", "/readyz", "/metrics"})
_CLIENT_GONE = 499


class Boundary:
    """ASGI middleware around the router."""

    def __init__(self, app: ASGIApp, *, node_id: str) -> None:
        """`node_id` is sent as `X-Served-By`."""
        self._app = app
        # bound once: a logger that is not bound is put together again by every call
        self._log = get_logger("http").bind()
        self._served_by = (b"x-served-by", node_id.encode())
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing but cancellation comes out."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else os.urandom(8).hex().encode()
        trace = scope["elacsym"] = Trace(request_id.decode(), headers)
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id))
                if trace.forwarded_to is None:
                    message["headers"].append(self._served_by)
            await send(message)

        failure: Exception | None = None
        try:
            await self._app(scope, receive, send_marked)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - this is the boundary
            failure = error
            if status == 0:
                await self._send_error(error, trace, receive, send_marked)
        self._record(scope, trace, status, time.perf_counter() - started_s, failure)

    async def _send_error(self, error: Exception, trace: Trace, receive: Receive, send: Send) -> None:
        status, body, media_type = _rendered(error, trace)
        headers = [(b"content-type", media_type)]
        retry_after_s = getattr(error, "retry_after_s", None)
        if retry_after_s is not None and status in (429, 503):
            headers.append((b"retry-after", str(max(1, math.ceil(retry_after_s))).encode()))
        if isinstance(error, NotOwner | WrongOwner) and error.owner_id is not None:
            headers.append((b"x-correct-indexer", error.owner_id.encode()))
        if isinstance(error, WrongOwner):
            headers.append((b"location", error.location))
        if isinstance(error, Unauthorized):
            headers.append((b"www-authenticate", b"Bearer"))
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", error.allowed.encode()))
        if not is_much_unread(trace):
            await send_answer(send, body, status, headers)
            return
        headers.append((b"connection", b"close"))
        # closing while the client still sends would reset the connection, and the answer with it
        await send_answer(send, body, status, headers, more_body=True)
        await drain(trace, receive)
        await send({"type": "http.response.body"})

    def _record(
        self, scope: Scope, trace: Trace, status: int, seconds: float, failure: Exception | None
    ) -> None:
        route = getattr(scope.get("route"), "path_format", _UNROUTED)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = self._counters[method, route, status] = HTTP_REQUESTS.labels(method, route, str(status))
            self._timers.setdefault(route, HTTP_SECONDS.labels(route))
        counter.inc()
        self._timers[route].observe(seconds)
        facts: dict[str, Any] = {
            "method": method,
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1000, 2),
            "request_id": trace.request_id,
        }
        if trace.forwarded_to is not None:
            facts["forwarded_to"] = trace.forwarded_to
        if failure is not None and not isinstance(failure, ElacsymError):
            self._log.error("request failed", exc_info=failure, **facts)
        elif failure is not None:
            log = self._log.error if status >= 500 and not failure_is_retryable(failure) else self._log.info
            log("request refused", error=str(failure), **facts)
        elif route in _QUIET:
            self._log.debug("request", **facts)
        else:
            self._log.info("request", **facts)


def failure_is_retryable(error: Exception) -> bool:
    """Whether a repeat of the request may succeed."""
    return isinstance(error, ElacsymError) and error.retryable


def error_body(error: Exception, request_id: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON form of an error; what is no ElacsymError says nothing about itself."""
    body = {"status": "error", "error": "internal error", "code": "internal", "request_id": request_id}
    if not isinstance(error, ElacsymError):
        return 500, body
    body |= {"error": str(error), "code": error.code}
    if isinstance(error, OutcomeUnknown) and error.idempotency_key is not None:
        body["idempotency_key"] = error.idempotency_key
    return error.status, body


def _rendered(error: Exception, trace: Trace) -> tuple[int, bytes, bytes]:
    """Status, body and media type of an error, as the API that was asked tells it."""
    status, body = error_body(error, trace.request_id)
    if trace.errors == "v1":
        return status, codec.dumps(body), JSON
    if isinstance(error, InvalidName):
        return status, v2_errors.name_text(error.name).encode(), TEXT
    shown = v2_errors.body(error, body["error"])
    return status, codec.dumps(shown if trace.errors == "v2" else body | shown), JSON


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - an ASGI application
    """The application of every path without a route."""
    check_slashes(scope)
    raise NotFound(f"there is nothing at {scope['path']}")
