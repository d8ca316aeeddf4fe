"""The evaluation collections, where ELACSYM_TEST_DATA names their folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benches.reference import load_scorer


@pytest.fixture(scope="session")
def collections() -> Path:
    named = os.environ.get("ELACSYM_TEST_DATA")
    if not named:
        pytest.skip("ELACSYM_TEST_DATA is not set")
    folder = Path(named)
    if not (folder / "eval.py").is_file():
        reason = f"ELACSYM_TEST_DATA={named} has no eval.py"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def scorer(collections: Path):
    return load_scorer(collections)
