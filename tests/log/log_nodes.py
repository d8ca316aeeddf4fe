"""Small real parts for the tests of the log: a recording consumer, a preparer of bytes, a counting store."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from elacsym.clock import new_nonce
from elacsym.errors import InvalidRequest, StoreUnavailable
from elacsym.format.wal_entry import Batch, EntryKind, WalEntry
from elacsym.log import catalog
from elacsym.log.reader import LogReader
from elacsym.log.settings import LogSettings
from elacsym.log.writer import LogWriter, Prepared
from elacsym.store.memory import MemoryStore
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import Schema

NAME = "Docs"
FAST = LogSettings(retry_base_s=0.0, linger_s=0.0)


class ManualClock:
    """Time that the test moves."""

    def __init__(self):
        self.now_s = 1_000.0

    def monotonic_s(self):
        return self.now_s

    def wall_ms(self):
        return int(self.now_s * 1000)


class Counting(StoreWrapper):
    """Counts requests by kind; `gate` holds puts of slots back, `failing` makes them fail."""

    def __init__(self, inner):
        super().__init__(inner)
        self.sent = Counter()
        self.slots_open = asyncio.Event()
        self.slots_open.set()
        self.failing = Counter()

    async def get(self, key):
        self._count("get_slot" if "/wal/" in key else "get")
        return await self.inner.get(key)

    async def get_if_changed(self, key, etag):
        self._count("get_if_changed")
        return await self.inner.get_if_changed(key, etag)

    async def put_if_absent(self, key, data):
        self._count("put_slot" if "/wal/" in key else "put")
        if "/wal/" in key:
            await self.slots_open.wait()
        return await self.inner.put_if_absent(key, data)

    async def put_if_match(self, key, data, etag):
        self._count("put_if_match")
        return await self.inner.put_if_match(key, data, etag)

    def list(self, prefix):
        self._count("list")
        return self.inner.list(prefix)

    def _count(self, kind):
        self.sent[kind] += 1
        if self.failing[kind] > 0:
            self.failing[kind] -= 1
            raise StoreUnavailable(f"{kind} fails as told")


class Recorder:
    """A consumer that remembers what it was told."""

    def __init__(self):
        self.resets, self.applied = [], []

    def reset(self, manifest):
        self.resets.append((manifest.inc, manifest.applied))

    def apply(self, entry, size_bytes):
        self.applied += [(entry.seq, bytes(batch.payload)) for batch in entry.batches]

    @property
    def payloads(self):
        return [payload for _, payload in self.applied]


@dataclass(frozen=True)
class Item:
    payload: bytes
    idempotency_key: str | None = None

    @property
    def size_bytes(self):
        return len(self.payload)


class BytesPreparer:
    """One batch per item; items that begin with `bad` are rejected alone. Remembers what it was asked."""

    def __init__(self):
        self.groups = []

    async def prepare(self, items, seq):
        self.groups.append((seq, [item.payload for item in items]))
        batches, outcomes = [], []
        for item in items:
            if item.payload.startswith(b"bad"):
                outcomes.append(InvalidRequest("documents[0]", "told to be bad"))
            else:
                outcomes.append(len(batches))
                batches.append(
                    Batch(
                        new_nonce(random.Random(item.payload)),
                        item.idempotency_key,
                        len(item.payload),
                        1,
                        item.payload,
                    )
                )
        return Prepared(batches, None, outcomes, len(items))


class Node:
    """One process: reader, writer and what they feed, over a store that counts."""

    def __init__(self, store, clock=None, settings=FAST, seed=0):
        self.store = Counting(store)
        self.clock = clock or ManualClock()
        self.consumer, self.preparer = Recorder(), BytesPreparer()
        rng = random.Random(seed)
        self.reader = LogReader(self.store, NAME, self.consumer, self.clock, rng, settings)
        self.writer = LogWriter(
            self.reader, self.store, self.preparer, self.clock, rng, settings, node_id=f"node{seed}"
        )

    async def write(self, payload, key=None, deadline_s=None, **more):
        return await self.writer.write(Item(payload, key), deadline_s, **more)


async def new_store():
    """A memory store that holds the namespace."""
    store = MemoryStore()
    await create(store)
    return store


async def create(store, seed=99):
    return await catalog.create(store, NAME, Schema(), clock=ManualClock(), rng=random.Random(seed))


def entry_of(reader, payload, *, epoch, kind=EntryKind.WRITE):
    """An entry that fits the reader's next slot."""
    batches = () if kind is EntryKind.CLAIM else (Batch("01" * 16, None, 1, 1, payload),)
    return WalEntry(
        reader.manifest.inc, reader.tail, epoch, kind, "other", "ee" * 16, reader.tail_digest, None, batches
    )


async def put_entry(store, reader, entry):
    assert await store.put_if_absent(reader.keys.wal(entry.inc, entry.seq), entry.encode())
