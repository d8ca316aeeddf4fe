"""How a query is going to run: its kind, how deep its legs go, what it should cost, and what it will open.

The way through each part is chosen where the part is searched, when the rows that the filter leaves are
known: by `query.vector_leg` for vectors, by `query.text_leg` for postings. What is decided here needs row
counts alone: which files to open at once, and whether the work is worth a hop to the pool.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from elacsym.format.reading import Steps, together
from elacsym.query.aggregate import looked_at
from elacsym.query.ast import (
    And,
    AttributeValue,
    Bm25,
    Compare,
    Computed,
    Decay,
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
    TextLeg,
    Tokens,
    VectorDistance,
    VectorLeg,
)
from elacsym.query.columns import stored
from elacsym.query.filters import columns_of, has_patterns, operands_of, texts_of
from elacsym.query.matching import Matches, live_rows
from elacsym.query.ranking import Ranking
from elacsym.query.scores import columns_in, leaves_of, texts_in, weighted_texts
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.query.shown import shown_by
from elacsym.types import Metric, Schema

INLINE_US_MAX = 1_000.0
DEPTH_MIN = 100

# microseconds; rough, only to tell work that is worth a hop to the pool from work that is not
_US_PER_VECTOR_ELEMENT = 0.0002
_VECTORS_PER_ROW = 32  # of an array of vectors
_US_PER_CODED_ROW = 0.004
_CODED_ROWS_MIN = 1_024
_US_PER_TEXT_ROW = 0.002
_US_PER_QUERY_CHARACTER = 0.5
_US_PER_FILTERED_ROW = 0.001
_US_PER_PATTERN_ROW = 0.2
_US_PER_OPERAND = 1.0
# that are checked on the event loop
_OPERANDS_MAX = 1_000
_US_PER_LEAF_ROW = 0.02
_US_PER_SORTED_ROW = 0.05
_US_PER_VALUE = 1.0
_US_PER_PART = 15.0
_US_PER_LEG = 40.0

Kind = Literal["vector", "sparse", "text", "score", "hybrid", "order", "aggregate"]

_KINDS: dict[type[Leg], Kind] = {
    VectorLeg: "vector",
    MultiVectorLeg: "vector",
    SparseLeg: "sparse",
    TextLeg: "text",
    ScoreLeg: "score",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """The pieces of a part that a query opens; ids are always among them."""

    columns: frozenset[str] = frozenset()
    vectors: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


def kind_of(query: Query) -> Kind:
    """The kind of a query, by its legs, then its order."""
    if len(query.legs) > 1:
        return "hybrid"
    if query.legs:
        return _KINDS[type(query.legs[0])]
    return "order" if query.order_by else "aggregate"


def rows_wanted(query: Query) -> int:
    """How many rows of the ranking the answer takes, those that it passes over included."""
    return query.offset + query.top_k


def leg_depth(query: Query) -> int:
    """How many candidates each leg gives: as many as the answer takes when there is nothing to fuse."""
    if len(query.legs) <= 1:
        return rows_wanted(query)
    return query.fusion.depth or max(DEPTH_MIN, rows_wanted(query))


def leg_name(leg: Leg) -> str:
    """How explanations call a leg."""
    match leg:
        case VectorLeg() | MultiVectorLeg():
            return f"vector:{leg.attribute}"
        case SparseLeg():
            return f"sparse:{leg.attribute}"
        case TextLeg():
            return "text:" + "+".join(name for name, _ in leg.fields)
        case ScoreLeg():
            return "score"


def is_ascending(leg: Leg, metric: Metric | None) -> bool:
    """Whether a smaller score is better: distances are, products and BM25 are not."""
    return isinstance(leg, VectorLeg | MultiVectorLeg) and metric is not Metric.DOT


def shape_of(query: Query) -> Hashable:
    """What `needs_of` depends on: queries of one shape open the same."""
    return (
        tuple([needs_of_leg(leg) for leg in query.legs]),  # not their queries, nor the filter,
        columns_of(query.filter),  # which may be as large as a request
        texts_of(query.filter),
        query.order_by,
        query.aggregate,
        query.include_attributes,
        query.exclude_attributes,
        query.include_vector,
        tuple([needs_of_computed(computed) for _, computed in query.compute]),
        query.per and query.per.attributes,
    )


def needs_of_leg(leg: Leg) -> Needs:
    """What a leg opens in every part."""
    match leg:
        case VectorLeg():
            return Needs(vectors=frozenset((leg.attribute,)))
        case MultiVectorLeg() | SparseLeg():
            return Needs(columns=frozenset((leg.attribute,)))
        case TextLeg():
            return Needs(texts=frozenset(name for name, _ in leg.fields))
        case ScoreLeg():
            return Needs(columns_in(leg.score), texts=texts_in(leg.score))


def needs_of_computed(computed: Computed) -> Needs:
    """What a computed attribute opens in every part."""
    match computed:
        case VectorDistance():
            return Needs(vectors=frozenset((computed.attribute,)))
        case Highlight():
            return Needs(columns=frozenset((computed.attribute,)))
        case Bm25() | Sum() | Max() | Product() | Indicator() | AttributeValue() | Saturate() | Decay():
            return Needs(columns_in(computed), texts=texts_in(computed))
        case _:
            return Needs(columns_of(computed), texts=texts_of(computed))


def needs_of(query: Query, schema: Schema) -> Needs:
    """What a query opens in every part with live rows. Names that the schema lacks are left out."""
    columns = {key.attribute for key in query.order_by} | columns_of(query.filter)
    if query.aggregate is not None:
        columns |= looked_at(query.aggregate)
    vectors: set[str] = set()
    texts = set(texts_of(query.filter))
    if query.legs or query.order_by:
        wanted = shown_by(query, schema)
        columns |= {*wanted.columns, *(query.per.attributes if query.per is not None else ())}
        vectors |= set(wanted.vectors)
    for needs in [*map(needs_of_leg, query.legs), *(needs_of_computed(c) for _, c in query.compute)]:
        columns |= needs.columns
        vectors |= needs.vectors
        texts |= needs.texts
    known, dense = schema.attributes.keys(), schema.vectors().keys()
    # filters ask whether there is a vector
    vectors |= columns & dense
    columns -= dense
    return Needs(stored(frozenset(columns)) & known, frozenset(vectors) & known, frozenset(texts) & known)


def opening(parts: Iterable[Part], needs: Needs) -> Steps[None]:
    """Have heads and eager sections of everything that `needs` names at hand: one round."""
    steps: list[Steps[Any]] = []
    for part in parts:
        steps.append(part.ids())
        steps += [part.attribute(name) for name in needs.columns]
        steps += [part.vectors(name) for name in needs.vectors]
        steps += [part.text(name) for name in needs.texts]
    yield from together(steps)


def cost_us(query: Query, snapshot: SearchSnapshot) -> float:
    """What the query should cost over warm files, in microseconds of one core."""
    rows = sum(view.part.rows for view in snapshot.parts)
    cost = _US_PER_PART * len(snapshot.parts)
    cost += len(columns_of(query.filter)) * rows * _US_PER_FILTERED_ROW
    cost += operands_of(query.filter) * _US_PER_OPERAND
    for name in frozenset().union(*map(texts_of, _conditions_of(query))):
        cost += rows * _US_PER_TEXT_ROW + _pending_us(snapshot, name)
    if any(map(has_patterns, _conditions_of(query))):
        # how long the texts are is not known, so never on the event loop
        cost += INLINE_US_MAX + rows * _US_PER_PATTERN_ROW
    for leg in query.legs:
        cost += _US_PER_LEG + _leg_cost_us(leg, snapshot, rows, exact=query.exact)
    for _, computed in query.compute:
        cost += _computed_cost_us(computed, snapshot, rows)
    if query.order_by:
        cost += rows * _US_PER_SORTED_ROW * len(query.order_by)
    if query.aggregate is not None:
        cost += rows * _US_PER_SORTED_ROW * len(looked_at(query.aggregate))
    names = snapshot.schema.attributes if query.include_attributes is None else query.include_attributes
    return cost + rows_wanted(query) * len(names) * _US_PER_VALUE


def is_soon_checked(query: Query) -> bool:
    """Whether checking the query is no work for the pool: it compiles patterns and converts operands."""
    conditions = list(_conditions_of(query))
    return sum(map(operands_of, conditions)) <= _OPERANDS_MAX and not any(map(has_patterns, conditions))


def _conditions_of(query: Query) -> Iterator[Filter]:
    """All filters of a query: its own, those in its score expressions, and computed ones."""
    if query.filter is not None:
        yield query.filter
    scores: list[Score] = [leg.score for leg in query.legs if isinstance(leg, ScoreLeg)]
    for _, computed in query.compute:
        match computed:
            case Compare() | Glob() | Regex() | Fuzzy() | Tokens() | And() | Or() | Not():
                yield computed
            case Bm25() | Sum() | Max() | Product() | Indicator() | AttributeValue() | Saturate() | Decay():
                scores.append(computed)
    for score in scores:
        yield from (leaf.condition for leaf in leaves_of(score) if isinstance(leaf, Indicator))


def _leg_cost_us(leg: Leg, snapshot: SearchSnapshot, rows: int, *, exact: bool) -> float:
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
            return rows * len(leg.vector) * _US_PER_TEXT_ROW + _pending_us(snapshot, leg.attribute)
        case TextLeg():
            return sum(_text_cost_us(Bm25(name, leg.query), snapshot, rows) for name, _ in leg.fields)
        case ScoreLeg():
            leaves = leaves_of(leg.score)
            cost = 0.0 if weighted_texts(leg.score) is not None else rows * _US_PER_LEAF_ROW * len(leaves)
            return cost + sum(_text_cost_us(one, snapshot, rows) for one in leaves if isinstance(one, Bm25))


def _computed_cost_us(computed: Computed, snapshot: SearchSnapshot, rows: int) -> float:
    needs, cost = needs_of_computed(computed), _US_PER_LEG * len(snapshot.parts)
    cost += sum(_pending_us(snapshot, name) for name in needs.texts)
    cost += len(needs.columns) * rows * _US_PER_FILTERED_ROW
    match computed:
        case Highlight():
            # how long the texts are is not known, so never on the event loop
            cost += INLINE_US_MAX
        case Bm25() | Sum() | Max() | Product() | Indicator() | AttributeValue() | Saturate() | Decay():
            cost += sum(
                _text_cost_us(leaf, snapshot, 0) for leaf in leaves_of(computed) if isinstance(leaf, Bm25)
            )
    return cost


def _text_cost_us(clause: Bm25, snapshot: SearchSnapshot, rows: int) -> float:
    characters = len(clause.query) if isinstance(clause.query, str) else sum(map(len, clause.query))
    cost = rows * _US_PER_TEXT_ROW + characters * _US_PER_QUERY_CHARACTER
    # how many terms begin with a prefix is not known, so never on the event loop
    return cost + _pending_us(snapshot, clause.attribute) + (INLINE_US_MAX if clause.last_as_prefix else 0.0)


def _pending_us(snapshot: SearchSnapshot, name: str) -> float:
    return sum(view.part.pending_us(name) for view in snapshot.parts)


def explain(
    query: Query,
    snapshot: SearchSnapshot,
    matches: Matches,
    rankings: Sequence[Ranking],
    *,
    is_filter_known: bool,
    rows_estimated: int,
) -> dict[str, Any]:
    """The plan and its figures as JSON values; times are microseconds.

    rows_estimated: at most how many rows the filter matches, before any was looked at.
    """
    live = live_rows(snapshot)
    result: dict[str, Any] = {
        "kind": kind_of(query),
        "snapshot": {"incarnation": snapshot.inc, "generation": snapshot.generation, "tail": snapshot.tail},
        "rows": {"live": live.total, "matched": matches.total},
        "parts": [
            {"part": view.part.label, "rows": view.part.rows, "live": alive, "matched": matched}
            for view, alive, matched in zip(snapshot.parts, live.counts, matches.counts, strict=True)
        ],
        "legs": [
            {"leg": leg_name(leg), "candidates": len(ranking.ids), **ranking.figures()}
            for leg, ranking in zip(query.legs, rankings, strict=True)
        ],
        "cost_estimated_us": round(cost_us(query, snapshot)),
    }
    if query.filter is not None:
        result["filter"] = {
            "rows_estimated": rows_estimated,
            "rows_actual": matches.total,
            "remembered": is_filter_known,
        }
    if len(query.legs) > 1:
        result["fusion"] = {
            "method": query.fusion.method,
            "k": query.fusion.k,
            "depth": leg_depth(query),
            "weights": [leg.weight for leg in query.legs],
        }
    return result
