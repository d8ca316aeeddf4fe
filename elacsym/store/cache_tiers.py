"""The disk tier of the object cache: which files are in the folder, and which have to go.

    {blake2b-128 of the key}.blocks     a blob of which some units are there: sparse, of the full size
    {blake2b-128 of the key}.whole      a copy of a whole object

Names say nothing about content: bytes are checked against the digests of whoever asks. Nothing is fsynced:
what a power loss tears fails its check and is fetched again. Sizes are those of the allocated blocks.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from elacsym.format.digest import blake2b_128
from elacsym.store.mapped import SparseFile
from elacsym.store.residents import Use
from elacsym.telemetry import CACHE_BYTES, CACHE_EVICTIONS, get_logger

_NAME = re.compile(r"[0-9a-f]{32}\.(blocks|whole)")
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system
_PROTECTED_SHARE = 0.8
_CORRELATED_S = 1.0  # uses this soon after a file was brought are those of the query that brought it
_GHOSTS_MAX = 4_096
_log = get_logger(__name__)


@dataclass(slots=True)
class Entry:
    """A file of the tier. seen_s: the last use that was taken into account."""

    size_bytes: int = 0
    use: Use = field(default_factory=Use)
    seen_s: float = float("-inf")


class SegmentedLru:
    """Sizes by name within `bytes_max`; says what has to go. Not thread-safe.

    A segmented LRU (Karedla, Love, Wherry 1994): what comes for the first time is on probation and goes
    first; what a later query uses again is protected, up to 80 % of the budget, so that a scan over
    everything does not flush it. A name that was evicted not long ago comes back protected, so that what is
    used seldom, but again and again, gets a place at last. Uses are noted in `Entry.use` and looked at when
    room is needed.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max, self.bytes = bytes_max, 0
        self._probation: OrderedDict[str, Entry] = OrderedDict()
        self._protected: OrderedDict[str, Entry] = OrderedDict()
        self._protected_bytes = 0
        self._ghosts: OrderedDict[str, None] = OrderedDict()

    def get(self, name: str) -> Entry | None:
        """The entry of a name."""
        return self._protected.get(name) or self._probation.get(name)

    def __len__(self) -> int:
        return len(self._protected) + len(self._probation)

    def resize(self, name: str, size_bytes: int, use: Use) -> list[str]:
        """Note the size of an entry, which comes into being; the names that had to go, maybe this one too."""
        entry = self.get(name)
        if entry is None:
            entry = Entry(use=use)
            if self._ghosts.pop(name, name) is None:
                self._protected[name] = entry
            else:
                self._probation[name] = entry
        growth = size_bytes - entry.size_bytes
        entry.size_bytes = size_bytes
        self._add(growth, is_protected=name in self._protected)
        return [*self._shrink(name)] if self.bytes > self.bytes_max else []

    def pop(self, name: str) -> Entry | None:
        """Forget an entry."""
        is_protected = name in self._protected
        entry = (self._protected if is_protected else self._probation).pop(name, None)
        if entry is not None:
            self._add(-entry.size_bytes, is_protected=is_protected)
        return entry

    def clear(self) -> None:
        """Forget all entries."""
        self._add(-self.bytes, is_protected=False)
        self._protected_bytes = 0
        self._probation.clear()
        self._protected.clear()
        self._ghosts.clear()

    def _shrink(self, newest: str) -> Iterable[str]:
        if (entry := self.get(newest)) is not None and entry.size_bytes > self.bytes_max:
            self._evict(newest)
            yield newest
        while self.bytes > self.bytes_max:
            self._demote()
            name, entry = next(iter(self._probation.items()))
            if entry.use.used_s > max(entry.seen_s, entry.use.brought_s + _CORRELATED_S):
                self._promote(name, entry)
            elif name == newest and len(self._probation) > 1:
                self._probation.move_to_end(name)
            else:
                self._evict(name)
                yield name

    def _demote(self) -> None:
        """Keep the protected part within its share, and something on probation.

        A protected entry that was used since goes round once.
        """
        share_bytes = int(self.bytes_max * _PROTECTED_SHARE)
        while self._protected and (self._protected_bytes > share_bytes or not self._probation):
            name, entry = next(iter(self._protected.items()))
            if entry.use.used_s > entry.seen_s:
                entry.seen_s = entry.use.used_s
                self._protected.move_to_end(name)
                continue
            del self._protected[name]
            self._protected_bytes -= entry.size_bytes
            self._probation[name] = entry

    def _promote(self, name: str, entry: Entry) -> None:
        entry.seen_s = entry.use.used_s
        self._protected[name] = self._probation.pop(name)
        self._protected_bytes += entry.size_bytes

    def _evict(self, name: str) -> None:
        self.pop(name)
        CACHE_EVICTIONS.labels("disk").inc()
        self._ghosts[name] = None
        if len(self._ghosts) > _GHOSTS_MAX:
            self._ghosts.popitem(last=False)

    def _add(self, size_bytes: int, *, is_protected: bool) -> None:
        self.bytes += size_bytes
        self._protected_bytes += size_bytes if is_protected else 0
        CACHE_BYTES.labels("disk").inc(size_bytes)


