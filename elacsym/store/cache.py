"""ObjectCache: immutable objects through memory and disk; whole ones as verified memory maps.

    map(key)                 LocalStore's own file, or a copy in the cache folder, mapped; digest checked
    first get, get_ranges          small bytes in memory, larger ones in the folder, else one request to the
    store

Only keys that are written once and never replaced belong here. Concurrent misses of one entry make one
request. Bytes from the network or the disk are checked before they are used: `map` against the caller's
digest, the rest against the digest of what was fetched. A damaged copy is dropped and fetched again; a full
disk means that objects are served from memory. An entry that is evicted while it is mapped stays readable.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from elacsym.compute import Compute
from elacsym.errors import CorruptObject, Unavailable
from elacsym.format.digest import blake2b_128
from elacsym.format.keys import job_of_segment_file
from elacsym.store.base import Etag, ObjectStore, StoredObject
from elacsym.store.cache_tiers import CacheFolder, LruBytes, map_file, open_copy
from elacsym.store.wrapper import StoreWrapper, keeps_files, local_file_of
from elacsym.telemetry import CACHE_REQUESTS, count_read, get_logger

T = TypeVar("T")

SMALL_BYTES_MAX = 64 * 1024  # what the memory tier keeps
_VERIFIED_MAX = 65_536
_DROPS_MAX = 65_536
_FETCHES_MAX = 2  # a body damaged on its way may be whole the second time
_log = get_logger(__name__)


class ObjectMissing(Unavailable):
    """An object that a snapshot refers to is gone: the snapshot was collected and must be rebuilt."""

    code = "object_missing"

    def __init__(self, key: str) -> None:
        super().__init__(f"object '{key}' is missing")
        self.key = key


class ObjectCache:
    """A cache in front of `store`. `folder` None, or one that cannot be used, means memory only.

    disk_bytes_max, memory_bytes_max: budgets in bytes. `compute` runs hashing and file I/O.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        compute: Compute,
        folder: Path | None = None,
        disk_bytes_max: int = 10 * 2**30,
        memory_bytes_max: int = 256 * 2**20,
    ) -> None:
        self._store, self._compute = store, compute
        self._memory: LruBytes[StoredObject] = LruBytes("memory", memory_bytes_max)
        self._folder = _usable(folder, disk_bytes_max)
        self._is_local = keeps_files(store)
        self._verified: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._drops: OrderedDict[str, int] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Any]] = {}

    async def map(self, key: str, size_bytes: int, digest: str) -> memoryview:
        """The whole object of `size_bytes` whose blake2b-128 is `digest`, read-only.

        Above 64 KiB it begins at a page. Raises ObjectMissing, and CorruptObject if what the store holds has
        another size or digest.
        """
        if self._is_local:
            return await self._once(f"{key}@{digest}", lambda: self._map_local(key, size_bytes, digest))
        small = self._from_memory(f"{key}@{digest}") if size_bytes <= SMALL_BYTES_MAX else None
        if small is not None:
            return memoryview(small.data)
        return await self._once(f"{key}@{digest}", lambda: self._map_remote(key, size_bytes, digest))

    async def get(self, key: str) -> StoredObject | None:
        """The object, or None; from the cache if it is there."""
        return await self._entry(key, lambda: self._store.get(key))

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """As the store's.

        Each range is an entry of its own, and those that are missing are fetched together.
        """
        names = {span: self._range_name(key, span) for span in ranges}
        parts: dict[tuple[int, int], bytes] = {}
        for span, name in names.items():
            found = self._from_memory(name) or await self._from_folder(name)
            if found is not None:
                parts[span] = found.data
        missing = [span for span in names if span not in parts]
        if missing or not ranges:
            fetched = await self._once(f"{key}#{missing}", lambda: self._store.get_ranges(key, missing))
            if fetched is None:
                return None
            for span, data in zip(missing, fetched, strict=True):
                parts[span] = data
                if data:
                    await self._keep(names[span], StoredObject(data, Etag("")))
        return [parts[span] for span in ranges]

    def drop(self, key: str) -> None:
        """Forget an object and its ranges: it was deleted, or its bytes turned out to be damaged."""
        # ranges are entries that nobody lists: from here on they have other names
        self._drops[key] = self._drops.pop(key, 0) + 1
        if len(self._drops) > _DROPS_MAX:  # mostly of deleted objects, which nobody reads again
            self._drops.popitem(last=False)
        self._memory.pop(key)
        if self._folder is not None:
            self._folder.drop(key)

    async def close(self) -> None:
        """End fetches that are under way; the folder stays for the next process."""
        for task in list(self._under_way.values()):
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._memory.clear()
        if self._folder is not None:
            self._folder.close()

    async def _map_local(self, key: str, size_bytes: int, digest: str) -> memoryview:
        """Map the store's own file; its digest is computed at the first map in this process."""
        is_verified = (key, digest) in self._verified

        def open_file() -> memoryview:
            try:
                found = local_file_of(self._store, key)
                if found is None:
                    raise ObjectMissing(key)
                data = map_file(found[0])[: found[1]]
            except FileNotFoundError as error:
                raise ObjectMissing(key) from error
            except OSError as error:
                raise Unavailable(f"'{key}' cannot be mapped: {error.strerror}") from error
            if not is_verified or len(data) != size_bytes:
                _check(key, data, size_bytes, digest)
            return data

        data = await self._compute.run(open_file)
        count_read(len(data))
        CACHE_REQUESTS.labels("disk", "hit").inc()
        self._remember_verified(key, digest)
        return data

    async def _map_remote(self, key: str, size_bytes: int, digest: str) -> memoryview:
        copy = self._folder.find(key) if self._folder is not None else None
        if copy is not None and self._folder is not None:
            data = await self._compute.run(open_copy, copy) if copy.digest == digest else None
            CACHE_REQUESTS.labels("disk", "corrupt" if data is None else "hit").inc()
            if data is not None:
                count_read(len(data))
                return data
            _log.warning("damaged copy dropped", key=key, path=str(copy.path))
            self._folder.drop(key)
        elif size_bytes > SMALL_BYTES_MAX:
            CACHE_REQUESTS.labels("disk", "miss").inc()
        found = await self._fetch_verified(key, size_bytes, digest)
        count_read(len(found.data))
        if size_bytes <= SMALL_BYTES_MAX:
            self._memory.put(f"{key}@{digest}", found, size_bytes)  # apart from what `get` took unchecked
            return memoryview(found.data)
        return await self._kept_mapped(key, found)

    async def _fetch_verified(self, key: str, size_bytes: int, digest: str) -> StoredObject:
        for tries_left in reversed(range(_FETCHES_MAX)):
            found = await self._store.get(key)
            if found is None:
                raise ObjectMissing(key)
            try:
                await self._compute.run(_check, key, found.data, size_bytes, digest)
                return found
            except CorruptObject:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _kept_mapped(self, key: str, found: StoredObject) -> memoryview:
        """A map of a new copy of `found`, or of memory where there is no room on disk."""
        if self._folder is not None:
            copy = await self._compute.run(self._folder.write, key, found)
            if copy is not None:
                self._folder.keep(key, copy, len(found.data))
                data = await self._compute.run(open_copy, copy)
                if data is not None:
                    return data
        return await self._compute.run(_anonymous_map, found.data)

    async def _entry(
        self, name: str, fetch: Callable[[], Awaitable[StoredObject | None]]
    ) -> StoredObject | None:
        found = self._from_memory(name) or await self._from_folder(name)
        if found is not None:
            return found

        async def fetch_and_keep() -> StoredObject | None:
            fetched = await fetch()
            if fetched is not None:
                await self._keep(name, fetched)
            return fetched

        return await self._once(name, fetch_and_keep)

    def _range_name(self, key: str, span: tuple[int, int]) -> str:
        return f"{key}#{span[0]}-{span[1]}" + (f"#{self._drops[key]}" if key in self._drops else "")

    def _from_memory(self, name: str) -> StoredObject | None:
        found = self._memory.get(name)
        CACHE_REQUESTS.labels("memory", "miss" if found is None else "hit").inc()
        return found

    async def _from_folder(self, name: str) -> StoredObject | None:
        copy = self._folder.find(name) if self._folder is not None else None
        if copy is None or self._folder is None:
            CACHE_REQUESTS.labels("disk", "miss").inc()
            return None
        data = await self._compute.run(open_copy, copy)
        if data is None:
            CACHE_REQUESTS.labels("disk", "corrupt").inc()
            _log.warning("damaged copy dropped", entry=name, path=str(copy.path))
            self._folder.drop(name)
            return None
        CACHE_REQUESTS.labels("disk", "hit").inc()
        return StoredObject(bytes(data), copy.etag)

    async def _keep(self, name: str, found: StoredObject) -> None:
        if len(found.data) <= SMALL_BYTES_MAX:
            self._memory.put(name, found, len(found.data))
        elif self._folder is not None:
            copy = await self._compute.run(self._folder.write, name, found)
            if copy is not None:
                self._folder.keep(name, copy, len(found.data))

    def _remember_verified(self, key: str, digest: str) -> None:
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
    """A store whose reads of immutable keys go through `cache`; everything else passes.

    `is_immutable` tells the keys that are never written twice; by default segment files.
    """

    def __init__(
        self,
        inner: ObjectStore,
        cache: ObjectCache,
        is_immutable: Callable[[str], bool] = lambda key: job_of_segment_file(key) is not None,
    ) -> None:
        super().__init__(inner)
        self.cache, self._is_immutable = cache, is_immutable

    async def get(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        return await (self.cache.get(key) if self._is_immutable(key) else self.inner.get(key))

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes] | None:
        """See ObjectStore."""
        source = self.cache if self._is_immutable(key) else self.inner
        return await source.get_ranges(key, ranges)

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self.inner.delete(key)
        if self._is_immutable(key):
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


def _check(key: str, data: bytes | memoryview, size_bytes: int, digest: str) -> None:
    if len(data) != size_bytes:
        raise CorruptObject(key, f"{len(data)} bytes where the manifest says {size_bytes}")
    found = blake2b_128(data)
    if found != digest:
        raise CorruptObject(key, f"digest {found} where the manifest says {digest}")


def _anonymous_map(data: bytes) -> memoryview:
    """The bytes in page-aligned memory, as a file's map would be."""
    region = mmap.mmap(-1, len(data))
    region[:] = data
    return memoryview(region).toreadonly()
