"""Where filters are checked and evaluated: what may take long is not done on the event loop."""

from __future__ import annotations

import pytest
from parts import schema_of, snapshot_of
from support.database import CountingCompute

from elacsym.errors import InvalidRequest
from elacsym.query.ast import (
    And,
    Bm25,
    Indicator,
    OrderKey,
    Per,
    Product,
    Query,
    ScoreLeg,
    SparseLeg,
    Sum,
    Tokens,
)
from elacsym.query.cost import INLINE_US_MAX, cost_us, is_small
from elacsym.query.execute import execute
from elacsym.query.language.filter import parse_filter
from elacsym.query.plan import needs_of
from elacsym.query.validate import check
from elacsym.types import Attribute, AttributeType, FullText

STRING = AttributeType.parse("string")
SCHEMA = schema_of(
    name=Attribute(STRING, regex=True, fuzzy=True),
    year="int",
    guid="uuid",
    title=Attribute(STRING, full_text=FullText()),
    lexical="{}f16",
)
FUZZY = {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}]}
ROWS = [{"id": 1, "name": "a", "year": 5}]


async def runs_of(**query):
    compute = CountingCompute()
    await execute(snapshot_of(SCHEMA, ROWS), Query(**query), compute)
    return sum(compute.runs.values()), compute.runs["check"]


@pytest.mark.parametrize(
    ("condition", "checks"),
    [
        (["year", "Eq", 5], 0),
        (["year", "In", list(range(500))], 0),
        (["year", "In", list(range(1_001))], 1),
        (["And", [["guid", "In", ["0" * 32] * 600], ["guid", "NotIn", ["0" * 32] * 600]]], 1),
        (["Or", [["year", "Eq", i] for i in range(300)]], 1),
        (["name", "Glob", "a*"], 1),
        (["Not", ["Or", [["year", "Eq", 5], ["name", "Regex", "a"]]]], 1),
        (["name", "Fuzzy", "jonson", FUZZY], 1),
    ],
)
async def test_patterns_and_long_lists_are_checked_in_the_pool(condition, checks):
    ranked = {"order_by": (OrderKey("id"),), "filter": parse_filter(condition, "filters")}
    runs, checked = await runs_of(**ranked)
    assert checked == checks
    assert (runs > checks) == (checks > 0), "what is checked there is evaluated there"


async def test_patterns_inside_scores_and_computed_attributes_count_too():
    pattern = parse_filter(["name", "Glob", "a*"], "rank_by")
    score = ScoreLeg(Product(2.0, Indicator(And((pattern,)))))
    assert await runs_of(legs=(score,)) == (2, 1)
    assert await runs_of(order_by=(OrderKey("id"),), compute=(("fits", pattern),)) == (2, 1)


LONG = parse_filter(["year", "In", list(range(1_001))], "filters")
LOOKUP = (OrderKey("id"),)


@pytest.mark.parametrize(
    "query",
    [
        {"order_by": LOOKUP, "compute": (("fits", LONG),)},
        {"legs": (ScoreLeg(Product(2.0, Indicator(LONG))),)},
        {"legs": (ScoreLeg(Bm25("title", ("",) * 1_001)),)},
        {"order_by": LOOKUP, "filter": Tokens("title", ("",) * 1_001, "any")},
        {"legs": (SparseLeg("lexical", tuple((str(i), 1.0) for i in range(1_001))),)},
        {"order_by": LOOKUP, "exclude_attributes": tuple(map(str, range(1_001)))},
        {"legs": (ScoreLeg(Sum(tuple(Bm25("title", str(i)) for i in range(250)))),)},
    ],
)
async def test_what_is_large_anywhere_is_checked_and_answered_in_the_pool(query):
    assert not is_small(Query(**query))
    runs, checked = await runs_of(**query)
    assert checked == 1
    assert runs > 1


async def test_diversity_is_not_looked_for_on_the_event_loop():
    assert await runs_of(order_by=LOOKUP) == (0, 0)
    assert await runs_of(order_by=LOOKUP, per=Per(("year",), 1)) == (1, 0)


def price(parts=1, **query):
    return cost_us(Query(**query), snapshot_of(SCHEMA, *[ROWS] * parts))


def test_every_condition_and_dimension_costs_in_every_part():
    one, ten = (parse_filter(["Or", [["year", "Eq", i] for i in range(n)]], "filters") for n in (1, 10))
    base = price(filter=one)
    assert price(filter=ten) - base > 5 * (base - price())
    assert price(10, filter=ten) > INLINE_US_MAX > price(10, filter=one)
    for wrapped in ({"compute": (("fits", ten),)}, {"legs": (ScoreLeg(Indicator(ten)),)}):
        assert price(10, **wrapped) > INLINE_US_MAX
    wide = SparseLeg("lexical", tuple((str(i), 1.0) for i in range(60)))
    assert price(1, legs=(wide,)) < INLINE_US_MAX < price(10, legs=(wide,))


def test_the_filters_of_a_query_have_an_end_together():
    many = parse_filter(["Or", [["year", "Lt", 1]] * 9_999], "filters")
    check(Query(order_by=LOOKUP, filter=many), SCHEMA)
    more = (("a", many), ("b", parse_filter(["year", "Eq", 1], "filters")))
    for query in (
        Query(order_by=LOOKUP, filter=many, compute=more),
        Query(legs=(ScoreLeg(Indicator(many)),), compute=more),
    ):
        with pytest.raises(InvalidRequest, match="more than 30000 conditions together"):
            check(query, SCHEMA)


def test_what_is_remembered_of_a_query_does_not_grow_with_it():
    plain = Query(order_by=LOOKUP)
    long = Query(order_by=LOOKUP, exclude_attributes=tuple(map(str, range(1_001))))
    assert needs_of(long, SCHEMA) == needs_of(plain, SCHEMA)
