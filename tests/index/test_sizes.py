"""The bytes of values against Python's own count, for every kind of column and for slices of columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from elacsym.index.columns import arrow_type
from elacsym.index.ids import IdColumn
from elacsym.index.sizes import row_bytes, total_bytes
from elacsym.types import AttributeType

COLUMNS = {
    "int": ([1, None, 3, 4], [8, 0, 8, 8]),
    "bool": ([True, None, False, True], [1, 0, 1, 1]),
    "string": (["", None, "\u00e4x", "abc"], [0, 0, 3, 3]),
    "bytes": ([b"", b"ab", None, b"c"], [0, 2, 0, 1]),
    "uuid": ([b"0" * 16, None, b"1" * 16, b"2" * 16], [16, 0, 16, 16]),
    "[]int": ([[1, 2], [], None, [3]], [16, 0, 0, 8]),
    "[]bool": ([[True, False], [], None, [True]], [2, 0, 0, 1]),
    "[]string": ([["a", "bc"], None, [], ["\u00e4"]], [3, 0, 0, 2]),
    "[]uuid": ([[b"0" * 16] * 2, None, [], [b"1" * 16]], [32, 0, 0, 16]),
    "[2]f32": ([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], [8, 0, 8, 8]),
    "[2]i8": ([[1, 2], None, [3, 4], [5, 6]], [2, 0, 2, 2]),
    "[][2]f32": ([[[1.0, 2.0]] * 3, [], None, [[1.0, 2.0]]], [24, 0, 0, 8]),
    "{}f16": (
        [[{"dimension": "17", "weight": np.float16(1)}] * 2, [], None, [{"dimension": "", "weight": None}]],
        [8, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_values_take_what_they_are(kind):
    values, sizes = COLUMNS[kind]
    array = pa.array(values, arrow_type(AttributeType.parse(kind)))
    picked = [sizes[3], sizes[0]]
    for some, expected in (
        (array, sizes),
        (array.slice(1, 2), sizes[1:3]),
        (array.slice(4), []),
        (array.take(pa.array([3, 0])), picked),
    ):
        ids = IdColumn.of("uint", range(len(some)))
        assert (row_bytes(ids, {"a": some}) - 8).tolist() == expected
        assert total_bytes(some) == sum(expected)


def test_rows_take_their_ids_and_values():
    ids = IdColumn.of("string", ["a", "bcd"])
    assert row_bytes(ids, {"n": pa.array([None, 5]), "s": pa.array(["xy", None])}).tolist() == [3, 11]
