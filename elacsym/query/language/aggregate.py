"""Aggregations as JSON: `{"n": ["Count"], "kg": ["Sum", "weight"]}`, grouped by names and by elements."""

from __future__ import annotations

from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import GROUPS_MAX, Aggregate, Figure, GroupKey
from elacsym.shapes import expect, wrong_type
from elacsym.types import ID


def parse_aggregate(aggregate_by: Any, group_by: Any, groups_max: int | None) -> Aggregate:
    """The aggregation of the fields of these names; null is no `group_by`, None no limit.

    Raises InvalidShape, InvalidRequest.
    """
    path = "aggregate_by"
    figures = tuple(
        _figure(label, value, f"{path}.{label}") for label, value in expect(aggregate_by, dict, path).items()
    )
    given = [] if group_by is None else expect(group_by, list, "group_by")
    keys = tuple(_group_key(value, f"group_by[{index}]") for index, value in enumerate(given))
    if not figures:
        raise InvalidRequest(path, "at least one aggregation is needed")
    if groups_max is None:
        return Aggregate(figures, keys)
    if not keys:
        raise InvalidRequest("top_k", "limits groups, but there is no group_by")
    if not 0 <= groups_max <= GROUPS_MAX:
        raise InvalidRequest("top_k", f"{groups_max} groups where 0 to {GROUPS_MAX} are allowed")
    return Aggregate(figures, keys, groups_max)


def _figure(label: str, value: Any, path: str) -> Figure:
    parts = expect(value, list, path)
    name = expect(parts[0], str, f"{path}[0]") if parts else None
    if name == "Count" and len(parts) <= 2:
        # an older spelling names the id, which every document has
        if len(parts) == 2 and expect(parts[1], str, f"{path}[1]") != ID:
            raise InvalidRequest(path, f"Count counts documents; it takes no attribute but '{ID}'")
        return Figure(label, "count", path=path)
    if name == "Sum" and len(parts) == 2:
        return Figure(label, "sum", expect(parts[1], str, f"{path}[1]"), path)
    raise InvalidShape(path, 'an aggregation is ["Count"] or ["Sum", attribute]')


def _group_key(value: Any, path: str) -> GroupKey:
    if type(value) is str:
        return GroupKey(value, value, path=path)
    if type(value) is not dict:
        raise wrong_type(value, str, path)
    if len(value) != 1:
        raise InvalidShape(path, 'one label is expected, as in {"tag": ["ForEachUnique", "tags"]}')
    ((label, parts),) = value.items()
    path = f"{path}.{label}"
    if type(parts) is not list or len(parts) != 2 or parts[0] != "ForEachUnique":
        raise InvalidShape(path, 'a grouping by elements is ["ForEachUnique", attribute]')
    return GroupKey(label, expect(parts[1], str, f"{path}[1]"), True, path)
