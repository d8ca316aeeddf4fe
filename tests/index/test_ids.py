import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.format import digest
from elacsym.index import ids as ids_module
from elacsym.index.ids import IdColumn, IdIndex

uints = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20), unique=True)
strings = st.lists(st.text(max_size=20) | st.text("ab\0", max_size=4), unique=True)
values = st.tuples(st.just("uint"), uints, uints) | st.tuples(st.just("string"), strings, strings)


@settings(max_examples=200)
@given(values)
def test_the_rows_of_ids_are_found_and_others_are_not(drawn):
    id_type, stored, others = drawn
    wanted = [*others, *stored[::2]]
    expected = [stored.index(i) if i in stored else -1 for i in wanted]
    index = IdIndex.build(IdColumn.of(id_type, stored))
    opened = IdIndex.open(memoryview(index.encode()), "ids", verify=True)
    for one in (index, opened):
        found = one.rows_of(IdColumn.of(id_type, wanted))
        assert found.dtype == np.int64
        assert found.tolist() == expected


def test_strings_of_equal_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(ids_module, "_hashes", lambda array: np.full(len(array), 2**64 - 1, np.uint64))
    names = [f"n{i}" for i in range(50)]
    index = IdIndex.build(IdColumn.of("string", names))
    assert index.rows_of(IdColumn.of("string", [*names[::-1], "other"])).tolist() == [*range(49, -1, -1), -1]


def test_the_hash_of_a_string_depends_on_nothing_but_the_string():
    words = ["", "a", "ab", "abcdefgh", "abcdefghi", "ä" * 30, "a\0", "\0"]
    column = IdColumn.of("string", [*words, "x" * 64])
    alone = [int(IdColumn.of("string", [word]).keys()[0]) for word in words]
    sliced = IdColumn.from_arrow(pa.array(["zz", *words, "tail"]).slice(1, len(words)))
    assert column.keys()[:-1].tolist() == alone == sliced.keys().tolist()
    assert len(set(alone)) == len(words)


def plain_hash(text: str) -> int:
    def mix(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    data = text.encode()
    value = mix(len(data))
    for i in range(0, len(data), 8):
        value = mix(value ^ int.from_bytes(data[i : i + 8], "little"))
    return value


@given(strings)
def test_the_hash_of_a_string_is_the_documented_one_because_files_hold_it(names):
    assert IdColumn.of("string", names).keys().tolist() == [plain_hash(name) for name in names]


def test_more_ids_than_are_hashed_at_a_time_are_found(monkeypatch):
    monkeypatch.setattr(ids_module, "HASH_ROWS", 7)
    names = [f"{i}" * (i % 5 + 1) for i in range(100)]
    assert IdIndex.build(IdColumn.of("string", names)).rows_of(IdColumn.of("string", names)).tolist() == [
        *range(100)
    ]


def test_ids_of_the_other_type_are_absent():
    index = IdIndex.build(IdColumn.of("uint", [1, 2]))
    assert index.rows_of(IdColumn.of("string", ["1", "2"])).tolist() == [-1, -1]


@given(values)
def test_a_merge_is_the_columns_in_their_new_places(drawn):
    id_type, first, second = drawn
    rows = len(first) + len(second)
    places = np.random.default_rng(rows).permutation(rows)
    kept_first = places[: len(first)].astype(np.int64)
    kept_second = places[len(first) :].astype(np.int64)
    merged = IdColumn.merge(
        [IdColumn.of(id_type, first), IdColumn.of(id_type, second)], [kept_first, kept_second], rows
    )
    both = [*first, *second]
    assert merged.take(places) == both
    dropped = IdColumn.merge([IdColumn.of(id_type, both)], [np.arange(-1, rows - 1)], max(rows - 1, 0))
    assert dropped == IdColumn.of(id_type, both[1:])


@given(values)
def test_the_row_sum_of_a_column_is_that_of_its_ids(drawn):
    id_type, stored, _ = drawn
    versions = np.arange(len(stored), dtype=np.uint64)
    plain = np.array(stored, np.uint64) if id_type == "uint" else stored
    assert IdColumn.of(id_type, stored).row_sum(versions) == digest.row_sum(plain, versions)


def test_arrow_columns_of_either_type_are_taken():
    chunked = pa.chunked_array([["a"], ["b", "c"]])
    assert IdColumn.from_arrow(chunked).take(np.array([2, 0])) == ["c", "a"]
    assert IdColumn.from_arrow(pa.array(["x"], pa.large_string())).to_arrow().type == pa.string()
    assert IdColumn.from_arrow(pa.array([7], pa.uint64())).id_type == "uint"
    assert IdColumn.concat([IdColumn.of("uint", [1]), IdColumn.of("uint", [2**64 - 1])]).take(
        np.array([1])
    ) == [2**64 - 1]


def test_a_damaged_index_is_refused():
    good = IdIndex.build(IdColumn.of("string", ["a", "b"])).encode()
    for place in range(0, len(good), 5):
        bad = bytearray(good)
        bad[place] ^= 4
        with pytest.raises(CorruptObject):
            IdIndex.open(memoryview(bad), "ids", verify=True)
