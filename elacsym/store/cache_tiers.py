"""The two tiers of the object cache: bytes in memory, verified copies in a folder. Both LRU by bytes.

A copy's file holds the object's bytes and nothing else; its name says what they must be:

    {blake2b-128 of the entry's name}.{blake2b-128 of the bytes}.{ETag in hexadecimal}

Copies are not fsynced: after a power loss a torn one fails its digest, is dropped, and is fetched again.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from elacsym.format.digest import blake2b_128
from elacsym.store.base import Etag, StoredObject
from elacsym.telemetry import CACHE_BYTES, CACHE_EVICTIONS, get_logger

V = TypeVar("V")

_COPY = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{32})\.((?:[0-9a-f]{2})*)")
_FILE_NAME_BYTES_MAX = 255
_log = get_logger(__name__)


class LruBytes(Generic[V]):
    """Values by name, the least recently used forgotten first when their sizes exceed `bytes_max`.

    `tier` labels the metrics. Not thread-safe: used on the event loop alone.
    """

    def __init__(self, tier: str, bytes_max: int) -> None:
        self._tier, self.bytes_max = tier, bytes_max
        self._values: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def get(self, name: str) -> V | None:
        """The value, which becomes the most recently used, or None."""
        found = self._values.get(name)
        if found is None:
            return None
        self._values.move_to_end(name)
        return found[0]

    def put(self, name: str, value: V, size_bytes: int) -> list[V]:
        """Remember a value; returns those that had to go. One that is larger than everything is not kept."""
        gone = [old] if (old := self.pop(name)) is not None else []
        if size_bytes > self.bytes_max:
            return [*gone, value]
        self._values[name] = (value, size_bytes)
        self._add(size_bytes)
        while self.bytes > self.bytes_max:
            _, (evicted, evicted_bytes) = self._values.popitem(last=False)
            self._add(-evicted_bytes)
            CACHE_EVICTIONS.labels(self._tier).inc()
            gone.append(evicted)
        return gone

    def pop(self, name: str) -> V | None:
        """Forget a value and return it."""
        found = self._values.pop(name, None)
        if found is None:
            return None
        self._add(-found[1])
        return found[0]

    def clear(self) -> None:
        """Forget everything."""
        self._add(-self.bytes)
        self._values.clear()

    def _add(self, size_bytes: int) -> None:
        self.bytes += size_bytes
        CACHE_BYTES.labels(self._tier).inc(size_bytes)


@dataclass(slots=True)
class Copy:
    """One file of the folder. `is_verified`: its bytes were seen to have `digest` in this process."""

    path: Path
    digest: str
    etag: Etag
    is_verified: bool = False


class CacheFolder:
    """Copies of objects in `folder`, at most `bytes_max` bytes; an earlier process's are used again.

    `find`, `keep` and `drop` only touch the index and unlink; `write` and `open_copy` do the file I/O and
    belong off the event loop. Unlinking a file that is mapped is safe: the mapping keeps its bytes.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._copies: LruBytes[Copy] = LruBytes("disk", bytes_max)
        folder.mkdir(parents=True, exist_ok=True)
        for _, name, size_bytes in sorted(_files(folder)):
            match = _COPY.fullmatch(name)
            path = folder / name
            if match is None:
                path.unlink(missing_ok=True)  # a temporary file of a process that was killed
                continue
            copy = Copy(path, match[2], Etag(bytes.fromhex(match[3]).decode(errors="replace")))
            self._unlink(self._copies.put(match[1], copy, size_bytes))

    @property
    def bytes(self) -> int:
        """Bytes of all copies."""
        return self._copies.bytes

    def find(self, name: str) -> Copy | None:
        """The copy of an entry, which becomes the most recently used, or None."""
        return self._copies.get(_hash(name))

    def write(self, name: str, found: StoredObject) -> Copy | None:
        """Write a copy, or None if it is too large or the disk is full. Blocks."""
        digest = blake2b_128(found.data)
        file_name = f"{_hash(name)}.{digest}.{found.etag.encode().hex()}"
        if len(found.data) > self._copies.bytes_max or len(file_name) > _FILE_NAME_BYTES_MAX:
            return None
        path = self._folder / file_name
        temporary = self._folder / f"{os.urandom(8).hex()}.tmp"
        try:
            temporary.write_bytes(found.data)
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            _log.warning("cache folder cannot be written", folder=str(self._folder), error=str(error))
            return None
        return Copy(path, digest, found.etag, is_verified=True)

    def keep(self, name: str, copy: Copy, size_bytes: int) -> None:
        """Enter a written copy into the index, and remove those that have no room any more."""
        gone = self._copies.put(_hash(name), copy, size_bytes)
        # an entry written twice has the same file
        self._unlink([old for old in gone if old is copy or old.path != copy.path])

    def drop(self, name: str) -> None:
        """Remove the copy of an entry, if there is one."""
        copy = self._copies.pop(_hash(name))
        if copy is not None:
            self._unlink([copy])

    def close(self) -> None:
        """Forget the index; the files stay for the next process."""
        self._copies.clear()

    def _unlink(self, copies: list[Copy]) -> None:
        for copy in copies:
            with contextlib.suppress(OSError):
                copy.path.unlink(missing_ok=True)


def open_copy(copy: Copy) -> memoryview | None:
    """The bytes of a copy, mapped, or None if they are not those that were written. Blocks."""
    try:
        data = map_file(copy.path)
    except (OSError, ValueError):  # gone, unreadable, or cut to nothing
        return None
    if not copy.is_verified and blake2b_128(data) != copy.digest:
        return None
    copy.is_verified = True
    return data


def map_file(path: Path) -> memoryview:
    """The bytes of a file as a read-only memory map, page-aligned; ValueError for an empty file."""
    with path.open("rb") as file:
        if sys.version_info >= (3, 13):  # without a descriptor kept open for every map
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ, trackfd=False))
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _hash(name: str) -> str:
    return blake2b_128(name.encode())


def _files(folder: Path) -> list[tuple[int, str, int]]:
    """(modification time, name, size in bytes) of the regular files in a folder."""
    rows = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    rows.append((stat.st_mtime_ns, entry.name, stat.st_size))
    return rows
