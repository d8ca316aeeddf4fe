"""Folds and merges beside each other, in build processes, over folders and other stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from support.database import FAST, document, open_database, schema, upsert
from support.hooks import HookedStore

from elacsym.clock import SystemClock
from elacsym.compute import InlineCompute, ThreadCompute
from elacsym.engine.build import BuildFailed
from elacsym.engine.build_process import ProcessBuilder
from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.query.ast import OrderKey, Query
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub
from elacsym.upkeep.supervisor import Upkeep

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)


async def _ids(database):
    return [hit.id for hit in (await database.query("docs", ALL)).hits]


async def _problems(database):
    store = database.services.store
    report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
    return report.problems


async def _segments(database, count, rows=10):
    rng = np.random.default_rng(1)
    await database.create("docs", schema())
    namespace = await database.namespace("docs")
    for start in range(0, count * rows, rows):
        await database.write("docs", upsert(*(document(i, rng) for i in range(start, start + rows))))
        await fold(namespace)
    return namespace


class Clock(SystemClock):
    """A clock that stands still."""

    now_s = 1000.0

    def monotonic_s(self):
        return self.now_s


def _with_builder(database, builder):
    database.services = replace(database.services, builder=builder)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
async def test_deletes_are_replayed_onto_what_a_process_merged(tmp_path, kind):
    inner = LocalStore(tmp_path / "store") if kind == "folder" else MemoryStore()
    store = HookedStore(inner)
    compute = ThreadCompute(2)
    builder = ProcessBuilder(compute, tmp_path / "cache" / "build", processes=1, inline_bytes_max=-1)
    database = await open_database(store, cache_path=tmp_path / "cache")
    _with_builder(database, builder)
    other = await open_database(inner, cache_path=tmp_path / "b", seed=2)
    namespace = await _segments(database, 4)
    replaced = document(7, np.random.default_rng(9))

    async def meddle(operation, key):
        if operation == "put_if_absent" and key.endswith("rows.parquet"):
            store.hook = None
            await other.write("docs", WriteRequest(deletes=[3, 14, 39]))
            await other.write("docs", upsert(replaced))
            await fold(await other.namespace("docs"))

    store.hook = meddle
    assert await compact(namespace, force=True)
    merged = namespace.reader.manifest.segments[0]
    assert (merged.rows, merged.rows_live) == (40, 36)
    assert await _ids(database) == [i for i in range(40) if i not in (3, 14, 39)]
    (hit,) = await database.documents("docs", [7])
    assert hit.attributes["text"] == replaced.attributes["text"]
    assert await _problems(database) == []
    await database.close()
    await other.close()
    await builder.close()
    await inner.close()
    compute.close()


async def test_a_fold_does_not_wait_for_a_merge_of_its_namespace(tmp_path):
    """A merge of minutes held up every fold, until writes were refused."""
    store = HookedStore(MemoryStore())
    database = await open_database(store, cache_path=tmp_path)
    namespace = await _segments(database, 4)
    await database.write("docs", WriteRequest(deletes=[5]))
    is_merging, may_go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation, key):
        if key.endswith("rows.parquet") and not is_merging.is_set():
            is_merging.set()
            await may_go_on.wait()

    store.hook = hold
    merge = asyncio.create_task(compact(namespace, force=True))
    await is_merging.wait()
    await database.write("docs", upsert(document(100, np.random.default_rng(3))))
    assert await fold(namespace)
    assert len(namespace.reader.manifest.segments) == 5
    may_go_on.set()
    assert await merge
    assert len(namespace.reader.manifest.segments) == 2
    assert await _ids(database) == [i for i in range(40) if i != 5] + [100]
    assert await _problems(database) == []
    await database.close()


async def test_upkeep_folds_and_then_merges_what_is_due(tmp_path):
    database = await open_database(cache_path=tmp_path, settings=replace(FAST, fold_age_s=0.0))
    rng = np.random.default_rng(1)
    await database.create("docs", schema())
    upkeep = Upkeep(database)
    for number in range(4):
        await database.write("docs", upsert(*(document(i, rng) for i in range(5 * number, 5 * number + 5))))
        await upkeep.run_once()
    manifest = (await database.namespace("docs")).reader.manifest
    # the fourth fold makes the merge worth while, in the same round
    assert [segment.level for segment in manifest.segments] == [1]
    assert await _ids(database) == list(range(20))
    await database.close()


async def test_a_job_that_fails_is_tried_again_later_each_time(tmp_path):
    class Broken:
        processes = 1
        builds = 0

        async def build(self, plan):
            self.builds += 1
            raise BuildFailed("the process was killed")

        async def close(self):
            pass

    clock, broken = Clock(), Broken()
    database = await open_database(
        cache_path=tmp_path, clock=clock, settings=replace(FAST, fold_age_s=0.0, namespace_idle_s=1e9)
    )
    _with_builder(database, broken)
    await database.create("docs", schema())
    await database.write("docs", upsert(document(1, np.random.default_rng(1))))
    upkeep = Upkeep(database, period_s=1.0)
    for _ in range(130):
        await upkeep.run_once()
        clock.now_s += 1.0
    # at 0, 1, 3, 7, 15, 31 and 63 seconds, and every minute from then on
    assert broken.builds == 8
    assert await _ids(database) == [1]
    await database.close()
