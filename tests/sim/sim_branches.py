"""One simulated run over many namespaces: written, folded, merged, branched, copied, deleted, used again and
collected at the same time, by the real engine, on one bad store, by nodes that are killed.

Every name has one row of contents, in the order in which they were asked for. A read, a branch or a copy has
to show one of those between what was acknowledged before it began and what was asked for before it ended.
When all is over, everything that was not deleted must be whole, and when that is deleted nothing may be left.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from sim_loop import SimClock, SimLoop

from elacsym.clock import new_nonce
from elacsym.compute import InlineCompute
from elacsym.engine.build import InlineBuilder
from elacsym.engine.database import Database
from elacsym.engine.fold import fold
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.request import Document, WriteRequest
from elacsym.engine.tuning import Tuning
from elacsym.errors import CorruptObject, ElacsymError, NamespaceNotFound
from elacsym.format.manifest import Intent
from elacsym.log import transitions
from elacsym.log.manifest_file import ManifestFile
from elacsym.log.settings import LogSettings
from elacsym.query.ast import OrderKey, Query
from elacsym.store.cache import ObjectCache
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.store.resolve import ResolvingStore
from elacsym.types import Attribute, AttributeType, Schema
from elacsym.upkeep.collect import INTENT_AGE_S, Collector
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

ALL = Query(order_by=(OrderKey("id"),), top_k=1000)
NAMES = ("a", "b", "c", "d")
SCHEMA = Schema(None, None, {"n": Attribute(AttributeType.parse("int"))})
GRACES_S = (0.0, 0.3)
PASSES = 8

# None: there is no such namespace
Content = frozenset[int] | None


@dataclass
class Lineage:
    """The contents of one name; those before `known` are over. `is_open`: somebody who asked for a change was
    killed, or never heard what became of it; `guesses` are what else may be there then. `made_of`: what it is
    being made of, from which of its contents on."""

    contents: list[Content] = field(default_factory=lambda: [None])
    known: int = 0
    is_open: bool = False
    guesses: list[Content] = field(default_factory=list)
    made_of: tuple[Lineage, int] | None = None

    def ask(self, content: Content) -> None:
        self.contents.append(content)

    def settle(self, content: Content) -> None:
        """This is the content now, whatever was asked for."""
        self.contents.append(content)
        self.known = len(self.contents) - 1
        self.is_open, self.guesses = False, []

    def since(self, known: int, *seen: Lineage) -> list[Content]:
        """What may be there, for one who began when `known` was."""
        found = [*self.contents[known:], *self.guesses]
        if self.made_of is not None and all(lineage is not self for lineage in seen):
            found += self.made_of[0].since(self.made_of[1], self, *seen)
        return list(dict.fromkeys(found))

    @property
    def latest(self) -> Content:
        return self.contents[-1]


@dataclass
class BranchWorld:
    """One run; `seed` decides everything; it lasts for `actions`."""

    seed: int
    actions: int = 200
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def run(self) -> BranchWorld:
        self.rng = random.Random(f"{self.seed}/actors")
        self.loop = SimLoop(random.Random(f"{self.seed}/loop"))
        self.clock = SimClock(self.loop)
        self.memory = MemoryStore(clock=self.clock)
        self.grace_s = self.rng.choice(GRACES_S)
        self.lineages = {name: Lineage() for name in NAMES}
        # what is asked of a name is one sequence
        self.turns = {name: asyncio.Lock() for name in NAMES}
        self.ways: dict[str, FaultyStore] = {}
        self.cut_off: list[FaultyStore] = []
        self.done = self.numbers = 0
        self.loop.run_until_done(self.loop.spawn("main", self._main()))
        self.loop.drain()
        self.violations += [f"unhandled: {error.get('exception')!r}" for error in self.loop.errors]
        return self

    # nodes

    def _database(self, node: str, *, is_healthy: bool = False) -> Database:
        rng = random.Random(self.rng.getrandbits(64))
        rates = FaultRates() if is_healthy else FaultRates.rough()
        way = FaultyStore(self.memory, random.Random(rng.getrandbits(64)), rates, latency_s_max=0.02)
        self.ways[node] = way
        store, compute = ResolvingStore(way, clock=self.clock, rng=rng), InlineCompute()
        log = LogSettings(
            gc_grace_s=self.grace_s, retry_base_s=0.01, retry_cap_s=0.1, swap_attempts=12, linger_s=0.0
        )
        return Database(
            Services(
                store,
                ObjectCache(store, compute=compute, clock=self.clock),
                compute,
                self.clock,
                rng,
                EngineSettings(log=log, gc_grace_s=self.grace_s),
                node,
                InlineBuilder(compute),
                Tuning(rng),
            )
        )

    def _start(self, node: str, make: Callable[[Database], Callable[[], Awaitable[None]]]) -> None:
        act = make(self._database(node))

        async def supervised() -> None:
            while True:
                await asyncio.sleep(self.rng.uniform(0.0, 0.2))
                self.done += 1
                try:
                    await act()
                except (CorruptObject, AssertionError) as error:
                    self.violations.append(f"{node} at {self.clock.monotonic_s():.3f}: {error!r}")
                except ElacsymError as error:
                    self.counts[error.code] += 1

        self.loop.spawn(node, supervised())

    def _kill(self, node: str) -> None:
        self.counts["kills"] += 1
        # a dead process does not clean up; what it had sent may still arrive
        way = self.ways.pop(node)
        way.is_down = True
        self.cut_off.append(way)
        self.loop.kill(node)

    async def _main(self) -> None:
        makers: dict[str, Callable[[Database], Callable[[], Awaitable[None]]]] = {
            "writer0": lambda database: lambda: self._write(database),
            "writer1": lambda database: lambda: self._write(database),
            "brancher0": lambda database: lambda: self._branch(database),
            "brancher1": lambda database: lambda: self._branch(database),
            "reader": lambda database: lambda: self._read(database),
            "worker0": lambda database: lambda: self._work(database),
            "worker1": lambda database: lambda: self._work(database),
            "deleter": lambda database: lambda: self._delete(database),
            "collector": lambda database: partial(self._collect, self._collectors(database, self.grace_s)),
        }
        for node, make in makers.items():
            self._start(node, make)
        while self.done < self.actions and not self.violations:
            await asyncio.sleep(self.rng.expovariate(1.0))
            for way in self.cut_off:
                await way.deliver_late()
            node = self.rng.choice(list(makers))
            self._kill(node)
            self._start(node, makers[node])
        for node in list(self.ways):
            self._kill(node)
        for way in self.cut_off:
            await way.deliver_late()
        if not self.violations:
            try:
                await self._finish()
            except ElacsymError as error:
                self.violations.append(f"in the end: {error!r}")

    # actors

    async def _shown(self, database: Database, name: str) -> Content:
        try:
            return frozenset(int(hit.id) for hit in (await database.query(name, ALL)).hits)
        except NamespaceNotFound:
            return None

    async def _begin(self, database: Database, name: str) -> Lineage:
        """The row of contents of a name whose turn we have, when nothing is open any more.

        What others asked for before cannot come after changes of one's own: of the manifest, and of the log.
        """
        lineage = self.lineages[name]
        if lineage.is_open:
            if None in lineage.since(lineage.known):
                lineage.ask(frozenset())
            await database.create(name, SCHEMA)
            services = database.services
            file = ManifestFile(services.store, name, services.rng, services.settings.log)
            job = new_nonce(self.rng)
            await file.update(lambda m: transitions.add_intent(m, Intent(job, "test", (), 0, "test")))
            await file.update(lambda m: transitions.remove_intent(m, job))
            allowed = lineage.since(lineage.known)
            marker = self._number()
            for content in allowed:
                lineage.ask((content or frozenset()) | {marker})
            await database.write(name, WriteRequest(upserts=[Document(marker, {"n": marker})], creates=False))
            shown = await self._shown(database, name)
            rest = None if shown is None else shown - {marker}
            if rest not in [content or frozenset() for content in allowed]:
                self.violations.append(f"{name} has {rest} where {allowed} may be")
            lineage.settle(shown)
        return lineage

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    async def _write(self, database: Database) -> None:
        name = self.rng.choice(NAMES)
        async with self.turns[name]:
            lineage = await self._begin(database, name)
            before = lineage.latest
            lineage.is_open = True
            if before is None:
                lineage.ask(frozenset())
                await database.create(name, SCHEMA)
                lineage.settle(frozenset())
                return
            number = self._number()
            gone = self.rng.sample(sorted(before), min(len(before), self.rng.choice((0, 0, 1))))
            after = (before - frozenset(gone)) | {number}
            lineage.ask(after)
            upserts = [Document(number, {"n": number})]
            await database.write(name, WriteRequest(upserts=upserts, deletes=gone, creates=False))
            lineage.settle(after)
            self.counts["writes"] += 1

    async def _branch(self, database: Database) -> None:
        source, name = self.rng.sample(NAMES, 2)
        is_copy = self.rng.random() < 0.3
        async with self.turns[name]:
            lineage, parent = await self._begin(database, name), self.lineages[source]
            before, known = lineage.latest, parent.known
            if before is not None and not (is_copy and not before):
                return
            lineage.is_open, lineage.made_of = True, (parent, known)
            try:
                count = await database.branch(source, name, is_copy=is_copy)
            except NamespaceNotFound:
                lineage.is_open = False
                if None not in parent.since(known):
                    self.violations.append(f"{source} is gone")
                return
            finally:
                if lineage.is_open:
                    lineage.guesses = parent.since(known)
                lineage.made_of = None
            shown = await self._shown(database, name)
            if shown is None or shown not in lineage.guesses or count != len(shown):
                self.violations.append(f"{name}, of {source}, has {shown}; counted {count}")
            lineage.settle(shown)
            self.counts["copies" if is_copy else "branches"] += 1

    async def _read(self, database: Database) -> None:
        name = self.rng.choice(NAMES)
        lineage = self.lineages[name]
        known = lineage.known
        before = lineage.since(known)
        shown = await self._shown(database, name)
        allowed = {*before, *lineage.since(known)}
        if shown not in allowed:
            self.violations.append(f"read of {name}: {shown} where {allowed} may be")
        self.counts["reads"] += 1

    async def _work(self, database: Database) -> None:
        namespace = await database.namespace(self.rng.choice(NAMES))
        if self.rng.random() < 0.6:
            self.counts["folds"] += await fold(namespace)
        else:
            self.counts["merges"] += await compact(namespace, force=True)

    async def _delete(self, database: Database) -> None:
        name = self.rng.choice(NAMES)
        if self.rng.random() < 0.7:
            return
        async with self.turns[name]:
            lineage = await self._begin(database, name)
            if lineage.latest is None:
                return
            lineage.is_open = True
            lineage.ask(None)
            await database.delete(name)
            lineage.settle(None)
            self.counts["deletions"] += 1

    def _collectors(self, database: Database, grace_s: float) -> list[Collector]:
        services = database.services
        made = [Collector(services.store, name, self.clock, services.rng, grace_s=grace_s) for name in NAMES]
        self.rng.shuffle(made)
        return made

    async def _collect(self, collectors: list[Collector]) -> None:
        for collector in collectors:
            self.counts["collected"] += (await collector.run()).deleted

    # the end

    async def _finish(self) -> None:
        database = self._database("last", is_healthy=True)
        collectors = self._collectors(database, self.grace_s)
        shown = {name: await self._shown(database, name) for name in NAMES}
        for name, content in shown.items():
            allowed = self.lineages[name].since(self.lineages[name].known)
            if content not in allowed:
                self.violations.append(f"{name} has {content} in the end where {allowed} may be")
        await self._passes(collectors)
        fresh = self._database("fresh", is_healthy=True)
        for name, content in shown.items():
            if await self._shown(fresh, name) != content:
                self.violations.append(f"{name} changed while it was collected")
            if content is not None:
                report = await scrub(
                    self.memory, name, compute=fresh.services.compute, rng=fresh.services.rng
                )
                self.violations += [f"scrub of {name}: {problem}" for problem in report.problems]
                await fresh.delete(name)
        await self._passes(collectors)
        left = [key for key in self.memory.objects if key.startswith("ns/") and not key.endswith("/manifest")]
        self.violations += [f"left behind: {key}" for key in left]
        for name in NAMES:
            loaded = await ManifestFile(self.memory, name, self.rng).load()
            if loaded is not None and (loaded.manifest.pins or loaded.manifest.holds):
                self.violations.append(f"{name} has pins or holds in the end")

    async def _passes(self, collectors: list[Collector]) -> None:
        for _ in range(PASSES):
            await self._collect(collectors)
            await asyncio.sleep(INTENT_AGE_S + 1)
