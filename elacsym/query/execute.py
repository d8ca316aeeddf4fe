"""Runs queries against one snapshot: open, filter, search, fetch; all of it steps, driven to the end.

Queries that are alike (`query.alike`) are answered in one go, so that what is done for each of them is only
what differs. Everything here is for several of them; mostly there is one.

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
from elacsym.query.cost import cost_us, is_inline, is_small
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
    (result,) = await execute_alike(snapshot, [query], compute, effort_of)
    return result


async def execute_alike(
    snapshot: SearchSnapshot,
    queries: Sequence[Query],
    compute: Compute,
    effort_of: EffortOf = default_effort,
) -> list[QueryResult]:
    """The answers to queries that were `checked` and are alike, at least one; see `execute`."""
    query = queries[0]
    inline = is_inline(query, snapshot)
    trace = _Trace()
    QUERIES.labels(kind_of(query)).inc(len(queries))
    steps = _answers(snapshot, queries, effort_of, trace)
    if not query.explain:
        return await drive(steps, compute, inline=inline, rounds=trace.rounds)
    with measured_reads() as reads:
        results = await drive(steps, compute, inline=inline, rounds=trace.rounds)
    (result,) = results
    assert result.plan is not None, "explained"
    result.plan.update(
        where="inline" if inline else "pool",
        stages_us=trace.spent_us,
        rounds=trace.rounds.to_json(),
        bytes_read=sum(reads),
    )
    return results


def _answers(
    snapshot: SearchSnapshot, queries: Sequence[Query], effort_of: EffortOf, trace: _Trace
) -> Steps[list[QueryResult]]:
    query = queries[0]
    yield from _opened(snapshot, query)
    trace.end("open")
    known = recalled(snapshot, query.filter)
    matches = known or (yield from matching(snapshot, query.filter))
    trace.end("filter")
    wanted = shown_by(query, snapshot.schema)

    def beside(number: int, rows: Ints) -> Steps[Any]:
        # where nothing had to be brought yet nothing will, and attributes need no round that they could
        # share; diversity looks at many more rows than it answers
        is_worth_it = trace.rounds.count > 0 and query.per is None
        return values_of(snapshot.parts[number].part, rows, wanted) if is_worth_it else done([])

    search = _Search(snapshot, query, matches, effort_of, beside)
    rankings: list[Ranking] = []
    if query.per is not None:
        one, rankings = yield from diversified(snapshot, query, matches.total, search.first)
        each = [one]
    elif len(query.legs) == 1:
        rankings = yield from search.rankings([alike.legs[0] for alike in queries], leg_depth(query))
        each = [_ranked(ranking, alike) for alike, ranking in zip(queries, rankings, strict=True)]
    else:
        one, rankings = yield from search.first(leg_depth(query))
        each = [one]
    each = [found[query.offset : rows_wanted(query)] for found in each]
    aggregations = groups = None
    if query.aggregate is not None:
        parts = _matched_parts(snapshot, matches)
        aggregations, groups = yield from aggregate(parts, query.aggregate, snapshot.schema)
    trace.end("search")
    found = each[0] if len(each) == 1 else [row for of_query in each for row in of_query]
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
    staleness_ms, schema, rest = snapshot.staleness_ms, snapshot.schema, iter(hits)
    return [
        QueryResult(
            tuple(islice(rest, len(rows))), aggregations, groups, plan, staleness_ms, work, schema=schema
        )
        for rows in each
    ]


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
        if len(legs) == 1:
            (ranking,) = yield from self.rankings(legs, depth, exact=exact)
            return _ranked(ranking, self.query), [ranking]
        found = yield from together([self.rankings([leg], depth, exact=exact) for leg in legs])
        rankings = [ranking for (ranking,) in found]
        return _fused(self.snapshot, self.query, rankings) if rankings else [], rankings

    def rankings(self, legs: Sequence[Leg], depth: int, *, exact: bool = False) -> Steps[list[Ranking]]:
        """What legs of a kind find that look at the same attributes, each for itself."""
        beside = self.beside if len(self.query.legs) == 1 else None
        context = (self.matches, depth)
        match legs[0]:
            case VectorLeg(attribute=attribute):
                effort = None if exact or self.query.exact else self.effort_of(attribute)
                vectors = [leg for leg in legs if isinstance(leg, VectorLeg)]
                return nearest(self.snapshot, vectors, *context, effort=effort, beside=beside)
            case TextLeg():
                texts = [leg for leg in legs if isinstance(leg, TextLeg)]
                return relevant(self.snapshot, texts, *context, beside)
            case ScoreLeg() as leg:
                one = scored(self.snapshot, leg, *context, beside)
            case SparseLeg() as leg:
                one = sparse_nearest(self.snapshot, leg, *context, beside)
            case MultiVectorLeg() as leg:
                one = multivector_nearest(self.snapshot, leg, *context, beside)
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
