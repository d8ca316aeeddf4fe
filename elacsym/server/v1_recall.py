"""Measurements of recall: one handler for both APIs, which share the path."""

from __future__ import annotations

from typing import Any, Literal, cast

from elacsym.engine.recall import (
    NUM_MAX,
    TOP_K_MAX,
    TRUTH_ROWS_MAX,
    Compared,
    Recall,
    RecallRequest,
    measure,
)
from elacsym.errors import InvalidRequest
from elacsym.query.ast import VectorLeg
from elacsym.query.language.rank import parse_rank_by
from elacsym.server import codec, decode_query
from elacsym.server.exchange import Answer, Exchange
from elacsym.server.v2_answer import rows
from elacsym.shapes import Fields, variant
from elacsym.types import Schema

_SOURCES = ("recent", "stored")


async def recall(exchange: Exchange) -> Answer:
    """`POST /v1/namespaces/{ns}/_debug/recall`."""
    name = exchange.namespace
    with exchange.service.recalls.passage():
        wanted = await exchange.decoded(decode)
        measured = await measure(exchange.service.database, name, wanted)
    return Answer(await exchange.service.compute.run(_body, measured, wanted, exchange.elapsed_ms))


def decode(body: Any) -> RecallRequest:
    """The body of a recall measurement; every field may be left out. Raises InvalidShape, InvalidRequest."""
    fields = Fields(body)
    condition, rank_by = fields.take("filters"), fields.take("rank_by")
    source = variant(fields.optional("queries", str, "recent"), _SOURCES, "queries")
    leg = None if rank_by is None else _vector_leg(rank_by, fields.optional("num", int))
    wanted = RecallRequest(
        attribute=fields.optional("vector_field", str) if leg is None else leg.attribute,
        num=_bounded(fields, "num", 25, NUM_MAX) if leg is None else 1,
        top_k=_bounded(fields, "top_k", 10, TOP_K_MAX),
        filter=None if condition is None else decode_query.decode_filter(condition, "filters"),
        source=cast("Literal['recent', 'stored']", source),
        vector=None if leg is None else leg.vector,
        include_ground_truth=fields.optional("include_ground_truth", bool, False),
    )
    fields.end()
    total = wanted.num * wanted.top_k
    if wanted.include_ground_truth and total > TRUTH_ROWS_MAX:
        raise InvalidRequest(
            "include_ground_truth", f"num times top_k is {total} where {TRUTH_ROWS_MAX} rows can be shown"
        )
    return wanted


def _vector_leg(rank_by: Any, num: int | None) -> VectorLeg:
    """The one query that is measured."""
    if num not in (None, 1):
        raise InvalidRequest("num", f"{num} where rank_by gives one query; leave it out, or say 1")
    match parse_rank_by(rank_by, has_filter=True).legs:
        case (VectorLeg() as leg,):
            return leg
    raise InvalidRequest("rank_by", "recall is measured of a search by one dense vector")


def _bounded(fields: Fields, name: str, default: int, limit: int) -> int:
    value = fields.optional(name, int, default)
    if not 1 <= value <= limit:
        raise InvalidRequest(name, f"{value} where 1 to {limit} are allowed")
    return value


def _body(measured: Recall, wanted: RecallRequest, took_ms: float) -> bytes:
    body: dict[str, Any] = {
        "avg_recall": measured.average,
        "avg_ann_count": measured.average_found,
        "avg_exhaustive_count": measured.average_exact,
        "queries": {"recent": measured.recent, "stored": measured.stored},
        "took_ms": took_ms,
    }
    if wanted.include_ground_truth:
        body["ground_truth"] = [_truth(compared, measured.schema) for compared in measured.compared]
    return codec.dumps(body)


def _truth(compared: Compared, schema: Schema) -> dict[str, Any]:
    shown, _ = rows(compared.truth, schema)
    return {"query_vector": compared.vector, "nearest_neighbors": shown}
