from __future__ import annotations

import asyncio
import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from contract import ObjectStoreContract
from hypothesis import given
from hypothesis import strategies as st

from elacsym.errors import CorruptObject, InvalidRequest, StoreUnavailable
from elacsym.store import local, local_files
from elacsym.store.local import LocalStore
from elacsym.store.local_files import TRAILER_BYTES, Trailer


class TestLocalStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        store = LocalStore(tmp_path / "data")
        yield store
        await store.close()


class TestTwoLocalStoresOnOneFolder(ObjectStoreContract):
    """Every operation goes through the other of two stores, as if two processes took turns."""

    @pytest.fixture
    async def store(self, tmp_path):
        stores = [LocalStore(tmp_path / "data") for _ in range(2)]

        class Alternating:
            turn = 0

            def __getattr__(self, name):
                self.turn += 1
                return getattr(stores[self.turn % 2], name)

        yield Alternating()
        for store in stores:
            await store.close()


@pytest.fixture
async def store(tmp_path):
    store = LocalStore(tmp_path)
    yield store
    await store.close()


def visible_files(folder: Path) -> list[str]:
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    )


def temporary_files(folder: Path) -> list[Path]:
    return [path for path in (folder / ".tmp").rglob("*") if path.is_file() and path.name != "sweep.lock"]


nonces = st.binary(min_size=16, max_size=16)
trailers = st.builds(Trailer, st.integers(0, 2**64 - 1), nonces, st.integers(0, 2**32 - 1))


@given(trailers)
def test_a_trailer_survives_the_round_trip_in_40_bytes(trailer):
    data = trailer.encode()
    assert len(data) == TRAILER_BYTES == 40
    assert Trailer.decode(data, key="k", offset=0) == trailer


@given(trailers, st.integers(0, 319))
def test_a_flipped_bit_of_a_trailer_is_found(trailer, bit):
    damaged = bytearray(trailer.encode())
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptObject, match="k at byte 9"):
        Trailer.decode(bytes(damaged), key="k", offset=9)


async def test_every_flipped_bit_and_every_truncation_of_a_file_is_found(store, tmp_path):
    await store.put_if_absent("a", b"payload")
    whole = (tmp_path / "a").read_bytes()
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(CorruptObject, match=r"^a at byte"):
            await store.get("a")
    for length in range(len(whole)):
        (tmp_path / "a").write_bytes(whole[:length])
        with pytest.raises(CorruptObject, match=r"^a at byte"):
            await store.get("a")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".locks/x", "a/.b", "a\0b", "a b"])
async def test_a_key_that_could_leave_the_folder_or_hide_is_refused(store, key):
    with pytest.raises(InvalidRequest):
        await store.put_if_absent(key, b"1")
    with pytest.raises(InvalidRequest):
        await store.get(key)


async def test_a_listing_shows_no_locks_and_no_temporary_files(store, tmp_path):
    etag = await store.put_if_absent("a/b", b"1")
    await store.put_if_match("a/b", b"2", etag)
    (store._scratch.path / "half-written").write_bytes(b"x")
    assert [row.key async for row in store.list("")] == ["a/b"]
    assert visible_files(tmp_path) == ["a/b"]


async def test_the_bytes_are_durable_before_the_name_and_the_name_before_the_answer(store, monkeypatch):
    etag = await store.put_if_absent("a/b/0", b"1")
    steps: list[str] = []

    def recorded(name, real):
        def call(*args, **kwargs):
            steps.append(name)
            return real(*args, **kwargs)

        return call

    monkeypatch.setattr(local, "sync", lambda fd: steps.append("folder" if os.path.isdir(fd) else "file"))
    monkeypatch.setattr(os, "link", recorded("link", os.link))
    monkeypatch.setattr(os, "replace", recorded("rename", os.replace))
    await store.put_if_absent("a/b/1", b"1")
    await store.put_if_match("a/b/0", b"2", etag)
    await store.delete("a/b/1")
    assert steps == ["file", "link", "folder", "file", "rename", "folder", "folder"]


