"""A real server in this process, for as long as a block runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import uvicorn

from elacsym.config import Config
from elacsym.errors import ElacsymError
from elacsym.server.app import create_app
from elacsym.server.node import open_node

HOST = "127.0.0.1"


class DemoError(ElacsymError):
    """The demo cannot run; the message says what is missing."""

    code = "demo_failed"


@contextlib.contextmanager
def running_server(folder: Path, port: int = 0) -> Iterator[str]:
    """Serve `folder` on the loopback address and give the URL. Port 0: any free one.

    Settings of the environment do not apply: the demo shows a server without settings. Raises DemoError where
    the port is taken, and whatever opening the database raises.
    """
    config = Config(storage=str(folder), cache_path=str(folder / "cache"), host=HOST, port=port)
    with _listener(port) as listener, ThreadPoolExecutor(1, thread_name_prefix="server") as pool:
        opened: Future[uvicorn.Server] = Future()
        running = pool.submit(_serve, config, listener, opened)
        either: list[Future[Any]] = [opened, running]
        wait(either, return_when=FIRST_COMPLETED)
        if not opened.done():
            running.result()
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            opened.result().should_exit = True
        running.result()


def _listener(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise DemoError(f"cannot listen on {HOST}:{port}: {error.strerror}; --port takes another") from error


def _serve(config: Config, listener: socket.socket, opened: Future[uvicorn.Server]) -> None:
    async def serve() -> None:
        app = create_app(config, open_node)
        async with app.router.lifespan_context(app):
            server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
            # the socket listens already: whoever connects before the loop runs only waits a little
            opened.set_result(server)
            await server.serve(sockets=[listener])

    asyncio.run(serve())
