"""A namespace's current state in memory: segments of the manifest, the tail's memtable, and which rows are
alive.

It consumes the log (`apply`, `reset`) and gives out immutable snapshots. Ids in the tail mask older rows of
segments; they are looked up once per segment, when the next snapshot is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
import numpy.typing as npt

from elacsym.compute import Compute
from elacsym.engine import payload
from elacsym.engine.memtable import LONG_BYTES, Chunk, Memtable, Touched, is_short
from elacsym.engine.payload import RowChanges
from elacsym.engine.segment import SegmentPart
from elacsym.errors import CorruptObject, Unavailable
from elacsym.format.manifest import Home, Manifest, SegmentRef
from elacsym.format.reading import Steps, together
from elacsym.format.wal_entry import WalEntry
from elacsym.index.ids import IdColumn
from elacsym.query.plan import Needs
from elacsym.query.searchable import PartView, SearchSnapshot
from elacsym.store.cache import ObjectCache
from elacsym.store.drive import drive
from elacsym.types import Schema

# up to this many ids to look up, the work is shorter than a hop to the pool
_INLINE_IDS = 2_000
# joining so much takes less than a millisecond
_INLINE_JOIN_BYTES = 256 * 1024


class SegmentState:
    """A segment of the current manifest and its live rows under the tail."""

    def __init__(self, ref: SegmentRef, part: SegmentPart) -> None:
        self.ref, self.part = ref, part
        self.alive: npt.NDArray[np.bool_] | None = None
        self.resolved = 0  # how many of the tail's touched slots are taken into account

    def begin(self, dead: npt.NDArray[np.bool_]) -> None:
        """Take over the delete bitmap, (rows,) bool."""
        self._settle(~dead)

    def mask(self, rows: npt.NDArray[np.int64]) -> None:
        """Mark `rows` dead; -1 stands for none. Snapshots given out keep what they had."""
        assert self.alive is not None, "the delete bitmap comes first"
        rows = rows[rows >= 0]
        if self.alive[rows].any():
            alive = self.alive.copy()
            alive[rows] = False
            self._settle(alive)

    def after_fold(self, ref: SegmentRef, folded: int) -> SegmentState:
        """The segment under the delete bitmap into which the first `folded` of the touched slots went."""
        after = SegmentState(ref, self.part)
        if self.alive is not None and self.resolved >= folded:
            # what these slots touched is dead in the bitmap, and was masked here
            after.alive, after.resolved = self.alive, self.resolved - folded
        return after

    def _settle(self, alive: npt.NDArray[np.bool_]) -> None:
        # indexes remember what they make of a mask that cannot change
        alive.flags.writeable = False
        self.alive = alive


class NamespaceView:
    """Consumes one namespace's log; the only mutable state of a namespace besides its log position.

    Changed on the event loop only. After `reset` and `apply` have brought it to a tail, `snapshot` shows that
    tail (or a later one, when the log moves on meanwhile).
    """

    def __init__(self, name: str, cache: ObjectCache, compute: Compute) -> None:
        self._name = name
        self._cache, self._compute = cache, compute
        self.schema = Schema()
        """After the last slot."""
        self.memtable = Memtable()
        self.segments: tuple[SegmentState, ...] = ()
        self.manifest: Manifest | None = None
        self.tail = 0
        self._schemas: list[tuple[int, Schema]] = []
        self._snapshot: SearchSnapshot | None = None
        self._own: dict[str, RowChanges] = {}
        self._joining: asyncio.Task[None] | None = None
        self._readying: set[asyncio.Task[None]] = set()
        self._folding = "", -1  # job and end of the last fold of this process
        self._is_known = asyncio.Event()

    def reset(self, manifest: Manifest) -> None:
        """Take over a manifest; what it folded leaves the memtable, everything does when the incarnation is
        another."""
        if self.manifest is None or self.manifest.inc != manifest.inc:
            self.close()
            self.memtable = Memtable()
            self.segments, self._schemas = (), []
            self.tail = manifest.applied
        touched = len(self.memtable.touched)
        self.memtable.drop_before(manifest.applied)
        folded = touched - len(self.memtable.touched)
        self.tail = max(self.tail, manifest.applied)
        self._schemas = [(seq, schema) for seq, schema in self._schemas if seq >= manifest.applied]
        self.schema = self._schemas[-1][1] if self._schemas else manifest.schema
        known = {state.ref.job: state for state in self.segments}
        self.segments = tuple(
            self._state(manifest, ref, known.get(ref.job), folded) for ref in manifest.segments
        )
        for job, state in known.items():
            if manifest.segment(job) is None:
                state.part.forget()
        self.manifest = manifest
        self._snapshot = None
        self._is_known.set()

    def _state(
        self, manifest: Manifest, ref: SegmentRef, known: SegmentState | None, folded: int
    ) -> SegmentState:
        """What is known of a segment; its live rows stay where neither bitmap nor tail are others, or the one
        took over from the other."""
        if known is None:
            return SegmentState(ref, self.part(manifest.inc, ref))
        job, end = self._folding
        if manifest.applied == end and manifest.segment(job) is not None:
            return known.after_fold(ref, folded)
        is_folded = self.manifest is not None and self.manifest.applied != manifest.applied
        return known if known.ref == ref and not is_folded else SegmentState(ref, known.part)

    def expect_fold(self, job: str, end: int) -> None:
        """The slots below `end`, as the view holds them, are about to be folded by `job`, and delete bitmaps
        with them.

        Where another folds them the live rows are computed anew: it may have read another log than a view
        that was told a ghost of it.
        """
        self._folding = job, end

    async def open_ahead(self, needs_of: Callable[[Schema], Needs]) -> None:
        """Open what a query needs first as soon as a manifest is known, while the log's tail is being read.

        Raises ObjectMissing, CorruptObject, StoreUnavailable.
        """
        await self._is_known.wait()
        needs = needs_of(self.schema)
        segments = self.segments
        await asyncio.gather(
            *(state.part.under(self.schema).open(needs) for state in segments),
            *(self._load(state) for state in segments if state.alive is None),
        )

    def close(self) -> None:
        """Let go of what was made of the segments' files; chunks are no longer joined."""
        if self._joining is not None:
            self._joining.cancel()
        for task in self._readying:
            task.cancel()
        for state in self.segments:
            state.part.forget()

    async def closed(self) -> None:
        """Close, and wait until nothing works behind the view any more."""
        self.close()
        joining = () if self._joining is None else (self._joining,)
        await asyncio.gather(*joining, *self._readying, return_exceptions=True)

    def part(self, inc: str, ref: SegmentRef) -> SegmentPart:
        """The part that a segment of this namespace is read through."""
        return SegmentPart(Home(self._name, inc), ref, self._cache, self._compute, self.schema)

    def looked_at(self) -> Needs:
        """The attributes by which segments and tail were searched or shown not long ago."""
        chunks = self.memtable.chunks
        # copies: queries in other threads add to them
        vectors = {stored for chunk in chunks for stored in chunk.looked_at_vectors()}
        texts = {stored for chunk in chunks for stored, _ in tuple(chunk.text_indexes)}
        seen = [state.part.under(self.schema).looked_at() for state in self.segments]
        return Needs(
            frozenset().union(*(needs.columns for needs in seen)),
            self._stored_among(vectors).union(*(needs.vectors for needs in seen)),
            self._stored_among(texts).union(*(needs.texts for needs in seen)),
        )

    def _stored_among(self, stored: AbstractSet[str]) -> frozenset[str]:
        """The attributes whose columns have one of these names."""
        return frozenset(name for name in self.schema.attributes if self.schema.stored(name) in stored)

    def apply(self, entry: WalEntry, size_bytes: int) -> None:  # noqa: ARG002 - the log counts bytes
        """Apply the next write of the log; one that the view holds already comes again when its manifest was
        missing for a while."""
        if entry.seq < self.tail:
            return
        assert self.manifest is not None, "a manifest comes before its log"
        key = self.manifest.slot_key(entry.seq)
        changes = [
            self._own.pop(b.id) if b.id in self._own else payload.decode(b.payload, key=key)
            for b in entry.batches
            if b.size_bytes  # the rows of an empty batch are in the payload of one before it
        ]
        if entry.schema is not None:
            self._schemas.append((entry.seq, entry.schema))
            self.schema = entry.schema
        self.memtable.apply(entry.seq, changes)
        self.tail = entry.seq + 1
        self._snapshot = None
        if any(change.upserts is not None for change in changes):
            self._get_ready(self.memtable.chunks[-1])

    def _get_ready(self, chunk: Chunk) -> None:
        """Make of a long chunk what queries are going to look at, behind them."""
        if chunk.size_bytes < LONG_BYTES:
            return
        looked_at = self.looked_at()
        if looked_at == Needs():
            return
        names = [name for name in looked_at.vectors if self.schema.stored(name) in chunk.arrays]
        task = asyncio.create_task(self._make_ready(chunk.under(self.schema), names), name="ready a chunk")
        self._readying.add(task)
        task.add_done_callback(self._readying.discard)

    async def _make_ready(self, chunk: Chunk, vectors: Sequence[str]) -> None:
        """The norms of its vectors, and the rows of segments that it replaces."""
        await self._compute.bulk.run(_norms_made, chunk, vectors)
        segments, memtable = self.segments, self.memtable
        if all(state.alive is not None for state in segments):
            # a failure is a query's to meet
            with contextlib.suppress(Unavailable, CorruptObject):
                await self._resolve(segments, memtable.touched, self._compute.bulk)

    def schema_after(self, seq: int) -> Schema:
        """The schema after slot `seq`, which is not folded."""
        assert self.manifest is not None, "a manifest comes before its log"
        known = [schema for changed, schema in self._schemas if changed <= seq]
        return known[-1] if known else self.manifest.schema

    def expect(self, own: dict[str, RowChanges]) -> None:
        """The changes, by batch id, of the entry that is about to be committed: they need no decoding."""
        self._own = own

    async def snapshot(self, *, staleness_ms: int = 0) -> SearchSnapshot:
        """The current state as one immutable value. Raises ObjectMissing, CorruptObject, StoreUnavailable."""
        while not await self._settled():
            pass
        if self._snapshot is None:
            manifest = self.manifest
            assert manifest is not None, "the log was opened"
            schema = self.schema
            parts = [PartView(s.part.under(schema), _known(s.alive)) for s in self.segments]
            self._snapshot = SearchSnapshot(
                schema,
                [*parts, *self.memtable.views(schema)],
                manifest.inc,
                manifest.generation,
                self.tail,
            )
        if staleness_ms:
            known = self._snapshot
            return SearchSnapshot(
                known.schema, known.parts, known.inc, known.generation, known.tail, staleness_ms, known.memo
            )
        return self._snapshot

    async def _settled(self) -> bool:
        """Bring memtable and segments up to date; False if the log moved on or more work came meanwhile."""
        segments, memtable = self.segments, self.memtable
        await self._join_short(memtable)
        await asyncio.gather(*(self._load(state) for state in segments if state.alive is None))
        if self.segments is not segments or self.memtable is not memtable:
            return False
        await self._resolve(segments, memtable.touched, self._compute)
        return (
            self.segments is segments
            and self.memtable is memtable
            and all(state.resolved == len(memtable.touched) for state in segments)
            and not any(map(is_short, memtable.merge_groups()))
        )

    async def _join_short(self, memtable: Memtable) -> None:
        """Join short chunks, of which there may be many; long ones are joined behind the query, which
        searches them as they are."""
        for group in memtable.merge_groups():
            if not is_short(group):
                if self._joining is None or self._joining.done():
                    self._joining = asyncio.create_task(self._join_long(memtable), name="join chunks")
                continue
            # joining postings takes several times as long as joining columns
            has_texts = any(chunk.text_indexes for chunk in group)
            if not has_texts and sum(chunk.size_bytes for chunk in group) <= _INLINE_JOIN_BYTES:
                memtable.replace(group, group[0].joined(group[1:]))
            else:
                memtable.replace(group, await self._compute.run(group[0].joined, group[1:]))

    async def _join_long(self, memtable: Memtable) -> None:
        while self.memtable is memtable:
            groups = memtable.merge_groups()
            group = next((group for group in groups if not is_short(group)), None)
            if group is None:
                return
            joined = await self._compute.bulk.run(group[0].joined, group[1:])
            memtable.replace(group, joined)
            self._snapshot = None

    async def _resolve(
        self, segments: Sequence[SegmentState], touched: Sequence[Touched], compute: Compute
    ) -> None:
        """Take into account the rows that the tail's slots replaced; all segments share rounds."""
        upto = len(touched)
        behind = [state for state in segments if state.resolved < upto]
        if not behind:
            return
        ids = {
            resolved: IdColumn.concat([slot.ids for slot in touched[resolved:upto]])
            for resolved in {state.resolved for state in behind}
        }
        looked_up = sum(len(ids[state.resolved]) for state in behind)
        steps = _rows_of([state.part for state in behind], [ids[state.resolved] for state in behind])
        found = await drive(steps, compute, inline=looked_up <= _INLINE_IDS)
        for state, rows in zip(behind, found, strict=True):
            state.mask(rows)
            # after the mask: a concurrent caller must not see the slots as done before they are
            state.resolved = max(state.resolved, upto)

    async def _load(self, state: SegmentState) -> None:
        dead = await state.part.dead(state.ref.deletes)
        # only when no concurrent caller was faster: its mask may already hold rows of the tail
        if state.alive is None:
            state.begin(dead)


def _rows_of(parts: Sequence[SegmentPart], ids: Sequence[IdColumn]) -> Steps[Sequence[npt.NDArray[np.int64]]]:
    """The rows of ids[i] in parts[i]. Heads come before keys: mixed, they would take a round more."""
    opened = yield from together([part.ids() for part in parts])
    found = yield from together([o.rows_of(wanted) for o, wanted in zip(opened, ids, strict=True)])
    return found


def _norms_made(chunk: Chunk, names: Sequence[str]) -> None:
    for name in names:
        _ = chunk.vector_column(name).norms


def _known(alive: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    assert alive is not None, "segments are settled"
    return alive
