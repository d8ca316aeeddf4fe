"""Offset, diversity and excluded attributes: the same for every kind of ranking, over the whole of it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from index.sources import driven
from parts import schema_of, snapshot_of

from elacsym.compute import InlineCompute
from elacsym.errors import InvalidRequest
from elacsym.format.reading import done
from elacsym.query.ast import Compare, Op, Per, Query
from elacsym.query.diversity import diversified
from elacsym.query.execute import execute
from elacsym.query.hits import Found
from elacsym.query.language.rank import LOOKUP, parse_rank_by
from elacsym.query.validate import check
from elacsym.types import Attribute, AttributeType, FullText

INLINE = InlineCompute()
SCHEMA = schema_of(
    vector="[2]f32",
    lexical="{}f16",
    title=Attribute(AttributeType.parse("string"), full_text=FullText()),
    colour="string",
    shop="int",
    tags="[]string",
    hidden=Attribute(AttributeType.parse("string"), filterable=False),
)
RANKINGS = {
    "lookup": LOOKUP,
    "order": parse_rank_by(["shop", "desc"], has_filter=False),
    "vector": parse_rank_by(["vector", "ANN", [1.0, 0.0]], has_filter=False),
    "exact": parse_rank_by(["vector", "kNN", [1.0, 0.0]], has_filter=True),
    "sparse": parse_rank_by(["lexical", "SparseKNN", {"a": 1.0}], has_filter=False),
    "text": parse_rank_by(["title", "BM25", "tea"], has_filter=False),
    "score": parse_rank_by(["Max", [["Attribute", "shop"], ["title", "BM25", "tea"], 0]], has_filter=False),
}


def documents(count: int) -> list[dict]:
    rng = random.Random(5)
    makers = {
        "vector": lambda: [rng.choice([0.0, 0.5, 1.0]), rng.choice([0.0, 0.5])],
        "lexical": lambda: {"a": rng.choice([0.5, 1.0])},
        "title": lambda: "tea " * rng.randint(0, 3),
        # one colour is nearly everywhere, so that a ranking has to be followed far
        "colour": lambda: "grey" if rng.random() < 0.95 else rng.choice(["red", "blue"]),
        "shop": lambda: rng.randint(0, 3),
        "tags": lambda: rng.sample(["x", "y"], rng.randint(0, 2)),
        "hidden": lambda: "h",
    }
    return [
        {"id": i} | {name: make() for name, make in makers.items() if rng.random() < 0.9}
        for i in rng.sample(range(1_000), count)
    ]


DOCUMENTS = documents(400)


def snapshot():
    return snapshot_of(SCHEMA, DOCUMENTS[:150], DOCUMENTS[150:], dead=[DOCUMENTS[150:160], DOCUMENTS[:10]])


async def ids(ranking, **query) -> list[int]:
    asked = Query(ranking.legs, order_by=ranking.order_by, exact=ranking.exact, **query)
    return [hit.id for hit in (await execute(snapshot(), asked, INLINE)).hits]


def kept(ranking: list[int], names: tuple[str, ...], limit: int) -> list[int]:
    by_id = {d["id"]: d for d in DOCUMENTS}
    counts: Counter = Counter()
    result = []
    for i in ranking:
        key = str([by_id[i].get(name) for name in names])
        counts[key] += 1
        if counts[key] <= limit:
            result.append(i)
    return result


@pytest.mark.parametrize("name", RANKINGS)
async def test_an_offset_passes_over_the_beginning_of_a_ranking(name):
    whole = await ids(RANKINGS[name], top_k=400)
    assert len(whole) > 50
    assert await ids(RANKINGS[name], top_k=10, offset=7) == whole[7:17]
    assert await ids(RANKINGS[name], top_k=10, offset=len(whole) - 3) == whole[-3:]
    assert await ids(RANKINGS[name], top_k=10, offset=1_000) == []


@pytest.mark.parametrize("name", RANKINGS)
@pytest.mark.parametrize(
    ("names", "limit", "total", "offset"),
    [
        (("colour",), 1, 3, 0),
        (("colour",), 2, 400, 0),
        (("colour",), 2, 4, 3),
        (("colour", "shop"), 1, 9, 0),
        (("tags",), 2, 10, 1),
        (("id",), 1, 5, 0),
    ],
)
async def test_diversity_is_that_of_the_whole_ranking(name, names, limit, total, offset):
    whole = await ids(RANKINGS[name], top_k=400)
    found = await ids(RANKINGS[name], top_k=total, offset=offset, per=Per(names, limit))
    assert found == kept(whole, names, limit)[offset : offset + total]
    assert found


async def test_diversity_is_over_the_filtered_rows():
    condition = Compare("shop", Op.EQ, 2)
    whole = await ids(RANKINGS["text"], top_k=400, filter=condition)
    found = await ids(RANKINGS["text"], top_k=3, filter=condition, per=Per(("colour",), 1))
    assert found == kept(whole, ("colour",), 1)[:3]


async def test_excluded_attributes_are_all_that_is_left_out():
    query = Query(order_by=LOOKUP.order_by, include_vector=True, exclude_attributes=("vector", "title", "x"))
    hits = (await execute(snapshot(), query, INLINE)).hits
    seen = {name for hit in hits for name in hit.attributes}
    assert seen == {"lexical", "colour", "shop", "tags", "hidden"}


@pytest.mark.parametrize(
    ("per", "query", "field"),
    [
        (Per((), 1), {}, "limit.per.attributes"),
        (Per(("colour",), 0), {}, "limit.per.limit"),
        (Per(("colour",), 11), {}, "limit.per.limit"),
        (Per(("nothing",), 1), {}, "limit.per.attributes[0]"),
        (Per(("colour", "vector"), 1), {}, "limit.per.attributes[1]"),
        (Per(("lexical",), 1), {}, "limit.per.attributes[0]"),
        (Per(("shop", "colour", "shop"), 1), {}, "limit.per.attributes[2]"),
        (Per(("shop",) * 9, 1), {}, "limit.per.attributes"),
        (Per(("colour",), 1), {"include_attributes": ("shop",)}, "limit.per.attributes[0]"),
        (Per(("colour",), 1), {"exclude_attributes": ("colour",)}, "limit.per.attributes[0]"),
    ],
)
def test_broken_rules_of_diversity_are_refused(per, query, field):
    with pytest.raises(InvalidRequest) as caught:
        check(Query(order_by=LOOKUP.order_by, top_k=10, per=per, **query), SCHEMA)
    assert (caught.value.status, caught.value.field) == (400, field)


def test_a_ranking_that_an_index_cut_short_is_looked_at_again_exactly():
    view = snapshot()
    query = Query(RANKINGS["vector"].legs, top_k=2, per=Per(("id",), 1))
    looks = []

    def first(depth, *, exact):
        looks.append((depth, exact))
        rows = [Found(0, row, DOCUMENTS[row]["id"]) for row in range(depth if exact else 1)]
        return done((rows, []))

    found, _ = driven(diversified(view, query, 300, first)).value
    assert [row.row for row in found] == [0, 1]
    assert looks == [(16, False), (128, True)]


def test_a_ranking_is_looked_at_ever_deeper_and_no_deeper_than_it_is_long():
    view = snapshot_of(SCHEMA, [{"id": i, "colour": "grey"} for i in range(100)])
    looks = []

    def first(depth, *, exact):
        looks.append((depth, exact))
        return done(([Found(0, row, row) for row in range(depth)], []))

    query = Query(order_by=LOOKUP.order_by, top_k=2, per=Per(("colour",), 1))
    found, _ = driven(diversified(view, query, 100, first)).value
    assert [row.row for row in found] == [0]
    assert looks == [(16, True), (100, True)]
