"""Values that a query compares attributes with: whether they fit an attribute's type, and their stored form.

The stored form is that of values inside: times are milliseconds since 1970, UUIDs are in their canonical
spelling. A value in stored form is its own stored form; to tell a time from any number that is given for one,
times are `Milliseconds`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from elacsym.errors import InvalidRequest
from elacsym.index.values import parse_datetime, parse_uuid
from elacsym.query.columns import attribute_of
from elacsym.types import ID, Attribute, AttributeType, Scalar, Schema

_CHARACTERS_SHOWN = 64


class Milliseconds(int):
    """A time in stored form: milliseconds since 1970, UTC."""


def known(name: str, schema: Schema, path: str) -> Attribute:
    """An attribute of the schema, or `id`. Raises InvalidRequest."""
    attribute = attribute_of(schema, name)
    if attribute is None:
        raise InvalidRequest(path, f"attribute '{name}' is not in the schema")
    return attribute


def kind_of(name: str, schema: Schema, operand: Any) -> AttributeType:
    """The type of a known attribute. Before the first document decides, ids are of whatever type they are
    compared with."""
    attribute = attribute_of(schema, name)
    assert attribute is not None, name
    if name == ID and schema.id_type is None:
        sample = operand[0] if isinstance(operand, list | tuple) and operand else operand
        return AttributeType(Scalar.STRING if isinstance(sample, str) else Scalar.UINT)
    return attribute.type


def is_operand(scalar: Scalar, value: Any) -> bool:
    """Whether a value can be compared with attributes of a type. Integers fit floats; whole floats do not fit
    integers. A time is ISO 8601 text, or `Milliseconds`."""
    match scalar:
        case Scalar.BOOL:
            return isinstance(value, bool)
        case Scalar.STRING:
            return isinstance(value, str) and _has_utf8_form(value)
        case Scalar.INT | Scalar.UINT:
            return isinstance(value, int) and not isinstance(value, bool)
        case Scalar.FLOAT:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return is_number and value == value  # not NaN
        case Scalar.UUID:
            return _is_parsed(parse_uuid, value)
        case Scalar.DATETIME:
            return isinstance(value, Milliseconds) or _is_parsed(parse_datetime, value)
        case Scalar.UNKNOWN:
            return any(is_operand(known, value) for known in (Scalar.BOOL, Scalar.FLOAT, Scalar.STRING))
        case _:
            return False


def are_operands(scalar: Scalar, values: Sequence[Any]) -> bool:
    """`is_operand` of all; long lists of one type are checked as a whole."""
    kinds = set(map(type, values))
    if scalar in (Scalar.INT, Scalar.UINT) and kinds <= {int}:
        return True
    if scalar is Scalar.STRING and kinds <= {str}:
        return _has_utf8_form("".join(values))
    return all(is_operand(scalar, value) for value in values)


def as_stored(scalar: Scalar, value: Any) -> Any:
    """The stored form of an operand that fits."""
    if scalar is Scalar.UUID:
        return parse_uuid(value)
    if scalar is Scalar.DATETIME and isinstance(value, str):
        return Milliseconds(parse_datetime(value))
    return value


def shown_plainly(value: Any) -> str:
    """A JSON value in an error message without the quotes of its texts, cut where it is long."""
    return _cut(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        # what is cut off anyway need not be made
        return "[" + ", ".join(_plain(v) for v in value[:_CHARACTERS_SHOWN]) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _CHARACTERS_SHOWN else text[: _CHARACTERS_SHOWN - 3] + "..."


def _has_utf8_form(text: str) -> bool:
    """Whether there is no lone surrogate in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_parsed(parse: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse(value)
    except ValueError:
        return False
    return True
