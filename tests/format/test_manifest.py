"""Manifests: round trip, the corpus of damaged ones, and the invariants checked in both directions."""

from dataclasses import replace

import numpy as np
import orjson
import pytest

from elacsym.errors import CorruptObject
from elacsym.format import blob, frame
from elacsym.format.digest import blake2b_128
from elacsym.format.manifest import (
    Base,
    DeletesRef,
    FileRef,
    FoldedKey,
    Hold,
    Home,
    Intent,
    Manifest,
    Pin,
    SegmentRef,
    State,
)
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

SMALL = Manifest("Docs", "00ff" * 4, "ab" * 16)
ROWS = FileRef("rows.parquet", 1234, "cd" * 16)
SEGMENT = SegmentRef(
    "job1", 10, 3, 8, f"{5:032x}", (ROWS,), DeletesRef("job2", FileRef("deletes", 9, "ef" * 16), 4), 1
)
SCHEMA = Schema(
    "string",
    Metric.COSINE,
    {
        "body": Attribute(AttributeType.parse("string"), full_text=FullText(stemming=True)),
        "vector": Attribute(AttributeType.parse("[3]f32"), filterable=False),
    },
)
HOME = Home("source", "e" * 16)
FULL = Manifest(
    "Docs",
    "00ff" * 4,
    "ab" * 16,
    State.ACTIVE,
    generation=7,
    applied=9,
    epoch=12,
    ring={7: "01" * 16, 8: "02" * 16},
    tail_digest="03" * 16,
    schema=SCHEMA,
    segments=(SEGMENT, replace(SEGMENT, job="job3", deletes=None, row_sum=f"{6:032x}", home=HOME)),
    intents=(Intent("job4", "compact", ("job1", "job3"), 12, "node-1"),),
    pins=(
        Pin("branch", "b" * 16, "c" * 16, ("job1",), (3, 4)),
        Pin("other", "d" * 16, "c" * 16, ("job1",)),
    ),
    keys=(FoldedKey("key ä", 8, 3),),
    rows_live=16,
    row_sum=f"{11:032x}",
    previous="04" * 16,
    created_ms=1_700_000_000_000,
    bases=(Base(HOME, 11), Base(Home("Docs.2", "f" * 16), 12)),
    holds=(Hold("source", Pin("Docs", "00ff" * 4, "e" * 16, ("job3",))),),
    successor="a" * 16,
    written_ms=1_700_000_000_001,
    changed_ms=1_700_000_000_002,
)
SAMPLES = {"small": SMALL, "full": FULL, "tombstone": replace(SMALL, state=State.DELETED, generation=3)}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_manifest_is_read_back(name):
    assert Manifest.decode(SAMPLES[name].encode(), key="k") == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_and_every_flipped_bit_is_reported(name):
    good = SAMPLES[name].encode()
    for end in range(len(good)):
        assert_corrupt(good[:end])
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert_corrupt(bytes(bad))


WRONG = [
    {"name": "a/b"},
    {"inc": "short"},
    {"nonce": "short"},
    {"generation": -1},
    {"applied": 8},
    {"ring": {9: "01" * 16}},
    {"rows_live": 15},
    {"row_sum": f"{12:032x}"},
    {"segments": (SEGMENT, SEGMENT)},
    {"segments": (replace(SEGMENT, rows=3),), "rows_live": -1},
    {"bases": (Base(HOME, 9),)},
    {"bases": (Base(HOME, 11), Base(HOME, 11))},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_a_broken_invariant_is_refused_on_encode_and_on_decode(change):
    bad = replace(FULL, **change)
    assert bad.check() is not None
    with pytest.raises(AssertionError):
        bad.encode()
    # the same manifest from a writer that did not check
    body = orjson.loads(frame.decode(FULL.encode(), key="k", kind=frame.Kind.MANIFEST))
    unchecked = {name: list(map(list, v.items())) if name == "ring" else v for name, v in change.items()}
    assert_corrupt(frame.encode(frame.Kind.MANIFEST, orjson.dumps(body | unchecked)))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"state": "odd"},
        {"surplus": 1},
        {"segments": [{}]},
        {"schema": None},
        {"ring": [1]},
        {"keys": 3},
        {"pinned": []},
    ],
    ids=str,
)
def test_a_body_of_the_wrong_shape_under_good_checksums_is_reported(change):
    body = orjson.loads(frame.decode(FULL.encode(), key="k", kind=frame.Kind.MANIFEST))
    assert_corrupt(frame.encode(frame.Kind.MANIFEST, orjson.dumps(body | change)))


def test_a_reference_to_a_blob_knows_its_head_and_what_every_reader_needs():
    data = blob.encode({"a": np.zeros(9000, np.uint8), "b": np.ones(5, np.int64)}, {}, eager={"b"})
    head = blob.Head.parse(data, "k")
    ref = FileRef.of("ids", data)
    assert (ref.part, ref.size_bytes, ref.digest) == ("ids", len(data), blake2b_128(data))
    assert (ref.head_bytes, ref.eager_bytes) == (head.size_bytes, head.eager_bytes)
    assert ref.head_digest == blake2b_128(data[: head.size_bytes])
    manifest = replace(SMALL, applied=9, segments=(replace(SEGMENT, files=(ref,)),))
    manifest = replace(manifest, rows_live=6, row_sum=SEGMENT.row_sum)
    assert Manifest.decode(manifest.encode(), key="k") == manifest


def test_a_reference_to_any_other_file_knows_its_bytes_only():
    assert FileRef.of("deletes.j", b"some bytes") == FileRef("deletes.j", 10, blake2b_128(b"some bytes"))


def test_live_rows_exclude_deletes():
    assert SEGMENT.rows_live == 6
    assert SEGMENT.size_bytes == 1234
    assert SEGMENT.file("rows.parquet") == ROWS
    assert FULL.segment("job3").rows_live == 10


def assert_corrupt(data):
    with pytest.raises(CorruptObject) as caught:
        Manifest.decode(data, key="ns/docs/manifest")
    assert caught.value.key == "ns/docs/manifest"


def test_a_thousand_branches_do_not_name_every_job_a_thousand_times():
    jobs = tuple(f"{n:020d}-{n:012x}" for n in range(40))
    pins = tuple(Pin(f"branch-{n}", f"{n:016x}", "c" * 16, jobs, (3, 4)) for n in range(1_000))
    data = replace(FULL, pins=pins).encode()
    assert Manifest.decode(data, key="k").pins == pins
    assert len(data) < 300_000
