"""Bodies that nobody is going to read: what a client still sends when its answer is ready."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Receive

from elacsym.server.exchange import Trace

_UNREAD_BYTES_MAX = 64 * 2**10
_DRAIN_BYTES_MAX = 8 * 2**20
_DRAIN_TIMEOUT_S = 1.0


def is_much_unread(trace: Trace) -> bool:
    """Whether so much may be left that the connection should end rather than be read to the end."""
    length = trace.headers.get(b"content-length", b"0")
    is_much = b"transfer-encoding" in trace.headers or not length.isdigit() or int(length) > _UNREAD_BYTES_MAX
    return is_much and not trace.is_body_read


async def drain(trace: Trace, receive: Receive) -> None:
    """Read on for a while, unless the client waits to be asked for the body."""
    if b"expect" in trace.headers:
        return
    rest = _DRAIN_BYTES_MAX
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_TIMEOUT_S):
            while rest > 0:
                message = await receive()
                if not message.get("more_body", False):
                    return
                rest -= len(message.get("body", b""))
