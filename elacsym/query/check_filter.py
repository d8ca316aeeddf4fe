"""The rules of a filter that need the schema: which attributes it may look at, with which operands.

A checked filter is in the form that evaluation expects: operands are in their stored form (times as
milliseconds, UUIDs canonical), ranges from null are tests for null, lists are tuples, and no condition
carries a path, so equal filters are equal values. Checking twice changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elacsym.errors import InvalidRequest, TypeMismatch
from elacsym.query.ast import (
    FILTER_DEPTH_MAX,
    PATTERN_CHARS_MAX,
    TEXT_QUERY_CHARS_MAX,
    And,
    Compare,
    Filter,
    Fuzzy,
    Glob,
    Not,
    Op,
    Or,
    RefNew,
    Regex,
    Tokens,
)
from elacsym.query.columns import attribute_of
from elacsym.query.operands import are_operands, as_stored, is_operand, kind_of, shown_plainly
from elacsym.query.patterns import check_expression, glob_expression
from elacsym.types import Attribute, AttributeType, Scalar, Schema

_RANGES = (Op.GT, Op.GTE, Op.LT, Op.LTE)
_LISTS = (Op.IN, Op.NOT_IN, Op.CONTAINS_ANY, Op.NOT_CONTAINS_ANY)
_ANY = (Op.ANY_GT, Op.ANY_GTE, Op.ANY_LT, Op.ANY_LTE)
_OF_ARRAYS = (Op.CONTAINS, Op.NOT_CONTAINS, Op.CONTAINS_ANY, Op.NOT_CONTAINS_ANY, *_ANY)
_OF_ELEMENTS = (Op.CONTAINS, Op.NOT_CONTAINS, *_ANY)
OP_NAMES = {
    Op.EQ: "Eq",
    Op.NE: "NotEq",
    Op.GT: "Gt",
    Op.GTE: "Gte",
    Op.LT: "Lt",
    Op.LTE: "Lte",
    Op.IN: "In",
    Op.NOT_IN: "NotIn",
    Op.CONTAINS: "Contains",
    Op.NOT_CONTAINS: "NotContains",
    Op.CONTAINS_ANY: "ContainsAny",
    Op.NOT_CONTAINS_ANY: "NotContainsAny",
    Op.ANY_LT: "AnyLt",
    Op.ANY_LTE: "AnyLte",
    Op.ANY_GT: "AnyGt",
    Op.ANY_GTE: "AnyGte",
}
# people write one level less: what null means takes one
_DEPTH_MAX = FILTER_DEPTH_MAX + 1
_NO_PATH = "filter"
_TOKEN_OPS = {"all": "ContainsAllTokens", "any": "ContainsAnyToken", "sequence": "ContainsTokenSequence"}


def check_filter(condition: Filter, schema: Schema) -> Filter:
    """The filter, known to fit the schema. Raises InvalidRequest with the condition's path."""
    return _checked(condition, schema, 0)


def query_chars(query: str | tuple[str, ...]) -> int:
    """How long a text query is in characters. Tokens that are given one by one count as if there were a space
    between them."""
    return len(query) if isinstance(query, str) else sum(map(len, query)) + max(0, len(query) - 1)


def _checked(condition: Filter, schema: Schema, depth: int) -> Filter:
    if depth > _DEPTH_MAX:
        raise InvalidRequest("filter", f"conditions are nested deeper than {FILTER_DEPTH_MAX} levels")
    match condition:
        case Compare():
            return _checked_compare(condition, schema)
        case Glob() | Regex() | Fuzzy():
            return _checked_pattern(condition, schema)
        case Tokens():
            return _checked_tokens(condition, schema)
        case Not():
            return Not(_checked(condition.condition, schema, depth + 1))
        case And():
            return And(tuple(_checked(c, schema, depth + 1) for c in condition.conditions))
        case Or():
            return Or(tuple(_checked(c, schema, depth + 1) for c in condition.conditions))


