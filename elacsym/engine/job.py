"""What every job on segments does: announce itself, have a segment built, upload files, write delete bitmaps,
withdraw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from elacsym.clock import new_nonce
from elacsym.engine.build import BuildPlan
from elacsym.engine.namespace import Namespace
from elacsym.engine.rehearse import rehearse
from elacsym.engine.rows import InputFile, RowNumbers, SegmentInput, merge_parts
from elacsym.engine.segment import SegmentPart
from elacsym.errors import NamespaceNotFound, StoreUnavailable
from elacsym.format import deletes as deletes_format
from elacsym.format import segment as segment_format
from elacsym.format.digest import add_sums
from elacsym.format.manifest import DeletesRef, FileRef, Intent, SegmentRef
from elacsym.format.reading import GAP_BYTES, Steps, both
from elacsym.index.ids import IdColumn
from elacsym.log import transitions
from elacsym.log.transitions import DeletesChange
from elacsym.store.cache import ObjectMissing
from elacsym.store.drive import drive
from elacsym.store.wrapper import keeps_files, local_file_of
from elacsym.types import Schema

COMMIT_ATTEMPTS = 4
UPLOADS_AT_ONCE = 4
# a larger file is uploaded alone, for it is in memory meanwhile
LARGE_BYTES = 32 * 2**20
# how much of a file is fetched at once
PIECE_BYTES = 16 * 2**20


def new_job(namespace: Namespace, seq: int) -> str:
    """A name for a job that no other job has; it sorts by the newest slot the job covers."""
    return f"{seq:020d}-{new_nonce(namespace.services.rng)[:12]}"


async def segment_input(
    namespace: Namespace, part: SegmentPart, rows: RowNumbers, schema: Schema
) -> SegmentInput:
    """Rows of a segment as input of a build, with its files on this machine.

    Raises ObjectMissing, CorruptObject, StoreUnavailable.
    """
    found = part.files()
    files = {
        name: InputFile(*found[name], await _content(namespace, *found[name]))
        for name in merge_parts(schema)
        if name in found
    }
    return SegmentInput(part.rows, rows, files)


async def _content(namespace: Namespace, key: str, ref: FileRef) -> memoryview | Path:
    services = namespace.services
    if keeps_files(services.store):
        local = await services.compute.run(local_file_of, services.store, key)
        if local is None:
            raise ObjectMissing(key)
        return local[0]
    if not ref.head_bytes:
        return await services.cache.map(key, ref.size_bytes, ref.digest)
    source = services.cache.file(key, ref)
    for start in range(0, ref.size_bytes, PIECE_BYTES):
        piece = (start, min(start + PIECE_BYTES, ref.size_bytes))
        if not source.has(*piece):
            await source.bring((piece,), GAP_BYTES)
    return source.data


async def write_segment(
    namespace: Namespace, job: str, plan: BuildPlan, *, level: int
) -> tuple[SegmentRef, RowNumbers]:
    """Build and upload a segment: what a manifest says of it, and for each input row, inputs one after
    another, its row in it.

    Raises ObjectMissing, CorruptObject, BuildFailed, StoreUnavailable.
    """
    built = await namespace.services.builder.build(plan)
    try:
        await upload(namespace, job, built.files, built.read)
    finally:
        await namespace.services.compute.bulk.run(built.close)
    made = built.written
    row_sum = f"{made.row_sum:032x}"
    ref = SegmentRef(job, made.rows, made.seq_min, made.seq_max, row_sum, built.files, level=level)
    await rehearse(namespace, ref)
    return ref, made.place


async def upload(
    namespace: Namespace, job: str, files: Sequence[FileRef], read: Callable[[str], bytes]
) -> None:
    """Create the files of a job; `read` gives the bytes of a part when its turn comes. Raises
    StoreUnavailable."""
    services, inc = namespace.services, namespace.reader.manifest.inc
    small, large = asyncio.Semaphore(UPLOADS_AT_ONCE), asyncio.Semaphore(1)

    async def one(ref: FileRef) -> None:
        key = namespace.keys.segment_file(inc, job, ref.part)
        async with large if ref.size_bytes > LARGE_BYTES else small:
            if (
                await services.store.put_if_absent(key, await services.compute.bulk.run(read, ref.part))
                is None
            ):
                raise StoreUnavailable(f"{key}: the name of a new file is taken")

    tasks = [asyncio.ensure_future(one(ref)) for ref in files]
    try:
        await asyncio.gather(*tasks)
    finally:
        # whoever waits is going to remove the files
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def deletes_change(
    namespace: Namespace,
    job: str,
    ref: SegmentRef,
    part: SegmentPart,
    dead: npt.NDArray[np.bool_],
    newly: RowNumbers,
    *,
    suffix: str,
) -> DeletesChange:
    """Upload the bitmap in which also `newly` are dead: the change of the segment's entry in the manifest."""
    compute = namespace.services.compute.bulk
    versions_file = namespace.services.cache.file(*part.files()[segment_format.VERSIONS])
    ids, versions = await drive(
        both(_ids_of(part, newly), segment_format.versions_at(versions_file, newly, part.rows)), compute
    )
    name = f"{segment_format.deletes_part(ref.job)}.{suffix}"

    def computed() -> tuple[bytes, FileRef, int, int]:
        after = dead.copy()
        after[newly] = True
        data = deletes_format.encode(after)
        left = add_sums(int(ref.row_sum, 16), -ids.row_sum(versions))
        return data, FileRef.of(name, data), int(after.sum()), left

    data, file, rows, left = await compute.run(computed)
    await upload(namespace, job, [file], lambda _: data)
    return DeletesChange(DeletesRef(job, file, rows), f"{left:032x}")


def _ids_of(part: SegmentPart, rows: RowNumbers) -> Steps[IdColumn]:
    ids = yield from part.ids()
    return (yield from ids.select(rows))


async def announce(namespace: Namespace, intent: Intent) -> None:
    """Put a job's intent into the manifest. Raises TransitionRefused when an input is gone."""
    loaded = await namespace.reader.file.update(lambda manifest: transitions.add_intent(manifest, intent))
    namespace.reader.adopt(loaded.manifest, loaded.etag)


async def withdraw(namespace: Namespace, job: str) -> None:
    """Take a job's intent back, as far as the store lets us: an intent that stays is removed when it is
    old."""
    try:
        loaded = await namespace.reader.file.update(lambda manifest: transitions.remove_intent(manifest, job))
    except (StoreUnavailable, NamespaceNotFound):
        return
    namespace.reader.adopt(loaded.manifest, loaded.etag)
