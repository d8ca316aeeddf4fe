"""Idempotent bulk load: many batches at once; running it again, or half of it twice, stores nothing twice.

Start a server with `elacsym serve`, then run this file. Every batch has an idempotency key made of what
it holds, so that a batch whose answer was lost can be sent again, by this process or by the next one.
"""

import asyncio
import hashlib

import numpy as np

from elacsym.client import AsyncClient, Document, UnknownOutcomeError

DOCUMENTS, BATCH, DIMENSIONS, CONCURRENCY = 20_000, 1_000, 64, 4


def make_batch(start: int) -> list[Document]:
    """Documents `start` to `start + BATCH`, the same ones on every run."""
    vectors = np.random.default_rng(start).standard_normal((BATCH, DIMENSIONS), np.float32)
    return [
        {"id": start + i, "vector": vector, "attributes": {"shard": start // BATCH}}
        for i, vector in enumerate(vectors)
    ]


async def store(client: AsyncClient, gate: asyncio.Semaphore, start: int) -> int:
    """Store one batch. The client retries by itself; what it cannot settle is sent again under one key."""
    key = hashlib.sha256(f"bulk/{start}/{BATCH}".encode()).hexdigest()
    batch = make_batch(start)
    async with gate:
        try:
            return (await client.upsert("bulk", batch, idempotency_key=key)).count
        except UnknownOutcomeError:
            return (await client.upsert("bulk", batch, idempotency_key=key)).count


async def main() -> None:
    """Load everything twice and count."""
    async with AsyncClient("http://127.0.0.1:3000") as client:
        await client.create("bulk", {"vector_dim": DIMENSIONS, "vector_metric": "l2"})
        gate = asyncio.Semaphore(CONCURRENCY)
        for attempt in ("first", "second"):
            counts = await asyncio.gather(*(store(client, gate, s) for s in range(0, DOCUMENTS, BATCH)))
            info = await client.info("bulk")
            print(f"{attempt} load: {sum(counts):,} acknowledged, {info['documents']:,} documents stored")
        await client.delete_namespace("bulk")


asyncio.run(main())
