"""Errors in the form of the v2 API."""

from __future__ import annotations

import pytest

from elacsym.errors import InvalidRequest
from elacsym.server import v2_errors


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("upsert_rows[3].attributes.n", "upsert_rows[3].n"),
        ("upsert_rows[3].attributes.tags[2]", "upsert_rows[3].tags[2]"),
        ("upsert_rows[3].vector", "upsert_rows[3].vector"),
        ("patch_rows[0].attributes.attributes.n", "patch_rows[0].attributes.n"),
        ("upsert_columns[3].attributes.n", "upsert_columns.n[3]"),
        ("upsert_columns[3].attributes.tags[2]", "upsert_columns.tags[3][2]"),
        ("upsert_columns[3].id", "upsert_columns.id[3]"),
        ("patch_by_filter.patch[0].attributes.n", "patch_by_filter.patch.n"),
        ("upsert_columns[3].attributes.a:b.c[d]", "upsert_columns.a:b.c[d][3]"),
        ("filters", "filters"),
    ],
)
def test_values_are_named_where_they_stand_in_the_request(field, shown):
    error = InvalidRequest(field, "is wrong")
    assert v2_errors.body(error, str(error))["error"] == f"{shown}: is wrong"


@pytest.mark.parametrize("place", ["", "queries[2]."])
def test_the_refusal_of_a_shown_name_is_told_without_its_place(place):
    reason = 'attribute "x" not found in schema, cannot be part of `include_attributes`'
    error = InvalidRequest(f"{place}include_attributes[0]", reason)
    assert v2_errors.body(error, str(error)) == {"status": "error", "error": f"💔 {reason}"}
