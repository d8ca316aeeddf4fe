"""How schemas grow: attributes are added, nothing that exists changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from elacsym.errors import InvalidRequest
from elacsym.types import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTES_MAX,
    ID,
    VECTOR_ATTRIBUTES_MAX,
    Attribute,
    IdType,
    Metric,
    Schema,
)

_DEFAULT_METRIC = Metric.COSINE


def merged(schema: Schema, added: Mapping[str, Attribute], *, id_type: IdType | None) -> Schema:
    """`schema` with inferred attributes added; the same object when nothing changes. Raises InvalidRequest on
    a conflict."""
    new = dict(schema.attributes)
    for name, attribute in added.items():
        known = new.setdefault(name, attribute)
        type_ = known.type.joined(attribute.type)
        if type_ is None:
            raise InvalidRequest(name, f"cannot change attribute type from {known.type} to {attribute.type}")
        if type_ != known.type:
            new[name] = replace(known, type=type_)
    if schema.id_type and id_type and schema.id_type != id_type:
        raise InvalidRequest("id", f"{id_type} ids where the namespace has {schema.id_type} ids")
    return _checked(schema, new, schema.id_type or id_type, schema.metric)


def extended(schema: Schema, declared: Schema) -> Schema:
    """`schema` with the attributes of a declaration; the same object when it says nothing new.

    Raises InvalidRequest where the declaration disagrees with what is there.
    """
    new = dict(schema.attributes)
    for name, attribute in declared.attributes.items():
        field = f"schema.attributes.{name}"
        check_name(name, field)
        known = new.setdefault(name, attribute)
        type_ = known.type.joined(attribute.type)
        if type_ is None:
            raise InvalidRequest(field, f"cannot change attribute type from {known.type} to {attribute.type}")
        if type_ != known.type:
            new[name] = known = replace(known, type=type_)
        if known != replace(attribute, type=type_):
            raise InvalidRequest(field, "the attribute exists with other options, which cannot be changed")
    if declared.metric and schema.metric and declared.metric != schema.metric:
        raise InvalidRequest(
            "schema.vector_metric", f"{declared.metric} where the namespace has {schema.metric}"
        )
    if declared.id_type and schema.id_type and declared.id_type != schema.id_type:
        raise InvalidRequest("schema.id", f"{declared.id_type} where the namespace has {schema.id_type}")
    return _checked(schema, new, schema.id_type or declared.id_type, schema.metric or declared.metric)


def _checked(
    schema: Schema, new: dict[str, Attribute], id_type: IdType | None, metric: Metric | None
) -> Schema:
    if len(new) > ATTRIBUTES_MAX:
        raise InvalidRequest("attributes", f"{len(new)} attributes where {ATTRIBUTES_MAX} are allowed")
    vectors = sum(attribute.type.dimensions is not None for attribute in new.values())
    if vectors > VECTOR_ATTRIBUTES_MAX:
        raise InvalidRequest(
            "attributes", f"{vectors} vector attributes where {VECTOR_ATTRIBUTES_MAX} are allowed"
        )
    if metric is None and vectors:
        metric = _DEFAULT_METRIC
    if new == schema.attributes and id_type == schema.id_type and metric == schema.metric:
        return schema
    return replace(schema, id_type=id_type, metric=metric, attributes=MappingProxyType(new))


def check_name(name: str, field: str) -> None:
    """Raise InvalidRequest unless `name` may name an attribute."""
    check_text(name, field)
    size = len(name.encode())
    if not 1 <= size <= ATTRIBUTE_NAME_BYTES_MAX:
        raise InvalidRequest(
            field, f"an attribute name of {size} bytes where 1 to {ATTRIBUTE_NAME_BYTES_MAX} are allowed"
        )
    if name.startswith("$") or name == ID:
        raise InvalidRequest(field, f"{name!r} is reserved")


def check_text(value: str, field: str) -> None:
    """Raise InvalidRequest if `value` cannot be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(field, "a lone surrogate is no text") from error
