"""Branches and copies: both keep the documents of that moment and go separate ways; no data is copied."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support.branches import RNG, Branches
from support.database import document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.engine.request import OptionsChange, SchemaChange, WriteRequest
from elacsym.errors import InvalidRequest, NamespaceNotFound
from elacsym.format.keys import NamespaceKeys, dropped_hint
from elacsym.query.ast import Query, TextLeg, VectorLeg
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.types import Options, Schema


@pytest.fixture
async def world(tmp_path):
    database = await open_database(HookedStore(MemoryStore()), cache_path=tmp_path / "cache")
    made = Branches(database, database.services.store, tmp_path)
    await database.create("source", schema())
    yield made
    await made.close()


async def test_both_sides_keep_what_was_there_and_go_separate_ways(world):
    await world.put("source", 1, 2, 3)
    await world.fold("source")
    await world.put("source", 4)
    await world.delete("source", 1)
    assert await world.database.branch("source", "branch") == 3
    await world.put("source", 5)
    await world.delete("branch", 2)
    await world.put("branch", 6)
    assert await world.ids("source") == [2, 3, 4, 5]
    assert await world.ids("branch") == [3, 4, 6]
    await world.assert_sound("branch", [3, 4, 6])
    for name in ("branch", "source"):
        await world.fold(name)
        await world.merge(name)
    await world.collect("source", "branch")
    await world.assert_sound("source", [2, 3, 4, 5])
    await world.assert_sound("branch", [3, 4, 6])


async def test_a_branch_has_whole_queries_from_its_first_moment(world):
    await world.put("source", *range(20))
    await world.fold("source")
    await world.put("source", *range(20, 30))
    await world.database.branch("source", "branch")
    vector = VectorLeg("vector", np.ones(8, np.float32))
    for query in (
        Query(legs=(vector,), top_k=7),
        Query(legs=(TextLeg((("text", 1.0),), "copper kettle"),), top_k=7),
    ):
        source, made = [(await world.database.query(n, query)).hits for n in ("source", "branch")]
        assert source == made
        assert source


@pytest.mark.parametrize("is_folded", [False, True])
@pytest.mark.parametrize("is_copy", [False, True])
async def test_deleting_the_source_leaves_the_other_intact_and_its_name_can_be_used_again(
    world, is_copy, is_folded
):
    await world.put("source", 1, 2)
    if is_folded:
        await world.fold("source")
    await world.put("source", 3)
    assert await world.database.branch("source", "other", is_copy=is_copy) == 3
    await world.database.delete("source")
    await world.collect("source", "other")
    await world.assert_sound("other", [1, 2, 3])
    await world.database.create("source", schema())
    await world.put("source", 9)
    await world.fold("source")
    await world.collect("source", "other")
    await world.assert_sound("other", [1, 2, 3])
    await world.assert_sound("source", [9])
    # what nobody needs any more goes, also that of the first incarnation
    await world.fold("other")
    await world.merge("other")
    await world.collect("source", "other")
    await world.assert_sound("other", [1, 2, 3])
    source = await world.manifest("source")
    assert source.pins == ()
    assert all(source.inc in key or key.endswith("/manifest") for key in await world.keys("source"))


async def test_a_branch_of_a_branch_outlives_both(world):
    await world.put("source", 1, 2)
    await world.fold("source")
    await world.put("source", 3)
    await world.database.branch("source", "middle")
    await world.put("middle", 4)
    await world.delete("middle", 1)
    await world.database.branch("middle", "last")
    await world.put("last", 5)
    manifest = await world.manifest("last")
    assert [base.home.name for base in manifest.bases] == ["source", "middle"]
    assert {segment.home.name for segment in manifest.segments} == {"source"}
    for name in ("source", "middle"):
        await world.database.delete(name)
        await world.collect("source", "middle", "last")
        await world.assert_sound("last", [2, 3, 4, 5])
    await world.fold("last")
    await world.collect("last", "middle", "source")
    await world.assert_sound("last", [2, 3, 4, 5])
    assert not [key for name in ("source", "middle") for key in await world.keys(name) if "/wal/" in key]
    await world.database.delete("last")
    await world.collect("last", "middle", "source")
    left = [key for name in ("source", "middle", "last") for key in await world.keys(name)]
    assert [key.rpartition("/")[2] for key in left] == ["manifest"] * 3


async def test_deletions_of_the_source_before_the_branch_are_shared_and_those_after_it_are_not(world):
    await world.put("source", *range(10))
    await world.fold("source")
    await world.delete("source", 0, 1)
    await world.fold("source")
    await world.database.branch("source", "branch")
    bitmap = (await world.manifest("branch")).segments[0].deletes
    assert bitmap.home == (await world.manifest("source")).home
    await world.delete("source", 2)
    await world.delete("branch", 3)
    for name in ("source", "branch"):
        await world.fold(name)
    await world.collect("source", "branch")
    assert (await world.manifest("branch")).segments[0].deletes.home is None
    await world.assert_sound("source", [3, *range(4, 10)])
    await world.assert_sound("branch", [2, *range(4, 10)])


async def test_no_data_is_copied_and_few_objects_are_written(world):
    await world.put("source", *range(50))
    await world.fold("source")
    await world.put("source", 50)
    before = {info.key async for info in world.store.list("")}
    written = Counter()

    async def count(operation, key):
        written[operation] += 1

    world.store.hook = count
    await world.database.branch("source", "branch")
    world.store.hook = None
    after = {info.key async for info in world.store.list("")}
    assert after - before == {NamespaceKeys("branch").manifest, "names/branch", dropped_hint("source")}
    assert written.total() <= 5
    await world.database.branch("branch", "deep")
    await world.database.branch("deep", "deeper")
    await world.assert_sound("deeper", range(51))


async def test_a_branch_inherits_the_schema_and_being_read_only_and_remembers_its_parent(world):
    await world.put("source", 1)
    namespace = await world.database.namespace("source")
    options = OptionsChange(read_only=True, replicas=2)
    await world.database.write("source", WriteRequest(change=SchemaChange(options=options)))
    for _ in range(2):
        for name, is_copy, expected in (
            ("branch", False, Options(read_only=True, parent="source")),
            ("copy", True, Options(shards=3)),
        ):
            await world.database.branch("source", name, is_copy=is_copy, shards=3 if is_copy else None)
            made = await world.database.info(name)
            assert made.schema.options == expected
            await world.fold(name)
            assert (await world.database.info(name)).schema.options == expected
            assert dict(made.schema.attributes) == dict(namespace.view.schema.attributes)
            await world.database.delete(name)
        # once with the change in the log, once with it in the manifest
        await world.fold("source")


async def test_a_sharded_namespace_can_be_copied_but_not_branched(world):
    await world.database.create("sharded", Schema())
    await world.database.write("sharded", WriteRequest(change=SchemaChange(options=OptionsChange(shards=2))))
    with pytest.raises(InvalidRequest, match="branch_from_namespace: namespace 'sharded' is sharded"):
        await world.database.branch("sharded", "branch")
    assert await world.manifest("branch") is None
    assert await world.database.branch("sharded", "copy", is_copy=True) == 0
    assert (await world.database.info("copy")).schema.options == Options()


async def test_a_write_with_a_key_that_the_source_knows_is_a_new_write_in_the_branch(world):
    for is_folded in (False, True):
        key = f"key-{is_folded}"
        first = upsert(document(1, RNG))
        await world.database.write("source", first, idempotency_key=key)
        if is_folded:
            await world.fold("source")
        name = f"branch-{is_folded}"
        await world.database.branch("source", name)
        await world.database.write(name, upsert(document(2, RNG)), idempotency_key=key)
        assert await world.ids(name) == [1, 2]
        await world.fold(name)
        assert {k.key for k in (await world.manifest(name)).keys} == {key}
        await world.database.write(name, upsert(document(3, RNG)), idempotency_key=key)
        assert await world.ids(name) == [1, 2]


@pytest.mark.parametrize("is_copy", [False, True])
async def test_what_cannot_be_made_is_refused_and_changes_nothing(world, is_copy):
    await world.put("source", 1)
    await world.database.create("taken", schema())
    await world.put("taken", 7)
    before = [(info.key, info.size_bytes) async for info in world.store.list("")]
    with pytest.raises(NamespaceNotFound):
        await world.database.branch("missing", "new", is_copy=is_copy)
    for name, reason in (
        ("taken", "has 1 documents" if is_copy else "exists already"),
        ("source", "cannot be made of itself"),
        ("a/b", "is no name"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            await world.database.branch("source", name, is_copy=is_copy)
    assert [(info.key, info.size_bytes) async for info in world.store.list("")] == before


async def test_a_copy_takes_the_place_of_a_namespace_without_documents(world):
    await world.put("source", 1, 2)
    await world.database.create("target", schema())
    with pytest.raises(InvalidRequest, match="exists already"):
        await world.database.branch("source", "target")
    await world.put("target", 5)
    await world.delete("target", 5)
    assert await world.database.branch("source", "target", is_copy=True) == 2
    await world.put("target", 3)
    await world.collect("source", "target")
    await world.assert_sound("target", [1, 2, 3])
    assert (await world.database.info("target")).schema.options.parent is None


async def test_a_locked_namespace_is_not_replaced_by_a_copy(world):
    await world.put("source", 1)
    await world.database.create("target", schema())
    change = SchemaChange(options=OptionsChange(read_only=True))
    await world.database.write("target", WriteRequest(change=change))
    with pytest.raises(InvalidRequest, match="read-only"):
        await world.database.branch("source", "target", is_copy=True)


@pytest.mark.parametrize("kind", ["folder", "s3"])
async def test_branches_in_a_real_store(kind, tmp_path, request):
    if kind == "folder":
        store = LocalStore(tmp_path / "data")
    else:
        store = request.getfixturevalue("moto_server").store("branches/")
    database = await open_database(store, cache_path=tmp_path / "cache")
    world = Branches(database, store, tmp_path)
    await database.create("source", schema())
    await world.put("source", *range(30))
    await world.fold("source")
    await world.put("source", 30)
    assert await database.branch("source", "branch") == 31
    await world.delete("branch", 0)
    await database.delete("source")
    await world.collect("source", "branch")
    await world.assert_sound("branch", range(1, 31))
    await world.fold("branch")
    await world.merge("branch")
    await world.collect("branch", "source")
    await world.assert_sound("branch", range(1, 31))
    assert [key.rpartition("/")[2] for key in await world.keys("source")] == ["manifest"]
    await world.close()
    await store.close()
