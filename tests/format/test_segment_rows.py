"""Part names of a segment's files, and `rows.parquet`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index.sources import HoleySource, driven

from elacsym.errors import CorruptObject
from elacsym.format import segment
from elacsym.format.reading import MemorySource, resident
from elacsym.store.local import _KEY as LOCAL_KEY

VERSIONS = np.array([7, 7, 9], np.uint64)


def _rows() -> memoryview:
    ids = pa.array(["a", "b", "c"])
    return segment.encode_rows(
        ids, VERSIONS, {"year": pa.array([1, None, 3]), "t": pa.array(["x", "", None])}
    )


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=128), unique=True, max_size=20))
def test_every_attribute_has_a_part_name_of_its_own_that_every_store_takes(names):
    """A full-text attribute with a capital or a space could not be folded into a folder."""
    parts = [segment.attribute_part(kind, name) for kind in ("attr", "text") for name in names]
    parts += [segment.vector_part(name) for name in names]
    assert len({part.lower() for part in parts}) == len(parts)
    assert all(LOCAL_KEY.fullmatch(part) and len(part) <= 120 for part in parts)


def test_plain_names_stay_readable():
    assert segment.attribute_part("attr", "published_at") == "attr.published_at"
    assert segment.vector_part("title-vector") == "vector.title-vector.ivf"
    assert segment.attribute_part("text", "Title").startswith("text.=")


def test_columns_come_back_and_what_the_file_lacks_is_none():
    found = segment.decode_columns(_rows(), ["id", "version", "a:year", "a:none"], key="k", rows=3)
    assert found["id"].to_pylist() == ["a", "b", "c"]
    assert found["version"].to_pylist() == [7, 7, 9]
    assert found["a:year"].to_pylist() == [1, None, 3]
    assert found["a:none"] is None
    with pytest.raises(CorruptObject, match="column 'a:none' is missing"):
        segment.required_columns(_rows(), ["id", "a:none"], key="k", rows=3)


def test_another_number_of_rows_is_reported():
    with pytest.raises(CorruptObject, match="3 rows where the manifest says 4"):
        segment.decode_columns(_rows(), ["id"], key="k", rows=4)


def test_a_file_cut_anywhere_is_reported():
    data = bytes(_rows())
    for size in range(0, len(data), 7):
        with pytest.raises(CorruptObject):
            segment.decode_columns(data[:size], ["id", "version", "a:year", "a:t"], key="k", rows=3)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), st.data())
def test_versions_are_read_by_row(values, data):
    encoded = segment.encode_versions(np.array(values, np.uint64))
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=20))
    found = resident(segment.versions_at(MemorySource(encoded), np.array(rows, np.int64), len(values)))
    assert found.dtype == np.uint64
    assert found.tolist() == [values[row] for row in rows]
    with pytest.raises(CorruptObject):
        resident(segment.versions_at(MemorySource(encoded), np.array([0]), len(values) + 1))


def test_versions_of_a_few_slots_take_a_byte_each_and_few_bytes_are_read():
    versions = np.arange(100_000, dtype=np.uint64) // 500 + 10**9
    rows, source = np.array([7, 90_000]), HoleySource(segment.encode_versions(versions))
    assert source.size_bytes < 102_000
    found = driven(segment.versions_at(source, rows, 100_000))
    assert found.value.tolist() == versions[rows].tolist()
    assert len(found.rounds) == 2
    assert found.rounds[1] <= 2_048


def test_a_small_file_of_versions_takes_one_round():
    versions = np.arange(1_000, dtype=np.uint64)
    source = HoleySource(segment.encode_versions(versions))
    found = driven(segment.versions_at(source, np.array([999, 3]), 1_000))
    assert found.value.tolist() == [999, 3]
    assert len(found.rounds) == 1
