"""A database over any store, with small limits."""

from __future__ import annotations

import pytest
from support.database import open_database


@pytest.fixture
async def database(tmp_path):
    db = await open_database(cache_path=tmp_path / "cache")
    yield db
    await db.close()
