"""Opens a real database for tests: memory store by default, inline compute, small log limits."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import numpy as np

from elacsym.clock import SystemClock
from elacsym.compute import InlineCompute
from elacsym.engine.build import InlineBuilder
from elacsym.engine.database import Database
from elacsym.engine.namespace import EngineSettings, Services
from elacsym.engine.request import Document, WriteRequest
from elacsym.engine.tuning import Tuning
from elacsym.log.settings import LogSettings
from elacsym.store.cache import ObjectCache
from elacsym.store.memory import MemoryStore
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

TEXT = FullText(stemming=True, remove_stopwords=True)


# retries without real waiting
FAST = EngineSettings(
    log=LogSettings(retry_base_s=0.0005, retry_cap_s=0.002, swap_attempts=6, store_attempts=4)
)


async def open_database(
    store=None, *, cache_path: Path, clock=None, settings=None, seed: int = 1
) -> Database:
    store = store or MemoryStore()
    compute = InlineCompute()
    cache = ObjectCache(store, compute=compute, folder=cache_path)
    services = Services(
        store,
        cache,
        compute,
        clock or SystemClock(),
        random.Random(seed),
        settings or FAST,
        "test",
        InlineBuilder(compute),
        Tuning(random.Random(seed)),
    )
    return Database(services)


def schema(dimensions: int = 8, metric: Metric = Metric.L2) -> Schema:
    return Schema(
        None,
        metric,
        {
            "vector": Attribute(AttributeType.parse(f"[{dimensions}]f32"), filterable=False),
            "text": Attribute(AttributeType.parse("string"), full_text=TEXT),
            "year": Attribute(AttributeType.parse("int")),
            "tags": Attribute(AttributeType.parse("[]string")),
        },
    )


WORDS = ["copper", "kettle", "boiling", "water", "tea", "leaf", "mountain", "river", "stone", "bridge"]


def document(id_, rng: np.random.Generator, dimensions: int = 8) -> Document:
    words = rng.choice(WORDS, size=int(rng.integers(1, 12)))
    return Document(
        id_,
        {
            "vector": rng.standard_normal(dimensions).astype(np.float32),
            "text": " ".join(words),
            "year": int(rng.integers(1990, 2030)),
            "tags": [str(t) for t in rng.choice(WORDS, size=2)],
        },
    )


def upsert(*documents: Document) -> WriteRequest:
    return WriteRequest(upserts=documents)


class CountingCompute(InlineCompute):
    """Counts what would run in the pool, by the name of the function."""

    def __init__(self):
        self.runs = Counter()

    async def run(self, fn, *args, **kwargs):
        self.runs[fn.__name__] += 1
        return await super().run(fn, *args, **kwargs)


class HeldCompute:
    """Runs nothing until it is let."""

    def __init__(self):
        self.may_run = asyncio.Event()
        self.runs = self.waits = 0

    @property
    def bulk(self):
        return self

    async def run(self, fn, *args):
        if fn.__name__ == "_advanced":
            return fn(*args)
        self.waits += 1
        await self.may_run.wait()
        self.runs += 1
        return fn(*args)
