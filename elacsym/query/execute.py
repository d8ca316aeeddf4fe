"""Runs a query against one snapshot: filter, search, fetch.

I/O happens in `Part.prepare` only, for all parts at once, in at most three rounds: what the filter (and
surely the search) looks at, what the search looks at in parts with matching rows, and the attributes of the
final hits. CPU work between the rounds goes to the compute pool unless it is too small to be worth the hop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np

from elacsym.compute import Compute
from elacsym.index.ids import IdColumn
from elacsym.query.aggregate import aggregate
from elacsym.query.ast import Filter, LegShare, Query, QueryResult, TextLeg
from elacsym.query.columns import Bools, stored
from elacsym.query.filters import columns_of
from elacsym.query.fusion import RankedLeg, fuse
from elacsym.query.hits import Found, prepare, prepare_rows, read, shown
from elacsym.query.legs import Ranking, is_ascending, leg_name, nearest, relevant
from elacsym.query.matching import Matches, matching, narrowed, recalled
from elacsym.query.order import after, decode_cursor, encode_cursor, first_rows
from elacsym.query.plan import (
    INLINE_US_MAX,
    Plan,
    explain,
    fetch_cost_us,
    filter_cost_us,
    plan_query,
    prefetch,
)
from elacsym.query.searchable import Needs, Part, SearchSnapshot
from elacsym.query.validate import check, check_filter
from elacsym.telemetry import QUERIES, measured_reads

P = ParamSpec("P")
T = TypeVar("T")

Figures = tuple[dict[str, Any] | None, tuple[dict[str, Any], ...] | None]


class _Stages:
    """Microseconds by stage, in the order they happened; a stage that happens twice adds up."""

    def __init__(self) -> None:
        self.spent_us: dict[str, int] = {}
        self._since_ns = time.perf_counter_ns()

    def end(self, stage: str) -> None:
        now_ns = time.perf_counter_ns()
        self.spent_us[stage] = self.spent_us.get(stage, 0) + (now_ns - self._since_ns) // 1000
        self._since_ns = now_ns


async def execute(snapshot: SearchSnapshot, query: Query, compute: Compute) -> QueryResult:
    """The answer, exact over the snapshot. Raises InvalidRequest where the query does not fit the snapshot's
    schema, and whatever preparing parts raises."""
    with measured_reads() as reads:
        return await _execute(snapshot, check(query, snapshot.schema), compute, reads)


async def _execute(snapshot: SearchSnapshot, query: Query, compute: Compute, reads: list[int]) -> QueryResult:
    stages = _Stages()
    known = recalled(snapshot, query.filter)
    await prepare(snapshot, prefetch(query, snapshot, known))
    stages.end("prepare")
    matches = known
    if matches is None:
        matches = await _run(compute, filter_cost_us(query, snapshot), matching, snapshot, query.filter)
    stages.end("filter")
    plan = plan_query(query, snapshot, matches)
    QUERIES.labels(plan.kind).inc()
    await prepare(snapshot, plan.needs)
    stages.end("prepare")
    found, rankings, figures = await _run(compute, plan.cost_us, _search, snapshot, query, plan, matches)
    stages.end("search")
    wanted = shown(snapshot.schema, query.include_attributes, include_vector=query.include_vector)
    await prepare_rows(snapshot, found, wanted)
    hits = await _run(compute, fetch_cost_us(query, snapshot, len(found)), read, snapshot, found, wanted)
    stages.end("fetch")
    plan_json = None
    if query.explain:
        plan_json = explain(
            query, snapshot, plan, matches, rankings, stages.spent_us, is_filter_known=known is not None
        )
        plan_json["bytes_read"] = sum(reads)
    return QueryResult(tuple(hits), *figures, plan_json, snapshot.staleness_ms)


async def matching_ids(snapshot: SearchSnapshot, condition: Filter, compute: Compute) -> IdColumn:
    """The ids of the live rows where a filter holds, in no particular order. Raises InvalidRequest."""
    condition = check_filter(condition, snapshot.schema)
    if snapshot.schema.id_type is None:
        return IdColumn.of("uint", [])
    needs = Needs(stored(columns_of(condition)))
    await prepare(snapshot, [needs if view.rows_live else None for view in snapshot.parts])
    return await compute.run(_matching_ids, snapshot, condition)


def _matching_ids(snapshot: SearchSnapshot, condition: Filter) -> IdColumn:
    assert snapshot.schema.id_type is not None
    found = [
        part.ids().select(np.flatnonzero(mask))
        for _, part, mask in _matched_parts(snapshot, matching(snapshot, condition))
    ]
    return IdColumn.concat([IdColumn.of(snapshot.schema.id_type, []), *found])


async def _run(
    compute: Compute, cost_us: float, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    if cost_us < INLINE_US_MAX:
        return work(*args, **kwargs)
    return await compute.run(work, *args, **kwargs)


def _search(
    snapshot: SearchSnapshot, query: Query, plan: Plan, matches: Matches
) -> tuple[list[Found], tuple[Ranking, ...], Figures]:
    """The rows of the answer in order, what each leg found, and the aggregations."""
    rankings = []
    for planned in plan.legs:
        if isinstance(planned.leg, TextLeg):
            rankings.append(relevant(snapshot, planned.leg, matches, planned.depth))
        else:
            rankings.append(nearest(snapshot, planned.leg, matches, planned.depth))
    if query.order_by:
        found = _ordered(snapshot, query, matches)
    elif len(rankings) > 1:
        found = _fused(snapshot, query, rankings)
    else:
        found = [row for ranking in rankings for row in _ranked(leg_name(query.legs[0]), ranking, query)]
    figures: Figures = (None, None)
    if query.aggregate is not None:
        figures = aggregate(_matched_parts(snapshot, matches), query.aggregate, snapshot.schema)
    return found, tuple(rankings), figures


def _ranked(name: str, ranking: Ranking, query: Query) -> list[Found]:
    """The answer of a single leg: its raw scores."""
    candidates = zip(ranking.ids, ranking.places, ranking.scores.tolist(), strict=True)
    return [
        Found(*place, document, score, shares=(LegShare(name, rank, score, score),) if query.explain else ())
        for rank, (document, place, score) in enumerate(candidates, 1)
    ]


def _fused(snapshot: SearchSnapshot, query: Query, rankings: Sequence[Ranking]) -> list[Found]:
    """The answer of several legs."""
    legs = [
        RankedLeg(
            leg_name(leg), ranking.ids, ranking.scores, leg.weight, is_ascending(leg, snapshot.schema.metric)
        )
        for leg, ranking in zip(query.legs, rankings, strict=True)
    ]
    place_of = {
        document: place
        for ranking in rankings
        for document, place in zip(ranking.ids, ranking.places, strict=True)
    }
    return [
        Found(*place_of[fused.id], fused.id, fused.score, shares=fused.shares if query.explain else ())
        for fused in fuse(legs, query.fusion, query.top_k)
    ]


def _ordered(snapshot: SearchSnapshot, query: Query, matches: Matches) -> list[Found]:
    """The answer of an attribute order: the rows after the cursor."""
    if query.after is not None:
        place = decode_cursor(query.after, query.order_by)
        matches = narrowed(snapshot, matches, after(query.order_by, place))
    return [
        Found(row.part, row.row, row.place.id, cursor=encode_cursor(query.order_by, row.place))
        for row in first_rows(_matched_parts(snapshot, matches), query.order_by, query.top_k)
    ]


def _matched_parts(snapshot: SearchSnapshot, matches: Matches) -> list[tuple[int, Part, Bools]]:
    return [
        (number, view.part, mask)
        for number, (view, mask, count) in enumerate(
            zip(snapshot.parts, matches.masks, matches.counts, strict=True)
        )
        if count
    ]
