"""Options that change on data that is there, and attributes that are dropped: answers are those of a
namespace that had the schema from the beginning."""

from __future__ import annotations

import asyncio
import gc

import numpy as np
import pytest
from support.database import HeldCompute, open_database

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import AttributeChange, Document, SchemaChange, WriteRequest
from elacsym.engine.schema import changed
from elacsym.errors import InvalidRequest, UnknownAnalysis
from elacsym.index import text_build, tokenize
from elacsym.index.text import TextIndex
from elacsym.index.vector import Effort
from elacsym.query.ast import Compare, Glob, Op, OrderKey, Query, Regex, TextLeg, Tokens, VectorLeg
from elacsym.query.execute import execute
from elacsym.store.drive import bring, drive
from elacsym.store.memory import MemoryStore
from elacsym.types import AttributeType, Metric, Schema
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

TEXTS = ["The running dogs", "a dog runs", "Cats running, dogs running", "nothing here", "the house", "dog"]
ALL = Query(order_by=(OrderKey("id"),), top_k=100)


def said(type_, **options):
    return AttributeChange(AttributeType.parse(type_), options)


def change(metric=None, **attributes):
    return WriteRequest(change=SchemaChange(attributes, metric=metric))


def documents(first):
    return [Document(first + i, {"x": text, "n": i}) for i, text in enumerate(TEXTS)]


async def filled(store, folder, declared):
    """Two segments, one with deleted rows, and a tail, under a schema that is declared first."""
    database = await open_database(store, cache_path=folder)
    await database.create("docs", changed(Schema(), SchemaChange(declared)))
    for first in (0, 10, 20):
        await database.write("docs", WriteRequest(upserts=documents(first)))
        if first < 20:
            await fold(await database.namespace("docs"))
    await database.write("docs", WriteRequest(deletes=[2, 10, 20]))
    return database


def search(text):
    return Query(legs=(TextLeg((("x", 1.0),), text),), top_k=50, include_attributes=("id",))


async def answers(database):
    found = []
    for text in ("running dogs", "The", "dog", "house nothing"):
        hits = (await database.query("docs", search(text))).hits
        found.append([(hit.id, hit.score) for hit in hits])
    for mode in ("all", "any", "sequence"):
        query = Query(filter=Tokens("x", "dogs running", mode), order_by=(OrderKey("id"),), top_k=50)
        found.append([hit.id for hit in (await database.query("docs", query)).hits])
    return found


SETTINGS = [
    True,
    {"stemming": True},
    {"stemming": True, "remove_stopwords": True},
    {"language": "german", "stemming": True},
    {"case_sensitive": True},
    {"tokenizer": "word_v0", "max_token_length": 4},
    {"k1": 0.5, "b": 0.2, "k3": 0.0},
]


async def test_full_text_may_be_switched_on_and_changed_at_any_time(tmp_path):
    store = MemoryStore()
    database = await filled(store, tmp_path / "a", {"x": said("string")})
    with pytest.raises(InvalidRequest):
        await database.query("docs", search("dog"))
    before = None
    for number, settings in enumerate(SETTINGS):
        # partial settings are merged into what is there: name all of them
        off = said("string", full_text=False)
        for said_ in (off, said("string", full_text=settings)):
            await database.write("docs", change(x=said_))
        declared = {"x": said("string", full_text=settings)}
        fresh = await filled(MemoryStore(), tmp_path / f"fresh{number}", declared)
        found = await answers(database)
        assert found == await answers(fresh)
        assert found != before
        before = found
        if number == 1:
            namespace = await database.namespace("docs")
            await fold(namespace)
            assert await compact(namespace, force=True)
            assert await answers(database) == found
        report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
        assert report.problems == []
        await fresh.close()
    await database.close()


