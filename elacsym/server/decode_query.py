"""The body of a v1 query to a query value. Strict: unknown fields are refused by their path.

Only shapes are judged here; rules that need the schema (names, operand types) are in `query.validate`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import (
    FILTER_CONDITIONS_MAX,
    FILTER_DEPTH_MAX,
    Aggregate,
    And,
    Compare,
    Figure,
    Filter,
    Fusion,
    GroupKey,
    Not,
    Op,
    Or,
    OrderKey,
    Query,
    TextLeg,
    VectorLeg,
)
from elacsym.query.language.filter import parse_filter
from elacsym.query.language.vector import decode as decode_vector
from elacsym.shapes import Fields, expect, kind, number
from elacsym.types import STRONG, VECTOR, Consistency, Metric, Token

_TEXT_WEIGHT = 0.5
_METHODS = ("rrf", "weighted", "max")
_RANGES = (Op.GT, Op.GTE, Op.LT, Op.LTE)

E = TypeVar("E", bound=StrEnum)


def query(body: Any) -> Query:
    """The query of a body. Raises InvalidShape, InvalidRequest."""
    fields = Fields(body)
    vector, texts = fields.take(VECTOR), fields.take("full_text")
    vector_field = fields.optional("vector_field", str)
    if vector is None and vector_field is not None:
        raise InvalidShape("vector_field", "names where to search for a vector, but there is no vector")
    fusion, fusion_weight = _fusion(fields.take("fusion"))
    vector_weight = fields.number("vector_weight")
    if vector_weight is None:
        vector_weight = fusion_weight
    condition, consistency = fields.take("filter"), fields.take("consistency")
    metric, include = fields.take("metric"), fields.strings("include_attributes")
    result = Query(
        legs=_legs(vector, vector_field or VECTOR, texts, vector_weight, fusion.method),
        filter=None if condition is None else decode_filter(condition, "filter"),
        order_by=_order(fields.take("order_by")),
        after=fields.optional("after", str),
        aggregate=_aggregate(fields.take("aggregate")),
        top_k=fields.optional("top_k", int, 10),
        metric=None if metric is None else one_of(Metric, metric, "metric"),
        fusion=fusion,
        include_attributes=include or None,
        include_vector=fields.optional("include_vector", bool, False),
        consistency=decode_consistency(consistency),
        exact=fields.optional("exact", bool, False),
        explain=fields.optional("explain", bool, False),
    )
    fields.end()
    return result


def one_of(words: type[E], value: Any, path: str) -> E:
    """The member of an enumeration. Raises InvalidShape."""
    try:
        return words(expect(value, str, path))
    except ValueError as error:
        raise InvalidShape(path, f"{value!r} where one of {', '.join(words)} is expected") from error


def decode_filter(value: Any, path: str) -> Filter:
    """A condition: a comparison, or `and`, `or`, `not` of conditions; or an array in the query language.
    Raises InvalidShape, InvalidRequest."""
    return parse_filter(value, path) if type(value) is list else _FilterDecoder().decoded(value, path, 0)


class _FilterDecoder:
    """Counts the conditions of one filter."""

    def __init__(self) -> None:
        self._count = 0

    def decoded(self, value: Any, path: str, depth: int) -> Filter:
        if depth > FILTER_DEPTH_MAX:
            raise InvalidRequest("filter", f"conditions are nested deeper than {FILTER_DEPTH_MAX} levels")
        self._count += 1
        if self._count > FILTER_CONDITIONS_MAX:
            raise InvalidRequest("filter", f"has more than {FILTER_CONDITIONS_MAX} conditions")
        fields = Fields(value, path)
        type_ = fields.optional("type", str)
        if type_ is None:
            name, op = fields.require("field", str), one_of(Op, fields.require("op", str), fields.path("op"))
            operand = _operand(fields, path)
            fields.end()
            if operand is None and op in _RANGES:
                raise InvalidRequest(fields.path("value"), f"{op} needs a value; null has no order here")
            return Compare(name, op, operand, path)
        if type_ == "not":
            condition = fields.require("condition", dict)
            fields.end()
            return Not(self.decoded(condition, fields.path("condition"), depth + 1))
        if type_ not in ("and", "or"):
            raise InvalidShape(fields.path("type"), f"{type_!r} where one of and, or, not is expected")
        inner, given = fields.path("conditions"), fields.require("conditions", list)
        fields.end()
        conditions = tuple([self.decoded(c, f"{inner}[{i}]", depth + 1) for i, c in enumerate(given)])
        return And(conditions) if type_ == "and" else Or(conditions)


def _operand(fields: Fields, path: str) -> Any:
    if not fields.has("value"):
        raise InvalidShape(f"{path}.value", "missing field")
    operand = fields.take("value")
    if type(operand) is dict:
        raise InvalidShape(f"{path}.value", "an object where a scalar or an array of scalars is expected")
    for index, element in enumerate(operand if type(operand) is list else ()):
        if type(element) in (dict, list):
            raise InvalidShape(f"{path}.value[{index}]", f"{kind(element)} where a scalar is expected")
    return operand


def _legs(
    vector: Any, vector_field: str, texts: Any, vector_weight: float | None, method: str
) -> tuple[VectorLeg | TextLeg, ...]:
    """The legs with their weights.

    In `rrf` without any weight all legs count alike, 1 each. Otherwise a text leg weighs 0.5 by default, and
    the vector leg what the text legs on average leave of 1.
    """
    given: list[tuple[TextLeg, float | None]] = []
    if type(texts) is list:
        given = [_text_leg(t, f"full_text[{i}]") for i, t in enumerate(texts)]
    elif texts is not None:
        given = [_text_leg(texts, "full_text")]
    weights = [weight for _, weight in given]
    is_even = method == "rrf" and vector_weight is None and all(w is None for w in weights)
    default = 1.0 if is_even else _TEXT_WEIGHT
    settled = [default if w is None else w for w in weights]
    legs: list[VectorLeg | TextLeg] = []
    if vector is not None:
        if vector_weight is None:
            vector_weight = 1.0 if is_even or not settled else max(0.0, 1.0 - sum(settled) / len(settled))
        legs.append(VectorLeg(vector_field, decode_vector(vector, VECTOR), vector_weight))
    legs += [
        TextLeg(leg.fields, leg.query, weight, leg.path)
        for (leg, _), weight in zip(given, settled, strict=True)
    ]
    return tuple(legs)


def _text_leg(value: Any, path: str) -> tuple[TextLeg, float | None]:
    fields = Fields(value, path)
    text, weight = fields.require("query", str), fields.number("weight")
    single, several, shares = fields.optional("field", str), fields.strings("fields"), fields.take("weights")
    fields.end()
    if (single is None) == (not several):
        raise InvalidShape(path, "exactly one of field and fields is needed")
    names = several if single is None else (single,)
    by_name = {} if shares is None else expect(shares, dict, f"{path}.weights")
    for name in by_name:
        if name not in names:
            raise InvalidRequest(f"{path}.weights.{name}", "a weight for a field that is not searched")
    weighted = tuple((name, number(by_name.get(name, 1.0), f"{path}.weights.{name}")) for name in names)
    return TextLeg(weighted, text, path=path), weight


def _fusion(value: Any) -> tuple[Fusion, float | None]:
    if value is None:
        return Fusion(), None
    fields = Fields(value, "fusion")
    method = fields.optional("method", str, "rrf")
    if method not in _METHODS:
        raise InvalidShape("fusion.method", f"{method!r} where one of {', '.join(_METHODS)} is expected")
    k, depth, vector_weight = (
        fields.number("k"),
        fields.optional("depth", int),
        fields.number("vector_weight"),
    )
    fields.end()
    return Fusion(method, 60.0 if k is None else k, depth), vector_weight  # type: ignore[arg-type]


def _order(value: Any) -> tuple[OrderKey, ...]:
    keys: list[OrderKey] = []
    for index, pair in enumerate([] if value is None else expect(value, list, "order_by")):
        path = f"order_by[{index}]"
        if type(pair) is not list or len(pair) != 2 or not all(type(p) is str for p in pair):
            raise InvalidShape(path, 'an attribute with its direction is expected, as in ["year", "desc"]')
        if pair[1] not in ("asc", "desc"):
            raise InvalidShape(f"{path}[1]", f"{pair[1]!r} where one of asc, desc is expected")
        keys.append(OrderKey(pair[0], pair[1] == "desc"))
    return tuple(keys)


def _aggregate(value: Any) -> Aggregate | None:
    if value is None:
        return None
    fields = Fields(value, "aggregate")
    sums, groups = fields.strings("sum"), fields.strings("group_by")
    count = fields.optional("count", bool, not sums)
    fields.end()
    figures = [Figure("count", "count", path="aggregate")] if count else []
    if not (count or sums):
        raise InvalidRequest("aggregate", "needs count or sum")
    # labels are unique whatever the attributes are called; answers do not show them
    figures += [Figure(f"sum:{name}", "sum", name, f"aggregate.sum[{i}]") for i, name in enumerate(sums)]
    keys = [GroupKey(f"by:{name}", name, path=f"aggregate.group_by[{i}]") for i, name in enumerate(groups)]
    return Aggregate(tuple(figures), tuple(keys))


def decode_consistency(value: Any) -> Consistency:
    """`strong` (or None), `eventual`, `{"min_seq": n}`, `{"token": …}`. Raises InvalidRequest."""
    path = "consistency"
    if value is None or value == "strong":
        return STRONG
    if value == "eventual":
        return Consistency("eventual")
    if type(value) is str:
        raise InvalidShape(path, f"{value!r} where one of strong, eventual or an object is expected")
    fields = Fields(value, path)
    text, min_seq = fields.optional("token", str), fields.optional("min_seq", int)
    fields.end()
    if (text is None) == (min_seq is None):
        raise InvalidShape(path, "exactly one of the fields min_seq and token is needed")
    if text is None:
        assert min_seq is not None, "one of the two is there"
        if not 0 <= min_seq < 2**63:
            raise InvalidRequest(f"{path}.min_seq", f"{min_seq} is outside 0…2^63-1")
        return Consistency("at_least", min_seq)
    try:
        token = Token.parse(text)
    except ValueError as error:
        raise InvalidRequest(f"{path}.token", str(error)) from error
    return Consistency("at_least", token.seq, token.inc)
