"""Filters as bitmaps over the rows of one part.

Null (no value) never makes a comparison true, and `ne`, `not_…` and `not` are plain negations, so they match
null. In particular `lt` and `lte` do not match null: that is the rule of the v1 API; v2 sorts null before
every value, and its decoder has to say `Or(lt, eq null)` where it means that. `eq None` matches null, `ne
None` everything else.

Numbers compare by value, never through a lossy conversion: 2^53 + 1 differs from 2^53, and -1 is less than
every unsigned.

An attribute with a sorted index answers from that: one round finds the values' places, one the rows. Others
are compared row by row. Conditions of one filter share their rounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.format.reading import Steps, folded, together
from elacsym.index.attribute import Cut, Range, SortedValues, Values
from elacsym.index.ids import IdColumn
from elacsym.index.values import to_arrow
from elacsym.query.ast import And, Compare, Filter, Fuzzy, Glob, Not, Op, Or, Regex, Test, Tokens
from elacsym.query.columns import Bools, attribute_of, conjoin, disjoin, is_valid, to_bools, values_in
from elacsym.query.patterns import rows_fitting
from elacsym.query.searchable import Part
from elacsym.query.token_filter import token_rows
from elacsym.types import ID, AttributeType, IdType, Scalar, Schema

_COMPARE = {
    Op.EQ: pc.equal,
    Op.GT: pc.greater,
    Op.GTE: pc.greater_equal,
    Op.LT: pc.less,
    Op.LTE: pc.less_equal,
}
_COMBINATIONS = (And, Or)
_INT64 = -(2**63), 2**63 - 1
_BOUNDS = {Scalar.INT: _INT64, Scalar.UINT: (0, 2**64 - 1), Scalar.DATETIME: _INT64}
_NEGATED = {
    Op.NE: Op.EQ,
    Op.NOT_IN: Op.IN,
    Op.NOT_CONTAINS: Op.CONTAINS,
    Op.NOT_CONTAINS_ANY: Op.CONTAINS_ANY,
}
# comparisons of elements as those of values
_OF_ELEMENTS = {
    Op.CONTAINS: Op.EQ,
    Op.ANY_LT: Op.LT,
    Op.ANY_LTE: Op.LTE,
    Op.ANY_GT: Op.GT,
    Op.ANY_GTE: Op.GTE,
}


def attributes_of(condition: Filter | None) -> frozenset[str]:
    """The attributes that a filter looks at in any way, `id` included."""
    return columns_of(condition) | texts_of(condition)


def columns_of(condition: Filter | None) -> frozenset[str]:
    """The attributes whose values a filter looks at, `id` included."""
    # the order of tokens is not in the postings
    return frozenset(
        [one.field for one in tests_in(condition) if type(one) is not Tokens or one.mode == "sequence"]
    )


def texts_of(condition: Filter | None) -> frozenset[str]:
    """The attributes whose postings a filter looks at."""
    return frozenset([one.field for one in tests_in(condition) if type(one) is Tokens])


def tests_in(condition: Filter | None) -> Iterator[Test]:
    """The conditions of a filter that look at an attribute, in no particular order."""
    rest = [] if condition is None else [condition]
    while rest:
        one = rest.pop()
        # there may be thousands, and this is the way that takes least time
        if isinstance(one, _COMBINATIONS):
            rest += one.conditions
        elif isinstance(one, Not):
            rest.append(one.condition)
        else:
            yield one


def matches(condition: Filter, schema: Schema, part: Part) -> Steps[Bools]:
    """(rows,) bool, fresh: where a checked filter holds among the rows that may be alive; where a row is
    surely dead the value is arbitrary.

    Cost: with an index the rows that are found, else one pass over the column per comparison.
    """
    match condition:
        case Compare():
            return (yield from _compare(condition, schema, part))
        case Glob() | Regex() | Fuzzy():
            return (yield from rows_fitting(condition, (yield from values_in(part, condition.field))))
        case Tokens():
            return (yield from token_rows(condition, schema, part))
        case Not():
            mask = yield from matches(condition.condition, schema, part)
            return np.logical_not(mask, out=mask)
        case And() | Or():
            is_all = isinstance(condition, And)
            if not condition.conditions:
                return np.full(part.rows, is_all, np.bool_)
            inner = [matches(c, schema, part) for c in condition.conditions]
            return (yield from folded(inner, conjoin if is_all else disjoin))


def estimate(condition: Filter, schema: Schema, part: Part) -> Steps[int | None]:
    """At most how many rows of a part, dead ones included, a checked filter matches, without reading rows.

    None where no index tells. One round, whose bytes `matches` needs too. Cost: a few binary searches.
    """
    bounds = yield from _bounds(condition, schema, part)
    return None if bounds is None else bounds[1]


# how many rows at least and at most; None where nothing is known
_Between = tuple[int, int] | None


def _bounds(condition: Filter, schema: Schema, part: Part) -> Steps[_Between]:
    match condition:
        case Compare():
            return (yield from _bounds_of_compare(condition, schema, part))
        case Glob() | Regex() | Fuzzy() | Tokens():
            return None
        case Not():
            inner = yield from _bounds(condition.condition, schema, part)
            return None if inner is None else (part.rows - inner[1], part.rows - inner[0])
        case And() | Or():
            found = yield from together([_bounds(c, schema, part) for c in condition.conditions])
            known = [bounds for bounds in found if bounds is not None]
            if isinstance(condition, Or):
                if len(known) < len(found):
                    return None
                low = max((bounds[0] for bounds in known), default=0)
                return low, min(part.rows, sum(bounds[1] for bounds in known))
            if found and not known:
                return None
            # what each leaves out may add up
            missed = sum(part.rows - bounds[0] for bounds in known) + part.rows * (len(found) - len(known))
            return max(0, part.rows - missed), min((bounds[1] for bounds in known), default=part.rows)


def _bounds_of_compare(condition: Compare, schema: Schema, part: Part) -> Steps[_Between]:
    op, value = condition.op, condition.value
    if op in _NEGATED:
        inner = Compare(condition.field, _NEGATED[op], value)
        return (yield from _bounds(Not(inner), schema, part))
    if condition.field == ID:
        many = {Op.EQ: 1, Op.IN: len(value) if op is Op.IN else 0}.get(op)
        return None if many is None else (0, min(part.rows, many))
    attribute = attribute_of(schema, condition.field)
    assert attribute is not None, condition.field
    if attribute.type.is_vector:
        return None
    index = (yield from part.attribute(condition.field)).index
    if index is None:
        return None
    if op is Op.EQ and value is None:
        return index.rows_null, index.rows_null
    if attribute.type.is_array and op is Op.EQ:
        counts = yield from _element_counts(index, attribute.type.scalar, value)
        return (0, min(counts)) if value else None
    ranges = yield from index.ranges(_ranges(attribute.type.scalar, op, value))
    lengths = ranges[:, 1] - ranges[:, 0]
    total = min(part.rows, int(lengths.sum()))
    if not attribute.type.is_array:
        return total, total
    # a row may have several elements in one range
    return (0 if op in _OF_ELEMENTS and op is not Op.CONTAINS else int(lengths.max(initial=0))), total


def _compare(condition: Compare, schema: Schema, part: Part) -> Steps[Bools]:
    attribute = attribute_of(schema, condition.field)
    assert attribute is not None, condition.field
    op, value = condition.op, condition.value
    if op in _NEGATED:
        positive = Compare(condition.field, _NEGATED[op], value)
        mask = yield from _compare(positive, schema, part)
        return np.logical_not(mask, out=mask)
    if condition.field == ID and op in (Op.EQ, Op.IN) and value is not None:
        return (yield from _with_ids(part, attribute.type.scalar, value if op is Op.IN else (value,)))
    if attribute.type.is_vector:
        return (yield from _without_vector(part, condition.field))
    values = yield from values_in(part, condition.field)
    if op is Op.EQ and value is None:
        mask = yield from values.valid()
        return np.logical_not(mask, out=mask)
    if values.index is not None and (value != () or op is not Op.EQ):
        return (yield from _looked_up(values, values.index, attribute.type, op, value))
    array = yield from values.column()
    return _holds(array, attribute.type, op, value)


def _without_vector(part: Part, name: str) -> Steps[Bools]:
    vectors = yield from part.vectors(name)
    mask = np.ones(part.rows, np.bool_)
    mask[(yield from vectors.rows_at(np.arange(len(vectors))))] = False
    return mask


def _with_ids(part: Part, scalar: Scalar, values: Sequence[Any]) -> Steps[Bools]:
    id_type: IdType = "string" if scalar is Scalar.STRING else "uuid" if scalar is Scalar.UUID else "uint"
    wanted = IdColumn.of(id_type, _operands(scalar, values))
    rows = yield from (yield from part.ids()).rows_of(wanted)
    mask = np.zeros(part.rows, np.bool_)
    mask[rows[rows >= 0]] = True
    return mask


def _looked_up(values: Values, index: SortedValues, kind: AttributeType, op: Op, value: Any) -> Steps[Bools]:
    """A comparison by the index."""
    if kind.is_array and op is Op.EQ:
        return (yield from _equal_arrays_by_element(values, index, kind.scalar, value))
    ranges = yield from index.ranges(_ranges(kind.scalar, op, value))
    if len(ranges) == 1 and not kind.is_array and 2 * (ranges[0, 1] - ranges[0, 0]) > index.listed:
        # most rows match: the others are fewer to go through
        outside = np.array([[0, ranges[0, 0]], [ranges[0, 1], index.listed]])
        both: list[Steps[Any]] = [values.valid(), index.rows(outside)]
        mask: Bools
        mask, rows = yield from together(both)
        mask[rows.astype(np.int64)] = False
        return mask
    rows = yield from index.rows(ranges)
    mask = np.zeros(len(values), np.bool_)
    # numpy goes through indices of its own width twice as fast
    mask[rows.astype(np.int64)] = True
    return mask


def _equal_arrays_by_element(
    values: Values, index: SortedValues, scalar: Scalar, wanted: Sequence[Any]
) -> Steps[Bools]:
    """Which arrays equal one of at least one element: of those that have its rarest element."""
    ranges = yield from index.ranges([r for v in wanted for r in _ranges(scalar, Op.EQ, v)])
    lengths = ranges[:, 1] - ranges[:, 0]
    if len(ranges) < len(wanted) or not lengths.all():
        return np.zeros(len(values), np.bool_)
    rarest = int(np.argmin(lengths))
    rows = (yield from index.rows(ranges[rarest : rarest + 1])).astype(np.int64)
    arrays = yield from values.select(rows)
    mask = np.zeros(len(values), np.bool_)
    mask[rows[_equal_arrays(arrays, scalar, wanted)]] = True
    return mask


def _element_counts(index: SortedValues, scalar: Scalar, wanted: Sequence[Any]) -> Steps[list[int]]:
    """How many rows have each of these elements."""
    found = [_ranges(scalar, Op.EQ, v) for v in wanted]
    ranges = yield from index.ranges([r for one in found for r in one])
    lengths = iter((ranges[:, 1] - ranges[:, 0]).tolist())
    return [next(lengths) if one else 0 for one in found]


def _ranges(scalar: Scalar, op: Op, value: Any) -> list[Range]:
    """The ranges of an attribute's values or elements where a comparison holds, distinct ones for lists."""
    if op in (Op.IN, Op.CONTAINS_ANY):
        operands = dict.fromkeys(_operands(scalar, value))
        return [(Cut(v, False), Cut(v, True)) for v in operands]
    stored = _as_stored(scalar, _OF_ELEMENTS.get(op, op), value)
    if isinstance(stored, bool):
        return [(None, None)] if stored else []
    op, value = stored
    before, behind = Cut(value, is_after=False), Cut(value, is_after=True)
    match op:
        case Op.EQ:
            return [(before, behind)]
        case Op.LT | Op.LTE:
            return [(None, before if op is Op.LT else behind)]
        case _:
            return [(behind if op is Op.GT else before, None)]


