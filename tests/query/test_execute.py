"""Ranked queries over parts: exact, and the same however rows are spread."""

from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index.sources import driven
from parts import DIMENSIONS, SCHEMA, ColdPart, MemoryPart, documents_of, schema_of, snapshot_of, views
from support.queries import aggregate_of

from elacsym.compute import InlineCompute, ThreadCompute
from elacsym.errors import InvalidRequest
from elacsym.query import matching
from elacsym.query.ast import (
    Compare,
    Fusion,
    Not,
    Op,
    Or,
    OrderKey,
    Query,
    TextLeg,
    VectorLeg,
    Work,
)
from elacsym.query.execute import execute, matching_ids
from elacsym.query.hits import documents as documents_by_id
from elacsym.types import Attribute, AttributeType, FullText, Metric

INLINE = InlineCompute()
CONDITIONS = st.sampled_from(
    [
        None,
        Compare("year", Op.GT, -1),
        Compare("tags", Op.CONTAINS, "x"),
        Not(Compare("category", Op.EQ, "a")),
    ]
)
HOLDS = {
    None: lambda d: True,
    Compare("year", Op.GT, -1): lambda d: d.get("year") is not None and d["year"] > -1,
    Compare("tags", Op.CONTAINS, "x"): lambda d: "x" in d.get("tags", ()),
    Not(Compare("category", Op.EQ, "a")): lambda d: d.get("category") != "a",
}


def schema_with(metric):
    return schema_of(metric=metric, **SCHEMA.attributes)


def distance(a, b, metric) -> float:
    a, b = [float(x) for x in np.float32(a)], [float(x) for x in np.float32(b)]
    if metric is Metric.L2:
        value = math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    else:
        value = math.fsum(x * y for x, y in zip(a, b, strict=True))
    if metric is Metric.COSINE:
        lengths = math.hypot(*a) * math.hypot(*b)
        value = 1.0 - value / lengths if lengths else 1.0
        value = 0.0 if value < 2.0**-48 else value
    return float(np.float32(value))


@settings(max_examples=150, deadline=None)
@given(
    documents_of(),
    st.lists(st.sampled_from([0.0, 0.5, 1.0, -1.0]), min_size=DIMENSIONS, max_size=DIMENSIONS),
    st.sampled_from(list(Metric)),
    CONDITIONS,
    st.integers(1, 6),
    st.integers(0, 99),
)
async def test_nearest_documents_are_exact_however_rows_are_spread(
    documents, vector, metric, condition, top_k, seed
):
    expected = [
        (d["id"], distance(d["vector"], vector, metric))
        for d in documents
        if "vector" in d and HOLDS[condition](d)
    ]
    expected.sort(key=lambda pair: (-pair[1] if metric is Metric.DOT else pair[1], pair[0]))
    query = Query(legs=(VectorLeg("vector", np.array(vector, np.float32)),), filter=condition, top_k=top_k)
    for snapshot in views(schema_with(metric), documents, seed):
        found = [(h.id, h.score) for h in (await execute(snapshot, query, INLINE)).hits]
        assert [i for i, _ in found] == [i for i, _ in expected[:top_k]]
        assert [s for _, s in found] == pytest.approx([s for _, s in expected[:top_k]], rel=1e-6)


def bm25(documents, name, query) -> dict[int, float]:
    """The scores of a field whose analysis is: split at blanks."""
    texts = {d["id"]: Counter(d[name].split()) for d in documents if name in d}
    mean = sum(c.total() for c in texts.values()) / max(1, len(texts))
    scores = {}
    for document, counts in texts.items():
        score = 0.0
        for term, times in Counter(query.split()).items():
            holders = sum(term in c for c in texts.values())
            if counts[term]:
                idf = math.log(1 + (len(texts) - holders + 0.5) / (holders + 0.5))
                norm = 1.2 * (1 - 0.75 + 0.75 * counts.total() / mean)
                score += idf * counts[term] * 2.2 / (counts[term] + norm) * times * 9.0 / (8.0 + times)
        if score > 0:
            scores[document] = score
    return scores


