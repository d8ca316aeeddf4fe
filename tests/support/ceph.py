"""A throwaway one-node Ceph with its S3 gateway on loopback: a real S3 server for tests.

Data lives in memory and is gone afterwards. Needs root and the programs of Debian's ceph-mon, ceph-osd,
radosgw and ceph-common. Ceph 16 compares If-Match with the unquoted ETag, and a small GET over a kept-alive
connection takes 40 ms unless tcp_nodelay is set on the frontend.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_S_MAX = 90
OSD_STARTS_MAX = 10

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd pool default pg num = 8
osd pool default pgp num = 8
mon allow pool size one = true
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 6442450944
osd data = {folder}/osd0
run dir = {folder}
log file = {folder}/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
[mon.a]
mon data = {folder}/mon
[client.rgw]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw dns name = 127.0.0.1
"""


def why_unavailable() -> str | None:
    """Why Ceph cannot be started here, or None if it can."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"Ceph is not installed: no {', '.join(missing)}"
    return None if os.geteuid() == 0 else "Ceph needs root"


class Ceph:
    """A context manager: starts the daemons in `folder`, and stops them."""

    access_key_id, secret_access_key = "devkey", "devsecret"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._mon_port = _free_ports(2)
        self._configuration = folder / "ceph.conf"
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        for name in ("mon", "osd0", "rgw"):
            (self.folder / name).mkdir()
        fsid, osd, monmap = str(uuid.uuid4()), str(uuid.uuid4()), str(self.folder / "monmap")
        self._configuration.write_text(
            CONFIGURATION.format(fsid=fsid, folder=self.folder, port=self.port, mon_port=self._mon_port)
        )
        address = f"[v1:127.0.0.1:{self._mon_port}]"
        self._run(
            "monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, monmap, has_configuration=False
        )
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemon("ceph-mon", "-i", "a")
        self._run("ceph", "osd", "new", osd)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._run("ceph", "osd", "crush", "add", "osd.0", "1", "root=default", "host=localhost")
        self._start_storage()
        gateway = self._daemon("radosgw", "-n", "client.rgw")
        self._wait(lambda: self._is_listening() or gateway.poll() is not None)
        self._run(
            *("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=dev", "--display-name=dev"),
            *(f"--access-key={self.access_key_id}", f"--secret-key={self.secret_access_key}"),
        )

    def _start_storage(self) -> None:
        def is_up() -> bool:
            return json.loads(self._run("ceph", "osd", "stat", "--format=json"))["num_up_osds"] == 1

        for _ in range(OSD_STARTS_MAX):
            osd = self._daemon("ceph-osd", "-i", "0")
            self._wait(lambda: osd.poll() is not None or is_up())  # noqa: B023  # used within this round only
            if osd.poll() is None:
                return
            # at times it asks the monitor before it knows the cluster's id, and ends with "wrong fsid"
            self._daemons.remove(osd)
        raise RuntimeError(f"ceph-osd ended {OSD_STARTS_MAX} times, see {self.folder}")

    def _run(self, program: str, *arguments: str, has_configuration: bool = True) -> str:
        configuration = ("-c", str(self._configuration)) if has_configuration else ()
        done = subprocess.run(
            [program, *configuration, *arguments],
            capture_output=True,
            timeout=START_S_MAX,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _daemon(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [program, "-c", str(self._configuration), "-f", *arguments]
        with (self.folder / f"{program}.out").open("wb") as output:
            daemon = subprocess.Popen(command, stdout=output, stderr=output)
        self._daemons.append(daemon)
        return daemon

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _wait(self, is_done: Callable[[], bool]) -> None:
        end = time.monotonic() + START_S_MAX
        while not is_done():
            if time.monotonic() > end:
                raise RuntimeError(f"Ceph did not start within {START_S_MAX} s, see {self.folder}")
            time.sleep(0.1)  # other processes: there is nothing to wait on

    def _stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
        self._daemons.clear()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