async def test_a_late_index_is_built_once_and_the_next_merge_writes_it(tmp_path, monkeypatch):
    built = []
    build = TextIndex.build.__func__

    def counted(cls, texts, settings):
        built.append(len(texts))
        return build(cls, texts, settings)

    database = await filled(MemoryStore(), tmp_path / "a", {"x": said("string")})
    namespace = await database.namespace("docs")
    await fold(namespace)
    await database.write("docs", change(x=said("string", full_text=True)))
    monkeypatch.setattr(TextIndex, "build", classmethod(counted))
    await asyncio.gather(*(database.query("docs", search("dog")) for _ in range(5)))
    assert sorted(built) == [5, 6, 6], "one for each segment"
    await database.query("docs", search("dog"))
    await database.write("docs", change(x=said("string", full_text={"k1": 2.0})))
    await database.query("docs", search("dog"))
    assert len(built) == 3, "scoring takes no other index"
    # merges go by the schema that is folded
    assert await fold(namespace)
    assert await compact(namespace, force=True)
    [segment] = namespace.reader.manifest.segments
    assert segment.file("text.x") is not None
    built.clear()
    await database.query("docs", search("dog"))
    assert built == []
    await database.close()


async def test_a_late_index_that_nobody_waits_for_any_more_is_kept_where_it_may_be_evicted(tmp_path):
    database = await filled(MemoryStore(), tmp_path / "a", {"x": said("string")})
    namespace, compute = await database.namespace("docs"), HeldCompute()
    await database.write("docs", change(x=said("string", full_text=True)))
    schema, part = namespace.view.schema, namespace.view.segments[0].part
    part._compute = compute
    seen = part.under(schema)
    waiting = [asyncio.create_task(drive(seen.text("x"), compute, inline=True)) for _ in range(2)]
    while not compute.waits:
        await asyncio.sleep(0)
    [building] = part._building.values()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    compute.may_run.set()
    await building._task
    assert seen.looked_at().texts == {"x"}
    del building, waiting, task
    gc.collect()
    assert not part._building
    await drive(seen.text("x"), compute, inline=True)
    assert compute.runs == 1
    await database.close()


async def test_a_query_that_ends_before_its_late_index_is_begun_leaves_nothing(tmp_path):
    database = await filled(MemoryStore(), tmp_path / "a", {"x": said("string")})
    namespace = await database.namespace("docs")
    await database.write("docs", change(x=said("string", full_text=True)))
    part = namespace.view.segments[0].part
    steps = part.under(namespace.view.schema).text("x")
    while not part._building:
        await bring(next(steps))
    steps.close()
    gc.collect()
    assert not part._building
    await database.close()


async def test_a_merge_joins_indexes_of_its_analysis_and_makes_the_others_anew(tmp_path, monkeypatch):
    database = await filled(MemoryStore(), tmp_path / "a", {"x": said("string", full_text=True)})
    namespace = await database.namespace("docs")
    await database.write("docs", change(x=said("string", full_text={"stemming": True})))
    await fold(namespace)
    expected, analysed = await answers(database), []
    monkeypatch.setattr(
        text_build,
        "built",
        lambda texts, settings, _built=text_build.built: (
            analysed.append(len(texts)) or _built(texts, settings)
        ),
    )
    assert await compact(namespace, force=True)
    assert sorted(analysed) == [5, 5], "live rows of the two segments of the other analysis"
    assert await answers(database) == expected
    await database.close()


async def test_an_index_of_a_later_program_is_an_error_and_not_another_answer(tmp_path, monkeypatch):
    store = MemoryStore()
    with monkeypatch.context() as later:
        later.setattr(tokenize, "ANALYSIS_VERSION", 2)
        database = await filled(store, tmp_path / "a", {"x": said("string", full_text=True)})
        await fold(await database.namespace("docs"))
        assert (await database.query("docs", search("dog"))).hits
        await database.close()
    database = await open_database(store, cache_path=tmp_path / "b")
    with pytest.raises(UnknownAnalysis, match="which this program lacks"):
        await database.query("docs", search("dog"))
    assert (await database.query("docs", ALL)).hits
    await database.close()


async def test_filters_take_options_that_were_switched_on_later(tmp_path):
    options = {"filterable": False}
    database = await filled(MemoryStore(), tmp_path / "a", {"x": said("string", **options)})
    conditions = [Compare("x", Op.EQ, "dog"), Glob("x", "*dog*"), Regex("x", "^a dog")]
    for condition in conditions:
        with pytest.raises(InvalidRequest):
            await database.query("docs", Query(filter=condition, order_by=(OrderKey("id"),)))
    await database.write("docs", change(x=said("string", filterable=True, regex=True, glob=True)))
    found = []
    for condition in conditions:
        query = Query(filter=condition, order_by=(OrderKey("id"),), top_k=50)
        found.append([hit.id for hit in (await database.query("docs", query)).hits])
    assert found == [[5, 15, 25], [0, 1, 5, 11, 12, 15, 21, 22, 25], [1, 11, 21]]
    await database.close()


