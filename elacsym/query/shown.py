"""Which attributes an answer shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elacsym.query.ast import Query
from elacsym.types import Schema


@dataclass(frozen=True, slots=True)
class Shown:
    """Which attributes hits show: names of columns and of dense vectors."""

    columns: tuple[str, ...]
    vectors: tuple[str, ...]


def shown_by(query: Query, schema: Schema) -> Shown:
    """The attributes that a query asks for."""
    return shown(
        schema,
        query.include_attributes,
        include_vector=query.include_vector,
        exclude_attributes=query.exclude_attributes,
    )


def shown(
    schema: Schema,
    include_attributes: Sequence[str] | None,
    *,
    include_vector: bool,
    exclude_attributes: Sequence[str] = (),
) -> Shown:
    """The attributes asked for: all but vectors of any kind when no names are given; vectors when named or
    wanted in general. None of those that are excluded."""
    excluded = frozenset(exclude_attributes)
    named = None if include_attributes is None else frozenset(include_attributes)
    types = {
        name: attribute.type
        for name, attribute in schema.attributes.items()
        if name not in excluded
        and (
            (named is not None and name in named)
            or (named is None and attribute.type.is_plain)
            or (include_vector and not attribute.type.is_plain)
        )
    }
    return Shown(
        tuple(name for name, type_ in types.items() if not type_.is_vector),
        tuple(name for name, type_ in types.items() if type_.is_vector),
    )
