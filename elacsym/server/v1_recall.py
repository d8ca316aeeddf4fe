"""The v1 API's handler of recall measurements."""

from __future__ import annotations

from typing import Any

from elacsym.engine.recall import (
    NUM_MAX,
    TOP_K_MAX,
    TRUTH_ROWS_MAX,
    Compared,
    Recall,
    RecallRequest,
    measure,
)
from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.server import codec, decode_query
from elacsym.server.exchange import Answer, Exchange
from elacsym.server.v1 import row_of
from elacsym.shapes import Fields

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
    condition, source = fields.take("filters"), fields.optional("queries", str, "recent")
    if source not in _SOURCES:
        raise InvalidShape("queries", f"{source!r} where one of {', '.join(_SOURCES)} is expected")
    wanted = RecallRequest(
        attribute=fields.optional("vector_field", str),
        num=_bounded(fields, "num", 25, NUM_MAX),
        top_k=_bounded(fields, "top_k", 10, TOP_K_MAX),
        filter=None if condition is None else decode_query.decode_filter(condition, "filters"),
        source="stored" if source == "stored" else "recent",
        include_ground_truth=fields.optional("include_ground_truth", bool, False),
    )
    fields.end()
    rows = wanted.num * wanted.top_k
    if wanted.include_ground_truth and rows > TRUTH_ROWS_MAX:
        raise InvalidRequest(
            "include_ground_truth", f"num times top_k is {rows} where {TRUTH_ROWS_MAX} rows can be shown"
        )
    return wanted


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
        body["ground_truth"] = [_truth(compared) for compared in measured.compared]
    return codec.dumps(body)


def _truth(compared: Compared) -> dict[str, Any]:
    return {
        "query_vector": compared.vector,
        "nearest_neighbors": [row_of(hit) for hit in compared.truth],
    }
