"""Runs queries against one snapshot: open, filter, search, fetch; all of it steps, driven to the end.

Queries that are alike (`query.alike`) are answered in one go, so that what is done for each of them is only
what differs.

Rounds of a cold query after its snapshot is known: heads and eager sections of every file it looks at; what
filter and legs look at in them; ids and attributes of the hits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from elacsym.compute import Compute
from elacsym.format.reading import Steps, both, done, together
from elacsym.index.ids import IdColumn
from elacsym.index.vector import Effort
from elacsym.query.aggregate import aggregate
from elacsym.query.ast import (
    Filter,
    Leg,
    LegShare,
    MultiVectorLeg,
    Query,
    QueryResult,
    ScoreLeg,
    SparseLeg,
    TextLeg,
    VectorLeg,
    Work,
)
from elacsym.query.check_filter import check_filter
from elacsym.query.columns import Bools, Ints
from elacsym.query.compute import computed
from elacsym.query.cost import cost_us, inline_us, is_small
from elacsym.query.diversity import diversified
from elacsym.query.fusion import RankedLeg, fuse
from elacsym.query.hits import Found, read, values_of
from elacsym.query.matching import Matches, estimated_rows, live_rows, matching, narrowed, recalled
from elacsym.query.multivector_leg import multivector_nearest
from elacsym.query.order import after, decode_cursor, encode_cursor, first_rows
from elacsym.query.plan import (
    Needs,
    explain,
    is_ascending,
    kind_of,
    leg_depth,
    leg_name,
    needs_of,
    opening,
    rows_wanted,
)
from elacsym.query.ranking import Beside, Ranking
from elacsym.query.score_leg import scored
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.query.shown import shown_by
from elacsym.query.sparse_leg import sparse_nearest
from elacsym.query.text_leg import relevant
from elacsym.query.validate import check
from elacsym.query.vector_leg import nearest
from elacsym.store.drive import Rounds, drive
from elacsym.telemetry import QUERIES, measured_reads
from elacsym.types import Schema

OPENINGS_REMEMBERED = 64

# how hard to look for the nearest neighbours by a vector attribute
EffortOf = Callable[[str], Effort]


def default_effort(attribute: str) -> Effort:  # noqa: ARG001 - the same for all
    """The effort that the index was calibrated for."""
    return Effort()


@dataclass(slots=True)
class _Trace:
    """What happened so far. spent_us: by stage, in the order they happened, waiting included."""

    rounds: Rounds = field(default_factory=Rounds)
    spent_us: dict[str, int] = field(default_factory=dict)
    since_ns: int = field(default_factory=time.perf_counter_ns)

    def end(self, stage: str) -> None:
        now_ns = time.perf_counter_ns()
        self.spent_us[stage] = self.spent_us.get(stage, 0) + (now_ns - self.since_ns) // 1000
        self.since_ns = now_ns


async def checked(query: Query, schema: Schema, compute: Compute) -> Query:
    """The query, known to fit the schema; in the pool if that takes long. Raises InvalidRequest."""
    if is_small(query):
        return check(query, schema)
    return await compute.run(check, query, schema)


async def execute(
    snapshot: SearchSnapshot, query: Query, compute: Compute, effort_of: EffortOf = default_effort
) -> QueryResult:
    """The answer over the snapshot: exact but for the choice of vectors that an index looks at.

    Raises InvalidRequest where the query does not fit the snapshot's schema, and whatever bringing bytes
    raises.
    """
    query = await checked(query, snapshot.schema, compute)
    inline = inline_us(query, snapshot) is not None
    trace = _Trace()
    QUERIES.labels(kind_of(query)).inc()
    answer = _answer(snapshot, query, effort_of, trace)
    if not query.explain:
        return await drive(answer, compute, inline=inline, rounds=trace.rounds)
    with measured_reads() as reads:
        result = await drive(answer, compute, inline=inline, rounds=trace.rounds)
    assert result.plan is not None, "explained"
    result.plan.update(
        where="inline" if inline else "pool",
        stages_us=trace.spent_us,
        rounds=trace.rounds.to_json(),
        bytes_read=sum(reads),
    )
    return result


def answers_at_hand(
    snapshot: SearchSnapshot, queries: Sequence[Query], effort_of: EffortOf
) -> list[QueryResult] | None:
    """The answers to checked queries that are alike, made on the caller's stack; None where bytes have to be
    brought, for which those that need none should not wait."""
    steps = _answers(snapshot, queries, effort_of)
    try:
        next(steps)
    except StopIteration as done_:
        results: list[QueryResult] = done_.value
        QUERIES.labels(kind_of(queries[0])).inc(len(queries))
        return results
    steps.close()
    return None


def _answers(
    snapshot: SearchSnapshot, queries: Sequence[Query], effort_of: EffortOf
) -> Steps[list[QueryResult]]:
    query = queries[0]
    yield from _opened(snapshot, query)
    matches = yield from _matches(snapshot, queries)
    legs, depth = [alike.legs[0] for alike in queries], leg_depth(query)
    rankings = yield from _rankings(snapshot, query, legs, matches, depth, effort_of, beside=None)
    each = [_ranked(ranking, alike)[query.offset :] for alike, ranking in zip(queries, rankings, strict=True)]
    wanted = shown_by(query, snapshot.schema)
    hits = iter((yield from read(snapshot, [row for found in each for row in found], wanted)))
    work, schema, staleness_ms = _work(snapshot, Rounds()), snapshot.schema, snapshot.staleness_ms
    return [
        QueryResult(tuple(islice(hits, len(found))), None, None, None, staleness_ms, work, schema=schema)
        for found in each
    ]


def _matches(snapshot: SearchSnapshot, queries: Sequence[Query]) -> Steps[list[Matches]]:
    """What the filter of each query leaves."""
    first = queries[0].filter
    if all(query.filter == first for query in queries):
        return [(yield from matching(snapshot, first))] * len(queries)
    return (yield from together([matching(snapshot, query.filter) for query in queries]))


def _answer(snapshot: SearchSnapshot, query: Query, effort_of: EffortOf, trace: _Trace) -> Steps[QueryResult]:
    yield from _opened(snapshot, query)
    trace.end("open")
    known = recalled(snapshot, query.filter)
    matches = known or (yield from matching(snapshot, query.filter))
    trace.end("filter")
    wanted = shown_by(query, snapshot.schema)

    def beside(number: int, rows: Ints) -> Steps[Any]:
        # where nothing had to be brought yet nothing will, and attributes need no round that they could share
        return values_of(snapshot.parts[number].part, rows, wanted) if trace.rounds.count else done([])

    search = _Search(snapshot, query, matches, effort_of, beside)
    if query.per is None:
        found, rankings = yield from search.first(leg_depth(query))
    else:
        found, rankings = yield from diversified(snapshot, query, matches.total, search.first)
    found = found[query.offset : rows_wanted(query)]
    aggregations = groups = None
    if query.aggregate is not None:
        parts = _matched_parts(snapshot, matches)
        aggregations, groups = yield from aggregate(parts, query.aggregate, snapshot.schema)
    trace.end("search")
    if query.compute:
        hits, extra = yield from both(read(snapshot, found, wanted), computed(snapshot, query, found))
        for hit, values in zip(hits, extra, strict=True):
            hit.attributes.update(values)
    else:
        hits = yield from read(snapshot, found, wanted)
    trace.end("fetch")
    plan = None
    if query.explain:
        estimated = 0 if query.filter is None else (yield from estimated_rows(snapshot, query.filter))
        plan = explain(
            query,
            snapshot,
            matches,
            rankings,
            is_filter_known=known is not None,
            rows_estimated=estimated,
            cost_us=cost_us(query, snapshot),
        )
    work = _work(snapshot, trace.rounds)
    return QueryResult(
        tuple(hits), aggregations, groups, plan, snapshot.staleness_ms, work, schema=snapshot.schema
    )


def _work(snapshot: SearchSnapshot, rounds: Rounds) -> Work:
    live = live_rows(snapshot)
    unindexed = sum(
        rows for view, rows in zip(snapshot.parts, live.counts, strict=True) if not view.part.is_built
    )
    return Work(live.total, unindexed, sum(one.wanted_bytes for one in rounds.rounds))


def _opened(snapshot: SearchSnapshot, query: Query) -> Steps[None]:
    """Have what the query opens at hand in one round; done once for queries that open the same, because
    what was evicted since costs no more than a round of its own."""
    openings: dict[Needs, None] = snapshot.memo.setdefault("opened", {})
    needs = needs_of(query, snapshot.schema)
    if needs in openings:
        return
    yield from opening(_live_parts(snapshot), needs)
    if len(openings) >= OPENINGS_REMEMBERED:
        openings.clear()
    openings[needs] = None


@dataclass(frozen=True, slots=True)
class _Search:
    """What is searched, and how. beside: what else to bring for rows that may be in the answer."""

    snapshot: SearchSnapshot
    query: Query
    matches: Matches
    effort_of: EffortOf
    beside: Beside

    def first(self, depth: int, *, exact: bool = False) -> Steps[tuple[list[Found], list[Ranking]]]:
        """The first rows of the ranking, and what each leg found, `depth` each; legs share rounds."""
        if self.query.order_by:
            return (yield from _ordered(self.snapshot, self.query, self.matches, depth, self.beside)), []
        legs = self.query.legs
        # diversity looks at many more rows than it answers; those of several legs are not those of the answer
        beside = self.beside if len(legs) == 1 and self.query.per is None else None
        found = yield from together(
            [
                _rankings(
                    self.snapshot,
                    self.query,
                    [leg],
                    [self.matches],
                    depth,
                    self.effort_of,
                    exact=exact,
                    beside=beside,
                )
                for leg in legs
            ]
        )
        rankings = [ranking for (ranking,) in found]
        if len(legs) == 1:
            return _ranked(rankings[0], self.query), rankings
        return _fused(self.snapshot, self.query, rankings) if rankings else [], rankings


def _rankings(
    snapshot: SearchSnapshot,
    query: Query,
    legs: Sequence[Leg],
    matches: Sequence[Matches],
    depth: int,
    effort_of: EffortOf,
    *,
    exact: bool = False,
    beside: Beside | None,
) -> Steps[list[Ranking]]:
    """What legs of a kind find that look at the same attributes, each among its own matches; those of vectors
    are one. query: one of those that the legs are of."""
    match legs[0]:
        case VectorLeg(attribute=attribute):
            effort = None if exact or query.exact else effort_of(attribute)
            vectors = [leg for leg in legs if isinstance(leg, VectorLeg)]
            return nearest(snapshot, vectors, matches[0], depth, effort=effort, beside=beside)
        case TextLeg():
            texts = [leg for leg in legs if isinstance(leg, TextLeg)]
            return relevant(snapshot, texts, matches, depth, beside)
        case ScoreLeg() as leg:
            one = scored(snapshot, leg, matches[0], depth, beside)
        case SparseLeg() as leg:
            one = sparse_nearest(snapshot, leg, matches[0], depth, beside)
        case MultiVectorLeg() as leg:
            one = multivector_nearest(snapshot, leg, matches[0], depth, beside)
    return together([one])


def matching_ids(snapshot: SearchSnapshot, condition: Filter) -> Steps[IdColumn]:
    """The ids of the live rows where a filter holds, in no particular order. Raises InvalidRequest."""
    condition = check_filter(condition, snapshot.schema)
    if snapshot.schema.id_type is None:
        return IdColumn.of("uint", [])
    matches = yield from matching(snapshot, condition)

    def selected(part: Part, mask: Bools) -> Steps[IdColumn]:
        return (yield from (yield from part.ids()).select(np.flatnonzero(mask)))

    found = yield from together([selected(part, mask) for _, part, mask in _matched_parts(snapshot, matches)])
    return IdColumn.concat([IdColumn.of(snapshot.schema.id_type, []), *found])


def _ranked(ranking: Ranking, query: Query) -> list[Found]:
    """The answer of a single leg: its raw scores."""
    candidates = zip(ranking.ids, ranking.places, ranking.scores.tolist(), strict=True)
    name = leg_name(query.legs[0]) if query.explain else ""
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
        for fused in fuse(legs, query.fusion, rows_wanted(query))
    ]


def _ordered(
    snapshot: SearchSnapshot, query: Query, matches: Matches, count: int, beside: Beside
) -> Steps[list[Found]]:
    """The first `count` rows of an attribute order, after the cursor."""
    if query.after is not None:
        place = decode_cursor(query.after, query.order_by)
        matches = yield from narrowed(snapshot, matches, after(query.order_by, place))
    parts = _matched_parts(snapshot, matches)
    ordering = first_rows(parts, query.order_by, count)
    if matches.total <= count:
        # all of them are in the answer: what is shown of them comes along
        showing = [beside(number, np.flatnonzero(mask)) for number, _, mask in parts]
        rows, _ = yield from both(ordering, together(showing))
    else:
        rows = yield from ordering
    return [
        Found(row.part, row.row, row.place.id, cursor=encode_cursor(query.order_by, row.place))
        for row in rows
    ]


def _live_parts(snapshot: SearchSnapshot) -> list[Part]:
    return [view.part for view in snapshot.parts if view.alive.any()]


def _matched_parts(snapshot: SearchSnapshot, matches: Matches) -> list[tuple[int, Part, Bools]]:
    return [
        (number, view.part, mask)
        for number, (view, mask, count) in enumerate(
            zip(snapshot.parts, matches.masks, matches.counts, strict=True)
        )
        if count
    ]
