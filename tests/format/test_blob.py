import struct
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elacsym.errors import CorruptObject
from elacsym.format import blob
from elacsym.format.blob import UNIT_BYTES, Blob, Head
from elacsym.format.reading import MemorySource

arrays = hnp.arrays(
    st.sampled_from([np.uint8, np.bool_, np.uint32, np.int64, np.float32, np.float64, np.dtype(">u4")]),
    hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=50),
    elements={"allow_nan": False},
)


def sample(eager=()) -> bytes:
    rng = np.random.default_rng(7)
    sections = {
        "matrix": rng.standard_normal((90, 64)).astype(np.float32),  # 23,040 bytes: three units
        "rows": np.arange(3, dtype=np.uint32),
        "none": np.empty(0, np.float64),
        "flags": np.array([True, False]),
    }
    return blob.encode(sections, {"kind": "sample", "version": 3, "count": 90}, eager)


@settings(max_examples=100)
@given(
    st.dictionaries(st.text(max_size=12), arrays, max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(0, 9)),
)
def test_what_is_encoded_is_read_back_aligned_and_without_a_copy(sections, meta):
    data = np.frombuffer(blob.encode(sections, meta), np.uint8)
    opened = blob.Blob.open(data.data, "k").verify()
    assert opened.meta == meta
    assert list(opened.sections) == list(sections)
    for name, expected in sections.items():
        found = opened.array(name, expected.dtype.newbyteorder("<"), *expected.shape)
        assert np.array_equal(found, expected) and found.shape == expected.shape
        assert not found.flags.writeable
        assert opened.sections[name].offset % blob.ALIGNMENT == 0
        assert not expected.size or np.shares_memory(found, data)


def test_every_bit_flip_is_reported_with_its_key_and_place():
    good = sample()
    for place in [*range(blob.PREFIX_BYTES), *range(blob.PREFIX_BYTES, len(good), 37), len(good) - 1]:
        for bit in range(8):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            with pytest.raises(CorruptObject, match=r"^seg/7: |^seg/7 at byte \d+: ") as caught:
                blob.Blob.open(memoryview(bad), "seg/7").verify()
            assert caught.value.offset is not None
            assert (
                caught.value.offset <= place < caught.value.offset + blob.UNIT_BYTES
                or place < blob.PREFIX_BYTES
            )


@given(st.integers(0, len(sample()) - 1))
def test_every_truncation_is_reported_on_opening(length):
    with pytest.raises(CorruptObject):
        blob.Blob.open(sample()[:length], "k")


def test_surplus_bytes_are_reported_on_opening():
    with pytest.raises(CorruptObject, match="bytes where the prefix says"):
        blob.Blob.open(sample() + b"\0", "k")


def test_damage_in_a_section_names_the_first_damaged_unit():
    data = bytearray(sample())
    section = blob.Blob.open(data, "k").sections["matrix"]
    data[section.offset + blob.UNIT_BYTES + 5] ^= 1
    opened = blob.Blob.open(data, "k")
    with pytest.raises(CorruptObject, match="checksum mismatch") as caught:
        opened.verify()
    assert caught.value.offset == section.offset + blob.UNIT_BYTES


def test_an_array_of_another_type_or_shape_is_refused():
    opened = blob.Blob.open(sample(), "k")
    assert opened.array("matrix", "<f4", None, 64).shape == (90, 64)
    for name, dtype, shape in (
        ("matrix", "<f8", (None, None)),
        ("matrix", "<f4", (None, 65)),
        ("matrix", "<f4", (None,)),
        ("missing", "<f4", (None,)),
    ):
        with pytest.raises(CorruptObject, match=name):
            opened.array(name, dtype, *shape)


def test_a_file_of_another_kind_is_refused():
    opened = blob.Blob.open(sample(), "k")
    assert opened.expect("sample", 3).scalar("count") == 90
    with pytest.raises(CorruptObject, match="holds sample 3, not vector 3"):
        opened.expect("vector", 3)
    with pytest.raises(CorruptObject, match="sample 4"):
        opened.expect("sample", 4)
    with pytest.raises(CorruptObject, match="'kind'"):
        opened.scalar("kind")


