"""Attribute files against plain Python lists, wholly at hand and full of holes."""

from __future__ import annotations

from contextlib import contextmanager
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import HoleySource, driven

from elacsym.errors import CorruptObject
from elacsym.format import blob
from elacsym.format.reading import MemorySource, resident
from elacsym.index import arrays as arrays_module
from elacsym.index import attribute as attribute_module
from elacsym.index.arrays import expanded, ordered_codes
from elacsym.index.attribute import ArrowValues, AttributeFile, Cut, EmptyValues, MissingValues
from elacsym.index.columns import arrow_type, fitted
from elacsym.index.sizes import value_bytes, width_bytes
from elacsym.index.values import to_arrow, to_python
from elacsym.types import Attribute, AttributeType, FullText

SCALARS = {
    "int": st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.sampled_from([2**53, 2**53 + 1]),
    "uint": st.integers(0, 2**64 - 1) | st.integers(0, 3),
    "float": st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.5]),
    "bool": st.booleans(),
    "string": st.text(max_size=30) | st.sampled_from(["", "a", "é", "\uffff", "😀"]),
    "uuid": st.uuids().map(str) | st.sampled_from([str(UUID(int=n)) for n in (0, 255, 2**120)]),
    "datetime": st.integers(-(2**40), 2**45) | st.integers(-3, 3),
}
KINDS = [*SCALARS, *(f"[]{kind}" for kind in SCALARS)]


@st.composite
def columns(draw):
    kind = draw(st.sampled_from(KINDS))
    one = SCALARS[kind.removeprefix("[]")]
    value = st.lists(one, max_size=4) if kind.startswith("[]") else one
    return kind, draw(st.lists(st.none() | value, max_size=25))


def array_of(kind: str, values) -> pa.Array:
    return to_arrow(values, arrow_type(AttributeType.parse(kind)))


def built(kind: str, values, **settings) -> bytes:
    return AttributeFile.build(array_of(kind, values), Attribute(AttributeType.parse(kind), **settings))


def warm(kind: str, values) -> AttributeFile:
    return resident(AttributeFile.opened(MemorySource(built(kind, values)), len(values)))


def cold(kind: str, values, **settings) -> AttributeFile:
    return driven(AttributeFile.opened(HoleySource(built(kind, values, **settings)), len(values))).value


