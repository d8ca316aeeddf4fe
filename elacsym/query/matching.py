"""Which rows of a snapshot a filter leaves, remembered per snapshot."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps, together
from elacsym.query.ast import And, Compare, Filter, Fuzzy, Glob, Not, Or, Regex, Tokens
from elacsym.query.columns import Bools
from elacsym.query.filters import estimate, matches
from elacsym.query.remembered import Budget, Remembered
from elacsym.query.searchable import PartView, SearchSnapshot

T = TypeVar("T")

Rows = npt.NDArray[np.intp]

FILTER_MEMO_BYTES_MAX = 4 * 2**20
# a filter that is larger itself, because it lists many values, is not remembered
FILTER_BYTES_MAX = 64 * 2**10
_VALUE_BYTES = 32
_ENTRY_BYTES = 512
# what a filter leaves of a part is remembered as a list of rows where it is at most 1/_FEW of them
_FEW = 16
# masks that were made of such lists, by all snapshots of the process together
MADE_BYTES_MAX = 8 * 2**20
_MADE = Budget(MADE_BYTES_MAX)


class Masks(Sequence[Bools]):
    """A (rows,) bool array of each part, read-only.

    Where few rows are set it is made of them when it is looked at by its number, and kept while there is room
    for it, so that indexes find again what they remember of it; in a slice it is a new one.
    """

    def __init__(self, masks: Sequence[Bools], counts: Sequence[int]) -> None:
        self._stored: list[npt.NDArray[Any]] = [
            mask.nonzero()[0].astype(np.uint32) if count * _FEW <= len(mask) else mask
            for mask, count in zip(masks, counts, strict=True)
        ]
        self._sizes = [len(mask) for mask in masks]
        self._made: Remembered[Bools] = Remembered(_MADE)

    @property
    def size_bytes(self) -> int:
        """What the masks take, without those that are made."""
        return sum(stored.nbytes for stored in self._stored)

    def __len__(self) -> int:
        return len(self._sizes)

    @overload
    def __getitem__(self, number: int) -> Bools: ...

    @overload
    def __getitem__(self, number: slice) -> list[Bools]: ...

    def __getitem__(self, number: int | slice) -> Bools | list[Bools]:
        if isinstance(number, slice):
            return [self._mask(one) for one in range(*number.indices(len(self)))]
        if self._stored[number].dtype == np.bool_:
            return self._stored[number]
        mask = self._made.get(number)
        if mask is None:
            mask = self._mask(number)
            self._made.put(number, mask, _ENTRY_BYTES + mask.nbytes)
        return mask

    def _mask(self, number: int) -> Bools:
        stored = self._stored[number]
        if stored.dtype == np.bool_:
            return stored
        mask = np.zeros(self._sizes[number], np.bool_)
        mask[stored.astype(np.intp)] = True
        mask.flags.writeable = False
        return mask

    def rows(self, number: int) -> Rows:
        """(m,) ascending: the rows of a part that are set."""
        stored = self._stored[number]
        return stored.nonzero()[0] if stored.dtype == np.bool_ else stored.astype(np.intp)


@dataclass(frozen=True, slots=True)
class Matches:
    """The live rows that a filter leaves, by part. masks: (rows,) bool each, read-only; counts: how many are
    set."""

    masks: Sequence[Bools]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Rows left in all parts."""
        return sum(self.counts)

    def rows(self, number: int) -> Rows:
        """(m,) ascending: the rows of a part that are left."""
        masks = self.masks
        return masks.rows(number) if isinstance(masks, Masks) else masks[number].nonzero()[0]


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
    kept: Remembered[Matches] | None = snapshot.memo.get("filter")
    return None if kept is None else kept.get(condition)


def matching(snapshot: SearchSnapshot, condition: Filter | None) -> Steps[Matches]:
    """What a checked filter leaves."""
    known = recalled(snapshot, condition)
    if known is not None or condition is None:
        return known or live_rows(snapshot)
    found = yield from narrowed(snapshot, live_rows(snapshot), condition)
    size_bytes = _size_bytes(condition)
    if size_bytes > FILTER_BYTES_MAX:
        return found
    masks = Masks(found.masks, found.counts)
    found = Matches(masks, found.counts)
    kept = snapshot.memo.get("filter")
    if kept is None:
        kept = snapshot.memo.setdefault("filter", Remembered(Budget(FILTER_MEMO_BYTES_MAX)))
    kept.put(condition, found, _ENTRY_BYTES + size_bytes + masks.size_bytes)
    return found


def _size_bytes(condition: Filter) -> int:
    """About how much memory a filter takes."""
    match condition:
        case Compare():
            values = condition.value if isinstance(condition.value, list | tuple) else (condition.value,)
            size_bytes = _VALUE_BYTES * (2 + len(values))
            if size_bytes <= FILTER_BYTES_MAX:  # else it is known to be large
                size_bytes += sum(len(value) for value in values if isinstance(value, str))
            return size_bytes
        case Glob() | Regex():
            return _VALUE_BYTES * 3 + len(condition.pattern)
        case Fuzzy():
            return _VALUE_BYTES * (3 + len(condition.thresholds)) + len(condition.text)
        case Tokens():
            texts = (condition.query,) if isinstance(condition.query, str) else condition.query
            return _VALUE_BYTES * (2 + len(texts)) + sum(map(len, texts))
        case Not():
            return _VALUE_BYTES + _size_bytes(condition.condition)
        case And() | Or():
            return _VALUE_BYTES + sum(_size_bytes(inner) for inner in condition.conditions)


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


def estimated_rows(snapshot: SearchSnapshot, condition: Filter) -> Steps[int]:
    """At most how many rows of the snapshot a checked filter matches, deleted ones included, as far as
    indexes tell without reading rows."""
    parts = [view.part for view in snapshot.parts if view.alive.any()]
    found = yield from together([estimate(condition, snapshot.schema, part) for part in parts])
    return sum(
        part.rows if rows is None else min(rows, part.rows) for part, rows in zip(parts, found, strict=True)
    )
