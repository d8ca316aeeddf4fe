"""Store requests per acknowledged commit and per strong query, counted at the store.

python benches/costs.py [--json out.json]
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
from embedded import opened
from support import Figure, report

from elacsym.clock import SystemClock, system_random
from elacsym.engine.database import Database
from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.query.ast import Query, VectorLeg
from elacsym.store.base import ObjectStore
from elacsym.store.open import metered_of, open_store
from elacsym.types import Attribute, AttributeType, Metric, Schema

COMMITS = QUERIES = 50


async def counted() -> tuple[Counter[str], Counter[str]]:
    """Requests of COMMITS commits, and of QUERIES strong queries over a segment and a tail."""
    store = open_store("memory://", clock=SystemClock(), rng=system_random())
    async with opened(store) as database:
        return await _counted(database, store)


async def _counted(database: Database, store: ObjectStore) -> tuple[Counter[str], Counter[str]]:
    vector = Attribute(AttributeType.parse("[8]f32"), filterable=False)
    await database.create("bench", Schema(metric=Metric.L2, attributes={"vector": vector}))
    await database.write("bench", _documents(-1))
    await fold(await database.namespace("bench"))
    meter = metered_of(store)
    meter.reset()
    for number in range(COMMITS):
        await database.write("bench", _documents(number))
    commits = Counter(meter.counts)
    query = Query((VectorLeg("vector", np.zeros(8, np.float32)),))
    await database.query("bench", query)
    meter.reset()
    for _ in range(QUERIES):
        await database.query("bench", query)
    return commits, Counter(meter.counts)


def _documents(number: int) -> WriteRequest:
    vector = np.ones(8, np.float32)
    return WriteRequest(upserts=[Document((number + 1) * 10 + i, {"vector": vector}) for i in range(10)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    commits, queries = asyncio.run(counted())
    puts = sum(n for operation, n in commits.items() if operation.startswith("put"))
    gets = sum(n for operation, n in commits.items() if operation.startswith("get"))
    reads = sum(n for operation, n in queries.items() if operation.startswith("get"))
    lists = commits["list"] + queries["list"]
    figures = [
        Figure("PUTs per commit", puts / COMMITS, "≤ 1", puts <= COMMITS, notes=dict(commits)),
        Figure("conditional GETs per commit", gets / COMMITS, "≤ 1", gets <= COMMITS and not commits["get"]),
        Figure("GETs per strong query", reads / QUERIES, "≤ 2", reads <= 2 * QUERIES, notes=dict(queries)),
        Figure("LISTs", lists, "0", lists == 0),
    ]
    return report("store requests", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
