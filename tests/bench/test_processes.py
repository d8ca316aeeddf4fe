import os
import subprocess
import sys

import numpy as np

from benches import processes

TICK_S = 0.011


def test_anonymous_memory_counts_what_is_allocated_and_touched():
    before = processes.memory(os.getpid()).anonymous_bytes
    block = np.ones(64 * 2**20, np.uint8)
    grown = processes.memory(os.getpid()).anonymous_bytes - before
    assert block.nbytes * 0.9 < grown < block.nbytes * 1.5


def test_mapped_files_are_no_anonymous_memory(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 64 * 2**20)
    before = processes.memory(os.getpid())
    mapped = np.memmap(path, np.uint8, "r")
    assert mapped.sum() > 0
    after = processes.memory(os.getpid())
    assert after.anonymous_bytes - before.anonymous_bytes < 16 * 2**20
    assert after.file_bytes - before.file_bytes > 48 * 2**20


def test_children_belong_to_the_process():
    code = "import sys; sum(range(20_000_000)); print('done', flush=True); sys.stdin.read()"
    before_s = processes.cpu_s(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in processes.tree(os.getpid())
        used_s = processes.cpu_s(child.pid)
        assert used_s > 0
        assert processes.cpu_s(os.getpid()) - before_s >= used_s - TICK_S
        child.communicate()
    # what ended is still counted
    assert processes.cpu_s(os.getpid()) - before_s >= used_s - TICK_S
