"""Branching a large namespace with a long unfolded tail: requests, bytes and time; nothing may be copied.

    python benches/branch.py [--documents 1000000] [--tail-mib 64] [--json out.json]

One namespace of so many documents with a vector of 64 dimensions lies in segments, and a log tail of so many
MiB behind them, a part of which replaces documents of the segments. In one process over a folder, without a
server: branches are made of the open namespace, which has been queried, one after the other; then the first
query of each is asked, which reads the tail once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from benches.embedded import DOCUMENTS_PER_WRITE, fill, folder_store, opened
from benches.support import Figure, options, report, working_folder
from elacsym.engine.database import Database
from elacsym.engine.request import Document, WriteRequest
from elacsym.query.ast import Query, VectorLeg
from elacsym.store.base import Etag
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import Attribute, AttributeType, Metric, Schema

DIMENSIONS, SOURCE, BRANCHES = 64, "source", 9
PUTS_MAX, BRANCH_MS_MAX, REPLACED_SHARE = 6, 100.0, 0.2
SCHEMA = Schema(
    None,
    Metric.L2,
    {
        "vector": Attribute(AttributeType.parse(f"[{DIMENSIONS}]f32"), filterable=False),
        "n": Attribute(AttributeType.parse("int")),
    },
)


class Counted(StoreWrapper):
    """Counts what is written."""

    puts = size_bytes = 0

    async def put_if_absent(self, key: str, data: bytes) -> Etag | None:
        """See ObjectStore."""
        self._count(data)
        return await self.inner.put_if_absent(key, data)

    async def put_if_match(self, key: str, data: bytes, etag: Etag) -> Etag | None:
        """See ObjectStore."""
        self._count(data)
        return await self.inner.put_if_match(key, data, etag)

    def reset(self) -> None:
        """Start counting anew."""
        self.puts = self.size_bytes = 0

    def _count(self, data: bytes) -> None:
        self.puts += 1
        self.size_bytes += len(data)


def made(ids: Iterator[int] | range, rng: np.random.Generator) -> Iterator[Document]:
    """Documents of these ids."""
    for id_ in ids:
        yield Document(id_, {"vector": rng.standard_normal(DIMENSIONS).astype(np.float32), "n": id_})


async def grow_tail(database: Database, documents: int, tail_bytes: int) -> int:
    """Write until the tail is so long; how many documents there are then."""
    reader = (await database.namespace(SOURCE)).reader
    rng, draw, known = np.random.default_rng(2), random.Random(2), documents
    while reader.unfolded_bytes < tail_bytes:
        replaced = int(DOCUMENTS_PER_WRITE * REPLACED_SHARE)
        ids = draw.sample(range(documents), replaced)
        ids += range(known, known + DOCUMENTS_PER_WRITE - replaced)
        known += DOCUMENTS_PER_WRITE - replaced
        await database.write(SOURCE, WriteRequest(upserts=list(made(iter(ids), rng))))
    return known


def nearest() -> Query:
    """A query for ten neighbours of a random vector."""
    vector = np.random.default_rng(3).standard_normal(DIMENSIONS).astype(np.float32)
    return Query(legs=(VectorLeg("vector", vector),), top_k=10)


@asynccontextmanager
async def filled(
    folder: Path, documents: int, tail_bytes: int
) -> AsyncIterator[tuple[Database, Counted, int]]:
    """The database, its store, and the number of documents of the namespace."""
    store = Counted(folder_store(folder))
    async with opened(store) as database:
        await fill(database, SOURCE, SCHEMA, made(range(documents), np.random.default_rng(1)))
        known = await grow_tail(database, documents, tail_bytes)
        await database.query(SOURCE, nearest())
        yield database, store, known


async def measure(folder: Path, documents: int, tail_bytes: int) -> list[Figure]:
    """All figures."""
    async with filled(folder, documents, tail_bytes) as (database, store, known):
        branch_ms, query_ms, puts, written = [], [], [], []
        for number in range(BRANCHES):
            store.reset()
            began_s = time.perf_counter()
            count = await database.branch(SOURCE, f"branch-{number}")
            branch_ms.append(1_000 * (time.perf_counter() - began_s))
            puts.append(store.puts)
            written.append(store.size_bytes)
            assert count == known, f"{count} documents where the source has {known}"
        for number in range(BRANCHES):
            began_s = time.perf_counter()
            result = await database.query(f"branch-{number}", nearest())
            query_ms.append(1_000 * (time.perf_counter() - began_s))
            assert [h.id for h in result.hits] == [
                h.id for h in (await database.query(SOURCE, nearest())).hits
            ]
        info = await database.info(SOURCE)
    slowest = max(branch_ms)
    return [
        Figure("documents", known, notes={"segments": info.segments, "tail_bytes": info.tail_bytes}),
        Figure("requests that write, per branch", max(puts), f"≤ {PUTS_MAX}", max(puts) <= PUTS_MAX),
        Figure("bytes written, per branch", max(written), "no data", max(written) < info.segment_bytes / 100),
        Figure("a branch, median", float(np.median(branch_ms)), unit="ms"),
        Figure("a branch, slowest", slowest, f"< {BRANCH_MS_MAX:g} ms", slowest < BRANCH_MS_MAX, "ms"),
        Figure("first query of a branch, median", float(np.median(query_ms)), unit="ms"),
    ]


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--tail-mib", type=float, default=64.0)
    arguments = parser.parse_args()
    with working_folder(arguments.work) as work:
        figures = asyncio.run(measure(work / "branch", arguments.documents, int(arguments.tail_mib * 2**20)))
    return report("branching", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
