from __future__ import annotations

import asyncio
import random

import pytest
from contract import ObjectStoreContract

from elacsym.errors import StoreUnavailable
from elacsym.store.faults import FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.telemetry import REGISTRY


class TestMeteredStore(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        return MeteredStore(MemoryStore())


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def gets(outcomes: tuple[str, ...]) -> dict[str, float]:
    return {o: metric("elacsym_store_operations_total", operation="get", outcome=o) for o in outcomes}


async def test_requests_are_counted_by_operation():
    store = MeteredStore(MemoryStore())
    etag = await store.put_if_absent("a", b"1")
    await store.get("a")
    await store.get("b")
    await store.get_if_changed("a", etag)
    [row async for row in store.list("")]
    assert store.counts == {"put_if_absent": 1, "get": 2, "get_if_changed": 1, "list": 1}
    store.reset()
    assert not store.counts


async def test_requests_sent_together_are_one_round():
    store = MeteredStore(FaultyStore(MemoryStore(), random.Random(0)))
    await asyncio.gather(*(store.get(f"k{i}") for i in range(8)))
    assert store.rounds == 1
    await store.get("a")
    assert (store.rounds, store.counts["get"]) == (2, 9)


async def test_outcomes_bytes_and_errors_reach_the_metrics():
    faulty = FaultyStore(MemoryStore(), random.Random(0))
    store = MeteredStore(faulty)
    outcomes = ("ok", "missing", "error")
    before = gets(outcomes)
    bytes_before = metric("elacsym_store_bytes_total", direction="in")
    await store.put_if_absent("a", b"12345")
    await store.get("a")
    await store.get("b")
    faulty.is_down = True
    with pytest.raises(StoreUnavailable):
        await store.get("a")
    after = gets(outcomes)
    assert {o: after[o] - before[o] for o in outcomes} == {"ok": 1, "missing": 1, "error": 1}
    assert metric("elacsym_store_bytes_total", direction="in") - bytes_before == 5
