"""Writes one namespace's log: claims it, groups requests into entries, proves each slot before it
acknowledges.

Group commit is self-clocked: while an entry is in flight requests collect, and the next entry takes what is
there. There is no task and no claim before the first write, and no task while nothing waits. What may be put
where is decided by `elacsym.log.commit`; this module asks the store and keeps the queue. A writer that lost a
slot prepares the rejected requests again after it has caught up and won a new claim, so a request is applied
once or its outcome is said to be unknown.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from elacsym.clock import Clock, full_jitter_s, new_nonce
from elacsym.compute import Compute, InlineCompute
from elacsym.errors import (
    CorruptObject,
    DeadlineExceeded,
    ElacsymError,
    NotOwner,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    Unavailable,
)
from elacsym.format.digest import blake2b_128
from elacsym.format.manifest import State
from elacsym.format.wal_entry import Batch, EntryKind, WalEntry
from elacsym.log import transitions
from elacsym.log.claims import Claims, ClaimsOfAll
from elacsym.log.commit import Decision, Outcome, Ownership, SlotAttempt, Step
from elacsym.log.manifest_file import Loaded
from elacsym.log.reader import LogReader
from elacsym.log.settings import DEFAULTS, LogSettings
from elacsym.log.tail import claimant
from elacsym.store.base import UNCHANGED, ObjectStore
from elacsym.telemetry import (
    BACK_PRESSURE,
    CLAIMS,
    COMMIT_REQUESTS,
    COMMIT_SECONDS,
    COMMITS,
    RETRIES,
    STEP_DOWNS,
    get_logger,
)
from elacsym.types import Schema

_log = get_logger("elacsym.log")


class Item(Protocol):
    """One request, opaque but for this."""

    @property
    def size_bytes(self) -> int:
        """About how many bytes of an entry it takes."""
        ...

    @property
    def idempotency_key(self) -> str | None:
        """The key under which a repetition gets the first one's result."""
        ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prefix of the queue, made into batches.

    schema:   the whole schema if this entry changes it, else None.
    outcomes: for each of the `taken` items the index of its batch, or why it alone is rejected. A batch
              carries the idempotency key of its item.
    taken:    how many items were looked at, at least one; the others wait for the next entry.
    details:  for each batch what its `Committed` brings back; none where no preparer says anything.
    """

    batches: Sequence[Batch]
    schema: Schema | None
    outcomes: Sequence[int | Exception]
    taken: int
    details: Sequence[object] = ()


class Preparer(Protocol):
    """Validates requests against the state before their entry and encodes them."""

    async def prepare(self, items: Sequence[Any], seq: int) -> Prepared:
        """Batches for slot `seq`; the consumer has applied everything up to slot `seq` - 1."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """An acknowledged write: its place in the log, its batch's count, and what the preparer said of it; None
    where only its idempotency key was found."""

    inc: str
    seq: int
    count: int
    detail: object = None


@dataclass(slots=True, eq=False)
class _Pending:
    """One request on its way, shared by all callers that sent the same idempotency key."""

    item: Item
    key: str | None
    size_bytes: int
    future: asyncio.Future[Committed]
    waiters: int = 0
    attempts: int = 0
    is_in_flight: bool = False


@dataclass(slots=True)
class _Pace:
    """What the last entry says about load."""

    expected: int = 0
    ended_s: float = float("-inf")
    commit_s: float = 0.0
    target: int = 0
    is_gathered: asyncio.Event = field(default_factory=asyncio.Event)


class LogWriter:
    """The writer of one namespace; `reader` follows the same log and is fed by it. One event loop.

    Several writers of one log, here or elsewhere, are slow and never wrong.
    """

    attempt_type = SlotAttempt
    ownership_type = Ownership

    def __init__(
        self,
        reader: LogReader,
        store: ObjectStore,
        preparer: Preparer,
        clock: Clock,
        rng: random.Random,
        settings: LogSettings = DEFAULTS,
        node_id: str = "local",
        compute: Compute | None = None,
        claims: Claims | None = None,
    ) -> None:
        self.node_id = node_id
        self._claims = claims or ClaimsOfAll()
        self._reader, self._store, self._preparer = reader, store, preparer
        self._clock, self._rng, self._settings = clock, rng, settings
        self._compute = compute or InlineCompute()
        self._ownership = self.ownership_type()
        self._claimed_inc: str | None = None
        self._queue: deque[_Pending] = deque()
        self._flight: list[_Pending] = []
        self._by_key: dict[str, _Pending] = {}
        self._waiters = 0
        self._queue_bytes = 0
        self._pace = _Pace()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False

    async def write(
        self, item: Item, deadline_s: float | None = None, *, ignores_pressure: bool = False
    ) -> Committed:
        """Commit one request; returns when it is durable, proven and applied to the reader's consumer.

        deadline_s: a reading of the clock's `monotonic_s`, after which the caller stops waiting.
        ignores_pressure: not refused for what is not indexed yet, up to `insisting_factor` times as much.
        Raises what the preparer rejects it with; Overloaded, DeadlineExceeded, NotOwner and other
        Unavailable: nothing happened; OutcomeUnknown: it may have, and a repetition with the same idempotency
            key says.
        """
        if deadline_s is not None and deadline_s <= self._clock.monotonic_s():
            raise DeadlineExceeded("the deadline passed before the write was queued")
        pending = self._enqueue(item, ignores_pressure=ignores_pressure)
        pending.waiters += 1
        self._waiters += 1
        try:
            timeout_s = None if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic_s())
            await asyncio.wait((pending.future,), timeout=timeout_s)
            if pending.future.done():
                return pending.future.result()
            if pending.is_in_flight:
                raise OutcomeUnknown(
                    "the deadline passed while the commit was in flight", idempotency_key=pending.key
                )
            raise DeadlineExceeded("the deadline passed while the write was queued")
        finally:
            pending.waiters -= 1
            self._waiters -= 1

    async def close(self) -> None:
        """Refuse further writes and wait for those that are queued."""
        self._is_closing = True
        if self._task is not None:
            await asyncio.wait((self._task,))

    @property
    def is_owner(self) -> bool:
        """Whether the last claim was won and, as far as is known, nobody claimed since."""
        reader = self._reader
        # a claim says nothing about another incarnation's log
        return (
            reader.is_open
            and reader.manifest.state is State.ACTIVE
            and reader.manifest.inc == self._claimed_inc
            and self._ownership.may_write(reader.epoch)
        )

    # the queue

    def _enqueue(self, item: Item, *, ignores_pressure: bool) -> _Pending:
        if self._is_closing:
            raise Unavailable("the writer is closing")
        if self._waiters >= self._settings.waiters_max:
            self._refuse("waiters", f"{self._waiters} writes wait already")
        key = item.idempotency_key
        if key is not None and key in self._by_key:
            return self._by_key[key]
        factor = self._settings.insisting_factor if ignores_pressure else 1
        if self._reader.unfolded_bytes > self._settings.unfolded_bytes_max * factor:
            self._refuse("unfolded", f"{self._reader.unfolded_bytes} bytes of the log are not indexed yet")
        if self._queue and self._queue_bytes + item.size_bytes > self._settings.queue_bytes_max:
            self._refuse("queue", f"{self._queue_bytes} bytes wait already")
        pending = _Pending(item, key, item.size_bytes, asyncio.get_running_loop().create_future())
        self._push(pending)
        if key is not None:
            self._by_key[key] = pending
        if len(self._queue) >= self._pace.target or self._queue_bytes >= self._settings.entry_bytes_max:
            self._pace.is_gathered.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"log writer {self._reader.name}")
            self._task.add_done_callback(self._ended)
        return pending

    def _refuse(self, reason: str, message: str) -> None:
        BACK_PRESSURE.labels(reason=reason).inc()
        raise Overloaded(message)

    def _push(self, pending: _Pending, *, is_first: bool = False) -> None:
        pending.is_in_flight = False
        self._queue_bytes += pending.size_bytes
        if is_first:
            self._queue.appendleft(pending)
        else:
            self._queue.append(pending)

    def _pop(self) -> _Pending:
        pending = self._queue.popleft()
        self._queue_bytes -= pending.size_bytes
        return pending

    def _cut(self) -> list[_Pending]:
        """Take the next entry's requests, at least one, however large; known keys are answered on the way."""
        group: list[_Pending] = []
        size_bytes = 0
        while self._queue and len(group) < self._settings.entry_requests_max:
            pending = self._queue[0]
            known = None if pending.key is None else self._reader.find_key(pending.key)
            if known is not None:
                self._settle(self._pop(), Committed(self._reader.manifest.inc, known.seq, known.count))
                continue
            if pending.waiters == 0:
                self._settle(self._pop(), DeadlineExceeded("nobody waits for the write any more"))
                continue
            if group and size_bytes + pending.size_bytes > self._settings.entry_bytes_max:
                break
            size_bytes += pending.size_bytes
            pending.is_in_flight = True
            group.append(self._pop())
        return group

    def _is_known(self, pending: _Pending) -> bool:
        return pending.key is not None and self._reader.find_key(pending.key) is not None

    def _settle(self, pending: _Pending, outcome: Committed | Exception) -> None:
        if pending.key is not None:
            self._by_key.pop(pending.key, None)
        if pending.future.done():
            return
        if isinstance(outcome, Committed):
            pending.future.set_result(outcome)
        else:
            pending.future.set_exception(outcome)
            pending.future.exception()  # callers that gave up do not fetch it

    def _put_back(self, group: Sequence[_Pending]) -> None:
        for pending in reversed(group):
            self._push(pending, is_first=True)

    # the loop

    async def _run(self) -> None:
        is_done = False
        try:
            while self._queue:
                try:
                    await self._own()
                    await self._linger()
                    await self._commit_group()
                except ElacsymError as error:
                    self._fail_all(error)
            is_done = True
        finally:
            # at once, not in a callback: a write that comes in between would wait for ever
            self._task = None
            if not is_done:
                self._fail_all(Unavailable("the writer broke off"))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("log writer failed", namespace=self._reader.name, exc_info=task.exception())

    def _fail_all(self, error: ElacsymError) -> None:
        """Give up on everything that waits; what was in flight when the loop broke may have happened."""
        self._settle_all(OutcomeUnknown(f"the commit was broken off: {error}"))
        while self._queue:
            self._settle(self._pop(), error)

    async def _linger(self) -> None:
        """Under load, give the last entry's callers time to come back: never longer than that entry took."""
        pace = self._pace
        longest_s = min(self._settings.linger_s, pace.commit_s)
        is_loaded = pace.expected > 1 and self._clock.monotonic_s() - pace.ended_s <= self._settings.linger_s
        pace.target = min(pace.expected, self._settings.entry_requests_max)
        if not is_loaded or len(self._queue) >= pace.target:
            return
        pace.is_gathered.clear()
        try:
            async with asyncio.timeout(longest_s):
                await pace.is_gathered.wait()
        except TimeoutError:
            return

    async def _commit_group(self) -> None:
        """Cut, prepare and commit one entry. What is in `_flight` when this fails has an unknown outcome."""
        if any(self._is_known(pending) for pending in islice(self._queue, self._settings.entry_requests_max)):
            # an answer from memory needs a proof, too: the log may have been deleted and begun anew
            await self._reader.check()
            if not self.is_owner:
                return
        seq = self._reader.tail
        group = self._flight = self._cut()
        if not group:
            return
        if not self.is_owner:  # a reader saw another's claim meanwhile
            self._reject(group, "claim_seen")
            return
        try:
            prepared = await self._preparer.prepare([p.item for p in group], seq)
        except ElacsymError as error:
            self._settle_all(error)
            return
        taken = self._taken(group, prepared)
        self._flight = list(taken)
        if not prepared.batches and prepared.schema is None:
            return
        if self._reader.tail != seq or not self.is_owner:
            self._reject(self._flight, "claim_seen")
            return
        entry = self._entry(EntryKind.WRITE, self._ownership.epoch, prepared.schema, tuple(prepared.batches))
        began_s = self._clock.monotonic_s()
        outcome = await self._commit(entry)
        if outcome is Outcome.COMMITTED:
            for pending, index in taken.items():
                count = prepared.batches[index].count
                detail = prepared.details[index] if prepared.details else None
                self._settle(pending, Committed(entry.inc, entry.seq, count, detail))
            self._measure(len(taken), began_s)
            self._flight = []
        elif outcome is Outcome.REJECTED:
            self._reject(self._flight, "rejected")
        else:
            STEP_DOWNS.labels(reason="unknown").inc()
            self._settle_all(OutcomeUnknown(f"slot {entry.inc}:{entry.seq} could not be settled"))

    def _taken(self, group: Sequence[_Pending], prepared: Prepared) -> dict[_Pending, int]:
        """The requests of the entry with their batches; the rejected are answered, the rest waits again."""
        assert 1 <= prepared.taken == len(prepared.outcomes) <= len(group), "outcomes do not fit the items"
        self._put_back(group[prepared.taken :])
        taken: dict[_Pending, int] = {}
        for pending, outcome in zip(group, prepared.outcomes, strict=False):
            if isinstance(outcome, Exception):
                self._settle(pending, outcome)
            else:
                assert prepared.batches[outcome].key == pending.key, "a batch has lost its idempotency key"
                taken[pending] = outcome
        return taken

    def _settle_all(self, error: ElacsymError) -> None:
        """Answer everything in flight with `error`, an unknown outcome with each one's own key."""
        for pending in self._flight:
            if isinstance(error, OutcomeUnknown):
                self._settle(pending, OutcomeUnknown(str(error), idempotency_key=pending.key))
            else:
                self._settle(pending, error)
        self._flight = []

    def _measure(self, requests: int, began_s: float) -> None:
        pace, now_s = self._pace, self._clock.monotonic_s()
        pace.commit_s, pace.ended_s, pace.expected = now_s - began_s, now_s, requests + len(self._queue)
        COMMIT_REQUESTS.observe(requests)
        COMMIT_SECONDS.observe(pace.commit_s)

    def _reject(self, group: Sequence[_Pending], reason: str) -> None:
        """Let requests of an entry that is not in the log wait again, in front, a bounded number of times."""
        STEP_DOWNS.labels(reason=reason).inc()
        self._flight = []
        again = []
        for pending in group:
            pending.attempts += 1
            if pending.attempts >= self._settings.write_attempts:
                self._settle(
                    pending, NotOwner(f"the log was taken over {pending.attempts} times during this write")
                )
            else:
                again.append(pending)
        self._put_back(again)

    # claims and entries

    async def _own(self) -> None:
        """Win a claim, unless the last one still stands. Raises NotOwner when all attempts were lost, and
        what `Claims.allow` raises."""
        if self.is_owner:
            return
        is_after_loss = self._ownership.epoch is not None or self._pace.commit_s > 0
        for attempt in range(self._settings.claim_attempts):
            if attempt or is_after_loss:
                await asyncio.sleep(self._pause_s(attempt))
            await self._reader.check()
            if self._reader.manifest.state is State.SEALED:
                # a copy looks whether there are documents, for a moment; or it died
                if attempt < self._settings.claim_attempts // 2:
                    continue
                await self._unseal()
            await self._claims.allow(self._reader.name, claimed_by=self._claimant())
            epoch = self._ownership.claim_epoch(self._reader.tail, self._reader.epoch)
            claim = self._entry(EntryKind.CLAIM, epoch)
            outcome = await self._commit(claim)
            CLAIMS.labels(outcome="won" if outcome is Outcome.COMMITTED else "lost").inc()
            if outcome is Outcome.COMMITTED and self._reader.epoch == epoch:
                self._ownership.won(epoch)
                self._claimed_inc = claim.inc
                return
        raise NotOwner(
            f"the log of '{self._reader.name}' was claimed by others {self._settings.claim_attempts} times"
        )

    async def _unseal(self) -> None:
        """Go on where a copy sealed the namespace; the copy is refused then."""
        sealed = self._reader.manifest.successor
        loaded = await self._reader.file.update(lambda m: transitions.withdraw_successor(m, sealed))
        self._reader.adopt(loaded.manifest, loaded.etag)

    def _claimant(self) -> str | None:
        """The node of the last claim of this log; whoever claimed the one that a branch begins with does not
        count."""
        begins = self._reader.manifest.begins
        return claimant([record for record in self._reader.slots if record.seq >= begins])

    def _entry(
        self,
        kind: EntryKind,
        epoch: int | None,
        schema: Schema | None = None,
        batches: tuple[Batch, ...] = (),
    ) -> WalEntry:
        reader = self._reader
        assert epoch is not None, "no entry without a claim"
        return WalEntry(
            reader.manifest.inc,
            reader.tail,
            epoch,
            kind,
            self.node_id,
            new_nonce(self._rng),
            reader.tail_digest,
            schema,
            batches,
            self._clock.wall_ms(),
        )

    async def _commit(self, entry: WalEntry) -> Outcome:
        """Settle the entry's slot; a commit is handed to the reader, anything else ends the ownership."""
        is_large = sum(b.size_bytes for b in entry.batches) > self._settings.inline_bytes_max
        # the digest, too: from the PUT to the push others read the slot, which takes longer than waiting
        data, digest = await self._compute.bulk.run(_encoded, entry) if is_large else _encoded(entry)
        outcome = await self._drive(entry, data)
        self._ownership.settled(outcome)
        COMMITS.labels(outcome=outcome.value).inc()
        if outcome is Outcome.COMMITTED:
            self._reader.push(entry, len(data), digest)
        return outcome

    async def _drive(self, entry: WalEntry, data: bytes) -> Outcome:
        """Ask the store what the state machine wants to know until it decides or the attempts are used up."""
        attempt = self.attempt_type(entry.inc, entry.seq, entry.nonce)
        decision = attempt.begin()
        failures = 0
        while not isinstance(decision, Outcome):
            try:
                decision = await self._ask(attempt, decision, entry, data)
            except (StoreUnavailable, CorruptObject):
                if decision is Step.PUT:
                    decision = attempt.put_failed()
                failures += 1
                if failures >= self._settings.store_attempts:
                    return Outcome.UNKNOWN
                RETRIES.labels(operation="commit").inc()
                await asyncio.sleep(self._pause_s(failures - 1))
        return decision

    async def _ask(self, attempt: SlotAttempt, step: Step, entry: WalEntry, data: bytes) -> Decision:
        key = self._reader.keys.wal(entry.inc, entry.seq)
        if step is Step.PUT:
            created = await self._store.put_if_absent(key, data)
            return attempt.put_refused() if created is None else attempt.put_created()
        if step is Step.READ_SLOT:
            found = await self._store.get(key)
            if found is None:
                return attempt.slot_read(None)
            is_ours = found.data == data or WalEntry.decode(found.data, key=key).nonce == entry.nonce
            return attempt.slot_read(is_ours)
        known = self._reader.manifest
        answer = await self._reader.file.load_if_changed(self._reader.etag)
        if answer is UNCHANGED:
            return attempt.manifest_read(known)
        if isinstance(answer, Loaded):
            self._reader.adopt(answer.manifest, answer.etag)
            return attempt.manifest_read(answer.manifest)
        return attempt.manifest_read(None)

    def _pause_s(self, attempt: int) -> float:
        settings = self._settings
        return full_jitter_s(self._rng, attempt, base_s=settings.retry_base_s, cap_s=settings.retry_cap_s)


def _encoded(entry: WalEntry) -> tuple[bytes, str]:
    """The bytes of an entry, and their digest."""
    data = entry.encode()
    return data, blake2b_128(data)
