"""Folds before merges, and never more at once than was allowed."""

from __future__ import annotations

import asyncio

from elacsym.upkeep.jobs import JobQueue


class Jobs:
    """Jobs that run until they are told to end."""

    def __init__(self, slots):
        self.queue = JobQueue(slots, self.run)
        self.started: list[tuple[str, str]] = []
        self.gates: dict[tuple[str, str], asyncio.Event] = {}

    async def run(self, kind, name):
        self.started.append((kind, name))
        gate = self.gates[kind, name] = asyncio.Event()
        try:
            await gate.wait()
        finally:
            del self.gates[kind, name]

    async def offer(self, *jobs):
        for kind, name in jobs:
            self.queue.offer(kind, name)
        await asyncio.sleep(0)

    async def end(self, kind, name):
        self.gates[kind, name].set()
        for _ in range(3):
            await asyncio.sleep(0)


async def test_folds_go_before_merges_that_came_first():
    jobs = Jobs(1)
    await jobs.offer(("fold", "a"), ("compact", "b"), ("fold", "c"))
    assert jobs.started == [("fold", "a")]
    await jobs.end("fold", "a")
    assert jobs.started[1:] == [("fold", "c")]
    await jobs.end("fold", "c")
    assert jobs.started[2:] == [("compact", "b")]
    await jobs.end("compact", "b")
    await jobs.queue.drained()


async def test_a_fold_does_not_wait_for_merges_but_for_folds():
    jobs = Jobs(1)
    await jobs.offer(("compact", "a"), ("fold", "b"), ("fold", "c"))
    assert jobs.started == [("compact", "a"), ("fold", "b")]
    await jobs.end("compact", "a")
    # the slot that a merge leaves is no second one for folds
    assert jobs.started[2:] == []
    await jobs.end("fold", "b")
    assert jobs.started[2:] == [("fold", "c")]
    await jobs.queue.stop()


async def test_no_more_than_the_slots_run_at_once():
    jobs = Jobs(2)
    await jobs.offer(*(("compact", str(i)) for i in range(5)))
    assert len(jobs.gates) == 2
    await jobs.end("compact", "0")
    assert set(jobs.gates) == {("compact", "1"), ("compact", "2")}
    await jobs.queue.stop()
    assert jobs.gates == {}


async def test_a_job_that_waits_or_runs_is_not_queued_twice():
    jobs = Jobs(1)
    await jobs.offer(("compact", "a"), ("compact", "a"), ("compact", "b"), ("compact", "b"))
    assert jobs.queue.holds("a") and jobs.queue.holds("b") and not jobs.queue.holds("c")
    await jobs.end("compact", "a")
    await jobs.end("compact", "b")
    await jobs.queue.drained()
    assert jobs.started == [("compact", "a"), ("compact", "b")]
    assert not jobs.queue.holds("a")


async def test_stopping_cancels_what_runs_and_forgets_what_waits():
    jobs = Jobs(1)
    await jobs.offer(("compact", "a"), ("compact", "b"))
    await jobs.queue.stop()
    assert jobs.started == [("compact", "a")]
    assert not jobs.queue.holds("a") and not jobs.queue.holds("b")
