from __future__ import annotations

import pytest
from contract import ObjectStoreContract

from elacsym.store.local import LocalStore


class TestLocalStore(ObjectStoreContract):
    @pytest.fixture
    async def store(self, tmp_path):
        store = LocalStore(tmp_path / "data")
        yield store
        await store.close()
