"""Columns as ordered codes."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import SCHEMA, schema_of

from elacsym.query.columns import attribute_of, ordered_codes


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        [
            (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
            (pa.uint64(), st.integers(0, 2**64 - 1)),
            (pa.float64(), st.floats(allow_nan=False)),
            (pa.string(), st.text(max_size=2)),
            (pa.bool_(), st.booleans()),
        ]
    ).flatmap(lambda kind: st.tuples(st.just(kind[0]), st.lists(st.none() | kind[1], max_size=12)))
)
def test_codes_compare_as_the_values_do_and_null_is_the_smallest(kind_and_values):
    kind, values = kind_and_values
    codes, distinct = ordered_codes(pa.array(values, kind))
    assert distinct.to_pylist() == sorted({v for v in values if v is not None})
    assert [None if c < 0 else distinct[c].as_py() for c in codes.tolist()] == values
    assert len(distinct) == len(set(codes[codes >= 0].tolist()))


def test_zero_and_negative_zero_have_one_code():
    for values in ([0.0, -0.0, 1.0], [-0.0, 0.0, 1.0]):
        codes, distinct = ordered_codes(pa.array(values))
        assert codes.tolist() == [0, 0, 1]
        assert len(distinct) == 2


def test_the_id_is_an_attribute_of_the_namespace_s_id_type():
    assert str(attribute_of(SCHEMA, "id").type) == "uint"
    assert str(attribute_of(schema_of(id_type="string"), "id").type) == "string"
    assert attribute_of(SCHEMA, "nothing") is None
