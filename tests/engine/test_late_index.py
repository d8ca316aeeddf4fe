"""Indexes that queries wait for: built once for all, again after a failure, whoever gives up."""

from __future__ import annotations

import asyncio

import pytest
from support.database import HeldCompute

from elacsym.engine.late_index import LateIndex
from elacsym.index.text import TextIndex
from elacsym.store.drive import drive


async def test_queries_that_wait_share_one_building_even_if_the_first_gives_up():
    compute = HeldCompute()
    late = LateIndex(compute)
    waiting = [
        asyncio.create_task(drive(late.built(lambda: TextIndex.empty(3)), compute, inline=True))
        for _ in range(3)
    ]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    compute.may_run.set()
    first, second = await asyncio.gather(*waiting[1:])
    assert first is second
    assert waiting[0].cancelled()
    assert await drive(late.built(lambda: TextIndex.empty(3)), compute, inline=True) is first
    assert compute.runs == 1


async def test_a_building_that_failed_is_tried_again_by_the_next_query():
    compute = HeldCompute()
    compute.may_run.set()
    late, outcomes = LateIndex(compute), [MemoryError("no room"), None]

    def make():
        error = outcomes.pop(0)
        if error is not None:
            raise error
        return TextIndex.empty(3)

    with pytest.raises(MemoryError):
        await drive(late.built(make), compute, inline=True)
    assert (await drive(late.built(make), compute, inline=True)).rows_total == 3
    assert outcomes == []
