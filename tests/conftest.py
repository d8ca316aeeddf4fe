"""Fixtures that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings
from support.s3_servers import ceph_server, moto_server

from elacsym.telemetry import configure_events

__all__ = ["ceph_server", "moto_server"]

# how long an example takes is up to what else the machine does
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def _quiet_events() -> Iterator[None]:
    """Every test begins with quiet logging, whatever the one before configured."""
    configure_events(level="critical", as_json=True)
    yield
    structlog.reset_defaults()
