"""Storages for servers of crash tests."""

from __future__ import annotations

import pytest
from crash.processes import moto_process
from crash.storages import in_bucket, in_folder


@pytest.fixture(scope="package")
def moto():
    """A moto server in its own process."""
    with moto_process() as moto:
        yield moto


@pytest.fixture(params=["folder", "bucket"])
def storage(request, tmp_path):
    """An empty folder, and an empty part of a bucket."""
    if request.param == "folder":
        return in_folder(tmp_path / "data")
    return in_bucket(request.getfixturevalue("moto").server, tmp_path.name)
