"""The store is away for a while: clients are told at once and truthfully, memory is bounded, and it all
goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import time

import httpx
import pytest
from crash.journal import Journal
from crash.model import Model
from crash.processes import SMALL, serving, until
from crash.storages import in_bucket
from crash.workload import MARKER, NAMESPACE, SCHEMA, Writer, journalled, read_out

from elacsym.clock import SystemClock, system_random
from elacsym.cluster.member import Member
from elacsym.cluster.membership import Alone
from elacsym.cluster.node import ClusterNode
from elacsym.config import Config
from elacsym.engine.build import InlineBuilder
from elacsym.engine.database import Database
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.tuning import Tuning
from elacsym.log.settings import LogSettings
from elacsym.server.app import create_app
from elacsym.server.service import Node
from elacsym.store.cache import ObjectCache
from elacsym.store.faults import FaultyStore
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.resolve import ResolvingStore

RECOVERY_S_MAX = 5.0
WAITERS_MAX = 40
QUEUE_BYTES_MAX = 100_000
DEADLINE = {"x-request-timeout-ms": "1000"}


@contextlib.asynccontextmanager
async def application(store, tmp_path):
    """A client of an application over `store` with retries, and the namespace `docs`; a small queue."""
    log = LogSettings(waiters_max=WAITERS_MAX, queue_bytes_max=QUEUE_BYTES_MAX)

    @contextlib.asynccontextmanager
    async def open_node(config, compute):
        resolving = ResolvingStore(store, clock=SystemClock(), rng=system_random())
        cache = ObjectCache(resolving, compute=compute, folder=tmp_path / "cache")
        settings = EngineSettings(log=log)
        database = Database(
            Services(
                resolving,
                cache,
                compute,
                SystemClock(),
                system_random(),
                settings,
                "node-1",
                InlineBuilder(compute),
                Tuning(system_random()),
            )
        )
        cluster = ClusterNode.of(Alone(Member(config.node_id, "http://test")), SystemClock())
        yield Node(database, cluster)
        await database.close()
        await cache.close()

    app = create_app(Config(node_id="node-1", threads=2), open_node)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", timeout=60) as client:
            assert (await client.put("/v1/namespaces/docs", json={"schema": {}})).status_code == 200
            yield client
    await store.close()


async def upsert(client, id_, text="", **headers):
    body = {"documents": [{"id": id_, "attributes": {"text": text}}]}
    return await client.post("/v1/namespaces/docs/upsert", json=body, headers=headers)


async def until_written(client, id_):
    async def is_written():
        return (await upsert(client, id_)).status_code == 200

    await until(is_written)


async def documents(client, **body):
    body = {"order_by": [["id", "asc"]], "top_k": 10_000, **body}
    return await client.post("/v1/namespaces/docs/query", json=body, headers=DEADLINE)


@pytest.fixture(params=["503 storm", "full disk"])
def trouble(request, tmp_path, monkeypatch):
    """A store, and a function that switches its trouble on and off."""
    if request.param == "503 storm":
        store = FaultyStore(MemoryStore(), random.Random(1))
        return store, lambda is_on: setattr(store, "is_down", is_on)
    is_full, writev = False, os.writev

    def writev_if_there_is_room(descriptor, parts):
        if is_full:
            # the first half of the first part still fits
            os.write(descriptor, parts[0][: len(parts[0]) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return writev(descriptor, parts)

    def switch(is_on):
        nonlocal is_full
        is_full = is_on

    monkeypatch.setattr(os, "writev", writev_if_there_is_room)
    return LocalStore(tmp_path / "data"), switch


async def test_clients_hear_503_while_the_store_fails_and_nothing_acknowledged_is_lost(trouble, tmp_path):
    store, switch = trouble
    async with application(store, tmp_path) as client:
        assert (await upsert(client, 0)).status_code == 200
        switch(True)
        answers = await asyncio.gather(*(upsert(client, i, **DEADLINE) for i in range(1, 21)))
        assert {a.status_code for a in answers} == {503}
        assert all(int(a.headers["retry-after"]) >= 1 for a in answers)
        codes = {a.json()["code"] for a in answers}
        assert codes <= {"outcome_unknown", "deadline_exceeded", "store_unavailable"}
        assert (await client.get("/livez")).status_code == 200
        # what is known is still served to those who accept that it may be old
        old = await documents(client, consistency="eventual")
        assert [row["id"] for row in old.json()["results"]] == [0]
        switch(False)
        began_s = time.monotonic()
        async with asyncio.timeout(RECOVERY_S_MAX):
            await until_written(client, 21)
            found = await documents(client)
        assert time.monotonic() - began_s < RECOVERY_S_MAX
        ids = [row["id"] for row in found.json()["results"]]
        refused = {i for i, a in enumerate(answers, 1) if a.json()["code"] != "outcome_unknown"}
        assert {0, 21} <= set(ids) <= set(range(22)) - refused


async def test_what_waits_for_a_store_that_fails_is_bounded_and_leaves_nothing_behind(trouble, tmp_path):
    store, switch = trouble
    async with application(store, tmp_path) as client:
        assert (await upsert(client, 0)).status_code == 200
        idle = len(asyncio.all_tasks())
        switch(True)
        answers = await asyncio.gather(*(upsert(client, i, **DEADLINE) for i in range(1, 4 * WAITERS_MAX)))
        refused = [a for a in answers if a.status_code == 429]
        assert len(answers) - len(refused) <= WAITERS_MAX
        assert {a.status_code for a in answers} == {429, 503}
        assert all("retry-after" in a.headers for a in answers)
        large = "x" * (QUEUE_BYTES_MAX // 3)
        answers = await asyncio.gather(*(upsert(client, i, large, **DEADLINE) for i in range(1000, 1020)))
        # one entry may be in flight while another three fill the queue
        assert [a.status_code for a in answers].count(429) >= 20 - 8
        switch(False)
        await until_written(client, 0)

        async def is_quiet():
            return len(asyncio.all_tasks()) <= idle

        await until(is_quiet)
        # the queue is empty: as many may wait as ever
        answers = await asyncio.gather(*(upsert(client, i) for i in range(WAITERS_MAX)))
        assert {a.status_code for a in answers} == {200}


async def test_strong_reads_say_503_when_the_store_cannot_be_asked(tmp_path):
    store = FaultyStore(MemoryStore(), random.Random(1))
    async with application(store, tmp_path) as client:
        assert (await upsert(client, 0)).status_code == 200
        store.is_down = True
        answer = await documents(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert (await client.get("/readyz")).status_code == 503
        store.is_down = False
        assert (await documents(client)).status_code == 200


async def _hammer(http, stop, statuses):
    """Large writes that give up after a second, one after the other."""
    rows = [{"id": i, "attributes": {"text": "elacsym " * 1000}} for i in range(100)]
    while not stop.is_set():
        answer = await http.post("/v1/namespaces/large/upsert", json={"documents": rows}, headers=DEADLINE)
        statuses.append(answer.status_code)


async def _write_on(client, journal, stop, first):
    """A writer after the other: each ends when it does not know what became of a write."""
    for number in range(first, first + 1000):
        if stop.is_set():
            return
        await Writer(number, journal, random.Random(number)).run(client, stop)


@pytest.mark.slow
async def test_a_server_survives_a_storm_of_503_from_its_bucket(tmp_path, moto):
    storage = in_bucket(moto.server, tmp_path.name)
    journal, model, stop = Journal(tmp_path / "journal"), Model(), asyncio.Event()
    calm: list[int] = []
    storm: list[int] = []
    settings = SMALL | {"request_timeout_s": 3}
    async with serving(tmp_path / "server", storage.url, storage.environment, **settings) as server:
        async with server.client() as client, server.http() as http:
            await client.create(NAMESPACE, SCHEMA)
            await client.create("large", {"attributes": {"text": {"type": "string"}}})
            writers = [asyncio.create_task(_write_on(client, journal, stop, 1000 * n)) for n in range(4)]
            model.consume(journal.unread())
            while model.acked_count < 20:
                await asyncio.sleep(0.05)  # another process: there is nothing to wait on
                model.consume(journal.unread())
            storm_over = asyncio.Event()
            moto.set_down(True)
            try:
                hammers = [asyncio.create_task(_hammer(http, storm_over, storm)) for _ in range(16)]
                while len(storm) < 32:
                    await asyncio.sleep(0.05)
                before_bytes = server.resident_bytes()
                while len(storm) < 160:
                    await asyncio.sleep(0.05)
                # some 100 MB of bodies came meanwhile
                grown_bytes = server.resident_bytes() - before_bytes
                storm_over.set()
                await asyncio.gather(*hammers)
            finally:
                moto.set_down(False)
            began_s = time.monotonic()
            while await journalled(client, journal, "upsert", [MARKER]) != "ack":
                pass
            await client.documents(NAMESPACE, [MARKER])
            recovery_s = time.monotonic() - began_s
            calm.append((await http.get("/readyz")).status_code)
            stop.set()
            await asyncio.gather(*writers)
            assert await journalled(client, journal, "upsert", [MARKER]) == "ack"
            observed = await read_out(client)
        model.consume(journal.unread())
        model.check(observed, is_settled=True)
        assert model.violations == []
        assert set(storm) <= {503, 429}
        assert storm.count(503) > 0
        assert calm == [200]
        assert recovery_s < RECOVERY_S_MAX
        assert grown_bytes < 64 * 2**20
        assert server.errors() == []
    journal.close()
