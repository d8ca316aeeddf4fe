"""LocalStore: the object store protocol on a folder, durable at the return of every mutation.

Create = temporary file, fsync, `link` (which fails where the name exists), fsync of the folder. Replace = the
same under a lock with the ETag compared first, and `rename` for `link`. A reader opens a file once and so
sees one version whole; a power loss leaves the version before or the version after, never a mix. Several
processes may share a folder.

    .locks/     lock files, permanent           .tmp/{owner}/     temporary files, removed at the next start
    everything else: one file per object, named by its key; see local_files for the bytes

A version can be read between its `rename` and the fsync that makes it durable; whoever wrote it has no answer
yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from elacsym.clock import new_nonce, system_random
from elacsym.compute import in_thread
from elacsym.errors import CorruptObject, InvalidRequest, StoreUnavailable
from elacsym.format.digest import crc32
from elacsym.store.base import UNCHANGED, Etag, ObjectInfo, StoredObject, Unchanged
from elacsym.store.local_files import (
    LOCK_WAIT_S,
    TRAILER_BYTES,
    Directories,
    Scratch,
    Trailer,
    lock_name,
    locked,
    sync,
    sync_path,
)
from elacsym.store.promptness import Promptness
from elacsym.store.ranges import GAP_BYTES_MAX

T = TypeVar("T")

_KEY = re.compile(r"[A-Za-z0-9_\-!.=]+(/[A-Za-z0-9_\-!.=]+)*")
_LIST_BATCH = 1000
_TRIES_MAX = 16  # of making a folder that somebody keeps removing; each finds one removed level


class LocalStore:
    """Objects as files below `root`, which is made if need be; blocking calls run in `threads` own threads.

    `rng` makes the nonces and must differ between processes. lock_wait_s: how long a mutation waits for one
    of another process. Raises StoreUnavailable if `root` cannot be used.
    """

    def __init__(
        self,
        root: Path,
        *,
        threads: int = 16,
        rng: random.Random | None = None,
        lock_wait_s: float = LOCK_WAIT_S,
    ) -> None:
        self.root = root.absolute()
        self._lock_wait_s = lock_wait_s
        self._rng = rng or system_random()
        self._locks = self.root / ".locks"
        try:
            self._locks.mkdir(parents=True, exist_ok=True)
            self._scratch = Scratch(self.root / ".tmp", f"{os.getpid()}-{new_nonce(self._rng)}")
            sync_path(self.root.parent)
        except OSError as error:
            raise StoreUnavailable(f"folder '{self.root}' cannot be used: {error.strerror}") from error
        self._directories = Directories(self.root)
        self._promptness = Promptness()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="local-store")

    @property
    def identity(self) -> str:
        """Where the objects are, for people."""
        return self.root.as_uri()

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore; raises CorruptObject if the checksum does not fit."""
        return await self._run(key, self._get)

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        """See ObjectStore; an unchanged object costs 40 bytes of reading."""
        return await self._run(key, lambda k: self._timed_get_if_changed(k, etag))

    def is_unchanged_now(self, key: str, etag: Etag, absent: str) -> bool:
        """Whether there is no object `absent`, and after that `key` has `etag`, told at once: two small reads
        on the caller's stack. False where that is not so or not known, and while the folder is not prompt.

        Blocks for microseconds.
        """
        if not self._promptness.is_given:
            return False
        began_s = time.monotonic()
        try:
            # texts, because paths take longer than the system calls
            if os.path.lexists(f"{self.root}/{absent}"):
                return False
            fd = os.open(f"{self.root}/{key}", os.O_RDONLY)
            try:
                return _trailer_of(fd, key)[1].etag == etag
            finally:
                os.close(fd)
        except (OSError, CorruptObject):
            return False  # the ordinary read says what is wrong
        finally:
            self._promptness.note(time.monotonic() - began_s)

    async def get_ranges(
        self,
        key: str,
        ranges: Sequence[tuple[int, int]],
        *,
        gap_bytes: int = GAP_BYTES_MAX,  # noqa: ARG002 - nothing is sent
    ) -> list[bytes] | None:
        """See ObjectStore; the parts are not checked against the payload's checksum."""
        return await self._run(key, lambda k: _read_ranges(self._path(k), k, ranges))

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore; two fsyncs where the folder exists."""
        return await self._run(key, lambda k: self._create(k, data))

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        return await self._run(key, lambda k: self._replace(k, data, etag))

    async def delete(self, key: str) -> None:
        """See ObjectStore; folders that become empty go too."""
        await self._run(key, self._delete)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See ObjectStore; what is created or deleted meanwhile may or may not be seen."""
        rows = self._scan(self.root, "", prefix)
        while batch := await self._run(prefix, lambda _: list(islice(rows, _LIST_BATCH))):
            for row in batch:
                yield row

    async def close(self) -> None:
        """Wait for running operations, remove the temporary folder."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def local_file(self, key: str) -> tuple[Path, int] | None:
        """The file that begins with the object's bytes, and how many they are.

        None if there is none. Blocks.
        """
        path = self._path(key)
        with _opened(path) as file:
            if file is None:
                return None
            size_bytes, _ = _trailer_of(file.fileno(), key)
            return path, size_bytes

    async def _run(self, key: str, work: Callable[[str], T]) -> T:
        def guarded() -> T:
            try:
                return work(key)
            except OSError as error:
                raise StoreUnavailable(f"'{key}': {error.strerror or error}") from error

        return await in_thread(self._pool, guarded)

    def _close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._directories.close()
        self._scratch.close()

    def _path(self, key: str) -> Path:
        if _KEY.fullmatch(key) is None or any(part.startswith(".") for part in key.split("/")):
            raise InvalidRequest("key", f"'{key}' cannot name a file")
        return self.root / key

    def _get(self, key: str) -> StoredObject | None:
        with _opened(self._path(key)) as file:
            return None if file is None else _read(file, key)

    def _get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        with _opened(self._path(key)) as file:
            if file is None:
                return None
            return UNCHANGED if _trailer_of(file.fileno(), key)[1].etag == etag else _read(file, key)

    def _timed_get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        began_s = time.monotonic()
        found = self._get_if_changed(key, etag)
        if found is UNCHANGED:
            self._promptness.note(time.monotonic() - began_s)
        return found

    def _create(self, key: str, data: bytes) -> Etag | None:
        path = self._path(key)
        if path.exists():
            with contextlib.suppress(FileNotFoundError):
                sync_path(path.parent)  # a refusal speaks of an object, which must not vanish afterwards
            return None
        with self._written(data, generation=1) as (temporary, etag):
            for _ in range(_TRIES_MAX):
                with contextlib.suppress(FileNotFoundError), self._folder(path.parent) as folder:
                    try:
                        os.link(temporary, path.name, dst_dir_fd=folder)
                    except FileExistsError:
                        sync(folder)
                        return None
                    sync(folder)
                    return etag
                self._directories.forget(path.parent)
        raise StoreUnavailable(f"'{key}': folder removed {_TRIES_MAX} times")

    def _replace(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        path = self._path(key)
        with locked(self._locks / lock_name(key), self._lock_wait_s):
            with _opened(path) as file:
                current = None if file is None else _trailer_of(file.fileno(), key)[1]
            if current is None:
                return None
            if current.etag != etag:
                sync_path(path.parent)  # as in a refused create
                return None
            with self._written(data, current.generation + 1) as (temporary, new_etag):
                with self._folder(path.parent) as folder:
                    os.replace(temporary, path.name, dst_dir_fd=folder)
                    sync(folder)
                return new_etag

    def _delete(self, key: str) -> None:
        path = self._path(key)
        # else a replacement that is under way would bring it back
        with locked(self._locks / lock_name(key), self._lock_wait_s):
            try:
                folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            except (FileNotFoundError, NotADirectoryError):
                return
            try:
                os.unlink(path.name, dir_fd=folder)
                sync(folder)  # through its descriptor: as soon as it is empty another delete may remove it
            except FileNotFoundError:
                return
            finally:
                os.close(folder)
        for parent in path.parents:
            if parent == self.root:
                break
            try:
                parent.rmdir()
            except OSError:  # not empty, or gone
                break
            self._directories.forget(parent)

    @contextlib.contextmanager
    def _written(self, data: bytes, generation: int) -> Iterator[tuple[Path, Etag]]:
        """A durable temporary file of `data` and its trailer, and its ETag.

        Removed in the end unless moved away.
        """
        assert data, "empty object"
        nonce = new_nonce(self._rng)
        trailer = Trailer(generation, bytes.fromhex(nonce), crc32(data))
        path = self._scratch.path / nonce
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                _write_all(fd, data, trailer.encode())
                sync(fd)
            finally:
                os.close(fd)
            yield path, trailer.etag
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _folder(self, path: Path) -> Iterator[int]:
        fd = self._directories.open(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def _scan(self, folder: Path, above: str, prefix: str) -> Iterator[ObjectInfo]:
        """Objects below `folder`, whose keys begin with `above`, in key order."""
        try:
            with os.scandir(folder) as entries:
                rows = [(e.name + "/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in entries]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, entry in sorted(rows, key=lambda row: row[0]):
            key = above + name
            if name.startswith(".") or not (key.startswith(prefix) or prefix.startswith(key)):
                continue
            if name.endswith("/"):
                yield from self._scan(Path(entry.path), key, prefix)
            elif key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    yield ObjectInfo(key, max(0, stat.st_size - TRAILER_BYTES), stat.st_mtime_ns // 1_000_000)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    try:
        file = path.open("rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        yield None
        return
    with file:
        yield file


def _trailer_of(fd: int, key: str) -> tuple[int, Trailer]:
    """The payload's size in bytes, and the trailer."""
    size_bytes = os.fstat(fd).st_size - TRAILER_BYTES
    if size_bytes <= 0:
        raise CorruptObject(
            key, f"file of {size_bytes + TRAILER_BYTES} bytes is shorter than any object", offset=0
        )
    data = os.pread(fd, TRAILER_BYTES, size_bytes)
    return size_bytes, Trailer.decode(data, key=key, offset=size_bytes)


def _read(file: BinaryIO, key: str) -> StoredObject:
    size_bytes, trailer = _trailer_of(file.fileno(), key)
    data = file.read(size_bytes)
    while len(data) < size_bytes:  # one read call stops at 2 GiB
        part = file.read(size_bytes - len(data))
        if not part:
            raise CorruptObject(key, f"file ends at byte {len(data)} of {size_bytes}", offset=len(data))
        data += part
    if crc32(data) != trailer.payload_crc:
        raise CorruptObject(key, "payload checksum mismatch", offset=0)
    return StoredObject(data, trailer.etag)


def _read_ranges(path: Path, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
    with _opened(path) as file:
        if file is None:
            return None
        fd, (size_bytes, _) = file.fileno(), _trailer_of(file.fileno(), key)
        return [os.pread(fd, max(0, min(end, size_bytes) - start), start) for start, end in ranges]


def _write_all(fd: int, *parts: bytes) -> None:
    rest = [memoryview(part) for part in parts]
    while rest:
        written = os.writev(fd, rest)
        if not written:
            raise OSError(errno.EIO, "nothing was written")
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][written:]
