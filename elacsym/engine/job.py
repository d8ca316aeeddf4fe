"""What every job on segments does: announce itself, upload files, write delete bitmaps, withdraw."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from elacsym.clock import new_nonce
from elacsym.engine.namespace import Namespace
from elacsym.engine.rows import Rows
from elacsym.engine.segment import SegmentPart
from elacsym.errors import NamespaceNotFound, StoreUnavailable
from elacsym.format import deletes as deletes_format
from elacsym.format import segment as segment_format
from elacsym.format.digest import add_sums, blake2b_128
from elacsym.format.manifest import DeletesRef, FileRef, Intent, SegmentRef
from elacsym.log import transitions
from elacsym.log.transitions import DeletesChange

COMMIT_ATTEMPTS = 4
UPLOADS_AT_ONCE = 4


def new_job(namespace: Namespace, seq: int) -> str:
    """A name for a job that no other job has; it sorts by the newest slot the job covers."""
    return f"{seq:020d}-{new_nonce(namespace.services.rng)[:12]}"


async def write_segment(namespace: Namespace, job: str, rows: Rows, *, level: int) -> SegmentRef:
    """Encode and upload the files of a segment; what a manifest says of it."""
    compute = namespace.services.compute
    files = await compute.run(rows.encoded)
    refs = [await compute.run(FileRef.of, part, data) for part, data in files.items()]
    await upload(namespace, job, files)
    return SegmentRef(
        job,
        len(rows.ids),
        int(rows.versions.min()),
        int(rows.versions.max()),
        f"{await compute.run(rows.row_sum):032x}",
        tuple(refs),
        level=level,
    )


async def upload(namespace: Namespace, job: str, files: Mapping[str, bytes]) -> None:
    """Create the files of a job. Raises StoreUnavailable."""
    inc, slots = namespace.reader.manifest.inc, asyncio.Semaphore(UPLOADS_AT_ONCE)

    async def one(part: str, data: bytes) -> None:
        key = namespace.keys.segment_file(inc, job, part)
        async with slots:
            if await namespace.services.store.put_if_absent(key, data) is None:
                raise StoreUnavailable(f"{key}: the name of a new file is taken")

    await asyncio.gather(*(one(part, data) for part, data in files.items()))


async def deletes_change(
    namespace: Namespace,
    job: str,
    ref: SegmentRef,
    part: SegmentPart,
    dead: npt.NDArray[np.bool_],
    newly: npt.NDArray[np.int64],
    *,
    suffix: str,
) -> DeletesChange:
    """Upload the bitmap in which also `newly` are dead: the change of the segment's entry in the manifest."""
    await part.prepare_versions()

    def computed() -> tuple[bytes, str, int, int]:
        after = dead.copy()
        after[newly] = True
        data = deletes_format.encode(after)
        gone = part.ids().select(newly).row_sum(part.versions()[newly])
        return data, blake2b_128(data), int(after.sum()), add_sums(int(ref.row_sum, 16), -gone)

    data, digest, rows, left = await namespace.services.compute.run(computed)
    name = f"{segment_format.deletes_part(ref.job)}.{suffix}"
    await upload(namespace, job, {name: data})
    return DeletesChange(DeletesRef(job, FileRef(name, len(data), digest), rows), f"{left:032x}")


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
