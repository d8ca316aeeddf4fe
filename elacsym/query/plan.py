"""How a query is going to run: which pieces of which parts, which way through each, and what it should cost.

Two steps, because what a filter leaves decides the rest. `prefetch` names what to fetch before the filter is
evaluated: its columns, the texts (their statistics are of all live rows), and whatever else is needed if the
filter is expected to leave rows. `plan_query` knows the matching rows and chooses a vector leg's way through
each part: `skip` without matching rows, `scan` when all rows match, `bitmap` when many do (the whole matrix
is read, the other rows are passed over), `gather` when few do (only their vectors are read). Every way gives
the same, exact answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from elacsym.query.ast import Query, TextLeg, VectorLeg
from elacsym.query.columns import stored
from elacsym.query.filters import columns_of
from elacsym.query.legs import Ranking, leg_name
from elacsym.query.matching import Matches, estimated_share, live_rows
from elacsym.query.searchable import Needs, SearchSnapshot

INLINE_US_MAX = 300.0
DEPTH_MIN = 100

# the share of a part below which reading scattered vectors beats streaming all of them
_GATHER_SHARE_MAX = 1 / 4

# microseconds; rough, only to tell work that is worth a hop to the pool from work that is not
_US_PER_VECTOR_ELEMENT = 0.001
_US_PER_TEXT_ROW = 0.01
_US_PER_COLUMN_ROW = 0.01
_US_PER_SORTED_ROW = 0.1
_US_PER_VALUE = 1.0
_US_PER_LEG = 40.0

Kind = Literal["vector", "text", "hybrid", "order", "aggregate"]
Way = Literal["skip", "scan", "bitmap", "gather", "postings"]


@dataclass(frozen=True, slots=True)
class LegPlan:
    """One leg: how many candidates it gives, and the way through each part."""

    leg: VectorLeg | TextLeg
    depth: int
    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked query against one snapshot whose matching rows are known."""

    kind: Kind
    legs: tuple[LegPlan, ...]
    needs: tuple[Needs | None, ...]
    share_estimated: float
    cost_us: float

    @property
    def runs_inline(self) -> bool:
        """Whether the search is so small that a hop to the pool would cost more."""
        return self.cost_us < INLINE_US_MAX


def kind_of(query: Query) -> Kind:
    """The kind of a query, by its legs, then its order."""
    if len(query.legs) > 1:
        return "hybrid"
    if query.legs:
        return "vector" if isinstance(query.legs[0], VectorLeg) else "text"
    return "order" if query.order_by else "aggregate"


def leg_depth(query: Query) -> int:
    """How many candidates each leg gives: top_k when there is nothing to fuse."""
    if len(query.legs) == 1:
        return query.top_k
    return query.fusion.depth or max(DEPTH_MIN, query.top_k)


def _search_needs(query: Query) -> Needs:
    """What a part with matching rows must have prepared."""
    wanted = query.aggregate
    columns = {key.attribute for key in query.order_by}
    if wanted is not None:
        columns |= {*wanted.sums, *wanted.group_by}
    return Needs(
        stored(frozenset(columns)),
        frozenset(leg.attribute for leg in query.legs if isinstance(leg, VectorLeg)),
        _texts(query),
    )


def _texts(query: Query) -> frozenset[str]:
    return frozenset(name for leg in query.legs if isinstance(leg, TextLeg) for name, _ in leg.fields)


def prefetch(query: Query, snapshot: SearchSnapshot, known: Matches | None) -> tuple[Needs | None, ...]:
    """Per part what to prepare before the filter is evaluated; None where no row lives.

    known: what the filter leaves, if that is remembered; then its columns are not needed.
    """
    live = live_rows(snapshot)
    share = estimated_share(query.filter, live.total)
    expected = [share * count for count in live.counts] if known is None else known.counts
    search = _search_needs(query)
    filtered = stored(columns_of(query.filter)) if known is None else frozenset()
    everything = Needs(search.columns | filtered, search.vectors, search.texts)
    only_certain = Needs(filtered, frozenset(), search.texts)
    return tuple(
        None if not count else everything if rows >= 1.0 else only_certain
        for count, rows in zip(live.counts, expected, strict=True)
    )


