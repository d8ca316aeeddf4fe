"""The same query gives the same ids and scores however its rows are spread over memtable and segments."""

from __future__ import annotations

import numpy as np
import pytest
from support.database import WORDS, document, open_database, schema, upsert
from support.queries import aggregate_of

from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.query.ast import And, Compare, Fusion, Op, OrderKey, Query, TextLeg, VectorLeg
from elacsym.types import Metric
from elacsym.upkeep.compact import compact

ROWS, LAYERS = 360, 12


def _queries(rng: np.random.Generator) -> list[Query]:
    vector = VectorLeg("vector", rng.standard_normal(8).astype(np.float32))
    text = TextLeg((("text", 1.0),), "copper kettles boil at the river")
    recent = And((Compare("year", Op.GTE, 2005), Compare("tags", Op.CONTAINS, WORDS[0])))
    return [
        Query((vector,), top_k=50),
        Query((text,), top_k=50),
        Query((vector, text), top_k=50),
        Query((vector, text), fusion=Fusion("weighted"), top_k=50),
        Query((vector, text), fusion=Fusion("max", depth=20), filter=recent, top_k=50),
        Query((vector,), filter=recent, top_k=50),
        Query((text,), filter=recent, top_k=50),
        Query(order_by=(OrderKey("year", descending=True),), top_k=50),
        Query(aggregate=aggregate_of(sums=("year",))),
        Query(aggregate=aggregate_of(group_by=("year",)), filter=recent),
    ]


async def _answers(database, queries):
    results = []
    for query in queries:
        result = await database.query("docs", query)
        results.append(
            (
                [(h.id, h.score, sorted(h.attributes.items())) for h in result.hits],
                result.aggregations,
                result.groups,
            )
        )
    return results


@pytest.mark.parametrize("metric", list(Metric))
async def test_memtable_one_segment_twelve_segments_and_merged_segments_answer_alike(tmp_path, metric):
    rng = np.random.default_rng(7)
    documents = [document(int(i), rng) for i in rng.permutation(ROWS)]
    # a third is written a second time with other values, a sixth is deleted at the end
    again = [document(d.id, rng) for d in documents[::3]]
    deleted = [d.id for d in documents[1::6]]
    queries = _queries(rng)
    answers = []
    for layout in ("memtable", "one", "twelve"):
        database = await open_database(cache_path=tmp_path / layout)
        await database.create("docs", schema(metric=metric))
        namespace = await database.namespace("docs")
        step = ROWS // (LAYERS // 2)
        for start in range(0, ROWS, step):
            await database.write("docs", upsert(*documents[start : start + step]))
            if layout == "twelve":
                await fold(namespace)
        for start in range(0, len(again), step // 3):
            await database.write("docs", upsert(*again[start : start + step // 3]))
            if layout == "twelve":
                await fold(namespace)
        await database.write("docs", WriteRequest(deletes=deleted))
        if layout != "memtable":
            await fold(namespace)
        segments = namespace.reader.manifest.segments
        assert len(segments) == {"memtable": 0, "one": 1, "twelve": 12}[layout]
        if layout == "twelve":
            assert sum(s.rows - s.rows_live for s in segments) > 0
        answers.append(await _answers(database, queries))
        if layout == "twelve":
            assert await compact(namespace, force=True)
            assert len(namespace.reader.manifest.segments) == 1
            answers.append(await _answers(database, queries))
        await database.close()
    assert answers[0][0][0], "the queries find something"
    for other in answers[1:]:
        assert other == answers[0]


async def test_explain_tells_what_a_query_brought_in_from_the_store(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, np.random.default_rng(i)) for i in range(50))))
    await fold(await database.namespace("docs"))
    query = Query((VectorLeg("vector", np.ones(8, np.float32)),), explain=True)
    cold = await database.query("docs", query)
    warm = await database.query("docs", query)
    assert cold.plan["bytes_read"] >= 50 * 8 * 4
    assert warm.plan["bytes_read"] == 0
    await database.close()
