"""Records histories of a cluster's namespaces: many clients, through every node."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.clients import CLIENTS, DOCUMENTS, SCHEMA, Tally, noted_sleep, workers
from cluster.harness import Cluster
from cluster.history import History

from elacsym.client import AsyncClient

# of each client in one history
OPERATIONS = 14
# histories that are recorded at the same time
AT_ONCE = 3
PATIENT_TIMEOUT_S, HASTY_TIMEOUT_S = 2.0, 1.0


@dataclass(frozen=True)
class Entrances:
    """Clients of a cluster, which all histories share.

    patient: ask until they are answered, as long as the client does by itself; hasty: ask once, so that
    outcomes stay unknown. One of each for every node, which it asks first; patient ones go on to the others.
    """

    patient: Sequence[AsyncClient]
    hasty: Sequence[AsyncClient]

    @property
    def all(self) -> list[AsyncClient]:
        """Both kinds."""
        return [*self.patient, *self.hasty]


@contextlib.asynccontextmanager
async def entrances(
    cluster: Cluster, *proxy_urls: str, timeout_s: float = PATIENT_TIMEOUT_S
) -> AsyncIterator[Entrances]:
    """Clients of every node, and patient ones of proxies in front of them."""
    ids = list(cluster.places)
    async with contextlib.AsyncExitStack() as stack:
        orders = [[*ids[n:], *ids[:n]] for n in range(len(ids))]
        addresses = [cluster.urls(*order) for order in orders] + [[url] for url in proxy_urls]
        patient = [AsyncClient(urls, timeout_s=timeout_s, sleep=noted_sleep) for urls in addresses]
        hasty = [cluster.client(node_id, retries=0, timeout_s=HASTY_TIMEOUT_S) for node_id in ids]
        for client in (*patient, *hasty):
            await stack.enter_async_context(client)
        yield Entrances(patient, hasty)


async def record(
    namespace: str,
    ways: Entrances,
    *,
    seed: int,
    operations: int = OPERATIONS,
    count: int = CLIENTS,
    documents: int = DOCUMENTS,
) -> tuple[History, Tally]:
    """Create a namespace, let `count` clients work on it, and look at every document through every node."""
    history, tally = History(namespace), Tally()
    await ways.patient[seed % len(ways.patient)].create(namespace, SCHEMA)
    never = asyncio.Event()
    working = workers(history, ways.all, seed, count, documents=documents)
    async with asyncio.TaskGroup() as tasks:
        for worker in working:
            tasks.create_task(worker.run(never, count_max=operations))
    lookers = workers(history, ways.patient, seed, len(ways.patient), documents=documents)
    async with asyncio.TaskGroup() as tasks:
        for looker in lookers:
            tasks.create_task(looker.read_all())
    for worker in (*working, *lookers):
        tally.add(worker.tally)
    return history, tally


async def load(
    namespaces: Sequence[str], ways: Entrances, stop: asyncio.Event, *, seed: int, each: int, pause_s: float
) -> tuple[list[History], Tally]:
    """Let `each` patient clients work on every namespace until told to stop; then look at everything.

    pause_s: between two operations of a client, on average.
    """
    histories, tally = [History(namespace) for namespace in namespaces], Tally()
    rng = random.Random(seed)
    working = []
    for history in histories:
        clients = rng.sample(ways.patient, len(ways.patient))
        working += workers(history, clients, seed, each)
    async with asyncio.TaskGroup() as tasks:
        for worker in working:
            tasks.create_task(worker.run(stop, pause_s=pause_s))
    lookers = [looker for history in histories for looker in workers(history, ways.patient, seed, 2)]
    async with asyncio.TaskGroup() as tasks:
        for looker in lookers:
            tasks.create_task(looker.read_all())
    for worker in (*working, *lookers):
        tally.add(worker.tally)
    return histories, tally


@dataclass
class Findings:
    """What all histories of a run say together. wrong: what no execution explains."""

    histories: int = 0
    tally: Tally = field(default_factory=Tally)
    wrong: list[str] = field(default_factory=list)


async def record_many(
    count: int,
    ways: Entrances,
    *,
    seed: int,
    prefix: str = "history",
    folder: Path | None = None,
    operations: int = OPERATIONS,
) -> Findings:
    """Record and check `count` histories, some at once: while one waits for a node that does not answer,
    others go on. What is wrong is kept in `folder` for a closer look.
    """
    findings, numbers = Findings(), iter(range(count))

    async def one_after_the_other() -> None:
        for number in numbers:
            history, tally = await record(
                f"{prefix}-{number}", ways, seed=seed + number, operations=operations
            )
            wrong = await asyncio.to_thread(history.violations)
            if wrong and folder is not None:
                history.save(folder / f"{history.namespace}.jsonl")
            findings.histories += 1
            findings.tally.add(tally)
            findings.wrong += wrong

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(one_after_the_other())
    return findings
