"""Filters in JSON to the values of `elacsym.query.ast`.

    filter = ["And", [filter…]] | ["Or", [filter…]] | ["Not", filter]
           | [attr, op, value] | [attr, op, value, options]

An attribute may be called like an operator: what has two elements is a combination, what has three or four a
condition, as in ["And", "Eq", 1].

Null sorts before every value here, so `Lt` and `Lte` match it: that is said in the result by a test for null
beside the comparison. In the condition of a write an operand may be `{"$ref_new": attr}`; `bound` puts the
values of a document in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from elacsym.errors import InvalidRequest, InvalidShape, TypeMismatch
from elacsym.query.ast import (
    FILTER_CONDITIONS_MAX,
    FILTER_DEPTH_MAX,
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
from elacsym.query.check_filter import OP_NAMES
from elacsym.query.operands import shown_plainly
from elacsym.shapes import Fields, expect, kind, typed_kind, variant

DISTANCE_MAX = 2
_REF = "$ref_new"
_COMPARISONS = {name: op for op, name in OP_NAMES.items()}
_SCALAR_LISTS = (Op.IN, Op.NOT_IN)
_LISTS = (*_SCALAR_LISTS, Op.CONTAINS_ANY, Op.NOT_CONTAINS_ANY)
_OF_NULL = (Op.EQ, Op.NE, Op.LT, Op.LTE, Op.GT, Op.GTE)
_NEGATIVE = (Op.NOT_IN, Op.NOT_CONTAINS, Op.NOT_CONTAINS_ANY)
_TOKENS: dict[str, Literal["all", "any", "sequence"]] = {
    "ContainsAllTokens": "all",
    "ContainsAnyToken": "any",
    "ContainsTokenSequence": "sequence",
}
_FAMILIES = {bool: "bool", int: "number", float: "number", str: "string"}


def parse_filter(value: Any, path: str, *, allows_ref: bool = False) -> Filter:
    """The filter of a JSON value. allows_ref: whether it is the condition of a write.

    Raises InvalidShape (a wrong number of elements, an operand of a wrong JSON type), InvalidRequest.
    """
    return _Parser(path, allows_ref).parsed(value, path, 0)


def bound(condition: Filter, values: Mapping[str, Any]) -> Filter:
    """A condition with the values that a write brings for one document in the place of `RefNew`.

    values: as documents bring them. What is not there is null; `Contains`, `In` and the like of null hold for
    no document, and their negations for all. The result has still to be checked.
    """
    match condition:
        case Compare(value=RefNew(attribute=name)):
            return _with_nulls(replace(condition, value=values.get(name)))
        case Not():
            return Not(bound(condition.condition, values))
        case And() | Or():
            return type(condition)(tuple([bound(c, values) for c in condition.conditions]))
        case _:
            return condition


def _with_nulls(condition: Compare) -> Filter:
    """A comparison with the rules of null that the language has, and a scalar as a list where one is due."""
    name, op, path = condition.field, condition.op, condition.path
    is_null = Compare(name, Op.EQ, None, path)
    if condition.value is not None:
        if op in _SCALAR_LISTS and not isinstance(condition.value, list | tuple):
            return replace(condition, value=[condition.value])
        return Or((condition, is_null)) if op in (Op.LT, Op.LTE) else condition
    if op in _OF_NULL:
        return condition
    has_value = Compare(name, Op.NE, None, path)
    return (Or if op in _NEGATIVE else And)((is_null, has_value))


class _Parser:
    """root: the JSON path of the whole filter."""

    def __init__(self, root: str, allows_ref: bool) -> None:
        self._root, self._allows_ref, self._count = root, allows_ref, 0
        self._patterns: dict[str, Callable[[str, str, Any, str], Filter]] = {
            "Glob": lambda name, word, text, path: Glob(name, _text(name, word, text, path), path=path),
            "IGlob": lambda name, word, text, path: Glob(name, _text(name, word, text, path), True, path),
            "Regex": lambda name, word, text, path: Regex(name, _text(name, word, text, path), path),
        }

    def parsed(self, value: Any, path: str, depth: int) -> Filter:
        if depth > FILTER_DEPTH_MAX:
            raise InvalidRequest(self._root, f"conditions are nested deeper than {FILTER_DEPTH_MAX} levels")
        self._count += 1
        if self._count > FILTER_CONDITIONS_MAX:
            raise InvalidRequest(self._root, f"has more than {FILTER_CONDITIONS_MAX} conditions")
        parts = expect(value, list, path)
        match parts:
            case ["And" | "Or" as word, conditions]:
                inner = f"{path}[1]"
                given = expect(conditions, list, inner)
                found = tuple([self.parsed(c, f"{inner}[{i}]", depth + 1) for i, c in enumerate(given)])
                return And(found) if word == "And" else Or(found)
            case ["Not", condition]:
                return Not(self.parsed(condition, f"{path}[1]", depth + 1))
        if not 3 <= len(parts) <= 4:
            reason = f"{len(parts)} elements where a filter has an attribute, an operator and a value"
            raise InvalidShape(
                path, reason, typed=f"{path}: invalid length {len(parts)}, expected a filter with 3 elements"
            )
        name, word = expect(parts[0], str, f"{path}[0]"), expect(parts[1], str, f"{path}[1]")
        return self._condition(name, word, parts[2:], path)

    def _condition(self, name: str, word: str, rest: list[Any], path: str) -> Filter:
        if word == "Fuzzy":
            return _fuzzy(name, rest, path)
        if word in ("ContainsAllTokens", "ContainsAnyToken"):
            return _tokens(name, word, rest, path)
        known = (*_COMPARISONS, *self._patterns, "NotGlob", "NotIGlob", "Fuzzy", *_TOKENS)
        variant(word, known, f"{path}[1]")
        if len(rest) > 1:
            raise InvalidRequest(f"{path}[3]", f"{word} has no options")
        if word in _TOKENS:
            return _tokens(name, word, rest, path)
        if word in _COMPARISONS:
            return self._comparison(name, _COMPARISONS[word], rest[0], path)
        pattern = self._patterns[word.removeprefix("Not")](name, word, rest[0], path)
        return Not(pattern) if word.startswith("Not") else pattern

    def _comparison(self, name: str, op: Op, value: Any, path: str) -> Filter:
        if type(value) is dict and self._allows_ref:
            fields = Fields(value, f"{path}[2]")
            reference = RefNew(fields.require(_REF, str))
            fields.end()
            # what null means is settled when the value is known
            return Compare(name, op, reference, path)
        if type(value) is list:
            _check_elements(value, f"{path}[2]")
        elif type(value) is dict or (value is None and op in _LISTS):
            raise InvalidShape(
                f"{path}[2]",
                f"{kind(value)} where a value or an array of values is expected",
                typed=f"{path}[2]: invalid type: {typed_kind(value)}, expected a value",
            )
        comparison = Compare(name, op, value, path)
        # null where an element is expected is refused where its type is known
        return comparison if value is None and op not in _OF_NULL else _with_nulls(comparison)


def _check_elements(values: list[Any], path: str) -> None:
    """Raises InvalidShape unless all are scalars of one type."""
    kinds = set(map(type, values))
    if not kinds <= _FAMILIES.keys():
        place = next(i for i, v in enumerate(values) if type(v) not in _FAMILIES)
        raise InvalidShape(
            f"{path}[{place}]",
            f"{kind(values[place])} where a scalar is expected",
            typed=f"{path}[{place}]: invalid type: {typed_kind(values[place])}, expected a value",
        )
    families = {_FAMILIES[found] for found in kinds}
    if len(families) > 1:
        raise InvalidShape(path, f"values of several types: {', '.join(sorted(families))}")


def _text(name: str, word: str, value: Any, path: str) -> str:
    if type(value) is not str:
        raise TypeMismatch(path, name, word, "string", shown_plainly(value))
    return value


def _tokens(name: str, word: str, rest: list[Any], path: str) -> Tokens:
    query, is_prefix = rest[0], False
    if len(rest) > 1:
        options = Fields(rest[1], f"{path}[3]")
        is_prefix = options.optional("last_as_prefix", bool, False)
        options.end()
    if type(query) is list:
        _check_elements(query, f"{path}[2]")
        query = tuple(query)
    texts = query if type(query) is tuple else (query,)
    if not all(type(text) is str for text in texts):
        raise TypeMismatch(path, name, word, "string or []string", shown_plainly(query))
    return Tokens(name, query, _TOKENS[word], is_prefix, path)


def _fuzzy(name: str, rest: list[Any], path: str) -> Fuzzy:
    text, inner = _text(name, "Fuzzy", rest[0], path), f"{path}[3]"
    if len(rest) == 1:
        raise InvalidRequest(inner, "Fuzzy needs options with max_edit_distance")
    options = Fields(rest[1], inner)
    given = options.require("max_edit_distance", list)
    is_case_sensitive = options.optional("case_sensitive", bool, True)
    options.end()
    inner = f"{inner}.max_edit_distance"
    if not given:
        raise InvalidRequest(inner, "needs at least one threshold")
    thresholds = tuple([_threshold(Fields(one, f"{inner}[{i}]")) for i, one in enumerate(given)])
    return Fuzzy(name, text, thresholds, is_case_sensitive, path)


def _threshold(fields: Fields) -> tuple[int, int]:
    length, distance = fields.require("min_query_chars", int), fields.require("distance", int)
    fields.end()
    if not 0 <= distance <= DISTANCE_MAX:
        raise InvalidRequest(fields.path("distance"), f"must be 0 to {DISTANCE_MAX}, not {distance}")
    if length < 3 * (distance + 1):
        reason = f"must be at least {3 * (distance + 1)} for a distance of {distance}, not {length}"
        raise InvalidRequest(fields.path("min_query_chars"), reason)
    return length, distance
