"""All scenarios by name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from v2.scenarios.trial import SCENARIOS

FOLDER = Path(__file__).parent / "scenarios"

for _module in sorted(path.stem for path in FOLDER.glob("*.py")):
    import_module(f"v2.scenarios.{_module}")

__all__ = ["SCENARIOS"]
