from __future__ import annotations

import pytest
from contract import ObjectStoreContract

from elacsym.store.memory import MemoryStore


class TestMemoryStore(ObjectStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
