"""Memory maps that the cache serves bytes from: a sparse file, anonymous memory, a folder store's own file.

A map has the object's full size from the start and keeps its address; bytes are added behind it. No access
can fail: files are never cut, holes are not looked at, and what does not fit on the disk goes to memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import sys
import weakref
from pathlib import Path
from typing import Protocol

from elacsym.telemetry import CACHE_REQUESTS, get_logger

_log = get_logger(__name__)

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system
# address space that is never written must not count as memory that is promised
_NORESERVE = 0x4000 if sys.platform == "linux" else 0
_MAP_FIXED = 0x10
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)


class Backing(Protocol):
    """Where the bytes of one file are. is_final: the object itself, so damage in it cannot be mended.
    may_hold: there may be bytes that this process has not checked."""

    is_final: bool
    may_hold: bool

    @property
    def data(self) -> memoryview:
        """All of the file, read-only; bytes nobody has written are zeros."""
        ...

    def write(self, start: int, body: memoryview) -> None:
        """Put checked bytes in their place. Blocks."""
        ...

    def extents(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where something was ever written in [start, stop), ascending."""
        ...

    def held_bytes(self) -> tuple[int, int]:
        """How much is held on disk and in memory."""
        ...

    def seal(self) -> None:
        """Nothing will be written any more."""
        ...

    def unlink(self) -> None:
        """Nobody shall find these bytes any more."""
        ...


class SparseFile:
    """A file of the cache folder, made or opened at `path`; what is there stays. Raises OSError.

    The map is private to the process, and shows what is written to the file but in pages that were written to
    in the map itself. That happens where the disk is full: from then on everything goes to memory.

    Looking at a hole is an access to the disk, too: a full tmpfs kills whoever does it. It is for readers to
    keep to what was written, and for `write` to put memory in the place of holes.
    """

    is_final = False

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        fd, self.may_hold = _opened(path, size_bytes)
        self._close = weakref.finalize(self, os.close, fd)
        self._fd = fd
        flags = mmap.MAP_PRIVATE | _NORESERVE
        self._map = _mapped(fd, size_bytes, flags, mmap.PROT_READ | mmap.PROT_WRITE)
        self.data = memoryview(self._map).toreadonly()
        stat = os.fstat(fd)
        self._identity = (stat.st_dev, stat.st_ino)
        self._disk_bytes = self._written_bytes = _allocated_bytes(stat)
        self._memory_bytes = 0

    def write(self, start: int, body: memoryview) -> None:
        """See Backing."""
        if not self._memory_bytes:
            try:
                _write_all(self._fd, start, body)
                self._written_bytes += len(body)
                # some file systems tell what they allocated seconds later
                self._disk_bytes = max(self._written_bytes, _allocated_bytes(os.fstat(self._fd)))
                return
            except OSError as error:
                _log.warning("cache file cannot be written", path=str(self._path), error=str(error))
                self._fill_holes()
        # also what would fit again: half of a unit may be in a page that is memory
        self._map[start : start + len(body)] = body
        self._memory_bytes += len(body)

    def extents(self, start: int, stop: int) -> list[tuple[int, int]]:
        """See Backing."""
        found = []
        with contextlib.suppress(_NoMore):
            while start < stop:
                start = _seek(self._fd, start, os.SEEK_DATA)
                end = _seek(self._fd, start, os.SEEK_HOLE)
                if start < stop:
                    found.append((start, min(end, stop)))
                start = end
        return found

    def held_bytes(self) -> tuple[int, int]:
        """See Backing."""
        return self._disk_bytes, self._memory_bytes

    def _fill_holes(self) -> None:
        """Map anonymous memory in the place of the pages that the file does not have. Raises OSError."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        size_bytes = len(self._map)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE | _MAP_FIXED
        hole = 0
        for start, stop in [*self.extents(0, size_bytes), (_page_end(size_bytes), 0)]:
            first, end = _page_end(hole), start - start % mmap.PAGESIZE
            if first < end:
                prot = mmap.PROT_READ | mmap.PROT_WRITE
                if _libc.mmap(address + first, end - first, prot, flags, -1, 0) != address + first:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), str(self._path))
            hole = stop
        _avoid_huge_pages(self._map)

    def seal(self) -> None:
        """See Backing."""
        self._close()

    def unlink(self) -> None:
        """Remove the file, unless another took its place."""
        with contextlib.suppress(OSError):
            stat = self._path.stat()
            if (stat.st_dev, stat.st_ino) == self._identity:
                self._path.unlink()


class AnonymousMap:
    """Memory, page by page as it is written."""

    is_final = may_hold = False

    def __init__(self, size_bytes: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        self._map = mmap.mmap(-1, size_bytes, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        _avoid_huge_pages(self._map)
        self.data = memoryview(self._map).toreadonly()
        self._memory_bytes = 0

    def write(self, start: int, body: memoryview) -> None:
        """See Backing."""
        self._map[start : start + len(body)] = body
        self._memory_bytes += len(body)

    def extents(self, start: int, stop: int) -> list[tuple[int, int]]:  # noqa: ARG002 - all was checked
        """See Backing."""
        return []

    def held_bytes(self) -> tuple[int, int]:
        """See Backing."""
        return 0, self._memory_bytes

    def seal(self) -> None:
        """See Backing."""

    def unlink(self) -> None:
        """See Backing."""


class StoreFile:
    """The object itself, in a store that keeps files. Raises OSError."""

    is_final = may_hold = True

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.data = map_file(path)[:size_bytes]

    def write(self, start: int, body: memoryview) -> None:  # noqa: ARG002
        """Never called."""
        raise AssertionError("the object itself is not written")

    def extents(self, start: int, stop: int) -> list[tuple[int, int]]:
        """See Backing; an object has no holes."""
        return [(start, stop)]

    def held_bytes(self) -> tuple[int, int]:
        """Nothing of the cache's."""
        return 0, 0

    def seal(self) -> None:
        """See Backing."""

    def unlink(self) -> None:
        """See Backing."""


