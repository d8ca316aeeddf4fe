"""`docs/compatibility.md`, built from the table of features and the markers of the tests.

PYTHONPATH=tests python -m v2.compatibility            write the page
PYTHONPATH=tests python -m v2.compatibility --check    exit with 1 if it is not up to date
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from v2.catalogue import SCENARIOS
from v2.features import FEATURES, Status

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs/compatibility.md"
HEAD = """\
# Compatibility with the turbopuffer API

What the official `turbopuffer` client is promised, feature by feature. This page is generated from the
markers of the tests (`PYTHONPATH=tests python -m v2.compatibility`), and CI fails if it is out of date or if
a feature has no passing test.

Tests in italics are scenarios of `tests/v2/scenarios/`: each runs with the client's versions 2.8.0 and 3.1.0,
sync and async, against a real server process. The others are named by file. What differs from the original
service, and why, is in [v2.md](v2.md).
"""
MEANING = {
    Status.COMPLETE: "works as described",
    Status.REFUSED: "answered with an error: it takes models, keys or regions of a cloud",
    Status.SHOWN: "taken, kept and shown, without effect",
}


def marked(source: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The test functions of a module that have a marker `feature`, and its arguments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.feature":
                    yield node.name, tuple(ast.literal_eval(argument) for argument in mark.args)


def named_tests() -> dict[str, list[str]]:
    """The tests of every feature, as the page names them: scenarios first, then by file.

    Raises ValueError for a marker with an id that is no feature.
    """
    found: dict[str, list[str]] = {feature: [] for feature in FEATURES}
    named = [(f"*{scenario.name.replace('_', ' ')}*", scenario.features) for scenario in SCENARIOS.values()]
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "mark.feature(" in text:
            where = path.relative_to(TESTS)
            named += [(f"`{where}::{name}`", features) for name, features in marked(text)]
    for name, features in named:
        for feature in features:
            if feature not in found:
                raise ValueError(f"{name} is marked with {feature}, which is no feature")
            found[feature].append(name)
    return found


def page() -> str:
    """The whole page. Raises ValueError if a feature has no test."""
    found = named_tests()
    untested = [feature for feature, tests in found.items() if not tests]
    if untested:
        raise ValueError(f"no test is marked with {', '.join(untested)}")
    lines = [HEAD, "| status | features | meaning |", "| --- | --- | --- |"]
    for status in Status:
        count = sum(feature.status is status for feature in FEATURES.values())
        lines.append(f"| {status} | {count} | {MEANING[status]} |")
    for group, features in groupby(FEATURES.values(), key=lambda feature: feature.group):
        lines += ["", f"## {group}", "", "| ID | feature | status | tests |", "| --- | --- | --- | --- |"]
        for feature in features:
            tests = ", ".join(
                name.replace("_", "\\_") if name[0] == "*" else name for name in found[feature.id]
            )
            lines.append(f"| {feature.id} | {feature.text} | {feature.status} | {tests} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """The exit code."""
    wanted = page()
    if "--check" in arguments:
        is_current = PAGE.exists() and PAGE.read_text() == wanted
        if not is_current:
            print(f"{PAGE} is out of date: PYTHONPATH=tests python -m v2.compatibility", file=sys.stderr)
        return not is_current
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
