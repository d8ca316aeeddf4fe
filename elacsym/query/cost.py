"""What a query should cost, by which it is looked at and answered on the event loop or in the pool.

Figures are rough, only to tell work that is worth a hop to the pool from work that is not. What may take long
for reasons that are not known beforehand never runs on the event loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from elacsym.query.aggregate import looked_at
from elacsym.query.ast import (
    And,
    AttributeValue,
    Bm25,
    Compare,
    Computed,
    Decay,
    Distance,
    Filter,
    Fuzzy,
    Glob,
    Highlight,
    Indicator,
    Leg,
    Max,
    MultiVectorLeg,
    Not,
    Or,
    Product,
    Query,
    Regex,
    Saturate,
    Score,
    ScoreLeg,
    SparseLeg,
    Sum,
    Test,
    TextLeg,
    Tokens,
    VectorDistance,
    VectorLeg,
)
from elacsym.query.check_filter import query_chars
from elacsym.query.filters import tests_in
from elacsym.query.matching import recalled
from elacsym.query.plan import rows_wanted
from elacsym.query.scores import leaves_of, weighted_texts
from elacsym.query.searchable import SearchSnapshot

# microseconds
INLINE_US_MAX = 1_000.0
# what queries may take together that are answered in one go on the event loop
BATCH_US_MAX = 3_000.0
_US_PER_VECTOR_ELEMENT = 0.0002
_VECTORS_PER_ROW = 32  # of an array of vectors
_US_PER_CODED_ROW = 0.004
_CODED_ROWS_MIN = 1_024
_US_PER_TEXT_ROW = 0.001
_US_PER_SPARSE_ROW = 0.002
_US_PER_QUERY_CHARACTER = 0.5
_US_PER_TEST = 20.0  # in one part
_US_PER_FILTERED_ROW = 0.001
_US_PER_PATTERN_ROW = 0.2
_US_PER_OPERAND = 1.0
_US_PER_DIMENSION = 4.0  # of a sparse vector, in one part
_US_PER_LEAF_ROW = 0.02
_US_PER_SORTED_ROW = 0.05
_US_PER_VALUE = 1.0
_US_PER_PART = 15.0
_US_PER_LEG = 40.0
_US_PER_CHECKED = 3.0  # a condition or clause

_UNKNOWN_US: Final = 2 * INLINE_US_MAX


def is_small(query: Query) -> bool:
    """Whether checking and pricing a query is no work for the pool. Cost: it stops counting where it is
    not."""
    spent_us = 0.0
    for one in _pieces_of(query):
        spent_us += _US_PER_CHECKED + _operands_in(one) * _US_PER_OPERAND
        # patterns are compiled
        if spent_us > INLINE_US_MAX or isinstance(one, Glob | Regex | Fuzzy):
            return False
    named = len(query.include_attributes or ()) + len(query.exclude_attributes)
    dimensions = sum(len(leg.vector) for leg in query.legs if isinstance(leg, SparseLeg))
    return spent_us + (named + dimensions) * _US_PER_OPERAND <= INLINE_US_MAX


def conditions_in(query: Query, count_max: int) -> int:
    """How many conditions the filters of a query have together, those inside its score expressions and
    computed attributes included. Cost: counting stops above count_max."""
    count = 0
    for one in _pieces_of(query):
        count += isinstance(one, Compare | Glob | Regex | Fuzzy | Tokens | And | Or | Not)
        if count > count_max:
            break
    return count


def cost_us(query: Query, snapshot: SearchSnapshot) -> float:
    """What the query should cost over warm files, in microseconds of one core. Takes time itself
    unless the query `is_small`."""
    rows = sum(view.part.rows for view in snapshot.parts)
    cost = _US_PER_PART * len(snapshot.parts)
    if recalled(snapshot, query.filter) is None:
        cost += _tests_us(query.filter, snapshot, rows)
    for leg in query.legs:
        cost += _US_PER_LEG + _leg_us(leg, snapshot, rows, exact=query.exact)
    for _, computed in query.compute:
        cost += _computed_us(computed, snapshot, rows)
    if query.per is not None:
        # how deep the ranking is looked at is not known
        cost += _UNKNOWN_US
    if query.order_by:
        cost += rows * _US_PER_SORTED_ROW * len(query.order_by)
    if query.aggregate is not None:
        cost += rows * _US_PER_SORTED_ROW * len(looked_at(query.aggregate))
    names = snapshot.schema.attributes if query.include_attributes is None else query.include_attributes
    return cost + rows_wanted(query) * len(names) * _US_PER_VALUE


def inline_us(query: Query, snapshot: SearchSnapshot) -> float | None:
    """What a query should cost that is answered on the event loop, because a hop to the pool costs as much;
    None for one that goes to the pool."""
    if not is_small(query):
        return None
    cost = cost_us(query, snapshot)
    return cost if cost < INLINE_US_MAX else None


def _pieces_of(query: Query) -> Iterator[Filter | Score | Distance]:
    """Every condition and every clause that a query has anywhere, in no particular order."""
    rest: list[Filter | Score | Distance] = [leg.score for leg in query.legs if isinstance(leg, ScoreLeg)]
    for _, computed in query.compute:
        match computed:
            case VectorDistance():
                pass
            case Highlight(rank_by=score):
                rest += () if score is None else (score,)
            case _:
                rest.append(computed)
    if query.filter is not None:
        rest.append(query.filter)
    while rest:
        one = rest.pop()
        yield one
        match one:
            case And(conditions=several) | Or(conditions=several):
                rest += several
            case Not(condition=inner) | Indicator(condition=inner):
                rest.append(inner)
            case Sum(clauses=clauses) | Max(clauses=clauses):
                rest += clauses
            case Product(clause=clause) | Saturate(clause=clause) | Decay(clause=clause):
                rest.append(clause)


def _operands_in(piece: Filter | Score | Distance) -> int:
    """How many values a condition or clause compares with."""
    match piece:
        case Compare(value=tuple() | list() as values) | Tokens(query=tuple() as values):
            return len(values)
        case Bm25(query=tuple() as tokens):
            return len(tokens)
    return 1


def _tests_us(condition: Filter | None, snapshot: SearchSnapshot, rows: int) -> float:
    """What evaluating a filter on all rows should cost."""
    return sum(_test_us(test, snapshot, rows) for test in tests_in(condition))


def _test_us(test: Test, snapshot: SearchSnapshot, rows: int) -> float:
    cost = len(snapshot.parts) * _US_PER_TEST + rows * _US_PER_FILTERED_ROW
    match test:
        case Compare():
            return cost + _operands_in(test) * _US_PER_OPERAND
        case Tokens():
            clause = Bm25(test.field, test.query, test.last_as_prefix)
            # a sequence is looked for in the texts, and how long these are is not known
            return cost + _text_us(clause, snapshot, rows) + (_UNKNOWN_US if test.mode == "sequence" else 0.0)
        case Glob() | Regex() | Fuzzy():
            return cost + _UNKNOWN_US + rows * _US_PER_PATTERN_ROW


def _leg_us(leg: Leg, snapshot: SearchSnapshot, rows: int, *, exact: bool) -> float:
    match leg:
        case VectorLeg():
            cost = 0.0
            for view in snapshot.parts:
                cost += view.part.pending_us(leg.attribute)
                is_coded = view.part.is_built and view.part.rows >= _CODED_ROWS_MIN and not exact
                per_row = _US_PER_CODED_ROW if is_coded else len(leg.vector) * _US_PER_VECTOR_ELEMENT
                cost += view.part.rows * per_row
            return cost
        case MultiVectorLeg():
            return rows * leg.vectors.size * _VECTORS_PER_ROW * _US_PER_VECTOR_ELEMENT
        case SparseLeg():
            per_dimension = rows * _US_PER_SPARSE_ROW + len(snapshot.parts) * _US_PER_DIMENSION
            return len(leg.vector) * per_dimension + _pending_us(snapshot, leg.attribute)
        case TextLeg():
            return sum(_text_us(Bm25(name, leg.query), snapshot, rows) for name, _ in leg.fields)
        case ScoreLeg():
            leaves = leaves_of(leg.score)
            is_evaluated = weighted_texts(leg.score) is None
            return _leaves_us(leg.score, snapshot, rows) + (
                rows * _US_PER_LEAF_ROW * len(leaves) if is_evaluated else 0.0
            )


def _leaves_us(score: Score, snapshot: SearchSnapshot, rows: int) -> float:
    """What the leaves of an expression should cost before they are put together."""
    cost = 0.0
    for leaf in leaves_of(score):
        match leaf:
            case Bm25():
                cost += _text_us(leaf, snapshot, rows)
            case Indicator():
                cost += _tests_us(leaf.condition, snapshot, rows)
            case AttributeValue() | Distance():
                cost += len(snapshot.parts) * _US_PER_TEST + rows * _US_PER_FILTERED_ROW
    return cost


def _computed_us(computed: Computed, snapshot: SearchSnapshot, rows: int) -> float:
    cost = _US_PER_LEG * len(snapshot.parts)
    match computed:
        case VectorDistance():
            return cost
        case Highlight():
            # how long the texts are is not known
            return cost + _UNKNOWN_US
        case Bm25() | Sum() | Max() | Product() | Indicator() | AttributeValue() | Saturate() | Decay():
            # filters inside are evaluated on all rows, not on those of the answer alone
            return cost + _leaves_us(computed, snapshot, rows)
        case _:
            return cost + _tests_us(computed, snapshot, rows)


def _text_us(clause: Bm25, snapshot: SearchSnapshot, rows: int) -> float:
    cost = rows * _US_PER_TEXT_ROW + query_chars(clause.query) * _US_PER_QUERY_CHARACTER
    # how many terms begin with a prefix is not known
    return cost + _pending_us(snapshot, clause.attribute) + (_UNKNOWN_US if clause.last_as_prefix else 0.0)


def _pending_us(snapshot: SearchSnapshot, name: str) -> float:
    return sum(view.part.pending_us(name) for view in snapshot.parts)
