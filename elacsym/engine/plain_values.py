"""Scalars and arrays of scalars as documents bring them to Arrow arrays: types, ranges and sizes are checked,
and texts that stand for times, UUIDs and bytes are read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from elacsym.compute import give_way
from elacsym.engine.schema import check_text
from elacsym.engine.vector_values import shown
from elacsym.errors import InvalidRequest
from elacsym.index.columns import arrow_type
from elacsym.index.values import UUID_BYTES, parse_bytes, parse_datetime, parse_uuid, to_arrow
from elacsym.types import FILTERABLE_VALUE_BYTES_MAX, VALUE_BYTES_MAX, Attribute, Scalar

Field = Callable[[int], str]

_NONE = type(None)
_PYTHON: dict[Scalar, frozenset[type]] = {
    Scalar.STRING: frozenset({str}),
    Scalar.INT: frozenset({int}),
    Scalar.UINT: frozenset({int}),
    Scalar.FLOAT: frozenset({int, float}),
    Scalar.BOOL: frozenset({bool}),
    Scalar.UUID: frozenset({str}),
    Scalar.DATETIME: frozenset({str}),
    Scalar.BYTES: frozenset({str}),
    Scalar.UNKNOWN: frozenset(),
}
_PARSERS: dict[Scalar, Callable[[str], Any]] = {
    Scalar.UUID: parse_uuid,
    Scalar.DATETIME: parse_datetime,
    Scalar.BYTES: parse_bytes,
}
_RANGE = {Scalar.INT: (-(2**63), 2**63 - 1), Scalar.UINT: (0, 2**64 - 1)}
_PARSED_AT_ONCE = 256  # half a millisecond


def encoded_scalars(values: Sequence[Any], attribute: Attribute, field: Field) -> pa.Array:
    """The values of a scalar attribute, None as null. `field(i)` names the i-th in errors. Raises
    InvalidRequest for a value of another type, out of range or too large."""
    scalar = attribute.type.scalar
    _check_types(values, _PYTHON[scalar] | {_NONE}, field, str(attribute.type))
    read = _read(values, scalar, field)
    if scalar in (Scalar.STRING, Scalar.BYTES):
        for index, value in enumerate(read):
            # no character takes more than 4 bytes
            if value is not None and len(value) * 4 > FILTERABLE_VALUE_BYTES_MAX:
                check_size(size_bytes([value]), attribute, field(index))
    return to_arrow(read, arrow_type(attribute.type))


def encoded_arrays(values: Sequence[Any], attribute: Attribute, field: Field) -> pa.Array:
    """The values of an attribute of arrays of scalars, None as null; like `encoded_scalars`. An array has no
    null elements."""
    scalar, kinds = attribute.type.scalar, _PYTHON[attribute.type.scalar]
    _check_types(values, frozenset({list, _NONE}), field, str(attribute.type))
    read: list[Sequence[Any] | None] = []
    for index, value in enumerate(values):
        if value is None:
            read.append(None)
            continue

        def element(place: int, index: int = index) -> str:
            return f"{field(index)}[{place}]"

        _check_types(value, kinds, element, str(scalar))
        elements = _read(value, scalar, element)
        check_size(size_bytes(elements, scalar), attribute, field(index))
        read.append(elements)
    return to_arrow(read, arrow_type(attribute.type))


def check_size(size: int, attribute: Attribute, field: str) -> None:
    """Raise InvalidRequest where a value of so many bytes is too large for the attribute."""
    # texts are long by nature: the limit of filterable values is for those that nothing but a filter
    # looks at
    limited = attribute.filterable and attribute.full_text is None
    limit = FILTERABLE_VALUE_BYTES_MAX if limited else VALUE_BYTES_MAX
    if size > limit:
        kind = "a filterable value" if limited else "a value"
        raise InvalidRequest(field, f"{size} bytes where {kind} may have {limit}")


def size_bytes(values: Sequence[Any], scalar: Scalar = Scalar.STRING) -> int:
    """What scalars take: strings as UTF-8, bytes and UUIDs as they are, everything else 8 bytes."""
    if scalar is Scalar.UUID:
        return UUID_BYTES * len(values)
    return sum(
        len(v.encode()) if isinstance(v, str) else len(v) if isinstance(v, bytes) else 8 for v in values
    )


def _check_types(values: Sequence[Any], allowed: frozenset[type], field: Field, expected: str) -> None:
    if not set(map(type, values)) <= allowed:
        index = next(i for i, v in enumerate(values) if type(v) not in allowed)
        raise InvalidRequest(field(index), f"{shown(values[index])} where the type is {expected}")


def _read(values: Sequence[Any], scalar: Scalar, field: Field) -> Sequence[Any]:
    """The values as they are inside."""
    parse = _PARSERS.get(scalar)
    if parse is None:
        _check_ranges(values, scalar, field)
        return values
    read: list[Any] = []
    for index, value in enumerate(values):
        if index % _PARSED_AT_ONCE == 0:
            give_way()
        try:
            read.append(None if value is None else parse(value))
        except ValueError as error:
            raise InvalidRequest(field(index), str(error)) from error
    return read


def _check_ranges(values: Sequence[Any], scalar: Scalar, field: Field) -> None:
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
