"""Score expressions in JSON to the values of `elacsym.query.ast`.

    score = [attr, "BM25", text | [token…]]
          | [attr, "BM25", text | [token…], {"last_as_prefix": bool}]
          | ["Sum", [score…]]
          | ["Max", [score…]]            a number may be one of them: the floor
          | ["Max", number, score]       the same, spelled otherwise
          | ["Product", number, score] | ["Product", score, number]
          | ["Attribute", attr]
          | ["Saturate" | "Decay", score | distance, {"midpoint": m, "exponent"?: e}]
          | filter                       1 where it holds, else 0
    distance = ["Dist", ["Attribute", attr], origin]

An attribute may be called like an operator: the position decides, as in ["Sum", "BM25", "copper"].
"""

from __future__ import annotations

import math
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.index.values import parse_duration
from elacsym.query.ast import (
    FILTER_DEPTH_MAX,
    SCORE_CLAUSES_MAX,
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
from elacsym.query.language.filter import parse_filter
from elacsym.query.scores import clauses_in
from elacsym.shapes import Fields, expect, kind, number

_BM25 = "BM25"
_SEARCHES = ("ANN", "kNN", "SparseKNN")


def parse_score(value: Any, path: str) -> Score:
    """The score expression of a JSON value. Raises InvalidShape, InvalidRequest."""
    score = _parsed(value, path, 0)
    count = clauses_in(score)
    if count > SCORE_CLAUSES_MAX:
        raise InvalidRequest(path, f"has {count} clauses, at most {SCORE_CLAUSES_MAX} are allowed")
    return score


def parse_text_query(value: Any, path: str) -> str | tuple[str, ...]:
    """What BM25 looks for: a text, or an array of tokens. Raises InvalidShape."""
    if type(value) is str:
        return value
    if type(value) is list:
        return tuple(expect(token, str, f"{path}[{index}]") for index, token in enumerate(value))
    raise InvalidShape(path, f"{kind(value)} where a string or an array of strings is expected")


def _parsed(value: Any, path: str, depth: int) -> Score:
    if depth > FILTER_DEPTH_MAX:
        raise InvalidRequest(path, f"expressions are nested deeper than {FILTER_DEPTH_MAX} levels")
    parts = _expression(value, path)
    match parts:
        case [str(), "BM25", *_]:
            return _bm25(parts, path)
        case [str(), str() as word, _, *_] if word in _SEARCHES:
            raise InvalidRequest(path, f"{word} cannot stand inside a score expression")
        case ["Sum", list() as clauses]:
            return _sum(clauses, path, depth)
        case ["Max", list() as clauses]:
            return _max(clauses, f"{path}[1]", depth)
        case ["Max", int() | float(), _] | ["Max", list(), int() | float()]:
            return _max(parts[1:], path, depth, first=1)
        case ["Product", _, _] if not isinstance(parts[1], str):
            return _product(parts, path, depth)
        case ["Attribute", str() as name]:
            return AttributeValue(name, path)
        case ["Saturate" | "Decay" as word, list(), *_]:
            return _curve(word, parts, path, depth)
        case ["Dist", list(), *_]:
            raise InvalidRequest(path, "Dist can only stand inside Saturate or Decay")
    return Indicator(parse_filter(value, path))


def _expression(value: Any, path: str) -> list[Any]:
    parts = expect(value, list, path)
    if not parts:
        raise InvalidShape(path, "an empty array where an expression is expected")
    expect(parts[0], str, f"{path}[0]")
    return parts


def _bm25(parts: list[Any], path: str) -> Bm25:
    if not 3 <= len(parts) <= 4:
        raise InvalidShape(path, f"{len(parts)} elements where BM25 has 3 or 4")
    query, is_prefix = parse_text_query(parts[2], f"{path}[2]"), False
    if len(parts) == 4:
        options = Fields(parts[3], f"{path}[3]")
        is_prefix = options.optional("last_as_prefix", bool, False)
        options.end()
    return Bm25(parts[0], query, is_prefix, path)


def _sum(clauses: list[Any], path: str, depth: int) -> Sum:
    for index, clause in enumerate(clauses):
        if _is_number(clause):
            raise InvalidRequest(f"{path}[1][{index}]", "a number cannot be a clause of Sum")
    if not clauses:
        raise InvalidRequest(f"{path}[1]", "needs at least one clause")
    return Sum(tuple(_parsed(c, f"{path}[1][{i}]", depth + 1) for i, c in enumerate(clauses)))


def _max(clauses: list[Any], path: str, depth: int, first: int = 0) -> Max:
    """first: the number that the first clause has in error messages."""
    floor: float | None = None
    scores: list[Score] = []
    for index, clause in enumerate(clauses, first):
        if not _is_number(clause):
            scores.append(_parsed(clause, f"{path}[{index}]", depth + 1))
            continue
        if floor is not None:
            raise InvalidRequest(f"{path}[{index}]", "a second number: Max has one floor at most")
        floor = _finite(clause, f"{path}[{index}]")
    if not scores:
        raise InvalidRequest(path, "needs at least one clause that is no number")
    return Max(tuple(scores), floor)


def _product(parts: list[Any], path: str, depth: int) -> Product:
    numbers = [index for index in (1, 2) if _is_number(parts[index])]
    if not numbers:
        raise InvalidShape(path, "Product needs a number and a score expression")
    if len(numbers) == 2:
        raise InvalidRequest(path, "Product needs a score expression beside its weight")
    at = numbers[0]
    weight = _finite(parts[at], f"{path}[{at}]")
    if weight < 0:
        raise InvalidRequest(f"{path}[{at}]", f"a weight must be at least 0, not {weight}")
    return Product(weight, _parsed(parts[3 - at], f"{path}[{3 - at}]", depth + 1))


def _curve(word: str, parts: list[Any], path: str, depth: int) -> Saturate | Decay:
    if len(parts) != 3:
        raise InvalidShape(path, f"{len(parts)} elements where {word} has 3")
    clause = _argument(parts[1], f"{path}[1]", depth)
    options = Fields(parts[2], f"{path}[2]")
    if not options.has("midpoint"):
        raise InvalidRequest(f"{path}[2]", f"{word} needs a midpoint")
    midpoint = _midpoint(options.take("midpoint"), options.path("midpoint"))
    exponent = options.number("exponent")
    options.end()
    exponent = 1.0 if exponent is None else _positive(exponent, f"{path}[2].exponent")
    make = Saturate if word == "Saturate" else Decay
    return make(clause, midpoint, exponent, path)


def _argument(value: Any, path: str, depth: int) -> Score | Distance:
    """What a curve is taken of."""
    match value:
        case ["Dist", list() as inner, *rest]:
            if len(rest) != 1:
                raise InvalidShape(path, f"{len(value)} elements where Dist has 3")
            if len(inner) != 2 or inner[0] != "Attribute" or type(inner[1]) is not str:
                raise InvalidShape(f"{path}[1]", 'Dist is taken of an attribute: ["Attribute", name]')
            origin = rest[0]
            if not (_is_number(origin) or type(origin) is str):
                raise InvalidShape(f"{path}[2]", f"{kind(origin)} where a number or a time is expected")
            return Distance(inner[1], origin, path)
    return _parsed(value, path, depth + 1)


def _midpoint(value: Any, path: str) -> float | Duration:
    if type(value) is str:
        try:
            milliseconds = parse_duration(value)
        except ValueError as error:
            raise InvalidRequest(path, str(error)) from error
        return Duration(_positive(milliseconds, path))
    return _positive(number(value, path), path)


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _finite(value: Any, path: str) -> float:
    if not math.isfinite(value):
        raise InvalidRequest(path, f"must be a finite number, not {value}")
    return float(value)


def _positive(value: float, path: str) -> float:
    if not 0 < value < math.inf:
        raise InvalidRequest(path, f"must be a finite number greater than 0, not {value}")
    return float(value)
