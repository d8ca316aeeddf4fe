"""Values between text, Python and Arrow."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.index.values import (
    DATETIME_MS_MAX,
    DATETIME_MS_MIN,
    UUID_ARROW,
    parse_bytes,
    parse_datetime,
    parse_duration,
    parse_uuid,
    render_bytes,
    render_datetime,
    to_arrow,
    to_python,
    uuid_bytes,
    uuid_text,
)

_DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-02T00:00", _DAY),
        ("1970-01-02 00:00:01", _DAY + 1_000),
        ("1970-01-01T00:00:00.5", 500),
        ("1970-01-01T00:00:00,0019999", 1),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-0130", 5_400_000),
        ("1970-01-01T02:00+02", 0),
        ("2024-02-29t12:00:00z", 1_709_208_000_000),
        ("0001-01-01", DATETIME_MS_MIN),
        ("9999-12-31T23:59:59.999", DATETIME_MS_MAX),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_datetime(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12:00:00",
        "2024",
        "2024-01",
        "2024-13-01",
        "2023-02-29",
        "2024-01-01T24:00",
        "2024-01-01T00:60",
        "2024-01-01T00:00:60",
        "2024-01-01T10",
        "2024-01-01T10:00:00.",
        "2024-01-01Z",
        "0001-01-01T00:00+00:01",
        "9999-12-31T23:59:59-01:00",
        "0000-01-01",
        "2024-01-01T00:00:00+24:00",
        "\N{FULLWIDTH DIGIT TWO}024-01-01",
        " 2024-01-01",
        "2024-01-01T00:00:00Z\n",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no (ISO 8601 )?time|outside the years"):
        parse_datetime(text)


@given(
    st.datetimes(
        datetime(2, 1, 1),  # noqa: DTZ001 - the strategy wants naive ones
        datetime(9998, 12, 31),  # noqa: DTZ001
    ),
    st.integers(-23 * 60, 23 * 60),
)
def test_times_agree_with_datetime(moment: datetime, offset_min: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset_min)))
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_datetime(aware.isoformat()) == expected
    assert parse_datetime(render_datetime(expected)) == expected


def test_rendered_times() -> None:
    assert render_datetime(1_709_337_600_000) == "2024-03-02T00:00:00.000000000Z"
    assert render_datetime(-1) == "1969-12-31T23:59:59.999000000Z"
    assert render_datetime(DATETIME_MS_MIN) == "0001-01-01T00:00:00.000000000Z"
    assert render_datetime(DATETIME_MS_MAX) == "9999-12-31T23:59:59.999000000Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1ms", 1), ("2s", 2_000), ("3m", 180_000), ("36h", 129_600_000), ("1d", _DAY), ("1.5w", 10.5 * _DAY)],
)
def test_durations(text: str, expected: float) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "h", "36", "-1h", "1 h", "1y", "1e3s", "1h30m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)


@given(st.uuids())
def test_spellings_of_uuids(value: uuid.UUID) -> None:
    for text in (str(value), value.hex, value.urn, f"{{{value}}}", str(value).upper(), value.urn.upper()):
        assert parse_uuid(text) == str(value)
    assert uuid_text(uuid_bytes(str(value))) == str(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0" * 31,
        "0" * 33,
        "g" * 32,
        "{" + "0" * 32,
        "0000-0000-0000-0000-0000-0000-0000-0000",
        "urn:uuid:{" + "0" * 32 + "}",
        "0" * 32 + "\n",
    ],
)
def test_no_uuids(text: str) -> None:
    with pytest.raises(ValueError, match="is no UUID"):
        parse_uuid(text)


@given(st.binary())
def test_bytes(data: bytes) -> None:
    assert parse_bytes(render_bytes(data)) == data


@pytest.mark.parametrize("text", ["a", "ab", "a===", "YQ", "Y-==", "YQ==\n", "é"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="not base64"):
        parse_bytes(text)


_UUID_TEXTS = st.uuids().map(str)


@given(st.lists(_UUID_TEXTS | st.none()), st.lists(st.lists(_UUID_TEXTS) | st.none()))
def test_arrow_and_back(values: list[str | None], arrays: list[list[str] | None]) -> None:
    assert to_python(to_arrow(values, UUID_ARROW)) == values
    assert to_python(to_arrow(arrays, pa.list_(UUID_ARROW))) == arrays
