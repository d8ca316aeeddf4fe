"""Which nodes do not answer: they are passed over until they do.

Membership notices a node's death after tens of seconds; a write should not wait for that. A node that another
one needs is asked for `/livez`: an answer is trusted for a second; without one the node is *suspect*, and
asked again in the background every `suspect_s`, so that no request waits for it meanwhile. A node that says
it is draining is passed over in the same way. To pass over a node that lives is slow, never wrong: the log
fences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from elacsym.clock import Clock
from elacsym.cluster.member import Health, Member
from elacsym.cluster.peers import Look, Peers
from elacsym.errors import Unavailable
from elacsym.telemetry import SUSPECT_NODES, SUSPICIONS, get_logger

_log = get_logger("cluster")

TRUSTED_S = 1.0


@dataclass(frozen=True, slots=True)
class _Known:
    """The last that was learned of a node at `url`; look is None where it gave no answer."""

    url: str
    look: Look | None
    learned_s: float

    @property
    def health(self) -> Health:
        if self.look is None:
            return Health.SUSPECT
        return Health.DRAINING if self.look.is_draining else Health.LIVE


class Liveness:
    """What one node knows of the others' liveness. Used on the event loop only."""

    def __init__(
        self,
        peers: Peers,
        clock: Clock,
        find: Callable[[str], Member | None],
        *,
        suspect_s: float,
    ) -> None:
        """`find` gives the member of an id as long as there is one."""
        self._peers, self._clock, self._find, self._suspect_s = peers, clock, find, suspect_s
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    async def is_suspect(self, member: Member) -> bool:
        """Whether to pass over the member. Asks it unless the last answer still holds; takes no longer than
        the limit of `Peers.look`."""
        if not self._is_known(member):
            await self._ask(member)
        return self.health(member.node_id) is not Health.LIVE

    def ask_ahead(self, members: Iterable[Member]) -> None:
        """Ask those of the members whose last answer does not hold, for `is_suspect` calls that follow."""
        for member in members:
            if not self._is_known(member):
                self._begin(member)

    def suspect(self, member: Member, reason: str) -> None:
        """Pass over the member from now on: it refused a connection, or kept a request waiting."""
        self._learn(member, None, reason)

    def suspects(self) -> frozenset[str]:
        """The nodes that are passed over now, those that drain too."""
        return frozenset(node for node, known in self._known.items() if known.health is not Health.LIVE)

    def health(self, node_id: str) -> Health:
        """What was last learned of the node; LIVE where it was never asked."""
        known = self._known.get(node_id)
        return Health.LIVE if known is None else known.health

    def suspected_by(self, node_id: str) -> frozenset[str]:
        """The nodes that this node said it passes over when it was last asked."""
        known = self._known.get(node_id)
        return frozenset() if known is None or known.look is None else known.look.suspects

    def look_again(self, node_id: str) -> None:
        """The node says that it has changed: do not trust its last answer."""
        known = self._known.get(node_id)
        if known is not None and known.health is Health.LIVE:
            del self._known[node_id]

    async def announce(self, members: Iterable[Member]) -> None:
        """Tell others that this node has changed; those that do not answer find out for themselves."""

        async def tell(member: Member) -> None:
            with suppress(Unavailable):
                await self._peers.look(member, is_announcing=True)

        await asyncio.gather(*(tell(member) for member in members))

    async def stop(self) -> None:
        """End every background task; awaited."""
        tasks = [*self._asking.values(), *self._watching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        SUSPECT_NODES.set(0)

    def _is_known(self, member: Member) -> bool:
        known = self._known.get(member.node_id)
        if known is None or known.url != member.url:
            return False
        # the background asks those that are passed over
        is_passed_over = known.health is not Health.LIVE
        return is_passed_over or self._clock.monotonic_s() - known.learned_s < TRUSTED_S

    async def _ask(self, member: Member) -> None:
        # others wait for the same answer
        await asyncio.shield(self._begin(member))

    def _begin(self, member: Member) -> asyncio.Task[None]:
        task = self._asking.get(member.node_id)
        if task is None:
            task = asyncio.create_task(self._look(member), name=f"look at {member.node_id}")
            self._asking[member.node_id] = task
            task.add_done_callback(lambda _: self._asking.pop(member.node_id))
        return task

    async def _look(self, member: Member) -> None:
        try:
            self._learn(member, await self._peers.look(member))
        except (Unavailable, ValueError) as error:
            # an address that cannot be used is a ValueError of whichever library finds out
            self._learn(member, None, str(error))

    def _learn(self, member: Member, look: Look | None, reason: str = "it drains") -> None:
        node_id = member.node_id
        before = self.health(node_id)
        known = self._known[node_id] = _Known(member.url, look, self._clock.monotonic_s())
        SUSPECT_NODES.set(len(self.suspects()))
        if known.health is before:
            return
        if known.health is Health.LIVE:
            _log.info("a node is well again", node=node_id)
            return
        _log.warning("a node is passed over", node=node_id, health=known.health.value, reason=reason)
        SUSPICIONS.labels(health=known.health.value).inc()
        if node_id not in self._watching:
            self._watching[node_id] = asyncio.create_task(self._watch(node_id), name=f"watch {node_id}")

    async def _watch(self, node_id: str) -> None:
        """Ask a node that is passed over again and again, until it is well or no member any more."""
        try:
            while self.health(node_id) is not Health.LIVE:
                await asyncio.sleep(self._suspect_s)
                member = self._find(node_id)
                if member is None:
                    self._known.pop(node_id, None)
                    SUSPECT_NODES.set(len(self.suspects()))
                    return
                await self._ask(member)
        finally:
            # not in a callback: a suspicion that comes in between would never end
            del self._watching[node_id]
