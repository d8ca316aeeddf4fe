"""What is kept between queries: values by key, the least recently used forgotten beyond some bytes."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Entry:
    """A value and where it is kept. It is equal to itself only."""

    __slots__ = ("home", "key", "size_bytes", "value")

    def __init__(self, home: dict[Hashable, _Entry], key: Hashable, value: Any, size_bytes: int) -> None:
        self.home, self.key, self.value, self.size_bytes = home, key, value, size_bytes


class Budget:
    """Bytes that may be remembered, by all `Remembered` that share it together; the newest value is kept
    whatever its size. Thread-safe.

    bytes: what is remembered now.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.bytes = bytes_max, 0
        self._order: OrderedDict[_Entry, None] = OrderedDict()
        # the end of a `Remembered` may come at any allocation, also of the thread that holds the lock
        self._lock = threading.RLock()

    def use(self, entry: _Entry) -> None:
        """Make an entry the most recently used."""
        try:
            self._order.move_to_end(entry)
        except KeyError:
            return  # another thread has just made room

    def add(self, entry: _Entry) -> None:
        """Keep an entry in its home, in place of another of its key."""
        with self._lock:
            self._remove(entry.home.get(entry.key))
            entry.home[entry.key] = entry
            self._order[entry] = None
            self.bytes += entry.size_bytes
            while self.bytes > self.bytes_max and len(self._order) > 1:
                self._remove(next(iter(self._order)))

    def release(self, home: dict[Hashable, _Entry]) -> None:
        """Forget all that is kept in a home."""
        with self._lock:
            for entry in list(home.values()):
                self._remove(entry)

    def _remove(self, entry: _Entry | None) -> None:
        if entry is not None and self._order.pop(entry, self) is None:
            self.bytes -= entry.size_bytes
            if entry.home.get(entry.key) is entry:
                del entry.home[entry.key]


class Remembered(Generic[T]):
    """Values of one owner within a budget; when the owner lets go of this, they go."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._home: dict[Hashable, _Entry] = {}
        weakref.finalize(self, budget.release, self._home).atexit = False

    def __len__(self) -> int:
        return len(self._home)

    def get(self, key: Hashable) -> T | None:
        """The value, which becomes the most recently used, or None."""
        entry = self._home.get(key)
        if entry is None:
            return None
        self._budget.use(entry)
        value: T = entry.value
        return value

    def put(self, key: Hashable, value: T, size_bytes: int) -> None:
        """Remember a value; size_bytes: about what it takes, the key included."""
        self._budget.add(_Entry(self._home, key, value, size_bytes))
