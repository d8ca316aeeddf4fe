"""The engine in the bench's own process, without a server and without upkeep, and stores built with it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import elacsym
from elacsym.clock import SystemClock, system_random
from elacsym.compute import ThreadCompute
from elacsym.engine.build import InlineBuilder
from elacsym.engine.database import Database
from elacsym.engine.fold import fold
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.request import Document, WriteRequest
from elacsym.engine.tuning import Tuning
from elacsym.log import bucket
from elacsym.log.settings import LogSettings
from elacsym.store.base import ObjectStore
from elacsym.store.cache import CachedStore, ObjectCache
from elacsym.store.open import open_store
from elacsym.types import DocumentId, Schema
from elacsym.upkeep.compact import compact

DOCUMENTS_PER_WRITE = 2_000
# about what a server folds at once: 64 MiB of log at 384 dimensions
ROWS_PER_FOLD = 40_000

# nothing refuses writes here because the tail is long: the bench folds when it means to
SETTINGS = EngineSettings(log=LogSettings(unfolded_bytes_max=2**31))


@asynccontextmanager
async def opened(
    store: ObjectStore, *, settings: EngineSettings = SETTINGS, **cache_options: Any
) -> AsyncIterator[Database]:
    """A database over `store`, which is closed with it. cache_options: those of ObjectCache."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        compute = ThreadCompute()
        stack.callback(compute.close)
        cache = ObjectCache(store, compute=compute, **cache_options)
        stack.push_async_callback(cache.close)
        rng = system_random()
        services = Services(
            store=CachedStore(store, cache),
            cache=cache,
            compute=compute,
            clock=SystemClock(),
            rng=rng,
            settings=settings,
            node_id="bench",
            builder=InlineBuilder(compute),
            tuning=Tuning(rng),
        )
        database = Database(services)
        stack.push_async_callback(database.close)
        yield database


def folder_store(folder: Path) -> ObjectStore:
    """The store in a folder, as a server opens it."""
    return open_store(str(folder), clock=SystemClock(), rng=system_random())


def opened_folder(folder: Path) -> AbstractAsyncContextManager[Database]:
    """A database over a folder store; its files are mapped in place."""
    return opened(folder_store(folder))


async def fill(
    database: Database,
    name: str,
    schema: Schema,
    documents: Iterable[Document],
    *,
    rows_per_fold: int = ROWS_PER_FOLD,
    deletes: Sequence[DocumentId] = (),
    merges: bool = True,
) -> None:
    """Create a namespace and leave nothing in its log's tail.

    A segment is made of every `rows_per_fold` documents, then `deletes` are deleted. merges: merge as upkeep
    does, until there is nothing worth it.
    """
    await database.create(name, schema)
    namespace = await database.namespace(name)
    waiting = iter(documents)
    for parts in _grouped(waiting, rows_per_fold):
        for start in range(0, len(parts), DOCUMENTS_PER_WRITE):
            await database.write(name, WriteRequest(upserts=parts[start : start + DOCUMENTS_PER_WRITE]))
        await fold(namespace)
        while merges and await compact(namespace):
            pass
    if deletes:
        await database.write(name, WriteRequest(deletes=list(deletes)))
        await fold(namespace)


def _grouped(items: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while group := list(islice(items, size)):
        yield group


def stored(work: Path, name: str, build: Callable[[Database], Awaitable[None]]) -> Path:
    """A folder store in `work` that `build` filled, at the first call for this version of the code."""
    folder = work / f"{name}-{_code_digest()}"
    if not folder.exists():
        partial = work / f"{name}-{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        asyncio.run(_built(partial, build))
        partial.rename(folder)
    return folder


async def _built(folder: Path, build: Callable[[Database], Awaitable[None]]) -> None:
    store = folder_store(folder)
    await bucket.ensure(store, system_random())
    async with opened(store) as database:
        await build(database)


def _code_digest() -> str:
    """Of the code that decides what is in a store."""
    package = Path(elacsym.__file__).parent
    digest = hashlib.blake2b(digest_size=4)
    for layer in ("format", "index", "log", "engine", "upkeep"):
        for path in sorted((package / layer).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
