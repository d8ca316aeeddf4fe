"""The v1 API's handlers: decode, call the engine, encode; no logic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from elacsym.compute import Compute
from elacsym.engine.request import WriteRequest
from elacsym.errors import DocumentNotFound, InvalidRequest
from elacsym.format.keys import is_valid_name
from elacsym.query.ast import Aggregate, Group, Hit, Query, QueryResult
from elacsym.server import codec, decode, decode_query, large_body, schema_json
from elacsym.server.exchange import Answer, DecodeLarge, Exchange, json_answer
from elacsym.server.values import as_shown, is_small
from elacsym.shapes import Fields
from elacsym.types import VECTOR, Consistency, DocumentId, Schema

_PAGE_SIZE_MAX = 1_000
_IDS_MAX = 10_000
# fields that the engine calls otherwise in its refusals
_FIELDS = {"schema.attributes.vector": "schema.vector_dim", "min_seq": "consistency.min_seq"}


async def create(exchange: Exchange) -> Answer:
    """`PUT /v1/namespaces/{ns}`."""
    name = exchange.namespace
    schema = await exchange.decoded(schema_json.decode)
    exchange.is_mutating = True
    with _fields_of_this_api():
        created = await exchange.service.database.create(name, schema)
    return json_answer({"namespace": name, "created": created})


async def upsert(exchange: Exchange) -> Answer:
    """`POST /v1/namespaces/{ns}/upsert`."""
    name, database = exchange.namespace, exchange.service.database

    async def decode_large(body: bytes | bytearray, compute: Compute) -> WriteRequest:
        return await large_body.upsert(body, compute, await large_body.vector_names(database, name))

    return await _write(exchange, decode.upsert, decode_large)


async def delete(exchange: Exchange) -> Answer:
    """`POST /v1/namespaces/{ns}/delete`."""
    return await _write(exchange, decode.delete)


async def query(exchange: Exchange) -> Answer:
    """`POST /v1/namespaces/{ns}/query`."""
    name = exchange.namespace
    with exchange.service.queries.passage():
        wanted = await exchange.decoded(decode_query.query, is_query=True)
        with _fields_of_this_api(), exchange.service.compute.ahead():
            result = await exchange.service.database.query(name, wanted)
        if is_small(result.hits):
            return Answer(_query_body(result, wanted, exchange.elapsed_ms))
        body = await exchange.service.compute.run(
            _query_body, result, wanted, exchange.elapsed_ms, is_large=True
        )
        return Answer(body)


async def info(exchange: Exchange) -> Answer:
    """`GET /v1/namespaces/{ns}`."""
    found = await exchange.service.database.info(exchange.namespace)
    owner = exchange.service.cluster.placement.owner_now(found.name)
    return json_answer(
        {
            "namespace": found.name,
            "schema": schema_json.encode(found.schema),
            "documents": found.documents,
            "bytes": found.segment_bytes + found.tail_bytes,
            "segments": found.segments,
            "wal_tail": {
                "first_seq": found.next_seq - found.tail_slots,
                "slots": found.tail_slots,
                "bytes": found.tail_bytes,
            },
            "generation": found.generation,
            "incarnation": found.inc,
            "owner": None if owner is None else owner.node_id,
        }
    )


async def warm(exchange: Exchange) -> Answer:
    """`GET /v1/namespaces/{ns}/hint_cache_warm`."""
    name, service = exchange.namespace, exchange.service
    # a namespace that is not there is the caller's mistake, everything else is a matter of the background
    await service.database.info(name)
    is_new = service.warming.begin(name, service.database.warm)
    message = "cache warming has begun" if is_new else "cache warming is under way already"
    return json_answer({"status": "ACCEPTED", "message": message}, 202)


async def delete_namespace(exchange: Exchange) -> Answer:
    """`DELETE /v1/namespaces/{ns}`."""
    name = exchange.namespace
    exchange.is_mutating = True
    await exchange.service.database.delete(name)
    return json_answer({"status": "OK"})


async def list_namespaces(exchange: Exchange) -> Answer:
    """`GET /v1/namespaces`."""
    parameters = exchange.parameters
    text = parameters.get("page_size", "100")
    if not text.isdecimal() or not text.isascii() or len(text) > 4 or not 1 <= int(text) <= _PAGE_SIZE_MAX:
        raise InvalidRequest("page_size", f"{text!r} where 1 to {_PAGE_SIZE_MAX} are allowed")
    prefix, start = parameters.get("prefix", ""), parameters.get("cursor", "")
    for field, value in (("prefix", prefix), ("cursor", start)):
        if value and not is_valid_name(value):
            raise InvalidRequest(field, f"no namespace can be called {value!r}")
    names, cursor = await exchange.service.database.list(
        prefix=prefix, cursor=start or None, page_size=int(text)
    )
    return json_answer({"namespaces": [{"id": name} for name in names], "next_cursor": cursor})


async def document(exchange: Exchange) -> Answer:
    """`GET /v1/namespaces/{ns}/documents/{id}`."""
    name, text = exchange.namespace, exchange.path_parameter("id")
    parameters = exchange.parameters
    include_vector = parameters.get("include_vector", "false")
    if include_vector not in ("true", "false"):
        raise InvalidRequest("include_vector", f"{include_vector!r} where true or false is expected")
    consistency = decode_query.decode_consistency(parameters.get("consistency"))
    for id_ in _ids_spelled(text):
        try:
            hit = await _one_document(exchange, name, id_, consistency, include_vector == "true")
        except InvalidRequest:
            # the namespace's ids are of the other type
            continue
        if hit is not None:
            (hit,) = as_shown([hit], (await exchange.service.database.namespace(name)).view.schema)
            document = _document(hit)
            if is_small([hit]):
                return Answer(codec.dumps(document))
            return Answer(await exchange.service.compute.run(codec.dumps, document))
    raise DocumentNotFound(f"namespace '{name}' has no document of id {text!r}")


async def documents(exchange: Exchange) -> Answer:
    """`POST /v1/namespaces/{ns}/documents/get`."""
    name = exchange.namespace
    ids, consistency, include_vector = await exchange.decoded(_decode_get)
    with _fields_of_this_api():
        hits = await exchange.service.database.documents(
            name, ids, consistency=consistency, include_vector=include_vector
        )
    schema = (await exchange.service.database.namespace(name)).view.schema
    body = await exchange.service.compute.run(_documents_body, hits, schema)
    return Answer(body)


async def _write(
    exchange: Exchange,
    decoder: Callable[[Any], WriteRequest],
    decode_large: DecodeLarge[WriteRequest] | None = None,
) -> Answer:
    name, key = exchange.namespace, exchange.idempotency_key
    request = await exchange.decoded(decoder, decode_large)
    exchange.is_mutating = True
    result = await exchange.service.database.write(
        name, request, idempotency_key=key, deadline_s=exchange.remaining_s
    )
    token = result.token
    return json_answer({"count": result.count, "seq": token.seq, "token": str(token)})


@contextmanager
def _fields_of_this_api() -> Iterator[None]:
    try:
        yield
    except InvalidRequest as error:
        if error.field not in _FIELDS:
            raise
        raise type(error)(_FIELDS[error.field], error.reason) from error


def _query_body(result: QueryResult, wanted: Query, took_ms: float, *, is_large: bool = False) -> bytes:
    rows: list[Any] = [row_of(hit) for hit in as_shown(result.hits, result.schema)]
    if is_large:
        rows = [codec.piece(row) for row in rows]
    body: dict[str, Any] = {"results": rows, "took_ms": took_ms}
    if wanted.aggregate is not None:
        if result.aggregations is not None:
            body["aggregations"] = _figures(wanted.aggregate, result.aggregations)
        if result.groups is not None:
            body["groups"] = [_group(wanted.aggregate, group) for group in result.groups]
    if result.plan is not None:
        body["plan"] = result.plan
    if wanted.consistency.level == "eventual":
        body["staleness_ms"] = result.staleness_ms
    return codec.dumps(body)


def _group(wanted: Aggregate, group: Group) -> dict[str, Any]:
    key = {key.attribute: group.key[key.label] for key in wanted.group_by}
    return {"key": key, **_figures(wanted, group.figures)}


def _figures(wanted: Aggregate, figures: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for figure in wanted.figures:
        if figure.attribute is None:
            shown["count"] = figures[figure.label]
        else:
            shown.setdefault("sum", {})[figure.attribute] = codec.exact(figures[figure.label])
    return shown


def row_of(hit: Hit) -> dict[str, Any]:
    """A hit as answers show it."""
    row: dict[str, Any] = {"id": hit.id}
    if hit.score is not None:
        # scores are 32-bit floats: they print with as many digits as identify them
        row["score"] = np.float32(hit.score)
    _add_attributes(row, hit)
    if hit.cursor is not None:
        row["cursor"] = hit.cursor
    if hit.shares:
        row["explain"] = [
            {"leg": s.leg, "rank": s.rank, "score": np.float32(s.score), "contribution": s.contribution}
            for s in hit.shares
        ]
    return row


def _add_attributes(row: dict[str, Any], hit: Hit) -> None:
    attributes = hit.attributes
    if VECTOR in attributes:
        row["vector"] = attributes[VECTOR]
        attributes = {name: value for name, value in attributes.items() if name != VECTOR}
    row["attributes"] = attributes


def _document(hit: Hit) -> dict[str, Any]:
    row: dict[str, Any] = {"id": hit.id}
    _add_attributes(row, hit)
    return row


def _documents_body(hits: list[Hit | None], schema: Schema) -> bytes:
    shown = iter(as_shown([hit for hit in hits if hit is not None], schema))
    return codec.dumps({"documents": [None if hit is None else _document(next(shown)) for hit in hits]})


def _decode_get(body: Any) -> tuple[list[DocumentId], Consistency, bool]:
    fields = Fields(body)
    ids = decode.ids(fields.require("ids", list), "ids")
    consistency = decode_query.decode_consistency(fields.take("consistency"))
    include_vector = fields.optional("include_vector", bool, False)
    fields.end()
    if len(ids) > _IDS_MAX:
        raise InvalidRequest("ids", f"{len(ids)} ids where {_IDS_MAX} are allowed")
    return ids, consistency, include_vector


def _ids_spelled(text: str) -> list[DocumentId]:
    """What ids a path may mean: digits are a number where the namespace has numbers."""
    if text.isascii() and text.isdecimal() and len(text) <= 20 and str(int(text)) == text:
        return [int(text), text]
    return [text]


async def _one_document(
    exchange: Exchange, name: str, id_: DocumentId, consistency: Consistency, include_vector: bool
) -> Hit | None:
    hits = await exchange.service.database.documents(
        name, [id_], consistency=consistency, include_vector=include_vector
    )
    return hits[0]