def _checked_compare(condition: Compare, schema: Schema) -> Filter:
    name, op, value, path = condition.field, condition.op, condition.value, condition.path
    assert not isinstance(value, RefNew), "bound before it is checked"
    attribute = _attribute(name, schema, path)
    kind, word = kind_of(name, schema, value), OP_NAMES[op]
    is_null_test = value is None and op in (Op.EQ, Op.NE)
    if not kind.is_plain:
        if not is_null_test:
            raise _refused(name, path, f"{kind} is only compared with null, by Eq or NotEq")
        return Compare(name, op, None)
    _check_filterable(name, attribute, path)
    if op in _OF_ARRAYS and not kind.is_array:
        raise _refused(name, path, f"{word} needs an array, but the attribute is of type {kind}")
    if op in _RANGES and kind.is_array:
        raise _refused(name, path, f"{word} needs a scalar, but the attribute is of type {kind}")
    if is_null_test:
        return Compare(name, op, None)
    if value is None and op in _RANGES:
        return _range_from_null(name, op)
    if op in _LISTS or (kind.is_array and op not in _OF_ELEMENTS):
        if not isinstance(value, list | tuple) or not are_operands(kind.scalar, value):
            raise TypeMismatch(path, name, word, f"[]{kind.scalar}", shown_plainly(value))
        if kind.scalar in (Scalar.UUID, Scalar.DATETIME):
            return Compare(name, op, tuple([as_stored(kind.scalar, v) for v in value]))
        return Compare(name, op, tuple(value))
    if not is_operand(kind.scalar, value):
        raise TypeMismatch(path, name, word, str(kind.scalar), shown_plainly(value))
    return Compare(name, op, as_stored(kind.scalar, value))


def _range_from_null(name: str, op: Op) -> Filter:
    """What compares so with null, which is before every value."""
    match op:
        case Op.LT:
            return Or(())
        case Op.LTE:
            return Compare(name, Op.EQ, None)
        case Op.GT:
            return Compare(name, Op.NE, None)
        case _:
            return And(())


def _checked_pattern(condition: Glob | Regex | Fuzzy, schema: Schema) -> Filter:
    name, path = condition.field, condition.path
    attribute = _attribute(name, schema, path)
    match condition:
        case Glob():
            word = "IGlob" if condition.ignores_case else "Glob"
            _check_texts(name, attribute.type, word, path)
            if not attribute.glob:
                _check_filterable(name, attribute, path)
            text = condition.pattern
        case Regex():
            _check_switched_on(name, attribute, "regex", "Regex", path)
            text = condition.pattern
        case Fuzzy():
            _check_switched_on(name, attribute, "fuzzy", "Fuzzy", path)
            text = condition.text
    _check_text(name, text, path)
    if len(text) > PATTERN_CHARS_MAX:
        raise _refused(
            name, path, f"the pattern has {len(text)} characters, at most {PATTERN_CHARS_MAX} are allowed"
        )
    try:
        if isinstance(condition, Glob):
            check_expression(glob_expression(text, ignores_case=condition.ignores_case))
        elif isinstance(condition, Regex):
            check_expression(text)
    except ValueError as error:
        raise _refused(name, path, f"invalid pattern '{shown_plainly(text)}': {error}") from error
    return replace(condition, path=_NO_PATH)


def _checked_tokens(condition: Tokens, schema: Schema) -> Tokens:
    name, path = condition.field, condition.path
    attribute = _attribute(name, schema, path)
    if attribute.full_text is None:
        raise _refused(name, path, f"{_TOKEN_OPS[condition.mode]} needs full-text search")
    texts = (condition.query,) if isinstance(condition.query, str) else condition.query
    for text in texts:
        _check_text(name, text, path)
    if query_chars(condition.query) > TEXT_QUERY_CHARS_MAX:
        raise _refused(name, path, f"a text query may have {TEXT_QUERY_CHARS_MAX} characters at most")
    return replace(condition, path=_NO_PATH)


def _attribute(name: str, schema: Schema, path: str) -> Attribute:
    attribute = attribute_of(schema, name)
    if attribute is None:
        raise _refused(name, path, "attribute not found in the schema")
    return attribute


def _check_filterable(name: str, attribute: Attribute, path: str) -> None:
    if not attribute.filterable or attribute.type.scalar is Scalar.BYTES:
        raise _refused(name, path, "attribute isn't filterable")


def _check_switched_on(name: str, attribute: Attribute, option: str, word: str, path: str) -> None:
    _check_texts(name, attribute.type, word, path)
    if not getattr(attribute, option):
        raise _refused(name, path, f"{word} needs an attribute with `{option}: true`")


def _check_texts(name: str, kind: AttributeType, word: str, path: str) -> None:
    if kind.scalar not in (Scalar.STRING, Scalar.UNKNOWN):
        raise _refused(name, path, f"{word} needs string or []string, but the attribute is of type {kind}")


def _check_text(name: str, text: Any, path: str) -> None:
    if not is_operand(Scalar.STRING, text):
        raise _refused(name, path, "must be Unicode text without lone surrogates")


def _refused(name: str, path: str, reason: str) -> InvalidRequest:
    return InvalidRequest(path, f"filter error in key `{name}`: {reason}")
