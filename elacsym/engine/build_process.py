"""Builds large segments in processes of their own, small ones in the thread pool.

A build process has low priority and one thread, so that queries get the processor whenever they want it, and
what it holds is not memory of the server. It is started when it is needed, serves one build after the other,
and ends when it is idle or the server is gone. It comes from no pool of `concurrent.futures`, whose processes
import the server's main module, and outlive a server that is killed.

    folder/{token}/lock         held by the server process for as long as it lives
    folder/{token}/{n}/in/      what build n reads: order, chunks of the tail as Arrow IPC, files of segments
    folder/{token}/{n}/out/     the files of the new segment; the answer is beside it

Files of segments are hard links where the file system allows it: an eviction or a collection removes names,
not bytes. A folder whose lock nobody holds is removed at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pickle
import secrets
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from elacsym.compute import Compute
from elacsym.engine.build import Builder, BuildFailed, BuildPlan, BuiltSegment, InlineBuilder, measured
from elacsym.engine.build_worker import ANSWER, IN, ORDER, OUT, Answer, Order
from elacsym.engine.rows import InputFile, RowNumbers, SegmentInput, TailInput
from elacsym.errors import CorruptObject
from elacsym.store.cache import ObjectMissing
from elacsym.telemetry import get_logger

# up to here a build is over in some hundred milliseconds, and a process takes nearly that long to start
INLINE_BYTES_MAX = 4 * 2**20
IDLE_S = 60.0
# a merge can wait: it makes queries faster, while a fold lets writes go on
NICE = {"fold": 10, "merge": 19}
_log = get_logger(__name__)


def open_builder(compute: Compute, folder: Path, *, processes: int) -> Builder:
    """A builder whose processes work in `folder`, or one without where `processes` is 0.

    What dead processes left in the folder is removed; it is made when it is needed.
    """
    _clear(folder)
    return ProcessBuilder(compute, folder, processes=processes) if processes else InlineBuilder(compute)


class ProcessBuilder:
    """Builds in processes. inline_bytes_max: the `weight_bytes` of plans up to which a build stays in the
    pool; idle_s: how long a process waits for another build before it ends."""

    def __init__(
        self,
        compute: Compute,
        folder: Path,
        *,
        processes: int,
        inline_bytes_max: int = INLINE_BYTES_MAX,
        idle_s: float = IDLE_S,
    ) -> None:
        self.processes = processes
        self._compute, self._inline = compute, InlineBuilder(compute)
        self._inline_bytes_max, self._idle_s = inline_bytes_max, idle_s
        self._folder = folder
        self._own: tuple[Path, TextIO] | None = None  # with its lock
        self._numbers = count()
        self._workers: dict[_Worker, asyncio.TimerHandle | None] = {}  # with the end of those that are idle
        self._ending: set[asyncio.Task[None]] = set()

    async def build(self, plan: BuildPlan) -> BuiltSegment:
        """See Builder."""
        if plan.weight_bytes <= self._inline_bytes_max:
            return await self._inline.build(plan)
        try:
            return await self._build(plan)
        except OSError as error:
            _log.warning("a segment is built in the server", folder=str(self._folder), error=str(error))
            return await self._inline.build(plan)

    async def _build(self, plan: BuildPlan) -> BuiltSegment:
        if self._own is None:
            self._own = _claimed(self._folder)
        folder = self._own[0] / str(next(self._numbers))
        try:
            with measured(plan, "process"):
                await self._compute.bulk.run(_lay_out, plan, folder)
                await self._run(folder, NICE[plan.kind])
                return await self._compute.bulk.run(_built, folder)
        except BaseException:
            await self._compute.bulk.run(shutil.rmtree, folder, ignore_errors=True)
            raise

    async def _run(self, folder: Path, nice: int) -> None:
        worker = await self._worker(nice)
        try:
            await worker.run(folder)
        except BaseException:
            self._workers.pop(worker, None)
            await worker.end()
            raise
        loop = asyncio.get_running_loop()
        self._workers[worker] = loop.call_later(self._idle_s, self._let_go, worker)

    async def _worker(self, nice: int) -> _Worker:
        for worker, ending in self._workers.items():
            if ending is not None and worker.nice == nice and worker.is_alive:
                ending.cancel()
                self._workers[worker] = None
                return worker
        worker = await _Worker.started(nice)
        self._workers[worker] = None
        return worker

    def _let_go(self, worker: _Worker) -> None:
        del self._workers[worker]
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """See Builder."""
        workers, self._workers = self._workers, {}
        for worker, ending in workers.items():
            if ending is not None:
                ending.cancel()
            await worker.end()
        await asyncio.gather(*self._ending)
        if self._own is not None:
            folder, lock = self._own
            await self._compute.bulk.run(shutil.rmtree, folder, ignore_errors=True)
            lock.close()


class _Worker:
    """A build process."""

    def __init__(self, process: asyncio.subprocess.Process, nice: int) -> None:
        self._process, self.nice = process, nice

    @classmethod
    async def started(cls, nice: int) -> _Worker:
        script = (
            # A group of its own, for Ctrl-C is for the server. In a session of its own Linux would give it as
            # much of the processor as the server (sched(7), autogroups), however nice it is. It sees to that
            # itself: uvloop knows no `process_group`
            "import os, sys; os.setpgid(0, 0); "
            # libraries size their pools when they are loaded
            "os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'); "
            f"sys.path[:] = {sys.path!r}; from elacsym.engine.build_worker import serve; serve({nice})"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            script,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process, nice)

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    async def run(self, folder: Path) -> None:
        """Have the process build what is laid out in `folder`. Raises BuildFailed where it dies."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "stdin is a pipe"
        assert stdout is not None, "stdout is a pipe"
        with contextlib.suppress(ConnectionError):  # it has ended: the answer says so
            stdin.write(os.fsencode(folder) + b"\0")
            await stdin.drain()
        if not await stdout.read(1):
            code = await self._process.wait()
            raise BuildFailed(f"the process that built a segment ended with exit status {code}")

    async def end(self) -> None:
        """End the process, whatever it does."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        assert self._process.stdin is not None, "stdin is a pipe"
        self._process.stdin.close()
        await self._process.wait()


def _claimed(folder: Path) -> tuple[Path, TextIO]:
    """A folder of this process's own, and its lock. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with _turn(folder):
        own = folder / secrets.token_hex(8)
        own.mkdir()
        lock = _locked(own)
    assert lock is not None, "nobody else knows the folder"
    return own, lock


