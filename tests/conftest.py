"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings
from support.s3_servers import ceph_server, moto_server
from v2.features import FEATURES
from v2.ledger import register

from elacsym.telemetry import configure_events

__all__ = ["ceph_server", "moto_server"]

# how long an example takes is up to what else the machine does
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    """Note which features of the v2 API are shown."""
    register(config, FEATURES)


@pytest.fixture(autouse=True)
def _quiet_events() -> Iterator[None]:
    """Every test begins with quiet logging, whatever the one before configured."""
    configure_events(level="critical", as_json=True)
    yield
    structlog.reset_defaults()
