"""Toy segments for the simulation: JSON files below real keys, referenced by real manifests.

A segment file holds rows [row, number of the put] and the journal of the slots it was folded from; a delete
bitmap is the list of dead row numbers. Folding, compaction with replay of concurrent deletes, and garbage
collection work as in reliability.md 2.5 and 2.6, through the real transitions.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from elacsym.clock import Clock
from elacsym.errors import CorruptObject, StoreUnavailable
from elacsym.format.digest import blake2b_128
from elacsym.format.keys import NamespaceKeys
from elacsym.format.manifest import DeletesRef, FileRef, Intent, Manifest, SegmentRef
from elacsym.format.wal_entry import WalEntry
from elacsym.log import transitions
from elacsym.log.reader import LogReader
from elacsym.log.transitions import TransitionRefused
from elacsym.store.base import ObjectStore
from elacsym.types import Schema
from elacsym.upkeep.collect import garbage

ROWS = "rows"
Journal = list[tuple[int, tuple[int, int, int]]]


class SegmentGone(Exception):
    """A file of the snapshot was collected: the snapshot is out of date."""


class Rows:
    """A LogConsumer that keeps the entries of the tail, and reads what is in segments when asked."""

    def __init__(self) -> None:
        self.inc = ""
        self.entries: dict[int, list[list[Any]]] = {}

    def reset(self, manifest: Manifest) -> None:
        if manifest.inc != self.inc:
            self.inc, self.entries = manifest.inc, {}
        self.entries = {seq: ops for seq, ops in self.entries.items() if seq >= manifest.applied}

    def apply(self, entry: WalEntry, size_bytes: int) -> None:
        assert entry.inc == self.inc
        assert entry.seq not in self.entries, "an entry is applied twice"
        self.entries[entry.seq] = [orjson.loads(batch.payload) for batch in entry.batches]

    def journal(self) -> Journal:
        """(number, place) of the tail's operations."""
        return [(number, place) for number, place, _, _ in self.operations(max(self.entries, default=-1) + 1)]

    def operations(self, end: int) -> list[tuple[int, tuple[int, int, int], str, str]]:
        """(number, place, kind, row) below slot `end`, in order."""
        return [
            (number, (seq, b, o), kind, row)
            for seq in sorted(self.entries)
            if seq < end
            for b, batch in enumerate(self.entries[seq])
            for o, (number, kind, row) in enumerate(batch)
        ]


