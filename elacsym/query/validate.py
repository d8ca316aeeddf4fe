"""The rules of a query that need the schema: what it may name, and with which operands.

`check` returns the query in the form that execution expects: list operands are tuples, and comparisons carry
no path, so equal filters are equal values. Checking twice changes nothing. Every broken rule is an
InvalidRequest with the path of the field.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from elacsym.errors import InvalidRequest
from elacsym.query.aggregate import check_aggregate
from elacsym.query.ast import (
    ORDER_KEYS_MAX,
    TEXT_QUERY_CHARS_MAX,
    TOP_K_MAX,
    Fusion,
    Leg,
    OrderKey,
    Query,
    TextLeg,
    VectorLeg,
)
from elacsym.query.check_filter import check_filter
from elacsym.query.operands import is_operand, kind_of, known, shown
from elacsym.query.order import Place, decode_cursor
from elacsym.types import ID, DocumentId, Metric, Scalar, Schema

_NUMBERS = (Scalar.INT, Scalar.UINT, Scalar.FLOAT)
_METHODS = ("rrf", "weighted", "max")


def check(query: Query, schema: Schema) -> Query:
    """The query, known to fit the schema. Raises InvalidRequest."""
    if not (query.legs or query.order_by or query.aggregate):
        raise InvalidRequest("", "a query needs at least one of vector, full_text, order_by and aggregate")
    if query.legs and query.order_by:
        raise InvalidRequest(
            "order_by", "cannot stand together with vector or full_text, which order by score"
        )
    _check_whole("top_k", query.top_k, 1, TOP_K_MAX)
    _check_metric(query.metric, schema)
    for leg in query.legs:
        _check_leg(leg, schema)
    _check_fusion(query.fusion)
    _check_order(query.order_by, schema)
    if query.after is not None:
        if not query.order_by:
            raise InvalidRequest("after", "needs order_by: it continues an attribute order")
        check_place(decode_cursor(query.after, query.order_by), query.order_by, schema)
    if query.aggregate is not None:
        check_aggregate(query.aggregate, schema)
    check_names(query.include_attributes, schema)
    return replace(query, filter=None if query.filter is None else check_filter(query.filter, schema))


def check_names(include_attributes: Sequence[str] | None, schema: Schema) -> None:
    """Raises InvalidRequest if the schema does not have one of the names; `id` is always there."""
    for index, name in enumerate(include_attributes or ()):
        known(name, schema, f"include_attributes[{index}]")


def check_ids(ids: Sequence[DocumentId], schema: Schema) -> None:
    """Raises InvalidRequest if an id is not of the namespace's id type."""
    for index, value in enumerate(ids):
        fits = is_operand(kind_of(ID, schema, value).scalar, value)
        if not fits or (isinstance(value, int) and not 0 <= value < 2**64):
            expected = "a string" if schema.id_type == "string" else "an unsigned 64-bit integer"
            raise InvalidRequest(f"ids[{index}]", f"must be {expected}, not {shown(value)}")


def check_place(place: Place, order_by: Sequence[OrderKey], schema: Schema) -> None:
    """Raises InvalidRequest if a cursor's values are not of the types of its order."""
    for key, value in zip((*order_by, OrderKey(ID)), (*place.values, place.id), strict=True):
        known(key.attribute, schema, "after")
        kind = kind_of(key.attribute, schema, value)
        if not (is_operand(kind.scalar, value) or (value is None and key.attribute != ID)):
            raise InvalidRequest(
                "after", f"the cursor has {shown(value)} for '{key.attribute}' of type {kind}"
            )


def _check_whole(path: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(path, f"must be a whole number between {low} and {high}, not {shown(value)}")


def _check_weight(path: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InvalidRequest(path, f"must be a finite number of at least 0, not {shown(value)}")


def _check_metric(metric: Metric | None, schema: Schema) -> None:
    if metric is None:
        return
    if schema.metric is None:
        raise InvalidRequest("metric", f"the namespace has no vectors, so {metric} means nothing here")
    if metric != schema.metric:
        raise InvalidRequest("metric", f"the namespace's metric is {schema.metric}, not {metric}")


def _check_leg(leg: Leg, schema: Schema) -> None:
    match leg:
        case VectorLeg():
            _check_vector_leg(leg, schema)
        case TextLeg():
            _check_text_leg(leg, schema)


def _check_vector_leg(leg: VectorLeg, schema: Schema) -> None:
    if not schema.vectors():
        raise InvalidRequest("vector", "the namespace has no vectors")
    kind = known(leg.attribute, schema, "vector_field").type
    if kind.dimensions is None:
        raise InvalidRequest("vector_field", f"attribute '{leg.attribute}' is of type {kind}, not a vector")
    if leg.vector.shape != (kind.dimensions,):
        raise InvalidRequest(
            "vector", f"has {leg.vector.size} dimensions, the namespace has {kind.dimensions}"
        )
    if not np.isfinite(leg.vector).all():
        place = int(np.flatnonzero(~np.isfinite(leg.vector))[0])
        raise InvalidRequest(f"vector[{place}]", f"must be finite, not {leg.vector[place]}")
    _check_weight("vector_weight", leg.weight)


def _check_text_leg(leg: TextLeg, schema: Schema) -> None:
    if not leg.fields:
        raise InvalidRequest(leg.path, "needs at least one field")
    if len(leg.query) > TEXT_QUERY_CHARS_MAX:
        raise InvalidRequest(
            f"{leg.path}.query",
            f"has {len(leg.query)} characters, at most {TEXT_QUERY_CHARS_MAX} are allowed",
        )
    if not is_operand(Scalar.STRING, leg.query):
        raise InvalidRequest(f"{leg.path}.query", "must be Unicode text without lone surrogates")
    names = [name for name, _ in leg.fields]
    for name, weight in leg.fields:
        if known(name, schema, leg.path).full_text is None:
            raise InvalidRequest(
                leg.path, f"attribute '{name}' has no full-text index: the schema says full_text: false"
            )
        if names.count(name) > 1:
            raise InvalidRequest(leg.path, f"field '{name}' is named twice")
        _check_weight(f"{leg.path}.weights.{name}", weight)
    _check_weight(f"{leg.path}.weight", leg.weight)


def _check_fusion(fusion: Fusion) -> None:
    if fusion.method not in _METHODS:
        raise InvalidRequest(
            "fusion.method", f"must be one of {', '.join(_METHODS)}, not {shown(fusion.method)}"
        )
    if isinstance(fusion.k, bool) or not isinstance(fusion.k, int | float) or not 0 < fusion.k < math.inf:
        raise InvalidRequest("fusion.k", f"must be a finite number greater than 0, not {shown(fusion.k)}")
    if fusion.depth is not None:
        _check_whole("fusion.depth", fusion.depth, 1, TOP_K_MAX)


def _check_order(order_by: Sequence[OrderKey], schema: Schema) -> None:
    if len(order_by) > ORDER_KEYS_MAX:
        raise InvalidRequest("order_by", f"has {len(order_by)} keys, at most {ORDER_KEYS_MAX} are allowed")
    for index, key in enumerate(order_by):
        kind = known(key.attribute, schema, f"order_by[{index}]").type
        if kind.is_array or kind.is_vector:
            raise InvalidRequest(
                f"order_by[{index}]", f"'{key.attribute}' is of type {kind}, which has no order"
            )
