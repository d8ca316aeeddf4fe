"""Passes a write on to its owner: the body streams one way, the answer the other; neither is held here.

What is known when it breaks: a node that was not reached has nothing, and the next owner may be asked. A node
that did not get the whole body has done nothing, but what was read of the body is gone: the client may repeat
the request. After that only the owner knows: the outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from starlette.requests import ClientDisconnect
from starlette.types import Send

from elacsym.cluster.liveness import TRUSTED_S
from elacsym.cluster.member import Health, Member
from elacsym.errors import DeadlineExceeded, ElacsymError, OutcomeUnknown, Unavailable
from elacsym.server.exchange import Exchange
from elacsym.server.service import Service
from elacsym.server.unread import drain, is_much_unread
from elacsym.telemetry import FORWARDS

HOPS_HEADER = "X-Elacsym-Hops"

# the owner answers by its deadline or a little later; only one that is dead is waited for longer
_GRACE_S = 1.0
# of an answer, before any of it is passed on: those to writes are shorter, so one that is cut off can be
# answered properly
_HELD_BYTES = 64 * 2**10
# headers of one connection (RFC 9110 7.6.1)
_OF_A_CONNECTION = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    )
)
_SET_HERE = frozenset(
    (b"host", b"x-request-id", b"x-request-timeout-ms", HOPS_HEADER.lower().encode(), b"content-length")
)
# these are this node's to say again
_SAID_ANEW = frozenset((b"date", b"server", b"x-request-id"))


class Forwarder:
    """Passes writes on to other nodes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def forward(self, exchange: Exchange, send: Send, owner: Member, *, hops: int) -> bool:
        """Have the owner answer; False where it was not reached and nothing of the body has been read.

        hops: how many nodes passed the request on, this one included.

        Raises Unavailable, DeadlineExceeded: nothing happened; OutcomeUnknown; ClientDisconnect.
        """
        upload = _Upload(exchange)
        try:
            async with asyncio.timeout(exchange.remaining_s + _GRACE_S):
                await self._relay(exchange, send, owner, upload, hops)
        except _Silent as error:
            if not upload.is_begun:
                FORWARDS.labels("refused").inc()
                return False
            raise self._broken(exchange, owner, upload, str(error)) from error
        except TimeoutError as error:
            raise self._broken(exchange, owner, upload, None) from error
        except ClientDisconnect:
            FORWARDS.labels("abandoned").inc()
            raise
        FORWARDS.labels("answered").inc()
        return True

    def _broken(self, exchange: Exchange, owner: Member, upload: _Upload, reason: str | None) -> ElacsymError:
        """What can be said of a request that has no answer. reason: None where the time is over."""
        said = reason or f"no answer within {exchange.timeout_s:g} s"
        if upload.is_whole:
            FORWARDS.labels("unknown").inc()
            return OutcomeUnknown(f"node '{owner.node_id}': {said}", idempotency_key=exchange.idempotency_key)
        FORWARDS.labels("unavailable").inc()
        if reason is None:
            return DeadlineExceeded(f"node '{owner.node_id}' had not got the whole body: {said}")
        return Unavailable(f"node '{owner.node_id}' broke off before it had the whole body: {said}")

    async def _relay(self, exchange: Exchange, send: Send, owner: Member, upload: _Upload, hops: int) -> None:
        answer = await self._answer(exchange, owner, upload, hops)
        try:
            pieces = answer.content.iter_any()
            beginning = await _beginning(pieces)
            exchange.trace.forwarded_to = owner.node_id
            headers = _answer_headers(answer, owner)
            is_refused_early = not upload.is_whole and is_much_unread(exchange.trace)
            if is_refused_early:
                headers.append((b"connection", b"close"))
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": beginning, "more_body": True})
            await _rest(pieces, send, owner)
        finally:
            # ends the upload; a connection whose answer was read to its end has been given back already
            answer.close()
        if is_refused_early:
            await drain(exchange.trace, exchange.message)
        await send({"type": "http.response.body"})

    async def _answer(
        self, exchange: Exchange, owner: Member, upload: _Upload, hops: int
    ) -> aiohttp.ClientResponse:
        """The head of the owner's answer. Raises _Silent where the owner breaks off or stops being alive,
        ClientDisconnect where the client does not wait for it."""
        cluster = self._service.cluster
        sending = asyncio.create_task(
            cluster.peers.request(owner, exchange.method, exchange.target, _headers(exchange, hops), upload)
        )
        leaving = asyncio.create_task(upload.until_abandoned())
        is_taken = False
        try:
            while True:
                await asyncio.wait((sending, leaving), timeout=TRUSTED_S, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    break
                if leaving.done():
                    raise ClientDisconnect
                # a process that was stopped keeps its connections open
                await cluster.liveness.is_suspect(owner)
                if not sending.done() and cluster.liveness.health(owner.node_id) is Health.SUSPECT:
                    raise _Silent("it does not answer any more")
            answer = await sending
            is_taken = True
            return answer
        except (aiohttp.ClientError, OSError) as error:
            if upload.is_abandoned:
                raise ClientDisconnect from error
            reason = str(error) or type(error).__name__
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                cluster.liveness.suspect(owner, reason)
            else:
                # it may only have closed an idle connection
                cluster.liveness.look_again(owner.node_id)
            raise _Silent(reason) from error
        finally:
            leaving.cancel()
            sending.cancel()
            _, ended = await asyncio.gather(leaving, sending, return_exceptions=True)
            if isinstance(ended, aiohttp.ClientResponse) and not is_taken:
                ended.close()


class _Silent(Exception):
    """The owner gives no answer."""


async def _beginning(pieces: AsyncIterator[bytes]) -> bytes:
    """The answer, or of a long one the first _HELD_BYTES or more: until then nothing has been said to the
    client. Raises _Silent where the owner breaks off."""
    held = bytearray()
    try:
        while len(held) < _HELD_BYTES:
            held += await anext(pieces)
    except StopAsyncIteration:
        pass
    except (aiohttp.ClientError, ConnectionError) as error:
        raise _Silent(f"its answer was cut off: {error}") from error
    return bytes(held)


async def _rest(pieces: AsyncIterator[bytes], send: Send, owner: Member) -> None:
    """Pass on what is left. Raises Unavailable where the owner breaks off; the client sees it, too."""
    try:
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    except (aiohttp.ClientError, ConnectionError) as error:
        FORWARDS.labels("cut").inc()
        raise Unavailable(f"the answer of node '{owner.node_id}' was cut off: {error}") from error


class _Upload(aiohttp.Payload):
    """The client's body on its way to the owner; it can be sent once.

    is_begun: reading has begun, so that nobody else can be sent the body. is_whole: it was read to its end.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(None)
        self._exchange = exchange
        self.is_begun = self.is_abandoned = False
        self._whole = asyncio.Event()
        if b"transfer-encoding" not in exchange.headers:
            declared = exchange.headers.get(b"content-length", b"0")
            self._size = int(declared) if declared.isdigit() else None

    @property
    def is_whole(self) -> bool:
        return self._whole.is_set()

    @property
    def consumed(self) -> bool:
        """Keeps aiohttp from sending it again by itself."""
        return self.is_begun

    async def write(self, writer: AbstractStreamWriter) -> None:
        if self.is_begun:
            raise aiohttp.ClientConnectionError("the body was sent already")
        self.is_begun = True
        while not self.is_whole:
            try:
                message = await self._exchange.message()
            except ClientDisconnect:
                self.is_abandoned = True
                raise
            if not message.get("more_body", False):
                # before the owner can have it: from here on it may have happened
                self._whole.set()
            if body := message.get("body", b""):
                await writer.write(body)

    async def until_abandoned(self) -> None:
        """Return when the client has gone away after it had sent everything."""
        await self._whole.wait()
        try:
            while True:
                await self._exchange.message()
        except ClientDisconnect:
            self.is_abandoned = True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002 - aiohttp's form
        raise TypeError("a body that is on its way has no text")


def _headers(exchange: Exchange, hops: int) -> CIMultiDict[str]:
    """The client's headers as the owner is to see them."""
    dropped = _OF_A_CONNECTION | _SET_HERE | _named_by_connection(exchange.raw_headers)
    headers = CIMultiDict(
        (name.decode("latin-1"), _text(value)) for name, value in exchange.raw_headers if name not in dropped
    )
    headers["X-Request-Id"] = exchange.trace.request_id
    headers["X-Request-Timeout-Ms"] = str(max(1, int(exchange.remaining_s * 1000)))
    headers[HOPS_HEADER] = str(hops)
    return headers


def _answer_headers(answer: aiohttp.ClientResponse, owner: Member) -> list[tuple[bytes, bytes]]:
    given = [(name.lower(), value) for name, value in answer.raw_headers]
    dropped = _OF_A_CONNECTION | _SAID_ANEW | _named_by_connection(given)
    headers = [(name, value) for name, value in given if name not in dropped]
    if all(name != b"x-correct-indexer" for name, _ in headers):
        headers.append((b"x-correct-indexer", owner.node_id.encode()))
    return headers


def _named_by_connection(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    lists = (value.lower().split(b",") for name, value in headers if name == b"connection")
    return frozenset(name.strip() for names in lists for name in names)


def _text(value: bytes) -> str:
    try:
        # aiohttp writes headers as UTF-8: so these bytes stay what they were
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
