"""Frames: round trip, one copy, and every damage reported."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.format import frame
from elacsym.format.frame import Kind


@given(parts=st.lists(st.binary(max_size=64), max_size=4))
def test_a_frame_holds_the_concatenation_of_its_parts(parts):
    data = frame.encode(Kind.BLOB, *(memoryview(p) for p in parts))
    assert frame.decode(data, key="k", kind=Kind.BLOB) == b"".join(parts)
    assert data == frame.encode(Kind.BLOB, b"".join(parts))


@given(body=st.binary(max_size=48))
def test_every_truncation_and_every_flipped_bit_is_reported(body):
    good = frame.encode(Kind.BLOB, body)
    bad = [good[:end] for end in range(len(good))]
    bad += [flipped(good, bit) for bit in range(0, 8 * len(good), 5)]
    for data in bad:
        with pytest.raises(CorruptObject) as caught:
            frame.decode(data, key="wal/7", kind=Kind.BLOB)
        assert caught.value.key == "wal/7"
        assert caught.value.offset is not None


def test_a_surplus_byte_is_reported():
    with pytest.raises(CorruptObject, match="where the header says"):
        frame.decode(frame.encode(Kind.BLOB, b"body") + b"x", key="k", kind=Kind.BLOB)


def test_another_kind_is_reported():
    with pytest.raises(CorruptObject, match="frame kind 2 where 1 belongs"):
        frame.decode(frame.encode(Kind.MANIFEST, b"{}"), key="k", kind=Kind.WAL_ENTRY)


def test_the_layout_is_public_and_does_not_change():
    golden = "656c6163 01 05 0000 0400000000000000 b20ba8db c703e0fa 626f6479"
    assert frame.encode(Kind.BLOB, b"body") == bytes.fromhex(golden)


def flipped(data, bit):
    bad = bytearray(data)
    bad[bit // 8] ^= 1 << bit % 8
    return bytes(bad)
