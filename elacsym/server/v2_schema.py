"""Schemas as the v2 API writes and shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from elacsym.engine.request import AttributeChange, SchemaChange
from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.index.tokenize import languages, tokenizer_names
from elacsym.shapes import Fields, expect, variant, wrong_type
from elacsym.types import (
    DIMENSIONS_MAX,
    ID,
    VECTOR,
    Attribute,
    AttributeType,
    FullText,
    IdType,
    Metric,
    Schema,
)

METRICS = {"cosine_distance": Metric.COSINE, "euclidean_squared": Metric.L2}
METRIC_NAMES = {metric: name for name, metric in METRICS.items()} | {Metric.DOT: "dot_product"}
ID_TYPES = ("uint", "string", "uuid")
SPARSE_METRIC = "dot_product"
_SWITCHES = ("filterable", "regex", "glob", "fuzzy")
_WORDS = {"tokenizer": sorted(tokenizer_names), "language": sorted(languages)}
_FLAGS = ("stemming", "remove_stopwords", "case_sensitive", "ascii_folding")
_NUMBERS = ("k1", "b", "k3")
_DIMENSIONS = re.compile(r"(?:\[\])?\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Said:
    """What a map of attributes says: changes by name, the type of ids, and the metric that vectors name."""

    attributes: Mapping[str, AttributeChange | None]
    id_type: IdType | None
    metric: Metric | None


def metric(value: Any, path: str) -> Metric:
    """The metric of a name. Raises InvalidShape."""
    return METRICS[variant(value, tuple(METRICS), path)]


def decode(value: Any, path: str) -> Said:
    """A map of attribute names to entries; unknown keys of entries say nothing.

    Raises InvalidShape, InvalidRequest.
    """
    id_type: IdType | None = None
    changes: dict[str, AttributeChange | None] = {}
    named: dict[str, Metric] = {}
    for name, entry in expect(value, dict, path).items():
        place = f"{path}.{name}" if path else name
        if name == ID:
            id_type = _id_type(entry, place)
            continue
        changes[name] = _entry(name, entry, place, named)
    if len(set(named.values())) > 1:
        raise InvalidRequest(
            path, f"a namespace has one distance metric, but {sorted(named)} name different ones"
        )
    return Said(changes, id_type, next(iter(named.values()), None))


def change(value: Any) -> SchemaChange:
    """What a map of attributes alone changes. Raises InvalidShape, InvalidRequest."""
    said = decode(value, "")
    return SchemaChange(said.attributes, said.id_type, said.metric)


def _id_type(entry: Any, path: str) -> IdType:
    word = entry
    if type(entry) is dict:
        fields = Fields(entry, path)
        if fields.take("drop") is True:
            raise InvalidRequest(path, "ids cannot be dropped")
        word = fields.require("type", str)
    elif type(entry) is not str:
        raise wrong_type(entry, dict, path, expected="a type or an object of options")
    if word not in ID_TYPES:
        raise InvalidRequest(path, f"ids of type {word!r} where one of {', '.join(ID_TYPES)} is allowed")
    return cast("IdType", word)


def _entry(name: str, entry: Any, path: str, named: dict[str, Metric]) -> AttributeChange | None:
    if type(entry) is str:
        type_ = _type(entry, path)
        if type_.is_vector or type_.is_multivector:
            raise _without_ann(name)
        return AttributeChange(type_, is_shorthand=True)
    if type(entry) is not dict:
        raise wrong_type(entry, dict, path, expected="a type or an object of options")
    fields = Fields(entry, path)
    if fields.optional("drop", bool, False):
        if fields.rest():
            raise InvalidRequest(path, "drop stands alone, without a type or options")
        return None
    type_ = _type(fields.require("type", str), fields.path("type"))
    options: dict[str, Any] = {
        switch: value for switch in _SWITCHES if (value := fields.optional(switch, bool)) is not None
    }
    settings = fields.take("full_text_search")
    if settings is not None:
        options["full_text"] = _full_text(settings, fields.path("full_text_search"))
    _check_ann(name, type_, fields, named)
    _check_sparse(type_, fields)
    _check_embed(fields)
    return AttributeChange(type_, options)


def _type(word: str, path: str) -> AttributeType:
    dimensions = _DIMENSIONS.match(word)
    if dimensions is not None and not 1 <= int(dimensions[1][:9]) <= DIMENSIONS_MAX:
        raise InvalidRequest(path, f"{dimensions[1]} dimensions where 1 to {DIMENSIONS_MAX} are allowed")
    try:
        return AttributeType.parse(word)
    except ValueError as error:
        raise InvalidShape(path, f"unknown attribute type {word[:64]!r}") from error


def _full_text(value: Any, path: str) -> bool | dict[str, Any]:
    if type(value) is bool:
        return value
    fields = Fields(value, path)
    given: dict[str, Any] = {
        word: variant(named, known, fields.path(word))
        for word, known in _WORDS.items()
        if (named := fields.take(word)) is not None
    }
    given |= {flag: fields.optional(flag, bool) for flag in _FLAGS}
    given |= {name: fields.number(name) for name in _NUMBERS}
    given["max_token_length"] = fields.optional("max_token_length", int)
    return {name: setting for name, setting in given.items() if setting is not None}


def _without_ann(name: str) -> InvalidRequest:
    if name == VECTOR:
        return InvalidRequest("", "the `vector` attribute must have `ann` set to `true`")
    return InvalidRequest("", f"vector attribute '{name}' must have ann:true")


def _check_ann(name: str, type_: AttributeType, fields: Fields, named: dict[str, Metric]) -> None:
    given, path = fields.take("ann"), fields.path("ann")
    if not (type_.is_vector or type_.is_multivector):
        if given:
            raise InvalidRequest(path, f"{type_} is not searched by nearest neighbours; vectors are")
        return
    if given is None or given is False:
        raise _without_ann(name)
    if given is True:
        return
    if type(given) is not dict:
        raise wrong_type(given, dict, path, expected="a boolean or an object of options")
    options = Fields(given, path)
    word = options.take("distance_metric")
    if word is not None:
        named[name] = metric(word, options.path("distance_metric"))
    if options.optional("late_interaction", bool, False) and not type_.is_multivector:
        raise InvalidRequest(options.path("late_interaction"), f"it needs an array of vectors, not {type_}")


def _check_sparse(type_: AttributeType, fields: Fields) -> None:
    given, path = fields.take("sparse_knn"), fields.path("sparse_knn")
    if given is None or given is False:
        return
    if not type_.is_sparse:
        raise InvalidRequest(path, f"{type_} is no sparse vector; {{}}f16 is")
    if given is not True:
        options = Fields(given, path)
        variant(options.require("distance_metric", str), (SPARSE_METRIC,), options.path("distance_metric"))


def _check_embed(fields: Fields) -> None:
    given, path = fields.take("embed"), fields.path("embed")
    if given is None:
        return
    model = given if type(given) is str else Fields(given, path).require("model", str)
    raise InvalidRequest(path, f"embedding model '{model}' is not available on this server")


def schema_view(schema: Schema) -> dict[str, Any]:
    """The schema as its own endpoint shows it: three keys in every entry, null where they do not apply."""
    shown: dict[str, Any] = {}
    if schema.id_type is not None:
        shown[ID] = {"type": schema.id_type, "filterable": None, "full_text_search": None}
    for name, attribute in schema.attributes.items():
        is_dense = attribute.type.is_vector or attribute.type.is_multivector
        entry: dict[str, Any] = {
            "type": str(attribute.type),
            "filterable": None if name == VECTOR and is_dense else attribute.filterable,
            "full_text_search": None if attribute.full_text is None else _settings(attribute.full_text),
        }
        shown[name] = entry | _patterns(attribute) | ({"ann": True} if is_dense else {})
    return shown


def metadata_view(schema: Schema) -> dict[str, Any]:
    """The schema as metadata shows it: keys that do not apply are left out, vectors have their metric."""
    shown: dict[str, Any] = {}
    if schema.id_type is not None:
        shown[ID] = {"type": schema.id_type}
    for name, attribute in schema.attributes.items():
        entry: dict[str, Any] = {"type": str(attribute.type)}
        if attribute.type.is_vector or attribute.type.is_multivector:
            # a namespace with vectors has a metric
            ann: dict[str, Any] = {"distance_metric": METRIC_NAMES[schema.metric or Metric.COSINE]}
            if attribute.type.is_multivector:
                ann["late_interaction"] = True
            if name != VECTOR:
                entry["filterable"] = False
            entry["ann"] = ann
        else:
            entry["filterable"] = attribute.filterable
            if attribute.full_text is not None:
                entry["full_text_search"] = _settings(attribute.full_text)
            if attribute.type.is_sparse:
                entry["sparse_knn"] = {"distance_metric": SPARSE_METRIC}
        shown[name] = entry | _patterns(attribute)
    return shown


def _patterns(attribute: Attribute) -> dict[str, bool]:
    return {name: True for name in ("glob", "regex", "fuzzy") if getattr(attribute, name)}


def _settings(settings: FullText) -> dict[str, Any]:
    order = ("k1", "k3", "b", "language", "stemming", "remove_stopwords", "case_sensitive", "ascii_folding")
    return {name: getattr(settings, name) for name in (*order, "max_token_length", "tokenizer")}
