"""Attribute orders: the whole order, and pages of it."""

from __future__ import annotations

import base64
import json
from functools import cmp_to_key

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import SCHEMA, documents_of, schema_of, snapshot_of, views

from elacsym.compute import InlineCompute
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Compare, Op, OrderKey, Query
from elacsym.query.execute import execute
from elacsym.query.order import Place, decode_cursor, encode_cursor

KEYS = st.lists(
    st.builds(
        OrderKey,
        st.sampled_from(["category", "year", "size", "price", "is_open", "secret", "id"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
).map(tuple)


def naive_order(documents, order_by):
    def compare(a, b):
        for key in order_by:
            left, right = a.get(key.attribute), b.get(key.attribute)
            if left == right:
                continue
            is_less = left is None or (right is not None and left < right)
            return -1 if is_less != key.descending else 1
        return -1 if a["id"] < b["id"] else 1

    return [d["id"] for d in sorted(documents, key=cmp_to_key(compare))]


async def pages(snapshot, order_by, top_k, condition=None):
    found, after = [], None
    for _ in range(100):
        query = Query(order_by=order_by, after=after, top_k=top_k, filter=condition, include_attributes=())
        hits = (await execute(snapshot, query, InlineCompute())).hits
        found += [hit.id for hit in hits]
        if len(hits) < top_k:
            return found
        after = hits[-1].cursor
    raise AssertionError("the pages do not end")


@settings(max_examples=120, deadline=None)
@given(documents_of(), KEYS, st.integers(1, 5), st.integers(0, 99))
async def test_pages_visit_every_document_once_in_order_however_rows_are_spread(
    documents, order_by, top_k, seed
):
    for snapshot in views(SCHEMA, documents, seed):
        assert await pages(snapshot, order_by, top_k) == naive_order(documents, order_by)


async def test_string_ids_break_ties_by_their_bytes():
    schema = schema_of(id_type="string", rank="int")
    documents = [{"id": i, "rank": 1} for i in ["b", "é", "a", "", "😀", "\uffff"]]
    expected = sorted((d["id"] for d in documents), key=lambda i: i.encode())
    for snapshot in views(schema, documents, 1):
        assert await pages(snapshot, (OrderKey("rank", True),), 2) == expected


async def test_pages_of_a_filtered_order_hold_only_what_matches():
    documents = [{"id": i, "year": i % 4} for i in range(20)]
    for snapshot in views(SCHEMA, documents, 3):
        found = await pages(snapshot, (OrderKey("year", True),), 3, Compare("year", Op.LT, 2))
        assert found == [1, 5, 9, 13, 17, 0, 4, 8, 12, 16]


async def test_a_page_continues_exactly_after_rows_were_added_and_removed():
    order_by = (OrderKey("year"),)
    documents = [{"id": i, "year": i} for i in range(0, 20, 2)]
    query = Query(order_by=order_by, top_k=3)
    first = (await execute(snapshot_of(SCHEMA, documents), query, InlineCompute())).hits
    assert [h.id for h in first] == [0, 2, 4]
    later = [{"id": i, "year": i} for i in (1, 3, 5, 6, 8)]  # the cursor's own row, 4, is gone
    query = Query(order_by=order_by, top_k=3, after=first[-1].cursor)
    second = (await execute(snapshot_of(SCHEMA, later), query, InlineCompute())).hits
    assert [h.id for h in second] == [5, 6, 8]


async def test_rows_of_an_order_have_cursors_and_no_score():
    hits = (
        await execute(snapshot_of(SCHEMA, [{"id": 1}]), Query(order_by=(OrderKey("year"),)), InlineCompute())
    ).hits
    assert [(h.score, h.cursor is None) for h in hits] == [(None, False)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), max_size=3),
    st.integers(0, 2**64 - 1) | st.text(),
)
def test_a_cursor_is_read_back_as_it_was_written(values, document):
    order_by = tuple(OrderKey(f"k{i}", i % 2 == 1) for i in range(len(values)))
    place = Place(tuple(values), document)
    assert decode_cursor(encode_cursor(order_by, place), order_by) == place


GOOD = encode_cursor((OrderKey("year"),), Place((5,), 7))


def forged(value) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%%%",
        GOOD[:-3],
        "é",
        "\ud800",
        forged(7),
        forged([]),
        forged({}),
        forged({"o": [["year", "asc"]], "v": [5]}),
        forged({"o": [["year", "asc"]], "v": 5, "id": 7}),
        forged({"o": [["year", "asc"]], "v": [], "id": 7}),
        forged({"o": [["year", "desc"]], "v": [5], "id": 7}),
        forged({"o": [["year", "asc"]], "v": ["5"], "id": 7}),
        forged({"o": [["year", "asc"]], "v": [5.5], "id": 7}),
        forged({"o": [["year", "asc"]], "v": [5], "id": "7"}),
        forged({"o": [["year", "asc"]], "v": [5], "id": None}),
        encode_cursor((OrderKey("size"),), Place((5,), 7)),
    ],
)
async def test_a_cursor_that_is_broken_or_of_another_order_is_refused(cursor):
    query = Query(order_by=(OrderKey("year"),), after=cursor)
    with pytest.raises(InvalidRequest) as caught:
        await execute(snapshot_of(SCHEMA, []), query, InlineCompute())
    assert caught.value.field == "after"
