"""The SIGKILL loop: a real server under concurrent writes is killed, started again, and asked for
everything.

A round: start, time until a strong read-out answers, judge it; an acknowledged write of the new process
settles what the old one left open; judge again; some writes of unknown outcome are sent again, each after
another write of the same documents, and twice, so that a doubled one shows; then eight writers and a
reader run until the kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from crash.journal import Journal
from crash.model import Model, Operation
from crash.processes import ServerProcess
from crash.workload import MARKER, NAMESPACE, SCHEMA, Writer, again, journalled, read_beside, read_out

from elacsym.cli.storage import look
from elacsym.client import AsyncClient
from elacsym.store.base import ObjectStore

WRITERS = 8
RESTART_S_MAX = 5.0
# a quarter of the rounds live long enough for folds, merges and collections of their own
LIFE_S = (0.1, 0.9)
LONG_LIFE_S = (1.5, 3.0)
LONG_SHARE = 0.25
_JOBS = re.compile(r'elacsym_upkeep_runs_total\{job="(\w+)",outcome="done"\} (\d+)')


@dataclass
class Round:
    """One life of the server.

    jobs: upkeep jobs done, as last seen; is_job_cut: the kill came within such a job;
    load: the machine's, for a restart is only as fast as what else runs lets it be.
    """

    number: int
    restart_s: float = 0.0
    load: float = 0.0
    life_s: float = 0.0
    acked: int = 0
    unknown: int = 0
    sent_again: int = 0
    documents: int = 0
    is_job_cut: bool = False
    jobs: dict[str, int] = field(default_factory=dict)


class KillLoop:
    """`run` kills the server N times; `violations` must be empty then.

    store: opens the same storage from this process, to look at what a kill left behind.
    """

    def __init__(self, server: ServerProcess, journal_path: Path, *, seed: int = 1) -> None:
        self.server = server
        self.journal = Journal(journal_path)
        self.model = Model()
        self.rounds: list[Round] = []
        self._abandoned: set[str] = set()
        self._open: list[Operation] = []
        self._rng = random.Random(seed)
        self._writers = [Writer(n, self.journal, random.Random(seed * 1000 + n)) for n in range(WRITERS)]

    @property
    def violations(self) -> list[str]:
        """Everything that is wrong so far, restarts that took too long included."""
        slow = [
            f"restart {r.number} took {r.restart_s:.1f} s, load {r.load:.1f} on {os.cpu_count()} cores"
            for r in self.rounds
            if r.restart_s > RESTART_S_MAX
        ]
        return self.model.violations + slow

    async def run(self, kills: int, store: ObjectStore) -> None:
        """Kill the server `kills` times, start it once more, judge, and stop it in order."""
        try:
            await self._prepare()
            for number in range(1, kills + 1):
                report = Round(number)
                self.rounds.append(report)
                async with self._started(report) as client:
                    await self._write_until_killed(client, report)
                announced = {i.job for i in (await look(store, NAMESPACE, 0)).manifest.intents}
                report.is_job_cut = bool(announced - self._abandoned)
                self._abandoned |= announced
            last = Round(kills + 1)
            self.rounds.append(last)
            async with self._started(last):
                code = await self.server.stop()
            if code != 0:
                self.model.violations.append(f"the server stopped with exit code {code}")
        finally:
            self.server.kill()
            self.journal.close()

    async def _prepare(self) -> None:
        await self.server.start()
        async with self.server.client() as client:
            await client.create(NAMESPACE, SCHEMA)
        self.server.kill()

    @contextlib.asynccontextmanager
    async def _started(self, report: Round) -> AsyncIterator[AsyncClient]:
        """The server, started and judged; killed in the end."""
        began_s = time.monotonic()
        await self.server.start()
        async with self.server.client() as client:
            observed = await read_out(client)
            report.restart_s = time.monotonic() - began_s
            report.load = os.getloadavg()[0]
            self._judge(observed, is_settled=False)
            report.unknown = len(self.model.unknown())
            await self._settle(client)
            report.sent_again = await self._send_again(client)
            report.documents = len(self.model.settled)
            yield client
        self.server.kill()

    def _judge(self, observed: dict[int, int], *, is_settled: bool) -> None:
        self.model.consume(self.journal.unread())
        self.model.check_reads()
        self.model.check(observed, is_settled=is_settled)

    async def _settle(self, client: AsyncClient) -> None:
        self._open = [o for o in self.model.unknown() if self._rng.random() < 0.6]
        outcome = await journalled(client, self.journal, "upsert", [MARKER])
        if outcome != "ack":
            self.model.violations.append(f"the first write after a restart ended as {outcome}")
        await self._judge_settled(client)

    async def _judge_settled(self, client: AsyncClient) -> None:
        observed = await read_out(client)
        self._judge(observed, is_settled=True)
        self.model.settle(observed, self.model.seq_max)
        for writer in self._writers:
            writer.refresh(observed)

    async def _send_again(self, client: AsyncClient) -> int:
        """Writes of unknown outcome, and some that were acknowledged: each must count once, whatever it
        is.
        """
        acked = [o for o in list(self.model.operations.values())[-100:] if o.outcome == "acked"]
        chosen: list[Operation] = [*self._open, *self._rng.sample(acked, min(3, len(acked)))]
        for operation in chosen:
            await journalled(client, self.journal, "upsert", operation.ids)
            for _ in range(2):
                await again(client, self.journal, operation.number, operation.kind, operation.ids)
        if chosen:
            await self._judge_settled(client)
        return len(chosen)

    async def _write_until_killed(self, client: AsyncClient, report: Round) -> None:
        stop = asyncio.Event()
        is_long = self._rng.random() < LONG_SHARE
        report.life_s = self._rng.uniform(*(LONG_LIFE_S if is_long else LIFE_S))
        before = sum(w.acked for w in self._writers)
        tasks = [asyncio.create_task(w.run(client, stop)) for w in self._writers]
        tasks.append(asyncio.create_task(read_beside(client, self.journal, self._rng, stop)))
        watch = asyncio.create_task(self._watch(report))
        await asyncio.sleep(report.life_s)  # when the kill comes is what is drawn at random
        self.server.kill()
        stop.set()
        await asyncio.gather(*tasks)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        report.acked = sum(w.acked for w in self._writers) - before

    async def _watch(self, report: Round) -> None:
        async with self.server.http() as http:
            while True:
                text = (await http.get("/metrics")).text
                report.jobs = {job: int(count) for job, count in _JOBS.findall(text)}
                await asyncio.sleep(0.1)
