"""What is kept between queries: values by key, the least recently used forgotten beyond some bytes."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# of what an owner let go of so much is forgotten at a time, which takes well below a millisecond
_FORGOTTEN_AT_ONCE = 512


class _Entry:
    """A value and where it is kept. It is equal to itself only."""

    __slots__ = ("home", "key", "size_bytes", "value")

    def __init__(self, home: dict[Hashable, _Entry], key: Hashable, value: Any, size_bytes: int) -> None:
        self.home, self.key, self.value, self.size_bytes = home, key, value, size_bytes


class Budget:
    """Bytes that may be remembered, by all `Remembered` that share it together; the newest value is kept
    whatever its size. Thread-safe.

    bytes: what is remembered now, and what owners let go of but is not forgotten yet.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.bytes = bytes_max, 0
        # used without the lock, too: each call is one step, since entries are compared by identity
        self._order: OrderedDict[_Entry, None] = OrderedDict()
        self._gone: deque[dict[Hashable, _Entry]] = deque()
        self._lock = threading.Lock()

    def use(self, entry: _Entry) -> None:
        """Make an entry the most recently used."""
        try:
            self._order.move_to_end(entry)
        except KeyError:
            return  # another thread has just made room

    def add(self, entry: _Entry) -> None:
        """Keep an entry in its home, in place of another of its key."""
        self._forget_gone()
        with self._lock:
            old = entry.home.get(entry.key)
            if old is not None and self._order.pop(old, self) is None:
                self.bytes -= old.size_bytes
            entry.home[entry.key] = entry
            self._order[entry] = None
            self.bytes += entry.size_bytes
            while self.bytes > self.bytes_max and len(self._order) > 1:
                oldest, _ = self._order.popitem(last=False)
                self.bytes -= oldest.size_bytes
                del oldest.home[oldest.key]
        self._forget_gone()

    def release(self, home: dict[Hashable, _Entry]) -> None:
        """Forget all that is kept in a home: many values a piece at a time, here and whenever one is added.

        May be called at any allocation, also of a thread that is adding.
        """
        self._gone.append(home)
        self._forget_gone()

    def _forget_gone(self) -> None:
        """Forget a piece of what owners let go of, unless a thread is adding, which does it then."""
        if not self._gone or not self._lock.acquire(blocking=False):
            return
        try:
            for _ in range(_FORGOTTEN_AT_ONCE):
                while self._gone and not self._gone[0]:
                    self._gone.popleft()
                if not self._gone:
                    break
                _, entry = self._gone[0].popitem()
                del self._order[entry]
                self.bytes -= entry.size_bytes
        finally:
            self._lock.release()


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