QUERIES = st.lists(st.sampled_from(["apple", "bread", "cider", "unseen"]), max_size=4).map(" ".join)
TWO_TEXTS = schema_of(
    metric=None,
    title=Attribute(AttributeType.parse("string"), full_text=FullText()),
    body=Attribute(AttributeType.parse("string"), full_text=FullText()),
    category="string",
    year="int",
    tags="[]string",
)


def only(documents, schema):
    return [{k: v for k, v in d.items() if k == "id" or k in schema.attributes} for d in documents]


@settings(max_examples=150, deadline=None)
@given(documents_of(), QUERIES, CONDITIONS, st.integers(1, 6), st.integers(0, 99))
async def test_text_scores_are_bm25_over_all_live_documents_however_rows_are_spread(
    documents, text, condition, top_k, seed
):
    documents = only(documents, TWO_TEXTS)
    title, body = bm25(documents, "title", text), bm25(documents, "body", text)
    holds = {d["id"] for d in documents if HOLDS[condition](d)}
    scores = {i: title.get(i, 0.0) + 2.5 * body.get(i, 0.0) for i in holds & {*title, *body}}
    query = Query(legs=(TextLeg((("title", 1.0), ("body", 2.5)), text),), filter=condition, top_k=top_k)
    answers = []
    for snapshot in views(TWO_TEXTS, documents, seed):
        found = [(h.id, h.score) for h in (await execute(snapshot, query, INLINE)).hits]
        assert len(found) == min(top_k, len(scores))
        assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
        assert dict(found) == pytest.approx({i: scores[i] for i, _ in found}, rel=1e-6)
        if found:
            assert found[-1][1] >= sorted(scores.values(), reverse=True)[len(found) - 1] * (1 - 1e-6)
        answers.append(found)
    assert answers[0] == answers[1]


@settings(max_examples=100, deadline=None)
@given(
    documents_of(),
    QUERIES,
    CONDITIONS,
    st.builds(Fusion, st.sampled_from(["rrf", "weighted", "max"]), depth=st.none() | st.integers(1, 5)),
    st.integers(0, 99),
)
async def test_hybrid_answers_are_the_same_however_rows_are_spread(documents, text, condition, fusion, seed):
    query = Query(
        legs=(
            VectorLeg("vector", np.ones(DIMENSIONS, np.float32), 0.5),
            TextLeg((("title", 1.0),), text),
            TextLeg((("body", 1.0), ("title", 0.5)), text, 0.75),
        ),
        filter=condition,
        fusion=fusion,
        top_k=8,
        explain=True,
    )
    one, *others = [
        (await execute(s, query, INLINE)).hits for s in views(schema_with(Metric.COSINE), documents, seed)
    ]
    assert [one] * len(others) == others
    for hit in one:
        contributions = [share.contribution for share in hit.shares]
        total = max(contributions) if fusion.method == "max" else sum(contributions)
        assert hit.score == pytest.approx(total, rel=1e-6)


DOCUMENTS = [
    {"id": 1, "vector": [0.0, 0.0, 1.0], "title": "apple bread", "year": 2020, "tags": ["x"], "price": 0.1},
    {"id": 2, "vector": [0.0, 1.0, 1.0], "title": "apple", "year": None},
    {"id": 3, "title": "cider", "tags": [], "is_open": False},
]


async def test_hits_have_the_attributes_asked_for_and_no_nulls():
    snapshot = snapshot_of(SCHEMA, DOCUMENTS[:2], DOCUMENTS[2:])
    order = {"order_by": (OrderKey("id"),)}
    everything = (await execute(snapshot, Query(**order), INLINE)).hits
    assert [h.attributes for h in everything] == [
        {"title": "apple bread", "year": 2020, "tags": ["x"], "price": 0.1},
        {"title": "apple"},
        {"title": "cider", "tags": [], "is_open": False},
    ]
    some = (await execute(snapshot, Query(include_attributes=("id", "year"), **order), INLINE)).hits
    assert [h.attributes for h in some] == [{"year": 2020}, {}, {}]
    none = (await execute(snapshot, Query(include_attributes=(), **order), INLINE)).hits
    assert [h.attributes for h in none] == [{}, {}, {}]


