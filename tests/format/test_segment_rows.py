"""Part names of a segment's files, and `rows.parquet`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.format import segment
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
