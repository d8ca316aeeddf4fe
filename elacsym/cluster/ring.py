"""Consistent hashing: which node owns a namespace. Pure; the same answer in every process and release.

Karger et al. 1997, with virtual nodes: a node of weight w stands at `VIRTUAL_NODES` * w places of a circle of
64-bit hashes (seahash); a name belongs to the first place at or after its own hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import seahash

VIRTUAL_NODES = 512


class HashRing:
    """Nodes on a circle. Immutable."""

    def __init__(self, weights: Mapping[str, float], *, virtual_nodes: int = VIRTUAL_NODES) -> None:
        """`weights` by node id, above 0; the order of nodes does not matter. No nodes: nobody owns
        anything."""
        self.weights = dict(sorted(weights.items()))
        self._nodes = list(self.weights)
        places = [_places(node, max(1, round(virtual_nodes * w))) for node, w in self.weights.items()]
        hashes = np.concatenate(places) if places else np.empty(0, np.uint64)
        owners = np.repeat(np.arange(len(places), dtype=np.int32), [len(found) for found in places])
        # equal hashes are settled by the node's id
        order = np.lexsort((owners, hashes))
        self._hashes, self._owners = hashes[order], owners[order]

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that are the same wherever nodes and weights are."""
        text = ",".join(f"{node}={weight!r}" for node, weight in self.weights.items())
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def owner(self, namespace: str) -> str | None:
        """The node that owns the namespace; None where there are no nodes."""
        preferred = self.preference(namespace, 1)
        return preferred[0] if preferred else None

    def owners(self, namespaces: Sequence[str]) -> list[str | None]:
        """The owner of each of many namespaces; some ten times faster than one by one."""
        if not self._nodes:
            return [None] * len(namespaces)
        hashes = np.array([seahash.hash(name.encode()) for name in namespaces], np.uint64)
        places = np.searchsorted(self._hashes, hashes) % len(self._hashes)
        return [self._nodes[index] for index in self._owners[places].tolist()]

    def preference(self, namespace: str, count: int | None = None) -> list[str]:
        """The first `count` different nodes from the namespace's hash on (None: all): owner, its stand-in
        when it is suspect, and so on; for readers, where the namespace is cached first."""
        wanted = len(self._nodes) if count is None else min(count, len(self._nodes))
        found: dict[int, None] = {}
        start = int(np.searchsorted(self._hashes, np.uint64(seahash.hash(namespace.encode()))))
        for step in range(len(self._owners)):
            if len(found) == wanted:
                break
            found.setdefault(int(self._owners[(start + step) % len(self._owners)]))
        return [self._nodes[index] for index in found]

    def shares(self) -> dict[str, float]:
        """The part of the circle that belongs to each node, 0…1, together 1."""
        if not self._nodes:
            return {}
        # a place owns the arc that ends at it
        arcs = (self._hashes - np.roll(self._hashes, 1)).astype(np.float64)
        if len(arcs) == 1:
            arcs[:] = 2.0**64
        shares = np.bincount(self._owners, weights=arcs, minlength=len(self._nodes)) / 2.0**64
        return dict(zip(self._nodes, shares.tolist(), strict=True))


@lru_cache(maxsize=256)
def _places(node: str, count: int) -> npt.NDArray[np.uint64]:
    # remembered, so that a change of one node does not hash the places of all
    return np.array([seahash.hash(f"{node}#{number}".encode()) for number in range(count)], np.uint64)
