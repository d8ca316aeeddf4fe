"""Scalar values between the texts that people write, the Python values inside, and Arrow arrays.

| type | inside | text | Arrow |
| --- | --- | --- | --- |
| datetime | int, milliseconds since 1970 UTC | `2024-03-02T00:00:00.000000000Z` | int64 |
| uuid | str, canonical lower case | any usual spelling | fixed binary of 16 |
| bytes | bytes | base64, standard alphabet, padded | binary |

Everything else is the same value throughout. The parsers raise ValueError with a reason that names the text;
who calls them knows the field.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

UUID_BYTES = 16
UUID_ARROW = pa.binary(UUID_BYTES)

_DAY_MS = 86_400_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# the years 1 to 9999, which is what texts can say
DATETIME_MS_MIN = (date.min.toordinal() - _EPOCH_ORDINAL) * _DAY_MS
DATETIME_MS_MAX = (date.max.toordinal() + 1 - _EPOCH_ORDINAL) * _DAY_MS - 1

_DATETIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"\s?(?:[Zz]|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)
_HEX = r"[0-9a-fA-F]"
_UUID = re.compile(
    rf"(?:urn:uuid:)?(?:{_HEX}{{32}}|{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})"
    rf"|\{{(?:{_HEX}{{32}}|{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}})\}}",
    re.IGNORECASE,
)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": _DAY_MS, "w": 7 * _DAY_MS}


def parse_datetime(text: str) -> int:
    """The milliseconds since 1970, UTC, of an ISO 8601 time; what is finer is cut.

    The date is required. Time of day, seconds, their fraction and the offset may be left out: without an
    offset it is UTC. Raises ValueError.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{_quoted(text)} is no ISO 8601 time such as 2024-03-02T10:20:30Z")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    try:
        days = date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError as error:
        raise ValueError(f"{_quoted(text)} is no time: {error}") from error
    offset_hours, offset_minutes = int(match[9] or 0), int(match[10] or 0)
    if hour > 23 or minute > 59 or second > 59 or offset_hours > 23 or offset_minutes > 59:
        raise ValueError(f"{_quoted(text)} is no time: hours go to 23, minutes and seconds to 59")
    offset_min = 60 * offset_hours + offset_minutes
    minutes = 60 * hour + minute + (offset_min if match[8] == "-" else -offset_min)
    found = days * _DAY_MS + minutes * 60_000 + second * 1_000 + int((match[7] or "")[:3].ljust(3, "0"))
    if not DATETIME_MS_MIN <= found <= DATETIME_MS_MAX:
        raise ValueError(f"{_quoted(text)} is outside the years 1 to 9999")
    return found


def render_datetime(milliseconds: int) -> str:
    """A time as people read it, with nine digits of a second, in UTC."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1_000:03}000000Z".rjust(30, "0")


def parse_duration(text: str) -> float:
    """The milliseconds of a length of time such as `36h`: a number and ms, s, m, h, d or w. Raises
    ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{_quoted(text)} is no duration such as 36h, in ms, s, m, h, d or w")
    return float(match[1]) * _UNIT_MS[match[2]]


def parse_uuid(text: str) -> str:
    """The canonical spelling of a UUID in any usual one: with or without dashes, in braces, as a URN. Raises
    ValueError."""
    if _UUID.fullmatch(text) is None:
        raise ValueError(f"{_quoted(text)} is no UUID")
    return uuid_text(bytes.fromhex(text.strip("{}").replace("-", "")[-2 * UUID_BYTES :]))


def parse_bytes(text: str) -> bytes:
    """The bytes that base64 (standard alphabet, padded) stands for. Raises ValueError."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ValueError(f"not base64: {error}") from error


def render_bytes(data: bytes) -> str:
    """Bytes as base64, standard alphabet, padded."""
    return binascii.b2a_base64(data, newline=False).decode()


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID in its canonical spelling; they order as the spellings do."""
    return bytes.fromhex(text.replace("-", ""))


def uuid_text(data: bytes) -> str:
    """The canonical spelling of 16 bytes."""
    digits = data.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def to_arrow(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Python values as they are inside, None as null, as an Arrow array."""
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        return pa.array([None if v is None else _entries(v) for v in values], type_)
    if pa.types.is_list(type_) and pa.types.is_fixed_size_list(type_.value_type):
        return pa.array([None if v is None else [list(row) for row in v] for v in values], type_)
    if type_ == UUID_ARROW:
        return pa.array([None if v is None else uuid_bytes(v) for v in values], type_)
    if pa.types.is_list(type_) and type_.value_type == UUID_ARROW:
        return pa.array([None if v is None else [uuid_bytes(e) for e in v] for v in values], type_)
    return pa.array(values, type_)


def _entries(vector: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"dimension": name, "weight": np.float16(weight)} for name, weight in vector.items()]


def to_python(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of an Arrow array as they are inside, None for null: sparse vectors as dictionaries, arrays
    of vectors as (m, d) float32."""
    values: list[Any] = array.to_pylist()
    make = _maker(array.type)
    return values if make is None else [None if v is None else make(v) for v in values]


def _maker(type_: pa.DataType) -> Callable[[Any], Any] | None:
    """What makes the value inside of the one that Arrow gives; None where they are the same."""
    if type_ == UUID_ARROW:
        return uuid_text
    if not pa.types.is_list(type_):
        return None
    leaf = type_.value_type
    if leaf == UUID_ARROW:
        return lambda value: [uuid_text(element) for element in value]
    if pa.types.is_struct(leaf):
        return lambda value: {entry["dimension"]: entry["weight"] for entry in value}
    if pa.types.is_fixed_size_list(leaf):
        return lambda value: np.array(value, np.float32).reshape(-1, leaf.list_size)
    return None


def _quoted(text: str) -> str:
    return repr(text) if len(text) <= 64 else repr(text[:61] + "...")
