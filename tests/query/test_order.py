"""Attribute orders: the whole order, and pages of it."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from functools import cmp_to_key

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.sources import driven
from parts import (
    SCHEMA,
    ColdPart,
    FilePart,
    MemoryPart,
    documents_of,
    masked_parts,
    schema_of,
    snapshot_of,
    views,
)

from elacsym.errors import InvalidRequest
from elacsym.query import order as order_module
from elacsym.query.ast import And, Compare, Op, OrderKey, Query
from elacsym.query.order import Place, after, decode_cursor, encode_cursor, first_rows
from elacsym.query.validate import check

KEYS = st.lists(
    st.builds(
        OrderKey,
        st.sampled_from(["category", "year", "size", "price", "is_open", "owner", "seen", "secret", "id"]),
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


def page(snapshot, order_by, top_k, condition=None, place=None):
    conditions = [c for c in (condition, place and after(order_by, place)) if c is not None]
    parts = masked_parts(snapshot, And(tuple(conditions)))
    return driven(first_rows(parts, order_by, top_k)).value


def pages(snapshot, order_by, top_k, condition=None):
    found, place = [], None
    for _ in range(100):
        rows = page(snapshot, order_by, top_k, condition, place)
        found += [row.place.id for row in rows]
        if len(rows) < top_k:
            return found
        place = rows[-1].place
    raise AssertionError("the pages do not end")


@contextmanager
def short_walks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "WALK_ROWS_MIN", 1)
        yield


@settings(max_examples=60, deadline=None)
@given(documents_of(), KEYS, st.integers(1, 5), st.integers(0, 99))
def test_pages_visit_every_document_once_in_order_however_rows_are_spread(documents, order_by, top_k, seed):
    with short_walks():
        for snapshot in views(SCHEMA, documents, seed):
            assert pages(snapshot, order_by, top_k) == naive_order(documents, order_by)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans(), st.sampled_from([1, 3, 40]))
def test_a_walk_over_an_index_finds_the_rows_that_sorting_finds(seed, count, descending, distinct):
    rng = np.random.default_rng(seed)
    schema = schema_of(rank="int", name="string")
    ranks = rng.integers(0, distinct, rng.integers(60, 200)).tolist()
    is_null = rng.random(len(ranks)) < rng.choice([0, 0.03, 0.3])
    documents = [
        {"id": (i * 37) % 1009, "rank": None if is_null[i] else rank, "name": f"{i % 3}"}
        for i, rank in enumerate(ranks)
    ]
    mask = rng.random(len(ranks)) < rng.choice([0.3, 0.9])
    order_by = (OrderKey("rank", descending), OrderKey("name", bool(rng.integers(2))))
    order_by = order_by if rng.integers(3) else order_by[::-1]
    expected = naive_order([d for d, kept in zip(documents, mask, strict=True) if kept], order_by)[:count]
    for kind in (MemoryPart, FilePart, ColdPart):
        with short_walks():
            rows = driven(first_rows([(4, kind(schema, documents), mask)], order_by, count)).value
        assert [row.place.id for row in rows] == expected
        for row in rows:
            document = documents[row.row]
            assert (row.part, row.place.id) == (4, document["id"])
            assert row.place.values == tuple(document[key.attribute] for key in order_by)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("distinct", [20_000, 10**9])
def test_the_first_rows_of_a_large_cold_part_take_two_rounds_and_few_bytes(descending, distinct):
    rng = np.random.default_rng(1)
    documents = [{"id": i, "rank": r} for i, r in enumerate(rng.integers(0, distinct, 100_000).tolist())]
    part = ColdPart(schema_of(rank="int"), documents)
    order_by = (OrderKey("rank", descending),)
    for opening in (part.ids(), part.attribute("rank")):
        driven(opening)
    opened = part.sources["rank"].brought_bytes + part.id_source.brought_bytes
    found = driven(first_rows([(0, part, np.ones(100_000, np.bool_))], order_by, 10))
    assert [row.place.id for row in found.value] == naive_order(documents, order_by)[:10]
    assert len(found.rounds) == 2
    assert opened < 20_000
    assert sum(found.rounds) < 400_000


def test_string_ids_break_ties_by_their_bytes():
    schema = schema_of(id_type="string", rank="int")
    documents = [{"id": i, "rank": 1} for i in ["b", "é", "a", "", "😀", "\uffff"]]
    expected = sorted((d["id"] for d in documents), key=lambda i: i.encode())
    for snapshot in views(schema, documents, 1):
        assert pages(snapshot, (OrderKey("rank", True),), 2) == expected


def test_pages_of_a_filtered_order_hold_only_what_matches():
    documents = [{"id": i, "year": i % 4} for i in range(20)]
    for snapshot in views(SCHEMA, documents, 3):
        found = pages(snapshot, (OrderKey("year", True),), 3, Compare("year", Op.LT, 2))
        assert found == [1, 5, 9, 13, 17, 0, 4, 8, 12, 16]


def test_a_page_continues_exactly_after_rows_were_added_and_removed():
    order_by = (OrderKey("year"),)
    first = page(snapshot_of(SCHEMA, [{"id": i, "year": i} for i in range(0, 20, 2)]), order_by, 3)
    assert [row.place.id for row in first] == [0, 2, 4]
    later = [{"id": i, "year": i} for i in (1, 3, 5, 6, 8)]  # the place's own row, 4, is gone
    second = page(snapshot_of(SCHEMA, later), order_by, 3, place=first[-1].place)
    assert [row.place.id for row in second] == [5, 6, 8]


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
def test_a_cursor_that_is_broken_or_of_another_order_is_refused(cursor):
    with pytest.raises(InvalidRequest) as caught:
        check(Query(order_by=(OrderKey("year"),), after=cursor), SCHEMA)
    assert caught.value.field == "after"


def test_a_cursor_of_the_order_is_taken():
    query = Query(order_by=(OrderKey("year"),), after=GOOD)
    assert check(query, SCHEMA).after == GOOD
