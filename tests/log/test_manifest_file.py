"""Compare-and-swap of the manifest: contention, lost answers, late requests."""

import asyncio
import random
from dataclasses import replace

import pytest
from log_nodes import NAME, Counting, create, new_store

from elacsym.errors import CorruptObject, NamespaceNotFound, StoreUnavailable
from elacsym.format.manifest import Intent
from elacsym.log import transitions
from elacsym.log.manifest_file import ManifestFile
from elacsym.log.settings import LogSettings
from elacsym.store.base import UNCHANGED
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore

FAST = LogSettings(retry_base_s=0.0)


def file_of(store, seed=0):
    return ManifestFile(store, NAME, random.Random(seed), FAST)


def announce(job):
    return lambda m: transitions.add_intent(m, Intent(job, "fold", (), 1, "node"))


def jobs(loaded):
    return [i.job for i in loaded.manifest.intents]


async def test_an_update_raises_the_generation_and_names_the_one_before():
    file = file_of(await new_store())
    before = await file.load()
    after = await file.update(announce("job1"))
    assert after.manifest.generation == before.manifest.generation + 1
    assert after.manifest.previous == before.digest
    assert after.manifest.nonce != before.manifest.nonce
    assert await file.load() == after
    assert await file.load_if_changed(after.etag) is UNCHANGED
    assert await file.load_if_changed(before.etag) == after


async def test_concurrent_updates_all_land():
    store = await new_store()
    files = [file_of(store, seed) for seed in range(12)]
    await asyncio.gather(*(f.update(announce(f"job{i}")) for i, f in enumerate(files)))
    assert sorted(jobs(await files[0].load())) == sorted(f"job{i}" for i in range(12))


async def test_a_swap_whose_answer_is_lost_is_recognised_and_not_repeated():
    counting = Counting(await new_store())
    lossy = FaultyStore(counting, random.Random(0), FaultRates())
    file = file_of(lossy)
    put = counting.put_if_match

    async def lose_answer(key, data, etag):
        await put(key, data, etag)
        counting.put_if_match = put
        raise StoreUnavailable("answer lost")

    counting.put_if_match = lose_answer
    after = await file.update(announce("job1"))
    assert jobs(after) == ["job1"]
    assert counting.sent["put_if_match"] == 1
    assert after.manifest.generation == 1


async def test_a_swap_whose_answer_is_lost_is_recognised_below_the_swap_of_another():
    store = await new_store()
    counting = Counting(store)
    file, other = file_of(counting), file_of(store, 1)
    put = counting.put_if_match

    async def lose_answer(key, data, etag):
        await put(key, data, etag)
        counting.put_if_match = put
        await other.update(lambda m: replace(m, created_ms=5))
        raise StoreUnavailable("answer lost")

    counting.put_if_match = lose_answer
    calls = []

    def transition(manifest):
        calls.append(manifest.generation)
        return replace(manifest, created_ms=manifest.created_ms + 100)

    after = await file.update(transition)
    assert calls == [0]
    assert after.manifest.created_ms == 5


@pytest.mark.parametrize("seed", range(8))
async def test_every_update_is_applied_once_on_a_bad_store(seed):
    store = await new_store()
    faulty = FaultyStore(store, random.Random(seed), FaultRates.rough())
    files = [file_of(faulty, i) for i in range(4)]
    await asyncio.gather(
        *(f.update(announce(f"job{i}")) for i, f in enumerate(files)), return_exceptions=True
    )
    await faulty.deliver_late()
    loaded = await file_of(store).load()
    assert len(set(jobs(loaded))) == len(jobs(loaded)) == loaded.manifest.generation


async def test_a_transition_that_changes_nothing_writes_nothing():
    counting = Counting(await new_store())
    before = await file_of(counting).update(lambda m: m)
    assert before.manifest.generation == 0
    assert counting.sent == {"get": 1}


async def test_a_refusing_transition_is_passed_on_at_once():
    counting = Counting(await new_store())

    def refuse(manifest):
        raise transitions.TransitionRefused("no")

    with pytest.raises(transitions.TransitionRefused):
        await file_of(counting).update(refuse)
    assert counting.sent == {"get": 1}


async def test_an_unused_name_has_no_manifest_to_update():
    file = file_of(MemoryStore())
    assert await file.load() is None
    with pytest.raises(NamespaceNotFound):
        await file.update(announce("job1"))


async def test_a_store_that_stays_down_ends_the_attempts():
    faulty = FaultyStore(await new_store(), random.Random(0))
    faulty.is_down = True
    with pytest.raises(StoreUnavailable, match="no swap in 24 attempts"):
        await file_of(faulty).update(announce("job1"))
    assert faulty.injected["down"] == FAST.swap_attempts


async def test_the_manifest_of_another_namespace_is_damage():
    store = MemoryStore()
    created = await create(store)
    file = ManifestFile(store, "Other", random.Random(0))
    await store.put_if_absent(file.key, created.loaded.manifest.encode())
    with pytest.raises(CorruptObject, match="manifest of namespace 'Docs'"):
        await file.load()
