"""Log entries: round trip, and the corpus of damaged entries."""

import struct
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.format import frame
from elacsym.format.digest import crc32
from elacsym.format.wal_entry import Batch, EntryKind, WalEntry
from elacsym.types import Attribute, AttributeType, Metric, Schema

HEX32 = st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}")
BATCHES = st.lists(
    st.builds(
        Batch,
        HEX32,
        st.none() | st.text(max_size=20),
        st.integers(0, 2**40),
        st.integers(0, 2**40),
        st.binary(max_size=40),
    ),
    max_size=4,
).map(tuple)
SCHEMA = Schema("uint", Metric.L2, {"vector": Attribute(AttributeType.parse("[3]f32"), filterable=False)})
CLAIM = WalEntry("00ff" * 4, 0, 1, EntryKind.CLAIM, "node-1", "ab" * 16, "")
WRITE = replace(CLAIM, seq=7, epoch=9, kind=EntryKind.WRITE, previous="cd" * 16)
SAMPLES = {
    "claim": CLAIM,
    "schema change": replace(WRITE, schema=SCHEMA, batches=(Batch("01" * 16, None, 0, 0, b""),)),
    "two batches": replace(
        WRITE,
        batches=(Batch("01" * 16, "key ä", 2, 2, b"payload one"), Batch("02" * 16, None, 1, 1, b"\0\xff")),
    ),
}


def decoded(entry):
    """The entry with payloads as bytes, as they were given."""
    back = WalEntry.decode(entry.encode(), key="k")
    return replace(back, batches=tuple(replace(b, payload=bytes(b.payload)) for b in back.batches))


@given(
    seq=st.integers(1, 2**60),
    epoch=st.integers(1, 2**60),
    writer=st.text(max_size=10),
    nonce=HEX32,
    batches=BATCHES,
)
def test_an_entry_is_read_back(seq, epoch, writer, nonce, batches):
    entry = replace(WRITE, seq=seq, epoch=epoch, writer=writer, nonce=nonce, batches=batches)
    assert decoded(entry) == entry


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_read_back(name):
    assert decoded(SAMPLES[name]) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_is_reported_with_key_and_offset(name):
    good = SAMPLES[name].encode()
    for end in range(len(good)):
        assert_corrupt(good[:end])


@pytest.mark.parametrize("name", SAMPLES)
def test_every_flipped_bit_is_reported_with_key_and_offset(name):
    good = SAMPLES[name].encode()
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert_corrupt(bytes(bad))


def test_an_empty_object_is_reported():
    assert "0 bytes is shorter than a header" in str(assert_corrupt(b""))


def test_a_failed_checksum_is_reported():
    good = CLAIM.encode()
    assert "body checksum mismatch" in str(assert_corrupt(good[:-1] + bytes([good[-1] ^ 1])))


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 10_000, 3])
def test_an_unreasonable_header_length_under_good_checksums_is_reported(length):
    body = struct.pack("<II", length, 0) + b"{}"
    error = assert_corrupt(frame.encode(frame.Kind.WAL_ENTRY, body))
    assert f"header of {length} bytes in a body of {len(body)} bytes" in str(error)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"batches": [[1]]}',
        b"not json",
    ],
)
def test_a_header_of_the_wrong_shape_under_good_checksums_is_reported(header):
    assert_corrupt(framed(header))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inc", "short"),
        ("inc", 5),
        ("seq", -1),
        ("seq", "7"),
        ("epoch", 0),
        ("kind", "other"),
        ("nonce", "zz"),
        ("previous", ""),
        ("previous", None),
        ("batches", [["01" * 16, None, 1, 1, 99]]),
        ("batches", [["01" * 16, None, 1, 1, -1]]),
        ("batches", [["01" * 16, None, -1, 1, 3]]),
        ("batches", [["01" * 16, None, 1, 1, True]]),
        ("schema", {"attributes": 3}),
        ("surplus", 1),
    ],
)
def test_a_wrong_value_under_good_checksums_is_reported(field, value):
    import orjson

    good = {
        "inc": WRITE.inc, "seq": 7, "epoch": 9, "kind": "write", "writer": "w", "nonce": WRITE.nonce,
        "previous": WRITE.previous, "schema": None, "batches": [["01" * 16, None, 1, 1, 3]],
    }  # fmt: skip
    assert WalEntry.decode(framed(orjson.dumps(good), b"abc"), key="k").batches[0].payload == b"abc"
    assert_corrupt(framed(orjson.dumps(good | {field: value}), b"abc"))


def test_a_claim_with_writes_is_a_programmer_error():
    with pytest.raises(AssertionError, match="claim carries writes"):
        replace(CLAIM, batches=SAMPLES["two batches"].batches).encode()


def test_a_large_payload_is_copied_once_and_read_without_a_copy():
    payload = bytes(8 * 2**20)
    entry = replace(WRITE, batches=(Batch("01" * 16, None, 1, 1, memoryview(payload)),))
    tracemalloc.start()
    data = entry.encode()
    assert tracemalloc.get_traced_memory()[1] < 1.1 * len(payload)
    tracemalloc.reset_peak()
    back = WalEntry.decode(data, key="k")
    assert tracemalloc.get_traced_memory()[1] < 1.1 * len(payload)
    tracemalloc.stop()
    assert back.batches[0].payload.obj is data


def framed(header, payload=b""):
    prefix = struct.pack("<II", len(header), crc32(header))
    return frame.encode(frame.Kind.WAL_ENTRY, prefix, header, payload)


def assert_corrupt(data):
    with pytest.raises(CorruptObject) as caught:
        WalEntry.decode(data, key="ns/wal/7")
    assert caught.value.key == "ns/wal/7"
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= max(len(data), frame.HEADER_BYTES + 8)
    return caught.value
