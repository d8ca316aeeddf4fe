"""Read-your-writes: the newest token of every namespace that was written."""

from __future__ import annotations

import threading
from collections import OrderedDict

NAMESPACES_MAX = 10_000


class Tokens:
    """Tokens by namespace, for threads. Of more than `namespaces_max` namespaces those written longest ago
    are forgotten: reads of them are strong again."""

    def __init__(self, namespaces_max: int = NAMESPACES_MAX) -> None:
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._namespaces_max = namespaces_max
        self._lock = threading.Lock()

    def newest(self, namespace: str) -> str | None:
        """What a read of the namespace has to see; None: unknown."""
        return self._tokens.get(namespace)

    def note(self, namespace: str, token: str) -> None:
        """A write was acknowledged. Acknowledgements may come in any order: within one life of a namespace
        the highest one counts."""
        with self._lock:
            known = self._tokens.pop(namespace, None)
            self._tokens[namespace] = token if known is None else _newer(known, token)
            while len(self._tokens) > self._namespaces_max:
                self._tokens.popitem(last=False)

    def forget(self, namespace: str) -> None:
        """Nobody knows what the newest write is, or there is none any more."""
        with self._lock:
            self._tokens.pop(namespace, None)


def _newer(known: str, token: str) -> str:
    known_inc, _, known_seq = known.rpartition(":")
    inc, _, seq = token.rpartition(":")
    return known if inc == known_inc and int(known_seq) > int(seq) else token
