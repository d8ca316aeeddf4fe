"""Computed attributes: what a query wants to know of its hits beside what they store."""

from __future__ import annotations

import math

import numpy as np
import pytest
from parts import SCHEMA, ColdPart, schema_of, snapshot_of

from elacsym.compute import InlineCompute
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Highlight, OrderKey, Query, VectorDistance, VectorLeg
from elacsym.query.execute import execute
from elacsym.query.language.compute import parse_computed
from elacsym.query.language.rank import parse_rank_by
from elacsym.query.validate import check
from elacsym.types import Metric

INLINE = InlineCompute()
DOCUMENTS = [
    {"id": 5, "title": "apple apple bread", "size": 4, "year": -2, "tags": ["x"], "vector": [1.0, 0.0, 0.0]},
    {"id": 3, "title": "cider", "size": 12, "year": 7, "category": "a", "vector": [0.0, 2.0, 0.0]},
    {"id": 9, "year": 1},
    {"id": 1, "title": "appleton bread", "size": 0, "category": "b"},
]
BY_ID = {"order_by": (OrderKey("id"),), "include_attributes": ()}


def snapshots():
    return [
        snapshot_of(SCHEMA, DOCUMENTS),
        snapshot_of(SCHEMA, DOCUMENTS[:1], DOCUMENTS[1:], dead=[DOCUMENTS[2:3], DOCUMENTS[:1]]),
        snapshot_of(SCHEMA, DOCUMENTS[2:], DOCUMENTS[:2], kind=ColdPart),
    ]


async def values(expression, **query) -> dict:
    """What is computed for each document; the same however they are spread."""
    wanted = Query(**BY_ID | query, compute=parse_computed({"it": expression}))
    answers = [(await execute(snapshot, wanted, INLINE)).hits for snapshot in snapshots()]
    found = [{hit.id: hit.attributes.get("it") for hit in hits} for hits in answers]
    assert found[1:] == found[:-1]
    return found[0]


def baseline(counts, length, k1=1.2, b=0.75, k3=8.0):
    """BM25 with N = 0, df = 0 and a mean length of 1."""
    total = 0.0
    for tf, times in counts:
        gain = times * (k3 + 1) / (k3 + times)
        total += math.log(2) * gain * (tf * (k1 + 1) / (tf + k1 * (1 - b + b * length)))
    return float(np.float32(total))


async def test_bm25_is_that_of_the_row_alone():
    assert await values(["title", "BM25", "apple bread apple"]) == {
        1: baseline([(1, 1)], 2),
        3: 0.0,
        5: baseline([(2, 2), (1, 1)], 3),
        9: 0.0,
    }


async def test_a_prefix_gives_one_where_only_longer_tokens_match():
    assert await values(["title", "BM25", "apple", {"last_as_prefix": True}]) == {
        1: 1.0,
        3: 0.0,
        5: baseline([(2, 1)], 3),
        9: 0.0,
    }


async def test_expressions_are_numbers_and_bare_filters_booleans():
    assert await values(["Product", 2, ["Attribute", "size"]]) == {1: 0.0, 3: 24.0, 5: 8.0, 9: 0.0}
    near = ["Saturate", ["Dist", ["Attribute", "year"], 7], {"midpoint": 6}]
    assert await values(near) == {1: 0.0, 3: 0.0, 5: float(np.float32(0.6)), 9: 0.5}
    assert await values(["category", "Eq", "a"]) == {1: False, 3: True, 5: False, 9: False}
    assert await values(["Not", ["tags", "Contains", "x"]]) == {1: True, 3: True, 5: False, 9: True}
    assert await values(["Max", [["category", "Eq", "a"], 0.5]]) == {1: 0.5, 3: 1.0, 5: 0.5, 9: 0.5}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric.L2, {5: 1.0, 3: 2.0}),
        (Metric.DOT, {5: 1.0, 3: 2.0}),
        (Metric.COSINE, {5: 0.29289323, 3: 0.29289323}),
    ],
)
async def test_distances_are_in_the_namespace_s_metric_and_left_out_without_a_vector(metric, expected):
    schema = schema_of(metric=metric, **SCHEMA.attributes)
    query = Query(**BY_ID, compute=parse_computed({"far": ["vector", "VectorDist", [1.0, 1.0, 0.0]]}))
    hits = (await execute(snapshot_of(schema, DOCUMENTS), query, INLINE)).hits
    assert {h.id: h.attributes["far"] for h in hits if h.attributes} == {
        i: float(np.float32(value)) for i, value in expected.items()
    }


