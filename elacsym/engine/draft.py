"""A write request as columns, checked against the schema that it brings about, before anything stored is
looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from elacsym import shapes
from elacsym.engine import columns
from elacsym.engine.columns import Columns
from elacsym.engine.request import Document, WriteRequest
from elacsym.engine.schema import changed, check_vectors, check_writable, extended, merged
from elacsym.errors import InvalidRequest
from elacsym.index.ids import IdColumn
from elacsym.query.columns import Bools
from elacsym.query.filters import attributes_of
from elacsym.types import ID, Attribute, AttributeType, DocumentId, IdType, Scalar, Schema

_PATCH_BY_FILTER = "patch_by_filter.patch"
_SOME_ID: dict[IdType, DocumentId] = {
    "uint": 0,
    "string": "",
    "uuid": "00000000-0000-0000-0000-000000000000",
}


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches as columns. is_named: by attribute, (n,) bool: which patches name it, be it to remove it."""

    ids: IdColumn
    arrays: dict[str, pa.Array]
    is_named: dict[str, Bools]


@dataclass(frozen=True, slots=True)
class Draft:
    """The columns of a request. before, after: the schema without and with what the request adds to it.
    patch: the one of `patch_by_filter`. deletes: None also where no id can be stored yet."""

    request: WriteRequest
    before: Schema
    after: Schema
    upserts: Columns | None
    patches: Patches | None
    patch: Patches | None
    deletes: IdColumn | None


def drafted(request: WriteRequest, schema: Schema) -> Draft:
    """The request as columns. Raises InvalidRequest for everything in it that does not fit."""
    _check_operations(request)
    _check_writable(request, schema)
    after = declared(request, schema)
    _check_not_dropped(request)
    upserts = patches = patch = deletes = None
    if request.upserts:
        upserts = columns.build(
            request.upserts,
            after,
            path=request.path,
            inference=request.inference,
            requires_all_vectors=request.requires_all_vectors,
        )
        after = _with(after, upserts, request, id_type=upserts.id_type)
    if request.patches:
        patches, after = _patches(request, request.patches, request.patch_path, after)
    if request.patch_by_filter is not None:
        patch, after = _patch_by_filter(request, after)
    if request.deletes:
        deletes = columns.id_column(request.deletes, after, lambda i: f"{request.delete_path}[{i}]")
    written = [part.ids for part in (upserts, patches) if part is not None]
    _check_distinct(written if deletes is None else [*written, deletes])
    if request.requires_all_vectors:
        check_vectors(schema, after, request.change)
    if after.id_type is None:
        # a namespace without documents has nothing to delete, and ids of no type yet
        deletes = None
    return Draft(request, schema, after, upserts, patches, patch, deletes)


def declared(request: WriteRequest, schema: Schema) -> Schema:
    """The schema with what the request says of it; what its documents add comes after. Raises
    InvalidRequest."""
    if request.schema is not None:
        schema = extended(schema, request.schema)
    return schema if request.change is None else changed(schema, request.change)


def _with(schema: Schema, built: Columns, request: WriteRequest, *, id_type: IdType | None) -> Schema:
    defaults_metric = not request.requires_all_vectors
    return merged(schema, built.attributes, id_type=id_type, defaults_metric=defaults_metric)


def _patches(
    request: WriteRequest, documents: Sequence[Document], path: str, schema: Schema
) -> tuple[Patches, Schema]:
    """Patches as columns, and the schema with their new attributes."""
    names = dict.fromkeys(name for document in documents for name in document.attributes)
    if ID in names:
        raise InvalidRequest(path, "ids cannot be patched")
    built = columns.build(documents, schema, path=path, inference=request.inference)
    after = _with(schema, built, request, id_type=schema.id_type)
    for name in names:
        attribute = after.attributes.get(name)
        if attribute is not None and (attribute.type.is_vector or attribute.type.is_multivector):
            raise InvalidRequest(path, f"'{name}' is of type {attribute.type}; vectors cannot be patched")
    named = {name: np.array([name in document.attributes for document in documents]) for name in names}
    return Patches(built.ids, built.arrays, named), after


def _patch_by_filter(request: WriteRequest, schema: Schema) -> tuple[Patches, Schema]:
    some = Document(_SOME_ID[schema.id_type or "uint"], request.patch)
    return _patches(request, [some], _PATCH_BY_FILTER, schema)


