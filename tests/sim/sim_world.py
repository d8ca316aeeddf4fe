"""One simulated run: writers, readers, folders, a compactor, a collector and a killer share one namespace on
one bad store.

Everything of the log is the real code; nodes differ in nothing from a server's but in what they build on top.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from unittest import mock

import orjson
from sim_history import History, Operation, View
from sim_loop import NODE, SimClock, SimLoop
from sim_mutants import mutated
from sim_segments import Collector, Files, Rows, SegmentGone, compact, fold

from elacsym.clock import new_nonce
from elacsym.errors import CorruptObject, ElacsymError, InvalidRequest, NamespaceNotFound, OutcomeUnknown
from elacsym.format.wal_entry import Batch
from elacsym.log import catalog, transitions
from elacsym.log.reader import LogReader
from elacsym.log.settings import LogSettings
from elacsym.log.writer import Committed, LogWriter, Prepared
from elacsym.store.base import Etag, StoredObject, Unchanged
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.store.resolve import ResolvingStore
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import Schema

T = TypeVar("T")

NAME = "Sim"
ROWS = ("a", "b", "c", "d")
# a collector without grace is safe too, because readers then ask in order
GRACES_S = (0.0, 0.3, 0.3)
INTENT_S = 0.8
STALENESS_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """A request: [number, kind, row] of each operation."""

    operations: list[tuple[int, str, str]]
    idempotency_key: str | None
    is_refused: bool = False
    size_bytes: int = 64


class JsonPreparer:
    """Batches of JSON; one request in some is rejected alone."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def prepare(self, items: Sequence[Item], seq: int) -> Prepared:
        batches: list[Batch] = []
        outcomes: list[int | Exception] = []
        taken = self._rng.randint(1, len(items))
        for item in items[:taken]:
            if item.is_refused:
                outcomes.append(InvalidRequest("documents[0]", "refused by the simulation"))
                continue
            outcomes.append(len(batches))
            payload = orjson.dumps(item.operations)
            count = len(item.operations)
            batches.append(Batch(new_nonce(self._rng), item.idempotency_key, count, count, payload))
        return Prepared(batches, None, outcomes, taken)


class PromptStore(MemoryStore):
    """Tells now and then at once what a folder tells at once."""

    def __init__(self, rng: random.Random, *, clock: SimClock) -> None:
        super().__init__(clock=clock)
        self._rng = rng

    def is_unchanged_now(self, key: str, etag: Etag, absent: str) -> bool:
        if self._rng.random() < 0.7 or absent in self.objects:
            return False
        found = self.objects.get(key)
        return found is not None and found.etag == etag


class Network(StoreWrapper):
    """What a node sees of the store: stalls of a request or of the whole node; counts and traces requests."""

    def __init__(self, inner: FaultyStore, world: World) -> None:
        super().__init__(inner)
        self._world = world

    async def get(self, key: str) -> StoredObject | None:
        return await self._traced("get", key, lambda: self.inner.get(key), stall=self._world.read_stall)

    async def get_if_changed(self, key: str, etag: Etag) -> StoredObject | Unchanged | None:
        return await self._traced(
            "get_if_changed", key, lambda: self.inner.get_if_changed(key, etag), stall=self._world.read_stall
        )

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        return await self._traced(
            "put_if_absent", key, lambda: self.inner.put_if_absent(key, data), stall=0.10
        )

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        return await self._traced(
            "put_if_match", key, lambda: self.inner.put_if_match(key, data, etag), stall=0.04
        )

    async def delete(self, key: str) -> None:
        await self._traced("delete", key, lambda: self.inner.delete(key), stall=0.0)

    async def _traced(self, operation: str, key: str, send: Callable[[], Awaitable[T]], stall: float) -> T:
        world = self._world
        await world.stall(stall)
        world.requested(operation, key)
        result = await send()
        await world.stall(stall / 4)
        world.trace(f"{operation} {key} {type(result).__name__}")
        return result


