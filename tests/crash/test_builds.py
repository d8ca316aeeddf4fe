"""A server that is killed while a process builds a segment for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from crash.processes import SMALL, serving, until

SCHEMA = {"vector_dim": 128, "vector_metric": "l2"}
ROWS, BATCH = 16_000, 2_000  # 8 MiB of vectors: too much to be built in the server


def _children(pid):
    """Processes that a process started: their numbers."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_build_ends_with_its_server_leaves_nothing_and_is_done_by_the_next_one(tmp_path, storage):
    vectors = np.random.default_rng(1).standard_normal((ROWS, 128)).astype(np.float32)
    settings = SMALL | {"build_processes": 1, "fold_slots": 10_000, "fold_age_s": 0.5}
    start = (tmp_path / "server", storage.url, storage.environment)
    async with serving(*start, **settings) as server:
        build = server.folder / "cache" / "build"

        async def is_building():
            return any(build.glob("*/*/in/order")) and bool(_children(server.process.pid))

        async def is_over():
            return not any(map(_is_running, builders))

        async with server.client() as client:
            await client.create("docs", SCHEMA)
            for first in range(0, ROWS, BATCH):
                rows = range(first, first + BATCH)
                await client.upsert("docs", [{"id": row, "vector": vectors[row]} for row in rows])
            await until(is_building)
            builders = _children(server.process.pid)
            server.kill()
        await until(is_over)
        left = [folder.name for folder in build.iterdir() if folder.is_dir()]
        assert left
        await server.start()
        assert not {folder.name for folder in build.iterdir()} & set(left)

        async def is_folded():
            return (await client.info("docs"))["wal_tail"]["slots"] == 0

        async with server.client() as client:
            # opens the namespace: until then there is nothing to fold
            assert (await client.query("docs", vector=vectors[7], top_k=1)).results[0].id == 7
            await until(is_folded, timeout_s=60)
            assert (await client.info("docs"))["documents"] == ROWS
            assert (await client.query("docs", vector=vectors[9], top_k=1)).results[0].id == 9
        assert await server.stop() == 0
        assert [folder for folder in build.iterdir() if folder.is_dir()] == []
        assert server.errors() == []
