"""The rules of a query that need the schema: what it may name, and how its parts go together.

`check` returns the query in the form that execution expects, of which filters, legs and computed attributes
have modules of their own. Checking twice changes nothing. Every broken rule is an InvalidRequest with the
path of the field.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from elacsym.errors import InvalidRequest, MetricConflict
from elacsym.query.aggregate import check_aggregate
from elacsym.query.ast import (
    ORDER_KEYS_MAX,
    PER_ATTRIBUTES_MAX,
    QUERY_CONDITIONS_MAX,
    TOP_K_MAX,
    Fusion,
    OrderKey,
    Per,
    Query,
)
from elacsym.query.check_computed import check_computed
from elacsym.query.check_filter import check_filter
from elacsym.query.check_leg import check_leg
from elacsym.query.cost import conditions_in
from elacsym.query.operands import as_stored, is_operand, kind_of, known
from elacsym.query.order import Place, decode_cursor
from elacsym.query.shown import shown_by
from elacsym.shapes import shown
from elacsym.types import ID, DocumentId, IdType, Metric, Scalar, Schema

_ID_WORDS: dict[IdType, str] = {"uint": "an unsigned 64-bit integer", "string": "a string", "uuid": "a UUID"}
_METHODS = ("rrf", "weighted", "max")


def check(query: Query, schema: Schema) -> Query:
    """The query, known to fit the schema. Raises InvalidRequest."""
    if not (query.legs or query.order_by or query.aggregate):
        raise InvalidRequest("", "a query needs at least one of vector, full_text, order_by and aggregate")
    if query.legs and query.order_by:
        raise InvalidRequest(
            "order_by", "cannot stand together with vector or full_text, which order by score"
        )
    if conditions_in(query, QUERY_CONDITIONS_MAX) > QUERY_CONDITIONS_MAX:
        raise InvalidRequest(
            "filter", f"the filters of a query have more than {QUERY_CONDITIONS_MAX} conditions together"
        )
    _check_rows(query)
    _check_metric(query.metric, schema)
    legs = tuple([check_leg(leg, schema) for leg in query.legs])
    _check_fusion(query.fusion)
    _check_order(query.order_by, schema)
    if query.after is not None:
        if not query.order_by:
            raise InvalidRequest("after", "needs order_by: it continues an attribute order")
        check_place(decode_cursor(query.after, query.order_by), query.order_by, schema)
    if query.aggregate is not None:
        check_aggregate(query.aggregate, schema)
    check_names(query.include_attributes, schema)
    _check_excluded(query)
    if query.per is not None:
        _check_per(query.per, query, schema)
    condition = None if query.filter is None else check_filter(query.filter, schema)
    compute = check_computed(query, schema, shown_by(query, schema)) if query.compute else ()
    if condition is None and not compute and all(map(operator.is_, legs, query.legs)):
        return query
    return replace(query, legs=legs, filter=condition, compute=compute)


def check_names(include_attributes: Sequence[str] | None, schema: Schema) -> None:
    """Raises InvalidRequest if the schema does not have one of the names; `id` is always there."""
    for index, name in enumerate(include_attributes or ()):
        if name != ID and name not in schema.attributes:
            raise InvalidRequest(
                f"include_attributes[{index}]",
                f'attribute "{name}" not found in schema, cannot be part of `include_attributes`',
            )


def checked_ids(ids: Sequence[DocumentId], schema: Schema) -> list[DocumentId]:
    """The ids as they are stored. Raises InvalidRequest if one is not of the namespace's id type."""
    found: list[DocumentId] = []
    for index, value in enumerate(ids):
        scalar = kind_of(ID, schema, value).scalar
        if is_operand(scalar, value) and (isinstance(value, str) or 0 <= value < 2**64):
            found.append(as_stored(scalar, value))
        else:
            expected = _ID_WORDS[schema.id_type or "uint"]
            raise InvalidRequest(f"ids[{index}]", f"must be {expected}, not {shown(value)}")
    return found


def check_place(place: Place, order_by: Sequence[OrderKey], schema: Schema) -> None:
    """Raises InvalidRequest if a cursor's values are not of the types of its order."""
    for key, value in zip((*order_by, OrderKey(ID)), (*place.values, place.id), strict=True):
        known(key.attribute, schema, "after")
        kind = kind_of(key.attribute, schema, value)
        # a cursor has values as they are stored
        scalar = Scalar.INT if kind.scalar is Scalar.DATETIME else kind.scalar
        if not (is_operand(scalar, value) or (value is None and key.attribute != ID)):
            raise InvalidRequest(
                "after", f"the cursor has {shown(value)} for '{key.attribute}' of type {kind}"
            )


def _check_rows(query: Query) -> None:
    """How many rows there are in the answer, and how many before it."""
    _check_whole("top_k", query.top_k, 1, TOP_K_MAX)
    if query.offset != 0:
        _check_whole("offset", query.offset, 0, TOP_K_MAX)
        if query.top_k + query.offset > TOP_K_MAX:
            raise InvalidRequest(
                "offset",
                f"offset {query.offset} and limit {query.top_k} are more than {TOP_K_MAX} together",
            )


def _check_whole(path: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(path, f"must be a whole number between {low} and {high}, not {shown(value)}")


def _check_metric(metric: Metric | None, schema: Schema) -> None:
    if metric is None:
        return
    has_vectors = any(a.type.is_vector or a.type.is_multivector for a in schema.attributes.values())
    if schema.metric is None or not has_vectors:
        raise InvalidRequest("metric", f"the namespace has no vectors, so {metric} means nothing here")
    if metric != schema.metric:
        raise MetricConflict(schema.metric, metric)


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
        path = key.path or f"order_by[{index}]"
        kind = known(key.attribute, schema, path).type
        if kind.is_array or not kind.is_plain or kind.scalar is Scalar.BYTES:
            raise InvalidRequest(path, f"'{key.attribute}' is of type {kind}, which has no order")


def _check_excluded(query: Query) -> None:
    if not query.exclude_attributes:
        return
    if query.include_attributes is not None:
        raise InvalidRequest(
            "exclude_attributes", "cannot stand together with include_attributes; name one or the other"
        )
    if ID in query.exclude_attributes:
        raise InvalidRequest("exclude_attributes", "'id' is always answered and cannot be excluded")


def _check_per(per: Per, query: Query, schema: Schema) -> None:
    path = "limit.per"
    if len(query.legs) > 1:
        raise InvalidRequest(path, "needs one ranking, and several are fused here")
    if not (query.legs or query.order_by):
        raise InvalidRequest(path, "needs a ranking")
    _check_whole(f"{path}.limit", per.limit, 1, query.top_k)
    if not per.attributes:
        raise InvalidRequest(f"{path}.attributes", "needs at least one attribute")
    if len(per.attributes) > PER_ATTRIBUTES_MAX:
        reason = f"has {len(per.attributes)} attributes, at most {PER_ATTRIBUTES_MAX} are allowed"
        raise InvalidRequest(f"{path}.attributes", reason)
    answered = {ID, *shown_by(query, schema).columns}
    for index, name in enumerate(per.attributes):
        field = f"{path}.attributes[{index}]"
        kind = known(name, schema, field).type
        if not kind.is_plain:
            raise InvalidRequest(field, f"'{name}' is of type {kind}, which cannot tell rows apart")
        if name not in answered:
            raise InvalidRequest(field, f"'{name}' must be in include_attributes, too")
        if name in per.attributes[:index]:
            raise InvalidRequest(field, f"'{name}' is named twice")