# sections that every reader needs, and reading by range


class RangedSource(MemorySource):
    """A file of which nothing is at hand; what was not brought is zeros."""

    def __init__(self, data: bytes, eager_bytes: int) -> None:
        self._file, self._there, self._known = data, bytearray(len(data)), bytearray(len(data))
        self._eager_bytes = eager_bytes
        super().__init__(memoryview(self._there), "seg/7")

    @property
    def eager_bytes(self):
        return self._eager_bytes

    def has(self, start, stop):
        return 0 not in self._known[start:stop]

    def fill(self, start, stop):
        self._there[start:stop] = self._file[start:stop]
        self._known[start:stop] = b"\1" * (stop - start)


def driven(steps):
    """The result of steps that get what they want, and the ranges of each round."""
    rounds = []
    try:
        while True:
            rounds.append([])
            for want in next(steps):
                for span in want.spans:
                    want.source.fill(*span)
                    rounds[-1].append(span)
    except StopIteration as finished:
        return finished.value, rounds[:-1]


names = st.sampled_from(["matrix", "rows", "none", "flags"])


@given(st.sets(names))
def test_eager_sections_stand_first_and_the_head_says_where_they_end(eager):
    head = Head.parse(sample(eager), "k")
    order = list(head.sections)
    assert set(order[: len(eager)]) == eager
    assert all(head.sections[name].end <= head.eager_bytes for name in order[: len(eager)])
    assert all(head.sections[name].offset >= head.eager_bytes for name in order[len(eager) :])
    assert head.eager_bytes == max([head.size_bytes, *(head.sections[name].end for name in eager)])


def test_a_blob_is_opened_by_one_range_and_read_by_those_it_looks_at():
    data = sample({"rows"})
    head = Head.parse(data, "k")
    source = RangedSource(data, head.eager_bytes)
    opened, rounds = driven(Blob.opened(source))
    assert rounds == [[(0, head.eager_bytes)]]
    assert opened.array("rows", "<u4", 3).tolist() == [0, 1, 2]
    _, rounds = driven(opened.want(opened.span("matrix", 10, 12), opened.span("matrix", 50)))
    matrix = head.sections["matrix"]
    assert rounds == [
        [(matrix.offset + 2560, matrix.offset + 3072), (matrix.offset + 12_800, matrix.offset + 23_040)]
    ]
    found = opened.array("matrix", "<f4", None, 64)
    expected = Blob.open(data, "k").array("matrix", "<f4", None, 64)
    assert np.array_equal(found[10:12], expected[10:12])
    assert np.array_equal(found[50:], expected[50:])
    assert not found[20:40].any()


def test_a_reference_that_knows_less_than_the_eager_part_costs_another_round():
    data = sample({"matrix"})
    head = Head.parse(data, "k")
    _, rounds = driven(Blob.opened(RangedSource(data, head.size_bytes)))
    assert rounds == [[(0, head.size_bytes)], [(0, head.eager_bytes)]]


def test_whole_sections_are_wanted_at_once_and_empty_ones_not_at_all():
    data = sample()
    opened, _ = driven(Blob.opened(RangedSource(data, Head.parse(data, "k").eager_bytes)))
    _, rounds = driven(opened.want_whole("rows", "none", "flags"))
    assert rounds == [[opened.span("rows"), opened.span("flags")]]


def test_a_source_of_another_size_than_the_prefix_says_is_corrupt():
    data = sample() + b"x"
    with pytest.raises(CorruptObject, match="bytes where the prefix says") as caught:
        driven(Blob.opened(MemorySource(data, "seg/7")))
    assert caught.value.offset == len(data) - 1


@given(st.integers(0, len(sample()) + 100), st.integers(0, len(sample()) + 100))
def test_the_units_of_a_range_are_those_that_its_bytes_are_in(start, stop):
    head = Head.parse(sample(), "k")
    touched = {
        unit
        for unit in range(len(head.crcs))
        if max(start, head.span_of_unit(unit)[0]) < min(stop, head.span_of_unit(unit)[1])
    }
    if start < stop:
        assert set(head.units(start, stop)) == touched


