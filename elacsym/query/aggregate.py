"""Counts and sums over the matching rows, optionally by groups; exact, and independent of how rows are spread
over parts.

Sums are kept as integers of unlimited size: integers as they are, floats in units of 2^-1126 (every float is
a whole number of them). Adding up is then exact in any order, and a float sum is the exact sum, rounded once.

Groups come in ascending order of their keys, null first, and at most `GROUPS_MAX` of them: the first in that
order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.format.reading import Steps, together
from elacsym.index.arrays import ordered_codes
from elacsym.index.attribute import SortedValues
from elacsym.query.ast import Aggregate
from elacsym.query.columns import Bools, Ints, matched, values_in
from elacsym.query.searchable import Part
from elacsym.types import Scalar, Schema

GROUPS_MAX = 10_000

# the share of a part's rows from which counting them along an index is faster than grouping their values
_INDEX_SHARE_MIN = 1 / 16
_MANTISSA_BITS = 53
_FLOAT_UNIT_BITS = 1126  # the smallest float, 2^-1074, has a mantissa of 53 bits with exponent -1073
_LOW = np.int64(0xFFFFFFFF)

Keys = tuple[Any, ...]
Groups = dict[Keys, list[int]]


def aggregate(
    parts: Sequence[tuple[int, Part, Bools]], wanted: Aggregate, schema: Schema
) -> Steps[tuple[dict[str, Any] | None, tuple[dict[str, Any], ...] | None]]:
    """The figures over the rows that each part's mask, (rows,) bool, selects.

    Returns `(aggregations, groups)`, one of them None. Without group_by: `{"count": 3, "sum": {"year":
    6060}}`; with it a tuple of `{"key": {"category": "db"}, "count": 2, "sum": {…}}`, where a null key is
    None. "count" and "sum" are there as asked. The sum of nothing is 0. Integer sums are unlimited; a float
    sum beyond all floats is infinite. One round; a count alone reads nothing.
    """
    totals: Groups = {}
    floats = {i for i, name in enumerate(wanted.sums) if schema.attributes[name].type.scalar is Scalar.FLOAT}
    for groups in (yield from together([_groups_of_part(part, mask, wanted) for _, part, mask in parts])):
        for key, figures in groups.items():
            _add(totals, key, figures)
    if not wanted.group_by:
        return _figures(wanted, totals.get((), [0] * (1 + len(wanted.sums))), floats), None
    ordered = sorted(totals, key=lambda key: tuple((value is not None, value) for value in key))
    return None, tuple(
        {"key": dict(zip(wanted.group_by, key, strict=True)), **_figures(wanted, totals[key], floats)}
        for key in ordered[:GROUPS_MAX]
    )


def _add(totals: Groups, key: Keys, figures: list[int]) -> None:
    known = totals.get(key)
    totals[key] = figures if known is None else [a + b for a, b in zip(known, figures, strict=True)]


def _figures(wanted: Aggregate, figures: list[int], floats: set[int]) -> dict[str, Any]:
    result: dict[str, Any] = {"count": figures[0]} if wanted.count else {}
    if wanted.sums:
        result["sum"] = {
            name: _rounded(total) if i in floats else total
            for i, (name, total) in enumerate(zip(wanted.sums, figures[1:], strict=True))
        }
    return result


def _rounded(units: int) -> float:
    """A whole number of float units as the nearest float."""
    try:
        return units / (1 << _FLOAT_UNIT_BITS)
    except OverflowError:
        return math.inf if units > 0 else -math.inf


def _groups_of_part(part: Part, mask: Bools, wanted: Aggregate) -> Steps[Groups]:
    """By key of each group its count, then its sums."""
    if not (wanted.sums or wanted.group_by):
        return {(): [int(np.count_nonzero(mask))]}
    if not wanted.sums and len(wanted.group_by) == 1:
        index = (yield from values_in(part, wanted.group_by[0])).index
        # below that the column of the matching rows is less work than the whole index
        if index is not None and len(index) and np.count_nonzero(mask) > len(mask) * _INDEX_SHARE_MIN:
            return (yield from _counts_by_index(index, mask))
    names = (*wanted.group_by, *wanted.sums)
    columns = yield from together([matched(part, name, mask) for name in names])
    grouped, summed = columns[: len(wanted.group_by)], columns[len(wanted.group_by) :]
    group_of_row, keys = _groups_of(grouped, int(np.count_nonzero(mask)))
    sums = [_exact_sums(column, group_of_row, len(keys)) for column in summed]
    counts = np.bincount(group_of_row, minlength=len(keys)).tolist()
    return {key: [counts[group], *(column[group] for column in sums)] for group, key in enumerate(keys)}


def _counts_by_index(index: SortedValues, mask: Bools) -> Steps[Groups]:
    """The groups of one scalar attribute, null first, then by value."""
    everything: list[Steps[Any]] = [
        index.rows(np.array([[0, index.listed]])),
        index.starts(),
        index.distinct(),
    ]
    rows, starts, distinct = yield from together(everything)
    counts = np.add.reduceat(mask[rows.astype(np.int64)], starts[:-1], dtype=np.int64)
    groups: Groups = {}
    nulls = int(np.count_nonzero(mask) - counts.sum())
    if nulls:
        groups[(None,)] = [nulls]
    present = np.flatnonzero(counts)[: GROUPS_MAX - len(groups)]
    keys = distinct.take(pa.array(present)).to_pylist()
    return groups | {(key,): [n] for key, n in zip(keys, counts[present].tolist(), strict=True)}


def _groups_of(columns: Sequence[Any], rows: int) -> tuple[Ints, list[Keys]]:
    """The group of each row, (n,) int64, and the keys of the groups, in order.

    columns: the matching rows' values of each attribute of group_by. Rows outside a part's first `GROUPS_MAX`
    groups fall into none (a number past the keys): a group that is among the first of all parts is among the
    first of each part that has it.
    """
    group = np.zeros(rows, np.int64)
    if not columns:
        return group, [()]
    coded = [ordered_codes(column) for column in columns]
    for codes, distinct in coded:
        # codes begin at -1; numbering the groups densely after each key keeps the product small
        _, group = np.unique(group * (len(distinct) + 1) + codes + 1, return_inverse=True)
    _, samples = np.unique(group, return_index=True)
    samples = samples[:GROUPS_MAX]
    keys = []
    for codes, distinct in coded:
        indices = pa.array(codes[samples], mask=codes[samples] < 0)
        keys.append(distinct.take(indices).to_pylist())
    return group.astype(np.int64), list(zip(*keys, strict=True))


def _exact_sums(values: Any, group_of_row: Ints, groups: int) -> list[int]:
    """The sum of numbers by group, nulls skipped, as integers: floats count in their unit."""
    counted = pc.is_valid(values).to_numpy(zero_copy_only=False) & (group_of_row < groups)
    numbers = values.filter(pa.array(counted)).to_numpy(zero_copy_only=False)
    group = group_of_row[counted]
    totals = [0] * groups
    if numbers.dtype.kind != "f":
        for index, total in _sums_by(numbers, group):
            totals[index] += total
        return totals
    mantissas, exponents = np.frexp(numbers)
    # one sum per group and exponent: there are at most 2,099 exponents
    exponents = exponents.astype(np.int64) - _MANTISSA_BITS + _FLOAT_UNIT_BITS
    whole = (mantissas * 2.0**_MANTISSA_BITS).astype(np.int64)
    for key, total in _sums_by(whole, group * 4096 + exponents):
        totals[key >> 12] += total << (key & 4095)
    return totals


def _sums_by(numbers: npt.NDArray[Any], keys: Ints) -> list[tuple[int, int]]:
    """(key, exact sum) for 64-bit integers; halves are summed apart, so that nothing overflows below 2^31
    rows."""
    if len(numbers) == 0:
        return []
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    ordered = numbers[order]
    high = np.add.reduceat(ordered >> ordered.dtype.type(32), starts)
    low = np.add.reduceat(ordered & ordered.dtype.type(_LOW), starts)
    return [
        (key, (upper << 32) + lower)
        for key, upper, lower in zip(distinct.tolist(), high.tolist(), low.tolist(), strict=True)
    ]
