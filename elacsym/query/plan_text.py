"""A query's explanation as text to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def plan_text(plan: Mapping[str, Any]) -> str:
    """The explanation of a query (`QueryResult.plan`): a fact a line, indented by what it is part of."""
    return "\n".join(_lines(plan, 0))


def _lines(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    for name, inner in value.items():
        label = "  " * depth + name.replace("_", " ")
        if isinstance(inner, Mapping):
            yield f"{label}:"
            yield from _lines(inner, depth + 1)
        elif isinstance(inner, list | tuple) and any(isinstance(one, Mapping) for one in inner):
            for number, one in enumerate(inner, 1):
                yield f"{label} {number}:"
                yield from _lines(one, depth + 1)
        else:
            yield f"{label}: {_shown(inner)}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(map(_shown, value)) or "none"
    return str(value)
