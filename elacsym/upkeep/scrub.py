"""Scrub: read every object of a namespace again and compute every checksum anew, caches left aside.

It reports and changes nothing. A segment that vanishes while it is read was merged meanwhile: the manifest is
read again then.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from elacsym.compute import Compute
from elacsym.errors import CorruptObject, NamespaceNotFound
from elacsym.format import deletes as deletes_format
from elacsym.format import segment as segment_format
from elacsym.format.digest import blake2b_128
from elacsym.format.manifest import FileRef, Manifest, SegmentRef, State
from elacsym.format.wal_entry import WalEntry
from elacsym.log.manifest_file import ManifestFile
from elacsym.log.tail import Tail
from elacsym.store.base import ObjectStore
from elacsym.upkeep.scrub_segment import Problem, SegmentCheck


@dataclass(slots=True)
class ScrubReport:
    """What a scrub read and what it found. problems: (key, reason), in the order found."""

    name: str
    objects: int = 0
    bytes: int = 0
    documents: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


async def scrub(store: ObjectStore, name: str, *, compute: Compute, rng: random.Random) -> ScrubReport:
    """Check manifest, segments, delete bitmaps and log of a namespace. Raises NamespaceNotFound,
    StoreUnavailable."""
    report = ScrubReport(name)
    file = ManifestFile(store, name, rng)
    while True:
        try:
            loaded = await file.load()
        except CorruptObject as error:
            report.problems.append((error.key, str(error)))
            return report
        if loaded is None or loaded.manifest.state is State.DELETED:
            raise NamespaceNotFound(name)
        attempt = ScrubReport(name, objects=1)
        scrubber = _Scrubber(store, loaded.manifest, compute, attempt)
        await scrubber.run()
        again = await file.load()
        missing = any(reason == _MISSING for _, reason in attempt.problems)
        if not missing or (again is not None and again.etag == loaded.etag):
            return attempt


_MISSING = "the object is missing"


class _Scrubber:
    """One pass over one generation of a manifest."""

    def __init__(
        self,
        store: ObjectStore,
        manifest: Manifest,
        compute: Compute,
        report: ScrubReport,
    ) -> None:
        self._store, self._manifest = store, manifest
        self._compute, self._report = compute, report

    async def run(self) -> None:
        for segment in self._manifest.segments:
            await self._segment(segment)
        await self._log()

    async def _segment(self, ref: SegmentRef) -> None:
        """Check the files one after the other: at most two are in memory."""
        prefix = (ref.home or self._manifest.home).segment_file(ref.job, "")
        rows_file = ref.file(segment_format.ROWS)
        if rows_file is None:
            self._problem(prefix + segment_format.ROWS, "the segment lacks this file")
            return
        rows, dead = await self._read(prefix + rows_file.part, rows_file), await self._dead(ref)
        check = None if rows is None else SegmentCheck(ref, self._manifest.schema, rows, prefix)
        if check is not None and dead is not None:
            self._problems(await self._compute.run(check.rows, dead))
            self._report.documents += ref.rows_live
        for file in ref.files:
            if file is not rows_file:
                data = await self._read(prefix + file.part, file)
                if data is not None and check is not None:
                    self._problems(await self._compute.run(check.file, file, data))

    async def _dead(self, ref: SegmentRef) -> npt.NDArray[np.bool_] | None:
        """(rows,) bool, or None where the bitmap cannot be read."""
        if ref.deletes is None:
            return np.zeros(ref.rows, np.bool_)
        home = ref.deletes.home or self._manifest.home
        key = home.segment_file(ref.deletes.job, ref.deletes.file.part)
        data = await self._read(key, ref.deletes.file)
        if data is None:
            return None
        try:
            return deletes_format.decode(data, key=key, rows=ref.rows)
        except CorruptObject as error:
            self._problem(error.key, str(error))
            return None

    async def _read(self, key: str, file: FileRef) -> bytes | None:
        try:
            found = await self._store.get(key)
        except CorruptObject as error:
            # a store that keeps checksums of its own finds the damage first
            self._problem(error.key, str(error))
            return None
        if found is None:
            self._problem(key, _MISSING)
            return None
        self._count(found.data)
        if (
            len(found.data) != file.size_bytes
            or await self._compute.run(blake2b_128, found.data) != file.digest
        ):
            self._problem(key, "size or digest differs from the manifest's")
            return None
        return found.data

    async def _log(self) -> None:
        tail = Tail(self._manifest)
        while True:
            key = self._manifest.slot_key(tail.next)
            try:
                found = await self._store.get(key)
                if found is None:
                    if tail.next < self._manifest.begins:
                        self._problem(key, _MISSING)
                    return
                self._count(found.data)
                entry = WalEntry.decode(found.data, key=key)
            except CorruptObject as error:
                self._problem(error.key, str(error))
                return
            wrong = tail.mismatch(entry)
            if wrong is not None:
                self._problem(key, wrong)
                return
            tail.append(entry, len(found.data), await self._compute.run(blake2b_128, found.data))

    def _count(self, data: bytes) -> None:
        self._report.objects += 1
        self._report.bytes += len(data)

    def _problem(self, key: str, reason: str) -> None:
        self._problems([(key, reason)])

    def _problems(self, problems: Sequence[Problem]) -> None:
        self._report.problems.extend(problems)