async def test_vectors_come_as_float32_arrays_when_wanted_and_only_where_there_is_one():
    snapshot = snapshot_of(SCHEMA, DOCUMENTS)
    for query in (
        Query(order_by=(OrderKey("id"),), include_attributes=(), include_vector=True),
        Query(order_by=(OrderKey("id"),), include_attributes=("vector",)),
    ):
        hits = (await execute(snapshot, query, INLINE)).hits
        assert hits[0].attributes["vector"].dtype == np.float32
        assert [h.attributes["vector"].tolist() for h in hits[:2]] == [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]
        assert hits[2].attributes == {}


async def test_attributes_are_read_in_the_parts_and_rows_of_hits_only():
    texts = [{"id": i, "title": "apple", "body": f"{i} " * 9_000} for i in range(1, 41)]
    snapshot = snapshot_of(SCHEMA, texts[:20], texts[20:], kind=ColdPart)
    query = Query(order_by=(OrderKey("id"),), top_k=2, include_attributes=("body",), explain=True)
    result = await execute(snapshot, query, INLINE)
    assert [h.attributes["body"] for h in result.hits] == [d["body"] for d in texts[:2]]
    first, second = (view.part.sources["body"] for view in snapshot.parts)
    assert 2 * 18_000 <= first.brought_bytes < 3 * 18_000
    assert second.brought_bytes < 18_000
    assert [r["wanted_bytes"] > 0 for r in result.plan["rounds"]] == [True] * len(result.plan["rounds"])


async def test_the_hits_of_a_cold_leg_and_their_attributes_share_a_round():
    texts = [{"id": i, "title": "apple", "body": f"{i} " * 9_000, "year": i} for i in range(1, 7)]
    query = Query(
        legs=(TextLeg((("title", 1.0),), "apple"),),
        top_k=2,
        include_attributes=("body", "year"),
        explain=True,
    )
    result = await execute(snapshot_of(SCHEMA, texts, kind=ColdPart), query, INLINE)
    assert [h.attributes for h in result.hits] == [{"body": d["body"], "year": d["year"]} for d in texts[:2]]
    # heads; ids and attributes (the postings of this part are in memory)
    assert len(result.plan["rounds"]) == 2


async def test_a_part_without_live_rows_is_never_touched():
    snapshot = snapshot_of(
        SCHEMA,
        DOCUMENTS,
        [],
        dead=[[], [{"id": 9, "title": "apple", "vector": [0.0, 0.0, 0.0]}]],
        kind=ColdPart,
    )
    query = Query(
        legs=(VectorLeg("vector", np.ones(3, np.float32)), TextLeg((("title", 1.0),), "apple")),
        filter=Compare("id", Op.LT, 100),
        aggregate=aggregate_of(),
    )
    result = await execute(snapshot, query, INLINE)
    assert {h.id for h in result.hits} == {1, 2}
    assert result.aggregations == {"count": 3}
    part = snapshot.parts[1].part
    assert [source.brought for source in (part.id_source, *part.sources.values())] == [[]] * (
        1 + len(part.sources)
    )


async def test_a_filter_is_evaluated_once_for_a_snapshot_and_remembered_filters_are_bounded(monkeypatch):
    monkeypatch.setattr(matching, "FILTER_MEMO_BYTES_MAX", 40_000)
    snapshot = snapshot_of(SCHEMA, DOCUMENTS)

    async def count(year):
        query = Query(aggregate=aggregate_of(), filter=Compare("year", Op.EQ, year), explain=True)
        result = await execute(snapshot, query, INLINE)
        return result.aggregations["count"], result.plan["filter"]["remembered"]

    assert await count(2020) == (1, False)
    assert await count(2020) == (1, True)
    for year in range(100):
        assert await count(year) == (0, False)
    assert 20 < len(snapshot.memo["filter"]) < 90
    assert await count(2020) == (1, False)


