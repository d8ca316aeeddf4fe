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
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import InvalidRequest
from elacsym.format.reading import Steps, together
from elacsym.index.arrays import ordered_codes
from elacsym.index.attribute import SortedValues, Values
from elacsym.index.values import to_python
from elacsym.query.ast import And, Compare, Filter, Op, Or, OrderKey
from elacsym.query.columns import Bools, Ints, to_bools, values_in
from elacsym.query.searchable import Part
from elacsym.types import ID, DocumentId

NO_ROW = Or(())
WALK_ROWS_MIN = 1_024


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
) -> Steps[list[OrderedRow]]:
    """The first `count` rows of all parts in order, exactly.

    parts: (part number, part, (rows,) bool of the rows to order). Cost: where the first key has an index and
    many rows are to be ordered, a walk over it from its end until `count` of them are found; else a selection
    per part by the first key. Then a selection by each further key among what ties with the cut, and a merge
    of at most `count` rows of each part.
    """
    found_by_part = yield from together(
        [_first_of_part(number, part, mask, order_by, count) for number, part, mask in parts]
    )
    found = [row for rows in found_by_part for row in rows]
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
) -> Steps[list[OrderedRow]]:
    keys = (*order_by, OrderKey(ID))
    values = yield from together([values_in(part, key.attribute) for key in keys])
    rows = yield from _candidates(values[0], mask, order_by[0], count)
    columns = yield from together([one.select(rows) for one in values])
    first = _first(columns, keys, count)
    shown = [to_python(column.take(pa.array(first))) for column in columns]
    return [
        OrderedRow(number, row, Place(tuple(place[:-1]), place[-1]))
        for row, *place in zip(rows[first].tolist(), *shown, strict=True)
    ]


def _candidates(values: Values, mask: Bools, key: OrderKey, count: int) -> Steps[Ints]:
    """The first `count` rows by one key and all that tie with the last of them, in any order."""
    total = int(np.count_nonzero(mask))
    # a walk passes len(mask) / total rows for each that it finds, the other way looks at every row once
    if values.index is not None and total > count and total * total > count * len(mask):
        return (yield from _walked(values, values.index, mask, key, count))
    rows = np.flatnonzero(mask)
    if total > count:
        before, tied = _cut((yield from values.select(rows)), key, count)
        rows = rows[before | tied]
    return rows


def _walked(values: Values, index: SortedValues, mask: Bools, key: OrderKey, count: int) -> Steps[Ints]:
    """`_candidates` from the index, reading no more of it than takes to find them. More rows than count are
    set in mask."""
    nulls = np.empty(0, np.int64)
    if index.rows_null:
        valid = yield from values.valid()
        nulls = np.flatnonzero(mask & ~valid)
    missing = count if key.descending else count - len(nulls)
    if missing <= 0:
        return nulls
    found = [] if key.descending else [nulls]
    walked, step = 0, max(WALK_ROWS_MIN, 2 * count * len(mask) // int(np.count_nonzero(mask)))
    while walked < index.listed:
        end = min(walked + step, index.listed)
        start, stop = (index.listed - end, index.listed - walked) if key.descending else (walked, end)
        rows, bounds = yield from index.walk(start, stop)
        places = np.flatnonzero(mask[rows])
        if len(places) >= missing:
            cut = start + int(places[-missing] if key.descending else places[missing - 1])
            run = int(np.searchsorted(bounds, cut, "right"))
            first, last = (int(bounds[run - 1]), stop) if key.descending else (start, int(bounds[run]))
            beyond = yield from index.rows(np.array([[first, start], [stop, last]]))
            inside = rows[max(0, first - start) : last - start]
            return np.concatenate([*found, *(part[mask[part]].astype(np.int64) for part in (inside, beyond))])
        found.append(rows[places].astype(np.int64))
        missing -= len(places)
        walked, step = end, 2 * step
    # ascending, nulls came first
    return np.concatenate([*found, nulls] if key.descending else found)


def _first(columns: Sequence[Any], keys: Sequence[OrderKey], count: int) -> Ints:
    """The places of the first `count` rows by all keys, in order. columns: of each key the rows' values."""
    tied = np.arange(len(columns[0]))
    chosen: list[Ints] = []
    for column, key in zip(columns, keys, strict=True):
        missing = count - sum(len(some) for some in chosen)
        if len(tied) <= missing:
            break
        before, is_tied = _cut(column.take(pa.array(tied)), key, missing)
        chosen.append(tied[before])
        tied = tied[is_tied]
    places = np.concatenate([*chosen, tied])
    sort_keys = [_sort_key(c.take(pa.array(places)), key) for c, key in zip(columns, keys, strict=True)]
    return cast("Ints", places[np.lexsort(sort_keys[::-1])[:count]])


def _cut(array: Any, key: OrderKey, count: int) -> tuple[Bools, Bools]:
    """Which of more than `count` values stand before the `count`-th by a key, and which are equal to it."""
    if pa.types.is_string(array.type) and not array.null_count:
        order = "descending" if key.descending else "ascending"
        last = array[pc.select_k_unstable(array, count, [("", order)])[-1].as_py()]
        return to_bools((pc.greater if key.descending else pc.less)(array, last)), to_bools(
            pc.equal(array, last)
        )
    values = _sort_key(array, key)
    cut = np.partition(values, count - 1)[count - 1]
    return values < cut, values == cut


def _sort_key(array: Any, key: OrderKey) -> npt.NDArray[Any]:
    """(n,) numbers that order as the key does, null included."""
    is_number = pa.types.is_integer(array.type) or pa.types.is_floating(array.type)
    values = array.to_numpy() if is_number and not array.null_count else ordered_codes(array)[0]
    if not key.descending:
        return values
    return -values if values.dtype.kind == "f" else ~values
