"""One HTTP request in the server's hands, and the answer to it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from elacsym.compute import Compute
from elacsym.errors import ElacsymError, InvalidRequest
from elacsym.format.keys import is_valid_name
from elacsym.server import codec
from elacsym.server.limits import BodyAllowance
from elacsym.server.service import Service

T = TypeVar("T")
JSON = b"application/json"
DecodeLarge = Callable[[bytes | bytearray, Compute], Awaitable[T]]


class MethodNotAllowed(ElacsymError):
    """The path exists, but not with this method."""

    code, status = "method_not_allowed", 405

    def __init__(self, method: str, allowed: str) -> None:
        """`allowed` goes into the `Allow` header."""
        super().__init__(f"{method} is not allowed here; {allowed} is")
        self.allowed = allowed


class UnsupportedEncoding(ElacsymError):
    """A content coding that the server cannot undo."""

    code, status = "unsupported_encoding", 415


@dataclass(slots=True)
class Trace:
    """What the boundary knows of a request, in the scope as `elacsym`."""

    request_id: str
    headers: Mapping[bytes, bytes]
    is_body_read: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: encoded body, status, media type and further headers."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def json_answer(value: Any, status: int = 200) -> Answer:
    """A response of a JSON value."""
    return Answer(codec.dumps(value), status)


class Exchange:
    """A request as handlers see it. `is_mutating` is set before the engine may change anything."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, timeout_s: float) -> None:
        """`timeout_s` runs from now."""
        self.service = service
        self.trace: Trace = scope["elacsym"]
        self.headers = self.trace.headers
        self.started_s = time.monotonic()
        self.timeout_s = timeout_s
        self.is_mutating = False
        self.allowance = BodyAllowance(service.budget, service.config.request_bytes_max)
        self._scope, self._receive = scope, receive

    @property
    def namespace(self) -> str:
        """The name in the path. Raises InvalidRequest for one that no namespace can have."""
        name = self.path_parameter("ns")
        if not is_valid_name(name):
            raise InvalidRequest(
                "namespace", f"{name!r} is no name; 1 to 128 of A-Z a-z 0-9 - _ . are allowed"
            )
        return name

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, at least 1 ms."""
        return max(0.001, self.started_s + self.timeout_s - time.monotonic())

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the request came."""
        return round((time.monotonic() - self.started_s) * 1000, 2)

    def path_parameter(self, name: str) -> str:
        """A part of the path, percent-decoded."""
        value: str = self._scope["path_params"][name]
        return value

    @cached_property
    def parameters(self) -> dict[str, str]:
        """The query string's parameters; of repeated ones the last."""
        try:
            return dict(parse_qsl(self._scope["query_string"].decode("ascii"), keep_blank_values=True))
        except ValueError as error:
            raise InvalidRequest("", "the query string is not ASCII") from error

    @property
    def idempotency_key(self) -> str | None:
        """The `Idempotency-Key` header. Raises InvalidRequest for one that is not plain ASCII."""
        value: bytes | None = self.headers.get(b"idempotency-key")
        if value is None:
            return None
        if not 1 <= len(value) <= 255 or not all(0x20 <= byte < 0x7F for byte in value):
            raise InvalidRequest("Idempotency-Key", "1 to 255 printable ASCII characters are allowed")
        return value.decode("ascii")

    async def decoded(self, decode: Callable[[Any], T], decode_large: DecodeLarge[T] | None = None) -> T:
        """The body as JSON, decoded by `decode`: a big one in the pool, a large one by `decode_large` where
        there is one. Raises what bad bodies deserve."""
        body = await self._body()
        coding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if coding == b"gzip":
            body = await codec.gunzip(body, self.allowance, self.service.compute)
        elif coding not in (b"identity", b""):
            raise UnsupportedEncoding(f"Content-Encoding: {coding.decode('latin-1')!r} where gzip is allowed")
        if len(body) <= codec.INLINE_BYTES_MAX:
            return decode(codec.loads(body))
        if decode_large is not None and len(body) > codec.POOL_BYTES_MAX:
            async with self.service.large_bodies:
                return await decode_large(body, self.service.compute)
        return await self.service.compute.run(lambda: decode(codec.loads(body)))

    async def _body(self) -> bytes | bytearray:
        declared = self.headers.get(b"content-length")
        if declared is not None and declared.isdigit():
            self.allowance.check(int(declared), "a body")
            self.allowance.take(int(declared))
        message = await self._message()
        if not message.get("more_body", False) and declared is not None:
            return message.get("body", b"")  # type: ignore[no-any-return]
        body = bytearray()
        while True:
            body += message.get("body", b"")
            self.allowance.check(len(body), "a body")
            self.allowance.take(max(0, len(body) - self.allowance.bytes_taken))
            if not message.get("more_body", False):
                return body
            message = await self._message()

    async def _message(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.trace.is_body_read = not message.get("more_body", False)
        return message
