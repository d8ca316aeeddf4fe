"""BlockFile: one immutable blob of which some units are at hand; the rest is fetched by range when wanted.

Every byte is checked before it is at hand: the head against the manifest's digest, each unit against its CRC
in the head. Bytes that an earlier process left on disk are checked when they are first wanted; what does not
fit is fetched again. Concurrent wants of one unit make one request.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.compute import Compute
from elacsym.errors import CorruptObject
from elacsym.format import blob
from elacsym.format.blob import UNIT_BYTES
from elacsym.format.digest import blake2b_128
from elacsym.format.manifest import FileRef
from elacsym.format.reading import Span
from elacsym.store.base import ObjectMissing, ObjectStore
from elacsym.store.mapped import Backing
from elacsym.store.ranges import coalesce, runs_of_zeros
from elacsym.store.residents import Use
from elacsym.telemetry import CACHE_REQUESTS, CACHE_SHARED, count_read, get_logger

PIECE_BYTES = 8 * 2**20  # of one call of the store
_PIECES_AT_ONCE = 4
_INLINE_BYTES_MAX = 64 * 1024  # checking and writing less is shorter than a hop to the pool
_FETCHES_MAX = 2  # a body damaged on its way may be whole the second time
_log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Flight:
    """Units on their way. with_head: the head, too."""

    runs: list[range]
    with_head: bool
    task: asyncio.Task[None] = field(init=False)


class BlockFile:
    """A `format.reading.Source` over the blob `ref` at `key`. `bring` is for the event loop, the rest for any
    thread.

    open_: makes the place of the bytes; blocks. on_growth: awaited after more bytes are held. use: is told
    of every `bring`.
    """

    def __init__(
        self,
        key: str,
        ref: FileRef,
        *,
        store: ObjectStore,
        compute: Compute,
        open_: Callable[[], Backing],
        on_growth: Callable[[BlockFile], Awaitable[None]],
        use: Use,
        now_s: Callable[[], float],
    ) -> None:
        assert ref.head_bytes, f"'{ref.part}' is no blob"
        self._key, self.ref, self.use = key, ref, use
        self._store, self._compute = store, compute
        self._open, self._on_growth, self._now_s = open_, on_growth, now_s
        self._backing: Backing | None = None
        self._head: blob.Head | None = None
        self._head_bytes = ref.head_bytes
        units = -(-(ref.size_bytes - ref.head_bytes) // UNIT_BYTES)
        self._verified, self._claimed = bytearray(units), bytearray(units)
        self._is_whole = False
        self._flights: list[_Flight] = []
        self._lock = threading.Lock()

    @property
    def key(self) -> str:
        """See Source."""
        return self._key

    @property
    def size_bytes(self) -> int:
        """See Source."""
        return self.ref.size_bytes

    @property
    def eager_bytes(self) -> int:
        """See Source."""
        return self.ref.eager_bytes

    @property
    def data(self) -> memoryview:
        """See Source."""
        assert self._backing is not None, "nothing was brought yet"
        return self._backing.data

    def unlink(self) -> None:
        """Nobody shall find the bytes any more; whoever uses them goes on."""
        if self._backing is not None:
            self._backing.unlink()

    def held_bytes(self) -> tuple[int, int]:
        """How much is held on disk and in memory, in bytes."""
        return (0, 0) if self._backing is None else self._backing.held_bytes()

    def has(self, start: int, stop: int) -> bool:
        """See Source."""
        if self._is_whole:
            return True
        if self._head is None:
            return False
        # as `_units_of`, which takes longer than the rest
        first = (start - self._head_bytes) // UNIT_BYTES
        end = -(-(stop - self._head_bytes) // UNIT_BYTES)
        return self._verified.find(0, max(0, first), max(0, end)) < 0

    def has_records(self, starts: npt.NDArray[np.int64], size_bytes: int) -> bool:
        """See Source."""
        if self._is_whole:
            return True
        if self._head is None or size_bytes > UNIT_BYTES:
            return False
        inside = starts - self._head_bytes
        verified = np.frombuffer(self._verified, np.uint8)
        return bool(
            verified[inside // UNIT_BYTES].all() and verified[(inside + size_bytes - 1) // UNIT_BYTES].all()
        )

    async def bring(self, spans: Sequence[Span], gap_bytes: int) -> None:
        """See Source. The head, and the eager part with it, come along with the first ranges.

        Raises ObjectMissing, StoreUnavailable, and CorruptObject naming the offset of what is damaged in the
        store.
        """
        self.use.used_s = self._now_s()
        while not self._is_whole:
            missing = self._missing(spans)
            if not missing and self._head is not None:
                return
            is_headless = self._head is None
            tasks = [
                flight.task
                for flight in self._flights
                if (is_headless and flight.with_head) or _overlap(flight.runs, missing)
            ]
            CACHE_SHARED.inc(len(tasks))
            with_head = is_headless and not any(flight.with_head for flight in self._flights)
            own = [run for part in missing for run in runs_of_zeros(self._claimed, part)]
            if own or with_head:
                tasks.append(self._start(own, gap_bytes, with_head=with_head))
            # one waiter that gives up must not take the others' fetch with it
            await asyncio.gather(*map(asyncio.shield, tasks))

    def close(self) -> list[asyncio.Task[None]]:
        """Cancel what is under way; the cancelled tasks."""
        tasks = [flight.task for flight in self._flights]
        for task in tasks:
            task.cancel()
        return tasks

    def _units_of(self, start: int, stop: int) -> range:
        head_bytes = self._head_bytes
        end = -(-(min(stop, self.ref.size_bytes) - head_bytes) // UNIT_BYTES)
        return range(max(0, start - head_bytes) // UNIT_BYTES, max(0, end))

    def _units_within(self, extent: Span) -> range:
        """The units that are in an extent from their first byte to their last."""
        start, stop = (place - self._head_bytes for place in extent)
        is_last = extent[1] == self.ref.size_bytes
        first = -(-start // UNIT_BYTES)
        return range(first, max(first, -(-stop // UNIT_BYTES) if is_last else stop // UNIT_BYTES))

    def _span_of(self, units: range) -> Span:
        start = self._head_bytes + units.start * UNIT_BYTES
        return start, min(start + len(units) * UNIT_BYTES, self.ref.size_bytes)

    def _missing(self, spans: Sequence[Span]) -> list[range]:
        """The units of these ranges, and of the eager part where the head is unknown, that are not at
        hand."""
        wanted = spans if self._head is not None else [(0, self.ref.eager_bytes), *spans]
        return [run for part in self._joined_units(wanted) for run in runs_of_zeros(self._verified, part)]

    def _joined_units(self, spans: Sequence[Span]) -> list[range]:
        units = (self._units_of(*span) for span in spans)
        return [range(*run) for run in coalesce([(u.start, u.stop) for u in units], gap_bytes_max=1)]

    def _start(self, runs: list[range], gap_bytes: int, *, with_head: bool) -> asyncio.Task[None]:
        flight = _Flight(runs, with_head)
        self._claim(runs, b"\1")
        flight.task = asyncio.get_running_loop().create_task(self._fly(flight, gap_bytes))
        flight.task.add_done_callback(_retrieved)
        self._flights.append(flight)
        return flight.task

    def _claim(self, runs: list[range], mark: bytes) -> None:
        for run in runs:
            self._claimed[run.start : run.stop] = mark * len(run)

    async def _fly(self, flight: _Flight, gap_bytes: int) -> None:
        try:
            missing = flight.runs
            if self._backing is None or self._backing.may_hold:
                missing = await self._compute.run(self._look_up, flight.runs)
                found = sum(map(len, flight.runs)) - sum(map(len, missing))
                count_read(disk_bytes=found * UNIT_BYTES)
            head_flight = next((f.task for f in self._flights if f.with_head and f is not flight), None)
            if missing or (flight.with_head and self._head is None):
                await self._fetch(missing, gap_bytes, None if flight.with_head else head_flight)
        finally:
            self._flights.remove(flight)
            self._claim(flight.runs, b"\0")
            await self._on_growth(self)

    # what is on disk already

    def _look_up(self, runs: list[range]) -> list[range]:
        """Check what the place of the bytes may hold; the units that have to be fetched. Blocks."""
        with self._lock:
            if self._backing is None:
                self._backing = self._open()
            backing = self._backing
            if self._head is None and backing.may_hold:
                own = (0, self._head_bytes)
                if backing.extents(*own) == [own]:
                    self._head = self._checked_head(backing.data)
                    if self._head is None:
                        self._count_damaged([own])
                self._settle()
            head = self._head
            if backing.is_final and head is None:
                raise CorruptObject(self._key, "head digest mismatch", offset=0)
            written = [] if self._is_whole else [backing.extents(*self._span_of(run)) for run in runs]
        if head is None:
            return runs
        return [
            missing
            for run, extents in zip(runs, written, strict=bool(written))
            for missing in self._checked_on_disk(backing, head, run, extents)
        ]

    def _checked_head(self, data: memoryview) -> blob.Head | None:
        """The head at the beginning of `data`, or None if it is not what the manifest says."""
        own = data[: self._head_bytes]
        if blake2b_128(own) != self.ref.head_digest:
            return None
        head = blob.Head.parse(own, self._key)
        if (head.size_bytes, head.file_bytes) != (self._head_bytes, self.ref.size_bytes):
            raise CorruptObject(self._key, "head and manifest name different sizes", offset=0)
        return head

    def _checked_on_disk(
        self, backing: Backing, head: blob.Head, run: range, extents: list[Span]
    ) -> list[range]:
        """The units of a run that have to be fetched; those that are not wholly in `extents` are not looked
        at."""
        good = np.zeros(len(run), np.bool_)
        damaged: list[Span] = []
        for units in map(self._units_within, extents):
            crcs = blob.unit_crcs(backing.data[slice(*self._span_of(units))])
            is_good = crcs == head.crcs[units.start : units.stop]
            good[units.start - run.start : units.stop - run.start] = is_good
            bad = (np.flatnonzero(~is_good) + units.start).tolist()
            damaged += [self._span_of(range(unit, unit + 1)) for unit in bad]
        self._mark(run, good)
        CACHE_REQUESTS.labels("disk", "hit").inc(int(good.sum()))
        if damaged and backing.is_final:
            raise CorruptObject(self._key, "checksum mismatch", offset=damaged[0][0])
        self._count_damaged(damaged)
        return list(runs_of_zeros(good.tobytes(), range(len(run)), run.start))

    def _count_damaged(self, spans: Iterable[Span]) -> None:
        """Count those of these ranges, which are not what they should be, that are no holes either: some file
        systems cannot tell."""
        count = sum(bool(np.frombuffer(self.data[start:stop], np.uint8).any()) for start, stop in spans)
        if count:
            CACHE_REQUESTS.labels("disk", "corrupt").inc(count)
            _log.warning("damaged cache units dropped", key=self._key, units=count)

    def _mark(self, run: range, good: npt.NDArray[np.bool_]) -> None:
        """Note which units of a run are at hand."""
        with self._lock:
            if self._is_whole:
                return
            known = np.frombuffer(self._verified, np.uint8)[run.start : run.stop]
            self._verified[run.start : run.stop] = (known | good).tobytes()
            self._settle()

    def _settle(self) -> None:
        if self._backing is not None and self._head is not None and self._verified.find(0) < 0:
            self._is_whole = True
            self._backing.seal()

    # what comes from the store

    async def _fetch(
        self, missing: list[range], gap_bytes: int, head_flight: asyncio.Task[None] | None
    ) -> None:
        """Fetch units, and the head where nobody else does."""
        spans = [self._span_of(run) for run in missing]
        if self._head is None and head_flight is None:
            spans.append((0, self._head_bytes))
        pieces = self._pieces(coalesce(spans, gap_bytes_max=max(1, gap_bytes)))
        gate = asyncio.Semaphore(_PIECES_AT_ONCE)
        if len(pieces) == 1:
            return await self._fetch_piece(pieces[0], gate, head_flight)
        first = asyncio.create_task(self._fetch_piece(pieces[0], gate, head_flight))
        rest = [asyncio.create_task(self._fetch_piece(p, gate, head_flight or first)) for p in pieces[1:]]
        try:
            await asyncio.gather(first, *rest)
        finally:
            for task in (first, *rest):
                task.cancel()
            await asyncio.gather(first, *rest, return_exceptions=True)

    def _pieces(self, spans: list[Span]) -> list[list[Span]]:
        """The spans, cut between units and grouped so that a group is about one piece."""
        groups: list[list[Span]] = [[]]
        free_bytes = PIECE_BYTES
        for start, stop in spans:
            while start < stop:
                end = min(stop, max(start, self._head_bytes) + -(-free_bytes // UNIT_BYTES) * UNIT_BYTES)
                groups[-1].append((start, end))
                free_bytes -= end - start
                if free_bytes <= 0:
                    groups.append([])
                    free_bytes = PIECE_BYTES
                start = end
        return groups if groups[-1] else groups[:-1]

    async def _fetch_piece(
        self, spans: list[Span], gate: asyncio.Semaphore, head_task: asyncio.Task[None] | None
    ) -> None:
        async with gate:
            for _ in range(_FETCHES_MAX):
                bodies = await self._read(spans)
                if self._head is None and head_task is not None:
                    await asyncio.wait([head_task])
                    if self._head is None:
                        head_task.result()
                if sum(map(len, bodies)) <= _INLINE_BYTES_MAX:
                    damaged = self._take(spans, bodies)
                else:
                    damaged = await self._compute.run(self._take, spans, bodies)
                if not damaged:
                    return await self._on_growth(self)
                CACHE_REQUESTS.labels("store", "corrupt").inc()
                _log.warning("damaged bytes fetched again", key=self._key, offset=damaged[0][0])
                spans = damaged
        raise CorruptObject(self._key, "checksum mismatch", offset=spans[0][0])

    async def _read(self, spans: list[Span]) -> list[bytes]:
        size_bytes = self.ref.size_bytes
        # a byte more than there should be tells that the object is longer
        asked = [(start, stop + (stop == size_bytes)) for start, stop in spans]
        bodies = await self._store.get_ranges(self._key, asked, gap_bytes=1)
        if bodies is None:
            raise ObjectMissing(self._key)
        for (start, stop), body in zip(spans, bodies, strict=True):
            if len(body) != stop - start:
                reason = f"ends at {start + len(body)}" if start + len(body) < stop else "does not end"
                reason += f" where the manifest says {size_bytes} bytes"
                raise CorruptObject(self._key, reason, offset=min(start + len(body), stop))
        fetched = sum(map(len, bodies))
        count_read(store_bytes=fetched, store_requests=len(spans))
        CACHE_REQUESTS.labels("disk", "miss").inc(-(-fetched // UNIT_BYTES))
        return bodies

    def _take(self, spans: list[Span], bodies: list[bytes]) -> list[Span]:
        """Check what was fetched and keep what is good; the ranges of what is not."""
        backing = self._backing
        assert backing is not None, "opened before anything is fetched"
        head_bytes = self._head_bytes
        if self._head is None:
            head = self._checked_head(memoryview(bodies[0]))
            if head is None:
                return spans
            with self._lock:
                # another thread may have had it too: then the file may be whole, and closed
                if self._head is None:
                    backing.write(0, memoryview(bodies[0])[:head_bytes])
                    self._head = head
                    self._settle()
        damaged: list[Span] = []
        for (start, stop), body in zip(spans, bodies, strict=True):
            run = self._units_of(max(start, head_bytes), stop)
            units = memoryview(body)[max(0, head_bytes - start) :]
            good = blob.unit_crcs(units) == self._head.crcs[run.start : run.stop]
            self._write(backing, run, good, units)
            damaged += [
                self._span_of(bad) for bad in runs_of_zeros(good.tobytes(), range(len(run)), run.start)
            ]
        return damaged

    def _write(self, backing: Backing, run: range, good: npt.NDArray[np.bool_], body: memoryview) -> None:
        """Keep the good units of a run that are not at hand yet."""
        with self._lock:
            if self._is_whole:
                return
            known = np.frombuffer(self._verified, np.uint8)[run.start : run.stop].astype(np.bool_)
            for part in runs_of_zeros((known | ~good).tobytes(), range(len(run))):
                first = self._span_of(run)[0]
                start, stop = self._span_of(range(run.start + part.start, run.start + part.stop))
                backing.write(start, body[start - first : stop - first])
            self._verified[run.start : run.stop] = (known | good).tobytes()
            self._settle()


def _overlap(runs: list[range], others: list[range]) -> bool:
    return any(a.start < b.stop and b.start < a.stop for a in runs for b in others)


def _retrieved(task: asyncio.Task[Any]) -> None:
    """Somebody may have stopped waiting for a fetch that fails: that is no reason to warn."""
    if not task.cancelled():
        task.exception()
