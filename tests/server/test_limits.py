"""Early refusals: bytes in flight, operations at once."""

import asyncio

import pytest

from elacsym.errors import Overloaded, PayloadTooLarge
from elacsym.server.limits import BodyAllowance, ByteBudget, Gate, NamespaceGate


def test_the_budget_refuses_what_would_pass_it_and_keeps_its_account():
    budget = ByteBudget(100)
    budget.take(60)
    with pytest.raises(Overloaded):
        budget.take(41)
    assert budget.bytes_held == 60
    budget.take(40)
    budget.give_back(100)
    assert budget.bytes_held == 0


def test_an_allowance_gives_back_all_that_it_took():
    budget = ByteBudget(100)
    one, other = BodyAllowance(budget, 50), BodyAllowance(budget, 50)
    one.take(30)
    one.take(20)
    other.take(10)
    one.release()
    assert budget.bytes_held == 10
    with pytest.raises(PayloadTooLarge, match="51"):
        one.check(51, "a body")


def test_the_gate_lets_in_as_many_as_it_has_places():
    gate = Gate(1, "queries")
    with gate.passage(), pytest.raises(Overloaded, match="queries"), gate.passage():
        raise AssertionError("no second place")
    with pytest.raises(ValueError), gate.passage():
        raise ValueError
    with gate.passage():
        pass


async def entered(gate, name, weight):
    """A passage that is held until the returned event is set."""
    leave, inside = asyncio.Event(), asyncio.Event()

    async def hold():
        async with gate.passage(name, weight):
            inside.set()
            await leave.wait()

    task = asyncio.create_task(hold())
    return task, inside, leave


async def test_a_namespace_has_so_many_places_and_others_have_theirs():
    gate = NamespaceGate(4, wait_s=0.01)
    async with gate.passage("a", 3), gate.passage("a", 1), gate.passage("b", 4):
        with pytest.raises(Overloaded, match="'a' has as many queries at once"):
            async with gate.passage("a", 1):
                pass
    # more than there are is all
    async with gate.passage("a", 100):
        pass


async def test_who_waits_gets_places_in_order_and_nobody_passes_the_others():
    gate = NamespaceGate(4, wait_s=5)
    _, _, leave = await entered(gate, "a", 3)
    large, large_inside, large_leave = await entered(gate, "a", 4)
    small, small_inside, small_leave = await entered(gate, "a", 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # there is a place, but one who needs more waits for longer
    assert not small_inside.is_set()
    leave.set()
    await large_inside.wait()
    assert not small_inside.is_set()
    large_leave.set()
    await small_inside.wait()
    small_leave.set()
    await asyncio.gather(large, small)


async def test_who_gives_up_waiting_leaves_the_others_their_places():
    gate = NamespaceGate(2, wait_s=5)
    _, inside, leave = await entered(gate, "a", 1)
    await inside.wait()
    large, _, _ = await entered(gate, "a", 2)
    small, small_inside, small_leave = await entered(gate, "a", 1)
    await asyncio.sleep(0)
    large.cancel()
    await small_inside.wait()
    with pytest.raises(asyncio.CancelledError):
        await large
    small_leave.set()
    leave.set()
    await small
    async with gate.passage("a", 2):
        pass