@pytest.mark.parametrize(
    "condition",
    [
        Compare("year", Op.IN, tuple(range(5_000))),
        Compare("title", Op.EQ, "x" * 100_000),
        Not(Or(tuple(Compare("year", Op.EQ, year) for year in range(5_000)))),
    ],
)
async def test_a_large_filter_is_not_remembered(condition):
    # a snapshot kept 64 of them, each up to the size of a request
    snapshot = snapshot_of(SCHEMA, DOCUMENTS)
    query = Query(aggregate=aggregate_of(), filter=condition, explain=True)
    for _ in range(2):
        assert not (await execute(snapshot, query, INLINE)).plan["filter"]["remembered"]
    assert "filter" not in snapshot.memo
    assert len(pickle.dumps(snapshot.memo["opened"])) < 1_000


async def test_explanations_are_json_and_tell_the_way_through_each_part():
    rows = [{"id": i, "vector": [i, 0, 0], "title": "apple", "year": i} for i in range(40)]
    snapshot = snapshot_of(SCHEMA, rows[:20], rows[20:30], rows[30:])
    query = Query(
        legs=(VectorLeg("vector", np.zeros(3, np.float32)), TextLeg((("title", 1.0),), "apple")),
        filter=Compare("year", Op.LT, 22),
        explain=True,
        top_k=3,
    )
    result = await execute(snapshot, query, INLINE)
    plan = json.loads(json.dumps(result.plan))
    assert plan["kind"] == "hybrid"
    assert plan["rows"] == {"live": 40, "matched": 22}
    assert plan["filter"] == {"rows_estimated": 40, "rows_actual": 22, "remembered": False}
    assert plan["parts"][1] == {"part": "part1", "rows": 10, "live": 10, "matched": 2}
    ways = [(part["part"], part["way"], part["matched"]) for part in plan["legs"][0]["parts"]]
    assert ways == [("part0", "scan", 20), ("part1", "gather", 2)]
    assert plan["legs"][0]["rows_scored"] == 22
    assert (plan["legs"][1]["terms"], plan["legs"][1]["postings"]) == (["apple"], 40)
    assert plan["fusion"] == {"method": "rrf", "k": 60.0, "depth": 100, "weights": [1.0, 0.5]}
    assert set(plan["stages_us"]) == {"open", "filter", "search", "fetch"}
    assert [share.leg for share in result.hits[0].shares] == ["vector:vector", "text:title"]


async def test_without_explain_there_is_neither_plan_nor_shares():
    query = Query(legs=(TextLeg((("title", 1.0),), "apple"),))
    result = await execute(snapshot_of(SCHEMA, DOCUMENTS), query, INLINE)
    assert result.plan is None
    assert [h.shares for h in result.hits] == [(), ()]


async def test_work_in_the_pool_gives_the_answer_of_work_inline():
    rng = np.random.default_rng(7)
    rows = [
        {"id": i, "vector": v, "title": "apple " * int(rng.integers(4)), "year": int(rng.integers(5))}
        for i, v in enumerate(rng.standard_normal((20_000, DIMENSIONS)).astype(np.float32).tolist())
    ]
    query = Query(
        legs=(VectorLeg("vector", np.ones(3, np.float32)), TextLeg((("title", 1.0),), "apple")),
        filter=Compare("year", Op.LT, 3),
        explain=True,
        top_k=200,
    )
    pool = ThreadCompute(2)
    inline = await execute(snapshot_of(SCHEMA, rows), query, INLINE)
    pooled = await execute(snapshot_of(SCHEMA, rows[::2], rows[1::2]), query, pool)
    pool.close()
    assert pooled.plan["where"] == "pool"
    assert inline.hits == pooled.hits


