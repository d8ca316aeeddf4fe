"""Counts and sums over the matching rows, optionally by groups; exact, and independent of how rows are spread
over parts.

Sums are kept as integers of unlimited size: integers as they are, floats in units of 2^-1126 (every float is
a whole number of them). Adding up is then exact in any order, and a float sum is the exact sum, rounded once.

Groups come in ascending order of their keys, null first, and at most `groups_max` of them: the first in that
order.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import InvalidRequest
from elacsym.format.reading import Steps, together
from elacsym.index.arrays import ordered_codes
from elacsym.index.attribute import SortedValues
from elacsym.index.values import to_python
from elacsym.query.ast import GROUP_KEYS_MAX, Aggregate, Figure, Group, GroupKey
from elacsym.query.columns import Bools, Ints, attribute_of, matched, values_in
from elacsym.query.searchable import Part
from elacsym.types import ID, Attribute, Scalar, Schema

# the share of a part's rows from which counting them along an index is faster than grouping their values
_INDEX_SHARE_MIN = 1 / 16
_NUMBERS = (Scalar.INT, Scalar.UINT, Scalar.FLOAT)
_MANTISSA_BITS = 53
_FLOAT_UNIT_BITS = 1126  # the smallest float, 2^-1074, has a mantissa of 53 bits with exponent -1073
_LOW = np.int64(0xFFFFFFFF)

Keys = tuple[Any, ...]
Groups = dict[Keys, list[int]]


def check_aggregate(wanted: Aggregate, schema: Schema) -> None:
    """Raises InvalidRequest where an aggregation does not fit the schema."""
    if not wanted.figures:
        raise InvalidRequest("aggregate_by", "nothing is counted or summed")
    for figure in wanted.figures:
        if figure.kind == "sum":
            kind = _known(figure.attribute or "", schema, figure.path).type
            if figure.attribute == ID or kind.is_array or kind.scalar not in _NUMBERS:
                raise InvalidRequest(
                    figure.path, f"'{figure.attribute}' is of type {kind}; only numbers can be summed"
                )
    _check_labels(wanted)
    if len(wanted.group_by) > GROUP_KEYS_MAX:
        raise InvalidRequest(
            "group_by", f"has {len(wanted.group_by)} attributes, at most {GROUP_KEYS_MAX} are allowed"
        )
    if sum(key.is_each_element for key in wanted.group_by) > 1:
        raise InvalidRequest("group_by", "only one attribute can be taken element by element")
    for key in wanted.group_by:
        _check_key(key, schema)


def _check_labels(wanted: Aggregate) -> None:
    seen: set[str] = set()
    labels = [(f.label, f.path) for f in wanted.figures] + [(k.label, k.path) for k in wanted.group_by]
    for label, path in labels:
        if label in seen:
            raise InvalidRequest(path, f"'{label}' is named twice")
        seen.add(label)


def _check_key(key: GroupKey, schema: Schema) -> None:
    attribute = _known(key.attribute, schema, key.path)
    kind = attribute.type
    if key.attribute == ID or not kind.is_plain or kind.scalar in (Scalar.BYTES, Scalar.UNKNOWN):
        raise InvalidRequest(key.path, f"cannot group by '{key.attribute}' of type {kind}")
    if kind.is_array != key.is_each_element:
        expected = "elements need an array" if key.is_each_element else "only by scalar attributes"
        raise InvalidRequest(key.path, f"cannot group by '{key.attribute}' of type {kind}; {expected}")
    if not attribute.filterable:
        raise InvalidRequest(key.path, f"attribute '{key.attribute}' isn't filterable")


def _known(name: str, schema: Schema, path: str) -> Attribute:
    attribute = attribute_of(schema, name)
    if attribute is None:
        raise InvalidRequest(path, f"attribute '{name}' not found in schema")
    return attribute


def aggregate(
    parts: Sequence[tuple[int, Part, Bools]], wanted: Aggregate, schema: Schema
) -> Steps[tuple[dict[str, Any] | None, tuple[Group, ...] | None]]:
    """The figures over the rows that each part's mask, (rows,) bool, selects.

    Returns `(aggregations, groups)`, one of them None: figures by label, or with group_by the groups. The sum
    of nothing is 0. Integer sums are unlimited; a float sum beyond all floats is the last float on its side,
    because JSON has no infinity. One round; a count alone reads nothing.
    """
    totals: Groups = {}
    for groups in (yield from together([_groups_of_part(part, mask, wanted) for _, part, mask in parts])):
        for key, figures in groups.items():
            _add(totals, key, figures)
    if not wanted.group_by:
        return _figures(wanted, totals.get((), [0] * (1 + len(_sums(wanted)))), schema), None
    ordered = sorted(totals, key=lambda key: tuple((value is not None, value) for value in key))
    labels = [key.label for key in wanted.group_by]
    return None, tuple(
        Group(dict(zip(labels, key, strict=True)), _figures(wanted, totals[key], schema))
        for key in ordered[: wanted.groups_max]
    )


def looked_at(wanted: Aggregate) -> set[str]:
    """The attributes that are grouped by or summed."""
    return {*_sums(wanted), *(key.attribute for key in wanted.group_by)}


def _sums(wanted: Aggregate) -> list[str]:
    """The attributes that are summed, each once."""
    return list(dict.fromkeys(f.attribute for f in wanted.figures if f.attribute is not None))


def _add(totals: Groups, key: Keys, figures: list[int]) -> None:
    known = totals.get(key)
    totals[key] = figures if known is None else [a + b for a, b in zip(known, figures, strict=True)]


def _figures(wanted: Aggregate, figures: list[int], schema: Schema) -> dict[str, Any]:
    """By label; figures: the count, then the sum of each summed attribute."""
    totals = dict(zip(_sums(wanted), figures[1:], strict=True))

    def value(figure: Figure) -> int | float:
        if figure.attribute is None:
            return figures[0]
        is_float = schema.attributes[figure.attribute].type.scalar is Scalar.FLOAT
        total = totals[figure.attribute]
        return _rounded(total) if is_float else total

    return {figure.label: value(figure) for figure in wanted.figures}


def _rounded(units: int) -> float:
    """A whole number of float units as the nearest float that is finite."""
    try:
        return units / (1 << _FLOAT_UNIT_BITS)
    except OverflowError:
        return sys.float_info.max if units > 0 else -sys.float_info.max


def _groups_of_part(part: Part, mask: Bools, wanted: Aggregate) -> Steps[Groups]:
    """By key of each group its count, then its sums."""
    keys_by, sums_of = wanted.group_by, _sums(wanted)
    if not (sums_of or keys_by):
        return {(): [int(np.count_nonzero(mask))]}
    if not sums_of and len(keys_by) == 1 and not keys_by[0].is_each_element:
        index = (yield from values_in(part, keys_by[0].attribute)).index
        # below that the column of the matching rows is less work than the whole index
        if index is not None and len(index) and np.count_nonzero(mask) > len(mask) * _INDEX_SHARE_MIN:
            return (yield from _counts_by_index(index, mask, wanted.groups_max))
    names = (*(key.attribute for key in keys_by), *sums_of)
    columns = yield from together([matched(part, name, mask) for name in names])
    columns, rows = _spread(columns, [key.is_each_element for key in keys_by], int(np.count_nonzero(mask)))
    grouped, summed = columns[: len(keys_by)], columns[len(keys_by) :]
    group_of_row, keys = _groups_of(grouped, rows, wanted.groups_max)
    sums = [_exact_sums(column, group_of_row, len(keys)) for column in summed]
    counts = np.bincount(group_of_row, minlength=len(keys)).tolist()
    return {key: [counts[group], *(column[group] for column in sums)] for group, key in enumerate(keys)}


def _spread(columns: list[Any], is_spread: Sequence[bool], rows: int) -> tuple[list[Any], int]:
    """The columns, rows long, with one row for each distinct element of the column that is to be spread, and
    how many there are then; a null array stays as one null."""
    if True not in is_spread:
        return columns, rows
    arrays = columns[is_spread.index(True)]
    lengths = pc.list_value_length(arrays)
    elements = arrays.flatten()
    row_of = np.repeat(np.arange(rows), lengths.fill_null(0).to_numpy(zero_copy_only=False))
    codes, distinct = ordered_codes(elements)
    pairs = np.unique(row_of * (len(distinct) + 1) + codes)
    nulls = np.flatnonzero(pc.is_null(lengths).to_numpy(zero_copy_only=False))
    taken = pa.array(np.concatenate([pairs // (len(distinct) + 1), nulls]))
    chosen = np.concatenate([pairs % (len(distinct) + 1), np.full(len(nulls), -1)])
    spread = distinct.take(pa.array(chosen, mask=chosen < 0))
    return [
        spread if position == is_spread.index(True) else column.take(taken)
        for position, column in enumerate(columns)
    ], len(taken)


def _counts_by_index(index: SortedValues, mask: Bools, groups_max: int) -> Steps[Groups]:
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
    present = np.flatnonzero(counts)[: max(0, groups_max - len(groups))]
    keys = to_python(distinct.take(pa.array(present)))
    return groups | {(key,): [n] for key, n in zip(keys, counts[present].tolist(), strict=True)}


def _groups_of(columns: Sequence[Any], rows: int, groups_max: int) -> tuple[Ints, list[Keys]]:
    """The group of each row, (n,) int64, and the keys of the groups, in order.

    columns: the matching rows' values of each attribute of group_by. Rows outside a part's first `groups_max`
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
    samples = samples[:groups_max]
    keys = []
    for codes, distinct in coded:
        indices = pa.array(codes[samples], mask=codes[samples] < 0)
        keys.append(to_python(distinct.take(indices)))
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
