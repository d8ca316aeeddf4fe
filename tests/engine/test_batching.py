"""Queries of a namespace that wait at the same time are answered together, each as if it were alone."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.database import document, open_database, schema, upsert

from elacsym.engine import batching
from elacsym.engine.fold import fold
from elacsym.errors import InvalidRequest, Unavailable
from elacsym.query.ast import Compare, Op, OrderKey, Query, TextLeg, VectorLeg
from elacsym.store.cache import ObjectMissing

ROWS = 300


@pytest.fixture
async def docs(database):
    """A database whose namespace `docs` has documents."""
    rng = np.random.default_rng(3)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(ROWS))))
    return database


def by_vector(seed: int, **options) -> Query:
    vector = np.random.default_rng(seed).normal(size=schema().vectors()["vector"].type.dimensions)
    return Query((VectorLeg("vector", vector.astype(np.float32)),), **options)


def by_text(text: str, **options) -> Query:
    return Query((TextLeg((("text", 1.0),), text),), **options)


@pytest.fixture
def sizes(monkeypatch):
    """How many queries were answered in one go, each time; 1 for those that were answered alone."""
    seen = []
    at_hand, execute = batching.answers_at_hand, batching.execute

    def counted(snapshot, queries, effort_of):
        seen.append(len(queries))
        return at_hand(snapshot, queries, effort_of)

    async def alone(*arguments):
        seen.append(1)
        return await execute(*arguments)

    monkeypatch.setattr(batching, "answers_at_hand", counted)
    monkeypatch.setattr(batching, "execute", alone)
    return seen


async def test_every_query_gets_the_answer_that_it_gets_alone(docs, sizes):
    recent = Compare("year", Op.GT, 2010)
    queries = [
        *(by_vector(seed) for seed in range(9)),
        *(by_vector(seed, filter=recent, top_k=3) for seed in range(4)),
        *(by_text(text) for text in ("copper kettle", "no such word", "kettle", "copper")),
        by_text("copper", filter=recent),
        by_text("copper kettle", filter=Compare("year", Op.LTE, 2010)),
        *(by_vector(seed, offset=2, include_vector=True) for seed in range(2)),
        Query((*by_vector(1).legs, *by_text("copper").legs)),
        Query(order_by=(OrderKey("year"),), top_k=7),
    ]
    alone = [await docs.query("docs", query) for query in queries]
    assert sizes == [1] * len(queries)
    sizes.clear()
    together = await asyncio.gather(*(docs.query("docs", query) for query in queries))
    assert sorted(sizes) == [1, 1, 2, 4, 6, 9]
    for query, one, other in zip(queries, alone, together, strict=True):
        assert [(h.id, h.score, h.cursor) for h in one.hits] == [
            (h.id, h.score, h.cursor) for h in other.hits
        ]
        for a, b in zip(one.hits, other.hits, strict=True):
            assert a.attributes.keys() == b.attributes.keys()
            assert all(np.array_equal(a.attributes[name], b.attributes[name]) for name in a.attributes), query


async def test_one_proof_serves_all_that_wait_and_sees_every_write_before_them(docs, monkeypatch):
    namespace = await docs.namespace("docs")
    checks = []
    check = namespace.reader.check
    monkeypatch.setattr(namespace.reader, "check", lambda: checks.append(1) or check())
    await asyncio.gather(*(docs.query("docs", by_vector(seed)) for seed in range(8)))
    assert len(checks) == 1
    rng = np.random.default_rng(9)
    for number in range(20):
        await docs.write("docs", upsert(document(ROWS + number, rng)))
        found = await asyncio.gather(
            *(
                docs.query("docs", Query(order_by=(OrderKey("id", descending=True),), top_k=1))
                for _ in range(3)
            )
        )
        assert [result.hits[0].id for result in found] == [ROWS + number] * 3


async def test_a_refused_query_is_nobody_elses_business(docs):
    wrong = by_vector(1, include_attributes=("nothing",))
    found = await asyncio.gather(
        docs.query("docs", by_vector(0)),
        docs.query("docs", wrong),
        docs.query("docs", by_vector(2)),
        return_exceptions=True,
    )
    assert isinstance(found[1], InvalidRequest)
    assert len(found[0].hits) == len(found[2].hits) == 10


async def test_what_one_query_meets_does_not_fail_those_beside_it(docs, monkeypatch):
    at_hand, execute = batching.answers_at_hand, batching.execute
    bad = by_vector(5)

    def failing(snapshot, queries, effort_of):
        if any(query.legs is bad.legs for query in queries):
            raise RuntimeError("one of them")
        return at_hand(snapshot, queries, effort_of)

    async def alone(snapshot, query, *rest):
        if query.legs is bad.legs:
            raise RuntimeError("this one")
        return await execute(snapshot, query, *rest)

    monkeypatch.setattr(batching, "answers_at_hand", failing)
    monkeypatch.setattr(batching, "execute", alone)
    asked = [by_vector(0), bad, by_vector(2)]
    found = await asyncio.gather(*(docs.query("docs", q) for q in asked), return_exceptions=True)
    assert str(found[1]) == "this one"
    assert len(found[0].hits) == len(found[2].hits) == 10


@pytest.mark.parametrize("is_alike", [True, False])
async def test_a_query_that_fetches_holds_up_no_other(docs, monkeypatch, is_alike):
    execute, go_on = batching.execute, asyncio.Event()
    cold = by_vector(1) if is_alike else by_vector(1, filter=Compare("year", Op.GT, 2010))

    async def slow(snapshot, query, *rest):
        if query.legs[0].vector is cold.legs[0].vector:
            await go_on.wait()
        return await execute(snapshot, query, *rest)

    # nothing is at hand
    monkeypatch.setattr(batching, "answers_at_hand", lambda *_: None)
    monkeypatch.setattr(batching, "execute", slow)
    waiting = asyncio.create_task(docs.query("docs", cold))
    others = await asyncio.gather(*(docs.query("docs", by_vector(seed)) for seed in range(3)))
    assert all(result.hits for result in others) and not waiting.done()
    # nor those who come later
    assert (await docs.query("docs", by_vector(4))).hits and not waiting.done()
    go_on.set()
    assert (await waiting).hits


async def test_bytes_that_are_not_at_hand_are_brought_for_each_alone(tmp_path):
    database = await open_database(cache_path=tmp_path / "cache")
    rng = np.random.default_rng(3)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(ROWS))))
    namespace = await database.namespace("docs")
    await fold(namespace)
    queries = [by_vector(seed) for seed in range(4)] + [by_text("copper"), by_text("kettle")]
    expected = [[hit.id for hit in (await database.query("docs", query)).hits] for query in queries]
    await database.close()
    cold = await open_database(database.services.store, cache_path=tmp_path / "empty")
    found = await asyncio.gather(*(cold.query("docs", query) for query in queries))
    assert [[hit.id for hit in result.hits] for result in found] == expected
    await cold.close()


async def test_queries_that_take_long_are_in_no_batch(docs, monkeypatch, sizes):
    is_long = "copper kettle".__eq__
    monkeypatch.setattr(batching, "inline_us", lambda q, _: None if is_long(q.legs[0].query) else 1.0)
    texts = ["copper", "copper kettle", "kettle", "copper kettle"]
    found = await asyncio.gather(*(docs.query("docs", by_text(text)) for text in texts))
    assert sorted(sizes) == [1, 1, 2]
    assert all(result.hits for result in found)


async def test_a_batch_takes_no_longer_than_the_event_loop_may_be_busy(docs, monkeypatch, sizes):
    monkeypatch.setattr(batching, "inline_us", lambda *_: batching.BATCH_US_MAX / 3)
    await asyncio.gather(*(docs.query("docs", by_vector(seed)) for seed in range(8)))
    assert sizes == [3, 3, 2]


async def test_a_query_that_the_view_serves_waits_for_no_proof(docs, monkeypatch):
    namespace = await docs.namespace("docs")
    proof = asyncio.Event()
    await namespace.reader.check()
    old_s = 0.0
    monkeypatch.setattr(namespace.reader, "check", proof.wait)
    served = asyncio.create_task(namespace.query(by_vector(1), since_s=old_s))
    other = asyncio.create_task(namespace.query(by_vector(2), since_s=None))
    assert (await served).hits and not other.done()
    proof.set()
    assert (await other).hits


async def test_who_gives_up_takes_nobody_along(docs):
    asking = [asyncio.create_task(docs.query("docs", by_vector(seed))) for seed in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(result.hits for result in found[1:])


@pytest.mark.parametrize("where", ["answer", "snapshot"])
@pytest.mark.parametrize("times", [1, 2])
async def test_files_that_were_collected_are_looked_for_once_more(docs, monkeypatch, times, where):
    namespace, left = await docs.namespace("docs"), [times]
    at_hand, snapshot_of = batching.answers_at_hand, namespace.view.snapshot

    def missing():
        if left[0]:
            left[0] -= 1
            raise ObjectMissing("seg/1")

    def answered(*arguments):
        missing()
        return at_hand(*arguments)

    async def snapshot(**options):
        missing()
        return await snapshot_of(**options)

    if where == "answer":
        monkeypatch.setattr(batching, "answers_at_hand", answered)
    else:
        monkeypatch.setattr(namespace.view, "snapshot", snapshot)
    asked = [docs.query("docs", by_vector(seed)) for seed in range(3)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    if times == 1:
        assert all(len(result.hits) == 10 for result in found)
    else:
        assert all(isinstance(result, ObjectMissing) for result in found)


@pytest.mark.parametrize("passes", range(8))
async def test_those_who_wait_when_the_namespace_closes_are_told_so(docs, monkeypatch, passes):
    async def forever(*_):
        await asyncio.Event().wait()

    monkeypatch.setattr(batching, "answers_at_hand", lambda *_: None)
    monkeypatch.setattr(batching, "execute", forever)
    namespace = await docs.namespace("docs")
    asking = [asyncio.create_task(namespace.query(by_vector(seed), since_s=None)) for seed in range(3)]
    for _ in range(passes):
        await asyncio.sleep(0)
    await namespace.close()
    async with asyncio.timeout(5):
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(result, Unavailable) for result in found)
    with pytest.raises(Unavailable):
        await namespace.query(by_vector(1), since_s=None)
