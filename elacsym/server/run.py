"""Runs the application: uvicorn on uvloop and httptools, orderly stop on SIGTERM, one line for people."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

import elacsym
from elacsym import telemetry
from elacsym.config import PREFIX, Config, InvalidSetting
from elacsym.server.app import create_app
from elacsym.server.node import open_node as open_configured
from elacsym.server.service import OpenNode, Service
from elacsym.upkeep.memory import share_arenas

# clients drop idle connections after 60 s: a server that waits longer never closes one that is being used
_KEEP_ALIVE_S = 75
_BACKLOG = 2_048
# a pool thread that comes back from a system call waits this long for the interpreter while the loop is
# busy; a commit comes back about ten times, and at Python's 5 ms that was most of its time under load
_SWITCH_INTERVAL_S = 0.0005


def serve(
    config: Config, open_node: OpenNode = open_configured, *, announce: Callable[[str], None] = print
) -> None:
    """Serve until SIGTERM or SIGINT. `announce` is given one line once the server accepts requests.

    Raises InvalidSetting for an unsafe or impossible listener, and whatever opening the database raises.
    """
    config.check_listener()
    telemetry.configure_logging(level=config.log_level, as_json=config.logs_as_json)
    log = telemetry.get_logger("server")
    for warning in config.warnings:
        log.warning("setting", reason=warning)
    if config.is_open_to_all:
        log.warning("no API keys are set: everybody who reaches this address may read and delete everything")
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    share_arenas()
    raise_descriptor_limit()
    with _listener(config) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, open_node, listener, announce))
    log.info("stopped")


async def _serve(
    config: Config, open_node: OpenNode, listener: socket.socket, announce: Callable[[str], None]
) -> None:
    app = create_app(config, open_node)
    settings = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        # the database opens before and closes after the server, so that a failure is an exception of `serve`
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # nothing looks at the client's address
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(config.shutdown_timeout_s / 2)),
        backlog=_BACKLOG,
    )
    service: Service = app.state.service
    async with app.router.lifespan_context(app):
        # what is there now stays: to look through it for garbage, now and then, stops everything for 30 ms
        gc.collect()
        gc.freeze()
        server = _Server(settings, service.stop_wanted, lambda: announce(_start_line(config, listener)))
        leaving = asyncio.create_task(_leave(service, server), name="leave")
        try:
            await server.serve(sockets=[listener])
        finally:
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)


async def _leave(service: Service, server: uvicorn.Server) -> None:
    """When a stop is wanted, hand over to other nodes while requests are still answered; then stop."""
    await service.stop_wanted.wait()
    took_s = 0.0
    try:
        took_s = await service.leave()
    except Exception:  # noqa: BLE001 - whatever it is, who was told to stop must stop
        telemetry.get_logger("server").exception("the hand-over failed")
    finally:
        left_s = service.config.shutdown_timeout_s / 2 - took_s
        server.config.timeout_graceful_shutdown = max(1, round(left_s))
        server.should_exit = True


class _Server(uvicorn.Server):
    """Uvicorn's server, with a call-back once it listens. A first signal asks for an orderly stop, a second
    one ends it without a hand-over; both in a normal return."""

    def __init__(
        self, config: uvicorn.Config, stop_wanted: asyncio.Event, on_start: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._stop_wanted, self._on_start = stop_wanted, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        telemetry.get_logger("server").info("stopping", signal=signal.Signals(sig).name)
        if self._stop_wanted.is_set():
            super().handle_exit(sig, frame)
        self._stop_wanted.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


def raise_descriptor_limit() -> None:
    """Let this process hold as many file descriptors as it may: every mapped file and every client needs
    one."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # some systems allow less than the hard limit they name
        telemetry.get_logger("server").warning(
            "file descriptors are few", soft=soft, hard=hard, reason=str(error)
        )


def _listener(config: Config) -> socket.socket:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InvalidSetting(
            f"{PREFIX}HOST and {PREFIX}PORT: cannot listen on {config.host} port {config.port}: {error}"
        ) from error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        # uvloop does not exist for every platform
        return None
    return uvloop.new_event_loop


def _start_line(config: Config, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return (
        f"elacsym {elacsym.__version__} · http://{shown}:{port} · storage {config.storage} · "
        f"node {config.node_id} ({config.node_type})"
    )
