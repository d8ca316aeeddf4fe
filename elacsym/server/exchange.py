"""One HTTP request in the server's hands, and the answer to it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, quote, unquote_to_bytes

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
TEXT = b"text/plain; charset=utf-8"
# printable ASCII, without what would begin a fragment
_OF_TARGETS = "".join(map(chr, range(0x21, 0x7F))).replace("#", "")
Forms = Literal["v1", "v2", "both"]
DecodeLarge = Callable[[bytes | bytearray, Compute], Awaitable[T]]


class MethodNotAllowed(ElacsymError):
    """The path exists, but not with this method."""

    code, status = "method_not_allowed", 405

    def __init__(self, method: str, allowed: str) -> None:
        """`allowed` goes into the `Allow` header."""
        super().__init__(f"{method} is not allowed here; {allowed} is")
        self.allowed = allowed


class InvalidName(InvalidRequest):
    """The path names a namespace as no namespace can be called."""

    def __init__(self, name: str) -> None:
        super().__init__("namespace", f"{name!r} is no name; 1 to 128 of A-Z a-z 0-9 - _ . are allowed")
        self.name = name


class WrongOwner(ElacsymError):
    """Another node writes the namespace; the request may be repeated at `location`, byte for byte."""

    code, status = "wrong_owner", 307

    def __init__(self, reason: str, *, owner_id: str, location: bytes) -> None:
        """`owner_id` goes into `X-Correct-Indexer`, `location` into `Location`."""
        super().__init__(reason)
        self.owner_id, self.location = owner_id, location


class UnsupportedEncoding(ElacsymError):
    """A content coding that the server cannot undo."""

    code, status = "unsupported_encoding", 415


@dataclass(slots=True)
class Trace:
    """What the boundary knows of a request, in the scope as `elacsym`. errors: the API in whose forms they
    are told. forwarded_to: the node that answers in this one's place."""

    request_id: str
    headers: Mapping[bytes, bytes]
    errors: Forms = "v1"
    is_body_read: bool = False
    forwarded_to: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: encoded body, status, media type and further headers."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = field(default=())


def check_slashes(scope: Scope) -> None:
    """Raise InvalidName, to be told as v2 does, where the name of a namespace has an encoded slash.

    Routes see the path decoded, where `a%2Fquery` looks like a path below `a`.
    """
    path: bytes = scope["raw_path"]
    if b"%2" not in path:
        return
    parts = path.split(b"/", 4)
    if len(parts) > 3 and parts[1] in (b"v1", b"v2") and parts[2] == b"namespaces":
        name = unquote_to_bytes(parts[3])
        if b"/" in name:
            scope["elacsym"].errors = "v2"
            raise InvalidName(name.decode("utf-8", "replace"))


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
        """The name in the path. Raises InvalidRequest for one that no namespace can have, and where the
        header `X-Namespace`, by which proxies choose a node, says another."""
        name = self.path_parameter("ns")
        if not is_valid_name(name):
            raise InvalidName(name)
        affinity = self.headers.get(b"x-namespace")
        if affinity is not None and affinity != name.encode():
            raise InvalidRequest(
                "X-Namespace", f"{affinity.decode('latin-1')!r} where the path says {name!r}"
            )
        return name

    @property
    def target(self) -> str:
        """Path and query string as the client sent them, percent-encoding untouched; what no URL may hold is
        encoded."""
        path: bytes = self._scope["raw_path"]
        query: bytes = self._scope["query_string"]
        return quote(path + b"?" + query if query else path, safe=_OF_TARGETS)

    @property
    def method(self) -> str:
        """The HTTP method."""
        method: str = self._scope["method"]
        return method

    @property
    def is_under_v1(self) -> bool:
        """Whether the path is one of the v1 API's."""
        path: str = self._scope["path"]
        return path.startswith("/v1/")

    @property
    def raw_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """All headers in order, names in lower case."""
        headers: Sequence[tuple[bytes, bytes]] = self._scope["headers"]
        return headers

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

    async def decoded(
        self,
        decode: Callable[[Any], T],
        decode_large: DecodeLarge[T] | None = None,
        *,
        is_query: bool = False,
    ) -> T:
        """The body as JSON, decoded by `decode`: a big one in the pool, a large one by `decode_large` where
        there is one. is_query: it is decoded like queries are answered, ahead of bulk work. Raises what bad
        bodies deserve."""
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
        compute = self.service.compute if is_query else self.service.compute.bulk
        return await compute.run(lambda: decode(codec.loads(body)))

    async def _body(self) -> bytes | bytearray:
        declared = self.headers.get(b"content-length")
        if declared is not None and declared.isdigit():
            self.allowance.check(int(declared), "a body")
            self.allowance.take(int(declared))
        message = await self.message()
        if not message.get("more_body", False) and declared is not None:
            return message.get("body", b"")  # type: ignore[no-any-return]
        body = bytearray()
        while True:
            body += message.get("body", b"")
            self.allowance.check(len(body), "a body")
            self.allowance.take(max(0, len(body) - self.allowance.bytes_taken))
            if not message.get("more_body", False):
                return body
            message = await self.message()

    async def message(self) -> Any:
        """The next piece of the body. Raises ClientDisconnect."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.trace.is_body_read = not message.get("more_body", False)
        return message
