"""Two servers on one storage, with clients of both, and a judgement of what all of them saw."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from crash.journal import Journal
from crash.model import Model
from crash.processes import SMALL, ServerProcess
from crash.storages import Storage
from crash.workload import MARKER, NAMESPACE, SCHEMA, Writer, journalled, read_beside, read_out

WRITERS_EACH = 4
NONE: Mapping[str, object] = MappingProxyType({})


class Pair:
    """Servers `one` and `two`, both over `storage`; each may have settings of its own."""

    def __init__(
        self, folder: Path, storage: Storage, one: Mapping[str, object], two: Mapping[str, object]
    ) -> None:
        self.one, self.two = (
            ServerProcess(
                folder / name, storage.url, storage.environment, **SMALL | {"node_id": name} | settings
            )
            for name, settings in (("one", one), ("two", two))
        )
        self.journal = Journal(folder / "journal")
        self.model = Model()
        self._stop = asyncio.Event()
        self._rng = random.Random(1)
        self._count = 0

    @property
    def servers(self) -> Sequence[ServerProcess]:
        """Both."""
        return (self.one, self.two)

    def write_to(self, server: ServerProcess, tasks: asyncio.TaskGroup) -> list[Writer]:
        """Begin to write and to read through one of them, until `judge`."""
        writers = []
        for _ in range(WRITERS_EACH):
            writers.append(Writer(self._count, self.journal, random.Random(self._count)))
            self._count += 1
            tasks.create_task(self._with_client(server, writers[-1].run))
        tasks.create_task(
            self._with_client(server, lambda client, stop: read_beside(client, self.journal, self._rng, stop))
        )
        return writers

    def stop_writing(self) -> None:
        """Let the writers and readers come to an end."""
        self._stop.set()

    async def judge(self) -> None:
        """Settle through either server, read everything through both; nothing may be wrong."""
        for server in self.servers:
            async with server.client() as client:
                while await journalled(client, self.journal, "upsert", [MARKER]) != "ack":
                    pass
        self.model.consume(self.journal.unread())
        self.model.check_reads()
        observed = {}
        for server in self.servers:
            async with server.client() as client:
                observed = await read_out(client)
            self.model.check(observed, is_settled=True)
        assert self.model.violations == []
        assert [event for server in self.servers for event in server.errors()] == []

    async def _with_client(self, server: ServerProcess, work) -> None:
        async with server.client() as client:
            await work(client, self._stop)


@contextlib.asynccontextmanager
async def pair(
    folder: Path, storage: Storage, *, one: Mapping[str, object] = NONE, two: Mapping[str, object] = NONE
) -> AsyncIterator[Pair]:
    """Both servers, started, and the namespace that is written; killed in the end."""
    both = Pair(folder, storage, one, two)
    try:
        await asyncio.gather(*(server.start() for server in both.servers))
        async with both.one.client() as client:
            await client.create(NAMESPACE, SCHEMA)
        yield both
    finally:
        for server in both.servers:
            server.kill()
        both.journal.close()
