"""A route's ASGI application: it settles method, key and deadline, so that handlers are plain functions."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from elacsym.errors import DeadlineExceeded, InvalidRequest, NotOwner, OutcomeUnknown
from elacsym.server import codec
from elacsym.server.exchange import Answer, Exchange, Forms, MethodNotAllowed, Trace, check_slashes
from elacsym.server.routing import Router
from elacsym.server.service import Service

Handler = Callable[[Exchange], Awaitable[Answer]]

# how much longer than the deadline the engine has to say by itself what became of a request
_GRACE_S = 0.5
# what browsers say of pages that ask, and proxies of clients
_ON_BEHALF = frozenset((b"origin", b"forwarded", b"x-forwarded-for"))
_VARY = (b"vary", b"accept-encoding")


@dataclass(frozen=True, slots=True)
class Operation:
    """What one method of a path does. is_open: no key is asked for. is_write: it changes a namespace, and is
    for the node that owns it. is_admin: it is for who runs the cluster. errors: the API whose forms its
    errors have; those of `both` have all fields of v1, and the texts of v2, of bad names nothing else."""

    handler: Handler
    is_open: bool = False
    is_write: bool = False
    is_admin: bool = False
    errors: Forms = "v1"


class Endpoint:
    """The operations of one path. HEAD is answered as GET; the server leaves the body out."""

    def __init__(self, service: Service, operations: Mapping[str, Operation]) -> None:
        """`operations` by method."""
        self.operations = operations
        self._service = service
        self._router = Router(service)
        methods = sorted({*operations, *(["HEAD"] if "GET" in operations else [])})
        self._allowed = ", ".join(methods)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; errors pass to the boundary."""
        check_slashes(scope)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        operation = self.operations.get(method)
        if operation is None:
            raise MethodNotAllowed(scope["method"], self._allowed)
        trace: Trace = scope["elacsym"]
        trace.errors = operation.errors
        self._check_key(operation, trace, scope)
        exchange = Exchange(self._service, scope, receive, self._timeout_s(trace))
        if operation.is_write and await self._router.is_answered(exchange, send):
            return
        try:
            answer = await _within_deadline(operation.handler, exchange)
        except NotOwner as error:
            raise self._router.after_loss(exchange, error) from error
        finally:
            exchange.allowance.release()
        await self._respond(answer, trace, send)

    def _check_key(self, operation: Operation, trace: Trace, scope: Scope) -> None:
        authorization = trace.headers.get(b"authorization")
        if operation.is_admin:
            client = scope.get("client")
            self._service.admin_keys.check(
                authorization,
                peer_host=None if client is None else client[0],
                is_on_behalf=not _ON_BEHALF.isdisjoint(trace.headers),
            )
        elif not operation.is_open:
            self._service.keys.check(authorization)

    def _timeout_s(self, trace: Trace) -> float:
        limit = self._service.config.request_timeout_s
        header = trace.headers.get(b"x-request-timeout-ms")
        if header is None:
            return limit
        if not header.isdigit() or not 1 <= len(header) <= 9 or int(header) == 0:
            raise InvalidRequest("X-Request-Timeout-Ms", "a whole number of milliseconds above 0 is expected")
        return min(limit, int(header) / 1000)

    async def _respond(self, answer: Answer, trace: Trace, send: Send) -> None:
        body = answer.body
        headers = [(b"content-type", answer.media_type), *answer.headers]
        if len(body) > codec.GZIP_ANSWER_BYTES_MIN:
            headers.append(_VARY)
            if codec.accepts_gzip(trace.headers.get(b"accept-encoding")):
                body = await codec.gzip(body, self._service.compute)
                headers.append((b"content-encoding", b"gzip"))
        await send_answer(send, body, answer.status, headers)


async def send_answer(
    send: Send, body: bytes, status: int, headers: list[tuple[bytes, bytes]], *, more_body: bool = False
) -> None:
    """Send a response; with `more_body` the caller ends it."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more_body})


async def _within_deadline(handler: Handler, exchange: Exchange) -> Answer:
    limit = asyncio.timeout(exchange.timeout_s + _GRACE_S)
    try:
        async with limit:
            return await handler(exchange)
    except TimeoutError as error:
        if not limit.expired():
            raise
        reason = f"no answer within {exchange.timeout_s:g} s"
        if exchange.is_mutating:
            raise OutcomeUnknown(reason, idempotency_key=exchange.idempotency_key) from error
        raise DeadlineExceeded(reason) from error
