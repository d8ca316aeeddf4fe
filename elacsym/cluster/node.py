"""One node's part in its cluster, put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from elacsym.clock import Clock
from elacsym.cluster.liveness import Liveness
from elacsym.cluster.membership import Membership
from elacsym.cluster.peers import Peers
from elacsym.cluster.placement import Placement
from elacsym.errors import StoreUnavailable
from elacsym.telemetry import get_logger

_log = get_logger("cluster")


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """What this node knows of its cluster, and its connections to it."""

    membership: Membership
    peers: Peers
    liveness: Liveness
    placement: Placement

    @classmethod
    def of(
        cls, membership: Membership, clock: Clock, *, suspect_s: float = 10.0, liveness_timeout_s: float = 1.0
    ) -> ClusterNode:
        """A node with this membership, which is not started."""
        peers = Peers(membership.own.node_id, timeout_s=liveness_timeout_s)
        liveness = Liveness(peers, clock, membership.member, suspect_s=suspect_s)
        return cls(membership, peers, liveness, Placement(membership, liveness))

    async def start(self) -> None:
        """Take part. Others may send requests from here on. Raises what `Membership.start` raises."""
        await self.membership.start()

    async def stop(self) -> None:
        """End everything that runs in the background, and close the connections."""
        await self.membership.stop()
        await self.liveness.stop()
        await self.peers.close()

    @property
    def fault(self) -> str | None:
        """What keeps this node from being ready, in words; None where nothing does."""
        return "draining" if self.membership.is_draining else self.membership.fault

    async def drain(self, limit_s: float) -> None:
        """Leave the ring and let the others know, within a limit: whom the news does not reach finds out by
        asking."""
        own_id = self.membership.own.node_id
        others = [s.member for s in self.membership.states() if s.member.node_id != own_id]
        try:
            async with asyncio.timeout(limit_s):
                # whoever is told asks at once, and must be told the same
                await self._leave()
                await self.liveness.announce(others)
        except TimeoutError:
            _log.warning("the others were not told of the drain in time", limit_s=limit_s)

    async def _leave(self) -> None:
        try:
            await self.membership.drain()
        except StoreUnavailable as error:
            _log.warning("the drain is not recorded in the store", reason=str(error))
