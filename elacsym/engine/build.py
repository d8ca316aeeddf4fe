"""Builds segments: what a build is given and gives, and the builder that works in the shared thread pool.

`elacsym.engine.build_process` has the builder that works in processes of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from elacsym.compute import Compute
from elacsym.engine.rows import (
    Emit,
    SegmentInput,
    SegmentRows,
    TailInput,
    TailRows,
    Written,
    write_segment,
)
from elacsym.errors import Unavailable
from elacsym.format.manifest import FileRef
from elacsym.telemetry import BUILD_SECONDS, BUILDS
from elacsym.types import Schema

_TEXT_WEIGHT = 4  # analysing a byte of text takes as long as clustering this many bytes of vectors


class BuildFailed(Unavailable):
    """A segment could not be built; its inputs are untouched, and the build may be tried again."""

    code = "build_failed"


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What a segment is made of: rows of the log's tail, or of segments, and under which schema; at least one
    row."""

    schema: Schema
    inputs: Sequence[TailInput] | Sequence[SegmentInput]

    @property
    def kind(self) -> Literal["fold", "merge"]:
        """What makes such a segment."""
        return "fold" if isinstance(self.inputs[0], TailInput) else "merge"

    @property
    def weight_bytes(self) -> int:
        """About how much work it is, as bytes of vectors."""
        return sum(_weight_bytes(i) for i in self.inputs)

    def write(self, emit: Emit, scratch: Path | None = None) -> Written:
        """Make the segment's files and give them to `emit`. scratch: a folder for large temporary files.

        Raises ObjectMissing, CorruptObject, BuildFailed.
        """
        tail = [i for i in self.inputs if isinstance(i, TailInput)]
        segments = [i for i in self.inputs if isinstance(i, SegmentInput)]
        try:
            rows = TailRows(tail, self.schema) if tail else SegmentRows(segments, self.schema, scratch)
            return write_segment(rows, self.schema, emit)
        except ValueError as error:
            # a column larger than one Arrow array can be
            raise BuildFailed(f"the segment cannot be built: {error}") from error


@dataclass(frozen=True, slots=True)
class BuiltSegment:
    """The files of a new segment, not uploaded yet; see Written for the rest. `close` lets go of them."""

    files: tuple[FileRef, ...]
    written: Written
    contents: Mapping[str, bytes | Path]
    folder: Path | None = None

    def read(self, part: str) -> bytes:
        """The bytes of a file. Blocks."""
        content = self.contents[part]
        return content if isinstance(content, bytes) else content.read_bytes()

    def close(self) -> None:
        """Remove the files. Blocks."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


class Builder(Protocol):
    """Builds segments. Used on one event loop."""

    @property
    def processes(self) -> int:
        """How many builds may run at once without taking more than this server's share of the machine."""
        ...

    async def build(self, plan: BuildPlan) -> BuiltSegment:
        """Make a segment's files; the caller bounds how many run at once.

        Raises ObjectMissing, CorruptObject for inputs; BuildFailed.
        """
        ...

    async def close(self) -> None:
        """End what is running and leave nothing behind."""
        ...


class InlineBuilder:
    """Builds in the shared pool, in memory."""

    processes = 1

    def __init__(self, compute: Compute) -> None:
        self._compute = compute

    async def build(self, plan: BuildPlan) -> BuiltSegment:
        """See Builder."""
        with measured(plan, "pool"):
            return await self._compute.bulk.run(built_in_memory, plan)

    async def close(self) -> None:
        """See Builder."""


def built_in_memory(plan: BuildPlan) -> BuiltSegment:
    """The segment, built here. Raises ObjectMissing, CorruptObject, BuildFailed."""
    files: list[FileRef] = []
    contents: dict[str, bytes | Path] = {}

    def emit(part: str, data: bytes | memoryview) -> None:
        files.append(FileRef.of(part, data))
        contents[part] = bytes(data)

    written = plan.write(emit)
    return BuiltSegment(tuple(files), written, contents)


@contextmanager
def measured(plan: BuildPlan, place: Literal["pool", "process"]) -> Iterator[None]:
    """Count and time the build of a plan in the block."""
    started_s = time.perf_counter()
    try:
        yield
    except BaseException:
        BUILDS.labels(plan.kind, place, "failed").inc()
        raise
    BUILDS.labels(plan.kind, place, "done").inc()
    BUILD_SECONDS.labels(plan.kind, place).observe(time.perf_counter() - started_s)


def _weight_bytes(source: TailInput | SegmentInput) -> int:
    if isinstance(source, SegmentInput):
        share = len(source.rows) / max(1, source.rows_total)
        return int(share * sum(file.ref.size_bytes for file in source.files.values()))
    batch = source.batch
    vectors = sum(column.nbytes for column in batch.columns if pa.types.is_fixed_size_list(column.type))
    return int(vectors + _TEXT_WEIGHT * (batch.nbytes - vectors))