def test_units_tile_the_file_behind_its_head():
    data = sample()
    head = Head.parse(data, "k")
    spans = [head.span_of_unit(unit) for unit in range(len(head.crcs))]
    assert [start for start, _ in spans] == [head.size_bytes, *(stop for _, stop in spans[:-1])]
    assert spans[-1][1] == len(data)
    assert all(stop - start == UNIT_BYTES for start, stop in spans[:-1])


@given(st.data())
def test_a_flipped_bit_in_some_units_is_found_with_the_head_alone(data):
    good = sample()
    head = Head.parse(good, "k")
    first = data.draw(st.integers(0, len(head.crcs) - 1))
    units = range(first, data.draw(st.integers(first + 1, len(head.crcs))))
    body = bytearray(good[head.span_of_unit(units[0])[0] : head.span_of_unit(units[-1])[1]])
    assert head.damaged(units, memoryview(body)) is None
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= 1 << data.draw(st.integers(0, 7))
    assert head.damaged(units, memoryview(body)) == units[0] + place // UNIT_BYTES


@given(st.data())
def test_every_bit_flip_in_a_head_is_reported_whatever_follows_it(data):
    good = sample({"rows"})
    size = Head.parse(good, "k").size_bytes
    bad = bytearray(good[: data.draw(st.integers(size, len(good)))])
    bad[data.draw(st.integers(0, size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CorruptObject, match=r"^seg/7 at byte"):
        Head.parse(bad, "seg/7")


def test_a_head_keeps_nothing_of_the_bytes_it_was_parsed_from():
    data = bytearray(sample())
    head = Head.parse(data, "k")
    crcs = head.crcs.copy()
    data[:] = bytes(len(data))
    assert np.array_equal(head.crcs, crcs)


@pytest.mark.parametrize(
    "change",
    [
        {"eager": 100},
        {"eager": None},
        {"eager": ...},
        {"sections": []},
        {"sections": [{}]},
        {"sections": ...},
        {"meta": ...},
    ],
    ids=str,
)
def test_a_table_that_does_not_describe_the_file_is_reported_under_good_checksums(change):
    with pytest.raises(CorruptObject) as caught:
        Blob.open(with_table(sample(), change), "seg/7")
    assert caught.value.offset == blob.PREFIX_BYTES


@pytest.mark.parametrize("field", ["offset", "length"])
@pytest.mark.parametrize("wrong", [-64, 64, 2**40, "x", None])
def test_sections_that_do_not_tile_the_file_are_reported_under_good_checksums(field, wrong):
    table = orjson.loads(table_of(sample()))
    section = table["sections"][1]
    section[field] = section[field] + wrong if isinstance(wrong, int) else wrong
    with pytest.raises(CorruptObject):
        Blob.open(with_table(sample(), {"sections": table["sections"]}), "seg/7")


def table_of(data: bytes) -> bytes:
    length = int.from_bytes(data[8:12], "little")
    return data[blob.PREFIX_BYTES : blob.PREFIX_BYTES + length]


def with_table(data: bytes, change: dict) -> bytes:
    """The file with another table of the same length (... removes a field) under right checksums."""
    before = table_of(data)
    fields = {k: v for k, v in (orjson.loads(before) | change).items() if v is not ...}
    table = orjson.dumps(fields).ljust(len(before))
    head = Head.parse(data, "k")
    crcs = head.crcs.tobytes()
    rest = data[head.size_bytes :]
    start = blob.PREFIX_BYTES + len(table) + len(crcs)
    padded = table + b" " * (-start % blob.ALIGNMENT)
    assert len(padded) >= len(before)
    table_crc = zlib.crc32(crcs, zlib.crc32(padded))
    size = blob.PREFIX_BYTES + len(padded) + len(crcs) + len(rest)
    prefix = struct.pack(
        "<4sBBHIIQI", blob.MAGIC, blob.VERSION, 0, 0, len(padded), len(head.crcs), size, table_crc
    )
    return prefix + struct.pack("<I", zlib.crc32(prefix)) + padded + crcs + rest
