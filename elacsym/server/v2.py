"""The v2 API's handlers of writes and queries: decode, call the engine, encode; no logic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from elacsym.compute import Compute
from elacsym.engine.request import WriteRequest
from elacsym.query.ast import QueryResult, Rerank
from elacsym.query.fusion import reranked
from elacsym.query.plan_text import plan_text
from elacsym.server import large_body, v2_answer, v2_copy, v2_query, v2_write
from elacsym.server.exchange import Answer, Exchange, json_answer
from elacsym.server.values import is_small


async def write(exchange: Exchange) -> Answer:
    """`POST /v2/namespaces/{ns}`: documents, schema, or a copy or branch of another namespace."""
    name, service = exchange.namespace, exchange.service

    async def decode_large(body: bytes | bytearray, compute: Compute) -> v2_write.Write:
        return await large_body.write(body, compute, await large_body.vector_names(service.database, name))

    wanted = await exchange.decoded(v2_write.decode, decode_large)
    service.unknown_fields.note(wanted.unknown, name)
    exchange.is_mutating = True
    if wanted.origin is not None:
        return await v2_copy.made(exchange, wanted)
    request = _limited(exchange, wanted.request)
    result = await service.database.write(
        name, request, idempotency_key=exchange.idempotency_key, deadline_s=exchange.remaining_s
    )
    return json_answer(v2_answer.write_body(result, exchange.elapsed_ms))


async def query(exchange: Exchange) -> Answer:
    """`POST /v2/namespaces/{ns}/query`: one query, or several over one snapshot."""
    name, service = exchange.namespace, exchange.service
    with service.queries.passage():
        asked = await exchange.decoded(v2_query.decode, is_query=True)
        if asked.unknown:
            service.unknown_fields.note(asked.unknown, name)
        async with service.namespace_queries.passage(name, asked.weight):
            results = await _results(exchange, asked)
        if asked.rerank is not None:
            results = [await service.compute.run(_reranked, results, asked.rerank)]
        if all(is_small(result.hits) for result in results):
            return Answer(v2_answer.query_body(results, asked, exchange.elapsed_ms))
        return Answer(
            await service.compute.run(
                v2_answer.query_body, results, asked, exchange.elapsed_ms, is_large=True
            )
        )


def _limited(exchange: Exchange, request: WriteRequest) -> WriteRequest:
    """The request, with the limits of this server on what one may do by filter."""
    config, deletes, patches = exchange.service.config, request.delete_by_filter, request.patch_by_filter
    if deletes is not None:
        request = replace(request, delete_by_filter=replace(deletes, rows_max=config.delete_by_filter_max))
    if patches is not None:
        request = replace(request, patch_by_filter=replace(patches, rows_max=config.patch_by_filter_max))
    return request


async def _results(exchange: Exchange, asked: v2_query.Asked) -> list[QueryResult]:
    name, database = exchange.namespace, exchange.service.database
    with exchange.service.compute.ahead():
        if not asked.is_multi:
            return [await database.query(name, asked.queries[0])]
        return await database.queries(name, asked.queries, consistency=asked.queries[0].consistency)


def _reranked(results: Sequence[QueryResult], rerank: Rerank) -> QueryResult:
    """One result of several; what it was made of counts the first time, for they share a snapshot."""
    hits = reranked([result.hits for result in results], rerank)
    return replace(results[0], hits=hits)


async def explain(exchange: Exchange) -> Answer:
    """`POST /v2/namespaces/{ns}/explain_query`."""
    name, service = exchange.namespace, exchange.service
    with service.queries.passage():
        asked = await exchange.decoded(lambda body: v2_query.decode(body, explain=True), is_query=True)
        service.unknown_fields.note(asked.unknown, name)
        async with service.namespace_queries.passage(name, asked.weight):
            results = await _results(exchange, asked)
    return json_answer({"plan_text": "\n\n".join(plan_text(result.plan or {}) for result in results)})
