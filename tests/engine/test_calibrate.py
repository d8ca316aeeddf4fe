"""The calibrator against a database whose recall depends on the effort as the test says."""

import asyncio
import random
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from support.database import schema

from elacsym.engine import calibrate
from elacsym.engine.calibrate import PERIOD_S, Calibrator
from elacsym.engine.tuning import SCALE_MIN, Tuning
from elacsym.errors import NamespaceNotFound, StoreUnavailable
from elacsym.query.ast import Hit, Query, QueryResult, VectorLeg
from elacsym.telemetry import REGISTRY


class Clock:
    now_s = 1000.0

    def monotonic_s(self):
        return self.now_s


class Namespace:
    """One open namespace of 8 dimensions."""

    name = "docs"

    def __init__(self, inc="inc", rows=1_000):
        self.reader = SimpleNamespace(is_open=True, manifest=SimpleNamespace(inc=inc))
        view = SimpleNamespace(rows_live=rows)
        self._snapshot = SimpleNamespace(inc=inc, schema=schema(), parts=[view])
        self.users = 0

    @contextmanager
    def used(self):
        self.users += 1
        yield
        self.users -= 1

    async def snapshot(self, consistency):
        return self._snapshot


class Database:
    """Finds `recall_at(scale)` of ten neighbours."""

    def __init__(self, recall_at, *, way="codes", namespace=None):
        self.services = SimpleNamespace(tuning=Tuning(random.Random(1)), clock=Clock())
        self.namespace = namespace or Namespace()
        self.recall_at, self.way = recall_at, way
        self.queries = []
        self._debt = 0.0

    @property
    def scale(self):
        return self.services.tuning.effort("inc", "vector").scale

    def opened(self):
        return [self.namespace]

    async def query(self, name, query):
        assert name == "docs"
        assert self.namespace.users
        self.services.tuning.observe(name, "inc", query)
        self.queries.append(query)
        recall = 1.0 if query.exact or query.explain else self.recall_at(self.scale)
        hits = tuple(Hit(n, 99.0 if self._misses(1 - recall) else float(n), {}) for n in range(10))
        plan = {"legs": [{"parts": [{"way": "scan"}, {"way": self.way}]}]} if query.explain else None
        return QueryResult(hits, plan=plan)

    def _misses(self, share):
        """Whether the next row is missed, spread evenly."""
        self._debt += share
        is_missed = self._debt > 1
        self._debt -= is_missed
        return is_missed


def asked(database, count=64):
    for n in range(count):
        vector = np.full(8, n, np.float32)
        database.services.tuning.observe("docs", "inc", Query(legs=(VectorLeg("vector", vector),)))
    return database


def later(database):
    """Another query, when the attribute is due again."""
    database.services.clock.now_s += PERIOD_S
    asked(database, 1)


def outcomes():
    return {
        name: REGISTRY.get_sample_value("elacsym_calibrations_total", {"outcome": name}) or 0
        for name in ("kept", "raised", "lowered", "exact", "too_large", "failed")
    }


async def rounds(database, count):
    before = outcomes()
    calibrator = Calibrator(database)
    for _ in range(count):
        await calibrator.run_once()
    return {name: n - before[name] for name, n in outcomes().items() if n != before[name]}


async def test_an_effort_is_raised_until_recall_is_good_enough():
    database = asked(Database(lambda scale: 0.9 if scale < 2.5 else 0.99))
    found = await rounds(database, 60)
    assert found["raised"] == 2
    assert database.scale == pytest.approx(1.6**2)


async def test_an_effort_is_lowered_where_recall_is_perfect_without_it():
    database = asked(Database(lambda scale: 1.0))
    await rounds(database, 130)
    assert database.scale == SCALE_MIN


async def test_an_effort_that_was_too_low_is_not_tried_again_soon():
    database = asked(Database(lambda scale: 1.0 if scale >= 0.7 else 0.9))
    await rounds(database, 400)
    assert 0.7 <= database.scale < 0.8
    for _ in range(3):
        later(database)
        assert await rounds(database, 20) == {"kept": 1}


async def test_far_too_low_recall_is_answered_after_a_few_queries_and_a_small_lack_after_many():
    bad = asked(Database(lambda scale: 0.5))
    await rounds(bad, 2)
    assert bad.scale > 1
    poor = asked(Database(lambda scale: 0.97))
    await rounds(poor, 15)
    assert poor.scale == 1
    await rounds(poor, 1)
    assert poor.scale == 1.25


