"""ObjectCache: immutable objects through memory and disk, within budgets that all namespaces share.

    file(key)     a blob of which any ranges are brought when they are wanted; see blocks
    map(key)      a whole object, checked against its digest
    residents     what was made of them

Only keys that are written once and never replaced belong here. A store that is a folder is mapped in place;
else blobs are sparse files and other objects copies in the cache folder, or in memory up to 64 KiB and where
there is no room on disk. Everything from network or disk is checked before it is used, and what is damaged is
dropped and fetched again. What is evicted while it is in use stays readable; its bytes go with the last user.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from elacsym.clock import Clock, SystemClock
from elacsym.compute import Compute
from elacsym.errors import CorruptObject, Unavailable
from elacsym.format.digest import blake2b_128
from elacsym.format.keys import job_of_segment_file
from elacsym.format.manifest import FileRef
from elacsym.format.reading import GAP_BYTES
from elacsym.store.base import ObjectStore
from elacsym.store.blocks import PIECE_BYTES, BlockFile, ObjectMissing
from elacsym.store.cache_tiers import CacheFolder, blocks_name, whole_name
from elacsym.store.mapped import AnonymousMap, Backing, StoreFile, anonymous_copy, map_file
from elacsym.store.residents import MAPS, MEMORY, Residents, Use
from elacsym.store.wrapper import StoreWrapper, keeps_files, local_file_of
from elacsym.telemetry import CACHE_REQUESTS, count_read, get_logger

__all__ = ["SMALL_BYTES_MAX", "CachedStore", "ObjectCache", "ObjectMissing"]

T = TypeVar("T")

SMALL_BYTES_MAX = 64 * 1024  # of a whole object that memory keeps
_VERIFIED_MAX = 65_536
_FETCHES_MAX = 2  # a body damaged on its way may be whole the second time
_FILES_OPEN_MAX = 8_192
_log = get_logger(__name__)


class ObjectCache:
    """A cache in front of `store`. `folder` None, or one that cannot be used, means memory only.

    disk_bytes_max: budget of the folder. memory_bytes_max: of structures, small objects and files without a
    place on disk together. `compute` runs checks and file I/O. files_open_max: files held open at once, by
    default a quarter of the descriptors that the process may have.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        compute: Compute,
        folder: Path | None = None,
        disk_bytes_max: int = 10 * 2**30,
        memory_bytes_max: int = 256 * 2**20,
        files_open_max: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store, self._compute = store, compute
        self._now_s = (clock or SystemClock()).monotonic_s
        self.residents = Residents(memory_bytes_max, use_of=self._use_of, now_s=self._now_s)
        self._is_local = keeps_files(store)
        self._folder = None if self._is_local else _usable(folder, disk_bytes_max)
        self._files: WeakValueDictionary[str, BlockFile] = WeakValueDictionary()
        self._files_open_max = files_open_max or _files_open_max()
        self._lock = threading.RLock()
        self._verified: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Any]] = {}

    def file(self, key: str, ref: FileRef) -> BlockFile:
        """The blob `ref` at `key`; the same file for as long as somebody refers to it and it is not evicted.

        No I/O; any thread. Hold it no longer than a query, or in `residents`: what is evicted keeps its place
        on disk until nobody refers to it.
        """
        name = blocks_name(key)
        with self._lock:
            file = self._files.get(name)
            if file is not None and file.ref == ref:
                file.use.used_s = self._now_s()
                return file
            if len(self._files) >= self._files_open_max:
                self._close_some()
            use = self._folder.use_of(name) if self._folder is not None else None
            file = self._files[name] = BlockFile(
                key,
                ref,
                store=self._store,
                compute=self._compute,
                open_=lambda: self._backing(key, ref),
                on_growth=self._note_growth,
                use=use or Use(self._now_s()),
                now_s=self._now_s,
            )
        # of an evicted file that is still in use: they would keep its bytes on the disk
        self.residents.drop(key)
        return file

    async def warm(self, key: str, ref: FileRef) -> None:
        """Bring the whole blob, piece by piece; no more than a budget can keep.

        Raises ObjectMissing, CorruptObject, StoreUnavailable.
        """
        file = self.file(key, ref)
        for start in range(0, ref.size_bytes, PIECE_BYTES):
            await file.bring([(start, min(start + PIECE_BYTES, ref.size_bytes))], GAP_BYTES)
            if not self._keeps(file):
                return

    async def map(self, key: str, size_bytes: int, digest: str) -> memoryview:
        """The whole object of `size_bytes` whose blake2b-128 is `digest`, read-only.

        Above 64 KiB it begins at a page. Raises ObjectMissing, and CorruptObject if what the store holds has
        another size or digest.
        """
        if self._is_local:
            return await self._once(f"{key}@{digest}", lambda: self._map_local(key, size_bytes, digest))
        if size_bytes <= SMALL_BYTES_MAX:
            small: memoryview | None = self.residents.get(_small_name(key, digest), tier=MEMORY)
            if small is not None:
                return small
        return await self._once(f"{key}@{digest}", lambda: self._map_remote(key, size_bytes, digest))

    def drop(self, key: str) -> None:
        """Forget an object: it was deleted, or its bytes turned out to be damaged."""
        file = self._files.get(blocks_name(key))
        if file is not None:
            self._detach(file)
        self.residents.drop(key, tier=None)
        if self._folder is not None:
            for name in (blocks_name(key), whole_name(key)):
                self._folder.forget(name)
                self._folder.unlink([name])

    async def close(self) -> None:
        """End fetches that are under way; the folder stays for the next process."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        with self._lock:
            files = list(self._files.values())
        for file in files:
            tasks += file.close()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.residents.clear()
        if self._folder is not None:
            self._folder.close()

    # blobs

    def _backing(self, key: str, ref: FileRef) -> Backing:
        """The place of a blob's bytes. Blocks."""
        if self._is_local:
            return self._store_file(key, ref.size_bytes)
        if self._folder is not None:
            try:
                return self._folder.sparse(blocks_name(key), ref.size_bytes)
            except OSError as error:
                _log.warning("cache file cannot be made", key=key, error=str(error))
        return AnonymousMap(ref.size_bytes)

    async def _note_growth(self, file: BlockFile) -> None:
        """Account for what a file holds; unlink what has no room any more."""
        if not self._keeps(file):
            file.unlink()
            return
        disk_bytes, memory_bytes = file.held_bytes()
        if memory_bytes:
            self.residents.put(
                f"{file.key}#map", file, memory_bytes, tier=MAPS, on_gone=lambda: self._detach(file)
            )
        if disk_bytes and self._folder is not None:
            gone = self._folder.resize(blocks_name(file.key), disk_bytes, file.use)
            await self._evict(gone)

    async def _evict(self, names: list[str]) -> None:
        if not names or self._folder is None:
            return
        with self._lock:
            for name in names:
                if (file := self._files.get(name)) is not None:
                    self._detach(file)
            aside = self._folder.put_aside(names)
        await self._compute.run(self._folder.unlink, aside)

    def _detach(self, file: BlockFile) -> None:
        """Let go of a file: whoever uses it goes on, the next `file` makes another."""
        with self._lock:
            if not self._keeps(file):
                return
            del self._files[blocks_name(file.key)]
            if self._folder is not None:
                self._folder.forget(blocks_name(file.key))
            file.unlink()
        self.residents.drop(file.key)
        self.residents.drop(file.key, tier=MAPS)

    def _keeps(self, file: BlockFile) -> bool:
        return self._files.get(blocks_name(file.key)) is file

    def _close_some(self) -> None:
        """Drop what was made of the files that were looked at longest ago, so that they are closed."""
        oldest = sorted(self._files.values(), key=lambda file: file.use.used_s)
        for file in oldest[: max(1, self._files_open_max // 8)]:
            self.residents.drop(file.key)

    def _use_of(self, name: str) -> Use | None:
        file = self._files.get(blocks_name(name.partition("#")[0]))
        return None if file is None else file.use

    # whole objects

    async def _map_local(self, key: str, size_bytes: int, digest: str) -> memoryview:
        """Map the store's own file; its digest is computed at the first map in this process."""
        is_verified = (key, digest) in self._verified

        def open_file() -> memoryview:
            data = self._store_file(key, size_bytes).data
            if not is_verified:
                _check(key, data, size_bytes, digest)
            return data

        data = await self._compute.run(open_file)
        count_read(disk_bytes=size_bytes)
        self._remember_verified(key, digest)
        return data

    def _store_file(self, key: str, size_bytes: int) -> StoreFile:
        """The store's own file of an object of this size. Blocks."""
        try:
            found = local_file_of(self._store, key)
            if found is None:
                raise ObjectMissing(key)
            if found[1] != size_bytes:
                _wrong_size(key, found[1], size_bytes)
            return StoreFile(*found)
        except FileNotFoundError as error:
            raise ObjectMissing(key) from error
        except OSError as error:
            raise Unavailable(f"'{key}' cannot be mapped: {error.strerror}") from error

    async def _map_remote(self, key: str, size_bytes: int, digest: str) -> memoryview:
        name, is_small = whole_name(key), size_bytes <= SMALL_BYTES_MAX
        use = self._folder.use_of(name) if self._folder is not None else None
        if self._folder is not None and use is not None:
            data = await self._compute.run(self._open_copy, key, size_bytes, digest)
            CACHE_REQUESTS.labels("disk", "corrupt" if data is None else "hit").inc()
            if data is not None:
                use.used_s = self._now_s()
                count_read(disk_bytes=size_bytes)
                return data
            _log.warning("damaged copy dropped", key=key, path=str(self._folder.path(name)))
            self._folder.forget(name)
            await self._compute.run(self._folder.unlink, [name])
        elif not is_small:
            CACHE_REQUESTS.labels("disk", "miss").inc()
        body = await self._fetch_verified(key, size_bytes, digest)
        if is_small:
            self.residents.put(_small_name(key, digest), memoryview(body), size_bytes, tier=MEMORY)
            return memoryview(body)
        return await self._kept_mapped(key, body, digest)

    async def _fetch_verified(self, key: str, size_bytes: int, digest: str) -> bytes:
        for tries_left in reversed(range(_FETCHES_MAX)):
            found = await self._store.get(key)
            if found is None:
                raise ObjectMissing(key)
            count_read(store_bytes=len(found.data), store_requests=1)
            try:
                await self._compute.run(_check, key, found.data, size_bytes, digest)
                return found.data
            except CorruptObject:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _kept_mapped(self, key: str, data: bytes, digest: str) -> memoryview:
        """A map of a new copy of an object, or of memory where there is no room on disk."""
        folder, name = self._folder, whole_name(key)
        if (
            folder is not None
            and len(data) <= folder.bytes_max
            and await self._compute.run(folder.write, name, data)
        ):
            self._remember_verified(key, digest)
            copy = await self._compute.run(self._open_copy, key, len(data), digest)
            now_s = self._now_s()
            await self._evict(folder.resize(name, len(data), Use(now_s, now_s)))
            if copy is not None:
                return copy
        return await self._compute.run(anonymous_copy, data)

    def _open_copy(self, key: str, size_bytes: int, digest: str) -> memoryview | None:
        """The bytes of a copy, mapped, or None if they are not those that were written. Blocks."""
        assert self._folder is not None
        try:
            data = map_file(self._folder.path(whole_name(key)))
        except (OSError, ValueError):  # gone, unreadable, or cut to nothing
            return None
        if len(data) != size_bytes:
            return None
        if (key, digest) not in self._verified and blake2b_128(data) != digest:
            return None
        self._remember_verified(key, digest)
        return data

    def _remember_verified(self, key: str, digest: str) -> None:
        with self._lock:
            self._verified[key, digest] = None
            if len(self._verified) > _VERIFIED_MAX:
                self._verified.popitem(last=False)

    async def _once(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`; whoever asks for `name` meanwhile gets the same one."""

        async def run() -> T:
            return await work()

        task = self._under_way.get(name)
        if task is None:
            task = asyncio.get_running_loop().create_task(run())
            self._under_way[name] = task
            task.add_done_callback(lambda done: self._finish(name, done))
        # one waiter that gives up must not take the others' fetch with it
        shared: T = await asyncio.shield(task)
        return shared

    def _finish(self, name: str, task: asyncio.Task[Any]) -> None:
        del self._under_way[name]
        if not task.cancelled():
            task.exception()  # somebody may have stopped waiting for it: that is no reason to warn


class CachedStore(StoreWrapper):
    """A store whose deletions of cached objects reach `cache`; everything passes."""

    def __init__(self, inner: ObjectStore, cache: ObjectCache) -> None:
        super().__init__(inner)
        self.cache = cache

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self.inner.delete(key)
        if job_of_segment_file(key) is not None:
            self.cache.drop(key)

    async def close(self) -> None:
        """See ObjectStore."""
        await self.cache.close()
        await self.inner.close()


def _usable(folder: Path | None, bytes_max: int) -> CacheFolder | None:
    if folder is None:
        return None
    try:
        return CacheFolder(folder, bytes_max)
    except OSError as error:
        _log.warning("cache folder cannot be used", folder=str(folder), error=str(error))
        return None


def _files_open_max() -> int:
    if sys.version_info >= (3, 13):  # maps hold no descriptors
        return _FILES_OPEN_MAX
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(_FILES_OPEN_MAX, soft // 4))


def _small_name(key: str, digest: str) -> str:
    return f"{key}#{digest}"


def _wrong_size(key: str, found: int, expected: int) -> None:
    raise CorruptObject(key, f"{found} bytes where the manifest says {expected}", offset=min(found, expected))


def _check(key: str, data: bytes | memoryview, size_bytes: int, digest: str) -> None:
    if len(data) != size_bytes:
        _wrong_size(key, len(data), size_bytes)
    found = blake2b_128(data)
    if found != digest:
        raise CorruptObject(key, f"digest {found} where the manifest says {digest}")
