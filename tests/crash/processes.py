"""Real server processes that can be killed, paused and stopped; and a moto server in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from support.s3_servers import S3Server

from elacsym.client import AsyncClient

START_S_MAX = 60.0
STOP_S_MAX = 60.0

# kills are to hit folds, merges and collections too; readers rely on half of the grace
SMALL: dict[str, object] = {
    "fold_slots": 48,
    "fold_age_s": 0.5,
    "gc_grace_s": 1.0,
    "upkeep_period_s": 0.05,
    "threads": 2,
}


class ServerProcess:
    """`elacsym serve` over `storage`. Settings by their names in `elacsym.config.Config`.

    Files go to `folder`: the cache, and the log, to which every start appends. command: what Python runs.
    """

    def __init__(
        self,
        folder: Path,
        storage: str,
        environment: Mapping[str, str] | None = None,
        *,
        command: Sequence[str] = ("-m", "elacsym.cli", "serve"),
        **settings: object,
    ) -> None:
        self._command = [sys.executable, *command]
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.storage = folder, storage
        self.log = folder / "server.log"
        chosen: dict[str, object] = {
            "storage": storage,
            "cache_path": folder / "cache",
            "port": 0,
            "log_level": "warning",
            "log_format": "json",
        }
        chosen |= settings
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ELACSYM_")}
        self.environment = inherited | dict(environment or {})
        self.environment |= {f"ELACSYM_{name.upper()}": str(value) for name, value in chosen.items()}
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process of the last start."""
        assert self._process is not None, "the server was not started"
        return self._process

    async def start(self) -> None:
        """Returns when the server accepts requests.

        Raises RuntimeError with the log's end if it never does.
        """
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            async with asyncio.timeout(START_S_MAX):
                line = await asyncio.to_thread(self.process.stdout.readline)
        except BaseException:
            self.kill()
            raise
        found = re.search(r"http://\S+", line)
        if found is None:
            self.kill()
            raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")
        self.url = found[0]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; not waited for."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    async def wait(self) -> int:
        """The exit code of a process that was told to stop."""
        code = await asyncio.to_thread(self.process.wait, STOP_S_MAX)
        self.process.stdout.close()
        return code

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait()

    def errors(self) -> list[dict[str, Any]]:
        """The lines that the server logged as errors, and what it wrote without being asked to."""
        found = []
        for line in self.log.read_text().splitlines():
            try:
                event = json.loads(line)
            except json.JSONDecodeError:
                event = {"level": "error", "event": line}
            if event["level"] == "error":
                found.append(event)
        return found

    def resident_bytes(self) -> int:
        """The memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def client(self, *, timeout_s: float = 30.0) -> AsyncClient:
        """A client that sends everything once."""
        return AsyncClient(self.url, retries=0, timeout_s=timeout_s)

    def http(self, *, timeout_s: float = 30.0) -> httpx.AsyncClient:
        """A plain client, for answers as they are."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=timeout_s, trust_env=False, limits=limits)


@contextlib.asynccontextmanager
async def serving(
    folder: Path, storage: str, environment: Mapping[str, str] | None = None, **settings: object
) -> AsyncIterator[ServerProcess]:
    """A started server; killed in the end if it still runs."""
    server = ServerProcess(folder, storage, environment, **settings)
    await server.start()
    try:
        yield server
    finally:
        server.kill()


async def until(condition, *, timeout_s: float = 30.0, pause_s: float = 0.02) -> None:
    """Ask the coroutine function `condition` again and again until it is true. Raises TimeoutError."""
    end_s = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not true within {timeout_s} s")
        await asyncio.sleep(pause_s)  # other processes: there is nothing to wait on


class S3Request(NamedTuple):
    """One request at an S3 server. app: the asking program's AWS_SDK_UA_APP_ID. asked: path and query
    string."""

    app: str
    method: str
    asked: str
    is_conditional: bool
    began_s: float
    ended_s: float


class Moto:
    """A moto server in its own process. `set_down` makes it answer everything with 503 SlowDown."""

    def __init__(self, server: S3Server) -> None:
        self.server = server

    def set_down(self, is_down: bool) -> None:
        """Switch the storm on or off."""
        httpx.put(
            f"{self.server.endpoint_url}/crash/down", content=b"1" if is_down else b"0", trust_env=False
        )

    def set_delay(self, delay_s: float) -> None:
        """Delay every answer."""
        address = f"{self.server.endpoint_url}/crash/delay"
        httpx.put(address, content=str(delay_s).encode(), trust_env=False).raise_for_status()

    def requests(self) -> list[S3Request]:
        """What was asked since the last time."""
        answer = httpx.get(f"{self.server.endpoint_url}/crash/requests", trust_env=False)
        return [S3Request(*row) for row in answer.raise_for_status().json()]


@contextlib.contextmanager
def moto_process() -> Iterator[Moto]:
    """A moto server with an empty bucket, for as long as the block runs."""
    command = [sys.executable, str(Path(__file__).with_name("moto_server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            address = process.stdout.readline().strip()
            assert address, "moto did not start"
            server = S3Server(address, "test", "test")
            server.create_bucket()
            yield Moto(server)
        finally:
            process.kill()
