"""Who writes a namespace: the ring's owner, its stand-in, or nobody."""

from __future__ import annotations

import asyncio

import pytest
from cluster.fake_peers import DRAINING, WELL, FakePeers, liveness_of, members, passing_over

from elacsym.cluster.membership import Alone
from elacsym.cluster.placement import Placement
from elacsym.cluster.static import StaticMembership
from elacsym.errors import NotOwner, Unavailable

NODES = members("a", "b", "c")
QUERY = members("q", role="query")["q"]
NAME = "docs"


class Seat:
    """The placement of one node among three indexers; `order` is the ring's for `NAME`."""

    def __init__(self, place: int | None = 0) -> None:
        self.peers = FakePeers(a=WELL, b=WELL, c=WELL)
        everybody = [*NODES.values(), QUERY]
        self.order = StaticMembership(NODES["a"], everybody).ring.preference(NAME)
        own = QUERY if place is None else NODES[self.order[place]]
        self.membership = StaticMembership(own, everybody)
        self.liveness, self.clock = liveness_of(self.peers, {m.node_id: m for m in everybody})
        self.placement = Placement(self.membership, self.liveness)

    def kill(self, place):
        """Let the node answer nothing from now on."""
        del self.peers.answers[self.order[place]]

    async def owner(self):
        """The place on the ring of the node that is taken for the owner."""
        self.clock.now_s += 10
        return self.order.index((await self.placement.owner(NAME)).node_id)


@pytest.fixture
async def seat():
    """Makes seats, and stops what runs for them."""
    made = []

    def make(place=0):
        made.append(Seat(place))
        return made[-1]

    yield make
    for one in made:
        await one.liveness.stop()


@pytest.mark.parametrize("place", [0, 1, 2, None])
async def test_everybody_names_the_owner_of_the_ring(seat, place):
    assert await seat(place).owner() == 0


async def test_the_owner_asks_nobody_about_itself(seat):
    here = seat(0)
    assert await here.owner() == 0
    assert here.peers.looks == []


@pytest.mark.parametrize("place", [1, 2, None])
async def test_the_next_on_the_ring_stands_in_for_a_dead_owner(seat, place):
    here = seat(place)
    here.kill(0)
    assert await here.owner() == 1


async def test_where_one_node_is_dead_the_next_ones_are_asked_side_by_side(seat):
    here = seat(None)
    here.kill(0)
    here.kill(1)
    under_way, most = 0, 0
    look = here.peers.look

    async def counted(member):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        return await look(member)

    here.peers.look = counted
    assert await here.owner() == 2
    assert most == 2
    assert sorted(here.peers.looks) == sorted(here.order)


async def test_a_draining_owner_is_followed_by_the_next(seat):
    here = seat(2)
    here.peers.answers[here.order[0]] = DRAINING
    assert await here.owner() == 1


async def test_a_node_that_drains_gives_everything_to_the_others(seat):
    here = seat(0)
    assert not here.membership.is_draining
    await here.membership.drain()
    assert here.membership.is_draining
    assert await here.owner() == 1
    assert not here.placement.owns(NAME)
    with pytest.raises(NotOwner):
        await here.placement.allow(NAME, claimed_by=None)


async def test_a_node_that_drains_and_finds_nobody_else_takes_nothing_and_finishes_what_it_took(seat):
    here = seat(0)
    await here.membership.drain()
    here.kill(1)
    here.kill(2)
    with pytest.raises(Unavailable, match="draining"):
        await here.owner()
    await here.placement.allow(NAME, claimed_by=None)


async def test_a_query_node_never_owns_and_never_claims(seat):
    here = seat(None)
    for place in range(3):
        here.kill(place)
    with pytest.raises(NotOwner) as caught:
        await here.owner()
    assert caught.value.owner_id is None
    with pytest.raises(NotOwner):
        await here.placement.allow(NAME, claimed_by=None)
    await here.membership.drain()
    with pytest.raises(NotOwner):
        await here.placement.allow(NAME, claimed_by=None)
    assert not here.placement.owns(NAME)


async def test_a_claim_is_refused_in_the_name_of_the_owner(seat):
    here = seat(1)
    with pytest.raises(NotOwner) as caught:
        await here.placement.allow(NAME, claimed_by=None)
    owner = NODES[here.order[0]]
    assert (caught.value.owner_id, caught.value.owner_url) == (owner.node_id, owner.url)
    here.kill(0)
    here.clock.now_s += 10
    await here.placement.allow(NAME, claimed_by=owner.node_id)


async def test_an_owner_leaves_the_namespace_to_the_stand_in_that_takes_it_for_dead(seat):
    """Otherwise the two would take it from each other, write by write, until the suspicion ends."""
    here = seat(0)
    own, stand_in = here.order[:2]
    here.peers.answers[stand_in] = passing_over(own)
    # nobody asks before there is a reason to
    assert await here.owner() == 0
    with pytest.raises(NotOwner) as caught:
        await here.placement.allow(NAME, claimed_by=stand_in)
    assert caught.value.owner_id == stand_in
    # from here on requests are sent there before their bodies are read
    assert await here.owner() == 1
    here.peers.answers[stand_in] = WELL
    assert await here.owner() == 0
    here.clock.now_s += 10
    await here.placement.allow(NAME, claimed_by=stand_in)


async def test_an_owner_that_does_not_know_who_claimed_last_asks_its_stand_in(seat):
    """It was paused, and meanwhile the claim of its stand-in was folded into a segment."""
    here = seat(0)
    own, stand_in = here.order[:2]
    here.peers.answers[stand_in] = passing_over(own)
    with pytest.raises(NotOwner) as caught:
        await here.placement.allow(NAME, claimed_by=None)
    assert caught.value.owner_id == stand_in
    here.peers.answers[stand_in] = WELL
    here.clock.now_s += 10
    await here.placement.allow(NAME, claimed_by=None)
    here.kill(1)
    here.clock.now_s += 10
    await here.placement.allow(NAME, claimed_by=None)


async def test_an_owner_takes_the_namespace_back_from_a_stand_in_that_has_died(seat):
    here = seat(0)
    own, stand_in = here.order[:2]
    here.peers.answers[stand_in] = passing_over(own)
    with pytest.raises(NotOwner):
        await here.placement.allow(NAME, claimed_by=stand_in)
    here.kill(1)
    assert await here.owner() == 0
    await here.placement.allow(NAME, claimed_by=stand_in)


async def test_what_is_owned_follows_what_is_known(seat):
    here = seat(1)
    assert not here.placement.owns(NAME)
    view = here.placement.view
    here.kill(0)
    await here.owner()
    assert here.placement.owns(NAME)
    assert here.placement.view != view
    assert here.placement.owner_now(NAME) is here.membership.own


async def test_a_node_that_is_alone_owns_everything_for_good():
    own = NODES["a"]
    placement = Placement(Alone(own), liveness_of(FakePeers(), {})[0])
    assert (await placement.owner(NAME), placement.view) == (own, None)
    assert placement.owns(NAME)
    assert placement.prefers(NAME)
    await placement.allow(NAME, claimed_by="somebody")


async def test_two_of_many_readers_are_preferred():
    readers = members(*(f"q{n}" for n in range(5)), role="query").values()
    placements = [
        Placement(StaticMembership(own, [*NODES.values(), *readers]), liveness_of(FakePeers(), {})[0])
        for own in readers
    ]
    for name in ("a", "b", "c"):
        assert sum(placement.prefers(name) for placement in placements) == 2
