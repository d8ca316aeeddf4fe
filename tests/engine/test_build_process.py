"""Building segments in processes that may be killed, and beside servers that may be."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.builds import SHAPES, fold_plan, merge_plan

from elacsym.compute import InlineCompute, ThreadCompute
from elacsym.engine import build_process
from elacsym.engine.build import BuildFailed, InlineBuilder
from elacsym.engine.build_process import ProcessBuilder
from elacsym.errors import CorruptObject
from elacsym.store.cache import ObjectMissing


@asynccontextmanager
async def _builder(folder: Path, **options):
    compute = ThreadCompute(2)
    builder = ProcessBuilder(compute, folder, processes=1, **({"inline_bytes_max": -1} | options))
    try:
        yield builder
    finally:
        await builder.close()
        compute.close()


def _pids(builder: ProcessBuilder) -> list[int]:
    return [worker._process.pid for worker in builder._workers]


def _content(built) -> tuple:
    files = {ref.part: (ref, built.read(ref.part)) for ref in built.files}
    written = built.written
    return (
        files,
        written.rows,
        written.seq_min,
        written.seq_max,
        written.row_sum,
        written.place.tolist(),
    )


@pytest.mark.parametrize("kind", ["fold", "merge"])
async def test_a_process_makes_the_files_that_the_pool_makes(tmp_path, kind):
    schema = SHAPES["everything"]
    rows = 1_500  # enough for clusters and codes
    plan = fold_plan(schema, rows) if kind == "fold" else await merge_plan(schema, tmp_path / "files", rows)
    compute = ThreadCompute(1)
    expected = await InlineBuilder(compute).build(plan)
    compute.close()
    async with _builder(tmp_path / "build") as builder:
        built = await builder.build(plan)
        assert _content(built) == _content(expected)
        assert built.folder is not None and built.folder.exists()
        built.close()
        assert not built.folder.exists()


async def test_what_is_in_memory_is_written_for_the_process(tmp_path):
    plan = await merge_plan(SHAPES["vector"], tmp_path / "files", as_paths=False)
    async with _builder(tmp_path / "build") as builder:
        assert _content(await builder.build(plan))[1] == sum(len(i.rows) for i in plan.inputs)


async def test_a_small_build_starts_no_process(tmp_path):
    async with _builder(tmp_path, inline_bytes_max=2**20) as builder:
        built = await builder.build(fold_plan(SHAPES["everything"]))
        assert built.folder is None
        assert _pids(builder) == []


async def test_a_process_serves_one_build_after_the_other_and_ends_when_idle(tmp_path):
    async with _builder(tmp_path, idle_s=0.2) as builder:
        (await builder.build(fold_plan(SHAPES["vector"]))).close()
        pids = _pids(builder)
        (await builder.build(fold_plan(SHAPES["text"]))).close()
        assert _pids(builder) == pids and len(pids) == 1
        await _until(lambda: not _pids(builder) and not _is_alive(pids[0]))


async def test_a_killed_process_fails_its_build_and_the_next_one_works(tmp_path):
    async with _builder(tmp_path) as builder:
        (await builder.build(fold_plan(SHAPES["vector"]))).close()
        (pid,) = _pids(builder)
        os.kill(pid, signal.SIGSTOP)
        building = asyncio.create_task(builder.build(fold_plan(SHAPES["vector"])))
        await _until(lambda: list(tmp_path.rglob("in/order")))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(BuildFailed, match="-9") as caught:
            await building
        assert caught.value.retryable
        assert [entry.name for entry in builder._own[0].iterdir()] == ["lock"]
        (await builder.build(fold_plan(SHAPES["vector"]))).close()
        assert _pids(builder) != [pid]


async def test_a_process_that_died_while_it_was_idle_is_no_reason_to_fail(tmp_path):
    async with _builder(tmp_path) as builder:
        (await builder.build(fold_plan(SHAPES["vector"]))).close()
        (pid,) = _pids(builder)
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: not next(iter(builder._workers)).is_alive)
        (await builder.build(fold_plan(SHAPES["vector"]))).close()


async def test_a_cancelled_build_ends_its_process_and_leaves_nothing(tmp_path):
    async with _builder(tmp_path) as builder:
        (await builder.build(fold_plan(SHAPES["vector"]))).close()
        (pid,) = _pids(builder)
        os.kill(pid, signal.SIGSTOP)
        building = asyncio.create_task(builder.build(fold_plan(SHAPES["vector"])))
        await _until(lambda: list(tmp_path.rglob("in/order")))
        building.cancel()
        with pytest.raises(asyncio.CancelledError):
            await building
        assert not _is_alive(pid)
        assert [entry.name for entry in builder._own[0].iterdir()] == ["lock"]


async def test_closing_ends_the_processes_of_builds_under_way(tmp_path):
    async with _builder(tmp_path) as builder:
        (await builder.build(fold_plan(SHAPES["vector"]))).close()
        (pid,) = _pids(builder)
        os.kill(pid, signal.SIGSTOP)
        building = asyncio.create_task(builder.build(fold_plan(SHAPES["vector"])))
        await _until(lambda: list(tmp_path.rglob("in/order")))
        await builder.close()
        with pytest.raises(BuildFailed):
            await building
        assert not _is_alive(pid)


async def test_inputs_may_lose_their_names_while_a_build_waits(tmp_path):
    plan = await merge_plan(SHAPES["vector"], tmp_path / "files")
    async with _builder(tmp_path / "build") as builder:
        (await builder.build(plan)).close()
        (pid,) = _pids(builder)
        os.kill(pid, signal.SIGSTOP)
        building = asyncio.create_task(builder.build(plan))
        await _until(lambda: list(tmp_path.rglob("in/order")))
        for file in (tmp_path / "files").iterdir():
            file.unlink()
        os.kill(pid, signal.SIGCONT)
        (await building).close()
        with pytest.raises(ObjectMissing):
            await builder.build(plan)


@pytest.mark.parametrize("part", ["rows.parquet", "vector.vector.ivf", "text.body"])
@pytest.mark.parametrize("where", ["process", "pool"])
async def test_a_damaged_input_is_reported_with_its_key(tmp_path, part, where):
    plan = await merge_plan(SHAPES["everything"], tmp_path / "files")
    file = plan.inputs[1].files[part]
    good = file.content.read_bytes()
    async with _builder(tmp_path / "build", inline_bytes_max=-1 if where == "process" else 2**40) as builder:
        for place in (0, file.ref.size_bytes // 2, file.ref.size_bytes - 1):
            bad = bytearray(good)
            bad[place] ^= 4
            file.content.write_bytes(bad)
            with pytest.raises(CorruptObject) as caught:
                await builder.build(plan)
            assert caught.value.key == f"seg/1/{part}"


async def test_a_full_disk_moves_a_build_into_the_pool(tmp_path, monkeypatch):
    def full(plan, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build_process, "_lay_out", full)
    async with _builder(tmp_path) as builder:
        built = await builder.build(fold_plan(SHAPES["everything"]))
        assert built.folder is None and built.written.rows > 0


async def test_nothing_is_left_when_a_builder_is_closed(tmp_path):
    async with _builder(tmp_path) as builder:
        await builder.build(fold_plan(SHAPES["vector"]))
        (pid,) = _pids(builder)
    assert not _is_alive(pid)
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


_SERVER = """
import asyncio, sys
from pathlib import Path
from elacsym.compute import InlineCompute, ThreadCompute
from elacsym.engine.build_process import ProcessBuilder, _claimed