def _check_operations(request: WriteRequest) -> None:
    """Raise InvalidRequest for a condition without the operation that it is for."""
    conditions = (
        ("upsert_condition", request.upsert_condition, request.upserts),
        ("patch_condition", request.patch_condition, request.patches),
        ("delete_condition", request.delete_condition, request.deletes),
    )
    for name, condition, documents in conditions:
        if condition is not None and not documents:
            kind = name.partition("_")[0]
            raise InvalidRequest(name, f"there is no {kind} of given documents that it could be for")


def _check_writable(request: WriteRequest, schema: Schema) -> None:
    """Raise InvalidRequest where the namespace is read-only; its options may change all the same."""
    if request.has_documents or request.schema is not None:
        check_writable(schema)


def _check_not_dropped(request: WriteRequest) -> None:
    """Raise InvalidRequest where a document brings an attribute that the request drops, or a filter looks at
    one."""
    dropped = (
        {name for name, said in request.change.attributes.items() if said is None} if request.change else ()
    )
    if not dropped:
        return
    patch = Document(0, request.patch)
    for document in (*request.upserts, *request.patches, patch):
        if not document.attributes.keys().isdisjoint(dropped):
            name = next(name for name in document.attributes if name in dropped)
            raise InvalidRequest(f"schema.{name}", f"'{name}' is dropped and written in one request")
    filters = (
        ("delete_by_filter", request.delete_by_filter),
        ("patch_by_filter.filters", request.patch_by_filter),
    )
    for path, by_filter in filters:
        looked_at = attributes_of(by_filter.condition) & dropped if by_filter else None
        if looked_at:
            raise InvalidRequest(path, f"filter error in key `{min(looked_at)}`: the same request drops it")


def _check_distinct(columns: Sequence[IdColumn]) -> None:
    """Raise InvalidRequest where two of the columns share an id; each of them has it once at most."""
    if len(columns) < 2:
        return
    seen: set[Any] = set()
    for column in columns:
        values = column.to_list()
        if not seen.isdisjoint(values):
            twice = next(value for value in values if value in seen)
            raise InvalidRequest(ID, f"id {shapes.shown(twice)} occurs twice in one request")
        seen.update(values)


def redrafted(draft: Draft, schema: Schema) -> Draft:
    """The request under another schema than the draft was made under; upserts keep their columns where these
    mean the same. Raises InvalidRequest."""
    if schema is draft.before:
        return draft
    request, built = draft.request, draft.upserts
    if built is None or request.is_reading or request.deletes or schema.id_type not in (None, built.id_type):
        return drafted(request, schema)
    _check_writable(request, schema)
    grown, known = declared(request, schema), declared(request, draft.before).attributes
    means_same = all(
        grown.attributes.get(name, built.attributes.get(name)) == known.get(name, built.attributes.get(name))
        for name in built.arrays
    )
    if not means_same or (request.requires_all_vectors and grown.vectors().keys() - built.arrays.keys()):
        return drafted(request, schema)
    after = _with(grown, built, request, id_type=built.id_type)
    if request.requires_all_vectors:
        check_vectors(schema, after, request.change)
    return replace(draft, before=schema, after=after)


def narrowed(draft: Draft, written: Mapping[str, pa.Array]) -> Draft:
    """The draft whose schema has of what its documents add only what is in the columns that are written: the
    others were of documents that conditions or filters left out."""
    if draft.after is draft.before:
        return draft
    declared_only = declared(draft.request, draft.before)
    brought: dict[str, Attribute] = {}
    for name, attribute in draft.after.attributes.items():
        array = written.get(name)
        if declared_only.attributes.get(name) == attribute or array is None or array.null_count == len(array):
            continue
        type_ = attribute.type
        if type_.is_array and type_.is_plain and not len(array.flatten()):
            type_ = AttributeType(Scalar.UNKNOWN, is_array=True)
        brought[name] = replace(attribute, type=type_)
    defaults_metric = not draft.request.requires_all_vectors
    after = merged(declared_only, brought, id_type=draft.after.id_type, defaults_metric=defaults_metric)
    return draft if after == draft.after else replace(draft, after=after)
