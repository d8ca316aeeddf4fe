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
from pathlib import Path
from weakref import WeakValueDictionary

from elacsym.clock import Clock, SystemClock
from elacsym.compute import Compute
from elacsym.format.keys import job_of_segment_file
from elacsym.format.manifest import FileRef
from elacsym.format.reading import GAP_BYTES
from elacsym.store.base import ObjectMissing, ObjectStore
from elacsym.store.blocks import PIECE_BYTES, BlockFile
from elacsym.store.cache_tiers import CacheFolder, blocks_name, whole_name
from elacsym.store.mapped import AnonymousMap, Backing
from elacsym.store.residents import MAPS, Residents, Use
from elacsym.store.whole import WholeObjects, store_file
from elacsym.store.wrapper import StoreWrapper, keeps_files
from elacsym.telemetry import get_logger

__all__ = ["CachedStore", "ObjectCache", "ObjectMissing"]

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
        self._detached: WeakValueDictionary[str, BlockFile] = WeakValueDictionary()
        self._files_open_max = self._close_at = files_open_max or _files_open_max()
        self._lock = threading.RLock()
        self._whole = WholeObjects(store, compute, self._folder, self.residents, self._evict, self._now_s)

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
            if len(self._files) >= self._close_at:
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
        return await self._whole.map(key, size_bytes, digest)

    async def drop(self, key: str) -> None:
        """Forget an object, which was deleted."""
        names = [blocks_name(key), whole_name(key)]
        if self._folder is not None:
            for name in names:
                self._folder.forget(name)
        await self._evict(names)
        self.residents.drop(key, tier=None)

    async def close(self) -> None:
        """End fetches that are under way; the folder stays for the next process."""
        with self._lock:
            files = [*self._files.values(), *self._detached.values()]
        tasks = [*self._whole.close(), *(task for file in files for task in file.close())]
        await asyncio.gather(*tasks, return_exceptions=True)
        self.residents.clear()
        if self._folder is not None:
            self._folder.close()

    # blobs

    def _backing(self, key: str, ref: FileRef) -> Backing:
        """The place of a blob's bytes. Blocks."""
        if self._is_local:
            return store_file(self._store, key, ref.size_bytes)
        if self._folder is not None:
            try:
                return self._folder.sparse(blocks_name(key), ref.size_bytes)
            except OSError as error:
                _log.warning("cache file cannot be made", key=key, error=str(error))
        return AnonymousMap(ref.size_bytes)

    async def _note_growth(self, file: BlockFile) -> None:
        """Account for what a file holds; unlink what has no room any more."""
        with self._lock:
            if blocks_name(file.key) not in self._files:
                file.unlink()  # opened after it was evicted; a successor would use the same place
            if not self._keeps(file):
                return
        disk_bytes, memory_bytes = file.held_bytes()
        if memory_bytes:
            self.residents.put(
                f"{file.key}#map",
                file,
                memory_bytes,
                tier=MAPS,
                use=file.use,
                on_gone=lambda: self._detach(file),
            )
        if disk_bytes and self._folder is not None:
            gone = self._folder.resize(blocks_name(file.key), disk_bytes, file.use)
            await self._evict(gone)

    async def _evict(self, names: list[str]) -> None:
        if not names:
            return
        folder = self._folder
        with self._lock:
            # before the last user goes: large files take long to free, and then the pool does it
            aside = [] if folder is None else folder.put_aside(names)
            for name in names:
                if (file := self._files.get(name)) is not None:
                    self._detach(file)
        if folder is not None and aside:
            await self._compute.run(folder.unlink, aside)

    def _detach(self, file: BlockFile) -> None:
        """Let go of a file: whoever uses it goes on, the next `file` makes another."""
        with self._lock:
            if not self._keeps(file):
                return
            del self._files[blocks_name(file.key)]
            self._detached[blocks_name(file.key)] = file
            file.use.is_evicted = True
            if self._folder is not None:
                self._folder.forget(blocks_name(file.key))
            file.unlink()
        self.residents.drop(file.key)
        self.residents.drop(file.key, tier=MAPS)

    def _keeps(self, file: BlockFile) -> bool:
        return self._files.get(blocks_name(file.key)) is file

    def _close_some(self) -> None:
        """Drop what was made of the files that were looked at longest ago, so that they are closed."""
        count = max(1, self._files_open_max // 8)
        for key in [file.key for file in sorted(self._files.values(), key=_used_s)[:count]]:
            self.residents.drop(key)
        # those that are in use stay: not to sort them again for every file
        self._close_at = max(self._files_open_max, len(self._files) + count)

    def _use_of(self, name: str) -> Use | None:
        name = blocks_name(name.partition("#")[0])
        # what is made while a file and its successor are in use may be of either
        file = self._detached.get(name) or self._files.get(name)
        return None if file is None else file.use


class CachedStore(StoreWrapper):
    """A store whose deletions of cached objects reach `cache`; everything passes."""

    def __init__(self, inner: ObjectStore, cache: ObjectCache) -> None:
        super().__init__(inner)
        self.cache = cache

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self.inner.delete(key)
        if job_of_segment_file(key) is not None:
            await self.cache.drop(key)

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


def _used_s(file: BlockFile) -> float:
    return file.use.used_s
