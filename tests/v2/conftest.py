"""A real server process, and what scenarios gave with every version of the official client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from crash.processes import ServerProcess
from v2.catalogue import SCENARIOS
from v2.ways import KEY, WAYS, Way, run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario with every way of asking is a test of its own."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize(
            ("scenario", "way"),
            [
                pytest.param(
                    found.name, way, id=f"{found.name}-{way}", marks=pytest.mark.feature(*found.features)
                )
                for found in SCENARIOS.values()
                for way in WAYS
                if way.version >= found.since
            ],
        )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`elacsym serve` on an empty folder, with one key."""
    folder = tmp_path_factory.mktemp("v2")
    process = ServerProcess(folder / "server", str(folder / "data"), api_keys=KEY)
    asyncio.run(process.start())
    try:
        yield process
        # whatever was asked, a fault of the server it was not
        assert process.errors() == []
    finally:
        process.kill()


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """A plain client with the key."""
    headers = {"Authorization": f"Bearer {KEY}", "Accept-Encoding": "identity"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest, server: ServerProcess) -> dict[Way, dict[str, str | None]]:
    """What went wrong by way and scenario (None: nothing), of all scenarios that this session asks for."""
    wanted: dict[Way, list[str]] = {}
    for item in request.session.items:
        chosen = getattr(item, "callspec", None)
        if chosen is not None and "way" in chosen.params and chosen.params["way"].path is not None:
            wanted.setdefault(chosen.params["way"], []).append(chosen.params["scenario"])
    with ThreadPoolExecutor(len(WAYS)) as pool:
        running = {way: pool.submit(run, way, server.url, names) for way, names in wanted.items()}
        return {way: future.result() for way, future in running.items()}