def map_file(path: Path) -> memoryview:
    """The bytes of a file as a read-only memory map, page-aligned; ValueError for an empty file."""
    with path.open("rb") as file:
        return memoryview(_mapped(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ))


def anonymous_copy(data: bytes) -> memoryview:
    """The bytes in page-aligned memory, as a file's map would be."""
    region = mmap.mmap(-1, len(data), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region[:] = data
    return memoryview(region).toreadonly()


def _mapped(fd: int, size_bytes: int, flags: int, prot: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):  # without a descriptor kept open for every map
        return mmap.mmap(fd, size_bytes, flags=flags, prot=prot, trackfd=False)
    return mmap.mmap(fd, size_bytes, flags=flags, prot=prot)


def _avoid_huge_pages(region: mmap.mmap) -> None:
    """Else 8 KiB here and there cost 2 MiB each."""
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):
            region.madvise(mmap.MADV_NOHUGEPAGE)


def _page_end(offset: int) -> int:
    return -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE


def _opened(path: Path, size_bytes: int) -> tuple[int, bool]:
    """A descriptor of the file at its full size, and whether it may hold anything."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        stat = os.fstat(fd)
        if stat.st_size not in (0, size_bytes):
            CACHE_REQUESTS.labels("disk", "corrupt").inc()
            # another process may have it mapped: a file is replaced, never cut
            path.unlink(missing_ok=True)
            os.close(fd)
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            stat = os.fstat(fd)
        os.ftruncate(fd, size_bytes)
        return fd, _allocated_bytes(stat) > 0
    except BaseException:
        os.close(fd)
        raise


def _write_all(fd: int, start: int, body: memoryview) -> None:
    while body:
        written = os.pwrite(fd, body, start)
        start, body = start + written, body[written:]


class _NoMore(Exception):
    """There is no data behind."""


def _seek(fd: int, start: int, whence: int) -> int:
    try:
        return os.lseek(fd, start, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise _NoMore from error
        raise


def _allocated_bytes(stat: os.stat_result) -> int:
    return stat.st_blocks * _BLOCK_BYTES
