"""Membership by heartbeats: every node writes an object of its own into the bucket, and lists those of all.

A heartbeat replaces the one before by compare-and-swap, so that an object has one writer. A process that
starts takes its node id over from whoever had it: a restart after a crash is at home at once, and nobody has
to tell a dead process from a slow one. The one that lost the object finds out with its next heartbeat, never
writes another, and claims nothing from then on. To wait until the old one falls silent would make every
restart slow; to refuse to start would leave it to clocks who is dead.

A node claims only while its heartbeats reach the bucket: `may_claim` compares the clock with the last round
that succeeded, so it is false at the first look after any pause, before a heartbeat is tried. None of this
carries correctness, which is the log's; it decides how soon, and by how many, a namespace is claimed.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import replace

from elacsym.clock import Clock, full_jitter_s, new_nonce
from elacsym.cluster.heartbeat import Heartbeat, Seen, changed, decode, encode, forgotten, judge
from elacsym.cluster.member import Health, Member, MemberState
from elacsym.cluster.membership import Mode, readers_of, ring_of
from elacsym.errors import CorruptObject, ElacsymError, StoreUnavailable
from elacsym.format import keys
from elacsym.store.base import Etag, ObjectInfo, ObjectStore
from elacsym.telemetry import CLUSTER_EPOCHS, CLUSTER_MEMBERS, HEARTBEATS, HEARTBEATS_CORRUPT, get_logger

_log = get_logger("cluster")

_LOOK_S_MIN = 1.0
_SWAPS_MAX = 4
_START_ATTEMPTS = 5
_LEAVE_TIMEOUT_S = 3.0


class Displaced(ElacsymError):
    """Another process has started under this node's id."""

    code = "displaced"