@dataclass
class World:
    """One run. `seed` decides everything; `mutant` names a rule to take away; it lasts for `requests`."""

    seed: int
    mutant: str | None = None
    requests: int = 900
    reader_type: type[LogReader] = LogReader
    history: History = field(default_factory=History)
    sent: Counter[str] = field(default_factory=Counter)
    digest: str = ""

    def run(self) -> World:
        """Run to the end; `history.violations` has what went wrong."""
        self.rng = random.Random(f"{self.seed}/actors")
        self.loop = SimLoop(random.Random(f"{self.seed}/loop"))
        self.clock = SimClock(self.loop)
        self.memory = PromptStore(random.Random(f"{self.seed}/prompt"), clock=self.clock)
        self.faulty = FaultyStore(self.memory, random.Random(f"{self.seed}/faults"), latency_s_max=0.04)
        self.is_resolving = self.rng.random() < 0.3
        grace_s = self.rng.choice(GRACES_S)
        self.read_stall = self.rng.choice((0.01, 0.06))
        # how long a job may stand still between its files and its commit
        self.job_stall_s = self.rng.choice((0.0, 2.0))
        self.settings = LogSettings(
            gc_grace_s=grace_s,
            probes_warm=(1, 4, 16),
            probes_cold=(3, 8, 32),
            refresh_s=0.3,
            retry_base_s=0.02,
            retry_cap_s=0.3,
            entry_requests_max=4,
        )
        self.grace_s = 0.0 if self.mutant == "parnograce" else grace_s
        self._hash = hashlib.blake2b(digest_size=16)
        self._numbers = 0
        self._jobs = 0
        self._is_over = asyncio.Event()
        ring = self.rng.choice((4, 16, 256))
        with mutated(self.mutant) as self.reader_type, mock.patch.object(transitions, "RING_SLOTS", ring):
            self.loop.run_until_done(self.loop.spawn("main", self._main()))
            self.loop.drain()
        self.history.counts["virtual seconds"] = int(self.loop.time())
        for error in self.loop.errors:
            self.history.violations.append(f"unhandled: {error.get('exception')!r}")
        self.history.check()
        self.digest = self._hash.hexdigest()
        return self

    # what nodes and network report

    def trace(self, event: str) -> None:
        self._hash.update(f"{self.loop.time():.6f} {NODE.get()} {event}\n".encode())

    def requested(self, operation: str, key: str) -> None:
        self.sent[operation] += 1
        self.trace(f"{operation} {key}")
        if self.sent.total() >= self.requests:
            self._is_over.set()

    async def stall(self, probability: float) -> None:
        """Sometimes a request is slow, sometimes a whole node stands still, even beyond the grace."""
        draw = self.rng.random()
        if draw >= probability or self.faulty.rates == FaultRates():
            return
        seconds = self.rng.choice((0.05, 0.2, 0.6, 1.5))
        self.history.counts["stalls"] += 1
        if draw < probability / 3:
            self.loop.pause(NODE.get(), seconds)
            await asyncio.sleep(0)
        else:
            await asyncio.sleep(self.rng.uniform(0, seconds))

    # the run

    async def _main(self) -> None:
        await catalog.create(
            self.memory, NAME, Schema(), clock=self.clock, rng=self.rng, settings=self.settings
        )
        self.faulty.rates = FaultRates.rough()
        makers: dict[str, Callable[[str], Awaitable[None]]] = {
            "w0": self._writer,
            "w1": self._writer,
            "w2": self._writer,
            "r0": self._strong_reader,
            "r1": self._strong_reader,
            "folder": self._folder,
            "folder2": self._folder,
            "compactor": self._compactor,
            "collector": self._collector,
        }
        if self.rng.random() < 0.25:
            makers["deleter"] = self._deleter
        for name, make in makers.items():
            self._start(name, make)
        while not self._is_over.is_set():
            await asyncio.sleep(self.rng.expovariate(1.0))
            name = self.rng.choice(list(makers))
            self.history.counts["kills"] += 1
            self.loop.kill(name)
            self._start(name, makers[name])
        for name in makers:
            self.loop.kill(name)
        await self._finish()

    def _start(self, name: str, make: Callable[[str], Awaitable[None]]) -> None:
        async def supervised() -> None:
            while True:
                try:
                    await make(name)
                except (CorruptObject, AssertionError) as error:
                    self.history.violations.append(f"{name}: {error!r}")
                    self._is_over.set()
                    return
                except (ElacsymError, SegmentGone):
                    await asyncio.sleep(0.1)

        self.loop.spawn(name, supervised())

    async def _repeat(self, counted: str, work: Callable[[], Awaitable[int]], pause_s: float) -> None:
        """Do something again and again with the same objects in memory, whatever the store says."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.0, pause_s))
            try:
                self.history.counts[counted] += await work()
            except CorruptObject:
                raise
            except (ElacsymError, SegmentGone):
                self.history.counts[f"{counted} broken off"] += 1

    async def _finish(self) -> None:
        """The network heals: late requests arrive, unknown outcomes are asked for, one last reader looks."""
        self.faulty.rates = FaultRates()
        self.faulty.latency_s_max = 0.0
        await asyncio.sleep(0.1)
        await self.faulty.deliver_late()
        node = Node(self, "last")
        try:
            for item, operations in list(self._unknown())[:4]:
                self._ended(operations, await node.writer.write(item))
            if not await self._read(node, strong=True):
                self.history.violations.append("files of the last snapshot are gone")
        except NamespaceNotFound:
            pass
        except (CorruptObject, AssertionError) as error:
            self.history.violations.append(f"last: {error!r}")

    def _unknown(self) -> list[tuple[Item, list[Operation]]]:
        """Requests of which nobody knows the outcome, with their idempotency keys."""
        requests: dict[int, list[Operation]] = {}
        for operation in self.history.operations.values():
            if operation.status in ("pending", "unknown"):
                requests.setdefault(operation.request, []).append(operation)
        return [
            (Item([(o.number, o.kind, o.row) for o in operations], f"key-{request}"), operations)
            for request, operations in requests.items()
            if request % 2 == 0
        ]

    # actors

    async def _writer(self, name: str) -> None:
        node = Node(self, name)
        await asyncio.gather(*(self._client(node) for _ in range(self.rng.randint(1, 3))))

    async def _client(self, node: Node) -> None:
        async def act() -> int:
            draw = self.rng.random()
            if draw < 0.65:
                await self._write(node)
            else:
                await self._read(node, strong=draw < 0.85)
            return 1

        await self._repeat("client actions", act, 0.4)

    async def _write(self, node: Node) -> None:
        self._numbers += 1
        request = self._numbers
        operations = []
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            self._numbers += 1
            kind = "put" if self.rng.random() < 0.6 else "delete"
            operation = Operation(
                self._numbers, request, kind, self.rng.choice(ROWS), self.clock.monotonic_s()
            )
            self.history.operations[operation.number] = operation
            operations.append(operation)
        key = f"key-{request}" if request % 2 == 0 else None
        item = Item([(o.number, o.kind, o.row) for o in operations], key, self.rng.random() < 0.05)
        await self._send(node, item, operations)
        acked = operations[0]
        if acked.status == "acked" and self.rng.random() < 0.3:
            await node.reader.at_least(acked.seq, acked.inc)
            await self._look(node, began_s=self.clock.monotonic_s(), current_s=float("-inf"), sees=acked)

    async def _send(self, node: Node, item: Item, operations: list[Operation]) -> None:
        for _ in range(3):
            deadline_s = self.clock.monotonic_s() + 0.4 if self.rng.random() < 0.2 else None
            try:
                self._ended(operations, await node.writer.write(item, deadline_s))
                return
            except OutcomeUnknown:
                self.history.counts["unknown"] += 1
                self._set(operations, "unknown")
                if item.idempotency_key is None or self.rng.random() < 0.3:
                    return
            except CorruptObject:
                raise
            except ElacsymError as error:
                assert str(error) != "the writer broke off"
                if operations[0].status == "pending":
                    self.history.counts[f"failed {error.code}"] += 1
                    self._set(operations, "failed")
                # after an unknown outcome this attempt's failure says nothing about the first
                return

    def _set(self, operations: list[Operation], status: str) -> None:
        for operation in operations:
            operation.status, operation.ended_s = status, self.clock.monotonic_s()

    def _ended(self, operations: list[Operation], committed: Committed) -> None:
        assert committed.count == len(operations)
        self.history.counts["acked"] += len(operations)
        self._set(operations, "acked")
        for operation in operations:
            operation.inc, operation.seq = committed.inc, committed.seq

    async def _strong_reader(self, name: str) -> None:
        node = Node(self, name)
        await self._repeat("reader actions", lambda: self._read(node, strong=True), 0.5)

    async def _read(self, node: Node, *, strong: bool) -> int:
        for _ in range(4):
            began_s = self.clock.monotonic_s()
            if strong:
                await node.reader.check()
                current_s = began_s
            else:
                current_s = await self._eventual(node, began_s)
            try:
                await self._look(node, began_s=began_s, current_s=current_s)
            except SegmentGone:
                continue
            self.history.counts["strong reads" if strong else "eventual reads"] += 1
            return 1
        return 0

    async def _eventual(self, node: Node, began_s: float) -> float:
        """Since when the view is current, as the reader reports it; the reader is held to its bound.

        A view beyond the bound is checked first, which makes it current as of the beginning of the read.
        """
        await node.reader.eventual(STALENESS_S_MAX)
        now_s = self.clock.monotonic_s()
        current_s = now_s - (node.reader.staleness_ms + 1) / 1000
        if current_s < min(began_s, now_s - STALENESS_S_MAX) - 0.001:
            self.history.violations.append(f"eventual read of {now_s - current_s:.3f} s")
        return current_s

    async def _look(
        self, node: Node, *, began_s: float, current_s: float, sees: Operation | None = None
    ) -> None:
        """Record the view at hand; its entries are taken at once, its segments are read after that."""
        manifest = node.reader.manifest
        tail = node.rows.operations(node.reader.tail)
        ended_s = self.clock.monotonic_s()
        rows: dict[str, int] = {}
        journal = [(number, place) for number, place, _, _ in tail]
        for segment in manifest.segments:
            for _, row, number in await node.files.live(manifest.inc, segment):
                if row in rows:
                    self.history.violations.append(f"row {row} is alive in two segments")
                rows[row] = number
            journal += await node.files.journal(manifest.inc, segment)
        for number, _, kind, row in tail:
            if kind == "put":
                rows[row] = number
            else:
                rows.pop(row, None)
        if sees is not None and manifest.inc == sees.inc and sees.number not in dict(journal):
            self.history.violations.append(f"own write {sees.number} is not seen")
        self.history.views.append(View(began_s, ended_s, current_s, manifest.inc, rows, journal))

    async def _folder(self, name: str) -> None:
        node = Node(self, name)
        await self._repeat(
            "folds",
            lambda: fold(node.reader, node.rows, node.files, self.rng, self._job(), self.job_stall_s),
            0.5,
        )

    async def _compactor(self, name: str) -> None:
        node = Node(self, name)
        await self._repeat(
            "compactions",
            lambda: compact(node.reader, node.files, self.rng, self._job(), self.job_stall_s),
            0.5,
        )

    async def _collector(self, name: str) -> None:
        node = Node(self, name)
        collector = Collector(node.store, node.reader, self.clock, self.grace_s, INTENT_S)
        await self._repeat("collected", collector.sweep, 0.3)

    async def _deleter(self, name: str) -> None:
        node = Node(self, name)
        await asyncio.sleep(self.rng.uniform(1.0, 6.0))
        try:
            deleted = await catalog.delete(node.store, NAME, rng=self.rng, settings=self.settings)
            self.history.deleted_s.setdefault(deleted.inc, self.clock.monotonic_s())
        except NamespaceNotFound:
            pass  # an attempt whose answer was lost did it
        self.history.counts["namespace deletions"] += 1
        await asyncio.sleep(self.rng.uniform(0.0, 1.0))
        await catalog.create(
            node.store, NAME, Schema(), clock=self.clock, rng=self.rng, settings=self.settings
        )
        await asyncio.sleep(1_000_000.0)

    def _job(self) -> str:
        self._jobs += 1
        return f"job{self._jobs}"


class Node:
    """What one process has in memory."""

    def __init__(self, world: World, name: str) -> None:
        rng = random.Random(world.rng.getrandbits(64))
        self.store = Network(world.faulty, world)
        log_store = (
            ResolvingStore(self.store, clock=world.clock, rng=rng) if world.is_resolving else self.store
        )
        self.rows = Rows()
        self.files = Files(self.store, NAME)
        self.reader = world.reader_type(log_store, NAME, self.rows, world.clock, rng, world.settings)
        self.writer = LogWriter(
            self.reader, log_store, JsonPreparer(rng), world.clock, rng, world.settings, node_id=name
        )
