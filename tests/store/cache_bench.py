"""A counted, faulty store with one blob in it, and caches of it over one folder."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from elacsym.format import blob
from elacsym.format.blob import UNIT_BYTES
from elacsym.format.manifest import FileRef
from elacsym.store.blocks import BlockFile
from elacsym.store.cache import ObjectCache
from elacsym.store.faults import FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.telemetry import REGISTRY

KEY = "ns/00/docs/ab/seg/job1/vector.v"


def sample(units: int = 40, seed: int = 0, eager_bytes: int = 1000) -> tuple[bytes, FileRef]:
    """A blob of about this many units of random bytes, and its reference."""
    rng = np.random.default_rng(seed)
    sections = {
        "eager": rng.integers(0, 256, eager_bytes, np.uint8),
        "rows": rng.integers(0, 256, units * UNIT_BYTES - 2000, np.uint8),
    }
    data = blob.encode(sections, {"kind": "sample"}, eager=["eager"])
    return data, FileRef.of("vector.v", data)


DATA, REF = sample()


class ManualClock:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_ms(self) -> int:
        return int(self.now_s * 1000)


class Bench:
    """`base` holds `DATA` at `KEY`; `asked` are the ranges that the store was asked for."""

    def __init__(self, folder: Path, compute) -> None:
        self.folder, self._compute = folder, compute
        self.base = Asked()
        self.faulty = FaultyStore(self.base, random.Random(0))
        self.store = MeteredStore(self.faulty)
        self.clock = ManualClock()
        self._caches: list[ObjectCache] = []

    def cache(self, **options) -> ObjectCache:
        options = {"folder": self.folder, "compute": self._compute, "clock": self.clock, **options}
        self._caches.append(ObjectCache(self.store, **options))
        return self._caches[-1]

    async def put(self, key: str, units: int = 40, seed: int = 0) -> tuple[bytes, FileRef]:
        data, ref = sample(units, seed)
        await self.base.put_if_absent(key, data)
        return data, ref

    async def close(self) -> None:
        for cache in self._caches:
            await cache.close()

    @property
    def asked(self) -> list[tuple[int, int]]:
        return self.base.asked

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir())


class Asked(MemoryStore):
    """Remembers which ranges it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, int]] = []

    async def get_ranges(self, key, ranges, *, gap_bytes=0):
        self.asked += ranges
        return await super().get_ranges(key, ranges, gap_bytes=gap_bytes)


def unit_span(unit: int, ref: FileRef = REF) -> tuple[int, int]:
    start = ref.head_bytes + unit * UNIT_BYTES
    return start, min(start + UNIT_BYTES, ref.size_bytes)


async def brought(file: BlockFile, *spans: tuple[int, int], data: bytes = DATA, gap_bytes: int = 0) -> None:
    """Bring ranges and look at them."""
    await file.bring(list(spans), gap_bytes)
    for start, stop in spans:
        assert file.has(start, stop)
        assert bytes(file.data[start:stop]) == data[start:stop]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def lookups(tier: str, outcome: str) -> float:
    return metric("elacsym_cache_requests_total", tier=tier, outcome=outcome)
