"""A lean closed-loop HTTP/1.1 client: N connections in a process of their own, one request in flight on
each."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import urlsplit

import numpy as np
import uvloop

# the n-th body of a run
Bodies = Callable[[int], bytes]


@dataclass(frozen=True)
class Load:
    """What a run saw: answers per second, latencies in ms, statuses."""

    rate: float
    answers: int
    p50_ms: float
    p99_ms: float
    statuses: dict[int, int]


def closed_loop(url: str, bodies: Bodies, *, connections: int, seconds: float) -> Load:
    """POST to `url` over `connections` connections for `seconds`; `bodies` must be importable (it is
    pickled)."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_run, args=(sender, url, bodies, connections, seconds))
    process.start()
    sender.close()  # so that a client that dies ends the wait below
    load: Load = receiver.recv()
    process.join()
    return load


def _run(sender: Connection, url: str, bodies: Bodies, connections: int, seconds: float) -> None:
    sender.send(uvloop.run(_measure(url, bodies, connections, seconds)))


async def _measure(url: str, bodies: Bodies, connections: int, seconds: float) -> Load:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    numbers = itertools.count()
    clients: list[_Connection] = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: _Connection(parts.netloc, parts.path, bodies, numbers), parts.hostname, parts.port
        )
        clients.append(client)
    began_s = time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - began_s
    for client in clients:
        client.stop()
    taken = np.concatenate([np.array(client.latencies_ms) for client in clients])
    statuses: dict[int, int] = {}
    for client in clients:
        for status, count in client.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    p50, p99 = np.percentile(taken, [50, 99])
    return Load(len(taken) / took_s, len(taken), float(p50), float(p99), statuses)


class _Connection(asyncio.Protocol):
    """One connection; the next request goes out when the answer is whole."""

    def __init__(self, host: str, path: str, bodies: Bodies, numbers: Iterator[int]) -> None:
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
        )
        self._bodies, self._numbers = bodies, numbers
        self._buffer = b""
        self._is_running = True
        self.latencies_ms: list[float] = []
        self.statuses: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        body = self._bodies(next(self._numbers))
        self._sent_s = time.perf_counter()
        self._transport.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)

    def stop(self) -> None:
        self._is_running = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        at = head.lower().index(b"content-length:") + len(b"content-length:")
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._buffer = b""
        self.latencies_ms.append((time.perf_counter() - self._sent_s) * 1000)
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self._is_running:
            self.send()
