"""Garbage collection of one namespace: mark, wait, look again, sweep.

Garbage is what the manifest does not refer to, no pin holds and no live intent protects: files of lost or
abandoned jobs, inputs of merges, old delete bitmaps, folded log slots, what is left of other incarnations. An
object is deleted only after *this* collector has seen it as garbage for the grace period on its own clock,
and again right before: deletion never needs to be exact, only late. A restart waits again. The intent of a
job that died is withdrawn in the same way, so that what it uploaded becomes garbage.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from elacsym.clock import Clock
from elacsym.format.keys import NamespaceKeys, job_of_segment_file, seq_of_wal
from elacsym.format.manifest import Manifest, State
from elacsym.log import transitions
from elacsym.log.manifest_file import ManifestFile
from elacsym.store.base import ObjectStore
from elacsym.upkeep.pins import Pins

# a job that takes longer has died, or finds its intent gone when it commits
INTENT_AGE_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What one pass found: garbage still in its grace period, objects deleted, jobs and branches that are
    announced."""

    waiting: int
    deleted: int
    announced: int

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left that this collector has to remember."""
        return not (self.waiting or self.announced)


def garbage(manifest: Manifest, keys: NamespaceKeys, listed: Iterable[str]) -> set[str]:
    """Of the listed keys of a namespace, those that this generation of its manifest does not need. Pure."""
    is_gone = manifest.state is State.DELETED
    live = set() if is_gone else set(_files_of(manifest))
    held = {(pin.inc, job) for pin in manifest.pins for job in pin.jobs}
    held |= {(manifest.inc, intent.job) for intent in manifest.intents}

    def is_live(key: str) -> bool:
        if key == keys.manifest or key in live:
            return True
        inc, seq = keys.incarnation_of(key), seq_of_wal(key)
        if seq is None:
            return (inc, job_of_segment_file(key)) in held
        if inc == manifest.inc and not is_gone and seq >= manifest.applied:
            return True
        return any(pin.inc == inc and pin.covers(seq) for pin in manifest.pins)

    return {key for key in listed if not is_live(key)}


def _files_of(manifest: Manifest) -> Iterator[str]:
    """The files of the segments that lie under the namespace's own prefix."""
    for segment in manifest.segments:
        if segment.home is None:
            yield from (manifest.home.segment_file(segment.job, file.part) for file in segment.files)
        if segment.deletes is not None and segment.deletes.home is None:
            yield manifest.home.segment_file(segment.deletes.job, segment.deletes.file.part)


class Collector:
    """Collects one namespace, pass by pass; it remembers since when it has seen each piece of garbage."""

    def __init__(
        self, store: ObjectStore, name: str, clock: Clock, rng: random.Random, *, grace_s: float
    ) -> None:
        self._store, self._keys, self._clock, self._grace_s = store, NamespaceKeys(name), clock, grace_s
        self._file = ManifestFile(store, name, rng)
        self._first_seen_s: dict[str, float] = {}
        self._announced_s: dict[str, float] = {}
        self._pins = Pins(store, name, clock, rng, grace_s=grace_s)

    async def run(self) -> Collected:
        """One pass. Raises StoreUnavailable; a pass that fails is simply repeated later."""
        # the listing comes first: what is created later than it is not judged by it
        listed = [info.key async for info in self._store.list(self._keys.prefix)]
        manifest = await self._manifest()
        candidates = self._garbage(manifest, listed)
        now_s = self._clock.monotonic_s()
        self._first_seen_s = {key: self._first_seen_s.get(key, now_s) for key in candidates}
        due = [key for key, seen_s in self._first_seen_s.items() if now_s - seen_s >= self._grace_s]
        if due:
            due = sorted(self._garbage(await self._manifest(), due))
        for key in due:
            await self._store.delete(key)
            del self._first_seen_s[key]
        await self._withdraw_abandoned(manifest, now_s)
        unheld = 0
        if manifest is not None:
            await self._pins.release(manifest)
            unheld = await self._pins.check(manifest)
        return Collected(len(self._first_seen_s), len(due), len(self._announced_s) + unheld)

    async def _withdraw_abandoned(self, manifest: Manifest | None, now_s: float) -> None:
        """Remove the intents that this collector has seen for INTENT_AGE_S: their files become garbage."""
        jobs = [] if manifest is None else [intent.job for intent in manifest.intents]
        self._announced_s = {job: self._announced_s.get(job, now_s) for job in jobs}
        for job in jobs:
            if now_s - self._announced_s[job] >= INTENT_AGE_S:
                await self._file.update(partial(transitions.remove_intent, job=job))
                del self._announced_s[job]

    async def _manifest(self) -> Manifest | None:
        loaded = await self._file.load()
        return None if loaded is None else loaded.manifest

    def _garbage(self, manifest: Manifest | None, listed: list[str]) -> set[str]:
        # without a manifest nothing can be told apart: a namespace that is being created
        return set() if manifest is None else garbage(manifest, self._keys, listed)
