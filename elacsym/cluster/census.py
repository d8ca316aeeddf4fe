"""Which namespaces there are, and how a ring spreads them: for people, never for a decision.

The names come from one listing of the bucket's hints, so a namespace that was just made or deleted may be
missing or too many.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from elacsym.clock import Clock
from elacsym.cluster.ring import HashRing
from elacsym.compute import Compute
from elacsym.format import keys
from elacsym.store.base import ObjectStore

KEPT_S = 10.0


@dataclass(frozen=True, slots=True)
class Move:
    """A namespace whose owner would be another; None: nobody."""

    namespace: str
    source: str | None
    target: str | None


class Census:
    """The names of all namespaces, listed at most once in `KEPT_S`."""

    def __init__(self, clock: Clock, compute: Compute) -> None:
        self._clock, self._compute = clock, compute
        self._listing = asyncio.Lock()
        self._names: Sequence[str] = ()
        self._listed_at_s: float | None = None

    async def names(self, store: ObjectStore) -> Sequence[str]:
        """All names, in the order of the bucket. Raises StoreUnavailable."""
        async with self._listing:
            now_s = self._clock.monotonic_s()
            if self._listed_at_s is None or now_s - self._listed_at_s >= KEPT_S:
                hints = [info.key async for info in store.list(keys.NAMES_PREFIX)]
                self._names = await self._compute.run(_names_of, hints)
                self._listed_at_s = now_s
            return self._names


def counts(ring: HashRing, names: Sequence[str]) -> dict[str | None, int]:
    """How many of the namespaces each node owns."""
    return Counter(ring.owners(names))


def moves(before: HashRing, after: HashRing, names: Sequence[str]) -> list[Move]:
    """The namespaces whose owner differs between two rings."""
    owners = zip(names, before.owners(names), after.owners(names), strict=True)
    return [Move(name, source, target) for name, source, target in owners if source != target]


def _names_of(hints: Sequence[str]) -> Sequence[str]:
    return [name for key in hints if (name := keys.name_of_hint(key)) is not None]
