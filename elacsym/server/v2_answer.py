"""What the engine answers as the v2 API shows it: rows, figures, effects of writes, billing, performance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from elacsym.query.ast import Aggregate, Group, Hit, Query, QueryResult, Work
from elacsym.server import codec
from elacsym.server.v2_query import Asked
from elacsym.server.values import Render, rendered, renderer, renderers
from elacsym.types import Schema, WriteResult

Json = dict[str, Any]

_QUERIED_BYTES_MIN = 256_000_000
_NUMBER_BYTES, _BOOL_BYTES, _UUID_BYTES, _SCORE_BYTES = 8, 1, 16, 4
# of a time that has just begun; some clients look for more than 2
_MS_MIN = 3


def query_body(
    results: Sequence[QueryResult], asked: Asked, took_ms: float, *, is_large: bool = False
) -> bytes:
    """The answer to a query, or to several. is_large: rendered in pieces, for the sake of others."""
    shown, returned_bytes = [], 0
    # a fusion has one result of several queries
    queries = asked.queries if len(results) == len(asked.queries) else [None] * len(results)
    for result, query in zip(results, queries, strict=True):
        body, size = _result(result, query, vectors_as_base64=asked.vectors_as_base64)
        if is_large and "rows" in body:
            body["rows"] = [codec.piece(row) for row in body["rows"]]
        shown.append(body)
        returned_bytes += size
    body = {"results": shown} if asked.is_multi else shown[0]
    body["billing"] = query_billing(len(asked.queries), returned_bytes)
    body["performance"] = _performance([result.work for result in results], took_ms)
    return codec.dumps(body)


def query_billing(queries: int, returned_bytes: int) -> Json:
    """What is charged for queries."""
    return {
        "billable_logical_bytes_queried": queries * _QUERIED_BYTES_MIN,
        "billable_logical_bytes_returned": returned_bytes,
    }


def write_body(result: WriteResult, took_ms: float) -> Json:
    """The answer to a write."""
    effects = result.effects
    body: Json = {"status": "OK", "message": "documents committed successfully"}
    if effects is None:
        # an earlier request with the same idempotency key did it; no more is known
        body |= {"rows_affected": result.count, "billing": {"billable_logical_bytes_written": 0}}
    else:
        body["rows_affected"] = effects.affected
        for name in ("upserted", "patched", "deleted"):
            count, ids = getattr(effects, name), getattr(effects, f"{name}_ids")
            if count is not None:
                body[f"rows_{name}"] = count
            if ids:
                body[f"{name}_ids"] = ids
        if effects.rows_remaining is not None:
            body["rows_remaining"] = effects.rows_remaining
        billing: Json = {"billable_logical_bytes_written": effects.bytes_written}
        if effects.has_read:
            billing["query"] = query_billing(1, 0)
        body["billing"] = billing
    body["performance"] = {"server_total_ms": whole_ms(took_ms)}
    return body


def whole_ms(took_ms: float) -> int:
    """Milliseconds, rounded up and never as few as none."""
    return max(_MS_MIN, math.ceil(took_ms))


def rows(hits: Sequence[Hit], schema: Schema, *, vectors_as_base64: bool = False) -> tuple[list[Json], int]:
    """Rows as answers show them, and their size in bytes as it is charged."""
    renders = renderers(schema, vectors_as_base64=vectors_as_base64)
    is_uuid, shown, size = schema.id_type == "uuid", [], 0
    for hit in hits:
        row: Json = {"id": hit.id}
        size += _UUID_BYTES if is_uuid else _size(hit.id)
        if hit.score is not None:
            # scores are 32-bit floats: they print with as many digits as identify them
            row["$dist"] = np.float32(hit.score)
            size += _SCORE_BYTES
        size += sum(map(_size, hit.attributes.values()))
        row.update(rendered(hit.attributes, renders))
        shown.append(row)
    return shown, size


def _result(result: QueryResult, query: Query | None, *, vectors_as_base64: bool) -> tuple[Json, int]:
    if query is not None and query.aggregate is not None:
        if not query.aggregate.group_by:
            return {"aggregations": _figures(result.aggregations or {})}, 0
        return {"aggregation_groups": _groups(result.groups or (), query.aggregate, result.schema)}, 0
    shown, size = rows(result.hits, result.schema, vectors_as_base64=vectors_as_base64)
    return {"rows": shown}, size


def _groups(groups: Sequence[Group], aggregate: Aggregate, schema: Schema) -> list[Json]:
    renders: dict[str, Render] = {}
    for key in aggregate.group_by:
        attribute = schema.attributes.get(key.attribute)
        if attribute is None:
            continue
        is_array = attribute.type.is_array and not key.is_each_element
        render = renderer(replace(attribute.type, is_array=is_array))
        if render is not None:
            renders[key.label] = render
    return [_shown_key(group.key, renders) | _figures(group.figures) for group in groups]


def _figures(figures: Mapping[str, Any]) -> Json:
    return {label: codec.exact(figure) for label, figure in figures.items()}


def _shown_key(key: Mapping[str, Any], renders: Mapping[str, Render]) -> Json:
    return {
        label: renders[label](value) if label in renders and value is not None else value
        for label, value in key.items()
    }


def _performance(works: Sequence[Work], took_ms: float) -> Json:
    is_hot = not any(work.bytes_read for work in works)
    took = whole_ms(took_ms)
    return {
        "cache_hit_ratio": 1.0 if is_hot else 0.0,
        "cache_temperature": "hot" if is_hot else "cold",
        "server_total_ms": took,
        "query_execution_ms": took,
        "exhaustive_search_count": sum(work.rows_unindexed for work in works),
        "approx_namespace_size": max((work.rows_live for work in works), default=0),
    }


def _size(value: Any) -> int:
    """The bytes of a value as they are charged."""
    if type(value) is str:
        return len(value) if value.isascii() else len(value.encode())
    if type(value) is bool:
        return _BOOL_BYTES
    if type(value) is np.ndarray:
        return 4 * value.size
    if type(value) is list:
        return sum(map(_size, value))
    if type(value) is dict:
        return sum(len(name) + _size(weight) for name, weight in value.items())
    return len(value) if type(value) is bytes else _NUMBER_BYTES