async def test_every_new_folder_is_synced_up_to_the_root(store, tmp_path, monkeypatch):
    synced: list[str] = []
    monkeypatch.setattr(local_files, "sync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    await store.put_if_absent("a/b/c", b"1")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    await store.put_if_absent("a/b/d", b"1")
    assert len(synced) == 2


async def test_a_folder_that_was_removed_and_made_again_is_synced_again(store, tmp_path, monkeypatch):
    await store.put_if_absent("a/b/c", b"1")
    other = LocalStore(tmp_path)
    await other.delete("a/b/c")
    assert not (tmp_path / "a").exists()
    (tmp_path / "a" / "b").mkdir(parents=True)
    synced: list[str] = []
    monkeypatch.setattr(local_files, "sync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    etag = await store.put_if_absent("a/b/c", b"2")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    assert (await other.get("a/b/c")).etag == etag
    await other.close()


async def test_creating_goes_on_while_others_remove_the_empty_folders(tmp_path):
    stores = [LocalStore(tmp_path) for _ in range(2)]

    async def work(store: LocalStore, name: str) -> None:
        for i in range(40):
            key = f"a/b/c/d/{name}{i}"
            assert await store.put_if_absent(key, b"1") is not None
            assert await store.get(key) is not None
            await store.delete(key)

    await asyncio.gather(*(work(store, name) for store, name in zip(stores, "xy", strict=True)))
    assert visible_files(tmp_path) == []
    for store in stores:
        await store.close()


async def test_a_refused_create_makes_the_winner_durable_before_it_answers(store, tmp_path, monkeypatch):
    await store.put_if_absent("a/b", b"1")
    synced: list[Path] = []
    monkeypatch.setattr(local, "sync_path", synced.append)
    assert await store.put_if_absent("a/b", b"2") is None
    assert synced == [tmp_path / "a"]


@pytest.mark.parametrize("operation", ["create", "replace"])
async def test_a_full_disk_is_unavailable_and_leaves_no_torn_file(store, tmp_path, monkeypatch, operation):
    etag = await store.put_if_absent("a", b"before")
    real = os.writev

    def half_then_full(fd, parts):
        if len(parts) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, [parts[0]])

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", half_then_full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            if operation == "create":
                await store.put_if_absent("b", b"after")
            else:
                await store.put_if_match("a", b"after", etag)
    assert (await store.get("a")).data == b"before"
    assert await store.get("b") is None
    assert temporary_files(tmp_path) == []
    assert await store.put_if_match("a", b"after", etag) is not None


async def test_a_write_that_the_system_splits_arrives_whole(store, monkeypatch):
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: real(fd, [parts[0][:3]]))
    await store.put_if_absent("a", b"written in many small pieces")
    assert (await store.get("a")).data == b"written in many small pieces"


async def test_a_reader_sees_whole_versions_while_the_object_is_replaced(store):
    # a reader that mixed two versions would find a checksum that does not fit
    bodies = [bytes([i]) * (20_000 + i) for i in range(40)]
    etag = await store.put_if_absent("a", bodies[0])
    seen: set[bytes] = set()
    is_done = False

    async def read() -> None:
        while not is_done:
            seen.add((await store.get("a")).data)
            await store.get_ranges("a", [(0, 100), (19_000, 30_000)])

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for body in bodies[1:]:
        etag = await store.put_if_match("a", body, etag)
    is_done = True
    await asyncio.gather(*readers)
    assert seen <= set(bodies)


def replace_in_a_process(name: int, folder: str, etag: str, barrier, wins) -> None:
    async def work() -> None:
        store = LocalStore(Path(folder), threads=4)
        barrier.wait()
        etags = await asyncio.gather(*(store.put_if_match("a", b"%d.%d" % (name, i), etag) for i in range(8)))
        wins.put([b"%d.%d" % (name, i) for i, new in enumerate(etags) if new is not None])
        await store.close()

    asyncio.run(work())