async def test_old_values_of_a_dropped_name_never_come_back(tmp_path):
    store = MemoryStore()
    database = await filled(store, tmp_path / "a", {"x": said("string", full_text=True)})
    old = (await database.query("docs", ALL)).hits
    before = await (await database.namespace("docs")).view.snapshot()
    await database.write("docs", change(x=None, n=None))
    for is_folded in (False, True):
        await database.write("docs", change(x=said("int"), n=said("[]string")))
        hits = (await database.query("docs", ALL)).hits
        assert [hit.id for hit in hits] == [hit.id for hit in old]
        assert all(hit.attributes.keys() <= {"id"} for hit in hits)
        await database.write("docs", WriteRequest(upserts=[Document(99, {"x": 7, "n": ["a"]})]))
        [hit] = (
            await database.query("docs", Query(filter=Compare("x", Op.EQ, 7), order_by=(OrderKey("id"),)))
        ).hits
        assert hit.attributes == {"x": 7, "n": ["a"]}
        namespace = await database.namespace("docs")
        await fold(namespace)
        if is_folded:
            assert await compact(namespace, force=True)
            [segment] = namespace.reader.manifest.segments
            assert len([file for file in segment.files if file.part.startswith(("attr", "text"))]) == 2
        assert (await database.documents("docs", [99]))[0].attributes == {"x": 7, "n": ["a"]}
        report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
        assert report.problems == []
        await database.write("docs", change(x=None, n=None))
        await database.write("docs", WriteRequest(deletes=[99]))
    # a query that began before sees what was there then
    seen = await execute(before, ALL, InlineCompute(), lambda _: Effort())
    assert [hit.attributes for hit in seen.hits] == [hit.attributes for hit in old]
    again = await open_database(store, cache_path=tmp_path / "b")
    assert all(hit.attributes.keys() <= {"id"} for hit in (await again.query("docs", ALL)).hits)
    for one in (database, again):
        await one.close()


@pytest.mark.parametrize("count", [3, 50])
async def test_documents_that_waited_behind_a_drop_bring_the_attribute_anew(tmp_path, count):
    database = await filled(MemoryStore(), tmp_path / "a", {"x": said("string")})
    upserts = [Document(100 + i, {"x": "new"}) for i in range(count)]
    await asyncio.gather(
        database.write("docs", change(x=None)), database.write("docs", WriteRequest(upserts=upserts))
    )
    hits = (await database.query("docs", ALL)).hits
    assert [hit.id for hit in hits if "x" in hit.attributes] == [one.id for one in upserts]
    await database.close()


async def test_a_vector_may_come_back_with_other_dimensions(tmp_path):
    database = await open_database(cache_path=tmp_path / "a")
    await database.create("docs", changed(Schema(), SchemaChange({"v": said("[2]f32")}, metric=Metric.L2)))
    rng = np.random.default_rng(1)

    def upserts(first, dimensions):
        vectors = rng.standard_normal((20, dimensions)).astype(np.float32)
        return WriteRequest(upserts=[Document(first + i, {"v": vector}) for i, vector in enumerate(vectors)])

    def nearest(dimensions):
        return Query(legs=(VectorLeg("v", np.zeros(dimensions, np.float32)),), top_k=100)

    await database.write("docs", upserts(0, 2))
    await fold(await database.namespace("docs"))
    await database.write("docs", upserts(20, 2))
    assert len((await database.query("docs", nearest(2))).hits) == 40
    await database.write("docs", change(v=None))
    await database.write("docs", change(v=said("[3]f32")))
    assert (await database.query("docs", nearest(3))).hits == ()
    await database.write("docs", upserts(40, 3))
    assert {hit.id for hit in (await database.query("docs", nearest(3))).hits} == set(range(40, 60))
    namespace = await database.namespace("docs")
    await fold(namespace)
    assert await compact(namespace, force=True)
    assert {hit.id for hit in (await database.query("docs", nearest(3))).hits} == set(range(40, 60))
    assert len((await database.query("docs", ALL)).hits) == 60
    await database.close()
