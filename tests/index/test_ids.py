from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import HoleySource, driven

from elacsym.errors import CorruptObject
from elacsym.format import blob, digest
from elacsym.format.reading import MemorySource, resident
from elacsym.index import arrays as arrays_module
from elacsym.index import ids as ids_module
from elacsym.index.ids import IdColumn, IdFile, Ids, MemoryIds

uints = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 20), unique=True)
strings = st.lists(st.text(max_size=20) | st.text("ab\0", max_size=4), unique=True)
uuids = st.lists(st.uuids().map(str) | st.integers(0, 20).map(lambda n: str(UUID(int=n << 56))), unique=True)
values = (
    st.tuples(st.just("uint"), uints, uints)
    | st.tuples(st.just("string"), strings, strings)
    | st.tuples(st.just("uuid"), uuids, uuids)
)


def opened(column: IdColumn) -> IdFile:
    return resident(IdFile.opened(MemorySource(IdFile.build(column)), len(column)))


def cold(column: IdColumn) -> tuple[IdFile, HoleySource]:
    source = HoleySource(IdFile.build(column))
    return driven(IdFile.opened(source, len(column))).value, source


def rows_of(ids: Ids, wanted: IdColumn) -> list[int]:
    found = driven(ids.rows_of(wanted))
    assert found.value.dtype == np.int64
    assert len(found.rounds) <= 1
    return found.value.tolist()


@settings(max_examples=150, deadline=None)
@given(values)
def test_the_rows_of_ids_are_found_and_others_are_not(drawn):
    id_type, stored, others = drawn
    wanted = [*others, *stored[::2]]
    expected = [stored.index(i) if i in stored else -1 for i in wanted]
    column = IdColumn.of(id_type, stored)
    for ids in (MemoryIds(column), opened(column), cold(column)[0]):
        assert (len(ids), ids.id_type) == (len(stored), id_type)
        assert rows_of(ids, IdColumn.of(id_type, wanted)) == expected


@settings(max_examples=60, deadline=None)
@given(values, st.lists(st.integers(0, 10**9), max_size=5), st.integers(1, 4), st.integers(1, 40))
def test_a_file_in_small_blocks_gives_the_same_from_only_what_it_wants(drawn, picks, keys, unit_bytes):
    id_type, stored, others = drawn
    column = IdColumn.of(id_type, stored)
    rows = np.array([p % len(stored) for p in picks] if stored else [], np.int64)
    wanted = [*others[:3], *(stored[r] for r in rows)]
    expected = [stored.index(i) if i in stored else -1 for i in wanted]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids_module, "BLOCK_KEYS", keys)
        patch.setattr(arrays_module, "EAGER_FILE_BYTES_MAX", 0)
        patch.setattr(arrays_module, "BLOCK_ROWS", 3)
        patch.setattr(arrays_module, "UNIT_BYTES", unit_bytes)
        for share in (1 / 4, 1.0):
            patch.setattr(ids_module, "_WHOLE_SHARE", share)
            patch.setattr(arrays_module, "_WHOLE_SHARE", share)
            assert rows_of(cold(column)[0], IdColumn.of(id_type, wanted)) == expected
            selected = driven(cold(column)[0].select(rows))
            assert len(selected.rounds) <= 1
            assert selected.value.to_list() == [stored[r] for r in rows]
            for ids in (cold(column)[0], MemoryIds(column)):
                shown = driven(ids.documents(rows))
                assert len(shown.rounds) <= 1 and shown.value == [stored[r] for r in rows]
            assert driven(cold(column)[0].column()).value == column


def names_of(count: int) -> list[str]:
    return [f"document-{i:07}" for i in np.random.default_rng(1).permutation(count)]


@pytest.mark.parametrize("id_type", ["uint", "string", "uuid"])
def test_a_cold_look_up_or_selection_takes_one_round_and_few_bytes(id_type):
    names = names_of(100_000)
    numbers = [int(n[9:]) * 7 for n in names]
    by_type = {"uint": numbers, "string": names, "uuid": [str(UUID(int=n)) for n in numbers]}
    column = IdColumn.of(id_type, by_type[id_type])
    ids, source = cold(column)
    assert source.brought_bytes < 16_000
    picks = np.array([5, 99_999, 31_000])
    found = driven(ids.rows_of(column.select(picks)))
    assert found.value.tolist() == picks.tolist()
    assert len(found.rounds) == 1 and found.rounds[0] < 120_000
    ids, _ = cold(column)
    selected = driven(ids.select(picks))
    assert selected.value == column.select(picks)
    assert len(selected.rounds) == 1 and selected.rounds[0] < 80_000


def test_looking_up_many_ids_brings_the_index_once_and_whole():
    column = IdColumn.of("string", names_of(20_000))
    ids, _ = cold(column)
    assert rows_of(ids, column) == [*range(20_000)]
    assert driven(ids.rows_of(column)).rounds == []


