"""The rules of score expressions that need the schema.

`check_score` returns the expression in the form that evaluation expects: filters are checked, times are
milliseconds, and nothing carries a path, so equal clauses are equal values. Checking twice changes nothing.
"""

from __future__ import annotations

from elacsym.errors import InvalidRequest
from elacsym.index.tokenize import PRE_TOKENIZED
from elacsym.index.values import parse_datetime
from elacsym.query.ast import (
    SCORE_LEAVES_MAX,
    TEXT_QUERY_CHARS_MAX,
    AttributeValue,
    Bm25,
    Decay,
    Distance,
    Duration,
    Indicator,
    Max,
    Product,
    Saturate,
    Score,
    Sum,
)
from elacsym.query.check_filter import check_filter, query_chars
from elacsym.query.operands import Milliseconds, is_operand, known
from elacsym.query.scores import leaves_of
from elacsym.shapes import shown
from elacsym.types import Scalar, Schema

_SIGNED = (Scalar.INT, Scalar.FLOAT)
_WHOLE = (Scalar.INT, Scalar.UINT)


def check_score(score: Score, schema: Schema, path: str = "rank_by") -> Score:
    """The expression, known to fit the schema. Raises InvalidRequest with the clause's path. path: where the
    expression stands."""
    checked = _checked(score, schema, has_floor=False)
    leaves = leaves_of(checked)
    if len(leaves) > SCORE_LEAVES_MAX:
        raise InvalidRequest(
            path, f"has {len(leaves)} different clauses, at most {SCORE_LEAVES_MAX} are allowed"
        )
    return checked


def check_text_query(
    query: str | tuple[str, ...], attribute: str, schema: Schema, path: str, query_path: str
) -> None:
    """Raises InvalidRequest unless a full-text attribute can be searched by this. path, query_path: where
    the attribute is named, and where the query stands."""
    settings = known(attribute, schema, path).full_text
    if settings is None:
        raise InvalidRequest(
            path, f"attribute '{attribute}' has no full-text search: the schema does not switch it on"
        )
    if settings.tokenizer == PRE_TOKENIZED and isinstance(query, str):
        raise InvalidRequest(
            query_path, f'invalid input {shown(query)} for rank_by field "{attribute}", expecting []string'
        )
    texts = (query,) if isinstance(query, str) else query
    size = query_chars(query)
    if size > TEXT_QUERY_CHARS_MAX:
        raise InvalidRequest(
            query_path, f"the query has {size} characters, at most {TEXT_QUERY_CHARS_MAX} are allowed"
        )
    if not all(is_operand(Scalar.STRING, text) for text in texts):
        raise InvalidRequest(query_path, "the query must be Unicode text without lone surrogates")


def _checked(score: Score, schema: Schema, *, has_floor: bool) -> Score:
    """has_floor: whether something around the expression keeps it from being negative."""
    match score:
        case Bm25():
            check_text_query(score.query, score.attribute, schema, score.path, score.path)
            return Bm25(score.attribute, score.query, score.last_as_prefix)
        case Sum():
            return Sum(tuple(_checked(c, schema, has_floor=has_floor) for c in score.clauses))
        case Max():
            is_safe = has_floor or score.floor is not None
            return Max(tuple(_checked(c, schema, has_floor=is_safe) for c in score.clauses), score.floor)
        case Product():
            return Product(score.weight, _checked(score.clause, schema, has_floor=has_floor))
        case Indicator():
            return Indicator(check_filter(score.condition, schema))
        case AttributeValue():
            return _checked_value(score, schema, has_floor=has_floor)
        case Saturate():
            return Saturate(_argument(score, schema, has_floor=True), score.midpoint, score.exponent)
        case Decay():
            return Decay(_argument(score, schema, has_floor=has_floor), score.midpoint, score.exponent)


def _checked_value(value: AttributeValue, schema: Schema, *, has_floor: bool) -> AttributeValue:
    name, kind = value.attribute, known(value.attribute, schema, value.path).type
    if kind.is_array or not kind.is_plain or kind.scalar not in (*_SIGNED, Scalar.UINT):
        raise InvalidRequest(value.path, f"Attribute takes numbers, but '{name}' is of type {kind}")
    if kind.scalar in _SIGNED and not has_floor:
        raise InvalidRequest(
            value.path,
            f"'{name}' of type {kind} may be negative: it must stand inside Max with a number, or Saturate",
        )
    return AttributeValue(name)


def _argument(curve: Saturate | Decay, schema: Schema, *, has_floor: bool) -> Score | Distance:
    """What a curve is taken of, which must fit its midpoint."""
    clause = curve.clause
    if isinstance(clause, Distance):
        kind = known(clause.attribute, schema, clause.path).type
        is_time = kind.scalar is Scalar.DATETIME and not kind.is_array
        checked: Score | Distance = _checked_distance(clause, schema)
    else:
        is_time, checked = False, _checked(clause, schema, has_floor=has_floor)
    if isinstance(curve.midpoint, Duration) and not is_time:
        raise InvalidRequest(curve.path, "a duration is a midpoint for the Dist of a datetime only")
    return checked


def _checked_distance(distance: Distance, schema: Schema) -> Distance:
    name, origin, path = distance.attribute, distance.origin, distance.path
    kind = known(name, schema, path).type
    if kind.is_array or not kind.is_plain or kind.scalar not in (*_SIGNED, Scalar.UINT, Scalar.DATETIME):
        raise InvalidRequest(path, f"Dist takes numbers and times, but '{name}' is of type {kind}")
    if kind.scalar is Scalar.DATETIME:
        return Distance(name, _milliseconds(origin, name, path))
    if isinstance(origin, str) or (kind.scalar in _WHOLE and not is_operand(Scalar.INT, origin)):
        expected = "an integer" if kind.scalar in _WHOLE else "a number"
        raise InvalidRequest(path, f"the origin for '{name}' must be {expected}, not {shown(origin)}")
    return Distance(name, origin)


def _milliseconds(origin: float | str, name: str, path: str) -> Milliseconds:
    if isinstance(origin, Milliseconds):  # checked before
        return origin
    if not isinstance(origin, str):
        raise InvalidRequest(path, f"the origin for '{name}' must be an ISO 8601 time, not {shown(origin)}")
    try:
        return Milliseconds(parse_datetime(origin))
    except ValueError as error:
        raise InvalidRequest(path, f"the origin for '{name}': {error}") from error
