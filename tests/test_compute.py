import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from elacsym.compute import ThreadCompute, in_thread


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
    monkeypatch.setattr("elacsym.compute.BULK_WAIT_S_MAX", 60.0)
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
    monkeypatch.setattr("elacsym.compute.BULK_WAIT_S_MAX", 60.0)
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
