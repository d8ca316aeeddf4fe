"""Where filters are checked and evaluated: what may take long is not done on the event loop."""

from __future__ import annotations

import pytest
from parts import schema_of, snapshot_of
from support.database import CountingCompute

from elacsym.query.ast import And, Indicator, OrderKey, Product, Query, ScoreLeg
from elacsym.query.execute import execute
from elacsym.query.language.filter import parse_filter
from elacsym.types import Attribute, AttributeType

STRING = AttributeType.parse("string")
SCHEMA = schema_of(
    name=Attribute(STRING, regex=True, fuzzy=True),
    year="int",
    guid="uuid",
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
