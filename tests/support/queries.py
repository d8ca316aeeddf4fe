"""Queries that several folders of tests ask."""

from __future__ import annotations

from collections.abc import Sequence

from elacsym.query.ast import Aggregate, Figure, GroupKey


def aggregate_of(
    *, count: bool = True, sums: Sequence[str] = (), group_by: Sequence[str] = (), each: str | None = None
) -> Aggregate:
    """An aggregation; labels are `count`, `sum x` for an attribute x, and the names of what is grouped by.
    each: which of these is taken element by element."""
    figures = [Figure("count", "count")] if count else []
    keys = [GroupKey(name, name, name == each) for name in group_by]
    return Aggregate((*figures, *(Figure(f"sum {name}", "sum", name) for name in sums)), tuple(keys))
