"""SIGTERM: what was begun is answered, the exit code is 0, and everything acknowledged is there at the
next start.
"""

from __future__ import annotations

import asyncio
import random
import signal

from crash.journal import Journal
from crash.model import Model
from crash.processes import SMALL, serving
from crash.workload import MARKER, NAMESPACE, SCHEMA, Writer, journalled, read_out

WRITERS = 8


async def test_a_stop_under_load_ends_in_order_and_keeps_everything(tmp_path, storage):
    journal, model, stop = Journal(tmp_path / "journal"), Model(), asyncio.Event()
    async with serving(tmp_path / "server", storage.url, storage.environment, **SMALL) as server:
        async with server.client() as client:
            await client.create(NAMESPACE, SCHEMA)
            writers = [Writer(n, journal, random.Random(n)) for n in range(WRITERS)]
            running = [asyncio.create_task(w.run(client, stop)) for w in writers]
            while sum(w.acked for w in writers) < 100:
                await asyncio.sleep(0.01)  # another process: there is nothing to wait on
            server.signal(signal.SIGTERM)
            code = await server.wait()
            stop.set()
            await asyncio.gather(*running)
        assert code == 0
        await server.start()
        async with server.client() as client:
            assert await journalled(client, journal, "upsert", [MARKER]) == "ack"
            observed = await read_out(client)
        model.consume(journal.unread())
        model.check(observed, is_settled=True)
        assert model.violations == []
        # a request that the server had not read when it closed the connection is all that may be left open
        outcomes = [o.outcome for o in model.operations.values()]
        assert outcomes.count("unknown") <= WRITERS
        assert await server.stop() == 0
        assert server.errors() == []
    journal.close()
