"""Residents: the memory budget of a process's caches, shared by all namespaces.

One LRU by bytes over values of three tiers, which also label the metrics:

    structures   made of files: parsed heads, quantised codes, id arrays; dropped with their file
    memory       small whole objects
    maps         files that have no room on disk, by their bytes at hand

A name is the key of the object that the value was made of, or begins with it: `{key}` or `{key}#what`.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from elacsym.telemetry import CACHE_BYTES, CACHE_EVICTIONS, CACHE_REQUESTS

T = TypeVar("T")

STRUCTURES, MEMORY, MAPS = "structures", "memory", "maps"
_HITS_COUNTED_AT_ONCE = 64  # a metric's lock costs as much as the look-up


@dataclass(slots=True)
class Use:
    """When a file came into the cache and was last looked at, monotonic seconds, and whether it had to go."""

    brought_s: float = float("-inf")
    used_s: float = float("-inf")
    is_evicted: bool = False


@dataclass(slots=True)
class _Resident:
    value: Any
    size_bytes: int
    tier: str
    use: Use | None
    seen_s: float
    on_gone: Callable[[], None] | None


class Residents:
    """Values by name, the least recently used forgotten first when their sizes exceed `bytes_max`.

    Thread-safe. use_of: the use of the file that a name's value is made of, which every look-up counts as;
    None where there is no file. What was made of a file that is evicted is not kept. now_s: monotonic
    seconds.
    """

    def __init__(
        self, bytes_max: int, *, use_of: Callable[[str], Use | None], now_s: Callable[[], float]
    ) -> None:
        self.bytes_max, self.bytes = bytes_max, 0
        self._use_of, self._now_s = use_of, now_s
        self._values: OrderedDict[str, _Resident] = OrderedDict()
        self._in_folder: dict[str, set[str]] = {}
        self._lock = threading.RLock()
        self._hits: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str, *, tier: str = STRUCTURES) -> Any | None:
        """The value, which becomes the most recently used, or None."""
        with self._lock:
            found = self._values.get(name)
            if found is None:
                self._count_hits(tier)
                CACHE_REQUESTS.labels(tier, "miss").inc()
                return None
            self._values.move_to_end(name)
            self._hits[tier] += 1
            if self._hits[tier] >= _HITS_COUNTED_AT_ONCE:
                self._count_hits(tier)
            if found.use is not None:
                found.use.used_s = self._now_s()
            return found.value

    def peek(self, name: str) -> Any | None:
        """The value or None; it counts as neither used nor missed."""
        found = self._values.get(name)
        return None if found is None else found.value

    def put(
        self,
        name: str,
        value: Any,
        size_bytes: int,
        *,
        tier: str = STRUCTURES,
        use: Use | None = None,
        on_gone: Callable[[], None] | None = None,
    ) -> None:
        """Remember a value in place of another of this name.

        Not kept is one above the whole budget. use: of the file it is made of, if not the one that the name
        tells. on_gone: called, on any thread, when the value is forgotten for another reason than a new
        `put`.
        """
        use = use or self._use_of(name)
        resident = _Resident(value, size_bytes, tier, use, self._now_s(), on_gone)
        if size_bytes > self.bytes_max or (use is not None and use.is_evicted):
            self.drop(name, tier=tier)
            _tell([resident])
            return
        with self._lock:
            replaced = self._pop(name)
            self._values[name] = resident
            self._in_folder.setdefault(_folder(name), set()).add(name)
            self._add(resident, size_bytes)
            gone = self._shrink()
        _tell(gone)
        del replaced, gone  # may unmap files: not under the lock

    def keep(self, name: str, value: T, size_bytes: int) -> T:
        """The structure of this name: what another thread put there meanwhile, else `value`, as by `put`."""
        with self._lock:
            found = self._values.get(name)
        if found is not None:
            other: T = found.value
            return other
        self.put(name, value, size_bytes)
        return value

    def drop(self, prefix: str, *, tier: str | None = STRUCTURES) -> None:
        """Forget the values of a tier, or of all, made of one object (its key) or of those directly in a
        folder (a key's beginning up to a '/')."""
        with self._lock:
            names = [n for n in self._in_folder.get(_folder(prefix), ()) if _is_of(n, prefix)]
            gone = [self._pop(n) for n in names if tier is None or self._values[n].tier == tier]
        _tell([resident for resident in gone if resident is not None])

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            gone = [self._pop(name) for name in list(self._values)]
        _tell([resident for resident in gone if resident is not None])

    def _shrink(self) -> list[_Resident]:
        """Forget values until the rest fits; one whose file was looked at since is put back once."""
        gone: list[_Resident] = []
        while self.bytes > self.bytes_max and self._values:
            name, resident = next(iter(self._values.items()))
            if resident.use is not None and resident.use.used_s > resident.seen_s:
                resident.seen_s = resident.use.used_s
                self._values.move_to_end(name)
                continue
            self._pop(name)
            CACHE_EVICTIONS.labels(resident.tier).inc()
            gone.append(resident)
        return gone

    def _pop(self, name: str) -> _Resident | None:
        found = self._values.pop(name, None)
        if found is None:
            return None
        names = self._in_folder[_folder(name)]
        names.remove(name)
        if not names:
            del self._in_folder[_folder(name)]
        self._add(found, -found.size_bytes)
        return found

    def _add(self, resident: _Resident, size_bytes: int) -> None:
        self.bytes += size_bytes
        CACHE_BYTES.labels(resident.tier).inc(size_bytes)

    def _count_hits(self, tier: str) -> None:
        if self._hits[tier]:
            CACHE_REQUESTS.labels(tier, "hit").inc(self._hits.pop(tier))


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def _is_of(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix if prefix.endswith("/") else f"{prefix}#")


def _tell(gone: list[_Resident]) -> None:
    for resident in gone:
        if resident.on_gone is not None:
            resident.on_gone()
