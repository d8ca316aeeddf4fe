"""What every bench shares: a real server in its own process, figures with goals, a table, JSON.

A bench is a script, `python benches/NAME.py --json out.json`, where the project is installed by
`pip install -e '.[test]'`. It measures, makes a list of `Figure`, and ends with
`raise SystemExit(report(...))`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

STOP_S_MAX = 60.0


@dataclass(frozen=True)
class Server:
    """A running `elacsym serve`. stderr: the file its log goes to."""

    url: str
    process: subprocess.Popen[str]
    stderr: Path


@contextlib.contextmanager
def running_server(
    folder: Path, *, environment: Mapping[str, str] | None = None, **settings: object
) -> Iterator[Server]:
    """A server over `folder`, on a free port, for as long as the block runs; SIGTERM ends it.

    settings: by their names in `elacsym.config.Config`, `fold_slots=1`; storage is `folder/data` unless
    given. environment: further variables, such as AWS_*. ELACSYM_* variables of this process do not apply.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stderr = folder / "server.log"
    with stderr.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "elacsym.cli", "serve"],
            cwd=folder,
            env=_environment(folder, environment or {}, settings),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield Server(_announced_url(process, stderr), process, stderr)
    finally:
        _stop(process)


def _environment(folder: Path, extra: Mapping[str, str], settings: Mapping[str, object]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ELACSYM_")}
    defaults = {"storage": folder / "data", "cache_path": folder / "cache", "port": 0, "log_level": "warning"}
    chosen = {f"ELACSYM_{name.upper()}": str(value) for name, value in {**defaults, **settings}.items()}
    return inherited | dict(extra) | chosen


def _announced_url(process: subprocess.Popen[str], stderr: Path) -> str:
    """The address in the line that the server prints once it accepts requests."""
    assert process.stdout is not None
    # the pipe ends when the process does, so this waits for a hanging start only as long as the bench lives
    for line in process.stdout:
        found = re.search(r"http://\S+", line)
        if found:
            return found[0]
    raise RuntimeError(f"the server did not start: {stderr.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@dataclass(frozen=True)
class Figure:
    """One measured number. goal: in words, `≤ 3 ms`, empty where there is none; reached: None then.

    notes: further numbers for the JSON file.
    """

    name: str
    value: float
    goal: str = ""
    reached: bool | None = None
    unit: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The value with its unit, as people write it."""
        digits = f"{self.value:.4f}" if abs(self.value) < 1 else f"{self.value:,.4g}"
        if float(self.value).is_integer() or abs(self.value) >= 1_000:
            digits = f"{self.value:,.0f}"
        return f"{digits} {self.unit}".strip()


def machine() -> dict[str, Any]:
    """What the figures depend on: processor, cores, memory, system, interpreter."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        model = found[1].strip() if found else model
    memory_bytes = 0
    with contextlib.suppress(OSError, ValueError):  # not every system says
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30),
        "load_1_min": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def machine_line() -> str:
    """The machine in a few words, as RESULTS.md has it."""
    m = machine()
    return f"{m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, Python {m['python']}"


def command_line() -> str:
    """How this process was called, without folders of this machine."""
    words = [Path(word).name if os.sep in word else word for word in sys.argv[1:]]
    return " ".join(["python", f"benches/{Path(sys.argv[0]).name}", *map(shlex.quote, words)])


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; all columns but the first to the right."""
    shown = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        shown.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        shown.add_row(*map(str, row))
    # tables in files and pipes keep their columns
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def write_json(path: Path, figures: Sequence[Figure], **more: object) -> None:
    """The figures with date, command and machine."""
    body = {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "machine": machine(),
        "figures": [asdict(figure) for figure in figures],
        **more,
    }
    path.write_text(json.dumps(body, indent=1) + "\n")


def report(title: str, figures: Sequence[Figure], json_path: Path | None = None, **more: object) -> int:
    """Print the figures, write them if a path is given. Returns the exit code."""
    words = {True: "yes", False: "NO", None: ""}
    table(
        title,
        ("figure", "measured", "goal", "reached"),
        [(f.name, f.shown, f.goal, words[f.reached]) for f in figures],
    )
    if json_path is not None:
        write_json(json_path, figures, **more)
    return exit_code(figures)


def exit_code(figures: Sequence[Figure]) -> int:
    """1 if a goal was missed, else 0."""
    return int(any(figure.reached is False for figure in figures))


def wait_until(is_done: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    """Ask `is_done()` until it says yes: for what another process does in its own time."""
    end_s = time.monotonic() + timeout_s
    while not is_done():
        if time.monotonic() > end_s:
            raise RuntimeError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(0.05)


def options(description: str | None, *, data: bool = False) -> argparse.ArgumentParser:
    """The options that benches share: --json, --work and, with `data`, --data."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if data:
        parser.add_argument(
            "--data",
            type=Path,
            default=os.environ.get("ELACSYM_TEST_DATA"),
            required="ELACSYM_TEST_DATA" not in os.environ,
            help="the folder of the evaluation collections",
        )
    parser.add_argument("--work", type=Path, help="keep generated data and stores here for the next run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser


@contextlib.contextmanager
def working_folder(chosen: Path | None) -> Iterator[Path]:
    """`chosen`, made if need be, or a temporary folder beside the current one's files, so on a real disk."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        yield Path(name)
