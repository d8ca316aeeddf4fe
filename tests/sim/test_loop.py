"""The simulator's own event loop."""

import asyncio
import random

import pytest
from sim_loop import NODE, SimLoop


def run(seed, main):
    loop = SimLoop(random.Random(seed))
    result = loop.run_until_done(loop.spawn("main", main(loop)))
    loop.drain()
    return result


def test_time_jumps_to_the_next_timer():
    async def main(loop):
        await asyncio.sleep(3600.0)
        return loop.time()

    assert run(0, main) == 3600.0


def test_the_order_of_ready_tasks_is_a_function_of_the_seed():
    async def main(loop):
        order = []

        async def note(i):
            await asyncio.sleep(0)
            order.append(i)

        await asyncio.gather(*(note(i) for i in range(20)))
        return tuple(order)

    orders = {seed: run(seed, main) for seed in range(5)}
    assert orders == {seed: run(seed, main) for seed in range(5)}
    assert len(set(orders.values())) == 5


def test_a_paused_node_stands_still_while_others_go_on():
    async def main(loop):
        woken = {}

        async def wake():
            await asyncio.sleep(1.0)
            woken[NODE.get()] = loop.time()

        tasks = [loop.spawn(node, wake()) for node in ("paused", "other")]
        await asyncio.sleep(0.5)
        loop.pause("paused", 5.0)
        await asyncio.gather(*tasks)
        return woken

    assert run(0, main) == {"other": 1.0, "paused": 5.5}


def test_killing_a_node_ends_the_tasks_that_its_tasks_started():
    async def main(loop):
        ended = []

        async def child():
            try:
                await asyncio.sleep(10.0)
            finally:
                ended.append("child")

        async def parent():
            loop.create_task(child())
            await asyncio.sleep(10.0)

        loop.spawn("node", parent())
        await asyncio.sleep(1.0)
        loop.kill("node")
        await asyncio.sleep(0.1)
        return ended

    assert run(0, main) == ["child"]


def test_waiting_for_ever_is_reported():
    async def main(loop):
        await loop.create_future()

    loop = SimLoop(random.Random(0))
    with pytest.raises(AssertionError, match="deadlock"):
        loop.run_until_done(loop.spawn("main", main(loop)))
    loop.drain()
