import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from elacsym import compute as compute_module
from elacsym.compute import ThreadCompute, give_way, in_thread


async def test_work_runs_in_a_thread_and_its_result_comes_back():
    with ThreadPoolExecutor(1) as pool:
        assert await in_thread(pool, threading.get_ident) != threading.get_ident()


async def test_an_exception_reaches_the_caller_as_it_was_raised():
    def fail():
        raise KeyError("no")

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyError, match="no"):
        await in_thread(pool, fail)


async def test_work_whose_caller_gave_up_before_it_began_is_not_done():
    release, done = threading.Event(), []
    with ThreadPoolExecutor(1) as pool:
        first = asyncio.create_task(in_thread(pool, release.wait))
        second = asyncio.create_task(in_thread(pool, lambda: done.append(True)))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        release.set()
        assert await first
    assert done == []


async def test_a_caller_that_gives_up_meanwhile_disturbs_nobody():
    begun, release = threading.Event(), threading.Event()

    def work():
        begun.set()
        release.wait()

    compute = ThreadCompute(1)
    task = asyncio.create_task(compute.run(work))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert await compute.run(lambda: 1) == 1
    compute.close()


async def test_closing_refuses_new_work():
    compute = ThreadCompute(1)
    compute.close()
    with pytest.raises(RuntimeError):
        await compute.run(lambda: 1)


async def test_work_that_the_pool_forgets_when_it_is_closed_is_cancelled():
    release = threading.Event()
    pool = ThreadPoolExecutor(1)
    running = asyncio.create_task(in_thread(pool, release.wait))
    waiting = asyncio.create_task(in_thread(pool, lambda: 1))
    await asyncio.sleep(0.01)
    pool.shutdown(wait=False, cancel_futures=True)
    release.set()
    assert await running
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_bulk_work_does_not_stand_in_the_way_of_other_work():
    release = threading.Event()
    compute = ThreadCompute(1)
    bulk = [asyncio.create_task(compute.bulk.run(release.wait)) for _ in range(3)]
    assert await compute.run(lambda: "through") == "through"
    release.set()
    assert await asyncio.gather(*bulk) == [True] * 3
    compute.close()


async def test_bulk_work_begins_when_no_other_work_runs(monkeypatch):
    monkeypatch.setattr("elacsym.compute.BULK_WAIT_S", 60.0)
    begun, release, order = threading.Event(), threading.Event(), []

    def query():
        begun.set()
        release.wait()
        order.append("query")

    compute = ThreadCompute(2)
    running = asyncio.create_task(compute.run(query))
    await until(begun.is_set)
    bulk = asyncio.create_task(compute.bulk.run(order.append, "bulk"))
    await asyncio.sleep(0.05)
    assert order == []
    release.set()
    await asyncio.gather(running, bulk)
    assert order == ["query", "bulk"]
    compute.close()


async def test_bulk_work_waits_no_longer_than_a_moment():
    release = threading.Event()
    compute = ThreadCompute(2)
    running = asyncio.create_task(compute.run(release.wait))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        assert await compute.bulk.run(lambda: "not starved") == "not starved"
    assert not running.done()
    release.set()
    await running
    compute.close()


async def test_bulk_work_goes_on_after_work_whose_caller_gave_up(monkeypatch):
    monkeypatch.setattr("elacsym.compute.BULK_WAIT_S", 60.0)
    release = threading.Event()
    compute = ThreadCompute(2)
    running = asyncio.create_task(compute.run(release.wait))
    await asyncio.sleep(0)
    bulk = asyncio.create_task(compute.bulk.run(lambda: 1))
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(10):
        assert await bulk == 1
    release.set()
    compute.close()


class Query:
    """Work in the pool that runs until `release` is set."""

    def __init__(self, compute):
        self.begun, self.release = threading.Event(), threading.Event()
        self.task = asyncio.create_task(compute.run(self.work))

    def work(self):
        self.begun.set()
        self.release.wait()


async def test_bulk_work_gives_way_to_a_query_that_comes_meanwhile(monkeypatch):
    monkeypatch.setattr(compute_module, "_BULK_WAIT_SHARE", 60_000.0)
    first, second, steps = threading.Event(), threading.Event(), []

    def bulk():
        first.set()
        second.wait()
        steps.append("gives way")
        give_way()
        steps.append("goes on")

    compute = ThreadCompute(2)
    task = asyncio.create_task(compute.bulk.run(bulk))
    await until(first.is_set)
    query = Query(compute)
    await until(query.begun.is_set)
    second.set()
    await until(lambda: steps)
    await asyncio.sleep(0.05)
    assert steps == ["gives way"]
    query.release.set()
    await asyncio.gather(task, query.task)
    assert steps == ["gives way", "goes on"]
    compute.close()


async def test_bulk_work_begins_when_nothing_is_ahead_on_the_loop_either(monkeypatch):
    monkeypatch.setattr(compute_module, "BULK_WAIT_S", 60.0)
    compute = ThreadCompute(2)
    with compute.ahead():
        bulk = asyncio.create_task(compute.bulk.run(lambda: "done"))
        with compute.ahead():
            assert await compute.run(lambda: "through") == "through"
        await asyncio.sleep(0.05)
        assert not bulk.done()
    async with asyncio.timeout(10):
        assert await bulk == "done"
    compute.close()


class Clock:
    """The time of waits that take as long as they may, as they do where queries overlap."""

    def __init__(self, monkeypatch):
        self.now_s, self.waits_s = 0.0, []
        monkeypatch.setattr(compute_module, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def wait(self, left_s):
        self.waits_s.append(left_s)
        self.now_s += left_s


@pytest.fixture
def never_quiet(monkeypatch):
    """A pool in which queries overlap for ever, and its clock."""
    compute = ThreadCompute(1)
    with compute.ahead():
        clock = Clock(monkeypatch)
        monkeypatch.setattr(compute._is_quiet, "wait", clock.wait)
        yield compute, clock
    compute.close()


async def test_a_short_piece_of_bulk_work_waits_little_however_often_it_gives_way(never_quiet):
    compute, clock = never_quiet
    await compute.bulk.run(lambda: [give_way() for _ in range(100)])
    assert clock.now_s <= 0.003


async def test_a_long_piece_of_bulk_work_waits_for_a_share_of_its_time(never_quiet):
    compute, clock = never_quiet

    def work():
        for _ in range(1_000):
            clock.now_s += 0.001
            give_way()

    await compute.bulk.run(work)
    assert 0.2 < sum(clock.waits_s) < 0.3
    assert max(clock.waits_s) < 0.003


async def test_pieces_of_bulk_work_that_stand_in_line_wait_at_the_same_time(never_quiet):
    compute, clock = never_quiet
    begun, release = threading.Event(), threading.Event()

    def first():
        begun.set()
        release.wait()

    running = asyncio.create_task(compute.bulk.run(first))
    await until(begun.is_set)
    waiting = asyncio.gather(*(compute.bulk.run(give_way) for _ in range(100)))
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(running, waiting)
    assert 0.0 < clock.now_s <= 0.005


async def test_nothing_but_bulk_work_gives_way(monkeypatch):
    monkeypatch.setattr(compute_module, "BULK_WAIT_S", 60.0)
    compute = ThreadCompute(2)
    query = Query(compute)
    await until(query.begun.is_set)
    give_way()
    async with asyncio.timeout(10):
        await compute.run(give_way)
    query.release.set()
    await query.task
    compute.close()
