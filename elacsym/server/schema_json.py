"""The schema as the v1 API writes it: decoded from a create request, shown by the namespace's information."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.index.tokenize import check_full_text
from elacsym.server.decode_query import one_of
from elacsym.shapes import Fields
from elacsym.types import (
    DIMENSIONS_MAX,
    ID,
    VECTOR,
    VECTOR_SCALARS,
    Attribute,
    AttributeType,
    FullText,
    Metric,
    Scalar,
    Schema,
)

_SCALARS = {
    "string": Scalar.STRING,
    "integer": Scalar.INT,
    "unsigned": Scalar.UINT,
    "float": Scalar.FLOAT,
    "boolean": Scalar.BOOL,
}
TYPES = {name: AttributeType(scalar) for name, scalar in _SCALARS.items()} | {
    f"array<{name}>": AttributeType(scalar, is_array=True) for name, scalar in _SCALARS.items()
}
# vectors besides the one that `vector_dim` declares, as in [384]f16
VECTOR_TYPE_PATTERN = rf"\[([1-9][0-9]{{0,4}})\]({'|'.join(VECTOR_SCALARS)})"
_TYPE_NAMES = {type_: name for name, type_ in TYPES.items()}
_FLAGS = ("stemming", "remove_stopwords", "case_sensitive", "ascii_folding")
_NUMBERS = ("k1", "b", "k3")


def decode(body: Any) -> Schema:
    """The schema of a create request. Raises InvalidShape, InvalidRequest."""
    outer = Fields(body)
    fields = Fields(outer.require("schema", dict), "schema")
    outer.end()
    dimensions, metric = fields.optional("vector_dim", int), fields.take("vector_metric")
    element = fields.take("vector_type")
    declared = fields.optional("attributes", dict, {})
    fields.end()
    attributes: dict[str, Attribute] = {}
    if dimensions is not None:
        scalar = Scalar.F32 if element is None else _vector_scalar(element, "schema.vector_type")
        attributes[VECTOR] = _vector(scalar, dimensions, "schema.vector_dim")
    elif element is not None:
        raise InvalidRequest("schema.vector_type", "there is no vector_dim whose vector it could describe")
    for name, value in declared.items():
        path = f"schema.attributes.{name}"
        if name in (ID, VECTOR):
            raise InvalidRequest(path, f"{name!r} is reserved; vectors are declared by vector_dim")
        attributes[name] = _attribute(value, path)
    return Schema(
        metric=None if metric is None else one_of(Metric, metric, "schema.vector_metric"),
        attributes=MappingProxyType(attributes),
    )


def _attribute(value: Any, path: str) -> Attribute:
    fields = Fields(value, path)
    name = "attr_type" if fields.has("attr_type") and not fields.has("type") else "type"
    word = fields.require(name, str)
    is_indexed, full_text = fields.optional("indexed", bool), fields.take("full_text")
    fields.end()
    vector = re.fullmatch(VECTOR_TYPE_PATTERN, word)
    if vector is not None:
        if is_indexed or full_text:
            raise InvalidRequest(path, "a vector is searched as such; it has neither indexed nor full_text")
        return _vector(Scalar(vector[2]), int(vector[1]), fields.path(name))
    if word not in TYPES:
        expected = f"one of {', '.join(TYPES)}, or a vector as in [384]f32, [384]f16, [384]i8"
        raise InvalidShape(fields.path(name), f"{word!r} where {expected} is expected")
    type_, settings = TYPES[word], _full_text(full_text, fields.path("full_text"))
    if settings is not None and type_.scalar is not Scalar.STRING:
        raise InvalidRequest(f"{path}.full_text", f"full text needs string or array<string>, not {word}")
    return Attribute(type_, is_indexed is not False, settings)


def _vector(scalar: Scalar, dimensions: int, path: str) -> Attribute:
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise InvalidRequest(path, f"{dimensions} dimensions where 1 to {DIMENSIONS_MAX} are allowed")
    return Attribute(AttributeType(scalar, dimensions=dimensions), filterable=False)


def _vector_scalar(value: Any, path: str) -> Scalar:
    if value not in VECTOR_SCALARS:
        raise InvalidShape(path, f"{value!r} where one of {', '.join(VECTOR_SCALARS)} is expected")
    return Scalar(value)


def _full_text(value: Any, path: str) -> FullText | None:
    if value is None or value is False:
        return None
    if value is True:
        return FullText()
    fields = Fields(value, path)
    if fields.has("Simple"):
        is_on = fields.require("Simple", bool)
        fields.end()
        return FullText() if is_on else None
    given: dict[str, Any] = {name: fields.optional(name, str) for name in ("tokenizer", "language")}
    given |= {name: fields.optional(name, bool) for name in _FLAGS}
    given |= {name: fields.number(name) for name in _NUMBERS}
    given["max_token_length"] = fields.optional("max_token_length", int)
    fields.end()
    settings = FullText(**{name: v for name, v in given.items() if v is not None})
    check_full_text(settings, path)
    return settings


def encode(schema: Schema) -> dict[str, Any]:
    """The schema as `decode` reads it (inside `{"schema": …}`), with every default spelled out."""
    shown: dict[str, Any] = {}
    vector = schema.attributes.get(VECTOR)
    if vector is not None:
        shown |= {"vector_dim": vector.type.dimensions, "vector_type": str(vector.type.scalar)}
    if schema.metric is not None:
        shown["vector_metric"] = str(schema.metric)
    shown["attributes"] = {
        name: {"type": str(a.type)}
        if a.type not in _TYPE_NAMES
        else {
            "type": _TYPE_NAMES[a.type],
            "indexed": a.filterable,
            "full_text": False if a.full_text is None else _shown(a.full_text),
        }
        for name, a in schema.attributes.items()
        if name != VECTOR
    }
    return shown


def _shown(settings: FullText) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in FullText.__dataclass_fields__}