async def test_an_empty_snapshot_gives_empty_answers():
    for snapshot in (snapshot_of(SCHEMA), snapshot_of(SCHEMA, [])):
        query = Query(
            legs=(VectorLeg("vector", np.ones(3, np.float32)), TextLeg((("title", 1.0),), "apple")),
            explain=True,
        )
        assert (await execute(snapshot, query, INLINE)).hits == ()
        assert (await execute(snapshot, Query(order_by=(OrderKey("year"),)), INLINE)).hits == ()
        assert driven(documents_by_id(snapshot, [1])).value == [None]
        assert len(driven(matching_ids(snapshot, Compare("year", Op.EQ, 1))).value) == 0


@settings(max_examples=60, deadline=None)
@given(documents_of(), CONDITIONS.filter(lambda c: c is not None), st.integers(0, 99))
async def test_matching_ids_are_those_of_the_live_documents_that_match(documents, condition, seed):
    expected = sorted(d["id"] for d in documents if HOLDS[condition](d))
    for snapshot in views(SCHEMA, documents, seed):
        assert sorted(driven(matching_ids(snapshot, condition)).value.to_arrow().to_pylist()) == expected


async def test_matching_ids_refuse_a_filter_that_does_not_fit():
    with pytest.raises(InvalidRequest):
        driven(matching_ids(snapshot_of(SCHEMA), Compare("secret", Op.EQ, "x")))


@settings(max_examples=60, deadline=None)
@given(documents_of(st.integers(0, 20)), st.lists(st.integers(0, 20), max_size=10), st.integers(0, 99))
async def test_documents_are_found_by_id_in_the_order_asked_for_and_only_when_alive(documents, ids, seed):
    by_id = {d["id"]: d for d in documents}
    for snapshot in views(SCHEMA, documents, seed):
        hits = driven(documents_by_id(snapshot, ids, include_vector=True)).value
        assert [None if h is None else h.id for h in hits] == [i if i in by_id else None for i in ids]
        for hit in hits:
            if hit is not None:
                assert hit.score is None
                shown = {k: v.tolist() if k == "vector" else v for k, v in hit.attributes.items()}
                assert {"id": hit.id, **shown} == by_id[hit.id]


async def test_documents_by_string_id_show_the_attributes_asked_for():
    schema = schema_of(id_type="string", year="int", size="uint")
    snapshot = snapshot_of(schema, [{"id": "a", "year": 1, "size": 2}], [{"id": "é", "year": 3}])
    hits = driven(documents_by_id(snapshot, ["é", "b", "a"], include_attributes=("year",))).value
    assert [h and (h.id, h.attributes) for h in hits] == [("é", {"year": 3}), None, ("a", {"year": 1})]
    with pytest.raises(InvalidRequest):
        driven(documents_by_id(snapshot, ["a"], include_attributes=("nothing",)))
    with pytest.raises(InvalidRequest):
        driven(documents_by_id(snapshot, [1]))


class TailPart(MemoryPart):
    is_built = False


async def test_an_answer_says_what_it_was_made_of():
    documents = [{"id": i, "year": i} for i in range(20)]
    indexed = snapshot_of(SCHEMA, documents[:12], kind=ColdPart).parts
    tail = snapshot_of(SCHEMA, documents[12:], kind=TailPart).parts
    snapshot = replace(snapshot_of(SCHEMA), parts=[*indexed, *tail])
    query = Query(order_by=(OrderKey("year"),), filter=Compare("year", Op.GT, 5))
    cold = (await execute(snapshot, query, InlineCompute())).work
    assert (cold.rows_live, cold.rows_unindexed, cold.bytes_read > 0) == (20, 8, True)
    assert (await execute(snapshot, query, InlineCompute())).work == Work(20, 8, 0)
