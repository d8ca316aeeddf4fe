import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elacsym.errors import CorruptObject
from elacsym.format import blob

arrays = hnp.arrays(
    st.sampled_from([np.uint8, np.bool_, np.uint32, np.int64, np.float32, np.float64, np.dtype(">u4")]),
    hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=50),
    elements={"allow_nan": False},
)


def sample() -> bytes:
    rng = np.random.default_rng(7)
    sections = {
        "matrix": rng.standard_normal((90, 64)).astype(np.float32),  # 23,040 bytes: two units
        "rows": np.arange(3, dtype=np.uint32),
        "none": np.empty(0, np.float64),
        "flags": np.array([True, False]),
    }
    return blob.encode(sections, {"kind": "sample", "version": 3, "count": 90})


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
