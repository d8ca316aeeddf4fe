"""The schema as the v1 API writes it: decoded from a create request, shown by the namespace's information."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.index.tokenize import check_full_text
from elacsym.server.decode_query import one_of
from elacsym.server.shapes import Fields
from elacsym.types import (
    DIMENSIONS_MAX,
    ID,
    VECTOR,
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
_TYPE_NAMES = {type_: name for name, type_ in TYPES.items()}
_FLAGS = ("stemming", "remove_stopwords", "case_sensitive", "ascii_folding")
_NUMBERS = ("k1", "b", "k3")


def decode(body: Any) -> Schema:
    """The schema of a create request. Raises InvalidShape, InvalidRequest."""
    outer = Fields(body)
    fields = Fields(outer.require("schema", dict), "schema")
    outer.end()
    dimensions, metric = fields.optional("vector_dim", int), fields.take("vector_metric")
    declared = fields.optional("attributes", dict, {})
    fields.end()
    attributes: dict[str, Attribute] = {}
    if dimensions is not None:
        if not 1 <= dimensions <= DIMENSIONS_MAX:
            raise InvalidRequest(
                "schema.vector_dim", f"{dimensions} dimensions where 1 to {DIMENSIONS_MAX} are allowed"
            )
        attributes[VECTOR] = Attribute(AttributeType(Scalar.F32, dimensions=dimensions), filterable=False)
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
    if word not in TYPES:
        raise InvalidShape(fields.path(name), f"{word!r} where one of {', '.join(TYPES)} is expected")
    type_, is_indexed = TYPES[word], fields.optional("indexed", bool, True)
    full_text = _full_text(fields.take("full_text"), fields.path("full_text"))
    fields.end()
    if full_text is not None and type_.scalar is not Scalar.STRING:
        raise InvalidRequest(f"{path}.full_text", f"full text needs string or array<string>, not {word}")
    return Attribute(type_, is_indexed, full_text)


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
        shown["vector_dim"] = vector.type.dimensions
    if schema.metric is not None:
        shown["vector_metric"] = str(schema.metric)
    shown["attributes"] = {
        name: {
            "type": _TYPE_NAMES.get(a.type, str(a.type)),
            "indexed": a.filterable,
            "full_text": False if a.full_text is None else _shown(a.full_text),
        }
        for name, a in schema.attributes.items()
        if name != VECTOR
    }
    return shown


def _shown(settings: FullText) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in FullText.__dataclass_fields__}