async def main():
    builder = ProcessBuilder(ThreadCompute(1), Path(sys.argv[1]), processes=1)
    builder._own = _claimed(Path(sys.argv[1]))
    worker = await builder._worker(10)
    print(worker._process.pid, builder._own[0], flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_what_a_killed_server_left_is_ended_and_removed(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    with server, server.stdout:
        pid, folder = server.stdout.readline().split()
        build_process.open_builder(InlineCompute(), tmp_path, processes=1)
        assert Path(folder).exists(), "it belongs to a process that lives"
        server.kill()
    await _until(lambda: not _is_alive(int(pid)))
    build_process.open_builder(InlineCompute(), tmp_path, processes=0)
    assert [entry.name for entry in tmp_path.iterdir()] == [".lock"]


async def test_without_a_usable_folder_segments_are_built_in_the_server(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    async with _builder(tmp_path / "file" / "build") as builder:
        assert (await builder.build(fold_plan(SHAPES["vector"]))).folder is None


async def test_without_processes_segments_are_built_in_the_server(tmp_path):
    builder = build_process.open_builder(InlineCompute(), tmp_path / "build", processes=0)
    assert isinstance(builder, InlineBuilder)
    assert not list(tmp_path.iterdir())


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _until(condition) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.skipif(sys.platform != "linux", reason="schedulers differ")
async def test_processes_give_way_within_the_session_of_the_server_but_not_to_its_signals(tmp_path):
    async with _builder(tmp_path / "build") as builder:
        await builder.build(fold_plan(SHAPES["vector"], 100))
        await builder.build(await merge_plan(SHAPES["vector"], tmp_path / "files", 100))
        folding, merging = _pids(builder)
        assert [os.sched_getscheduler(pid) for pid in (folding, merging)] == [os.SCHED_BATCH] * 2
        own, fold, merge = (os.getpriority(os.PRIO_PROCESS, pid) for pid in (0, folding, merging))
        assert own < fold < merge
        for pid in (folding, merging):
            # niceness counts among processes of a session, Ctrl-C goes to a process group
            assert (os.getsid(pid), os.getpgid(pid)) == (os.getsid(0), pid)
