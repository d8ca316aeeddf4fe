"""Compaction: live rows of several segments become one segment; deletes that land meanwhile are replayed onto
it.

The job keeps where every row of its inputs went. At the swap it compares the inputs' delete bitmaps of the
manifest that it replaces with those it read, marks the difference in its output, and the row sums of inputs
and output must be equal, or the manifest refuses the swap and the inputs stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from elacsym.engine.build import BuildPlan
from elacsym.engine.job import (
    COMMIT_ATTEMPTS,
    announce,
    deletes_change,
    new_job,
    segment_input,
    withdraw,
    write_segment,
)
from elacsym.engine.namespace import Namespace
from elacsym.engine.segment import SegmentPart
from elacsym.format.manifest import Intent, Manifest, SegmentRef
from elacsym.log import transitions
from elacsym.log.transitions import TransitionRefused
from elacsym.types import Schema
from elacsym.upkeep import policy


@dataclass(frozen=True, slots=True)
class _Input:
    """An input as the job read it. destination: (rows,) int64, the row of each row in the output, -1 for rows
    dead then."""

    ref: SegmentRef
    part: SegmentPart
    destination: npt.NDArray[np.int64]


async def compact(namespace: Namespace, *, force: bool = False) -> bool:
    """Merge what the policy picks (`force`: everything); False if there is nothing worth merging.

    Raises TransitionRefused when the manifest moved on under the job, StoreUnavailable, CorruptObject; the
    inputs stay then.
    """
    if not policy.pick(namespace.reader.manifest.segments, force=force):
        return False
    async with namespace.job("compact"):
        await namespace.view.snapshot()
        picked = {ref.job for ref in policy.pick(namespace.reader.manifest.segments, force=force)}
        states = [state for state in namespace.view.segments if state.ref.job in picked]
        if not states:
            return False
        job = new_job(namespace, max(state.ref.seq_max for state in states))
        intent = Intent(
            job,
            "compact",
            tuple(s.ref.job for s in states),
            namespace.reader.manifest.epoch,
            namespace.services.node_id,
        )
        sources = [(state.ref, state.part) for state in states]
        # not that of the tail: a branch may begin before the slot that drops an attribute
        schema = namespace.reader.manifest.schema
        await announce(namespace, intent)
        try:
            output, inputs = await _merged(namespace, job, sources, schema)
            await _commit(namespace, job, output, inputs)
        except BaseException:
            await withdraw(namespace, job)
            raise
        return True


async def _merged(
    namespace: Namespace, job: str, sources: list[tuple[SegmentRef, SegmentPart]], schema: Schema
) -> tuple[SegmentRef | None, list[_Input]]:
    selected = [np.flatnonzero(~await part.dead(ref.deletes)) for ref, part in sources]
    plan = BuildPlan(
        schema,
        [
            await segment_input(namespace, part, rows, schema)
            for (_, part), rows in zip(sources, selected, strict=True)
            if len(rows)
        ],
    )
    output: SegmentRef | None = None
    place = np.empty(0, np.int64)
    if plan.inputs:
        level = 1 + max(ref.level for ref, _ in sources)
        output, place = await write_segment(namespace, job, plan, level=level)
    inputs, start = [], 0
    for (ref, part), rows in zip(sources, selected, strict=True):
        destination = np.full(part.rows, -1, np.int64)
        destination[rows] = place[start : start + len(rows)]
        inputs.append(_Input(ref, part, destination))
        start += len(rows)
    return output, inputs


async def _commit(namespace: Namespace, job: str, output: SegmentRef | None, inputs: list[_Input]) -> None:
    jobs = [i.ref.job for i in inputs]
    for attempt in range(COMMIT_ATTEMPTS):
        outputs = await _replayed(namespace, job, output, inputs, attempt)

        def transition(manifest: Manifest, outputs: tuple[SegmentRef, ...] = outputs) -> Manifest:
            return transitions.replace_segments(manifest, job=job, inputs=jobs, outputs=outputs)

        try:
            loaded = await namespace.reader.file.update(transition)
        except TransitionRefused:
            if attempt == COMMIT_ATTEMPTS - 1:
                raise
            await namespace.reader.check()
        else:
            namespace.reader.adopt(loaded.manifest, loaded.etag)
            return


async def _replayed(
    namespace: Namespace, job: str, output: SegmentRef | None, inputs: list[_Input], attempt: int
) -> tuple[SegmentRef, ...]:
    """The output with the deletes that were folded since the inputs were read."""
    manifest = namespace.reader.manifest
    newly: list[npt.NDArray[np.int64]] = []
    for read in inputs:
        ref = manifest.segment(read.ref.job)
        if ref is None:
            raise TransitionRefused(f"job {job} replaces segment {read.ref.job}, which is gone")
        if ref.deletes != read.ref.deletes:
            moved = read.destination[await read.part.dead(ref.deletes)]
            newly.append(moved[moved >= 0])
    if output is None:
        return ()
    rows = np.concatenate(newly) if newly else np.empty(0, np.int64)
    if not len(rows):
        return (output,)
    # the output is in no manifest yet: it is read back through the cache like any other segment
    part = namespace.view.part(manifest.inc, output)
    change = await deletes_change(
        namespace, job, output, part, np.zeros(output.rows, np.bool_), rows, suffix=str(attempt)
    )
    if change.deletes.rows == output.rows:
        return ()
    return (replace(output, deletes=change.deletes, row_sum=change.row_sum),)