def _clear(folder: Path) -> None:
    """Remove the folders of dead processes, as far as possible."""
    if not folder.is_dir():
        return
    try:
        with _turn(folder):
            entries = [entry for entry in folder.iterdir() if entry.is_dir()]
            locks = {entry: lock for entry in entries if (lock := _locked(entry)) is not None}
        for entry, lock in locks.items():
            shutil.rmtree(entry, ignore_errors=True)
            lock.close()
    except OSError as error:
        _log.warning("what builds left cannot be removed", folder=str(folder), error=str(error))


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Alone among processes: between a folder and its lock there is a moment in which it looks abandoned."""
    with (folder / ".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield


def _locked(folder: Path) -> TextIO | None:
    """The lock of a folder, or None where somebody holds it."""
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return lock


def _lay_out(plan: BuildPlan, folder: Path) -> None:
    """Write a plan and what it reads. Raises OSError."""
    (folder / IN).mkdir(parents=True)
    (folder / OUT).mkdir()
    order = Order(
        plan.schema.to_json(),
        [_written(i, folder / IN / str(n)) for n, i in enumerate(plan.inputs) if isinstance(i, TailInput)],
        [_linked(i, folder / IN / str(n)) for n, i in enumerate(plan.inputs) if isinstance(i, SegmentInput)],
    )
    (folder / IN / ORDER).write_bytes(pickle.dumps(order, protocol=5))


def _written(source: TailInput, path: Path) -> tuple[Path, RowNumbers]:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, source.batch.schema) as writer:
        writer.write_batch(source.batch)
    return path, source.rows


def _linked(source: SegmentInput, folder: Path) -> SegmentInput:
    folder.mkdir()
    files = {part: _linked_file(file, folder / part) for part, file in source.files.items()}
    return replace(source, files=files)


def _linked_file(file: InputFile, path: Path) -> InputFile:
    if isinstance(file.content, memoryview):
        path.write_bytes(file.content)
        return replace(file, content=path)
    try:
        os.link(file.content, path)
    except FileNotFoundError as error:
        raise ObjectMissing(file.key) from error
    except OSError:
        # another file system, or one without links: the name is good until somebody collects the object
        return replace(file, content=file.content.absolute())
    return replace(file, content=path)


def _built(folder: Path) -> BuiltSegment:
    """What the process left. Raises what went wrong there."""
    answer: Answer = pickle.loads((folder / ANSWER).read_bytes())  # noqa: S301 - our own process wrote it
    shutil.rmtree(folder / IN)
    if answer.error is not None:
        kind, arguments = answer.error
        if kind is CorruptObject:
            key, reason, offset = arguments
            raise CorruptObject(key, reason, offset=offset)
        raise kind(*arguments)
    assert answer.written is not None, "an answer is an error or a segment"
    contents: dict[str, bytes | Path] = {ref.part: folder / OUT / ref.part for ref in answer.files}
    return BuiltSegment(answer.files, answer.written, contents, folder)
