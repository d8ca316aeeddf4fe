"""How a query is going to run: its kind, how deep its legs go, and what it will open.

The way through each part is chosen where the part is searched, when the rows that the filter leaves are
known: by `query.vector_leg` for vectors, by `query.text_leg` for postings. Where a query runs is decided by
`query.cost`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from elacsym.format.reading import Steps, together
from elacsym.query.aggregate import looked_at
from elacsym.query.ast import (
    AttributeValue,
    Bm25,
    Computed,
    Decay,
    Highlight,
    Indicator,
    Leg,
    Max,
    MultiVectorLeg,
    Product,
    Query,
    Saturate,
    ScoreLeg,
    SparseLeg,
    Sum,
    TextLeg,
    VectorDistance,
    VectorLeg,
)
from elacsym.query.columns import stored
from elacsym.query.filters import columns_of, texts_of
from elacsym.query.matching import Matches, live_rows
from elacsym.query.ranking import Ranking
from elacsym.query.scores import columns_in, texts_in
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.query.shown import shown_by
from elacsym.types import Metric, Schema

DEPTH_MIN = 100

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
    return Needs(
        stored(frozenset(columns)).intersection(known), frozenset(known & vectors), frozenset(known & texts)
    )


def opening(parts: Iterable[Part], needs: Needs) -> Steps[None]:
    """Have heads and eager sections of everything that `needs` names at hand: one round."""
    steps: list[Steps[Any]] = []
    for part in parts:
        steps.append(part.ids())
        steps += [part.attribute(name) for name in needs.columns]
        steps += [part.vectors(name) for name in needs.vectors]
        steps += [part.text(name) for name in needs.texts]
    yield from together(steps)


def explain(
    query: Query,
    snapshot: SearchSnapshot,
    matches: Matches,
    rankings: Sequence[Ranking],
    *,
    is_filter_known: bool,
    rows_estimated: int,
    cost_us: float,
) -> dict[str, Any]:
    """The plan and its figures as JSON values; times are microseconds.

    rows_estimated: at most how many rows the filter matches, before any was looked at. cost_us: what the
    query was expected to take.
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
        "cost_estimated_us": round(cost_us),
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