@contextmanager
def in_pieces():
    """Blocks of a few rows and values, none of them eager."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays_module, "EAGER_FILE_BYTES_MAX", 0)
        patch.setattr(attribute_module, "_EAGER_VALUES_BYTES_MAX", 0)
        patch.setattr(attribute_module, "BLOCK_VALUES", 3)
        patch.setattr(arrays_module, "BLOCK_ROWS", 3)
        patch.setattr(arrays_module, "UNIT_BYTES", 24)
        patch.setattr(arrays_module, "_WHOLE_SHARE", 0.8)
        yield


def key_of(value):
    return value.encode() if isinstance(value, str) else value


def one_round(steps):
    found = driven(steps)
    assert len(found.rounds) <= 1
    return found.value


def elements_of(values) -> list[tuple[object, int]]:
    """(value, row) of all that an index lists, in its order."""
    pairs = {
        (key_of(element), row)
        for row, value in enumerate(values)
        if value is not None
        for element in (value if isinstance(value, list) else [value])
    }
    return sorted(pairs)


@settings(max_examples=150, deadline=None)
@given(columns(), st.lists(st.integers(0, 1000), max_size=8))
def test_values_are_read_back_whole_and_by_row(column, picks):
    kind, values = column
    rows = np.array([p % len(values) for p in picks] if values else [], np.int64)
    array = array_of(kind, values)
    for make in (lambda: ArrowValues(array), lambda: warm(kind, values), lambda: cold(kind, values)):
        stored = make()
        assert len(stored) == len(values)
        assert one_round(stored.select(rows)).equals(array.take(pa.array(rows)))
        expected = to_python(array.take(pa.array(rows)))
        assert one_round(make().values(rows)) == expected
        many = np.tile(rows, 70)
        assert one_round(make().values(many)) == 70 * expected
        assert one_round(stored.column()).equals(array)
        assert one_round(make().valid()).tolist() == [v is not None for v in values]
        one_round(stored.column()).validate(full=True)


@settings(max_examples=100, deadline=None)
@given(columns(), st.lists(st.integers(0, 1000), max_size=8))
def test_sizes_are_told_without_the_values(column, picks):
    kind, values = column
    rows = np.array([p % len(values) for p in picks] if values else [], np.int64)
    array = array_of(kind, values)
    expected = value_bytes(array)[rows]
    assert one_round(ArrowValues(array).sizes(rows)).tolist() == expected.tolist()
    is_null = array.is_null().to_numpy(zero_copy_only=False)[rows]
    with in_pieces():
        for make in (lambda: warm(kind, values), lambda: cold(kind, values)):
            sizes = one_round(make().sizes(rows))
            # a null of fixed width has a place of its own
            null = width_bytes(array.type) or 0
            assert sizes.tolist() == np.where(is_null, null, expected).tolist()


@settings(max_examples=150, deadline=None)
@given(columns(), st.lists(st.integers(0, 1000), max_size=8))
def test_rows_of_a_file_in_pieces_are_selected_in_one_round_from_what_was_wanted_alone(column, picks):
    kind, values = column
    rows = np.array([p % len(values) for p in picks] if values else [], np.int64)
    with in_pieces():
        selected = one_round(cold(kind, values).select(rows))
        shown = one_round(cold(kind, values).values(rows))
        present = one_round(cold(kind, values).valid())
    assert shown == to_python(selected)
    selected.validate(full=True)
    assert selected.equals(array_of(kind, values).take(pa.array(rows)))
    assert present.tolist() == [v is not None for v in values]


@st.composite
def indexed(draw):
    """A column and ranges of its values, many of which begin or end at one."""
    kind, values = draw(columns())
    known = [e for v in values if v is not None for e in (v if isinstance(v, list) else [v])]
    one = SCALARS[kind.removeprefix("[]")] | (st.sampled_from(known) if known else st.nothing())
    cut = st.none() | st.builds(Cut, one, st.booleans())
    return kind, values, draw(st.lists(st.tuples(cut, cut), max_size=4))


def is_between(value, low, high) -> bool:
    above = low is None or (value > key_of(low.value) if low.is_after else value >= key_of(low.value))
    below = high is None or (value <= key_of(high.value) if high.is_after else value < key_of(high.value))
    return above and below


@settings(max_examples=250, deadline=None)
@given(indexed(), st.booleans())
def test_the_rows_of_ranges_of_values_are_found_in_two_rounds(drawn, is_cold):
    kind, values, ranges = drawn
    listed = elements_of(values)
    with in_pieces():
        index = (cold if is_cold else warm)(kind, values).index
        assert (index.listed, index.rows_null) == (len(listed), values.count(None))
        found = one_round(index.ranges(ranges))
        rows = [one_round(index.rows(found[i : i + 1])).tolist() for i in range(len(found))]
        assert one_round(index.rows(found)).tolist() == [row for part in rows for row in part]
        distinct = to_python(one_round(index.distinct()))
        starts = one_round(index.starts())
    assert rows == [[row for value, row in listed if is_between(value, *pair)] for pair in ranges]
    assert [key_of(v) for v in distinct] == sorted({value for value, _ in listed})
    assert len(index) == len(distinct)
    assert np.diff(starts).tolist() == [sum(v == key_of(d) for v, _ in listed) for d in distinct]


@settings(max_examples=150, deadline=None)
@given(columns(), st.integers(0, 1000), st.integers(1, 9))
def test_a_walk_gives_rows_and_the_bounds_of_their_values(column, pick, length):
    kind, values = column
    listed = elements_of(values)
    if listed:
        start = pick % len(listed)
        stop = min(len(listed), start + length)
        with in_pieces():
            rows, bounds = one_round(cold(kind, values).index.walk(start, stop))
        assert rows.tolist() == [row for _, row in listed[start:stop]]
        ordered = [value for value, _ in listed]
        for place in range(start, stop):
            run = int(np.searchsorted(bounds, place, "right"))
            first = ordered.index(ordered[place])
            assert bounds[run - 1 : run + 1].tolist() == [first, first + ordered.count(ordered[place])]


def test_zero_and_negative_zero_are_one_value_and_columns_keep_them_apart():
    stored = warm("float", [0.0, -0.0, 1.0])
    assert resident(stored.index.rows(np.array([[0, 2]]))).tolist() == [0, 1]
    assert len(stored.index) == 2
    assert str(resident(stored.column()).to_pylist()) == "[0.0, -0.0, 1.0]"


def test_a_long_text_is_read_alone():
    texts = [f"text {i} " * 20 for i in range(2_000)]
    texts[700] = "x" * 8 * 2**20
    texts[1500] = None
    stored = cold("string", texts, filterable=False)
    for row, most in [(699, 40_000), (700, 8 * 2**20 + 20_000), (701, 40_000), (1500, 40_000)]:
        found = driven(stored.select(np.array([row])))
        assert found.value.to_pylist() == [texts[row]]
        assert len(found.rounds) <= 1 and sum(found.rounds) < most


@pytest.mark.parametrize("kind", ["int", "string", "[]string", "bool"])
def test_point_reads_and_look_ups_in_a_large_cold_file_take_few_bytes(kind):
    rows = 200_000
    numbers = np.random.default_rng(3).integers(0, 50_000, rows).tolist()
    make = {
        "int": lambda n: n,
        "string": lambda n: f"value-{n:06}",
        "[]string": lambda n: [f"value-{n:06}", "all"],
        "bool": lambda n: n == 7,
    }[kind]
    values = [make(n) for n in numbers]
    source = HoleySource(built(kind, values))
    stored = driven(AttributeFile.opened(source, rows)).value
    assert source.brought_bytes < 50_000
    picks = np.array([3, 100_000, 199_999, 64_000])
    selected = driven(stored.select(picks))
    assert selected.value.to_pylist() == [values[r] for r in picks]
    assert len(selected.rounds) == 1 and selected.rounds[0] < 150_000
    wanted = make(7)[0] if isinstance(make(7), list) else make(7)
    ranges = driven(stored.index.ranges([(Cut(wanted, False), Cut(wanted, True))]))
    found = driven(stored.index.rows(ranges.value))
    assert found.value.tolist() == [row for row, n in enumerate(numbers) if n == 7]
    assert len(ranges.rounds) <= 1 and sum(ranges.rounds) < 40_000
    assert len(found.rounds) == 1 and found.rounds[0] == 4 * len(found.value)


def test_an_attribute_that_is_not_filterable_has_no_index_nor_have_long_texts():
    assert cold("int", [1], filterable=False).index is None
    assert cold("string", ["long " * 100], full_text=FullText()).index is None
    assert cold("string", ["short"], full_text=FullText()).index is not None
    assert cold("string", ["long " * 100]).index is not None


def test_a_small_file_is_one_request():
    values = [f"name {i}" for i in range(100)]
    stored = cold("string", values)
    assert driven(stored.column()).rounds == []
    assert driven(stored.index.ranges([(Cut("name 7", False), None)])).rounds == []


def test_missing_values_are_null():
    for kind in KINDS:
        missing = MissingValues(AttributeType.parse(kind), 3)
        nulls = pa.nulls(3, arrow_type(AttributeType.parse(kind)))
        assert resident(missing.column()).equals(nulls)
        assert resident(missing.select(np.array([0, 2]))).equals(nulls[:2])
        assert resident(missing.values(np.array([0, 2]))) == [None, None]
        assert (len(missing), missing.index, resident(missing.valid()).tolist()) == (3, None, [False] * 3)


ONE, OTHER = str(UUID(int=1)), str(UUID(int=2**127))


def test_slices_of_columns_are_stored_as_what_they_show():
    for kind, values in [
        ("bool", [True, None, False, True, None, True]),
        ("string", ["a", None, "ccc", "dd", "", "f"]),
        ("[]int", [[1], None, [2, 3], [], [4], [5]]),
        ("uuid", [ONE, None, OTHER, ONE, ONE, OTHER]),
        ("[]uuid", [[ONE], None, [OTHER, ONE], [], [ONE], [OTHER]]),
        ("[]string", [["a"], None, ["b", ""], [], ["c"], ["d"]]),
    ]:
        sliced = array_of(kind, values).slice(1, 4)
        data = AttributeFile.build(sliced, Attribute(AttributeType.parse(kind)))
        stored = resident(AttributeFile.opened(MemorySource(data), 4))
        assert to_python(resident(stored.column())) == values[1:5]
        assert stored.index.rows_null == values[1:5].count(None)


def test_a_column_larger_than_an_arrow_array_is_refused(monkeypatch):
    monkeypatch.setattr(arrays_module, "ARRAY_BYTES_MAX", 5)
    assert warm("string", ["abc", "de"]) is not None
    for kind, values in [("string", ["abc", "def"]), ("[]int", [[1, 2, 3], [4, 5, 6]])]:
        with pytest.raises(ValueError, match="column: 6 bytes or elements"):
            built(kind, values)


ONE_OF = {
    "int": -5,
    "uint": 5,
    "float": 0.5,
    "bool": True,
    "string": "é",
    "uuid": str(UUID(int=5)),
    "datetime": -5,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_and_every_truncation_is_reported_with_key_and_offset(kind):
    one = ONE_OF[kind.removeprefix("[]")]
    good = built(kind, [None, [one, one] if kind.startswith("[]") else one])
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        for damaged in (bytes(bad), good[:place]):
            with pytest.raises(CorruptObject) as caught:
                blob.Blob.open(damaged, "seg/attr.x").verify()
            assert (caught.value.key, caught.value.offset is None) == ("seg/attr.x", False)


def test_a_file_that_is_no_attribute_of_these_rows_is_refused():
    sections = {"column.values": np.zeros(2, np.int64)}
    meta = {"kind": "attribute", "version": attribute_module.VERSION, "rows": 2, "nulls": 0}
    for data, rows in [
        (built("int", [1, 2]), 3),
        (blob.encode(sections, meta), 2),
        (blob.encode(sections, meta | {"type": "[3]f32"}), 2),
        (blob.encode(sections, meta | {"type": "string"}), 2),
        (blob.encode(sections, meta | {"type": "int", "nulls": 1}), 2),
        (blob.encode(sections, meta | {"type": "int", "kind": "other"}), 2),
        (blob.encode(sections, meta | {"type": "int", "distinct": 2}), 2),
    ]:
        with pytest.raises(CorruptObject, match="seg/attr") as caught:
            resident(AttributeFile.opened(MemorySource(data, "seg/attr.x"), rows))
        assert caught.value.offset is not None


@settings(max_examples=200, deadline=None)
@given(columns().filter(lambda column: not column[0].startswith("[]")))
def test_codes_compare_as_the_values_do_and_null_is_the_smallest(column):
    kind, values = column
    codes, distinct = ordered_codes(array_of(kind, values))
    present = {v for v in values if v is not None}
    known = to_python(distinct)
    assert known == sorted(present, key=key_of)
    assert [None if c < 0 else known[c] for c in codes.tolist()] == values
    assert len(distinct) == len(set(codes[codes >= 0].tolist()))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=5))
def test_expanded_ranges_are_their_numbers(ranges):
    starts = np.array([start for start, _ in ranges], np.int64)
    stops = starts + np.array([length for _, length in ranges], np.int64)
    assert expanded(starts, stops).tolist() == [
        n for start, length in ranges for n in range(start, start + length)
    ]


OPAQUE = {
    "bytes": st.binary(max_size=30),
    "[][2]f32": st.lists(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=2), max_size=4),
}


@st.composite
def opaque_columns(draw):
    kind = draw(st.sampled_from(sorted(OPAQUE)))
    return kind, draw(st.lists(st.none() | OPAQUE[kind], max_size=25))


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


@settings(max_examples=100, deadline=None)
@given(opaque_columns(), st.lists(st.integers(0, 1000), max_size=8))
def test_values_that_have_no_order_are_read_back_and_have_no_index(column, picks):
    kind, values = column
    rows = np.array([p % len(values) for p in picks] if values else [], np.int64)
    array = array_of(kind, values)
    expected = [values[r] for r in rows]
    with in_pieces():
        assert cold(kind, values).index is None
        for make in (lambda: ArrowValues(array), lambda: warm(kind, values), lambda: cold(kind, values)):
            selected = one_round(make().select(rows))
            selected.validate(full=True)
            assert [plain(v) for v in to_python(selected)] == expected
            assert [plain(v) for v in one_round(make().values(rows))] == expected
            assert one_round(make().column()).equals(array)


@given(
    st.lists(st.none() | st.just([]), max_size=9), st.sampled_from([k for k in KINDS if k.startswith("[]")])
)
def test_empty_arrays_are_of_the_type_that_is_known_later(values, kind):
    wanted = array_of(kind, values)
    type_ = AttributeType.parse(kind)
    stored = EmptyValues(warm("[]unknown", values), type_)
    rows = np.arange(len(values))[::-1]
    assert fitted(array_of("[]unknown", values), type_).equals(wanted)
    assert resident(stored.column()).equals(wanted)
    assert resident(stored.select(rows)).equals(wanted.take(pa.array(rows)))
    assert resident(stored.values(rows)) == values[::-1]
    assert (len(stored), stored.index) == (len(values), None)
    assert resident(stored.valid()).tolist() == [v is not None for v in values]
