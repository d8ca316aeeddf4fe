"""Checksums: known values, and a row sum that only sees the set of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.format.digest import ZERO_SUM, add_sums, blake2b_128, crc32, row_sum

UINT64 = st.integers(0, 2**64 - 1)
ROWS = st.dictionaries(UINT64, UINT64, max_size=20)


def sum_of(rows, kind):
    ids = np.array([i for i, _ in rows], np.uint64) if kind is int else [str(i) for i, _ in rows]
    return row_sum(ids, np.array([v for _, v in rows], np.uint64))


@pytest.mark.parametrize("kind", [int, str])
@given(rows=ROWS, data=st.data())
def test_the_row_sum_ignores_order_and_adds_up_over_any_split(kind, rows, data):
    shuffled = data.draw(st.permutations(list(rows.items())))
    cut = data.draw(st.integers(0, len(shuffled)))
    whole = sum_of(list(rows.items()), kind)
    assert add_sums(sum_of(shuffled[:cut], kind), sum_of(shuffled[cut:], kind)) == whole
    assert add_sums(whole, -sum_of(shuffled[cut:], kind)) == sum_of(shuffled[:cut], kind)


@pytest.mark.parametrize("kind", [int, str])
@given(rows=st.dictionaries(UINT64, UINT64, min_size=1, max_size=5), delta=st.integers(1, 2**64 - 1))
def test_the_row_sum_sees_a_changed_id_or_version(kind, rows, delta):
    (first, version), *rest = rows.items()
    other_version = [(first, (version + delta) % 2**64), *rest]
    assert sum_of(other_version, kind) != sum_of(list(rows.items()), kind)
    other_id = (first + delta) % 2**64
    if other_id not in rows:
        assert sum_of([(other_id, version), *rest], kind) != sum_of(list(rows.items()), kind)


def test_no_rows_sum_to_zero():
    assert sum_of([], int) == sum_of([], str) == ZERO_SUM


def test_digests_are_the_public_algorithms():
    assert crc32(b"123456789") == 0xCBF43926
    assert crc32(b"6789", crc32(b"12345")) == 0xCBF43926
    assert blake2b_128(b"") == "cae66941d9efbd404e4d88758ea67670"
