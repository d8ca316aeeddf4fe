"""The v2 API's handlers of what a namespace is: metadata, and its schema."""

from __future__ import annotations

from typing import Any

from elacsym.engine.database import NamespaceInfo
from elacsym.engine.request import OptionsChange, SchemaChange, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.server import v2_schema
from elacsym.server.exchange import Answer, Exchange, json_answer
from elacsym.server.v2_times import time_text
from elacsym.shapes import Fields, wrong_type
from elacsym.types import Options

_REPLICAS_MAX = 64


async def metadata(exchange: Exchange) -> Answer:
    """`GET /v2/namespaces/{ns}/metadata`, and `/v1/…`."""
    return json_answer(_metadata(exchange, await exchange.service.database.info(exchange.namespace)))


async def update_metadata(exchange: Exchange) -> Answer:
    """`PATCH /v2/namespaces/{ns}/metadata`, and `/v1/…`: pinning, and whether it may only be read."""
    name, database = exchange.namespace, exchange.service.database
    fields = await exchange.decoded(Fields)
    # null says nothing of it, other than of pinning
    read_only = fields.require("read_only", bool) if fields.has("read_only") else None
    replicas = _replicas(fields.take("pinning"), "pinning") if fields.has("pinning") else None
    exchange.service.unknown_fields.note(fields.rest(), name)
    exchange.is_mutating = True
    await _changed(exchange, name, SchemaChange(options=OptionsChange(read_only, replicas)))
    return json_answer(_metadata(exchange, await database.info(name)))


async def schema(exchange: Exchange) -> Answer:
    """`GET /v2/namespaces/{ns}/schema`, and `/v1/…`."""
    found = await exchange.service.database.info(exchange.namespace)
    return json_answer(v2_schema.schema_view(found.schema))


async def update_schema(exchange: Exchange) -> Answer:
    """`POST /v2/namespaces/{ns}/schema`, and `/v1/…`: a map of attributes alone; answers the whole schema."""
    name = exchange.namespace
    change = await exchange.decoded(v2_schema.change)
    exchange.is_mutating = True
    await _changed(exchange, name, change)
    found = await exchange.service.database.info(name)
    return json_answer(v2_schema.schema_view(found.schema))


async def _changed(exchange: Exchange, name: str, change: SchemaChange) -> None:
    request = WriteRequest(change=change, creates=False, path="schema")
    await exchange.service.database.write(
        name, request, idempotency_key=exchange.idempotency_key, deadline_s=exchange.remaining_s
    )


def _replicas(value: Any, path: str) -> int:
    """How many nodes are asked to keep a namespace at hand."""
    if value is None or value is False:
        return 0
    if value is True:
        return 1
    if type(value) is not dict:
        raise wrong_type(value, dict, path, expected="a boolean or a map")
    count = Fields(value, path).require("replicas", int)
    if not 0 <= count <= _REPLICAS_MAX:
        raise InvalidRequest(f"{path}.replicas", f"{count} where 0 to {_REPLICAS_MAX} are allowed")
    return count


def _metadata(exchange: Exchange, found: NamespaceInfo) -> dict[str, Any]:
    is_behind = found.tail_bytes >= exchange.service.config.fold_bytes
    shown: dict[str, Any] = {
        "schema": v2_schema.metadata_view(found.schema),
        "approx_logical_bytes": found.segment_bytes + found.tail_bytes,
        "approx_row_count": found.documents,
        "created_at": time_text(found.created_ms),
        "updated_at": time_text(found.updated_ms),
        "encryption": {"sse": True} if exchange.is_under_v1 else {"mode": "default"},
        "index": {"status": "up-to-date"},
    }
    if found.last_write_ms is not None:
        shown["last_write_at"] = time_text(found.last_write_ms)
    if is_behind:
        shown["index"] = {
            "status": "updating",
            "unindexed_bytes": found.tail_bytes,
            "unindexed_rows": found.tail_rows,
        }
    return shown | _options(found.schema.options)


def _options(options: Options) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if options.replicas:
        shown["pinning"] = {"replicas": options.replicas}
    if options.read_only:
        shown["read_only"] = True
    if options.shards is not None:
        shown["sharding"] = {"num_shards": options.shards}
    if options.parent is not None:
        shown["branching"] = {"parent": options.parent}
    return shown
