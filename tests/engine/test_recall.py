"""Recall of a real index, and its calibration, over a real database."""

import random
from dataclasses import replace

import numpy as np
import pytest
from support.database import open_database

from elacsym.engine.calibrate import Calibrator
from elacsym.engine.fold import fold
from elacsym.engine.recall import RecallRequest, count_right, measure, stored_vectors, vector_query
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Hit
from elacsym.store.drive import drive
from elacsym.telemetry import REGISTRY
from elacsym.types import STRONG, Attribute, AttributeType, Metric, Schema

DIMENSIONS = 64
ROWS = 6_000


def clustered(rng, count):
    centers = np.random.default_rng(7).standard_normal((30, DIMENSIONS))
    points = centers[rng.integers(0, 30, count)] + rng.standard_normal((count, DIMENSIONS)) * 0.4
    return points.astype(np.float32)


@pytest.fixture
async def indexed(tmp_path):
    """A database with the namespace `docs`: a segment with codes, some rows deleted, and a tail. Every third
    document has `sparse`, none has `empty`."""
    database = await open_database(cache_path=tmp_path / "cache")
    kinds = {"vector": "[64]f32", "sparse": "[64]f16", "empty": "[64]i8"}
    attributes = {
        name: Attribute(AttributeType.parse(kind), filterable=False) for name, kind in kinds.items()
    }
    await database.create("docs", Schema(None, Metric.L2, attributes))
    points = clustered(np.random.default_rng(1), ROWS)
    documents = [
        Document(n, {"vector": p} | ({"sparse": p} if n % 3 == 0 else {})) for n, p in enumerate(points)
    ]
    await database.write("docs", WriteRequest(upserts=documents[:-100]))
    assert await fold(await database.namespace("docs"))
    await database.write("docs", WriteRequest(deletes=list(range(200))))
    await database.write("docs", WriteRequest(upserts=documents[-100:]))
    yield database
    await database.close()


def asked(database, count):
    rng = np.random.default_rng(5)
    return [database.query("docs", vector_query("vector", v, 10)) for v in clustered(rng, count)]


async def test_an_index_finds_nearly_all_neighbours_and_what_it_finds_is_counted_right(indexed):
    query = replace(vector_query("vector", clustered(np.random.default_rng(2), 1)[0], 10), explain=True)
    (leg,) = (await indexed.query("docs", query)).plan["legs"]
    assert "codes" in {part["way"] for part in leg["parts"]}
    found = await measure(indexed, "docs", RecallRequest(num=50, source="stored", include_ground_truth=True))
    assert (found.recent, found.stored) == (0, 50)
    assert 0.98 <= found.average <= 1
    assert (found.average_found, found.average_exact) == (10, 10)
    for compared in found.compared:
        scores = [hit.score for hit in compared.truth]
        assert scores == sorted(scores)
        # a stored vector is its own nearest neighbour
        assert scores[0] == 0


async def test_the_queries_asked_lately_are_measured(indexed):
    for query in asked(indexed, 20):
        await query
    found = await measure(indexed, "docs", RecallRequest(num=30))
    assert (found.recent, found.stored) == (20, 10)
    assert found.average >= 0.98
    # counted, not kept
    assert [(c.exact, c.truth) for c in found.compared] == [(10, ())] * 30
    assert (
        len(indexed.services.tuning.recent((await indexed.namespace("docs")).reader.manifest.inc, "vector"))
        == 20
    )


async def test_stored_vectors_are_those_of_random_live_rows(indexed):
    namespace = await indexed.namespace("docs")
    snapshot = await namespace.snapshot(STRONG)
    points = clustered(np.random.default_rng(1), ROWS)
    number_of = {p.tobytes(): n for n, p in enumerate(points)}
    compute = indexed.services.compute
    vectors = await drive(stored_vectors(snapshot, "vector", 500, random.Random(3)), compute)
    numbers = {number_of[v.tobytes()] for v in vectors}
    assert len(numbers) == 500
    assert min(numbers) >= 200
    assert max(numbers) >= ROWS - 100
    everything = await drive(stored_vectors(snapshot, "vector", 10_000, random.Random(3)), compute)
    assert len(everything) == ROWS - 200


async def test_where_few_rows_have_a_vector_there_are_enough_all_the_same(indexed):
    found = await measure(indexed, "docs", RecallRequest("sparse", num=40))
    assert (found.stored, found.average_exact) == (40, 10)
    found = await measure(indexed, "docs", RecallRequest("empty"))
    assert (found.stored, found.average) == (0, 1)


async def test_what_is_no_vector_cannot_be_measured(indexed):
    with pytest.raises(InvalidRequest, match="vector_field"):
        await measure(indexed, "docs", RecallRequest("year"))


async def test_queries_that_were_refused_are_not_measured(indexed):
    # they were kept until they were measured, under whatever name they gave
    for attribute, vector in (
        ("vector", np.ones(3)),
        ("x" * 1_000_000, np.ones(1)),
        ("vector", [np.nan] * 64),
    ):
        with pytest.raises(InvalidRequest):
            await indexed.query("docs", vector_query(attribute, np.array(vector, np.float32), 10))
    assert list(indexed.services.tuning.samples()) == []
    assert (await measure(indexed, "docs", RecallRequest(num=5))).recent == 0


async def test_a_real_index_is_judged(indexed):
    def judged():
        return sum(
            REGISTRY.get_sample_value("elacsym_calibrations_total", {"outcome": name}) or 0
            for name in ("kept", "raised", "lowered")
        )

    for query in asked(indexed, 64):
        await query
    before, calibrator = judged(), Calibrator(indexed)
    for _ in range(16):
        assert await calibrator.run_once()
    assert judged() == before + 1


def hits(*scores):
    return [Hit(n, score, {}) for n, score in enumerate(scores)]


def test_rows_that_tie_with_the_last_neighbour_are_right():
    assert count_right(hits(1, 2, 3), hits(1, 2, 2), ascending=True) == 2
    assert count_right(hits(2, 2, 2), hits(1, 2, 2), ascending=True) == 3
    assert count_right(hits(1, 2), hits(1, 2, 3), ascending=True) == 2
    assert count_right(hits(9, 8, 7), hits(9, 8, 7.5), ascending=False) == 2
    assert count_right(hits(), hits(1), ascending=True) == 0
    assert count_right(hits(1, 1, 1), hits(1), ascending=True) == 1
    assert count_right(hits(1), hits(), ascending=True) == 0


async def test_one_given_query_is_measured(indexed):
    vector = clustered(np.random.default_rng(9), 1)[0]
    found = await measure(indexed, "docs", RecallRequest(vector=vector, include_ground_truth=True, top_k=4))
    (one,) = found.compared
    assert (found.recent, found.stored, one.exact, one.found) == (0, 0, 4, 4)
    assert one.vector is vector
    exact = await indexed.query("docs", replace(vector_query("vector", vector, 4), exact=True))
    assert [hit.id for hit in one.truth] == [hit.id for hit in exact.hits]
