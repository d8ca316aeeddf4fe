"""Attribute values as JSON shows them, by the types of a schema."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from elacsym.index.values import render_datetime
from elacsym.query.ast import Hit
from elacsym.types import AttributeType, Scalar, Schema

Render = Callable[[Any], Any]

# beyond this many values, rendering an answer is longer than a hop to the pool; a row is some values in any
# case, and so many characters of a text are as much work as a number
_INLINE_VALUES_MAX = 4_096
_ROW_VALUES = 8
_TEXT_CHARACTERS = 32


def is_small(hits: Sequence[Hit]) -> bool:
    """Whether rendering these rows is shorter than a hop to the pool."""
    values = _ROW_VALUES * len(hits)
    for hit in hits:
        if values > _INLINE_VALUES_MAX:
            return False
        for value in hit.attributes.values():
            if type(value) is str or type(value) is bytes:
                values += len(value) // _TEXT_CHARACTERS
            elif type(value) is np.ndarray:
                values += value.size
            elif type(value) is list:
                values += sum(1 + len(v) // _TEXT_CHARACTERS if type(v) is str else 1 for v in value)
            elif type(value) is dict:
                values += len(value)
    return values <= _INLINE_VALUES_MAX


def renderers(schema: Schema, *, vectors_as_base64: bool = False) -> dict[str, Render]:
    """How values are shown, by attribute: those that are not shown as they are."""
    found = {
        name: renderer(attribute.type, vectors_as_base64=vectors_as_base64)
        for name, attribute in schema.attributes.items()
    }
    return {name: render for name, render in found.items() if render is not None}


def renderer(type_: AttributeType, *, vectors_as_base64: bool = False) -> Render | None:
    """How values of a type are shown; None: as they are, or as all JSON shows them."""
    if type_.scalar is Scalar.DATETIME:
        return _datetimes if type_.is_array else render_datetime
    if type_.is_plain:
        return None
    if not vectors_as_base64 or type_.is_sparse:
        return None
    return (lambda matrix: [_base64(vector) for vector in matrix]) if type_.is_multivector else _base64


def rendered(attributes: Mapping[str, Any], renders: Mapping[str, Render]) -> Mapping[str, Any]:
    """The attributes of a row as they are shown."""
    if renders.keys().isdisjoint(attributes):
        return attributes
    return {name: renders[name](value) if name in renders else value for name, value in attributes.items()}


def as_shown(hits: Sequence[Hit], schema: Schema) -> Sequence[Hit]:
    """The hits, with their attributes as they are shown."""
    renders = renderers(schema)
    if not renders:
        return hits
    return [hit._replace(attributes=dict(rendered(hit.attributes, renders))) for hit in hits]


def _datetimes(values: Sequence[int]) -> list[str]:
    return [render_datetime(value) for value in values]


def _base64(vector: Any) -> str:
    return binascii.b2a_base64(np.asarray(vector, "<f4").tobytes(), newline=False).decode()
