"""Which rows of a snapshot a filter leaves, remembered per snapshot."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from elacsym.format.reading import Steps, together
from elacsym.query.ast import And, Compare, Filter, Not, Op, Or
from elacsym.query.columns import Bools
from elacsym.query.filters import matches
from elacsym.query.searchable import PartView, SearchSnapshot
from elacsym.types import ID

T = TypeVar("T")

FILTER_MEMO_ENTRIES_MAX = 64
FILTER_MEMO_BYTES_MAX = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Matches:
    """The live rows that a filter leaves, by part. masks: (rows,) bool each, read-only; counts: how many are
    set."""

    masks: tuple[Bools, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Rows left in all parts."""
        return sum(self.counts)


def remembered(
    snapshot: SearchSnapshot, kind: str, key: Hashable, entries_max: int, make: Callable[[], T]
) -> T:
    """What `make` returns for `key`, kept with the snapshot: the last `entries_max` of each kind.

    Two threads may both make a missing value; either result is right.
    """
    kept: dict[Hashable, T] = snapshot.memo.setdefault(kind, {})
    value = kept.get(key)
    if value is None:
        value = make()
        for oldest in list(kept)[: max(0, len(kept) - entries_max + 1)]:
            kept.pop(oldest, None)
        kept[key] = value
    return value


def live_rows(snapshot: SearchSnapshot) -> Matches:
    """What no filter leaves: all live rows."""
    return remembered(
        snapshot,
        "live",
        None,
        1,
        lambda: Matches(tuple(v.alive for v in snapshot.parts), tuple(v.rows_live for v in snapshot.parts)),
    )


def recalled(snapshot: SearchSnapshot, condition: Filter | None) -> Matches | None:
    """What a checked filter leaves, if that takes neither columns nor time; else None."""
    if condition is None:
        return live_rows(snapshot)
    kept: dict[Filter, Matches] = snapshot.memo.get("filter", {})
    return kept.get(condition)


def matching(snapshot: SearchSnapshot, condition: Filter | None) -> Steps[Matches]:
    """What a checked filter leaves."""
    known = recalled(snapshot, condition)
    if known is not None or condition is None:
        return known or live_rows(snapshot)
    found = yield from narrowed(snapshot, live_rows(snapshot), condition)
    rows = sum(view.part.rows for view in snapshot.parts)
    entries_max = min(FILTER_MEMO_ENTRIES_MAX, max(1, FILTER_MEMO_BYTES_MAX // max(1, rows)))
    return remembered(snapshot, "filter", condition, entries_max, lambda: found)


def narrowed(snapshot: SearchSnapshot, among: Matches, condition: Filter) -> Steps[Matches]:
    """The rows of `among` where a filter holds, evaluated anew; parts without such rows are not looked at."""

    def of_part(view: PartView, mask: Bools, count: int) -> Steps[Bools]:
        if count:
            mask = mask & (yield from matches(condition, snapshot.schema, view.part))
            mask.flags.writeable = False
        return mask

    masks = yield from together(
        [
            of_part(view, mask, count)
            for view, mask, count in zip(snapshot.parts, among.masks, among.counts, strict=True)
        ]
    )
    return Matches(tuple(masks), tuple(int(np.count_nonzero(mask)) for mask in masks))


_SHARES = {Op.EQ: 0.1, Op.CONTAINS: 0.1, Op.GT: 1 / 3, Op.GTE: 1 / 3, Op.LT: 1 / 3, Op.LTE: 1 / 3}


def estimated_share(condition: Filter | None, rows: int) -> float:
    """The share of `rows` rows that a filter is expected to leave, 0…1, without looking at any.

    Constants of Selinger et al. 1979 (equality 1/10, ranges 1/3), conditions taken as independent; equality
    of ids is exact. It only decides what is fetched ahead, never a result.
    """
    match condition:
        case None:
            return 1.0
        case Compare(field=name, op=op, value=value):
            if op in (Op.NE, Op.NOT_IN):
                positive = Op.EQ if op is Op.NE else Op.IN
                return 1.0 - estimated_share(Compare(name, positive, value), rows)
            if op in (Op.IN, Op.CONTAINS_ANY):
                return min(1.0, len(value) * estimated_share(Compare(name, Op.EQ, None), rows))
            if name == ID and op is Op.EQ:
                return 1.0 / max(1, rows)
            return _SHARES[op]
        case Not(condition=inner):
            return 1.0 - estimated_share(inner, rows)
        case And(conditions=inner_all):
            share = 1.0
            for inner in inner_all:
                share *= estimated_share(inner, rows)
            return share
        case Or(conditions=inner_any):
            missed = 1.0
            for inner in inner_any:
                missed *= 1.0 - estimated_share(inner, rows)
            return 1.0 - missed
