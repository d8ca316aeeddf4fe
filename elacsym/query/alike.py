"""Queries that are alike: they differ only in what their only leg looks for, and texts in the filter, too.
They are answered together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from elacsym.query.ast import Query, TextLeg, VectorLeg
from elacsym.query.cost import is_small


def alike(queries: Sequence[Query]) -> list[list[int]]:
    """The places of queries in groups of which all are alike, in the order of the first of each."""
    groups: dict[Hashable, list[int]] = {}
    for place, query in enumerate(queries):
        likeness = _likeness(query)
        groups.setdefault(place if likeness is None else likeness, []).append(place)
    return list(groups.values())


def _likeness(query: Query) -> tuple[Hashable, ...] | None:
    """What queries that are alike share: everything but the vector or the text that they look for, how fresh
    the answer has to be, and the filter if they look for texts, as an index takes several vectors at once,
    but one filter. None for a query that is like no other: of any other kind, with figures of its own, or
    too large to be compared."""
    if len(query.legs) != 1 or query.explain or query.compute or query.aggregate or query.per:
        return None
    match query.legs[0]:
        case VectorLeg(attribute=attribute):
            looks_at: tuple[Hashable, ...] = ("vector", attribute, query.filter)
        case TextLeg(fields=fields):
            looks_at = ("text", *(name for name, _ in fields))
        case _:
            return None
    if not is_small(query):
        return None
    return (
        looks_at,
        query.top_k,
        query.offset,
        query.exact,
        query.include_attributes,
        query.exclude_attributes,
        query.include_vector,
    )
