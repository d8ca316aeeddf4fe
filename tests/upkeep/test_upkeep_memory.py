"""Freed memory, and what the system sees of it."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest

from elacsym.upkeep import memory

# blocks that the C library takes from its heap, and one at the end that keeps the heap from shrinking
SCRIPT = """
import pathlib, re
from elacsym.upkeep.memory import give_back_memory

def anonymous_kib():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

blocks = [bytes([1]) * 100_000 for _ in range(1_000)]
last = blocks.pop()
del blocks
before = anonymous_kib()
give_back_memory()
print(before, anonymous_kib())
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="the system does not tell, or its C library has no way to",
)
def test_what_was_freed_is_no_longer_resident():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    before_kib, after_kib = map(int, re.findall(r"\d+", done.stdout))
    assert before_kib - after_kib > 50_000


ARENAS = """
import ctypes, re, sys, threading
from elacsym.upkeep.memory import share_arenas

if sys.argv[1] == "shared":
    share_arenas()
begun, ended = threading.Barrier(9), threading.Barrier(9)

def work():
    kept = bytes(100_000)
    begun.wait()
    ended.wait()

for _ in range(8):
    threading.Thread(target=work).start()
begun.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
print(len(re.findall("<heap nr", open(sys.argv[2]).read())))
ended.wait()
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library")
def test_threads_share_few_arenas(tmp_path):
    def arenas(how):
        command = [sys.executable, "-c", ARENAS, how, str(tmp_path / how)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert arenas("own") > memory.ARENAS >= arenas("shared")
