"""The v2 API's copies and branches of namespaces, and the operations that they may become.

A copy costs a few small objects whatever it copies, so it is answered at once as a rule. A client that says
`Prefer: respond-async` is sent to an operation where that takes longer after all.
"""

from __future__ import annotations

import asyncio
from typing import Any

from elacsym.errors import InvalidRequest, Overloaded, Unauthorized
from elacsym.server import v2_answer, v2_errors, v2_write
from elacsym.server.exchange import Answer, Exchange, json_answer
from elacsym.server.v2_times import time_text
from elacsym.server.v2_write import Origin, Write

# clients give up after a minute
_PROMPT_S = 3.0
_ASYNC = b"respond-async"


async def made(exchange: Exchange, wanted: Write) -> Answer:
    """The answer to a write that makes the namespace of the path of another one."""
    assert wanted.origin is not None, "a copy or a branch"
    _check_key(exchange, wanted.origin)
    if _ASYNC not in exchange.headers.get(b"prefer", b"").lower():
        return json_answer(await _make(exchange, wanted))
    task = asyncio.create_task(_make(exchange, wanted), name=f"make {exchange.namespace}")
    try:
        await asyncio.wait({task}, timeout=_PROMPT_S)
        if task.done():
            return json_answer(task.result())
        try:
            token = await exchange.service.database.operations.start(exchange.namespace, lambda: task)
        except Overloaded:
            # it is under way: the client's wish gives way
            return json_answer(await task)
    except BaseException:
        task.cancel()
        raise
    location = f"/v1/namespaces/{exchange.namespace}/operations/{token}".encode()
    headers = ((b"preference-applied", _ASYNC), (b"location", location))
    return Answer(b"{}", 202, headers=headers)


async def start(exchange: Exchange) -> Answer:
    """`POST /v2/namespaces/{ns}/async`: the same body as a copy's; answers with a token at once."""
    name, service = exchange.namespace, exchange.service
    wanted = await exchange.decoded(v2_write.decode)
    service.unknown_fields.note(wanted.unknown, name)
    if wanted.origin is None:
        raise InvalidRequest("copy_from_namespace", "only copies and branches can go on after their answer")
    _check_key(exchange, wanted.origin)
    exchange.is_mutating = True
    token = await service.database.operations.start(name, lambda: _make(exchange, wanted))
    return json_answer({"token": token})


async def operation(exchange: Exchange) -> Answer:
    """`GET /v1/namespaces/{ns}/operations/{token}`: what became of an operation."""
    token = exchange.path_parameter("token")
    found = await exchange.service.database.operations.state(exchange.namespace, token)
    shown: dict[str, Any] = {"status": "running", "start_time": time_text(found.started_ms)}
    if found.finished_ms is not None:
        shown |= {"status": "finished", "finish_time": time_text(found.finished_ms)}
        failure = found.failure
        shown["result"] = {"success": found.result}
        if failure is not None:
            detail = v2_errors.told(failure.code, failure.message)
            shown["result"] = {"error": {"status_code": failure.status, "detail": detail}}
    return json_answer(shown)


async def _make(exchange: Exchange, wanted: Write) -> dict[str, Any]:
    origin = wanted.origin
    assert origin is not None, "a copy or a branch"
    count = await exchange.service.database.branch(
        origin.namespace, exchange.namespace, is_copy=origin.is_copy, shards=wanted.shards
    )
    return {
        "status": "OK",
        "message": "namespace copied successfully" if origin.is_copy else "namespace branched successfully",
        "rows_affected": count,
        "billing": {"billable_logical_bytes_written": 0},
        "performance": {"server_total_ms": v2_answer.whole_ms(exchange.elapsed_ms)},
    }


def _check_key(exchange: Exchange, origin: Origin) -> None:
    """Raise InvalidRequest where the key that is said to open the source is none of this server's."""
    if origin.key is None:
        return
    try:
        exchange.service.keys.check(f"Bearer {origin.key}".encode())
    except Unauthorized as error:
        raise InvalidRequest(
            "copy_from_namespace.source_api_key", "not known here; only namespaces of this server can be had"
        ) from error
