"""What LocalStore is made of: the trailer of a file, durable directories, temporary files, locks.

Every file is the object's bytes, then 40 bytes, little-endian:

    magic 4 | version u8 | zeros 3 | generation u64 | nonce 16 | payload crc32 u32 | trailer crc32 u32

The ETag is generation and nonce, never a time: two versions written within one clock tick differ, and so do
an object and its successor after a delete. The payload comes first so that a file can be memory-mapped as the
object.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from elacsym.errors import CorruptObject
from elacsym.format.digest import crc32
from elacsym.store.base import Etag

_MAGIC = b"elob"
_VERSION = 1
_BODY = struct.Struct("<4sB3xQ16sI")
_CRC = struct.Struct("<I")
TRAILER_BYTES = _BODY.size + _CRC.size
assert TRAILER_BYTES == 40  # the layout is public: a change here is a new version

_LOCKS = 1024
_LOCK_PAUSE_S, _LOCK_PAUSE_S_MAX = 0.0005, 0.01
LOCK_WAIT_S = 10.0  # less than one try of the wrapper that retries
_OPEN_DIRECTORIES_MAX = 256


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a file says about the object in front of it."""

    generation: int
    nonce: bytes
    payload_crc: int

    @property
    def etag(self) -> Etag:
        """The ETag of this version."""
        return Etag(f"{self.generation:x}-{self.nonce.hex()}")

    def encode(self) -> bytes:
        """The 40 bytes."""
        body = _BODY.pack(_MAGIC, _VERSION, self.generation, self.nonce, self.payload_crc)
        return body + _CRC.pack(crc32(body))

    @classmethod
    def decode(cls, data: bytes, *, key: str, offset: int) -> Trailer:
        """Read 40 bytes found at `offset` of the file of `key`; raises CorruptObject."""
        if len(data) != TRAILER_BYTES:
            raise CorruptObject(key, f"trailer of {len(data)} bytes", offset=offset)
        body = data[: _BODY.size]
        if _CRC.unpack_from(data, _BODY.size)[0] != crc32(body):
            raise CorruptObject(key, "trailer checksum mismatch", offset=offset)
        magic, version, generation, nonce, payload_crc = _BODY.unpack(body)
        if (
            magic != _MAGIC
            or version != _VERSION
            or data != (trailer := cls(generation, nonce, payload_crc)).encode()
        ):
            raise CorruptObject(key, f"not a trailer of version {_VERSION}", offset=offset)
        return trailer


def sync(fd: int) -> None:
    """Make a file or directory survive a power loss."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # where fsync stops at the drive's own cache
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fsync(fd)


def sync_path(path: Path) -> None:
    """`sync` of the file or directory at `path`."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


class Directories:
    """Directories under `root` that are known to survive a power loss, with an open descriptor of each.

    A descriptor is that of the very directory whose entry in its parent was synced: after somebody removed
    it, linking into it fails with FileNotFoundError, and `forget` and another `open` make it anew. Nothing
    else can be concluded from a path alone, which may have come back as a directory that nobody has synced
    yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: OrderedDict[Path, int] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, path: Path) -> int:
        """A descriptor of the directory, made and synced up to the root if need be; the caller closes it."""
        with self._lock:
            known = self._known.get(path)
            if known is not None:
                self._known.move_to_end(path)
                return os.dup(known)  # ours to close, whatever happens to the cached one meanwhile
        fd = self._make(path)
        with self._lock:
            if path not in self._known:
                self._known[path] = os.dup(fd)
            if len(self._known) > _OPEN_DIRECTORIES_MAX:
                os.close(self._known.popitem(last=False)[1])
        return fd

    def forget(self, path: Path) -> None:
        """Drop what is known of a directory that turned out to be gone."""
        with self._lock:
            fd = self._known.pop(path, None)
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Close all descriptors."""
        with self._lock:
            for fd in self._known.values():
                os.close(fd)
            self._known.clear()

    def _make(self, path: Path) -> int:
        if path == self._root:
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        parent = self.open(path.parent)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(path.name, dir_fd=parent)
            fd = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=parent)
            sync(parent)  # also when it was there: whoever made it may not have got as far
            return fd
        except FileNotFoundError:
            self.forget(path.parent)
            raise
        finally:
            os.close(parent)


class Scratch:
    """This process's own folder of temporary files below `folder`; those of dead processes are removed.

    A live owner holds a flock on its folder, so a folder whose flock can be had is stale.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / owner
        with locked(folder / "sweep.lock"):
            for other in folder.iterdir():
                if other.is_dir():
                    _remove_if_stale(other)
            self.path.mkdir()
            self._fd = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._fd)


def _remove_if_stale(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # its owner closed in good order meanwhile
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(path: Path, wait_s_max: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the flock of a permanent lock file: against threads and processes alike; it ends with its owner.

    The file is never removed or replaced: locking a file that gets replaced lets two owners in. Raises
    TimeoutError after `wait_s_max`: a process that was stopped while it held the lock must not take the
    waiting threads of all others with it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(fd, wait_s_max)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, wait_s_max: float) -> None:
    pause_s, end_s = _LOCK_PAUSE_S, time.monotonic() + wait_s_max
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"another process holds its lock for {wait_s_max:g} s"
                ) from None
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LOCK_PAUSE_S_MAX)


def lock_name(key: str) -> str:
    """The lock file of a key: one of a fixed number, so that they need no collecting."""
    return f"{int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest()) % _LOCKS:04d}.lock"
