"""Both kinds of client, against servers that answer as the test says."""

import random

import httpx
import pytest
from support.clocks import ManualClock

from elacsym.client import ApiError, AsyncClient, Client


@pytest.fixture(params=["sync", "async"])
def kind(request):
    """Which kind of client."""
    return request.param


@pytest.fixture
def call(kind):
    """`await call(script, method, *args, **kwargs)` on a fresh client of either kind."""

    async def run(script, method, *args, client=None, **kwargs):
        (value,) = await talk_to(kind, script, [(method, args, kwargs)], client or {})
        if isinstance(value, ApiError):
            raise value
        return value

    return run


@pytest.fixture
def talk(kind):
    """`await talk(script, (method, args, kwargs), …, **options)` makes all calls on one client: what they
    gave, or their errors."""

    async def run(script, *steps, **options):
        return await talk_to(kind, script, steps, options)

    return run


async def talk_to(kind, script, steps, options):
    """Waiting moves the client's clock, and nothing else does."""
    clock = ManualClock()
    options = {"url": "http://node-a:3000", "rng": random.Random(7), "clock": clock} | options
    transport = httpx.MockTransport(script.answer)
    values = []

    def sleep(seconds):
        script.waits.append(seconds)
        clock.now_s += seconds

    async def sleep_async(seconds):
        sleep(seconds)

    if kind == "sync":
        with Client(transport=transport, sleep=sleep, **options) as client:
            for method, args, kwargs in steps:
                try:
                    values.append(getattr(client, method)(*args, **kwargs))
                except ApiError as error:
                    values.append(error)
        return values
    async with AsyncClient(transport=transport, sleep=sleep_async, **options) as client:
        for method, args, kwargs in steps:
            try:
                values.append(await getattr(client, method)(*args, **kwargs))
            except ApiError as error:
                values.append(error)
    return values
