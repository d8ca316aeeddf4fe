import asyncio
import threading

import pytest

from elacsym.compute import InlineCompute, ThreadCompute
from elacsym.format.reading import Want, both, ensure, together
from elacsym.store.drive import Rounds, drive


class SlowSource:
    """A file that brings what it is asked for, and notes it."""

    key = "slow"
    size_bytes = eager_bytes = 100

    def __init__(self, error: Exception | None = None) -> None:
        self.data = memoryview(bytes(range(100)))
        self.brought: list[tuple[tuple[int, int], ...]] = []
        self._there: set[int] = set()
        self._error = error

    def has(self, start, stop):
        return self._there.issuperset(range(start, stop))

    def has_records(self, starts, size_bytes):
        return all(self.has(start, start + size_bytes) for start in starts.tolist())

    async def bring(self, spans, gap_bytes):
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        self.brought.append(tuple(spans))
        for start, stop in spans:
            self._there.update(range(start, stop))


def total(source, *spans):
    for span in spans:
        yield from ensure(source, span)
    return sum(sum(source.data[start:stop]) for start, stop in spans)


@pytest.mark.parametrize("inline", [True, False])
async def test_a_computation_gets_what_it_asks_for_round_by_round(inline):
    source, rounds = SlowSource(), Rounds()
    compute = ThreadCompute(1)
    assert await drive(total(source, (3, 5), (9, 10)), compute, inline=inline, rounds=rounds) == 3 + 4 + 9
    assert source.brought == [((3, 5),), ((9, 10),)]
    assert [r.wanted_bytes for r in rounds.rounds] == [2, 1]
    compute.close()


async def test_what_is_at_hand_takes_no_round():
    source, rounds = SlowSource(), Rounds()
    await source.bring([(0, 100)], 0)
    assert await drive(total(source, (3, 5)), InlineCompute(), rounds=rounds) == 7
    assert rounds.count == 0 and len(source.brought) == 1


async def test_computations_that_run_together_share_rounds():
    one, other, rounds = SlowSource(), SlowSource(), Rounds()
    steps = both(together([total(one, (0, 2), (5, 6)), total(one, (1, 3))]), total(other, (7, 8)))
    assert await drive(steps, InlineCompute(), rounds=rounds) == ([6, 3], 7)
    assert rounds.count == 2
    assert one.brought == [((0, 2), (1, 3)), ((5, 6),)] and other.brought == [((7, 8),)]


async def test_a_failure_to_bring_ends_the_computation():
    ended = []

    def steps():
        try:
            yield (Want(SlowSource(OSError("gone")), ((0, 1),)),)
        finally:
            ended.append(True)

    with pytest.raises(OSError, match="gone"):
        await drive(steps(), InlineCompute())
    assert ended == [True]


async def test_an_error_between_rounds_reaches_the_caller():
    def steps():
        yield from ensure(SlowSource(), (0, 1))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await drive(steps(), InlineCompute())


async def test_a_caller_gives_up_while_a_thread_computes():
    # closing a generator that runs raises ValueError, which took the place of the cancellation: a request
    # that ran out of time was answered as an internal error
    begun, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def steps():
        try:
            begun.set()
            assert goes_on.wait(10)
            yield (Want(SlowSource(), ((0, 1),)),)
        finally:
            ended.set()

    compute = ThreadCompute(2)
    task = asyncio.create_task(drive(steps(), compute))
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    goes_on.set()
    assert await asyncio.to_thread(ended.wait, 10)
    compute.close()
