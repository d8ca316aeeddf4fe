"""What goes wrong with a cluster while its clients work: nodes are killed, stopped for a while, drained.

One node at a time is out of order, so that the others can be asked to serve.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import httpx
from cluster.harness import Cluster

# longer than the heartbeat limit of `harness.QUICK`
PAUSE_S = 3.5


@dataclass(frozen=True)
class Incident:
    """What was done to whom."""

    what: str
    node_id: str


class Nemesis:
    """Acts on the indexers of a cluster, drawn at random unless named. `incidents`: what it did."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster, self._rng = cluster, rng
        self.incidents: list[Incident] = []

    async def kill(self, node_id: str | None = None, *, down_s: float = 0.0) -> None:
        """SIGKILL, and a new start after a while; returns when the node accepts requests again."""
        server = self._choose("kill", node_id)
        server.kill()
        await asyncio.sleep(down_s)  # how long the others are without it
        await server.start()

    async def pause(self, node_id: str | None = None, *, pause_s: float = PAUSE_S) -> None:
        """SIGSTOP, and SIGCONT after longer than a node may be silent."""
        server = self._choose("pause", node_id)
        server.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(pause_s)  # how long it does not run
        finally:
            server.signal(signal.SIGCONT)

    async def drain(self, node_id: str | None = None) -> None:
        """Drain a node over HTTP, wait until it has ended by itself, and start it again."""
        server = self._choose("drain", node_id)
        async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http:
            (await http.post(f"{server.url}/internal/drain")).raise_for_status()
        code = await server.wait()
        assert code == 0, f"a drained node ended with exit code {code}"
        await server.start()

    async def run(
        self,
        stop: asyncio.Event,
        actions: Sequence[Callable[[], Awaitable[None]]],
        *,
        period_s: float = 0.0,
        count_max: int | None = None,
    ) -> None:
        """One action after the other, drawn at random, `period_s` apart, until told to stop."""
        count = 0
        while not stop.is_set() and count != count_max:
            began_s = asyncio.get_running_loop().time()
            await self._rng.choice(actions)()
            count += 1
            rest_s = began_s + period_s - asyncio.get_running_loop().time()
            if rest_s > 0:
                with_stop = asyncio.wait_for(stop.wait(), rest_s)
                try:
                    await with_stop
                except TimeoutError:
                    continue

    def _choose(self, what: str, node_id: str | None):
        chosen = node_id or self._rng.choice(self.cluster.indexers).node_id
        self.incidents.append(Incident(what, chosen))
        return self.cluster.servers[chosen]
