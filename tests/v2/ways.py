"""The ways of asking: versions of the client, sync and async, each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from v2.scenarios.trial import NEWEST, OLDEST

TESTS = Path(__file__).parents[1]
KEY = "a-key-of-tests"
MODES = ("sync", "async")


@dataclass(frozen=True)
class Way:
    """A version of the client, used in one of its two modes."""

    version: str
    mode: str

    def __str__(self) -> str:
        return f"{self.version}-{self.mode}"

    def __lt__(self, other: Way) -> bool:
        return str(self) < str(other)

    @property
    def path(self) -> str | None:
        """`PYTHONPATH` of an interpreter that finds this version; None if there is no such version here."""
        if self.version == NEWEST:
            return str(TESTS) if find_spec("turbopuffer") else None
        folder = os.environ.get("ELACSYM_TURBOPUFFER_2")
        return f"{folder}{os.pathsep}{TESTS}" if folder else None


WAYS = [Way(version, mode) for version in (OLDEST, NEWEST) for mode in MODES]


def run(way: Way, url: str, names: list[str]) -> dict[str, str | None]:
    """Run scenarios in this way against the server at `url`: what went wrong by name, None for nothing."""
    environment = os.environ | {"PYTHONPATH": way.path}
    prefix = f"{way}-{os.getpid()}"
    command = [sys.executable, "-m", "v2.run_scenarios", way.mode, url, KEY, prefix, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    results = {line["scenario"]: line["failure"] for line in lines}
    ended = f"the interpreter ended with {done.returncode}: {done.stderr[-3000:]}"
    return {name: results.get(name, ended) for name in names}