class HeartbeatMembership:
    """The nodes that share a bucket, as their heartbeats tell; see `Membership` for the methods."""

    mode: Mode = "dynamic"

    def __init__(
        self,
        own: Member,
        store: ObjectStore,
        clock: Clock,
        rng: random.Random,
        *,
        heartbeat_s: float = 5.0,
        silent_s: float = 30.0,
    ) -> None:
        """silent_s: without a heartbeat for so long a node is out, and this one claims nothing."""
        self.own = own
        self.epoch = 0
        self._store, self._clock, self._rng = store, clock, rng
        self._heartbeat_s, self._silent_s = heartbeat_s, silent_s
        self._key = keys.node(own.node_id)
        self._nonce = new_nonce(rng)
        self._etag: Etag | None = None
        self._damaged: Etag | None = None
        self._has_joined = self._is_displaced = self.is_draining = False
        # when the last round began that sent a heartbeat and read those of the others
        self._fresh_at_s = -math.inf
        self._looked_at_s = -math.inf
        # when the bucket said that it has the last heartbeat; None while nobody knows
        self._sent_at_s: float | None = None
        # the store's clock, and ours at that time
        self._present: tuple[int, float] | None = None
        self._seen: dict[str, Seen] = {}
        self._states: list[MemberState] = []
        self._members: dict[str, Member] = {}
        self.ring, self.readers = ring_of(()), readers_of(())
        self._sending, self._looking = asyncio.Lock(), asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def fault(self) -> str | None:
        """Another process has this node's id, or no heartbeat has reached the bucket for long."""
        if self._is_displaced:
            return f"another process has started as node {self.own.node_id!r}"
        if not self._is_fresh:
            return f"no heartbeat has reached the bucket for {self._silent_s:g} s"
        return None

    @property
    def may_claim(self) -> bool:
        """An indexer that is not draining, and whose heartbeats reach the bucket."""
        return self.own.is_indexer and not self.is_draining and self.fault is None

    @property
    def _is_fresh(self) -> bool:
        return self._clock.monotonic_s() - self._fresh_at_s <= self._silent_s

    def states(self) -> Sequence[MemberState]:
        """Every member that is known, in order of node id; health as of the last look."""
        since_s = self._clock.monotonic_s() - self._looked_at_s
        return [replace(s, heartbeat_age_s=(s.heartbeat_age_s or 0.0) + since_s) for s in self._states]

    def member(self, node_id: str) -> Member | None:
        """A member by its id."""
        return self._members.get(node_id)

    async def start(self) -> None:
        """Take the node id over, read the others' heartbeats, and go on with both in the background. Raises
        StoreUnavailable."""
        for attempt in range(_START_ATTEMPTS):
            try:
                await self._round()
                break
            except (ElacsymError, TimeoutError) as error:
                if attempt == _START_ATTEMPTS - 1:
                    reason = str(error) or f"not within {self._silent_s / 2:g} s"
                    raise StoreUnavailable(f"{self._key}: no heartbeat could be sent: {reason}") from error
                await asyncio.sleep(full_jitter_s(self._rng, attempt))
        self.epoch = 0
        self._task = asyncio.create_task(self._repeat(), name="heartbeats")

    async def stop(self) -> None:
        """End the heartbeats and remove this node's own, if it still is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if not self._has_joined or self._is_displaced:
            return
        self.is_draining = True
        try:
            async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                # whoever wins this swap is the object's owner and may remove it
                await self._send()
                await self._store.delete(self._key)
        except (ElacsymError, TimeoutError) as error:
            _log.warning("the heartbeat was left behind", node=self.own.node_id, reason=str(error))

    async def drain(self) -> None:
        """Leave the ring: no claim from here on, and the others are told. Raises StoreUnavailable."""
        self.is_draining = True
        self._settle()
        try:
            await self._send()
        except (Displaced, CorruptObject) as error:
            raise StoreUnavailable(f"{self._key}: the others could not be told: {error}") from error

    async def refresh(self) -> None:
        """Read the heartbeats again, unless they were within the last second. Raises StoreUnavailable."""
        async with self._looking:
            if self._clock.monotonic_s() - self._looked_at_s < _LOOK_S_MIN:
                return
            try:
                async with asyncio.timeout(self._silent_s / 2):
                    await self._look()
            except TimeoutError as error:
                raise StoreUnavailable(f"{keys.NODES_PREFIX} was not listed in time") from error

    async def _repeat(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(self._wait_s(failures))
            try:
                await self._round()
                failures = 0
            except Displaced as error:
                HEARTBEATS.labels(outcome="displaced").inc()
                _log.error("this node has been displaced and claims nothing any more", reason=str(error))
                return
            except Exception as error:  # noqa: BLE001 - the supervisor of background work
                # a node whose heartbeats end is out of the cluster: whatever a round meets, there is another
                HEARTBEATS.labels(outcome="failed").inc()
                failures += 1
                is_known = isinstance(error, ElacsymError | TimeoutError)
                _log.warning(
                    "no heartbeat was sent", failures=failures, reason=repr(error), exc_info=not is_known
                )

    def _wait_s(self, failures: int) -> float:
        if failures:
            return full_jitter_s(self._rng, failures, base_s=0.2, cap_s=self._heartbeat_s)
        return self._heartbeat_s * self._rng.uniform(0.9, 1.1)

    async def _round(self) -> None:
        """Send a heartbeat and read those of the others, within half of the time that is left for it."""
        began_s = self._clock.monotonic_s()
        async with asyncio.timeout(self._silent_s / 2):
            await self._send()
            async with self._looking:
                await self._look(after_heartbeat=True)
            self._fresh_at_s = began_s
            HEARTBEATS.labels(outcome="sent").inc()
            await self._forget()

    async def _send(self) -> None:
        """Raises Displaced, StoreUnavailable, CorruptObject."""
        async with self._sending:
            data = encode(Heartbeat(self.own, self._nonce, self.is_draining))
            for _ in range(_SWAPS_MAX):
                if self._is_displaced:
                    raise Displaced(f"{self._key} belongs to another process")
                self._sent_at_s = None
                etag = await self._swap(data)
                if etag is not None:
                    self._etag, self._has_joined = etag, True
                    self._sent_at_s = self._clock.monotonic_s()
                    return
                await self._settle_lost_swap()
            raise StoreUnavailable(f"{self._key} changed under {_SWAPS_MAX} attempts to replace it")

    async def _swap(self, data: bytes) -> Etag | None:
        if self._etag is None:
            return await self._store.put_if_absent(self._key, data)
        return await self._store.put_if_match(self._key, data, self._etag)

    async def _settle_lost_swap(self) -> None:
        found = await self._store.get(self._key)
        # an object that is gone was removed by those who took this node for dead: it comes back
        if found is not None and self._has_joined and found.etag != self._damaged:
            try:
                other = decode(found.data, key=self._key)
            except CorruptObject:
                # damaged on its way, or for good: then nobody can tell whose it is, and it is replaced
                self._damaged = found.etag
                raise
            # with our nonce it is an earlier attempt of our own, whose answer was lost
            if other.nonce != self._nonce:
                self._is_displaced = True
                raise Displaced(f"{self._key} was taken over by a process at {other.member.url}")
        self._etag = None if found is None else found.etag

    async def _look(self, *, after_heartbeat: bool = False) -> None:
        """Raises StoreUnavailable. after_heartbeat: the listing shows the one that was sent last."""
        sent_at_s = self._sent_at_s
        listed = [info async for info in self._store.list(keys.NODES_PREFIX)]
        now_s = self._clock.monotonic_s()
        own = next((info for info in listed if info.key == self._key), None)
        # one that is under way, or another process's, came at a time of which nothing is known
        is_known = after_heartbeat and sent_at_s == self._sent_at_s
        if (
            is_known
            and own is not None
            and sent_at_s is not None
            and (self._present is None or own.modified_ms != self._present[0])
        ):
            # the store's clock read that when the heartbeat arrived, which was before its answer did
            self._present = (own.modified_ms, sent_at_s)
        if self._present is None:
            raise StoreUnavailable(f"{self._key} was written and is not listed")
        store_ms = self._store_ms(now_s)
        await self._read(listed, store_ms)
        self._looked_at_s = now_s
        self._states = judge(self._seen, store_ms, self._silent_s * 1000)
        self._settle()

    def _store_ms(self, now_s: float) -> int:
        assert self._present is not None
        modified_ms, at_s = self._present
        return modified_ms + int((now_s - at_s) * 1000)

    async def _read(self, listed: Sequence[ObjectInfo], store_ms: int) -> None:
        """Bring `_seen` up to date with a listing."""
        wanted = changed(self._seen, listed, store_ms)
        wanted.pop(self.own.node_id, None)
        # a listing may miss rows: what it does not show is looked for before it counts as gone
        listed_ids = {keys.id_of_node(info.key) for info in listed}
        wanted |= {
            node_id: seen.modified_ms
            for node_id, seen in self._seen.items()
            if node_id not in listed_ids and node_id != self.own.node_id
        }
        reads = (self._read_one(node_id, at_ms) for node_id, at_ms in wanted.items())
        for outcome in await asyncio.gather(*reads, return_exceptions=True):
            if outcome is not None:
                raise outcome
        if self._present is not None:
            own = Heartbeat(self.own, self._nonce, self.is_draining)
            self._seen[self.own.node_id] = Seen(self._present[0], own)

    async def _read_one(self, node_id: str, modified_ms: int) -> None:
        key = keys.node(node_id)
        found = await self._store.get(key)
        if found is None:
            self._seen.pop(node_id, None)
            return
        try:
            self._seen[node_id] = Seen(modified_ms, decode(found.data, key=key))
        except CorruptObject as error:
            HEARTBEATS_CORRUPT.inc()
            _log.error(
                "a heartbeat cannot be read; its node counts as silent", node=node_id, reason=str(error)
            )
            before = self._seen.get(node_id)
            self._seen[node_id] = Seen(modified_ms, before.heartbeat if before else None, is_corrupt=True)

    def _settle(self) -> None:
        """Make the rings anew from the members as they are known."""
        self._states = [
            replace(s, health=Health.DRAINING) if s.member is self.own and self.is_draining else s
            for s in self._states
        ]
        self._members = {s.member.node_id: s.member for s in self._states}
        ring, readers = ring_of(self._states), readers_of(self._states)
        if (ring.digest, readers.digest) != (self.ring.digest, self.readers.digest):
            self.ring, self.readers = ring, readers
            self.epoch += 1
            CLUSTER_EPOCHS.inc()
            _log.info("the ring has changed", epoch=self.epoch, nodes=list(ring.weights), digest=ring.digest)
        for health in (Health.LIVE, Health.DRAINING, Health.SILENT):
            count = sum(s.health is health for s in self._states)
            CLUSTER_MEMBERS.labels(health=health.value).set(count)

    async def _forget(self) -> None:
        """Remove what nodes left behind that have been silent for very long; one that comes back writes
        another."""
        for node_id in forgotten(self._seen, self._store_ms(self._clock.monotonic_s())):
            await self._store.delete(keys.node(node_id))
            self._seen.pop(node_id, None)
            _log.info("the heartbeat of a node that is gone was removed", node=node_id)
