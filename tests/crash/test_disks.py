"""Disks of a server that are full, emptied or damaged: the folder of the data, and the cache of a bucket."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import subprocess

import pytest
from crash.journal import Journal
from crash.model import Model
from crash.processes import SMALL, serving, until
from crash.storages import in_bucket, in_folder
from crash.workload import MARKER, NAMESPACE, SCHEMA, journalled, read_out

DOCS = {
    "vector_dim": 64,
    "vector_metric": "l2",
    "attributes": {"text": {"type": "string", "full_text": True}},
}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if done.returncode:
        pytest.skip(f"only root may mount: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_writes_keeps_everything_and_takes_writes_again_when_there_is_room(
    tmp_path, small_disk
):
    journal, model = Journal(tmp_path / "journal"), Model()
    filler = small_disk / "filler"
    storage = in_folder(small_disk / "data")
    async with serving(tmp_path / "server", storage.url, **SMALL | {"request_timeout_s": 1}) as server:
        async with server.client() as client, server.http() as http:
            await client.create(NAMESPACE, SCHEMA)
            for id_ in range(1, 30):
                assert await journalled(client, journal, "upsert", [id_]) == "ack"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
            outcomes = [await journalled(client, journal, "upsert", [100 + id_]) for id_ in range(3)]
            assert "ack" not in outcomes
            path = f"/v1/namespaces/{NAMESPACE}/delete"
            refused = await http.post(path, json={"ids": [999]})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert set(range(1, 30)) <= (await read_out(client)).keys()
            filler.unlink()

            async def is_taken():
                return await journalled(client, journal, "upsert", [MARKER]) == "ack"

            await until(is_taken, timeout_s=5)
            model.consume(journal.unread())
            observed = await read_out(client)
            model.check(observed, is_settled=True)
            model.settle(observed, model.seq_max)
        server.kill()
        await server.start()
        async with server.client() as client:
            model.check(await read_out(client), is_settled=True)
        assert model.violations == []
        assert server.errors() == []
    journal.close()


async def _filled(client, name="docs"):
    """A namespace with segments of a size that goes to the disk cache."""
    rng = random.Random(1)
    await client.create(name, DOCS)
    for start in range(0, 2000, 500):
        rows = [
            {
                "id": id_,
                "vector": [rng.gauss(0, 1) for _ in range(64)],
                "attributes": {"text": f"document {id_} of {id_ % 7} kinds"},
            }
            for id_ in range(start, start + 500)
        ]
        await client.upsert(name, rows)

    async def is_folded():
        return (await client.info(name))["wal_tail"]["slots"] == 0

    await until(is_folded)


async def _answers(client, name="docs"):
    """What some searches say."""
    rng = random.Random(2)
    vector = [rng.gauss(0, 1) for _ in range(64)]
    near = await client.query(name, vector=vector, top_k=20, include_vector=True)
    text = await client.query(name, full_text={"field": "text", "query": "document 5 kinds"}, top_k=20)
    both = await client.query(name, vector=vector, full_text={"field": "text", "query": "kinds 3"}, top_k=20)
    return [(row.id, row.score, row.attributes) for answer in (near, text, both) for row in answer.results]


def _copies(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def _flip(path, rng):
    """Flip a bit in every page that the file has."""
    with path.open("r+b") as file:
        size_bytes, start = path.stat().st_size, 0
        while start < size_bytes:
            try:
                start = os.lseek(file.fileno(), start, os.SEEK_DATA)
            except OSError:  # no more
                return
            place = rng.randrange(start, min(start + mmap.PAGESIZE, size_bytes))
            [byte] = os.pread(file.fileno(), 1, place)
            os.pwrite(file.fileno(), bytes([byte ^ 1 << rng.randrange(8)]), place)
            start += mmap.PAGESIZE


def _cut(path, size_bytes):
    path.write_bytes(path.read_bytes()[:size_bytes])


async def test_damaged_files_of_the_disk_cache_are_fetched_again(tmp_path, moto):
    storage = in_bucket(moto.server, tmp_path.name)
    rng = random.Random(3)
    damages = {
        "flip": lambda path: _flip(path, rng),
        "cut": lambda path: _cut(path, path.stat().st_size // 2),
        "empty": lambda path: _cut(path, 0),
    }
    async with serving(tmp_path / "server", storage.url, storage.environment, **SMALL) as server:
        async with server.client() as client:
            await _filled(client)
            expected = await _answers(client)
        for name, damage in damages.items():
            server.kill()
            copies = _copies(server.folder / "cache")
            assert copies, "nothing was cached on disk"
            for path in copies:
                damage(path)
            await server.start()
            async with server.client() as client, server.http() as http:
                assert await _answers(client) == expected
                metrics = (await http.get("/metrics")).text
            # there is nothing wrong with an empty file
            is_counted = 'elacsym_cache_requests_total{outcome="corrupt",tier="disk"}' in metrics
            assert is_counted == (name != "empty")
        assert server.errors() == []


async def test_a_cache_folder_that_vanishes_costs_time_only(tmp_path, moto):
    storage = in_bucket(moto.server, tmp_path.name)
    async with serving(tmp_path / "server", storage.url, storage.environment, **SMALL) as server:
        async with server.client() as client:
            await _filled(client)
            expected = await _answers(client)
            shutil.rmtree(server.folder / "cache")
            assert await _answers(client) == expected
            await _filled(client, "more")
            assert await _answers(client, "more") == expected
        assert server.errors() == []


async def test_a_cache_on_a_full_disk_serves_from_memory(tmp_path, small_disk, moto):
    storage = in_bucket(moto.server, tmp_path.name)
    with contextlib.suppress(OSError):
        (small_disk / "filler").write_bytes(b"x" * 5 * 2**20)
    settings = SMALL | {"cache_path": small_disk / "cache"}
    async with serving(tmp_path / "server", storage.url, storage.environment, **settings) as server:
        async with server.client() as client:
            await _filled(client)
            full = await _answers(client)
            (small_disk / "filler").unlink()
            assert await _answers(client) == full
        assert len(full) == 60
        assert server.errors() == []