@pytest.mark.parametrize("many", [50, 1300])
def test_strings_of_equal_hash_are_told_apart(monkeypatch, many):
    monkeypatch.setattr(ids_module, "_hashes", lambda array: np.full(len(array), 2**64 - 1, np.uint64))
    names = [f"n{i}" for i in range(many)]
    column = IdColumn.of("string", names)
    wanted = IdColumn.of("string", [*names[::-1], "other"])
    expected = [*range(many - 1, -1, -1), -1]
    for ids in (MemoryIds(column), opened(column), cold(column)[0]):
        assert rows_of(ids, wanted) == expected
        assert rows_of(ids, wanted.select(np.array([3]))) == [many - 4]


def test_strings_of_equal_hash_are_found_across_the_blocks_of_a_cold_index(monkeypatch):
    monkeypatch.setattr(
        ids_module, "_hashes", lambda array: np.array([int(n) // 6 for n in array.to_pylist()], np.uint64)
    )
    monkeypatch.setattr(ids_module, "BLOCK_KEYS", 4)
    monkeypatch.setattr(arrays_module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(arrays_module, "EAGER_FILE_BYTES_MAX", 0)
    column = IdColumn.of("string", [str(n) for n in range(400)])
    for row in range(180, 200):
        assert rows_of(cold(column)[0], column.select(np.array([row]))) == [row]


@given(st.lists(st.integers(0, 5), max_size=20), st.sampled_from(["uint", "string"]))
def test_in_memory_an_id_that_is_there_several_times_is_found_in_its_last_row(stored, id_type):
    def column(values):
        return IdColumn.of(id_type, values if id_type == "uint" else [str(v) for v in values])

    last = {id_: row for row, id_ in enumerate(stored)}
    ids = MemoryIds(column(stored))
    assert rows_of(ids, column([*range(7)])) == [last.get(i, -1) for i in range(7)]
    picks = np.arange(len(stored))[::-1]
    assert driven(ids.select(picks)).value == column(stored[::-1])
    assert driven(ids.column()).value == column(stored)


def test_the_hash_of_a_string_depends_on_nothing_but_the_string():
    words = ["", "a", "ab", "abcdefgh", "abcdefghi", "ä" * 30, "a\0", "\0"]
    column = IdColumn.of("string", [*words, "x" * 64])
    alone = [int(IdColumn.of("string", [word]).keys()[0]) for word in words]
    sliced = IdColumn.from_arrow(pa.array(["zz", *words, "tail"]).slice(1, len(words)))
    assert column.keys()[:-1].tolist() == alone == sliced.keys().tolist()
    assert len(set(alone)) == len(words)


def plain_hash(data: bytes) -> int:
    def mix(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    value = mix(len(data))
    for i in range(0, len(data), 8):
        value = mix(value ^ int.from_bytes(data[i : i + 8], "little"))
    return value


@given(strings, uuids)
def test_hashes_are_the_documented_ones_because_files_hold_them(names, numbers):
    assert IdColumn.of("string", names).keys().tolist() == [plain_hash(name.encode()) for name in names]
    assert IdColumn.of("uuid", numbers).keys().tolist() == [plain_hash(UUID(n).bytes) for n in numbers]
    assert IdColumn.of("uuid", numbers).select(np.arange(1, len(numbers))).keys().tolist() == [
        plain_hash(UUID(n).bytes) for n in numbers[1:]
    ]


def test_more_ids_than_are_hashed_at_a_time_are_found(monkeypatch):
    monkeypatch.setattr(ids_module, "HASH_ROWS", 7)
    column = IdColumn.of("string", [f"{i}" * (i % 5 + 1) for i in range(100)])
    assert rows_of(opened(column), column) == [*range(100)]


def test_ids_of_the_other_type_are_absent():
    column = IdColumn.of("uint", [1, 2])
    for ids in (MemoryIds(column), opened(column)):
        assert rows_of(ids, IdColumn.of("string", ["1", "2"])) == [-1, -1]


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
    assert merged.select(places).to_list() == both
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


@pytest.mark.parametrize("id_type", ["uint", "string"])
def test_every_flipped_bit_and_every_truncation_is_reported_with_key_and_offset(id_type):
    good = IdFile.build(IdColumn.of(id_type, ["a", "b"] if id_type == "string" else [1, 2]))
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        for damaged in (bytes(bad), good[:place]):
            with pytest.raises(CorruptObject) as caught:
                blob.Blob.open(damaged, "seg/ids").verify()
            assert (caught.value.key, caught.value.offset is None) == ("seg/ids", False)


def test_a_file_that_is_no_index_of_these_rows_is_refused():
    good = IdFile.build(IdColumn.of("uint", [1, 2]))
    sections = {"keys": np.zeros(2, np.uint64)}
    meta = {"kind": "ids", "version": ids_module.VERSION, "rows": 2}
    for data, rows in [
        (good, 3),
        (blob.encode(sections, {"kind": "other", "version": 1}), 2),
        (blob.encode(sections, meta), 2),
        (blob.encode(sections, meta | {"id_type": "float"}), 2),
        (blob.encode(sections, meta | {"id_type": "uint"}), 2),
    ]:
        with pytest.raises(CorruptObject, match="seg/ids") as caught:
            resident(IdFile.opened(MemorySource(data, "seg/ids"), rows))
        assert caught.value.offset is not None
