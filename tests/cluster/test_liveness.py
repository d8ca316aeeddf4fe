"""Who is passed over, for how long, and how often the others are asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from cluster.fake_peers import DRAINING, SUSPECT_S, WELL, FakePeers, liveness_of, members, passing_over
from crash.processes import until

from elacsym.cluster.liveness import TRUSTED_S
from elacsym.cluster.member import Health
from elacsym.telemetry import SUSPECT_NODES, SUSPICIONS

A, B = (members("a", "b")[id_] for id_ in "ab")


@pytest.fixture
def peers():
    return FakePeers(a=WELL, b=WELL)


@pytest.fixture
async def known(peers):
    """A liveness, its clock, and the members that it finds."""
    found = {"a": A, "b": B}
    liveness, clock = liveness_of(peers, found)
    yield liveness, clock, found
    await liveness.stop()


async def test_an_answer_is_trusted_for_a_second(known, peers):
    liveness, clock, _ = known
    assert not await liveness.is_suspect(A)
    clock.now_s += TRUSTED_S * 0.99
    assert not await liveness.is_suspect(A)
    assert peers.looks == ["a"]
    clock.now_s += TRUSTED_S * 0.02
    assert not await liveness.is_suspect(A)
    assert peers.looks == ["a", "a"]


async def test_many_who_ask_at_once_share_one_look(known, peers):
    liveness, _, _ = known
    assert await asyncio.gather(*(liveness.is_suspect(A) for _ in range(20))) == [False] * 20
    assert peers.looks == ["a"]


async def test_one_who_gives_up_does_not_take_the_answer_from_the_others(known, peers):
    liveness, _, _ = known
    first = asyncio.create_task(liveness.is_suspect(A))
    second = asyncio.create_task(liveness.is_suspect(A))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is False
    assert peers.looks == ["a"]


async def test_a_node_without_an_answer_is_suspect_and_nobody_waits_for_it_again(known, peers):
    liveness, clock, _ = known
    del peers.answers["a"]
    before = SUSPICIONS.labels(health="suspect")._value.get()
    assert await liveness.is_suspect(A)
    assert liveness.suspects() == {"a"}
    assert SUSPECT_NODES._value.get() == 1
    clock.now_s += 100
    assert await liveness.is_suspect(A)
    assert peers.looks == ["a"]
    assert SUSPICIONS.labels(health="suspect")._value.get() == before + 1


async def test_a_suspect_that_answers_again_is_found_by_the_background(known, peers):
    liveness, _, _ = known
    liveness.suspect(A, "refused")
    assert await liveness.is_suspect(A)
    assert peers.looks == []

    async def is_well():
        return not liveness.suspects()

    await until(is_well)
    assert peers.looks == ["a"]
    assert SUSPECT_NODES._value.get() == 0


async def test_a_node_that_stays_dead_is_asked_again_and_again(known, peers):
    liveness, _, _ = known
    del peers.answers["a"]
    liveness.suspect(A, "refused")

    async def is_asked_often():
        return len(peers.looks) >= 3

    await until(is_asked_often)
    assert liveness.suspects() == {"a"}


async def test_nobody_asks_for_a_node_that_is_no_member_any_more(known, peers):
    liveness, _, found = known
    liveness.suspect(A, "refused")
    del found["a"]
    await asyncio.sleep(4 * SUSPECT_S)
    assert (liveness.suspects(), peers.looks) == (frozenset(), [])


async def test_a_node_that_drains_is_passed_over_at_once(known, peers):
    liveness, _, _ = known
    peers.answers["a"] = DRAINING
    assert await liveness.is_suspect(A)
    assert liveness.health("a") is Health.DRAINING
    assert liveness.health("b") is Health.LIVE


async def test_a_node_that_has_moved_is_asked_at_its_new_address(known, peers):
    liveness, _, _ = known
    liveness.suspect(A, "refused")
    assert not await liveness.is_suspect(replace(A, url="http://elsewhere"))


async def test_who_announces_a_change_is_asked_anew_but_no_suspicion_ends_by_it(known, peers):
    liveness, _, _ = known
    await liveness.is_suspect(A)
    liveness.suspect(B, "refused")
    peers.answers["a"] = DRAINING
    liveness.look_again("a")
    liveness.look_again("b")
    liveness.look_again("nobody")
    assert await liveness.is_suspect(A)
    assert await liveness.is_suspect(B)
    assert peers.looks == ["a", "a"]


async def test_what_a_node_passes_over_is_remembered(known, peers):
    liveness, _, _ = known
    assert liveness.suspected_by("a") == frozenset()
    peers.answers["a"] = passing_over("x", "y")
    await liveness.is_suspect(A)
    assert liveness.suspected_by("a") == {"x", "y"}


async def test_an_announcement_reaches_everybody_whom_it_can(known, peers):
    liveness, _, _ = known
    del peers.answers["a"]
    await liveness.announce([A, B])
    assert peers.announced == ["a", "b"]
    assert liveness.suspects() == frozenset()


async def test_stopping_ends_the_background(known, peers):
    liveness, _, _ = known
    liveness.suspect(A, "refused")
    await liveness.stop()
    await asyncio.sleep(3 * SUSPECT_S)
    assert peers.looks == []