class CacheFolder:
    """The files in `folder`, at most `bytes_max` bytes; an earlier process's are used again. Thread-safe.

    Making it reads the folder, and raises OSError. Unlinking a mapped file is safe: the map keeps its bytes.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._lru = SegmentedLru(bytes_max)
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        gone = []
        for _, name, size_bytes in sorted(_files(folder)):
            if _NAME.fullmatch(name) is None:
                gone.append(name)  # a temporary file of a process that was killed
            else:
                gone += self._lru.resize(name, size_bytes, Use())
        self.unlink(gone)

    @property
    def held_bytes(self) -> int:
        """Bytes of all files."""
        return self._lru.bytes

    @property
    def bytes_max(self) -> int:
        """The budget."""
        return self._lru.bytes_max

    def use_of(self, name: str) -> Use | None:
        """The use of a file that is there."""
        with self._lock:
            entry = self._lru.get(name)
            return None if entry is None else entry.use

    def resize(self, name: str, size_bytes: int, use: Use) -> list[str]:
        """Note the size of a file; the names of those that have to go, which the caller removes."""
        with self._lock:
            return self._lru.resize(name, size_bytes, use)

    def forget(self, name: str) -> None:
        """Forget a file, which the caller removes."""
        with self._lock:
            self._lru.pop(name)

    def put_aside(self, names: Iterable[str]) -> list[str]:
        """Rename files, which is quick, so that their names are free; `unlink` these."""
        aside = []
        for name in names:
            unused = f"{os.urandom(8).hex()}.gone"
            with contextlib.suppress(OSError):
                (self._folder / name).rename(self._folder / unused)
                aside.append(unused)
        return aside

    def unlink(self, names: Iterable[str]) -> None:
        """Remove files. Blocks."""
        for name in names:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)

    def sparse(self, name: str, size_bytes: int) -> SparseFile:
        """The sparse file of this name, made if need be. Raises OSError. Blocks."""
        return SparseFile(self._folder / name, size_bytes)

    def write(self, name: str, data: bytes) -> int | None:
        """Write a whole copy: the bytes it takes, or None if the disk is full. Blocks."""
        temporary = self._folder / f"{os.urandom(8).hex()}.tmp"
        try:
            temporary.write_bytes(data)
            size_bytes = temporary.stat().st_blocks * _BLOCK_BYTES
            temporary.replace(self._folder / name)
            return size_bytes
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            _log.warning("cache folder cannot be written", folder=str(self._folder), error=str(error))
            return None

    def path(self, name: str) -> Path:
        """Where a file is."""
        return self._folder / name

    def close(self) -> None:
        """Forget the index; the files stay for the next process."""
        with self._lock:
            self._lru.clear()


def blocks_name(key: str) -> str:
    """The name of the sparse file of a blob."""
    return f"{blake2b_128(key.encode())}.blocks"


def whole_name(key: str) -> str:
    """The name of the copy of a whole object."""
    return f"{blake2b_128(key.encode())}.whole"


def _files(folder: Path) -> list[tuple[int, str, int]]:
    """(modification time, name, allocated bytes) of the regular files in a folder."""
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    rows.append((stat.st_mtime_ns, entry.name, stat.st_blocks * _BLOCK_BYTES))
    return rows
