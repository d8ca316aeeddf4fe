"""How schemas change: attributes are added, get and lose options, and are dropped; their types stay.

A write's own words on the schema come first (`extended` as v1 has them, `changed` as v2 has them), then what
its documents add (`merged`), then `check_vectors` where every document must bring all vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from elacsym.engine.request import AttributeChange, OptionsChange, SchemaChange
from elacsym.errors import InvalidRequest, MetricConflict, SchemaConflict
from elacsym.index.tokenize import PRE_TOKENIZED, check_full_text
from elacsym.types import (
    ATTRIBUTE_NAME_BYTES_MAX,
    ATTRIBUTES_MAX,
    ID,
    VECTOR_ATTRIBUTES_MAX,
    Attribute,
    AttributeType,
    FullText,
    IdType,
    Metric,
    Options,
    Scalar,
    Schema,
)

_DEFAULT_METRIC = Metric.COSINE
# options of `Attribute` that let pattern filters look at it
_PATTERNS = ("regex", "glob", "fuzzy")


def merged(
    schema: Schema, added: Mapping[str, Attribute], *, id_type: IdType | None, defaults_metric: bool = True
) -> Schema:
    """`schema` with inferred attributes added; the same object when nothing changes.

    defaults_metric: the first vectors make the metric cosine where none was given. Raises InvalidRequest on a
    conflict.
    """
    new = dict(schema.attributes)
    for name, attribute in added.items():
        known = new.setdefault(name, stored_apart(schema, name, attribute))
        type_ = known.type.joined(attribute.type)
        if type_ is None:
            raise InvalidRequest(name, f"cannot change attribute type from {known.type} to {attribute.type}")
        if type_ != known.type:
            new[name] = replace(known, type=type_)
    if schema.id_type and id_type and schema.id_type != id_type:
        raise InvalidRequest("id", f"{id_type} ids where the namespace has {schema.id_type} ids")
    metric = schema.metric
    if metric is None and defaults_metric and _count_vectors(new):
        metric = _DEFAULT_METRIC
    return _settled(schema, new, id_type=schema.id_type or id_type, metric=metric)


def extended(schema: Schema, declared: Schema) -> Schema:
    """`schema` with the attributes of a declaration; the same object when it says nothing new.

    Raises InvalidRequest where the declaration disagrees with what is there.
    """
    new = dict(schema.attributes)
    for name, attribute in declared.attributes.items():
        field = f"schema.attributes.{name}"
        check_name(name, field)
        known = new.setdefault(name, stored_apart(schema, name, attribute))
        type_ = known.type.joined(attribute.type)
        if type_ is None:
            raise InvalidRequest(field, f"cannot change attribute type from {known.type} to {attribute.type}")
        if type_ != known.type:
            new[name] = known = replace(known, type=type_)
        if known != replace(attribute, type=type_, stored_as=known.stored_as):
            raise InvalidRequest(field, "the attribute exists with other options, which cannot be changed")
    if declared.metric and schema.metric and declared.metric != schema.metric:
        raise InvalidRequest(
            "schema.vector_metric", f"{declared.metric} where the namespace has {schema.metric}"
        )
    if declared.id_type and schema.id_type and declared.id_type != schema.id_type:
        raise InvalidRequest("schema.id", f"{declared.id_type} where the namespace has {schema.id_type}")
    metric = schema.metric or declared.metric
    if metric is None and _count_vectors(new):
        metric = _DEFAULT_METRIC
    return _settled(schema, new, id_type=schema.id_type or declared.id_type, metric=metric)


def changed(schema: Schema, change: SchemaChange) -> Schema:
    """`schema` after a change; the same object when it says nothing new.

    A new attribute is filterable unless it is said otherwise, it is a vector or bytes, or a search option is
    on. Of one that exists, options that are not named stay; its type never changes. Dropping what is not
    there changes nothing, as deleting an absent document does. A new attribute has storage of its own once
    anything was dropped, so that no old value is seen again.

    Raises SchemaConflict for another type, MetricConflict for another metric, InvalidRequest for options that
    do not fit the type or each other, vectors without a metric, limits, and in a read-only namespace.
    """
    if change.attributes or change.id_type or change.metric:
        check_writable(schema)
    new, drops = dict(schema.attributes), schema.drops
    for name, said in change.attributes.items():
        field = f"schema.{name}"
        if said is not None:
            check_name(name, field)
            known = new.get(name)
            new[name] = (
                stored_apart(schema, name, _created(said, field))
                if known is None
                else _updated(name, known, said, field)
            )
        elif name == ID:
            raise InvalidRequest(field, "ids cannot be dropped")
        elif new.pop(name, None) is not None:
            drops += 1
    if change.id_type and schema.id_type and change.id_type != schema.id_type:
        raise SchemaConflict(ID, schema.id_type, change.id_type)
    if change.metric and schema.metric and change.metric != schema.metric:
        raise MetricConflict(schema.metric, change.metric)
    metric = schema.metric or change.metric
    if metric is None and _count_vectors(new):
        raise _without_metric()
    after = replace(schema, options=_options(schema, change.options), drops=drops)
    after = _settled(after, new, id_type=schema.id_type or change.id_type, metric=metric)
    return schema if after == schema else after


def _options(schema: Schema, said: OptionsChange | None) -> Options:
    known = schema.options
    if said is None:
        return known
    given = {name: getattr(said, name) for name in OptionsChange.__dataclass_fields__}
    options = replace(known, **{name: value for name, value in given.items() if value is not None})
    if schema.id_type is not None and options.shards != known.shards:
        raise InvalidRequest(
            "sharding", f"{options.shards} shards where the namespace has {known.shards or 'none'}"
        )
    return options


def check_vectors(before: Schema, after: Schema, change: SchemaChange | None) -> None:
    """Raise InvalidRequest where a write under the rule that documents bring all vectors breaks one on the
    namespace's vectors. before, after: the schema without and with all that the write adds."""
    exists, had = before.id_type is not None, before.metric is not None
    if _count_vectors(after.attributes):
        if exists and not had and not _count_vectors(before.attributes):
            raise InvalidRequest("", "Vector provided for namespace without vector attribute")
        if after.metric is None:
            raise _without_metric()
    elif change is not None and change.metric and not had:
        raise InvalidRequest(
            "",
            "the `distance_metric` field cannot be provided, namespace configured without vector indexing",
        )


