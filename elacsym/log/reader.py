"""Follows one namespace's log: proves that a view is current, feeds the entries to a consumer, remembers the
slots.

A round asks for the manifest (if it changed) and one or more slots from the tail on, all together. An
unchanged manifest proves that no slot of the round was folded, so none was collected: a present slot is the
log, an absent one is its end. That holds while the round is shorter than half the collector's grace on the
local clock; a slower round is done again in order, slots first, then the manifest, which proves the same
without a clock. Nothing reaches the consumer before a round proved it: a writer that stalled past garbage
collection may re-create a collected slot, and such a ghost must not be seen.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Protocol

from elacsym.clock import Clock, full_jitter_s
from elacsym.compute import Compute, InlineCompute
from elacsym.errors import CorruptObject, InvalidRequest, NamespaceNotFound, StoreUnavailable, Unavailable
from elacsym.format.digest import blake2b_128
from elacsym.format.keys import NamespaceKeys
from elacsym.format.manifest import FoldedKey, Manifest, State
from elacsym.format.wal_entry import EntryKind, WalEntry
from elacsym.log.manifest_file import Loaded, ManifestFile
from elacsym.log.settings import DEFAULTS, LogSettings
from elacsym.log.tail import SlotRecord, Tail
from elacsym.store.base import UNCHANGED, Etag, ObjectStore, StoredObject, Unchanged
from elacsym.store.wrapper import is_unchanged_now
from elacsym.telemetry import RETRIES, UNINDEXED_BYTES

_ROUNDS_MAX = 1_000
# what is applied without letting others run: so many slots, a slot counting once more for so many bytes
_SLOTS_AT_ONCE, _SLOT_BYTES = 16, 2**16


class LogConsumer(Protocol):
    """What is built from the log. Both methods are called on the event loop and must not await."""

    def reset(self, manifest: Manifest) -> None:
        """Another manifest: drop what came from slots below `manifest.applied`; all if `inc` changed."""
        ...

    def apply(self, entry: WalEntry, size_bytes: int) -> None:
        """The next write entry that counts, in slot order, once; one that a branch shares has the incarnation
        that it was written in. May raise CorruptObject."""
        ...


class LogReader:
    """One view of namespace `name`; not tied to a thread, but to one event loop."""

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        consumer: LogConsumer,
        clock: Clock,
        rng: random.Random,
        settings: LogSettings = DEFAULTS,
        compute: Compute | None = None,
    ) -> None:
        self.name = name
        self.keys = NamespaceKeys(name)
        self.file = ManifestFile(store, name, rng, settings)
        self._store, self._consumer, self._clock, self._rng = store, consumer, clock, rng
        self._settings, self._compute = settings, compute or InlineCompute()
        self._tail: Tail | None = None
        self._etag: Etag | None = None
        self._proven_s: float | None = None
        self._gauge_bytes = 0
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    # what is known

    @property
    def is_open(self) -> bool:
        """Whether a manifest of an existing namespace is known; the properties below need one."""
        return self._tail is not None and self._tail.manifest.state is not State.DELETED

    @property
    def manifest(self) -> Manifest:
        """The manifest of the view."""
        return self._known.manifest

    @property
    def etag(self) -> Etag:
        """The ETag of `manifest`."""
        assert self._etag is not None, "the reader is not open"
        return self._etag

    @property
    def tail(self) -> int:
        """The first slot that the view does not hold."""
        return self._known.next

    @property
    def epoch(self) -> int:
        """The highest epoch in the view."""
        return self._known.epoch

    @property
    def tail_digest(self) -> str:
        """The digest of the object in slot `tail` - 1; empty at the start of the log."""
        return self._known.digest

    @property
    def slots(self) -> Sequence[SlotRecord]:
        """The slots from `manifest.applied` to `tail` - 1, claims and void entries too. Not to be changed."""
        return self._known.records

    @property
    def unfolded_bytes(self) -> int:
        """The bytes of `slots`; 0 before the reader is open."""
        return 0 if self._tail is None else self._tail.unfolded_bytes

    @property
    def changed_ms(self) -> int:
        """When the last write in the view was written, by its writer's clock; creation counts as one."""
        manifest = self._known.manifest
        times = [r.written_ms for r in self.slots if r.kind is EntryKind.WRITE and not r.is_void]
        return max([manifest.created_ms, manifest.changed_ms, *times])

    @property
    def written_ms(self) -> int | None:
        """The same for writes of documents; None where there is none."""
        times = [record.written_ms for record in self.slots if record.has_documents]
        return max([self._known.manifest.written_ms, *times]) or None

    @property
    def staleness_ms(self) -> int:
        """How long ago the view was last known to be current."""
        proven_s = self._proven_s if self._proven_s is not None else self._clock.monotonic_s()
        return max(0, int((self._clock.monotonic_s() - proven_s) * 1000))

    def find_key(self, key: str) -> FoldedKey | None:
        """The committed write that carried this idempotency key, as far as the view remembers."""
        return self._known.find_key(key)

    # reads

    async def open(self) -> None:
        """Load the manifest and the whole tail. Raises NamespaceNotFound."""
        await self.check()

    async def check(self) -> None:
        """Make the view hold everything acknowledged before this call (strong). Two GETs when nothing
        changed.

        A caller that arrives while a check runs shares the next one. Raises NamespaceNotFound, CorruptObject,
        Unavailable.
        """
        if not self._is_proven_at_once():
            await asyncio.shield(self._join())

    def is_current_since(self, time_s: float) -> bool:
        """Whether a check that began at or after `time_s`, a reading of the clock, has proven the view."""
        return self.is_open and self._proven_s is not None and self._proven_s >= time_s

    async def at_least(self, seq: int, inc: str | None = None) -> None:
        """Make the view hold slot `seq` of incarnation `inc` (None: whichever it is); no request if it does
        already.

        A slot of an incarnation that is gone asks for nothing more than a strong read. Raises InvalidRequest
        for a slot that does not exist.
        """
        if self._holds(seq, inc):
            return
        await self.check()
        if inc in (None, self.manifest.inc) and not self._holds(seq, inc):
            raise InvalidRequest(
                "min_seq", f"slot {seq} is not written yet, the log ends before slot {self.tail}"
            )

    async def eventual(self, staleness_s_max: float) -> None:
        """Accept a view that was current within `staleness_s_max`; an older one is checked first.

        A view older than `refresh_s` is served, and checked behind the caller's back.
        """
        if not self.is_open or self._age_s() > staleness_s_max:
            await self.check()
        elif self._age_s() > self._settings.refresh_s and self._running is None:
            self._join()

    async def close(self) -> None:
        """End running checks and give back what the gauge counts."""
        tasks = [task for task in (self._running, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._account(0)

    # what own commits and own swaps tell

    def adopt(self, manifest: Manifest, etag: Etag) -> None:
        """Take a manifest that was read or written elsewhere in this process; only a later one counts."""
        if self._tail is None or manifest.generation > self._tail.manifest.generation:
            self._install(manifest, etag)

    def push(self, entry: WalEntry, size_bytes: int, digest: str) -> None:
        """Take a commit of one's own as if it had been read; ignored where the view holds the slot."""
        tail = self._known
        if entry.inc != tail.manifest.inc or entry.seq < tail.next:
            return
        wrong = tail.mismatch(entry)
        assert wrong is None, wrong
        self._accept(entry, size_bytes, digest)

    # checks

    @property
    def _known(self) -> Tail:
        if self._tail is None or self._tail.manifest.state is State.DELETED:
            raise NamespaceNotFound(self.name)
        return self._tail

    def _holds(self, seq: int, inc: str | None) -> bool:
        return self.is_open and inc in (None, self.manifest.inc) and self.tail > seq

    def _age_s(self) -> float:
        return self._clock.monotonic_s() - self._proven_s if self._proven_s is not None else float("inf")

    def _is_proven_at_once(self) -> bool:
        """The proof of a round in order, slot first, where the store gives it without waiting."""
        if self._proven_s is None or not self.is_open:
            return False
        began_s, slot = self._clock.monotonic_s(), self.manifest.slot_key(self.tail)
        if not is_unchanged_now(self._store, self.file.key, self.etag, slot):
            return False
        self._proven_s = began_s
        return True

    def _join(self) -> asyncio.Task[None]:
        """The check that begins after this call: at most one runs and one waits."""
        if self._running is None:
            self._running = self._start(None)
            return self._running
        if self._next is None:
            self._next = self._start(self._running)
        return self._next

    def _start(self, after: asyncio.Task[None] | None) -> asyncio.Task[None]:
        task = asyncio.create_task(self._run(after), name=f"log check {self.name}")
        # a failure that every caller gave up waiting for is nobody's business
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _run(self, after: asyncio.Task[None] | None) -> None:
        try:
            if after is not None:
                await asyncio.wait((after,))
            await self._check()
        finally:
            self._running, self._next = self._next, None

    async def _check(self) -> None:
        failures = 0
        while True:
            try:
                return await self._prove()
            except StoreUnavailable:
                failures += 1
                if failures >= self._settings.store_attempts:
                    raise
                RETRIES.labels(operation="check").inc()
                await asyncio.sleep(self._pause_s(failures - 1))

    async def _prove(self) -> None:
        """Rounds until one finds the end of the log under an unchanged manifest."""
        await self._load()
        widths = self._widths()
        width, in_order, suspect = next(widths), False, False
        for _ in range(_ROUNDS_MAX):
            start, etag, began_s = self._known.next, self.etag, self._clock.monotonic_s()
            found, manifest = await self._round(start, width, etag, in_order=in_order)
            is_slow = not in_order and self._is_slow(self._clock.monotonic_s() - began_s)
            if self._etag != etag:  # adopted meanwhile
                continue
            if is_slow:
                in_order = True
                continue
            if not self._is_current(manifest):
                self._take(manifest)
                suspect = False
                continue
            try:
                await self._take_slots(start, found, etag)
            except CorruptObject:
                # a ghost, or damage on the way: read again in order before it is called damage in the store
                if suspect:
                    raise
                suspect = in_order = True
                continue
            if self._etag == etag and None in found:
                self._proven_s = began_s
                return
            width = next(widths)
        raise Unavailable(f"namespace '{self.name}': the log moves faster than it can be read")

    def _widths(self) -> Iterator[int]:
        widths = self._settings.probes_cold if self._proven_s is None else self._settings.probes_warm
        return chain(widths, repeat(widths[-1]))

    async def _load(self) -> None:
        """Know a manifest of an existing namespace. One request where none is known."""
        if self._tail is None:
            loaded = await self.file.load()
        elif self._tail.manifest.state is State.DELETED:
            changed = await self.file.load_if_changed(self.etag)
            if changed is UNCHANGED:
                raise NamespaceNotFound(self.name)
            loaded = changed if isinstance(changed, Loaded) else None
        else:
            return
        self._take(loaded)

    async def _round(
        self, start: int, width: int, etag: Etag, *, in_order: bool
    ) -> tuple[list[StoredObject | None], Loaded | Unchanged | None]:
        key_of = self._known.manifest.slot_key
        probes = asyncio.gather(
            *(self._store.get(key_of(seq)) for seq in range(start, start + width)),
            return_exceptions=True,
        )
        if in_order:
            slots = await probes
            manifest = await self.file.load_if_changed(etag)
        else:
            manifest, slots = await asyncio.gather(self.file.load_if_changed(etag), probes)
        return _answered(slots), manifest

    def _is_slow(self, elapsed_s: float) -> bool:
        """Whether a collector may have removed a slot between the two halves of a round."""
        return elapsed_s >= self._settings.gc_grace_s / 2

    def _is_current(self, manifest: Loaded | Unchanged | None) -> bool:
        """Whether the round proves the view; any other manifest is a reason to begin again from it."""
        return manifest is UNCHANGED

    def _take(self, manifest: Loaded | Unchanged | None) -> None:
        """Begin again from another manifest. Raises NamespaceNotFound where there is none, or a tombstone."""
        if not isinstance(manifest, Loaded):
            self._forget()
            raise NamespaceNotFound(self.name)
        known = self._tail
        if known is not None and manifest.manifest.nonce == known.manifest.nonce:
            self._etag = manifest.etag  # the same version under another spelling
            return
        if known is not None and manifest.manifest.generation <= known.manifest.generation:
            went = f"generation went from {known.manifest.generation} to {manifest.manifest.generation}"
            raise CorruptObject(self.file.key, went)
        self._install(manifest.manifest, manifest.etag)
        if not self.is_open:
            raise NamespaceNotFound(self.name)

    async def _take_slots(self, start: int, found: Sequence[StoredObject | None], etag: Etag) -> None:
        """Apply the slots of a proven round up to the first absent one; later ones came while it was read."""
        taken = 0
        for seq, stored in enumerate(found, start):
            key = self._known.manifest.slot_key(seq)
            if stored is None:
                if seq < self._known.manifest.begins:
                    raise CorruptObject(key, "a slot is missing that the log begins with")
                return
            taken += 1 + len(stored.data) // _SLOT_BYTES
            if taken > _SLOTS_AT_ONCE:
                taken = 0
                await asyncio.sleep(0)
            if seq < self._known.next:  # pushed meanwhile
                continue
            entry, digest = await self._decode(stored.data, key)
            if self._etag != etag:
                return
            if seq < self._known.next:
                continue
            wrong = self._known.mismatch(entry)
            if wrong is not None:
                raise CorruptObject(key, wrong)
            self._accept(entry, len(stored.data), digest)

    async def _decode(self, data: bytes, key: str) -> tuple[WalEntry, str]:
        def work() -> tuple[WalEntry, str]:
            return WalEntry.decode(data, key=key), blake2b_128(data)

        return await self._compute.run(work) if len(data) > self._settings.inline_bytes_max else work()

    # changes of the view

    def _accept(self, entry: WalEntry, size_bytes: int, digest: str) -> None:
        tail = self._known
        if entry.kind is EntryKind.WRITE and not tail.is_void(entry):
            self._consumer.apply(_as_own(entry, tail.manifest), size_bytes)
        tail.append(entry, size_bytes, digest)
        self._account(tail.unfolded_bytes)

    def _install(self, manifest: Manifest, etag: Etag) -> None:
        is_same_log = self._tail is not None and self._tail.manifest.inc == manifest.inc
        if self._tail is None or not is_same_log or manifest.state is State.DELETED:
            self._tail = Tail(manifest)
        else:
            wrong = self._tail.rebase(manifest)
            if wrong is not None:
                raise CorruptObject(self.file.key, wrong)
        self._etag = etag
        if not is_same_log:
            self._proven_s = None
        if manifest.state is not State.DELETED:
            self._consumer.reset(manifest)
        self._account(self._tail.unfolded_bytes)

    def _forget(self) -> None:
        self._tail = self._etag = self._proven_s = None
        self._account(0)

    def _account(self, unfolded_bytes: int) -> None:
        UNINDEXED_BYTES.inc(unfolded_bytes - self._gauge_bytes)
        self._gauge_bytes = unfolded_bytes

    def _pause_s(self, attempt: int) -> float:
        settings = self._settings
        return full_jitter_s(self._rng, attempt, base_s=settings.retry_base_s, cap_s=settings.retry_cap_s)


def _as_own(entry: WalEntry, manifest: Manifest) -> WalEntry:
    """The entry as this log means it: the options of a branch are its own, also in slots that it shares."""
    if entry.schema is None or entry.seq >= manifest.begins:
        return entry
    return replace(entry, schema=replace(entry.schema, options=manifest.schema.options))


def _answered(slots: Sequence[StoredObject | BaseException | None]) -> list[StoredObject | None]:
    """The slots before the first failed request; if that is the first one, its error is raised."""
    found: list[StoredObject | None] = []
    for slot in slots:
        if isinstance(slot, BaseException):
            if not found or not isinstance(slot, StoreUnavailable):
                raise slot
            break
        found.append(slot)
    return found
