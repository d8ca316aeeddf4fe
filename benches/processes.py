"""What a process and its children use, read from /proc (Linux only)."""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from benches.support import Server

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LOOK_S = 0.5
_QUIET_S = 3.0
# a process that waits uses some percent of a core, for its timers and for being asked
IDLE_SHARE_MAX = 0.2


@dataclass(frozen=True)
class Memory:
    """Resident bytes: anonymous (heap, stacks, private copies) and of mapped files."""

    anonymous_bytes: int
    file_bytes: int


def tree(pid: int) -> list[int]:
    """`pid` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def memory(pid: int) -> Memory:
    """Summed over the process and its descendants."""
    anonymous = mapped = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{member}/status").read_text()
            anonymous += _kib(status, "RssAnon") * 1024
            mapped += _kib(status, "RssFile") * 1024
    return Memory(anonymous, mapped)


def cpu_s(pid: int) -> float:
    """Processor seconds, user and system, of the process and its descendants, ended ones included."""
    ticks = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            # fields 14 to 17 of proc(5): utime, stime, and both of waited-for children
            ticks += sum(map(int, _stat(member)[11:15]))
    return ticks / _TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _kib(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) if found else 0


def wait_settled(
    server: Server, namespace: str, *, idle_share_max: float = IDLE_SHARE_MAX, timeout_s: float = 600.0
) -> float:
    """Wait until the log's tail is empty, the manifest stays as it is and the server's processes are idle.

    Whatever is folded, merged or indexed in the background changes one of the three. idle_share_max: of one
    core. Returns the reading of `time.monotonic` when the quiet began. Raises RuntimeError after `timeout_s`.
    """
    began_s = quiet_s = time.monotonic()
    known: tuple[int, int, int] | None = None
    used_s, looked_s = cpu_s(server.process.pid), began_s
    with httpx.Client(base_url=server.url, timeout=60) as client:
        while quiet_s + _QUIET_S > looked_s:
            if looked_s - began_s > timeout_s:
                raise RuntimeError(f"'{namespace}' was not settled within {timeout_s:g} s")
            time.sleep(_LOOK_S)
            info = client.get(f"/v1/namespaces/{namespace}").raise_for_status().json()
            state = (info["wal_tail"]["slots"], info["segments"], info["generation"])
            before_s, before_looked_s = used_s, looked_s
            used_s, looked_s = cpu_s(server.process.pid), time.monotonic()
            is_idle = used_s - before_s < idle_share_max * (looked_s - before_looked_s)
            if state != known or state[0] or not is_idle:
                known, quiet_s = state, looked_s
    return quiet_s