class Files:
    """Segment files of one node, cached for ever: they are immutable."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self.store, self.keys = store, NamespaceKeys(name)
        self._cache: dict[str, Any] = {}

    async def read(self, inc: str, job: str, ref: FileRef) -> Any:
        key = self.keys.segment_file(inc, job, ref.part)
        if key not in self._cache:
            found = await self.store.get(key)
            if found is None:
                raise SegmentGone(key)
            if blake2b_128(found.data) != ref.digest:
                raise CorruptObject(key, "digest mismatch")
            self._cache[key] = orjson.loads(found.data)
        return self._cache[key]

    async def write(self, inc: str, job: str, part: str, value: Any) -> FileRef:
        data = orjson.dumps(value)
        for _ in range(6):
            try:
                await self.store.put_if_absent(self.keys.segment_file(inc, job, part), data)
                return FileRef(part, len(data), blake2b_128(data))
            except StoreUnavailable:
                continue
        raise StoreUnavailable(f"{job}/{part}")

    async def live(self, inc: str, segment: SegmentRef) -> list[tuple[int, str, int]]:
        """(position, row, number) of the rows that are alive."""
        content = await self.read(inc, segment.job, segment.files[0])
        dead = set(await self.dead(inc, segment))
        return [(i, row, number) for i, (row, number) in enumerate(content["rows"]) if i not in dead]

    async def dead(self, inc: str, segment: SegmentRef) -> list[int]:
        if segment.deletes is None:
            return []
        return list(await self.read(inc, segment.deletes.job, segment.deletes.file))

    async def journal(self, inc: str, segment: SegmentRef) -> Journal:
        content = await self.read(inc, segment.job, segment.files[0])
        return [(number, (place[0], place[1], place[2])) for number, place in content["journal"]]


def sum_of(rows: list[tuple[str, int]]) -> str:
    """An order-free sum, as the real one is."""
    digests = (hashlib.blake2b(f"{row}:{number}".encode(), digest_size=16).digest() for row, number in rows)
    return f"{sum(int.from_bytes(d, 'little') for d in digests) % 2**128:032x}"


async def _stall(rng: random.Random, stall_s: float) -> None:
    if stall_s and rng.random() < 0.25:
        await asyncio.sleep(rng.uniform(0.0, stall_s))


async def fold(
    reader: LogReader, rows: Rows, files: Files, rng: random.Random, job: str, stall_s: float = 0.0
) -> bool:
    """Fold a random prefix of the tail; whether it was committed."""
    await reader.check()
    if not reader.slots:
        return False
    slots = list(reader.slots)[: rng.randint(1, len(reader.slots))]
    end, inc = slots[-1].seq + 1, reader.manifest.inc
    operations = rows.operations(end)
    intent = Intent(job, "fold", (), reader.epoch, "sim")
    announced = await reader.file.update(lambda m: transitions.add_intent(m, intent))
    reader.adopt(announced.manifest, announced.etag)
    manifest = announced.manifest
    if manifest.inc != inc or manifest.applied != slots[0].seq:
        await reader.file.update(lambda m: transitions.remove_intent(m, job))
        return False
    last = {row: (number, kind) for number, _, kind, row in operations}
    changes: dict[str, transitions.DeletesChange] = {}
    for segment in manifest.segments:
        live = await files.live(inc, segment)
        struck = [i for i, row, _ in live if row in last]
        if struck:
            dead = sorted({*await files.dead(inc, segment), *struck})
            ref = await files.write(inc, job, f"deletes-{segment.job}", dead)
            left = [(row, number) for i, row, number in live if i not in struck]
            changes[segment.job] = transitions.DeletesChange(DeletesRef(job, ref, len(dead)), sum_of(left))
    made = [(row, number) for row, (number, kind) in sorted(last.items()) if kind == "put"]
    content = {"rows": made, "journal": [(number, place) for number, place, _, _ in operations]}
    segments = []
    if operations:
        ref = await files.write(inc, job, ROWS, content)
        segments = [SegmentRef(job, len(made), slots[0].seq, end - 1, sum_of(made), (ref,))]
    await _stall(rng, stall_s)
    done = await reader.file.update(
        lambda m: transitions.fold(m, slots, job=job, segments=segments, deletes=changes, schema=Schema())
    )
    reader.adopt(done.manifest, done.etag)
    return True


async def compact(
    reader: LogReader, files: Files, rng: random.Random, job: str, stall_s: float = 0.0
) -> bool:
    """Merge some segments; replay deletes that were folded meanwhile; whether it was committed."""
    await reader.check()
    segments, inc = reader.manifest.segments, reader.manifest.inc
    if len(segments) < 2:
        return False
    start = rng.randrange(len(segments) - 1)
    inputs = [s.job for s in segments[start : start + rng.randint(2, 3)]]
    intent = Intent(job, "compact", tuple(inputs), reader.epoch, "sim")
    manifest = (await reader.file.update(lambda m: transitions.add_intent(m, intent))).manifest
    chosen = [s for s in manifest.segments if s.job in inputs]
    # a swap whose answer was lost is found in a later manifest, whose segments may have been merged by others
    if manifest.inc != inc or len(chosen) < len(inputs):
        return False
    merged = [(row, number) for s in chosen for _, row, number in await files.live(inc, s)]
    journal = [entry for s in chosen for entry in await files.journal(inc, s)]
    ref = await files.write(inc, job, ROWS, {"rows": merged, "journal": journal})
    output = SegmentRef(
        job,
        len(merged),
        min(s.seq_min for s in chosen),
        max(s.seq_max for s in chosen),
        sum_of(merged),
        (ref,),
        level=1,
    )
    await _stall(rng, stall_s)
    for attempt in range(4):
        try:
            merge = partial(transitions.replace_segments, job=job, inputs=inputs, outputs=[output])
            done = await reader.file.update(merge)
        except TransitionRefused:
            output = await _replayed(reader, files, output, inputs, merged, f"deletes-{attempt}")
        else:
            reader.adopt(done.manifest, done.etag)
            return True
    return False


async def _replayed(
    reader: LogReader,
    files: Files,
    output: SegmentRef,
    inputs: list[str],
    merged: list[tuple[str, int]],
    part: str,
) -> SegmentRef:
    loaded = await reader.file.load()
    assert loaded is not None
    chosen = [s for s in loaded.manifest.segments if s.job in inputs]
    if len(chosen) != len(inputs) or all(i.job != output.job for i in loaded.manifest.intents):
        raise TransitionRefused("inputs or intent are gone")
    inc = loaded.manifest.inc
    alive = {(row, number) for s in chosen for _, row, number in await files.live(inc, s)}
    dead = [i for i, pair in enumerate(merged) if pair not in alive]
    ref = await files.write(inc, output.job, part, dead)
    return replace(output, deletes=DeletesRef(output.job, ref, len(dead)), row_sum=sum_of(sorted(alive)))


class Collector:
    """Deletes what it has itself seen unreferenced for `grace_s`; forgets everything when it restarts."""

    def __init__(
        self, store: ObjectStore, reader: LogReader, clock: Clock, grace_s: float, intent_s: float
    ) -> None:
        self._store, self._reader, self._clock = store, reader, clock
        self._grace_s, self._intent_s = grace_s, intent_s
        self._garbage_since: dict[str, float] = {}
        self._intent_since: dict[str, float] = {}

    async def sweep(self) -> int:
        """One round; how many objects were deleted."""
        before = await self._reader.file.load()
        assert before is not None
        prefix = self._reader.keys.prefix
        listed = [info.key async for info in self._store.list(prefix)]
        now_s = self._clock.monotonic_s()
        garbage = [key for key in listed if self._is_garbage(before.manifest, key)]
        # a listing may miss rows: what it does not show keeps its place unless the manifest needs it
        kept = {k: s for k, s in self._garbage_since.items() if self._is_garbage(before.manifest, k)}
        self._garbage_since = dict.fromkeys(garbage, now_s) | kept
        ripe = [key for key, since_s in self._garbage_since.items() if now_s - since_s >= self._grace_s]
        await self._withdraw_old_intents(before.manifest, now_s)
        again = await self._reader.file.load()
        assert again is not None
        deleted = 0
        for key in ripe:
            if self._is_garbage(again.manifest, key):
                await self._store.delete(key)
                del self._garbage_since[key]
                deleted += 1
        return deleted

    def _is_garbage(self, manifest: Manifest, key: str) -> bool:
        return key in garbage(manifest, self._reader.keys, [key])

    async def _withdraw_old_intents(self, manifest: Manifest, now_s: float) -> None:
        jobs = [i.job for i in manifest.intents]
        self._intent_since = {job: self._intent_since.get(job, now_s) for job in jobs}
        for job, since_s in self._intent_since.items():
            if now_s - since_s >= self._intent_s:
                await self._reader.file.update(partial(transitions.remove_intent, job=job))
