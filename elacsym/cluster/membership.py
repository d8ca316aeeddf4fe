"""Who is in the cluster: what every kind of membership offers, and a node that is alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, Protocol

from elacsym.cluster.member import Health, Member, MemberState
from elacsym.cluster.ring import HashRing

Mode = Literal["single", "static", "dynamic"]


class Membership(Protocol):
    """One node's view of the cluster. It may differ from another node's for a while: that costs throughput,
    never correctness, because the log fences."""

    @property
    def mode(self) -> Mode:
        """Where the members come from: there is one node, they are settled by settings, or found by
        heartbeats."""
        ...

    @property
    def own(self) -> Member:
        """This node."""
        ...

    @property
    def fault(self) -> str | None:
        """What keeps this node from taking part, in words, for its readiness; None where nothing does."""
        ...

    @property
    def epoch(self) -> int:
        """How many times this node's view of who is in the ring has changed since it started."""
        ...

    @property
    def is_draining(self) -> bool:
        """Whether this node has left the ring in order to stop."""
        ...

    @property
    def may_claim(self) -> bool:
        """Whether this node may begin to own namespaces: an indexer that is not draining and whose heartbeats
        reach the bucket."""
        ...

    @property
    def ring(self) -> HashRing:
        """The indexers that own namespaces: neither silent nor draining. A new value whenever it changes."""
        ...

    @property
    def readers(self) -> HashRing:
        """The nodes that queries are meant for: the query nodes, or all nodes where there are none."""
        ...

    def states(self) -> Sequence[MemberState]:
        """Every member that is known, this node too, in order of node id."""
        ...

    def member(self, node_id: str) -> Member | None:
        """A member by its id."""
        ...

    async def refresh(self) -> None:
        """Look again now, at most once a second. Raises StoreUnavailable."""
        ...

    async def drain(self) -> None:
        """Leave the ring, for good, and let the others know. Raises StoreUnavailable where they cannot be
        told; this node has stopped claiming all the same."""
        ...

    async def start(self) -> None:
        """Begin to take part. A process that lives under this node's id is displaced. Raises
        StoreUnavailable."""
        ...

    async def stop(self) -> None:
        """Leave, and end every background task; awaited."""
        ...


def ring_of(states: Sequence[MemberState]) -> HashRing:
    """The indexers that own namespaces. The same value for the same nodes and weights."""
    return _ring_of([member for member in _in_ring(states) if member.is_indexer])


def readers_of(states: Sequence[MemberState]) -> HashRing:
    """The nodes that queries are meant for. The same value for the same nodes and weights."""
    members = _in_ring(states)
    return _ring_of([member for member in members if not member.is_indexer] or members)


def _in_ring(states: Sequence[MemberState]) -> list[Member]:
    return [s.member for s in states if s.health in (Health.LIVE, Health.SUSPECT)]


def _ring_of(members: Iterable[Member]) -> HashRing:
    return _ring(frozenset((member.node_id, member.weight) for member in members))


@lru_cache(maxsize=16)
def _ring(weights: frozenset[tuple[str, float]]) -> HashRing:
    # nearly every look finds what the one before found, and a ring of 100 nodes takes 5 ms to make
    return HashRing(dict(weights))


class Alone:
    """A cluster of one, without heartbeats."""

    mode: Mode = "single"
    fault = None

    def __init__(self, own: Member) -> None:
        """`own` may be a query node; then nobody owns anything."""
        self.own = own
        self.epoch = 0
        self.ring = HashRing({own.node_id: own.weight} if own.is_indexer else {})
        self.readers = HashRing({own.node_id: own.weight})
        self.is_draining = False

    @property
    def may_claim(self) -> bool:
        """Until it drains."""
        return self.own.is_indexer and not self.is_draining

    def states(self) -> Sequence[MemberState]:
        """This node."""
        return (MemberState(self.own, Health.DRAINING if self.is_draining else Health.LIVE),)

    def member(self, node_id: str) -> Member | None:
        """This node, if it is asked for."""
        return self.own if node_id == self.own.node_id else None

    async def refresh(self) -> None:
        """There is nothing to look at."""

    async def drain(self) -> None:
        """Stop claiming."""
        self.is_draining = True

    async def start(self) -> None:
        """There is nothing to begin."""

    async def stop(self) -> None:
        """There is nothing to end."""
