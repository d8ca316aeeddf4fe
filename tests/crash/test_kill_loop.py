"""SIGKILL under concurrent writes: nothing acknowledged is lost or doubled, and the server is back within
5 s.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.kill_loop import KillLoop
from crash.processes import SMALL, ServerProcess, moto_process
from crash.run import kill, summary
from crash.storages import in_bucket, in_folder

KILLS = 20


async def _killed(folder, storage, kills):
    loop, wrong = await kill(folder, storage, kills, seed=1)
    figures = summary(loop.rounds)
    print(figures)
    assert wrong == []
    assert figures["kills"] == kills
    # else the loop would show nothing
    assert figures["acknowledged"] > 20 * kills
    assert figures["unknown"] > 0
    assert figures["sent_again"] > 0
    return figures


@pytest.mark.slow
async def test_a_server_on_a_folder_loses_nothing_when_it_is_killed(tmp_path):
    figures = await _killed(tmp_path, in_folder(tmp_path / "data"), KILLS)
    assert all(figures["jobs_done"].values())


@pytest.mark.slow
async def test_a_server_on_a_bucket_loses_nothing_when_it_is_killed(tmp_path):
    with moto_process() as moto:
        figures = await _killed(tmp_path, in_bucket(moto.server, "kills"), KILLS)
    assert all(figures["jobs_done"].values())


@pytest.mark.slow
@pytest.mark.ceph
async def test_a_server_on_ceph_loses_nothing_when_it_is_killed(tmp_path, ceph_server):
    await _killed(tmp_path, in_bucket(ceph_server, "kills"), 5)


async def test_the_loop_notices_a_server_that_answers_before_it_has_written(tmp_path):
    lying = str(Path(__file__).with_name("lying_server.py"))
    storage = in_folder(tmp_path / "data")
    # folding would fail at once: the entries that it reads back are not there yet
    server = ServerProcess(
        tmp_path, storage.url, command=[lying], **SMALL | {"fold_slots": 4096, "fold_age_s": 600}
    )
    loop = KillLoop(server, tmp_path / "journal")
    async with storage.opened() as store:
        await loop.run(4, store)
    assert any("the last acknowledged is" in message for message in loop.violations)
