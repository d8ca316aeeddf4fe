"""Documents to columns: types are checked or inferred, values become Arrow arrays.

The result is what the log stores: one record batch of whole documents. Every refusal names document index and
attribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from elacsym.compute import give_way
from elacsym.engine.request import Document
from elacsym.engine.schema import check_name, check_text
from elacsym.engine.vector_values import encoded_vectors, shown
from elacsym.errors import InvalidRequest
from elacsym.index.columns import arrow_type
from elacsym.index.ids import IdColumn
from elacsym.types import (
    FILTERABLE_VALUE_BYTES_MAX,
    STRING_ID_BYTES_MAX,
    VALUE_BYTES_MAX,
    VECTOR,
    Attribute,
    AttributeType,
    DocumentId,
    IdType,
    Scalar,
    Schema,
)

_NONE = type(None)
_PYTHON: dict[Scalar, frozenset[type]] = {
    Scalar.STRING: frozenset({str}),
    Scalar.INT: frozenset({int}),
    Scalar.UINT: frozenset({int}),
    Scalar.FLOAT: frozenset({int, float}),
    Scalar.BOOL: frozenset({bool}),
}
_RANGE = {Scalar.INT: (-(2**63), 2**63 - 1), Scalar.UINT: (0, 2**64 - 1)}


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
    found = set(map(type, ids))
    expected: IdType = schema.id_type or ("string" if found == {str} else "uint")
    wanted: type = str if expected == "string" else int
    if found - {wanted}:
        index = next(i for i, value in enumerate(ids) if type(value) is not wanted)
        allowed = "a string" if wanted is str else "an unsigned 64-bit integer"
        raise InvalidRequest(field(index), f"{shown(ids[index])} where the namespace's ids are {allowed}")
    for index, value in enumerate(ids):
        if wanted is int and not 0 <= value < 2**64:
            raise InvalidRequest(field(index), f"{value} is outside 0…2^64-1")
        if wanted is str:
            check_text(value, field(index))
            if len(value.encode()) > STRING_ID_BYTES_MAX:
                raise InvalidRequest(
                    field(index), f"a string id may have {STRING_ID_BYTES_MAX} bytes at most"
                )
    if len(set(ids)) != len(ids):
        seen: set[DocumentId] = set()
        for index, value in enumerate(ids):
            if value in seen:
                raise InvalidRequest(field(index), f"id {shown(value)} occurs twice in one request")
            seen.add(value)
    return IdColumn.of(expected, ids)


def build(documents: Sequence[Document], schema: Schema, *, path: str = "documents") -> Columns:
    """The documents as columns checked against `schema`. Raises InvalidRequest naming `path[i]` and the
    attribute."""
    ids = id_column([d.id for d in documents], schema, lambda i: f"{path}[{i}].id")
    names: dict[str, None] = {}
    for document in documents:
        names.update(dict.fromkeys(document.attributes))
    arrays: dict[str, pa.Array] = {}
    added: dict[str, Attribute] = {}
    for name in names:
        give_way()
        column = _Column(name, [d.attributes.get(name) for d in documents], path)
        known = schema.attributes.get(name)
        attribute = known or column.inferred()
        if attribute is None:
            continue
        arrays[name] = column.encoded(attribute)
        if known is None:
            added[name] = attribute
    return Columns(ids, arrays, added)


@dataclass(frozen=True, slots=True)
class _Column:
    """The values of one attribute in document order, None where a document has none."""

    name: str
    values: list[Any]
    path: str

    def field(self, index: int) -> str:
        return f"{self.path}[{index}].{self.name if self.name == VECTOR else 'attributes.' + self.name}"

    def inferred(self) -> Attribute | None:
        """The attribute that the first value suggests, or None if all are null."""
        index, value = next(((i, v) for i, v in enumerate(self.values) if v is not None), (0, None))
        if value is None:
            return None
        check_name(self.name, self.field(index))
        if isinstance(value, np.ndarray) or self.name == VECTOR:
            raise InvalidRequest(
                self.field(index), "a vector, but the namespace has no such vector attribute; declare it"
            )
        if isinstance(value, list):
            elements = [e for v in self.values if isinstance(v, list) for e in v]
            if not elements:
                raise InvalidRequest(
                    self.field(index), "the type of an empty array is not known; declare the attribute"
                )
            return Attribute(AttributeType(self._scalar(elements, index), is_array=True))
        return Attribute(AttributeType(self._scalar([v for v in self.values if v is not None], index)))

    def _scalar(self, values: list[Any], index: int) -> Scalar:
        found = set(map(type, values))
        for scalar in (Scalar.BOOL, Scalar.INT, Scalar.FLOAT, Scalar.STRING):
            if found <= _PYTHON[scalar]:
                return scalar
        raise InvalidRequest(
            self.field(index), f"the values of a new attribute are of several types: {_named(found)}"
        )

    def encoded(self, attribute: Attribute) -> pa.Array:
        type_ = attribute.type
        if type_.is_vector:
            return encoded_vectors(self.values, type_, self.field)
        if type_.is_array:
            self._check(self.values, frozenset({list}), lambda i: self.field(i), str(type_))
            for index, value in enumerate(self.values):
                if value is not None:
                    self._check_elements(value, type_.scalar, index)
                    self._check_size(value, attribute, index)
        else:
            self._check(self.values, _PYTHON[type_.scalar], self.field, str(type_), has_nulls=True)
            self._check_scalars(self.values, type_.scalar, self.field)
            if type_.scalar is Scalar.STRING:
                for index, value in enumerate(self.values):
                    if value is not None and len(value) * 4 > FILTERABLE_VALUE_BYTES_MAX:
                        self._check_size([value], attribute, index)
        return pa.array(self.values, arrow_type(type_))

    def _check_elements(self, value: list[Any], scalar: Scalar, index: int) -> None:
        self._check(
            value, _PYTHON[scalar], lambda j: f"{self.field(index)}[{j}]", str(scalar), has_nulls=False
        )
        self._check_scalars(value, scalar, lambda j: f"{self.field(index)}[{j}]")

    def _check_size(self, values: list[Any], attribute: Attribute, index: int) -> None:
        size = sum(len(v.encode()) if isinstance(v, str) else 8 for v in values)
        # texts are long by nature: the limit of filterable values is for those that nothing but a filter
        # looks at
        limited = attribute.filterable and attribute.full_text is None
        limit = FILTERABLE_VALUE_BYTES_MAX if limited else VALUE_BYTES_MAX
        if size > limit:
            kind = "a filterable value" if limited else "a value"
            raise InvalidRequest(self.field(index), f"{size} bytes where {kind} may have {limit}")

    @staticmethod
    def _check(
        values: list[Any],
        allowed: frozenset[type],
        field: Callable[[int], str],
        expected: str,
        *,
        has_nulls: bool = True,
    ) -> None:
        accepted = allowed | {_NONE} if has_nulls else allowed
        if not set(map(type, values)) <= accepted:
            index = next(i for i, v in enumerate(values) if type(v) not in accepted)
            raise InvalidRequest(field(index), f"{shown(values[index])} where the type is {expected}")

    @staticmethod
    def _check_scalars(values: list[Any], scalar: Scalar, field: Callable[[int], str]) -> None:
        if scalar in _RANGE:
            low, high = _RANGE[scalar]
            for index, value in enumerate(values):
                if value is not None and not low <= value <= high:
                    raise InvalidRequest(field(index), f"{value} is outside {low}…{high}")
        elif scalar is Scalar.FLOAT:
            for index, value in enumerate(values):
                if value is not None and not (
                    abs(value) <= 2**1023 if type(value) is int else math.isfinite(value)
                ):
                    raise InvalidRequest(field(index), f"{value} is not a finite 64-bit float")
        elif scalar is Scalar.STRING:
            for index, value in enumerate(values):
                if value is not None and not value.isascii():
                    check_text(value, field(index))


def _named(types: set[type]) -> str:
    return ", ".join(sorted(t.__name__ for t in types))
