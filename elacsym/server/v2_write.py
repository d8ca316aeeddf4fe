"""The bodies of v2 writes to what the engine takes. Unknown top-level fields are passed over, and logged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from elacsym.engine.request import ByFilter, Document, Inference, OptionsChange, SchemaChange, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.format.keys import is_valid_name
from elacsym.query.ast import Filter
from elacsym.query.language.filter import parse_filter
from elacsym.server import v2_rows, v2_schema
from elacsym.shapes import Fields, variant

SHARDS_MAX = 256
_INFERENCE = Inference(floats=False, vectors=True)
_ENCRYPTION_MODES = ("default", "customer-managed")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a namespace is to be made of: a copy or a branch of another one. key: the API key that is said to
    open it."""

    namespace: str
    is_copy: bool
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """A decoded write: a request for the engine or, with `origin`, a copy or a branch. shards: how many a
    copy is said to have. unknown: fields that say nothing here."""

    request: WriteRequest
    origin: Origin | None = None
    shards: int | None = None
    unknown: tuple[str, ...] = ()


def decode(body: Any) -> Write:
    """The write of a body. Raises InvalidShape, InvalidRequest."""
    fields = Fields(body)
    upserts, path = _documents(fields, "upsert")
    patches, patch_path = _documents(fields, "patch")
    deletes = _taken(fields, "deletes", v2_rows.ids) or []
    origin = _origin(fields)
    shards = _shards(fields.take("sharding"))
    _check_encryption(fields.take("encryption"), "encryption")
    patch_by_filter, patch = _patch_by_filter(fields)
    request = WriteRequest(
        upserts=upserts,
        deletes=deletes,
        path=path,
        delete_path="deletes",
        patches=patches,
        patch_path=patch_path,
        upsert_condition=_condition(fields, "upsert_condition"),
        patch_condition=_condition(fields, "patch_condition"),
        delete_condition=_condition(fields, "delete_condition"),
        delete_by_filter=_delete_by_filter(fields),
        patch_by_filter=patch_by_filter,
        patch=patch,
        change=_change(fields, shards if origin is None else None),
        creates=fields.optional("create_namespace", bool),
        inference=_INFERENCE,
        requires_all_vectors=fields.optional("require_all_vectors", bool, True),
        ignores_pressure=fields.optional("disable_backpressure", bool, False),
        wants_ids=fields.optional("return_affected_ids", bool, False),
    )
    _check_pressure(request)
    if origin is not None:
        if shards is not None and not origin.is_copy:
            raise InvalidRequest("sharding", "a branch cannot be sharded")
        _check_alone(request, origin)
    return Write(request, origin, shards if origin is not None else None, fields.rest())


def _documents(fields: Fields, verb: str) -> tuple[list[Document], str]:
    """The documents of rows and of columns, and the name of what brought them."""
    rows = _taken(fields, f"{verb}_rows", v2_rows.rows)
    columns = _taken(fields, f"{verb}_columns", v2_rows.columns)
    if rows is not None and columns is not None:
        return rows + columns, f"{verb}_rows"
    return (rows or [], f"{verb}_rows") if columns is None else (columns, f"{verb}_columns")


def _taken(fields: Fields, name: str, decode_value: Any) -> Any:
    value = fields.take(name)
    return None if value is None else decode_value(value, fields.path(name))


def _condition(fields: Fields, name: str) -> Filter | None:
    value = fields.take(name)
    return None if value is None else parse_filter(value, name, allows_ref=True)


def _delete_by_filter(fields: Fields) -> ByFilter | None:
    value = fields.take("delete_by_filter")
    is_partial = fields.optional("delete_by_filter_allow_partial", bool, False)
    if value is None:
        return None
    return ByFilter(parse_filter(value, "delete_by_filter"), is_partial=is_partial)


def _patch_by_filter(fields: Fields) -> tuple[ByFilter | None, dict[str, Any]]:
    value = fields.take("patch_by_filter")
    is_partial = fields.optional("patch_by_filter_allow_partial", bool, False)
    if value is None:
        return None, {}
    inner = Fields(value, "patch_by_filter")
    condition, patch = inner.require("filters", list), inner.require("patch", dict)
    parsed = parse_filter(condition, inner.path("filters"))
    return ByFilter(parsed, is_partial=is_partial), patch


def _change(fields: Fields, shards: int | None) -> SchemaChange | None:
    schema, metric = fields.take("schema"), fields.take("distance_metric")
    if schema is None and metric is None and shards is None:
        return None
    said = v2_schema.decode({} if schema is None else schema, "schema")
    given = None if metric is None else v2_schema.metric(metric, "distance_metric")
    if said.metric is not None and said.metric is not given:
        raise InvalidRequest(
            "schema",
            "ann.distance_metric is given, but "
            + ("the request has no distance_metric" if given is None else "distance_metric names another"),
        )
    options = None if shards is None else OptionsChange(shards=shards)
    return SchemaChange(said.attributes, said.id_type, given, options)


def _shards(value: Any) -> int | None:
    if value is None:
        return None
    fields = Fields(value, "sharding")
    count = fields.require("num_shards", int)
    if not 1 <= count <= SHARDS_MAX:
        raise InvalidRequest("sharding.num_shards", f"{count} where 1 to {SHARDS_MAX} are allowed")
    return count


def _check_encryption(value: Any, path: str) -> None:
    if value is None:
        return
    fields = Fields(value, path)
    mode = variant(fields.require("mode", str), _ENCRYPTION_MODES, fields.path("mode"))
    if mode == "customer-managed":
        # keys are the bucket's matter here: none can be named for one namespace
        key = fields.require("key_name", str)
        raise InvalidRequest("", f"Malformed Cloud KMS crypto key: {key}")


def _origin(fields: Fields) -> Origin | None:
    copied, branched = fields.take("copy_from_namespace"), fields.take("branch_from_namespace")
    if copied is not None and branched is not None:
        raise InvalidRequest("branch_from_namespace", "a namespace is a copy or a branch, not both")
    if copied is not None:
        return _source(copied, "copy_from_namespace", is_copy=True)
    return None if branched is None else _source(branched, "branch_from_namespace", is_copy=False)


def _source(value: Any, path: str, *, is_copy: bool) -> Origin:
    name, key = value, None
    if type(value) is not str:
        fields = Fields(value, path)
        name, key = fields.require("source_namespace", str), fields.optional("source_api_key", str)
        if fields.take("source_region") is not None:
            raise InvalidRequest(fields.path("source_region"), "only namespaces of this server can be copied")
        _check_encryption(fields.take("dest_encryption"), fields.path("dest_encryption"))
    if not is_valid_name(name):
        raise InvalidRequest(path, f"no namespace can be called {name[:200]!r}")
    return Origin(name, is_copy, key)


def _check_pressure(request: WriteRequest) -> None:
    by_more = request.patches or request.delete_by_filter or request.patch_by_filter
    if request.ignores_pressure and by_more:
        raise InvalidRequest("disable_backpressure", "it is for upserts and deletes by id only")


def _check_alone(request: WriteRequest, origin: Origin) -> None:
    operations = (
        *(request.upserts, request.patches, request.deletes, request.change, request.creates),
        *(request.delete_by_filter, request.patch_by_filter),
        *(request.upsert_condition, request.patch_condition, request.delete_condition),
    )
    if any(operations):
        verb = "copy" if origin.is_copy else "branch"
        raise InvalidRequest(
            f"{verb}_from_namespace", "no other write operation may stand in the same request"
        )
