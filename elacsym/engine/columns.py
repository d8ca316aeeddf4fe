"""Documents to columns: types are checked or inferred, values become Arrow arrays.

The result is what the log stores: one record batch of whole documents. Every refusal names document index and
attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from elacsym import shapes
from elacsym.compute import give_way
from elacsym.engine.infer import inferred_type
from elacsym.engine.plain_values import encoded_arrays, encoded_scalars
from elacsym.engine.request import Document, Inference
from elacsym.engine.schema import check_name, check_text
from elacsym.engine.vector_values import encoded_multivectors, encoded_sparse, encoded_vectors, shown
from elacsym.errors import InvalidRequest
from elacsym.index.ids import IdColumn
from elacsym.index.sizes import row_bytes
from elacsym.index.values import parse_uuid
from elacsym.types import (
    DOCUMENT_BYTES_MAX,
    STRING_ID_BYTES_MAX,
    VECTOR,
    Attribute,
    DocumentId,
    IdType,
    Scalar,
    Schema,
)

_ANY_NUMBERS = Inference()
_ALLOWED: dict[IdType, str] = {"uint": "an unsigned 64-bit integer", "string": "a string", "uuid": "a UUID"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Whole documents as columns: `id` and one array per attribute that some document has, plus what they add
    to a schema."""

    ids: IdColumn
    arrays: dict[str, pa.Array]
    attributes: dict[str, Attribute]

    @property
    def id_type(self) -> IdType:
        """The type of the ids."""
        return self.ids.id_type


def id_column(ids: Sequence[Any], schema: Schema, field: Callable[[int], str]) -> IdColumn:
    """The ids as a column; `field(i)` names the i-th in errors. Raises InvalidRequest for a wrong type or
    range, or a repeat."""
    expected: IdType = schema.id_type or ("string" if set(map(type, ids)) == {str} else "uint")
    wanted = int if expected == "uint" else str
    if set(map(type, ids)) - {wanted}:
        index = next(i for i, value in enumerate(ids) if type(value) is not wanted)
        reason = f"{shown(ids[index])} where the namespace's ids are {_ALLOWED[expected]}"
        raise InvalidRequest(field(index), reason)
    found = [_checked_id(value, expected, field(index)) for index, value in enumerate(ids)]
    if len(set(found)) != len(found):
        seen: set[DocumentId] = set()
        for index, value in enumerate(found):
            if value in seen:
                raise InvalidRequest(field(index), f"id {shapes.shown(value)} occurs twice in one request")
            seen.add(value)
    return IdColumn.of(expected, found)


def _checked_id(value: Any, id_type: IdType, field: str) -> Any:
    match id_type:
        case "uint":
            if not 0 <= value < 2**64:
                raise InvalidRequest(field, f"{value} is outside 0…2^64-1")
        case "string":
            check_text(value, field)
            if len(value.encode()) > STRING_ID_BYTES_MAX:
                raise InvalidRequest(field, f"a string id may have {STRING_ID_BYTES_MAX} bytes at most")
        case "uuid":
            try:
                return parse_uuid(value)
            except ValueError as error:
                raise InvalidRequest(field, str(error)) from error
    return value


def build(
    documents: Sequence[Document],
    schema: Schema,
    *,
    path: str = "documents",
    inference: Inference = _ANY_NUMBERS,
    requires_all_vectors: bool = False,
) -> Columns:
    """The documents as columns checked against `schema`. Raises InvalidRequest naming `path[i]` and the
    attribute.

    requires_all_vectors: a document that lacks a dense vector attribute, of the schema or of the others, is
    refused.
    """
    ids = id_column([d.id for d in documents], schema, lambda i: f"{path}[{i}].id")
    names: dict[str, None] = {}
    for document in documents:
        names.update(dict.fromkeys(document.attributes))
    arrays: dict[str, pa.Array] = {}
    added: dict[str, Attribute] = {}
    for name in names:
        give_way()
        values, known = [d.attributes.get(name) for d in documents], schema.attributes.get(name)
        field = partial(_field, path, name)
        attribute = _attribute(name, values, known, inference, field)
        if attribute is None:
            continue
        arrays[name] = _encoded(values, attribute, field)
        if known is None or attribute.type != known.type:
            added[name] = attribute
    excess = too_large(ids, arrays)
    if excess is not None:
        raise InvalidRequest(f"{path}[{excess[0]}]", excess[1])
    if requires_all_vectors:
        _check_all_vectors(documents, {**schema.attributes, **added}, path)
    return Columns(ids, arrays, added)


def _field(path: str, name: str, index: int) -> str:
    return f"{path}[{index}].{name if name == VECTOR else 'attributes.' + name}"


def _attribute(
    name: str,
    values: Sequence[Any],
    known: Attribute | None,
    inference: Inference,
    field: Callable[[int], str],
) -> Attribute | None:
    """What the values are of; None where all are null and the attribute is new."""
    if known is not None and known.type.scalar is not Scalar.UNKNOWN:
        return known
    type_ = inferred_type(name, values, inference, field)
    if known is not None:
        joined = known.type if type_ is None else known.type.joined(type_)
        return known if joined is None else replace(known, type=joined)
    if type_ is None:
        return None
    check_name(name, field(next(i for i, value in enumerate(values) if value is not None)))
    return Attribute(type_, filterable=type_.is_plain)


def _encoded(values: Sequence[Any], attribute: Attribute, field: Callable[[int], str]) -> pa.Array:
    type_ = attribute.type
    if type_.is_vector:
        return encoded_vectors(values, type_, field)
    if type_.is_multivector:
        return encoded_multivectors(values, type_, field)
    if type_.is_sparse:
        return encoded_sparse(values, field)
    return (encoded_arrays if type_.is_array else encoded_scalars)(values, attribute, field)


def too_large(ids: IdColumn, arrays: Mapping[str, pa.Array]) -> tuple[int, str] | None:
    """Which document is larger than one may be, and the reason to refuse it; None: all may be."""
    if sum(array.nbytes for array in arrays.values()) <= DOCUMENT_BYTES_MAX:
        return None
    sizes = row_bytes(ids, arrays)
    largest = int(np.argmax(sizes))
    if sizes[largest] <= DOCUMENT_BYTES_MAX:
        return None
    return largest, f"{sizes[largest]} bytes where a document may have {DOCUMENT_BYTES_MAX}"


def _check_all_vectors(documents: Sequence[Document], attributes: Mapping[str, Attribute], path: str) -> None:
    names = [name for name, attribute in attributes.items() if attribute.type.is_vector]
    for index, document in enumerate(documents if names else ()):
        for name in names:
            if document.attributes.get(name) is None:
                raise InvalidRequest(
                    _field(path, name, index), f"vector attribute '{name}' is missing; every document has it"
                )
