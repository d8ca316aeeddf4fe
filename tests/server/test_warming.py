"""Warm-ups in the background: once at a time, a few at once, and gone when the server stops."""

import asyncio

import pytest

from elacsym.errors import Overloaded, StoreUnavailable
from elacsym.server import warming
from elacsym.server.warming import Warming
from elacsym.telemetry import REGISTRY


class Warmed:
    """Counts what is warmed; each goes on until `release` is set."""

    def __init__(self):
        self.begun, self.done, self.release = [], [], asyncio.Event()

    async def __call__(self, name):
        self.begun.append(name)
        await self.release.wait()
        self.done.append(name)


async def settle():
    for _ in range(20):
        await asyncio.sleep(0)


def count(outcome):
    return REGISTRY.get_sample_value("elacsym_warmings_total", {"outcome": outcome}) or 0


async def test_a_namespace_is_warmed_once_at_a_time():
    warm, under_way = Warmed(), Warming()
    assert under_way.begin("a", warm)
    await settle()
    assert not under_way.begin("a", warm)
    warm.release.set()
    await settle()
    assert warm.done == ["a"]
    assert under_way.begin("a", warm)
    await settle()
    assert warm.done == ["a", "a"]


async def test_a_few_are_warmed_at_once_and_the_rest_waits():
    warm, under_way = Warmed(), Warming()
    names = [f"n{i}" for i in range(5)]
    for name in names:
        under_way.begin(name, warm)
    await settle()
    assert warm.begun == names[:2]
    warm.release.set()
    await settle()
    assert warm.done == names


async def test_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(warming, "_WAITING_MAX", 3)
    warm, under_way = Warmed(), Warming()
    for name in "abc":
        under_way.begin(name, warm)
    with pytest.raises(Overloaded):
        under_way.begin("d", warm)
    assert not under_way.begin("a", warm)
    await under_way.close()


async def test_closing_stops_what_waits_and_what_runs():
    warm, under_way = Warmed(), Warming()
    for name in "abc":
        under_way.begin(name, warm)
    await settle()
    await under_way.close()
    warm.release.set()
    await settle()
    assert (warm.begun, warm.done) == (["a", "b"], [])


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), ValueError("a bug")])
async def test_a_failure_is_counted_and_does_not_block_the_next(error):
    async def fail(name):
        raise error

    before, under_way = count("failed"), Warming()
    under_way.begin("a", fail)
    await settle()
    assert count("failed") == before + 1
    warm = Warmed()
    warm.release.set()
    assert under_way.begin("a", warm)
    await settle()
    assert warm.done == ["a"]


async def test_a_warm_up_is_accepted_over_http(docs):
    before = count("done")
    response = await docs.get("/v1/namespaces/docs/hint_cache_warm")
    assert (response.status_code, response.json()["status"]) == (202, "ACCEPTED")
    assert "begun" in response.json()["message"]
    for _ in range(200):
        if count("done") > before:
            break
        await asyncio.sleep(0.01)
    assert count("done") == before + 1


async def test_there_is_nothing_to_warm_where_there_is_no_namespace(client):
    assert (await client.get("/v1/namespaces/none/hint_cache_warm")).status_code == 404
