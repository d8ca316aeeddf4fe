"""Queries that are alike: they differ only in what their only leg looks for, and texts in the filter, too.
They are answered together."""

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
    """Whether two queries are plain and differ in nothing but the vector or the text that they look for, in
    how fresh the answer has to be, and in the filter if they look for texts: an index takes several vectors
    at once, but one filter."""
    return (
        is_plain(a)
        and is_plain(b)
        and _looks_at(a.legs[0]) == _looks_at(b.legs[0])
        and a.top_k == b.top_k
        and a.offset == b.offset
        and a.exact == b.exact
        and a.include_attributes == b.include_attributes
        and a.exclude_attributes == b.exclude_attributes
        and a.include_vector == b.include_vector
        and (isinstance(a.legs[0], TextLeg) or a.filter == b.filter)
    )


def is_plain(query: Query) -> bool:
    """Whether a query has a single leg, of a vector or of texts, and asks for nothing but its hits."""
    return (
        len(query.legs) == 1
        and isinstance(query.legs[0], VectorLeg | TextLeg)
        and not (query.explain or query.compute or query.aggregate or query.per)
    )


def _looks_at(leg: Leg) -> tuple[str, ...]:
    """The kind and the attributes of a plain query's leg."""
    match leg:
        case VectorLeg():
            return ("vector", leg.attribute)
        case TextLeg():
            return ("text", *(name for name, _ in leg.fields))
        case _:
            raise AssertionError("not plain")