def check_writable(schema: Schema) -> None:
    """Raise InvalidRequest where the namespace is read-only."""
    if schema.options.read_only:
        raise InvalidRequest("", "Writes not permitted. This namespace is read-only.")


def stored_apart(schema: Schema, name: str, attribute: Attribute) -> Attribute:
    """A new attribute of this schema, with a storage name that no dropped attribute had."""
    # no attribute's own name begins with '$'
    return replace(attribute, stored_as=f"${schema.drops}.{name}") if schema.drops else attribute


def _created(said: AttributeChange, field: str) -> Attribute:
    patterns: dict[str, Any] = {name: bool(said.options.get(name)) for name in _PATTERNS}
    full_text = _full_text(None, said.options.get("full_text"), field)
    filterable = said.options.get("filterable")
    if filterable is None:
        is_searched = full_text is not None or any(patterns.values())
        filterable = _may_be_filterable(said.type) and not is_searched
    return _checked(Attribute(said.type, filterable, full_text, **patterns), said, field)


def _updated(name: str, known: Attribute, said: AttributeChange, field: str) -> Attribute:
    type_ = known.type.joined(said.type)
    if type_ is None:
        raise SchemaConflict(name, known.type, said.type)
    if said.is_shorthand:
        options: dict[str, Any] = {"full_text": None} | dict.fromkeys(_PATTERNS, False)
    else:
        options = {
            name: said.options[name]
            for name in ("filterable", *_PATTERNS)
            if said.options.get(name) is not None
        }
        options["full_text"] = _full_text(known.full_text, said.options.get("full_text"), field)
    return _checked(replace(known, type=type_, **options), said, field)


def _full_text(known: FullText | None, said: Mapping[str, Any] | bool | None, field: str) -> FullText | None:
    if said is None:
        return known
    if isinstance(said, bool):
        return (known or FullText()) if said else None
    settings = replace(known or FullText(), **said)
    check_full_text(settings, f"{field}.full_text_search", named=said)
    return settings


def _checked(attribute: Attribute, said: AttributeChange, field: str) -> Attribute:
    """The attribute, if its options fit its type."""
    type_ = attribute.type
    is_text = type_.scalar is Scalar.STRING
    if attribute.full_text is not None:
        path = f"{field}.full_text_search"
        if not is_text:
            raise InvalidRequest(path, f"full-text search needs string or []string, not {type_}")
        if attribute.full_text.tokenizer == PRE_TOKENIZED and not type_.is_array:
            raise InvalidRequest(f"{path}.tokenizer", f"{PRE_TOKENIZED} needs []string, not {type_}")
    for name in _PATTERNS:
        if getattr(attribute, name) and not is_text:
            raise InvalidRequest(f"{field}.{name}", f"{name} needs string or []string, not {type_}")
    if said.options.get("filterable") and not _may_be_filterable(type_):
        raise InvalidRequest(f"{field}.filterable", f"{type_} is never filterable")
    return attribute


def _may_be_filterable(type_: AttributeType) -> bool:
    return type_.is_plain and type_.scalar is not Scalar.BYTES


def _count_vectors(attributes: Mapping[str, Attribute]) -> int:
    return sum(a.type.dimensions is not None for a in attributes.values())


def _without_metric() -> InvalidRequest:
    return InvalidRequest("", "distance_metric must be specified for write to namespace with a vector")


def _settled(
    schema: Schema, new: dict[str, Attribute], *, id_type: IdType | None, metric: Metric | None
) -> Schema:
    """`schema` with these attributes, if they keep within limits; the same object if nothing differs."""
    if len(new) > ATTRIBUTES_MAX:
        raise InvalidRequest("attributes", f"{len(new)} attributes where {ATTRIBUTES_MAX} are allowed")
    vectors = _count_vectors(new)
    if vectors > VECTOR_ATTRIBUTES_MAX:
        raise InvalidRequest(
            "attributes", f"{vectors} vector attributes where {VECTOR_ATTRIBUTES_MAX} are allowed"
        )
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