def _operands(scalar: Scalar, values: Sequence[Any]) -> list[Any]:
    """Those values that one of the attribute's may equal, as it would be stored."""
    if scalar in _BOUNDS:
        low, high = _BOUNDS[scalar]
        return [v for v in values if low <= v <= high]
    if scalar is Scalar.FLOAT:
        return [near for v in values if (near := nearest_float(v)) == v]
    return list(values)


def _as_stored(scalar: Scalar, op: Op, value: Any) -> tuple[Op, Any] | bool:
    """eq or a range in terms of the attribute's own values: the equivalent comparison with one of them; True
    where it holds for every value, False where for none."""
    if scalar in _BOUNDS:
        low, high = _BOUNDS[scalar]
        if not low <= value <= high:
            return op in (Op.GT, Op.GTE) if value < low else op in (Op.LT, Op.LTE)
    elif scalar is Scalar.FLOAT:
        near = nearest_float(value)
        if near != value:
            if op is Op.EQ:
                return False
            # no float lies between the operand and `near`, so only the side of `near` decides
            below, above = (Op.LT, Op.GTE) if near > value else (Op.LTE, Op.GT)
            op = below if op in (Op.LT, Op.LTE) else above
        value = near
    return op, value


def nearest_float(value: float) -> float:
    """The float nearest to an int or float; infinite where an int is beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _holds(array: Any, kind: AttributeType, op: Op, value: Any) -> Bools:
    """A comparison by the column."""
    if not kind.is_array:
        return _one_of(array, kind.scalar, value) if op is Op.IN else _ordered(array, kind.scalar, op, value)
    if op is Op.EQ:
        return _equal_arrays(array, kind.scalar, value)
    elements = array.flatten()
    if op in (Op.IN, Op.CONTAINS_ANY):
        found = _one_of(elements, kind.scalar, value)
    else:
        found = _ordered(elements, kind.scalar, _OF_ELEMENTS[op], value)
    result = np.zeros(len(array), np.bool_)
    result[np.repeat(np.arange(len(array)), _lengths(array))[found]] = True
    return result


def _ordered(array: Any, scalar: Scalar, op: Op, value: Any) -> Bools:
    """Which values compare so with one operand."""
    if scalar is Scalar.UNKNOWN:
        return np.zeros(len(array), np.bool_)
    stored = _as_stored(scalar, op, value)
    if isinstance(stored, bool):
        return is_valid(array) if stored else np.zeros(len(array), np.bool_)
    op, value = stored
    return to_bools(_COMPARE[op](array, to_arrow([value], array.type)[0]))


def _one_of(array: Any, scalar: Scalar, values: Sequence[Any]) -> Bools:
    """Which values equal one of the operands."""
    if scalar is Scalar.UNKNOWN:
        return np.zeros(len(array), np.bool_)
    operands = _operands(scalar, values)
    if scalar is Scalar.FLOAT and 0.0 in operands:
        operands += [0.0, -0.0]  # the look-up goes by bits, to which the zeros differ
    return to_bools(pc.is_in(array, value_set=to_arrow(operands, array.type), skip_nulls=True))


def _lengths(array: Any) -> Any:
    return pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


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
