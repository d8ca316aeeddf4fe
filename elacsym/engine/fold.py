"""Folding: the rows of the log's tail become a segment, what the tail deleted becomes delete bitmaps, in one
manifest swap. Of a tail that is too long for one segment, a beginning is folded; its rows are those that were
alive at its end, for readers that know no later slot see exactly these.

The job announces itself by an intent, uploads under its own folder, and commits by compare-and-swap. Segments
that a merge replaced meanwhile are found by the refused swap; the delete bitmaps are then computed again for
the segments that stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.engine.build import BuildPlan
from elacsym.engine.job import COMMIT_ATTEMPTS, announce, deletes_change, new_job, withdraw, write_segment
from elacsym.engine.memtable import Chunk, Touched, alive_after
from elacsym.engine.namespace import Namespace
from elacsym.engine.rows import RowNumbers, TailInput
from elacsym.engine.segment import SegmentPart
from elacsym.engine.view import SegmentState
from elacsym.format import segment as segment_format
from elacsym.format.manifest import Intent, Manifest, SegmentRef
from elacsym.format.reading import Steps
from elacsym.index.ids import IdColumn
from elacsym.log import transitions
from elacsym.log.tail import SlotRecord
from elacsym.log.transitions import DeletesChange, TransitionRefused
from elacsym.store.drive import drive
from elacsym.types import ID, Schema

# of the log; a column of strings in one Arrow array must stay below 2 GiB
FOLDED_BYTES_MAX = 2**30


@dataclass(frozen=True, slots=True)
class _Capture:
    """The beginning of the tail as the job found it: everything below is immutable.

    chunks may go on behind the last slot; touched and schema (after the last slot) do not.
    """

    manifest: Manifest
    slots: tuple[SlotRecord, ...]
    chunks: Sequence[Chunk]
    touched: Sequence[Touched]
    schema: Schema

    def ids(self) -> IdColumn | None:
        """All that was upserted or deleted."""
        return IdColumn.concat([one.ids for one in self.touched]) if self.touched else None

    def inputs(self) -> list[TailInput]:
        """The rows that are alive after the last slot."""
        alive, inputs, start = alive_after(self.touched), [], 0
        for chunk in self.chunks:
            stop = start + int(np.searchsorted(chunk.versions(), self.slots[-1].seq, side="right"))
            rows = np.flatnonzero(alive[start:stop])
            if len(rows):
                inputs.append(TailInput(_batch(chunk, stop - start), rows))
            start = stop
        return inputs


async def fold(namespace: Namespace, *, bytes_max: int = FOLDED_BYTES_MAX) -> bool:
    """Fold the tail of an open namespace, or as many of its slots as together have `bytes_max`, but one at
    least; False if there was nothing to fold.

    Raises TransitionRefused when another node folded first, StoreUnavailable, CorruptObject; nothing is lost
    then, the tail stays where it is.
    """
    async with namespace.job("fold"):
        if not await _fold(namespace, bytes_max):
            return False
    # Arrow would keep what the rows of the tail took, and several times as much where writes pour in
    await namespace.services.compute.bulk.run(pa.default_memory_pool().release_unused)
    return True


async def _fold(namespace: Namespace, bytes_max: int) -> bool:
    await namespace.view.snapshot()
    capture = _captured(namespace, bytes_max)
    if capture is None:
        return False
    job = new_job(namespace, capture.slots[-1].seq)
    await announce(namespace, Intent(job, "fold", (), capture.manifest.epoch, namespace.services.node_id))
    try:
        segments = await _written_segment(namespace, job, capture)
        await _commit(namespace, job, capture, segments)
    except BaseException:
        await withdraw(namespace, job)
        raise
    return True


def _captured(namespace: Namespace, bytes_max: int) -> _Capture | None:
    view, slots = namespace.view, _beginning(namespace.reader.slots, bytes_max)
    if not slots:
        return None
    last = slots[-1].seq
    touched = [one for one in view.memtable.touched if one.seq <= last]
    return _Capture(namespace.reader.manifest, slots, view.memtable.chunks, touched, view.schema_after(last))


def _beginning(slots: Sequence[SlotRecord], bytes_max: int) -> tuple[SlotRecord, ...]:
    sizes = np.cumsum([slot.size_bytes for slot in slots])
    return tuple(slots[: max(1, int(np.searchsorted(sizes, bytes_max, side="right")))])


async def _written_segment(namespace: Namespace, job: str, capture: _Capture) -> tuple[SegmentRef, ...]:
    inputs = await namespace.services.compute.bulk.run(capture.inputs)
    if not inputs:
        return ()
    segment, _ = await write_segment(namespace, job, BuildPlan(capture.schema, inputs), level=0)
    return (segment,)


def _batch(chunk: Chunk, rows: int) -> pa.RecordBatch:
    """The first rows of a chunk. Those behind may have other types: elements of a type not known before."""
    columns = {ID: chunk.id_column.to_arrow(), segment_format.VERSION: pa.array(chunk.versions())}
    columns |= {segment_format.column_name(name): array for name, array in chunk.arrays.items()}
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns)).slice(0, rows)


async def _commit(
    namespace: Namespace, job: str, capture: _Capture, segments: tuple[SegmentRef, ...]
) -> None:
    touched = await namespace.services.compute.bulk.run(capture.ids)
    for attempt in range(COMMIT_ATTEMPTS):
        manifest = namespace.reader.manifest
        states = namespace.view.segments
        deletes = await _deletes(namespace, job, touched, states, attempt)

        def transition(
            current: Manifest, deletes: dict[str, DeletesChange] = deletes, base: Manifest = manifest
        ) -> Manifest:
            after = transitions.fold(
                current, capture.slots, job=job, segments=segments, deletes=deletes, schema=capture.schema
            )
            if after is not current and current.segments != base.segments:
                raise TransitionRefused("segments were replaced while their delete bitmaps were computed")
            return after

        namespace.view.expect_fold(job, capture.slots[-1].seq + 1)
        try:
            loaded = await namespace.reader.file.update(transition)
        except TransitionRefused:
            if attempt == COMMIT_ATTEMPTS - 1:
                raise
            await namespace.reader.check()
            if namespace.reader.manifest.applied != capture.manifest.applied:
                raise
        else:
            namespace.reader.adopt(loaded.manifest, loaded.etag)
            return


async def _deletes(
    namespace: Namespace, job: str, touched: IdColumn | None, states: Sequence[SegmentState], attempt: int
) -> dict[str, DeletesChange]:
    """The new delete bitmaps of the segments in which the tail touched live rows, uploaded."""
    if touched is None:
        return {}
    changes: dict[str, DeletesChange] = {}
    for state in states:
        part = state.part
        dead = await part.dead(state.ref.deletes)
        newly = await drive(_newly_dead(part, touched, dead), namespace.services.compute.bulk)
        if len(newly):
            changes[state.ref.job] = await deletes_change(
                namespace, job, state.ref, part, dead, newly, suffix=str(attempt)
            )
    return changes


def _newly_dead(part: SegmentPart, touched: IdColumn, dead: npt.NDArray[np.bool_]) -> Steps[RowNumbers]:
    """The rows of `touched` ids that are not in `dead`, (rows,) bool; ascending, each once."""
    ids = yield from part.ids()
    found = yield from ids.rows_of(touched)
    is_new = np.zeros(len(dead), np.bool_)
    is_new[found[found >= 0]] = True
    return np.flatnonzero(is_new & ~dead)
