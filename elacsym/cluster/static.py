"""A cluster whose members are settled by settings, the same list on every node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from elacsym.cluster.member import Health, Member, MemberState
from elacsym.cluster.membership import Mode, readers_of, ring_of


class StaticMembership:
    """Members that never change. Nobody announces anything: that a node is gone, or draining, is seen by
    those who ask it; see `Membership` for the methods."""

    mode: Mode = "static"
    fault = None

    def __init__(self, own: Member, members: Iterable[Member]) -> None:
        """`own` need not be among `members` if it is a query node: then only this node knows of it."""
        self.own = own
        self.epoch = 0
        self._members = {member.node_id: member for member in (own, *members)}
        self.is_draining = False
        self._place()

    @property
    def may_claim(self) -> bool:
        """Until it drains."""
        return self.own.is_indexer and not self.is_draining

    def states(self) -> Sequence[MemberState]:
        """Every member; of its health only this node's is known."""
        return [
            MemberState(
                member,
                Health.DRAINING if self.is_draining and node_id == self.own.node_id else Health.LIVE,
            )
            for node_id, member in sorted(self._members.items())
        ]

    def member(self, node_id: str) -> Member | None:
        """A member by its id."""
        return self._members.get(node_id)

    async def refresh(self) -> None:
        """There is nothing to look at."""

    async def drain(self) -> None:
        """Leave this node's own ring; the others hear of it when they ask."""
        if not self.is_draining:
            self.is_draining = True
            self.epoch += 1
            self._place()

    async def start(self) -> None:
        """There is nothing to begin."""

    async def stop(self) -> None:
        """There is nothing to end."""

    def _place(self) -> None:
        states = self.states()
        self.ring, self.readers = ring_of(states), readers_of(states)
