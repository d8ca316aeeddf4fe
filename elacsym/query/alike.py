"""Queries that are alike: they differ only in what their only leg looks for, and are answered together."""

from __future__ import annotations

from collections.abc import Sequence

from elacsym.query.ast import Leg, Query, TextLeg, VectorLeg


def alike(queries: Sequence[Query]) -> list[list[int]]:
    """The places of queries in groups of which all are alike, in their order. Cost: some microseconds for a
    query and every group before its own."""
    groups: list[list[int]] = []
    for place, query in enumerate(queries):
        for group in groups:
            if are_alike(queries[group[0]], query):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def are_alike(a: Query, b: Query) -> bool:
    """Whether two queries differ in nothing but the vector or the text that they look for, and in how fresh
    the answer has to be."""
    return (
        len(a.legs) == len(b.legs) == 1
        and _looks_at(a.legs[0]) == _looks_at(b.legs[0]) is not None
        and _is_plain(a)
        and _is_plain(b)
        and a.top_k == b.top_k
        and a.offset == b.offset
        and a.exact == b.exact
        and a.include_attributes == b.include_attributes
        and a.exclude_attributes == b.exclude_attributes
        and a.include_vector == b.include_vector
        and a.filter == b.filter
    )


def _looks_at(leg: Leg) -> tuple[str, ...] | None:
    """The attributes of a leg; None for one that is searched by itself."""
    match leg:
        case VectorLeg():
            return ("vector", leg.attribute)
        case TextLeg():
            return ("text", *(name for name, _ in leg.fields))
        case _:
            return None


def _is_plain(query: Query) -> bool:
    return not (query.explain or query.compute or query.aggregate or query.per)