async def test_good_recall_is_left_alone_for_a_while_and_looked_at_again():
    database = asked(Database(lambda scale: 0.99))
    assert await rounds(database, 16) == {"kept": 1}
    asked_so_far = len(database.queries)
    assert await rounds(database, 3) == {}
    assert len(database.queries) == asked_so_far
    later(database)
    await rounds(database, 1)
    assert len(database.queries) > asked_so_far


async def test_what_nobody_asks_any_more_is_not_looked_at_again():
    database = asked(Database(lambda scale: 0.99))
    await rounds(database, 16)
    database.services.clock.now_s += 100 * PERIOD_S
    assert await rounds(database, 10) == {}


async def test_every_sampled_query_is_compared_once_and_none_of_it_is_sampled():
    database = asked(Database(lambda scale: 0.99), 20)
    before = [v.tolist() for v in database.services.tuning.recent("inc", "vector")]
    await rounds(database, 5)
    compared = [q.legs[0].vector.tolist() for q in database.queries if q.exact]
    assert sorted(compared) == sorted(before)
    assert [v.tolist() for v in database.services.tuning.recent("inc", "vector")] == before


async def test_where_no_index_can_miss_anything_nothing_is_compared():
    database = asked(Database(lambda scale: 1.0, way="gather"))
    assert await rounds(database, 3) == {"exact": 1}
    assert not any(q.exact for q in database.queries)
    assert database.scale == 1


async def test_exact_search_over_too_many_bytes_is_not_begun():
    rows = calibrate.EXACT_BYTES_MAX // 32 + 1
    database = asked(Database(lambda scale: 0.5, namespace=Namespace(rows=rows)))
    assert await rounds(database, 3) == {"too_large": 1}
    assert database.queries == []


async def test_few_queries_and_closed_namespaces_are_left_alone():
    few = asked(Database(lambda scale: 0.5), 15)
    closed = asked(Database(lambda scale: 0.5, namespace=Namespace(inc="another")))
    assert await rounds(few, 3) == {}
    assert await rounds(closed, 3) == {}
    assert few.queries == closed.queries == []


async def test_a_failure_is_counted_and_tried_again_later():
    database = asked(Database(lambda scale: 0.5))

    async def fail(name, query):
        raise StoreUnavailable("gone")

    working, database.query = database.query, fail
    assert await rounds(database, 3) == {"failed": 1}
    database.query = working
    later(database)
    await rounds(database, 2)
    assert database.scale > 1


async def test_a_namespace_that_is_gone_is_forgotten():
    database = asked(Database(lambda scale: 0.5))

    async def gone(name, query):
        raise NamespaceNotFound(name)

    database.query = gone
    assert await rounds(database, 3) == {}
    assert database.services.tuning.size_bytes == 0


async def test_the_loop_rests_for_its_share_and_stops(monkeypatch):
    rests = []
    sleep = asyncio.sleep

    async def noted(seconds):
        rests.append(seconds)
        await sleep(0 if len(rests) < 20 else 3600)

    database = asked(Database(lambda scale: 0.99))
    answer = database.query

    async def slow(name, query):
        await sleep(0.005)
        return await answer(name, query)

    database.query = slow
    # the module's own name for it: servers of other tests sleep, too
    replaced = SimpleNamespace(sleep=noted, create_task=asyncio.create_task, gather=asyncio.gather)
    monkeypatch.setattr(calibrate, "asyncio", replaced)
    monkeypatch.setattr(calibrate, "_busyness", lambda cores: lambda: False)
    calibrator = Calibrator(database, cpu_share=0.01)
    calibrator.start()
    while len(rests) < 20:
        await sleep(0.01)
    await calibrator.stop()
    assert max(rests) >= 9 * 0.005 / 0.01
    assert min(rests) > 0
    calls = len(database.queries)
    await sleep(0.02)
    assert len(database.queries) == calls


async def test_a_busy_process_is_not_kept_busier(monkeypatch):
    now = {"cpu": 0.0, "wall": 0.0}
    clocks = SimpleNamespace(process_time=lambda: now["cpu"], monotonic=lambda: now["wall"])
    monkeypatch.setattr(calibrate, "time", clocks)
    is_busy = calibrate._busyness(cores=2)
    for cpu, expected in ((0.1, False), (1.5, True), (2.0, True), (0.9, False)):
        now["cpu"] += cpu
        now["wall"] += 1.0
        assert is_busy() is expected
