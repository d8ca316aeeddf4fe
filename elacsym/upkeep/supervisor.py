"""The background loop of a process: folds, merges, collects and evicts the namespaces that are open.

Folds and merges run beside each other, as many as the builder has processes. A job that fails is counted,
logged and tried again, later each time; it can lose nothing, because every job commits by one swap of the
manifest. Where several nodes share a store, each looks after what it owns; the tail of another's namespace is
folded only if nobody has done so for a long time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from elacsym.engine.database import Database
from elacsym.engine.fold import fold
from elacsym.engine.namespace import Namespace
from elacsym.errors import ElacsymError, NamespaceNotFound
from elacsym.format import keys
from elacsym.log import catalog
from elacsym.log.transitions import TransitionRefused
from elacsym.telemetry import UPKEEP_RUNS, UPKEEP_SECONDS, get_logger
from elacsym.upkeep import policy
from elacsym.upkeep.adopt import Adoption
from elacsym.upkeep.collect import Collected, Collector
from elacsym.upkeep.compact import compact
from elacsym.upkeep.duties import AllDuties, Duties
from elacsym.upkeep.jobs import JobQueue, Kind
from elacsym.upkeep.memory import give_back_memory

_log = get_logger("upkeep")
T = TypeVar("T")

# a listing costs money: a namespace is looked through this many times per grace period
_PASSES_PER_GRACE = 4
_RETRY_S_MAX = 60.0
# they are kept for a day
_OPERATIONS_PERIOD_S = 3_600.0
# a tail that another node should fold is left to it for so many times the age at which a fold is due
_PATIENCE = 4
# long tails are looked for at most this often
_WATCH_S = 0.05
# queries on a namespace that is let go of may take their time
_CLOSING_S_MAX = 1.0


class Upkeep:
    """Looks after the open namespaces of a database every `period_s`.

    is_indexer: whether this node folds and merges. duties: what it owns; without them everything.
    """

    def __init__(
        self,
        database: Database,
        *,
        period_s: float = 1.0,
        is_indexer: bool = True,
        duties: Duties | None = None,
    ) -> None:
        self._database, self._period_s, self._is_indexer = database, period_s, is_indexer
        self._duties = duties or AllDuties()
        self._services = database.services
        self._collectors: dict[str, Collector] = {}
        self._due_s: dict[str, float] = {}  # when a namespace is to be collected next
        self._known: set[str] = set()  # open namespaces that had their first look
        self._dropped: set[str] = set()
        self._dropped_due_s = self._operations_due_s = 0.0
        self._tail_since: dict[str, tuple[int, float]] = {}
        self._queue = JobQueue(self._services.builder.processes, self._run)
        self._failed: dict[tuple[Kind, str], tuple[int, float]] = {}  # how often in a row, and not before
        adoption = Adoption(
            database, self._duties, lambda name: self._queue.offer("fold", name), self._queue.holds
        )
        self._loops = (self._loop, self._watch, adoption.run) if is_indexer else (self._loop,)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin the loops."""
        self._tasks = [asyncio.create_task(loop(), name="upkeep") for loop in self._loops]

    async def stop(self) -> None:
        """End the loops; a job under way is cancelled, which leaves at most an intent and unreferenced
        files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._queue.stop()

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                self._offer(self._services.clock.monotonic_s())
                await self._tidy()
            except Exception:  # noqa: BLE001 - the supervisor of background work
                # the supervisor outlives whatever a round meets; the round is counted and logged
                UPKEEP_RUNS.labels(job="round", outcome="failed").inc()
                _log.exception("upkeep round failed")

    async def _watch(self) -> None:
        """Fold a tail that has become long at once: by the next round it would be much longer."""
        wanted = self._services.fold_wanted
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                self._offer_long_tails()
            except Exception:  # noqa: BLE001 - the supervisor of background work
                UPKEEP_RUNS.labels(job="watch", outcome="failed").inc()
                _log.exception("looking for long tails failed")
            await asyncio.sleep(_WATCH_S)

    def _offer_long_tails(self) -> None:
        """Queue the folds of tails that are too long, and of nothing else: this runs often."""
        now_s = self._services.clock.monotonic_s()
        for namespace in self._database.opened():
            if namespace.reader.is_open and namespace.is_fold_wanted and self._duties.owns(namespace.name):
                self._offer_job("fold", namespace.name, now_s)

    async def run_once(self) -> None:
        """One round over all open namespaces, to its end: fold and merge what is due, collect garbage, evict
        what is idle."""
        self._offer(self._services.clock.monotonic_s())
        await self._queue.drained()
        await self._tidy()

    def _offer(self, now_s: float) -> None:
        """Queue what is due."""
        opened = self._database.opened()
        self._tail_since = {n.name: self._tail_since[n.name] for n in opened if n.name in self._tail_since}
        names = {namespace.name for namespace in opened}
        owned = {name for name in names if self._duties.owns(name)}
        self._known &= owned
        self._failed = {job: until for job, until in self._failed.items() if job[1] in names}
        if not self._is_indexer:
            return
        for namespace in opened:
            is_owned = namespace.name in owned
            if is_owned and namespace.name not in self._known:
                # what a process before this one left behind is looked for once
                self._known.add(namespace.name)
                self._remember_garbage(namespace.name)
            if namespace.reader.is_open and self._is_fold_due(namespace, now_s, is_owned=is_owned):
                self._offer_job("fold", namespace.name, now_s)
            if is_owned:
                self._offer_merge(namespace, now_s)

    def _offer_merge(self, namespace: Namespace, now_s: float) -> None:
        if namespace.reader.is_open and policy.pick(namespace.reader.manifest.segments):
            self._offer_job("compact", namespace.name, now_s)

    def _offer_job(self, kind: Kind, name: str, now_s: float) -> None:
        if now_s >= self._failed.get((kind, name), (0, now_s))[1]:
            self._queue.offer(kind, name)

    async def _run(self, kind: Kind, name: str) -> None:
        """Fold or merge, if the namespace is still open."""
        namespace = next((n for n in self._database.opened() if n.name == name), None)
        if namespace is None or not namespace.reader.is_open:
            return
        opened = namespace
        done = await self._job(kind, name, lambda: fold(opened) if kind == "fold" else compact(opened))
        now_s = self._services.clock.monotonic_s()
        if done is None:
            times = self._failed.get((kind, name), (0, 0.0))[0]
            wait_s = min(_RETRY_S_MAX, self._period_s * 2**times)
            self._failed[kind, name] = (times + 1, now_s + wait_s)
            return
        self._failed.pop((kind, name), None)
        if done and self._duties.owns(name):
            self._remember_garbage(name)
            # a merge may make another one worth while, and so may a fold
            self._offer_merge(namespace, now_s)

    def _remember_garbage(self, name: str) -> None:
        self._due_s.setdefault(name, self._services.clock.monotonic_s() + self._collect_period_s())

    async def _tidy(self) -> None:
        now_s = self._services.clock.monotonic_s()
        if self._is_indexer:
            await self._job("collect", "*", lambda: self._remember_dropped(now_s))
            await self._job("operations", "*", lambda: self._tidy_operations(now_s))
            for name in list(self._due_s):
                if self._duties.owns(name):
                    await self._collect(name, now_s)
                else:
                    self._forget_garbage(name)
        if self._evict(now_s):
            await self._database.closed(_CLOSING_S_MAX)
            await self._services.compute.bulk.run(give_back_memory)

    def _is_fold_due(self, namespace: Namespace, now_s: float, *, is_owned: bool) -> bool:
        reader, settings = namespace.reader, self._services.settings
        slots = reader.tail - reader.manifest.applied
        if slots == 0:
            self._tail_since.pop(namespace.name, None)
            return False
        applied, since_s = self._tail_since.setdefault(namespace.name, (reader.manifest.applied, now_s))
        if applied != reader.manifest.applied:
            since_s = now_s
            self._tail_since[namespace.name] = (reader.manifest.applied, now_s)
        if not is_owned:
            return now_s - since_s >= _PATIENCE * settings.fold_age_s
        return (
            namespace.is_fold_wanted or slots >= settings.fold_slots or now_s - since_s >= settings.fold_age_s
        )

    async def _remember_dropped(self, now_s: float) -> None:
        """Look for namespaces, deleted or released in this process or elsewhere, that left garbage."""
        if now_s < self._dropped_due_s:
            return
        self._dropped_due_s = now_s + self._collect_period_s()
        async for info in self._services.store.list(keys.DROPPED_PREFIX):
            name = keys.name_of_dropped(info.key)
            if name is not None and name not in self._due_s and self._duties.owns(name):
                self._dropped.add(name)
                self._due_s[name] = now_s

    async def _tidy_operations(self, now_s: float) -> int:
        if now_s < self._operations_due_s:
            return 0
        self._operations_due_s = now_s + _OPERATIONS_PERIOD_S
        return await self._database.operations.tidy()

    async def _collect(self, name: str, now_s: float) -> None:
        if now_s < self._due_s[name]:
            return
        collector = self._collectors.get(name)
        if collector is None:
            services = self._services
            collector = Collector(
                services.store, name, services.clock, services.rng, grace_s=services.settings.gc_grace_s
            )
            self._collectors[name] = collector
        if not await self._is_clean(name, collector):
            self._due_s[name] = now_s + self._collect_period_s()
            return
        if name in self._dropped:
            # who wants another look meanwhile must not find the reminder there and lose it: it goes first
            await self._job("collect", name, lambda: self._services.store.delete(keys.dropped_hint(name)))
            if not await self._is_clean(name, collector):
                await self._job("collect", name, lambda: catalog.remind(self._services.store, name))
                self._due_s[name] = now_s + self._collect_period_s()
                return
        # nothing left: the next fold or merge of the namespace asks for it again
        self._forget_garbage(name)

    async def _is_clean(self, name: str, collector: Collector) -> bool:
        collected = await self._job("collect", name, collector.run)
        return isinstance(collected, Collected) and collected.is_clean

    def _forget_garbage(self, name: str) -> None:
        del self._due_s[name]
        self._collectors.pop(name, None)
        self._dropped.discard(name)

    def _collect_period_s(self) -> float:
        return self._services.settings.gc_grace_s / _PASSES_PER_GRACE

    def _evict(self, now_s: float) -> bool:
        """Let go of namespaces that are idle or too many; whether there were any."""
        settings = self._services.settings
        unused_s = {namespace: self._unused_s(namespace, now_s) for namespace in self._database.opened()}
        by_use = sorted(unused_s, key=lambda namespace: -unused_s[namespace])
        surplus = len(by_use) - settings.open_namespaces_max
        has_evicted = False
        for index, namespace in enumerate(by_use):
            reader = namespace.reader
            is_idle = unused_s[namespace] >= settings.namespace_idle_s
            # an indexer folds a tail before it forgets the namespace: nobody else would be reminded of it
            is_kept = self._is_indexer and reader.is_open and reader.tail > reader.manifest.applied
            if self._queue.holds(namespace.name) and reader.is_open:
                continue  # it would be opened again for the job
            if index < surplus or not reader.is_open or (is_idle and not is_kept):
                self._database.evict(namespace)
                has_evicted = True
        return has_evicted

    def _unused_s(self, namespace: Namespace, now_s: float) -> float:
        """How long nobody has used it; when it has rested for a while, one whose queries are meant for other
        nodes counts as unused for longer."""
        unused_s = now_s - namespace.used_s
        handicap_s = self._services.settings.namespace_idle_s / 2
        if unused_s < handicap_s or self._duties.prefers(namespace.name):
            return unused_s
        return unused_s + handicap_s

    async def _job(self, job: str, name: str, run: Callable[[], Awaitable[T]]) -> T | None:
        started_s = time.perf_counter()
        try:
            result = await run()
        except TransitionRefused as error:
            UPKEEP_RUNS.labels(job=job, outcome="refused").inc()
            _log.info("job refused", job=job, namespace=name, reason=str(error))
            return None
        except NamespaceNotFound:
            return None
        except ElacsymError as error:
            UPKEEP_RUNS.labels(job=job, outcome="failed").inc()
            _log.warning("job failed", job=job, namespace=name, code=error.code, reason=str(error))
            return None
        except Exception:  # noqa: BLE001 - the supervisor of background work
            # one namespace's trouble must not keep the others from being looked after
            UPKEEP_RUNS.labels(job=job, outcome="failed").inc()
            _log.exception("job failed", job=job, namespace=name)
            return None
        if result:
            UPKEEP_RUNS.labels(job=job, outcome="done").inc()
            UPKEEP_SECONDS.labels(job=job).observe(time.perf_counter() - started_s)
        return result
