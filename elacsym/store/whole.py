"""Whole immutable objects: the store's own file mapped in place, a copy in the cache folder, or memory."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

from elacsym.compute import Compute
from elacsym.errors import CorruptObject, Unavailable
from elacsym.format.digest import blake2b_128
from elacsym.store.base import ObjectMissing, ObjectStore
from elacsym.store.cache_tiers import CacheFolder, whole_name
from elacsym.store.mapped import StoreFile, anonymous_copy, map_file
from elacsym.store.residents import MEMORY, Residents, Use
from elacsym.store.wrapper import keeps_files, local_file_of
from elacsym.telemetry import CACHE_REQUESTS, count_read, get_logger

T = TypeVar("T")

SMALL_BYTES_MAX = 64 * 1024  # of an object that memory keeps
_VERIFIED_MAX = 65_536
_FETCHES_MAX = 2  # a body damaged on its way may be whole the second time
_log = get_logger(__name__)


class WholeObjects:
    """The part of `cache.ObjectCache` that maps whole objects; `evict` lets go of files of the folder."""

    def __init__(
        self,
        store: ObjectStore,
        compute: Compute,
        folder: CacheFolder | None,
        residents: Residents,
        evict: Callable[[list[str]], Awaitable[None]],
        now_s: Callable[[], float],
    ) -> None:
        self._store, self._compute, self._folder = store, compute, folder
        self._residents, self._evict, self._now_s = residents, evict, now_s
        self._is_local = keeps_files(store)
        self._verified: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Any]] = {}
        self._lock = threading.Lock()

    async def map(self, key: str, size_bytes: int, digest: str) -> memoryview:
        """See ObjectCache."""
        if self._is_local:
            return await self._once(f"{key}@{digest}", lambda: self._map_local(key, size_bytes, digest))
        if size_bytes <= SMALL_BYTES_MAX:
            small: memoryview | None = self._residents.get(_small_name(key, digest), tier=MEMORY)
            if small is not None:
                return small
        return await self._once(f"{key}@{digest}", lambda: self._map_remote(key, size_bytes, digest))

    def close(self) -> list[asyncio.Task[Any]]:
        """Cancel what is under way; the cancelled tasks."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        return tasks

    async def _map_local(self, key: str, size_bytes: int, digest: str) -> memoryview:
        """Map the store's own file; its digest is computed at the first map in this process."""
        is_verified = (key, digest) in self._verified

        def open_file() -> memoryview:
            data = store_file(self._store, key, size_bytes).data
            if not is_verified:
                _check(key, data, size_bytes, digest)
            return data

        data = await self._compute.run(open_file)
        count_read(disk_bytes=size_bytes)
        self._remember_verified(key, digest)
        return data

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
            self._residents.put(_small_name(key, digest), memoryview(body), size_bytes, tier=MEMORY)
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
        if folder is not None and len(data) <= folder.bytes_max:
            held_bytes = await self._compute.run(folder.write, name, data)
            if held_bytes is not None:
                self._remember_verified(key, digest)
                copy = await self._compute.run(self._open_copy, key, len(data), digest)
                now_s = self._now_s()
                await self._evict(folder.resize(name, held_bytes, Use(now_s, now_s)))
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


def store_file(store: ObjectStore, key: str, size_bytes: int) -> StoreFile:
    """A store's own file of an object of this size.

    Blocks. Raises ObjectMissing, CorruptObject, and Unavailable where it cannot be mapped.
    """
    try:
        found = local_file_of(store, key)
        if found is None:
            raise ObjectMissing(key)
        if found[1] != size_bytes:
            _wrong_size(key, found[1], size_bytes)
        return StoreFile(*found)
    except FileNotFoundError as error:
        raise ObjectMissing(key) from error
    except OSError as error:
        raise Unavailable(f"'{key}' cannot be mapped: {error.strerror}") from error


def _small_name(key: str, digest: str) -> str:
    return f"{key}#{digest}"


def _wrong_size(key: str, found: int, expected: int) -> NoReturn:
    raise CorruptObject(key, f"{found} bytes where the manifest says {expected}", offset=min(found, expected))


def _check(key: str, data: bytes | memoryview, size_bytes: int, digest: str) -> None:
    if len(data) != size_bytes:
        _wrong_size(key, len(data), size_bytes)
    found = blake2b_128(data)
    if found != digest:
        raise CorruptObject(key, f"digest {found} where the manifest says {digest}", offset=0)
