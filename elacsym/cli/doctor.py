"""`doctor`: whether a node would run well here. Settings, store, versions, file descriptors, disk space."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import typer
from rich.markup import escape

from elacsym import __version__
from elacsym.cli.storage import on_store
from elacsym.cli.terminal import (
    EXIT_PROBLEM,
    AsJson,
    ConfigFile,
    Storage,
    out,
    print_json,
    show_size,
    table,
)
from elacsym.clock import system_random
from elacsym.config import Config
from elacsym.errors import ElacsymError
from elacsym.store.probe import probe

# every file of an open segment keeps one while it is mapped; `serve` raises its own limit to the hard one
DESCRIPTORS_MIN = 4_096
FREE_BYTES_MIN = 2**30
LIBRARIES = (
    "aiobotocore",
    "faiss-cpu",
    "httptools",
    "httpx",
    "numpy",
    "orjson",
    "pyarrow",
    "starlette",
    "tantivy",
    "typer",
    "uvicorn",
    "uvloop",
)

Verdict = Literal["ok", "warning", "problem"]
_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    verdict: Verdict
    detail: str


def doctor(storage: Storage = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Check store, settings, versions and limits of this machine. Exit code 1 if there is a problem.

    The store is proved by writing a few small objects under a prefix of their own, which are deleted again.
    """
    settings = Config.load({"storage": storage}, config_path=config)
    findings = [*_of_machine(), *_of_settings(settings), *_of_folders(settings), _of_store(settings)]
    versions = {name: _version(name) for name in LIBRARIES}
    if as_json:
        print_json(
            {
                "findings": [asdict(f) for f in findings],
                "settings": settings.describe(),
                "libraries": versions,
            }
        )
    else:
        _print(findings, settings, versions)
    if any(f.verdict == "problem" for f in findings):
        raise typer.Exit(EXIT_PROBLEM)


def _of_machine() -> Iterator[Finding]:
    yield Finding("elacsym", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_implementation()} {platform.python_version()}")
    yield Finding("platform", "ok", platform.platform())
    if sys.platform != "win32":
        import resource

        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        enough = limit == resource.RLIM_INFINITY or limit >= DESCRIPTORS_MIN
        shown = "no limit" if limit == resource.RLIM_INFINITY else f"at most {limit:,}"
        hint = "" if enough else f"; {DESCRIPTORS_MIN:,} at least are good, see ulimit -Hn"
        yield Finding("file descriptors", "ok" if enough else "warning", shown + hint)


def _of_settings(settings: Config) -> Iterator[Finding]:
    for warning in settings.warnings:
        yield Finding("settings", "warning", warning)
    try:
        settings.check_listener()
    except ElacsymError as error:
        yield Finding("listener", "problem", str(error))
    else:
        who = (
            "everybody, without a key"
            if settings.is_open_to_all
            else "keys"
            if settings.api_keys
            else "this machine"
        )
        verdict: Verdict = "warning" if settings.is_open_to_all else "ok"
        yield Finding("listener", verdict, f"{settings.host}:{settings.port}, open to {who}")


def _of_folders(settings: Config) -> Iterator[Finding]:
    folders = {"cache": settings.cache_path}
    if not settings.storage.startswith("s3://"):
        folders["storage"] = settings.storage.removeprefix("file://")
    for what, folder in folders.items():
        try:
            free = shutil.disk_usage(_existing(Path(folder))).free
        except OSError as error:
            yield Finding(f"disk of {what}", "problem", f"{folder}: {error.strerror}")
            continue
        verdict: Verdict = "ok" if free >= FREE_BYTES_MIN else "warning"
        yield Finding(f"disk of {what}", verdict, f"{show_size(free)} free for {folder}")


def _of_store(settings: Config) -> Finding:
    try:
        report = on_store(settings, lambda store: probe(store, system_random()))
    except ElacsymError as error:
        return Finding("store", "problem", f"{settings.storage}: {error}")
    failed = [f"{check.name}: {check.failure}" for check in report.checks if not check.passed]
    if failed:
        return Finding("store", "problem", f"{report.identity}: {'; '.join(failed)}")
    etags = f", ETags {report.etag_style}" if report.etag_style else ""
    return Finding("store", "ok", f"{report.identity} honours conditional writes{etags}")


def _existing(path: Path) -> Path:
    """The path or the nearest folder above it that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _print(findings: list[Finding], settings: Config, versions: dict[str, str]) -> None:
    made = table("findings", "what", "verdict", "detail")
    for f in findings:
        made.add_row(f.what, f"[{_STYLES[f.verdict]}]{f.verdict}[/]", escape(f.detail))
    out.print(made)
    shown = table("settings", "setting", "value")
    for name, value in settings.describe().items():
        shown.add_row(name, escape(str(value)))
    out.print()
    out.print(shown)
    libraries = table("libraries", "name", "version")
    for name, version in versions.items():
        libraries.add_row(name, version)
    out.print()
    out.print(libraries)