async def test_one_of_many_threads_and_processes_wins_a_replacement(store, tmp_path):
    context = multiprocessing.get_context("spawn")
    etag = await store.put_if_absent("a", b"before")
    barrier, wins = context.Barrier(4), context.Queue()
    racers = [
        context.Process(target=replace_in_a_process, args=(i, str(tmp_path), etag, barrier, wins))
        for i in range(4)
    ]
    for racer in racers:
        racer.start()
    winners = [body for _ in racers for body in wins.get(timeout=20)]
    for racer in racers:
        racer.join()
    assert len(winners) == 1
    assert (await store.get("a")).data == winners[0]


KILLED_BEFORE_THE_NAME_CHANGES = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from elacsym.store.base import Etag
    from elacsym.store.local import LocalStore

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    os.link = os.replace = die

    async def main():
        store = LocalStore(Path(sys.argv[1]))
        if sys.argv[2]:
            await store.put_if_match("a", b"after", Etag(sys.argv[2]))
        else:
            await store.put_if_absent("b", b"after")

    asyncio.run(main())
"""


@pytest.mark.parametrize("operation", ["create", "replace"])
async def test_a_writer_killed_before_the_name_changes_leaves_the_old_state_and_the_next_start_sweeps(
    tmp_path, operation
):
    store = LocalStore(tmp_path)
    etag = await store.put_if_absent("a", b"before")
    script = textwrap.dedent(KILLED_BEFORE_THE_NAME_CHANGES)
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), etag if operation == "replace" else ""], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert (await store.get("a")).data == b"before"
    assert await store.get("b") is None
    assert [row.key async for row in store.list("")] == ["a"]
    assert len(temporary_files(tmp_path)) == 1

    live = store._scratch.path / "being-written"
    live.write_bytes(b"x")
    restarted = LocalStore(tmp_path)
    assert temporary_files(tmp_path) == [live]
    assert await restarted.put_if_match("a", b"after", etag) is not None  # the dead writer's lock is free
    for one in (store, restarted):
        await one.close()


async def test_a_lock_that_another_process_never_lets_go_costs_a_refusal_and_no_thread(tmp_path):
    """A server that was stopped by SIGSTOP within a replacement kept the lock; the waiting calls of the other
    server took one thread of its pool after the other."""
    store = LocalStore(tmp_path, threads=2, lock_wait_s=0.05)
    etag = await store.put_if_absent("a", b"one")
    descriptor = os.open(tmp_path / ".locks" / local_files.lock_name("a"), os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="'a': another process holds its lock"):
            await store.put_if_match("a", b"two", etag)
    with pytest.raises(StoreUnavailable, match="lock"):
        await store.delete("a")
    assert (await store.get("a")).data == b"one"
    assert await store.put_if_absent("b", b"other keys are free") is not None
    os.close(descriptor)
    assert await store.put_if_match("a", b"two", etag) is not None
    await store.close()


async def test_what_was_written_is_there_after_a_restart(tmp_path):
    first = LocalStore(tmp_path)
    etag = await first.put_if_absent("a/b", b"1")
    await first.close()
    second = LocalStore(tmp_path)
    assert (await second.get("a/b")).etag == etag
    await second.close()


async def test_the_loop_is_free_while_a_disk_is_slow(store, monkeypatch):
    # the write hangs until the loop has run something else: if the loop were blocked, this would never end
    gate = threading.Event()
    monkeypatch.setattr(local, "sync", lambda fd: gate.wait())
    writing = asyncio.create_task(store.put_if_absent("a", b"1"))
    while not temporary_files(store.root):
        await asyncio.sleep(0)
    assert await store.get("b") is None
    gate.set()
    assert await writing is not None