def plan_query(query: Query, snapshot: SearchSnapshot, matches: Matches) -> Plan:
    """The plan for the rows that the filter leaves."""
    live = live_rows(snapshot)
    depth = leg_depth(query)
    legs = []
    for leg in query.legs:
        if isinstance(leg, TextLeg):
            ways: tuple[Way, ...] = tuple("postings" if count else "skip" for count in matches.counts)
        else:
            ways = tuple(_way(n, v.part.rows) for n, v in zip(matches.counts, snapshot.parts, strict=True))
        legs.append(LegPlan(leg, depth, ways))
    search = _search_needs(query)
    return Plan(
        kind_of(query),
        tuple(legs),
        tuple(search if count else None for count in matches.counts),
        estimated_share(query.filter, live.total),
        _cost_us(query, snapshot, legs, matches, live),
    )


def _way(matched: int, rows: int) -> Way:
    if not matched:
        return "skip"
    if matched == rows:
        return "scan"
    return "gather" if matched <= rows * _GATHER_SHARE_MAX else "bitmap"


def filter_cost_us(query: Query, snapshot: SearchSnapshot) -> float:
    """What evaluating the filter should cost."""
    rows = sum(view.part.rows for view in snapshot.parts)
    return rows * _US_PER_COLUMN_ROW * max(1, len(columns_of(query.filter)))


def fetch_cost_us(query: Query, snapshot: SearchSnapshot, hits: int) -> float:
    """What reading the attributes of the hits should cost."""
    names = snapshot.schema.attributes if query.include_attributes is None else query.include_attributes
    return hits * len(names) * _US_PER_VALUE


def _cost_us(
    query: Query, snapshot: SearchSnapshot, legs: list[LegPlan], matches: Matches, live: Matches
) -> float:
    cost = 0.0
    for planned in legs:
        cost += _US_PER_LEG
        if isinstance(planned.leg, TextLeg):
            cost += live.total * _US_PER_TEXT_ROW * len(planned.leg.fields)
            continue
        for way, view, count in zip(planned.ways, snapshot.parts, matches.counts, strict=True):
            rows = count if way in ("skip", "gather") else view.part.rows
            cost += rows * len(planned.leg.vector) * _US_PER_VECTOR_ELEMENT
    if query.order_by:
        cost += matches.total * _US_PER_SORTED_ROW * len(query.order_by)
    if query.aggregate is not None:
        attributes = len(query.aggregate.sums) + len(query.aggregate.group_by)
        cost += matches.total * _US_PER_SORTED_ROW * attributes
    return cost


def explain(
    query: Query,
    snapshot: SearchSnapshot,
    plan: Plan,
    matches: Matches,
    rankings: tuple[Ranking, ...],
    stages_us: dict[str, int],
    *,
    is_filter_known: bool,
) -> dict[str, Any]:
    """The plan and its figures as JSON values. Shares are of live rows; times are microseconds."""
    live = live_rows(snapshot)
    result: dict[str, Any] = {
        "kind": plan.kind,
        "snapshot": {"incarnation": snapshot.inc, "generation": snapshot.generation, "tail": snapshot.tail},
        "rows": {"live": live.total, "matched": matches.total},
        "parts": [
            {"part": view.part.label, "rows": view.part.rows, "live": alive, "matched": matched}
            for view, alive, matched in zip(snapshot.parts, live.counts, matches.counts, strict=True)
        ],
        "legs": [_explain_leg(p, ranking) for p, ranking in zip(plan.legs, rankings, strict=True)],
        "where": "inline" if plan.runs_inline else "pool",
        "cost_estimated_us": round(plan.cost_us),
        "stages_us": stages_us,
    }
    if query.filter is not None:
        result["filter"] = {
            "share_estimated": round(plan.share_estimated, 6),
            "share_actual": round(matches.total / max(1, live.total), 6),
            "remembered": is_filter_known,
        }
    if len(plan.legs) > 1:
        result["fusion"] = {
            "method": query.fusion.method,
            "k": query.fusion.k,
            "depth": leg_depth(query),
            "weights": [p.leg.weight for p in plan.legs],
        }
    return result


def _explain_leg(planned: LegPlan, ranking: Ranking) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "leg": leg_name(planned.leg),
        "index": "postings" if isinstance(planned.leg, TextLeg) else "exact",
        "ways": list(planned.ways),
        "candidates": len(ranking.ids),
        "rows_scored": ranking.rows_scored,
    }
    if isinstance(planned.leg, TextLeg):
        figures |= {"terms": list(ranking.terms), "postings": ranking.postings}
    return figures
