"""Who writes a namespace now: the ring's owner, or the next node on the ring where that one is passed over.

Nodes may disagree for a while; the log settles it. So that two of them do not take a namespace from each
other in turns, a node that learns that its stand-in passes it over leaves the namespace to the stand-in until
that one has seen that it is back.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress

from elacsym.cluster.liveness import Liveness
from elacsym.cluster.member import Health, Member
from elacsym.cluster.membership import Membership
from elacsym.cluster.ring import HashRing
from elacsym.errors import NotOwner, StoreUnavailable, Unavailable

_REMEMBERED_MAX = 16_384
_PREFERRED_READERS = 2
_ASKED_AHEAD = 4


class Placement:
    """Settles for one node who writes what. It is the log's `Claims` and the upkeep's `Duties`."""

    def __init__(self, membership: Membership, liveness: Liveness) -> None:
        self._membership, self._liveness = membership, liveness
        self._order: dict[str, Sequence[str]] = {}
        self._order_of: HashRing | None = None

    async def owner(self, namespace: str) -> Member:
        """The node that writes the namespace now; other nodes are asked whether they live.

        Where there is no such node it raises NotOwner, which names nobody, on a query node, and Unavailable
        on others.
        """
        membership, own = self._membership, self._membership.own
        order = self._preference(namespace)
        for place, node_id in enumerate(order):
            if node_id == own.node_id:
                if membership.may_claim:
                    return await self._stand_in(order[place + 1 :]) or own
                continue
            member = membership.member(node_id)
            if member is None:
                continue
            was_live = self._liveness.health(node_id) is Health.LIVE
            if not await self._liveness.is_suspect(member):
                return member
            if was_live:
                # where one has died, others may have: they are asked side by side
                self._liveness.ask_ahead(self._members(order[place + 1 : place + 1 + _ASKED_AHEAD]))
        if not own.is_indexer:
            raise NotOwner("this node only answers queries, and no indexer can be reached")
        why = "draining" if membership.is_draining else "cut off from the cluster"
        raise Unavailable(f"this node is {why}, and no other indexer can be reached")

    def owner_now(self, namespace: str) -> Member | None:
        """The same by what is known already; None where there is no such node."""
        for node_id in self._preference(namespace):
            if node_id == self._membership.own.node_id:
                if self._membership.may_claim:
                    return self._membership.own
            elif self._liveness.health(node_id) is Health.LIVE:
                return self._membership.member(node_id)
        return None

    # the log's Claims

    async def allow(self, namespace: str, *, claimed_by: str | None) -> None:
        """Raise NotOwner, which names the owner, unless this node may claim the namespace now."""
        membership, own = self._membership, self._membership.own
        if claimed_by not in (None, own.node_id):
            # whoever claimed it may know more of the cluster
            with suppress(StoreUnavailable):
                await membership.refresh()
        rival = membership.member(claimed_by or self._next_to_own(namespace))
        if rival is not None and rival.node_id != own.node_id:
            await self._liveness.is_suspect(rival)
        try:
            owner = await self.owner(namespace)
        except Unavailable:
            if membership.is_draining and own.is_indexer:
                # nobody else is there: what was let in before is finished
                return
            raise
        if owner.node_id != own.node_id:
            raise NotOwner(
                f"'{namespace}' is written by node '{owner.node_id}'",
                owner_id=owner.node_id,
                owner_url=owner.url,
            )

    # the upkeep's Duties

    @property
    def view(self) -> Hashable | None:
        """Changes whenever what this node owns may have changed; None for a node that is alone for good."""
        membership = self._membership
        if membership.mode == "single":
            return None
        return membership.epoch, membership.may_claim, self._liveness.suspects()

    def owns(self, namespace: str) -> bool:
        """Whether this node looks after the namespace, by what is known already."""
        owner = self.owner_now(namespace)
        return owner is not None and owner.node_id == self._membership.own.node_id

    def prefers(self, namespace: str) -> bool:
        """Whether queries of the namespace are meant for this node."""
        readers = self._membership.readers
        if len(readers.weights) <= _PREFERRED_READERS:
            return True
        return self._membership.own.node_id in readers.preference(namespace, _PREFERRED_READERS)

    def _next_to_own(self, namespace: str) -> str:
        """Who most likely made a claim that was folded, so that nobody knows whose it was, if another node
        did."""
        own_id = self._membership.own.node_id
        return next((node_id for node_id in self._preference(namespace) if node_id != own_id), own_id)

    def _members(self, node_ids: Sequence[str]) -> list[Member]:
        """Those of the nodes that are others and known."""
        others = (n for n in node_ids if n != self._membership.own.node_id)
        return [member for n in others if (member := self._membership.member(n)) is not None]

    async def _stand_in(self, others: Sequence[str]) -> Member | None:
        """The node that writes in this one's place because it takes it for dead, if there is one."""
        for node_id in others:
            member = self._membership.member(node_id)
            if member is None or self._liveness.health(node_id) is not Health.LIVE:
                continue
            own_id = self._membership.own.node_id
            if own_id not in self._liveness.suspected_by(node_id):
                return None
            # it said so: does it still?
            if await self._liveness.is_suspect(member):
                continue
            return member if own_id in self._liveness.suspected_by(node_id) else None
        return None

    def _preference(self, namespace: str) -> Sequence[str]:
        ring = self._membership.ring
        if len(ring.weights) < 2:
            return tuple(ring.weights)
        if ring is not self._order_of or len(self._order) >= _REMEMBERED_MAX:
            self._order, self._order_of = {}, ring
        order = self._order.get(namespace)
        if order is None:
            order = self._order[namespace] = ring.preference(namespace)
        return order
