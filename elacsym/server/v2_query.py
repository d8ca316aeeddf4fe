"""The bodies of v2 queries to query values. Unknown top-level fields are passed over, and logged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import TOP_K_MAX, Aggregate, Filter, Per, Query, Rerank
from elacsym.query.language.aggregate import parse_aggregate
from elacsym.query.language.compute import parse_computed
from elacsym.query.language.filter import parse_filter
from elacsym.query.language.rank import LOOKUP, RankBy, parse_rank_by
from elacsym.query.language.rerank import parse_rerank
from elacsym.server import v2_schema
from elacsym.shapes import Fields, expect, strings, variant, wrong_type
from elacsym.types import STRONG, Consistency

QUERIES_MAX = 16
_ENCODINGS = ("float", "base64")
_LEVELS = ("strong", "eventual")
_STALENESS_S_MAX = 86_400.0
# how much of the queries that a namespace may have at once
_AGGREGATION_WEIGHT, _EXACT_WEIGHT = 4, 2


@dataclass(frozen=True, slots=True)
class Asked:
    """A decoded query, or several over one snapshot (is_multi), perhaps to be made one ranking. unknown:
    fields that say nothing here."""

    queries: tuple[Query, ...]
    is_multi: bool = False
    rerank: Rerank | None = None
    vectors_as_base64: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """How many places it takes among the queries of its namespace."""
        return sum(_weight(query) for query in self.queries)


def decode(body: Any, *, explain: bool = False) -> Asked:
    """The query of a body, or its queries; explain: each is to tell how it is answered.

    Raises InvalidShape, InvalidRequest.
    """
    fields = Fields(body)
    consistency = decode_consistency(fields.take("consistency"), "consistency")
    encoding = fields.take("vector_encoding")
    as_base64 = encoding is not None and variant(encoding, _ENCODINGS, "vector_encoding") == "base64"
    rerank, several = fields.take("rerank_by"), fields.take("queries")
    if several is None:
        if rerank is not None:
            parse_rerank(rerank, 1)
            raise InvalidRequest("rerank_by", "there is only one ranking; several `queries` can be fused")
        query = _query(fields, consistency, explain=explain)
        return Asked((query,), vectors_as_base64=as_base64, unknown=fields.rest())
    given = expect(several, list, "queries")
    if not 1 <= len(given) <= QUERIES_MAX:
        raise InvalidRequest("queries", f"{len(given)} queries where 1 to {QUERIES_MAX} are allowed")
    unknown: set[str] = set()
    queries = []
    for index, value in enumerate(given):
        inner = Fields(value, f"queries[{index}]")
        queries.append(_query(inner, consistency, explain=explain))
        unknown.update(inner.rest())
    fused = _fused(fields, rerank, tuple(queries))
    return Asked(tuple(queries), True, fused, as_base64, (*fields.rest(), *sorted(unknown)))


def _fused(fields: Fields, rerank: Any, queries: tuple[Query, ...]) -> Rerank | None:
    """How the rows of several queries become one ranking, if they do."""
    limit, per = _limit(fields)
    has_offset, offset = fields.has("offset"), _offset(fields)
    if rerank is None:
        if has_offset:
            raise InvalidRequest("offset", "the queries have offsets; one for all needs rerank_by")
        return None
    if any(query.aggregate is not None for query in queries):
        raise InvalidRequest("rerank_by", "aggregations have no rows to be fused")
    if per is not None:
        raise InvalidRequest("limit.per", "it needs one ranking; the queries may have limits with `per`")
    if offset and limit is None:
        raise InvalidRequest("offset", "it needs a limit")
    if limit is not None and not 1 <= limit <= TOP_K_MAX - offset:
        raise InvalidRequest("limit", f"{limit} where 1 to {TOP_K_MAX} less the offset are allowed")
    return replace(parse_rerank(rerank, len(queries)), limit=limit, offset=offset)


def decode_consistency(value: Any, path: str) -> Consistency:
    """The consistency of an object; none: strong. Raises InvalidShape, InvalidRequest."""
    if value is None:
        return STRONG
    if type(value) is not dict:
        raise wrong_type(value, dict, path, expected="struct Consistency")
    fields = Fields(value, path)
    level = variant(fields.require("level", str), _LEVELS, fields.path("level"))
    staleness_s = fields.number("max_staleness_seconds")
    if level == "strong":
        return STRONG
    if staleness_s is None:
        return Consistency("eventual")
    if not 0 <= staleness_s <= _STALENESS_S_MAX:
        raise InvalidRequest(
            fields.path("max_staleness_seconds"),
            f"{staleness_s:g} where 0 to {_STALENESS_S_MAX:g} are allowed",
        )
    return Consistency("eventual", staleness_ms_max=round(staleness_s * 1000))


def _query(fields: Fields, consistency: Consistency, *, explain: bool) -> Query:
    condition, metric = fields.take("filters"), fields.take("distance_metric")
    filter_ = None if condition is None else parse_filter(condition, fields.path("filters"))
    total, per = _limit(fields)
    rank_by, computed = fields.take("rank_by"), fields.take("compute_attributes")
    offset = _offset(fields)
    aggregate = _aggregate(fields, rank_by, total, offset)
    include, exclude = _shown(fields)
    ranking = _ranking(fields, rank_by, total, filter_, offset) if aggregate is None else RankBy()
    if per is not None and (total is None or per.limit > total):
        raise InvalidRequest(
            fields.path("limit.per.limit"), f"{per.limit} where at most {total} rows are asked for"
        )
    return Query(
        legs=ranking.legs,
        filter=filter_,
        order_by=ranking.order_by,
        aggregate=aggregate,
        top_k=1 if aggregate is not None else total or 1,
        offset=offset,
        per=per,
        metric=None if metric is None else v2_schema.metric(metric, fields.path("distance_metric")),
        include_attributes=include,
        exclude_attributes=exclude,
        include_vector=include is None,
        compute=() if computed is None else parse_computed(computed, fields.path("compute_attributes")),
        consistency=consistency,
        exact=ranking.exact,
        explain=explain,
    )


def _ranking(fields: Fields, rank_by: Any, total: int | None, filter_: Filter | None, offset: int) -> RankBy:
    if total is None:
        if rank_by is None:
            raise InvalidRequest("", "one of rank_by, aggregate_by and limit is needed")
        raise InvalidRequest("", "💔 rank_by queries must specify top_k or limit")
    if not 1 <= total <= TOP_K_MAX:
        raise InvalidRequest("", f"💔 top_k must be between 1 and {TOP_K_MAX}")
    if total + offset > TOP_K_MAX:
        raise InvalidRequest(
            fields.path("offset"),
            f"limit and offset are {total + offset} together where {TOP_K_MAX} is the most",
        )
    if rank_by is None:
        if offset:
            raise InvalidRequest(fields.path("offset"), "it needs a ranking: give rank_by")
        return LOOKUP
    return parse_rank_by(rank_by, fields.path("rank_by"), has_filter=filter_ is not None)


def _limit(fields: Fields) -> tuple[int | None, Per | None]:
    """The number of rows, and how many may have something in common."""
    top_k, limit, path = fields.optional("top_k", int), fields.take("limit"), fields.path("limit")
    if top_k is not None and limit is not None:
        raise InvalidRequest(path, "top_k is the same; give one of them")
    if limit is None:
        return top_k, None
    if type(limit) is int:
        return limit, None
    if type(limit) is not dict:
        raise wrong_type(limit, dict, path, expected="an integer or a map")
    inner = Fields(limit, path)
    total, per = inner.require("total", int), inner.take("per")
    if per is None:
        return total, None
    shares = Fields(per, inner.path("per"))
    names = strings(shares.require("attributes", list), shares.path("attributes"))
    count = shares.require("limit", int)
    if not names:
        raise InvalidRequest(shares.path("attributes"), "at least one attribute is needed")
    if count < 1:
        raise InvalidRequest(shares.path("limit"), f"{count} where at least 1 is needed")
    return total, Per(names, count)


def _offset(fields: Fields) -> int:
    offset = fields.optional("offset", int, 0)
    if offset < 0:
        raise InvalidShape(
            fields.path("offset"),
            f"{offset} where 0 or more is expected",
            typed=f"{fields.path('offset')}: invalid value: integer `{offset}`, expected usize",
        )
    return offset


def _aggregate(fields: Fields, rank_by: Any, total: int | None, offset: int) -> Aggregate | None:
    figures, group_by = fields.take("aggregate_by"), fields.take("group_by")
    path = fields.path("aggregate_by")
    if figures is None:
        if group_by is not None:
            raise InvalidRequest(fields.path("group_by"), "there is nothing to aggregate: give aggregate_by")
        return None
    if rank_by is not None:
        raise InvalidShape(path, "aggregations have no ranking: rank_by and aggregate_by exclude each other")
    if offset:
        raise InvalidRequest(fields.path("offset"), "aggregations have no offset")
    return parse_aggregate(figures, group_by, total)


def _shown(fields: Fields) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Names of attributes to show (None: all) and names to leave out."""
    include, exclude = fields.take("include_attributes"), fields.take("exclude_attributes")
    path = fields.path("include_attributes")
    if include is not None and exclude is not None:
        raise InvalidRequest(path, "exclude_attributes is given, too; give one of them")
    if exclude is not None:
        return None, strings(exclude, fields.path("exclude_attributes"))
    if include is None or type(include) is bool:
        return (None if include else ()), ()
    if type(include) is not list:
        raise wrong_type(include, list, path, expected="a boolean or a sequence")
    return strings(include, path), ()


def _weight(query: Query) -> int:
    if query.aggregate is not None:
        return _AGGREGATION_WEIGHT
    return _EXACT_WEIGHT if query.exact else 1
