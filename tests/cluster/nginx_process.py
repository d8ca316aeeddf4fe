"""A real nginx in front of a cluster, with the configuration that is shipped."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pytest
from cluster.harness import Place, free_port
from crash.processes import until

from elacsym.cluster.nginx import render


def nginx_program() -> str:
    """Where nginx is. Skips the test where there is none, unless ELACSYM_REQUIRE_NGINX is set."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None and os.environ.get("ELACSYM_REQUIRE_NGINX") == "1":
        pytest.fail("ELACSYM_REQUIRE_NGINX is set, but there is no nginx")
    if program is None:
        pytest.skip("there is no nginx")
    return program


class Nginx:
    """A real nginx with the shipped configuration in front of these nodes. A context manager.

    options: as `render` takes them.
    """

    def __init__(self, folder: Path, nodes: Sequence[Place], **options: int) -> None:
        self.folder, self.port = folder, free_port()
        self._nodes, self._options = nodes, options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        program = nginx_program()
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            render(
                [n.url for n in self._nodes if n.role == "indexer"],
                [n.url for n in self._nodes if n.role == "query"],
                listen=f"127.0.0.1:{self.port}",
                **self._options,
            )
        )
        # as root, nginx lets another user work, who may not enter a folder of tests
        user = "user root;" if os.geteuid() == 0 else ""
        with (self.folder / "nginx.log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, "-p", str(self.folder), "-c", str(configuration), "-g", f"daemon off;{user}"],
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    async def ready(self) -> None:
        """Returns when it accepts connections. Raises TimeoutError."""

        async def accepts() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return False
            writer.close()
            return True

        await until(accepts)