async def test_fragments_of_the_query_s_own_clause_are_highlighted():
    legs = parse_rank_by(["title", "BM25", "bread"], has_filter=False).legs
    found = await values(["Highlight", "title"], legs=legs, order_by=())
    assert found == {5: [{"text": "apple apple bread"}], 1: [{"text": "appleton bread"}]}


@pytest.mark.parametrize(
    "query",
    [
        {"legs": parse_rank_by(["vector", "ANN", [1.0, 0.0, 0.0]], has_filter=False).legs},
        {"legs": parse_rank_by(["Attribute", "size"], has_filter=False).legs},
        {"order_by": (OrderKey("year", descending=True),)},
    ],
)
async def test_every_kind_of_ranking_takes_them_and_stored_attributes_stand_beside(query):
    wanted = {
        "sum": ["Sum", [["title", "BM25", "bread"], ["Attribute", "size"]]],
        "is_open": ["year", "Gt", 0],
    }
    compute = parse_computed(wanted)
    result = await execute(
        snapshots()[1],
        Query(**{"order_by": ()} | query, compute=compute, include_attributes=("size",), top_k=2),
        INLINE,
    )
    assert len(result.hits) == 2
    for hit in result.hits:
        assert list(hit.attributes) == (["size"] if "size" in hit.attributes else []) + ["sum", "is_open"]


async def test_hits_alone_are_computed():
    texts = [{"id": i, "title": "apple", "body": "x " * 9_000} for i in range(40)]
    snapshot = snapshot_of(SCHEMA, texts, kind=ColdPart)
    query = Query(
        **BY_ID,
        top_k=1,
        compute=(
            ("near", Highlight("body", rank_by=parse_computed({"a": ["$fragment", "BM25", "x"]})[0][1])),
        ),
    )
    result = await execute(snapshot, query, INLINE)
    assert len(result.hits[0].attributes["near"]) == 1
    assert snapshot.parts[0].part.sources["body"].brought_bytes < 3 * 18_000


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        ({"$it": ["Attribute", "size"]}, "does not begin with"),
        ({"": ["Attribute", "size"]}, "1 to 128 bytes"),
        ({"é" * 65: ["Attribute", "size"]}, "1 to 128 bytes"),
        ({"id": ["Attribute", "size"]}, "answered as an attribute already"),
        ({"year": ["Attribute", "size"]}, "answered as an attribute already"),
        ({"it": ["Attribute", "year"]}, "may be negative"),
        ({"it": ["nothing", "Eq", 1]}, "nothing"),
        ({"it": ["title", "VectorDist", [1.0]]}, "not a vector"),
        ({"it": ["vector", "VectorDist", [1.0]]}, "has 1 dimensions"),
        ({"it": ["nothing", "VectorDist", [1.0]]}, "not in the schema"),
        ({"it": ["Highlight", "category"]}, "no full-text search"),
        ({"it": ["Highlight", "title"]}, "no BM25 clause"),
    ],
)
def test_broken_rules_are_refused(compute, reason):
    query = Query(order_by=(OrderKey("id"),), include_attributes=("year",), compute=parse_computed(compute))
    with pytest.raises(InvalidRequest, match=reason) as caught:
        check(query, SCHEMA)
    assert caught.value.status == 400
    assert caught.value.field.startswith("compute_attributes")


def test_a_name_that_is_not_answered_beside_it_is_free():
    query = Query(**BY_ID, compute=parse_computed({"year": ["Attribute", "size"]}))
    assert check(query, SCHEMA).compute == check(check(query, SCHEMA), SCHEMA).compute


def test_there_are_256_at_most():
    distance = VectorDistance("vector", np.zeros(3, np.float32))
    check(Query(**BY_ID, compute=tuple((f"a{i}", distance) for i in range(256))), SCHEMA)
    with pytest.raises(InvalidRequest, match="at most 256"):
        check(Query(**BY_ID, compute=tuple((f"a{i}", distance) for i in range(257))), SCHEMA)


async def test_distances_beyond_32_bits_are_its_largest():
    schema = schema_of(vector="[3]f32", metric=Metric.L2)
    far = [{"id": i, "vector": [3e38, 0.0, 0.0]} for i in (2, 1)]
    query = np.array([-3e38, 0.0, 0.0], np.float32)
    wanted = Query(
        legs=(VectorLeg("vector", query),),
        top_k=2,
        include_attributes=(),
        compute=(("far", VectorDistance("vector", query)),),
    )
    answer = await execute(snapshot_of(schema, far[:1], far[1:]), wanted, INLINE)
    largest = float(np.finfo(np.float32).max)
    assert [(hit.id, hit.score, hit.attributes["far"]) for hit in answer.hits] == [
        (1, largest, largest),
        (2, largest, largest),
    ]
