"""Filters as bitmaps over the rows of one part.

Null (no value) never makes a comparison true, and `ne`, `not_in` and `not` are plain negations, so they match
null. In particular `lt` and `lte` do not match null: that is the rule of the v1 API; v2 sorts null before
every value, and its decoder has to say `Or(lt, eq null)` where it means that. `eq None` matches null, `ne
None` everything else.

Numbers compare by value, never through a lossy conversion: 2^53 + 1 differs from 2^53, and -1 is less than
every unsigned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.query.ast import And, Compare, Filter, Not, Op, Or
from elacsym.query.columns import Bools, attribute_of, column_of, is_valid, to_bools
from elacsym.query.searchable import Part
from elacsym.types import AttributeType, Scalar, Schema

_COMPARE = {
    Op.EQ: pc.equal,
    Op.GT: pc.greater,
    Op.GTE: pc.greater_equal,
    Op.LT: pc.less,
    Op.LTE: pc.less_equal,
}
_BOUNDS = {Scalar.INT: (-(2**63), 2**63 - 1), Scalar.UINT: (0, 2**64 - 1)}


def columns_of(condition: Filter | None) -> frozenset[str]:
    """The attributes that a filter looks at, `id` included."""
    match condition:
        case None:
            return frozenset()
        case Compare():
            return frozenset((condition.field,))
        case Not():
            return columns_of(condition.condition)
        case And() | Or():
            return frozenset().union(*(columns_of(c) for c in condition.conditions))


def matches(condition: Filter, schema: Schema, part: Part) -> Bools:
    """(rows,) bool, fresh: where a checked filter holds. Dead rows are evaluated like any other.

    The columns of `columns_of(condition)` must be prepared. Cost: one pass over a column per comparison.
    """
    match condition:
        case Compare():
            return _compare(condition, schema, part)
        case Not():
            return ~matches(condition.condition, schema, part)
        case And():
            result = np.ones(part.rows, np.bool_)
            for inner in condition.conditions:
                result &= matches(inner, schema, part)
                if not result.any():
                    break
            return result
        case Or():
            result = np.zeros(part.rows, np.bool_)
            for inner in condition.conditions:
                result |= matches(inner, schema, part)
                if result.all():
                    break
            return result


def _compare(condition: Compare, schema: Schema, part: Part) -> Bools:
    attribute = attribute_of(schema, condition.field)
    assert attribute is not None, condition.field
    array = column_of(part, condition.field)
    match condition.op, condition.value:
        case Op.EQ, None:
            return ~is_valid(array)
        case Op.NE, None:
            return is_valid(array)
        case Op.NE, value:
            return ~_holds(array, attribute.type, Op.EQ, value)
        case Op.NOT_IN, value:
            return ~_holds(array, attribute.type, Op.IN, value)
        case op, value:
            return _holds(array, attribute.type, op, value)


def _holds(array: Any, kind: AttributeType, op: Op, value: Any) -> Bools:
    if kind.is_array:
        if op is Op.EQ:
            return _equal_arrays(array, kind.scalar, value)
        return _some_element(array, kind.scalar, [value] if op is Op.CONTAINS else value)
    if op is Op.IN:
        return _one_of(array, kind.scalar, value)
    return _scalar(array, kind.scalar, op, value)


def _scalar(array: Any, scalar: Scalar, op: Op, value: Any) -> Bools:
    """eq or a range of scalars with one operand."""
    if scalar in _BOUNDS:
        low, high = _BOUNDS[scalar]
        if not low <= value <= high:
            holds = op in (Op.GT, Op.GTE) if value < low else op in (Op.LT, Op.LTE)
            return is_valid(array) if holds else np.zeros(len(array), np.bool_)
    elif scalar is Scalar.FLOAT:
        near = nearest_float(value)
        if near != value:
            if op is Op.EQ:
                return np.zeros(len(array), np.bool_)
            # no float lies between the operand and `near`, so only the side of `near` decides
            below, above = (Op.LT, Op.GTE) if near > value else (Op.LTE, Op.GT)
            op = below if op in (Op.LT, Op.LTE) else above
        value = near
    return to_bools(_COMPARE[op](array, pa.scalar(value, array.type)))


def nearest_float(value: float) -> float:
    """The float nearest to an int or float; infinite where an int is beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _one_of(array: Any, scalar: Scalar, values: Sequence[Any]) -> Bools:
    """Which values equal one of the operands."""
    if scalar in _BOUNDS:
        low, high = _BOUNDS[scalar]
        values = [v for v in values if low <= v <= high]
    elif scalar is Scalar.FLOAT:
        values = [nearest_float(v) for v in values if nearest_float(v) == v]
        if 0.0 in values:
            values = [*values, 0.0, -0.0]  # the look-up goes by bits, to which the zeros differ
    return to_bools(pc.is_in(array, value_set=pa.array(values, array.type), skip_nulls=True))


def _lengths(array: Any) -> Any:
    return pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _some_element(array: Any, scalar: Scalar, values: Sequence[Any]) -> Bools:
    found = _one_of(array.flatten(), scalar, values)
    rows = np.repeat(np.arange(len(array)), _lengths(array))
    result = np.zeros(len(array), np.bool_)
    result[rows[found]] = True
    return result


def _equal_arrays(array: Any, scalar: Scalar, values: Sequence[Any]) -> Bools:
    lengths = _lengths(array)
    starts = np.cumsum(lengths) - lengths
    elements = array.flatten()
    rows = np.flatnonzero((lengths == len(values)) & is_valid(array))
    for position, value in enumerate(values):
        rows = rows[_one_of(elements.take(pa.array(starts[rows] + position)), scalar, [value])]
    result = np.zeros(len(array), np.bool_)
    result[rows] = True
    return result
