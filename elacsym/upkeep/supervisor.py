"""The background loop of a process: folds, merges, collects and evicts the namespaces that are open.

One namespace at a time, so that upkeep takes one core at most. A job that fails is counted, logged and tried
again in a later round; it can lose nothing, because every job commits by one swap of the manifest.
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
from elacsym.log.transitions import TransitionRefused
from elacsym.telemetry import UPKEEP_RUNS, UPKEEP_SECONDS, get_logger
from elacsym.upkeep.collect import Collected, Collector
from elacsym.upkeep.compact import compact

_log = get_logger("upkeep")
T = TypeVar("T")

# a listing costs money: a namespace is looked through this many times per grace period
_PASSES_PER_GRACE = 4


class Upkeep:
    """Looks after the open namespaces of a database every `period_s`. `is_indexer`: whether this node folds
    and merges."""

    def __init__(self, database: Database, *, period_s: float = 1.0, is_indexer: bool = True) -> None:
        self._database, self._period_s, self._is_indexer = database, period_s, is_indexer
        self._services = database.services
        self._collectors: dict[str, Collector] = {}
        self._due_s: dict[str, float] = {}  # when a namespace is to be collected next
        self._known: set[str] = set()  # open namespaces that had their first look
        self._dropped: set[str] = set()
        self._dropped_due_s = 0.0
        self._tail_since: dict[str, tuple[int, float]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the loop."""
        self._task = asyncio.create_task(self._loop(), name="upkeep")

    async def stop(self) -> None:
        """End the loop; a job under way is cancelled, which leaves at most an intent and unreferenced
        files."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            try:
                await self.run_once()
            except Exception:  # noqa: BLE001 - the supervisor of background work
                # the supervisor outlives whatever a round meets; the round is counted and logged
                UPKEEP_RUNS.labels(job="round", outcome="failed").inc()
                _log.exception("upkeep round failed")

    async def run_once(self) -> None:
        """One round over all open namespaces: fold and merge what is due, collect garbage, evict what is
        idle."""
        now_s = self._services.clock.monotonic_s()
        opened = self._database.opened()
        self._tail_since = {n.name: self._tail_since[n.name] for n in opened if n.name in self._tail_since}
        self._known &= {namespace.name for namespace in opened}
        if self._is_indexer:
            for namespace in opened:
                await self._maintain(namespace, now_s)
            await self._job("collect", "*", lambda: self._remember_dropped(now_s))
            for name in list(self._due_s):
                await self._collect(name, now_s)
        self._evict(now_s)

    async def _maintain(self, namespace: Namespace, now_s: float) -> None:
        # what a process before this one left behind is looked for once
        has_changed = namespace.name not in self._known
        if namespace.reader.is_open and self._is_fold_due(namespace, now_s):
            has_changed = bool(await self._job("fold", namespace.name, lambda: fold(namespace)))
        while namespace.reader.is_open and await self._job(
            "compact", namespace.name, lambda: compact(namespace)
        ):
            has_changed = True
        self._known.add(namespace.name)
        if has_changed:
            self._due_s.setdefault(namespace.name, now_s + self._collect_period_s())

    def _is_fold_due(self, namespace: Namespace, now_s: float) -> bool:
        reader, settings = namespace.reader, self._services.settings
        slots = reader.tail - reader.manifest.applied
        if slots == 0:
            self._tail_since.pop(namespace.name, None)
            return False
        applied, since_s = self._tail_since.setdefault(namespace.name, (reader.manifest.applied, now_s))
        if applied != reader.manifest.applied:
            since_s = now_s
            self._tail_since[namespace.name] = (reader.manifest.applied, now_s)
        return (
            reader.unfolded_bytes >= settings.fold_bytes
            or slots >= settings.fold_slots
            or now_s - since_s >= settings.fold_age_s
        )

    async def _remember_dropped(self, now_s: float) -> None:
        """Look for deleted namespaces, in this process or elsewhere, whose data is still there."""
        if now_s < self._dropped_due_s:
            return
        self._dropped_due_s = now_s + self._collect_period_s()
        async for info in self._services.store.list(keys.DROPPED_PREFIX):
            name = keys.name_of_dropped(info.key)
            if name is not None and name not in self._due_s:
                self._dropped.add(name)
                self._due_s[name] = now_s

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
        collected = await self._job("collect", name, collector.run)
        if isinstance(collected, Collected) and collected.is_clean:
            # nothing left: the next fold or merge of the namespace asks for it again
            del self._due_s[name], self._collectors[name]
            if name in self._dropped:
                self._dropped.discard(name)
                await self._job("collect", name, lambda: self._services.store.delete(keys.dropped_hint(name)))
        else:
            self._due_s[name] = now_s + self._collect_period_s()

    def _collect_period_s(self) -> float:
        return self._services.settings.gc_grace_s / _PASSES_PER_GRACE

    def _evict(self, now_s: float) -> None:
        settings = self._services.settings
        by_use = sorted(self._database.opened(), key=lambda namespace: namespace.used_s)
        surplus = len(by_use) - settings.open_namespaces_max
        for index, namespace in enumerate(by_use):
            reader = namespace.reader
            is_idle = now_s - namespace.used_s >= settings.namespace_idle_s
            # an indexer folds a tail before it forgets the namespace: nobody else would be reminded of it
            is_kept = self._is_indexer and reader.is_open and reader.tail > reader.manifest.applied
            if index < surplus or not reader.is_open or (is_idle and not is_kept):
                self._database.evict(namespace)

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
