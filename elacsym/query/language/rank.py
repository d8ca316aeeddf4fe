"""What a query is ranked by, in JSON, to the values of `elacsym.query.ast`.

rank_by = [attr, "ANN" | "kNN", vector | [vector…]]       a vector: numbers, or base64
        | [attr, "SparseKNN", {dimension: weight…}]
        | [attr, "asc" | "desc"] | [[attr, "asc" | "desc"]…]
        | score                                           see `elacsym.query.language.score`
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import (
    ORDER_KEYS_MAX,
    Leg,
    MultiVectorLeg,
    OrderKey,
    ScoreLeg,
    SparseLeg,
    VectorLeg,
)
from elacsym.query.language.score import parse_score
from elacsym.query.language.vector import decode, decode_several
from elacsym.shapes import expect, number
from elacsym.types import ID

_DIRECTIONS = ("asc", "desc")


@dataclass(frozen=True, slots=True)
class RankBy:
    """How rows are ranked: by one leg, or by attributes. exact: whether the leg must not approximate."""

    legs: tuple[Leg, ...] = ()
    order_by: tuple[OrderKey, ...] = ()
    exact: bool = False


LOOKUP = RankBy(order_by=(OrderKey(ID),))
"""The order of a query that names none."""


def parse_rank_by(value: Any, path: str = "rank_by", *, has_filter: bool) -> RankBy:
    """The ranking of a JSON value. has_filter: whether the query has a filter, which kNN must.

    Raises InvalidShape, InvalidRequest.
    """
    parts = expect(value, list, path)
    match parts:
        case []:
            raise InvalidRequest(path, "is empty; name what to rank by, or leave it out")
        case [list(), *_]:
            return RankBy(order_by=_order(parts, path))
        case [str(), "asc" | "desc"]:
            return RankBy(order_by=(_key(parts, path),))
        case [str() as name, "ANN" | "kNN" as word, *rest]:
            leg = _vector_leg(name, _only(rest, word, path), path)
            if word == "kNN" and not has_filter:
                raise InvalidRequest(path, "kNN requires filters")
            return RankBy(legs=(leg,), exact=word == "kNN")
        case [str() as name, "SparseKNN", *rest]:
            return RankBy(legs=(_sparse_leg(name, _only(rest, "SparseKNN", path), path),))
    return RankBy(legs=(ScoreLeg(parse_score(parts, path)),))


def _only(rest: list[Any], word: str, path: str) -> Any:
    if len(rest) != 1:
        raise InvalidShape(path, f"{2 + len(rest)} elements where {word} has 3")
    return rest[0]


def _order(pairs: list[Any], path: str) -> tuple[OrderKey, ...]:
    keys = tuple(_key(pair, f"{path}[{index}]") for index, pair in enumerate(pairs))
    if len(keys) > ORDER_KEYS_MAX:
        raise InvalidRequest(path, f"has {len(keys)} keys, at most {ORDER_KEYS_MAX} are allowed")
    return keys


def _key(pair: Any, path: str) -> OrderKey:
    match pair:
        case [str() as name, "asc" | "desc" as direction]:
            return OrderKey(name, direction == "desc", path)
    raise InvalidShape(path, 'an attribute with its direction is expected, as in ["year", "desc"]')


def _vector_leg(name: str, query: Any, path: str) -> VectorLeg | MultiVectorLeg:
    match query:
        case ["Embed", *_]:
            raise _no_embedding(query, f"{path}[2]")
        case [list() | str(), *_]:
            return MultiVectorLeg(name, decode_several(query, f"{path}[2]"), path=path)
    return VectorLeg(name, decode(query, f"{path}[2]"), path=path)


def _no_embedding(query: list[Any], path: str) -> InvalidRequest:
    """The refusal of ["Embed", text] and ["Embed", text, {"model": …}]."""
    match query:
        case [_, str()]:
            return InvalidRequest(path, "no embedding model is available on this server")
        case [_, str(), {"model": str() as model}]:
            return InvalidRequest(path, f"embedding model '{model}' is not available on this server")
    return InvalidShape(path, 'Embed takes a text and, optionally, {"model": name}')


def _sparse_leg(name: str, query: Any, path: str) -> SparseLeg:
    weights = expect(query, dict, f"{path}[2]")
    vector = tuple((dimension, number(w, f"{path}[2].{dimension}")) for dimension, w in weights.items())
    for dimension, weight in vector:
        if not math.isfinite(weight):
            raise InvalidRequest(f"{path}[2].{dimension}", f"must be finite, not {weight}")
    return SparseLeg(name, vector, path=path)
