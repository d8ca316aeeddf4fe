"""A pytest plugin: a run that has to show every feature fails if some feature has no passing test.

It has to if `ELACSYM_REQUIRE_FEATURES` is 1, as in CI. A test that is skipped shows nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest


class Ledger:
    """Which features were shown by a test that passed."""

    def __init__(self, features: Iterable[str]) -> None:
        self._features = tuple(features)
        self._named: dict[str, tuple[str, ...]] = {}
        self.shown: set[str] = set()

    @property
    def missing(self) -> list[str]:
        """Features that nothing showed."""
        return [feature for feature in self._features if feature not in self.shown]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the markers."""
        for item in items:
            ids = [feature for mark in item.iter_markers("feature") for feature in mark.args]
            if ids:
                self._named[item.nodeid] = tuple(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what passed."""
        if report.when == "call" and report.passed:
            self.shown.update(self._named.get(report.nodeid, ()))

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run that passed, but did not show everything."""
        if self.missing and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what is missing."""
        if self.missing:
            terminalreporter.section("features that no test showed", red=True)
            terminalreporter.line(", ".join(self.missing))


def register(config: pytest.Config, features: Iterable[str]) -> None:
    """Take part in this run, if it has to show every feature."""
    if os.environ.get("ELACSYM_REQUIRE_FEATURES") == "1":
        config.pluginmanager.register(Ledger(features), "features")
