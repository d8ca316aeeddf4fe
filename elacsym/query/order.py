"""Attribute orders and the cursor that continues them.

Null is smaller than every value: first ascending, last descending. Equal rows follow each other by ascending
id, also in a descending order, so an order is total and a page continues exactly where the one before ended,
whatever was written between.

A cursor is base64 of the JSON of what makes the last row's place: {"o": order, "v": its key values, "id": its
id}. "The rows after it" is a filter like any other.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from elacsym.errors import InvalidRequest
from elacsym.query.ast import And, Compare, Filter, Op, Or, OrderKey
from elacsym.query.columns import Bools, Ints, column_of, ordered_codes
from elacsym.query.searchable import Part
from elacsym.types import ID, DocumentId

NO_ROW = Or(())


@dataclass(frozen=True, slots=True)
class Place:
    """A row's place in an order: its value of each key (None is null) and its id."""

    values: tuple[Any, ...]
    id: DocumentId


@dataclass(frozen=True, slots=True)
class OrderedRow:
    """A row of the answer: part number, row number there, place."""

    part: int
    row: int
    place: Place


def encode_cursor(order_by: Sequence[OrderKey], place: Place) -> str:
    """The opaque text that stands for a place in an order."""
    text = json.dumps({"o": _spelled(order_by), "v": place.values, "id": place.id}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode_cursor(text: str, order_by: Sequence[OrderKey]) -> Place:
    """The place that a cursor stands for. Raises InvalidRequest for text that is none, or one of another
    order.

    The values' types are not checked here: that takes the schema.
    """
    try:
        value = json.loads(base64.b64decode(text.encode(), altchars=b"-_", validate=True))
        order, values, document = value["o"], value["v"], value["id"]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError) as cause:
        raise InvalidRequest(
            "after", "not a cursor; pass the cursor of the last row of the page before"
        ) from cause
    if order != _spelled(order_by):
        raise InvalidRequest("after", f"the cursor continues the order {order}, not {_spelled(order_by)}")
    if not isinstance(values, list) or len(values) != len(order_by):
        raise InvalidRequest("after", "not a cursor; its values do not fit its order")
    return Place(tuple(values), document)


def _spelled(order_by: Sequence[OrderKey]) -> list[list[str]]:
    return [[key.attribute, "desc" if key.descending else "asc"] for key in order_by]


def after(order_by: Sequence[OrderKey], place: Place) -> Filter:
    """The filter that holds for the rows that follow `place`."""
    following: list[Filter] = []
    same: list[Filter] = []
    keys = [*zip(order_by, place.values, strict=True), (OrderKey(ID), place.id)]
    for key, value in keys:
        following.append(And((*same, _beyond(key, value))))
        same.append(Compare(key.attribute, Op.EQ, value))
    return Or(tuple(following))


def _beyond(key: OrderKey, value: Any) -> Filter:
    if not key.descending:
        return Compare(key.attribute, Op.NE, None) if value is None else Compare(key.attribute, Op.GT, value)
    if value is None:
        return NO_ROW
    return Or((Compare(key.attribute, Op.LT, value), Compare(key.attribute, Op.EQ, None)))


def first_rows(
    parts: Sequence[tuple[int, Part, Bools]], order_by: Sequence[OrderKey], count: int
) -> list[OrderedRow]:
    """The first `count` rows of all parts in order, exactly.

    parts: (part number, part with the keys' columns prepared, (rows,) bool of the rows to order). Cost: a
    partial sort per part by the first key, a full one of what ties with its cut, and a merge of at most
    `count` rows of each part.
    """
    found = [
        row for number, part, mask in parts for row in _first_of_part(number, part, mask, order_by, count)
    ]
    # stable sorts from the last key to the first; `reverse` keeps equal rows in place, so ids stay ascending
    found.sort(key=lambda row: row.place.id)
    for index in reversed(range(len(order_by))):
        found.sort(key=_key_at(index), reverse=order_by[index].descending)
    return found[:count]


def _key_at(index: int) -> Any:
    def key(row: OrderedRow) -> tuple[bool, Any]:
        value = row.place.values[index]
        return value is not None, value

    return key


def _first_of_part(
    number: int, part: Part, mask: Bools, order_by: Sequence[OrderKey], count: int
) -> list[OrderedRow]:
    rows = np.flatnonzero(mask)
    if len(rows) > count:
        first = _codes(part, order_by[0], rows)
        rows = rows[first <= np.partition(first, count - 1)[count - 1]]
    sort_keys = [_codes(part, key, rows) for key in (*order_by, OrderKey(ID))]
    rows = rows[np.lexsort(sort_keys[::-1])[:count]]
    columns = [column_of(part, key.attribute).take(pa.array(rows)).to_pylist() for key in order_by]
    return [
        OrderedRow(number, row, Place(tuple(column[i] for column in columns), document))
        for i, (row, document) in enumerate(zip(rows.tolist(), part.ids().take(rows), strict=True))
    ]


def _codes(part: Part, key: OrderKey, rows: Ints) -> Ints:
    codes, _ = ordered_codes(column_of(part, key.attribute).take(pa.array(rows)))
    return -codes if key.descending else codes
