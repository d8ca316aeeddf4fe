"""Score expressions over arrays: pure, for the rows of any part.

The leaves of an expression are what a part has to be asked for: BM25, filters, numbers, distances. Given
these as float64 arrays over the same rows, `evaluated` gives the scores of the rows. Nothing becomes NaN, and
what would be infinite is the largest float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import numpy.typing as npt

from elacsym.query.ast import (
    AttributeValue,
    Bm25,
    Decay,
    Distance,
    Duration,
    Indicator,
    Max,
    Product,
    Saturate,
    Score,
    Sum,
)
from elacsym.query.filters import columns_of, texts_of

Floats = npt.NDArray[np.float64]
Leaf = Bm25 | Indicator | AttributeValue | Distance

_F32_MAX = float(np.finfo(np.float32).max)
_F64_MAX = float(np.finfo(np.float64).max)
# products of bounds of BM25 stay finite below
_WEIGHT_MAX = 1e30


def leaves_of(score: Score) -> tuple[Leaf, ...]:
    """The distinct leaves of an expression, in their order."""
    return tuple(dict.fromkeys(_leaves(score)))


def clauses_in(score: Score | Distance) -> int:
    """How many clauses an expression has, those around others included."""
    match score:
        case Sum() | Max():
            return 1 + sum(map(clauses_in, score.clauses))
        case Product() | Saturate() | Decay():
            return 1 + clauses_in(score.clause)
        case _:
            return 1


def _leaves(score: Score | Distance) -> list[Leaf]:
    match score:
        case Sum() | Max():
            return [leaf for clause in score.clauses for leaf in _leaves(clause)]
        case Product() | Saturate() | Decay():
            return _leaves(score.clause)
        case _:
            return [score]


def columns_in(score: Score) -> frozenset[str]:
    """The attributes whose values an expression looks at, `id` included."""
    names: set[str] = set()
    for leaf in _leaves(score):
        match leaf:
            case Indicator():
                names |= columns_of(leaf.condition)
            case AttributeValue() | Distance():
                names.add(leaf.attribute)
    return frozenset(names)


def texts_in(score: Score) -> frozenset[str]:
    """The attributes whose postings an expression looks at."""
    names: set[str] = set()
    for leaf in _leaves(score):
        match leaf:
            case Bm25():
                names.add(leaf.attribute)
            case Indicator():
                names |= texts_of(leaf.condition)
    return frozenset(names)


def keeps_zero(score: Score) -> bool:
    """Whether rows whose score is 0 count as matches, too."""
    return any(isinstance(leaf, AttributeValue | Distance) for leaf in _leaves(score))


def weighted_texts(score: Score) -> list[tuple[Bm25, float]] | None:
    """The clauses with their weights, where an expression is the sum of weight · BM25 and nothing else: then
    the best rows can be told without looking at all."""
    match score:
        case Bm25(last_as_prefix=False):
            return [(score, 1.0)]
        case Product():
            inner = weighted_texts(score.clause)
            if inner is None or any(w * score.weight > _WEIGHT_MAX for _, w in inner):
                return None
            return [(leaf, weight * score.weight) for leaf, weight in inner]
        case Sum():
            found: list[tuple[Bm25, float]] = []
            for clause in score.clauses:
                inner = weighted_texts(clause)
                if inner is None:
                    return None
                found += inner
            return found
    return None


def evaluated(score: Score, values: Mapping[Leaf, Floats]) -> Floats:
    """(n,) float64 scores. values: of each leaf (n,) float64; 0 or 1 for filters, 0 for numbers that are
    null, NaN for distances from them."""
    # overflow is clipped; a division by zero is the limit of a curve
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        return _evaluated(score, values)


def to_f32(scores: Floats) -> npt.NDArray[np.float32]:
    """Scores as answers give and compare them, without negative zeros; what is beyond float32 is its
    largest."""
    return (scores.clip(-_F32_MAX, _F32_MAX) + 0.0).astype(np.float32)


def _evaluated(score: Score, values: Mapping[Leaf, Floats]) -> Floats:
    match score:
        case Sum():
            total = _evaluated(score.clauses[0], values)
            for clause in score.clauses[1:]:
                total = _finite(total + _evaluated(clause, values))
            return total
        case Max():
            largest = _evaluated(score.clauses[0], values)
            for clause in score.clauses[1:]:
                largest = np.maximum(largest, _evaluated(clause, values))
            return largest if score.floor is None else np.maximum(largest, score.floor)
        case Product():
            return _finite(score.weight * _evaluated(score.clause, values))
        case Saturate() | Decay():
            return _curve(score, values)
        case _:
            return values[score]


def _curve(score: Saturate | Decay, values: Mapping[Leaf, Floats]) -> Floats:
    """x^e / (x^e + m^e) or m^e / (x^e + m^e), in a form whose powers may overflow."""
    clause, midpoint = score.clause, score.midpoint
    middle = midpoint.milliseconds if isinstance(midpoint, Duration) else midpoint
    x = values[clause] if isinstance(clause, Distance) else np.maximum(_evaluated(clause, values), 0.0)
    ratio = middle / x if isinstance(score, Saturate) else x / middle
    curve = 1.0 / (1.0 + ratio**score.exponent)
    # a distance from nothing
    return cast("Floats", np.where(np.isnan(x), 0.0, curve))


def _finite(values: Floats) -> Floats:
    return values.clip(-_F64_MAX, _F64_MAX)
