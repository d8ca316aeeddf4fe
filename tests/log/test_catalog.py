"""Create, delete and list namespaces."""

import asyncio
import random

import pytest
from log_nodes import ManualClock
from support.hooks import HookedStore

from elacsym.errors import InvalidRequest, NamespaceNotFound
from elacsym.format import keys
from elacsym.log import catalog, transitions
from elacsym.log.manifest_file import ManifestFile
from elacsym.store.memory import MemoryStore
from elacsym.types import Metric, Schema


@pytest.fixture
def store():
    return MemoryStore()


async def create(store, name, schema=None, seed=0):
    rng = random.Random(f"{name}{seed}")
    return await catalog.create(store, name, schema or Schema(), clock=ManualClock(), rng=rng)


async def delete(store, name):
    return await catalog.delete(store, name, rng=random.Random(0))


async def test_the_second_creation_finds_the_first(store):
    first = await create(store, "Docs", Schema(metric=Metric.L2))
    second = await create(store, "Docs", Schema(metric=Metric.DOT), seed=1)
    assert (first.is_new, second.is_new) == (True, False)
    assert second.loaded.manifest == first.loaded.manifest
    assert first.loaded.manifest.created_ms > 0


async def test_of_concurrent_creations_one_is_new(store):
    created = await asyncio.gather(*(create(store, "Docs", seed=i) for i in range(8)))
    assert sum(c.is_new for c in created) == 1
    assert len({c.loaded.manifest.inc for c in created}) == 1


async def test_a_deleted_name_is_gone_and_comes_back_as_another_incarnation(store):
    first = await create(store, "Docs")
    tombstone = await delete(store, "Docs")
    assert await catalog.list_names(store) == ([], None)
    with pytest.raises(NamespaceNotFound):
        await delete(store, "Docs")
    again = await create(store, "Docs", seed=1)
    assert again.is_new
    assert again.loaded.manifest.inc != first.loaded.manifest.inc == tombstone.inc
    assert again.loaded.manifest.generation == tombstone.generation + 1
    assert await catalog.list_names(store) == (["Docs"], None)


async def test_deleting_what_never_was_is_not_found(store):
    with pytest.raises(NamespaceNotFound):
        await delete(store, "Docs")
    assert store.objects == {}


@pytest.mark.parametrize("name", ["", "a/b", "x" * 129, "ä"])
async def test_a_bad_name_is_refused_and_nothing_is_stored(store, name):
    with pytest.raises(InvalidRequest) as caught:
        await create(store, name)
    assert caught.value.field == "namespace"
    assert store.objects == {}


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
async def test_pages_list_every_name_once(store, page_size):
    names = ["a", "A", "b.c", "..", "Zz", "zz", "docs-1"]
    for name in names:
        await create(store, name)
    await delete(store, "b.c")
    listed, cursor = await catalog.list_names(store, page_size=page_size)
    while cursor is not None:
        page, cursor = await catalog.list_names(store, page_size=page_size, cursor=cursor)
        assert 0 < len(page) <= page_size
        listed += page
    assert sorted(listed) == sorted(set(names) - {"b.c"})


async def test_a_prefix_minds_case(store):
    for name in ("docs", "Docs", "Docs2", "dog", "other"):
        await create(store, name)
    assert (await catalog.list_names(store, prefix="Do"))[0] == ["Docs", "Docs2"]
    assert sorted((await catalog.list_names(store, prefix="do"))[0]) == ["docs", "dog"]


async def test_a_hint_without_a_namespace_is_not_listed(store):
    await catalog.ensure_listed(store, "ghost")
    await create(store, "Docs")
    assert await catalog.list_names(store) == (["Docs"], None)


async def test_a_missing_hint_is_mended(store):
    await create(store, "Docs")
    await store.delete(keys.name_hint("Docs"))
    assert await catalog.list_names(store) == ([], None)
    await create(store, "Docs", seed=1)
    assert await catalog.list_names(store) == (["Docs"], None)


async def test_a_hint_that_is_removed_while_the_name_is_taken_again_is_there_again(store):
    await create(store, "Docs")
    await delete(store, "Docs")
    hooked = HookedStore(store)

    async def unlist_before_the_swap(operation, key):
        if key == keys.NamespaceKeys("Docs").manifest:
            hooked.hook = None
            await catalog.unlist(store, ManifestFile(store, "Docs", random.Random(1)))

    hooked.hook = unlist_before_the_swap
    assert (await create(hooked, "Docs", seed=1)).is_new
    assert await catalog.list_names(store) == (["Docs"], None)


async def test_an_announced_incarnation_keeps_its_hint(store):
    file = ManifestFile(store, "Docs", random.Random(1))
    await file.swap(
        lambda before: transitions.announce_successor(
            before, name="Docs", inc="1" * 16, nonce="2" * 32, successor="3" * 16
        )
    )
    await catalog.ensure_listed(store, "Docs")
    await catalog.unlist(store, file)
    assert keys.name_hint("Docs") in store.objects


@pytest.mark.parametrize("page_size", [0, 1_001])
async def test_an_absurd_page_size_is_refused(store, page_size):
    with pytest.raises(InvalidRequest) as caught:
        await catalog.list_names(store, page_size=page_size)
    assert caught.value.field == "page_size"


async def test_a_damaged_manifest_does_not_hide_the_other_names(store):
    """One flipped bit in one manifest failed every listing."""
    for name in ("a", "b"):
        await create(store, name)
    key = keys.NamespaceKeys("a").manifest
    found = await store.get(key)
    await store.put_if_match(key, found.data[:-1] + bytes([found.data[-1] ^ 1]), found.etag)
    assert await catalog.list_names(store) == (["a", "b"], None)
