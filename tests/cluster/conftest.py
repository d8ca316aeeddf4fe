"""Storages for clusters."""

from __future__ import annotations

import pytest
from crash.processes import moto_process


@pytest.fixture(scope="package")
def moto():
    """A moto server in its own process."""
    with moto_process() as moto:
        yield moto
