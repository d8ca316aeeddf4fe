"""A build process: reads paths of folders from standard input, builds what is laid out there, answers a byte.

Order and answer are files of the folder, pickled: both sides are the same program. What goes wrong with the
inputs or the disk is an answer; anything else ends the process, with a traceback on standard error.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pyarrow as pa

from elacsym.engine.build import BuildFailed, BuildPlan
from elacsym.engine.rows import RowNumbers, SegmentInput, TailInput, Written
from elacsym.errors import CorruptObject
from elacsym.format.manifest import FileRef
from elacsym.store.cache import ObjectMissing
from elacsym.types import Schema

IN, OUT = "in", "out"
ORDER, ANSWER = "order", "answer"  # no part of a segment has these names
_OUT_OF_MEMORY_SCORE = b"500"


@dataclass(frozen=True, slots=True)
class Order:
    """A plan as it travels. schema: its JSON form; tail: for each input an Arrow file of one batch and the
    rows."""

    schema: Mapping[str, Any]
    tail: Sequence[tuple[Path, RowNumbers]]
    segments: Sequence[SegmentInput]

    def plan(self) -> BuildPlan:
        """The plan, over mapped files."""
        inputs = [TailInput(_mapped_batch(path), rows) for path, rows in self.tail] or self.segments
        return BuildPlan(Schema.from_json(self.schema), inputs)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an order. error: what went wrong, as a class and what it is made of."""

    files: tuple[FileRef, ...] = ()
    written: Written | None = None
    error: tuple[type[Exception], tuple[Any, ...]] | None = None


def serve(nice: int) -> None:
    """The process: serve builds until standard input ends."""
    _step_back(nice)
    # a library that prints must not answer
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    folders: SimpleQueue[Path] = SimpleQueue()
    threading.Thread(target=_read, args=(folders.put,), daemon=True).start()
    while True:
        build(folders.get())
        answers.write(b"\n")


def build(folder: Path) -> None:
    """Build what is laid out in a folder, and leave the answer there."""
    files: list[FileRef] = []

    def emit(part: str, data: bytes | memoryview) -> None:
        files.append(FileRef.of(part, data))
        (folder / OUT / part).write_bytes(data)

    try:
        order: Order = pickle.loads((folder / IN / ORDER).read_bytes())  # noqa: S301 - our own server wrote it
        answer = Answer(written=order.plan().write(emit, folder / IN), files=tuple(files))
    except CorruptObject as error:
        answer = Answer(error=(CorruptObject, (error.key, error.reason, error.offset)))
    except ObjectMissing as error:
        answer = Answer(error=(ObjectMissing, (error.key,)))
    except BuildFailed as error:
        answer = Answer(error=(BuildFailed, (str(error),)))
    except OSError as error:
        answer = Answer(error=(OSError, error.args))
    (folder / ANSWER).write_bytes(pickle.dumps(answer, protocol=5))


def _read(put: Callable[[Path], None]) -> None:
    rest = b""
    while data := os.read(0, 65_536):
        *paths, rest = (rest + data).split(b"\0")
        for path in paths:
            put(Path(os.fsdecode(path)))
    # the server is gone, or wants this process to be: nobody waits for what is being built
    os._exit(0)


def _step_back(nice: int) -> None:
    """Give way to everything else on the machine, also where memory ends."""
    os.nice(nice)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # never SCHED_IDLE: where the processor is always wanted, a merge would hardly get on, and queries
            # look at more segments all the while
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_bytes(_OUT_OF_MEMORY_SCORE)


def _mapped_batch(path: Path) -> pa.RecordBatch:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).get_batch(0)
