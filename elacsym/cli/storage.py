"""`inspect` and `scrub`: what lies in the storage, read directly: without a server, without a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from elacsym.cli.terminal import (
    EXIT_PROBLEM,
    AsJson,
    CommandError,
    ConfigFile,
    Namespace,
    Storage,
    out,
    print_json,
    show_size,
    table,
)
from elacsym.clock import system_random
from elacsym.compute import ThreadCompute
from elacsym.config import Config
from elacsym.errors import CorruptObject, NamespaceNotFound
from elacsym.format.keys import CLUSTER, NamespaceKeys, seq_of_wal
from elacsym.format.manifest import Manifest, State
from elacsym.format.wal_entry import WalEntry
from elacsym.log import catalog
from elacsym.log.manifest_file import ManifestFile
from elacsym.server.node import open_config_store
from elacsym.store.base import ObjectInfo, ObjectStore
from elacsym.upkeep.scrub import ScrubReport, scrub

T = TypeVar("T")

Limit = Annotated[int, typer.Option(min=0, help="Log entries that are read and shown; the rest is counted.")]


def on_store(settings: Config, work: Callable[[ObjectStore], Awaitable[T]]) -> T:
    """What `work` makes of the store that the settings name; the store is closed afterwards."""

    async def run() -> T:
        store = open_config_store(settings)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def on_data(settings: Config, work: Callable[[ObjectStore], Awaitable[T]]) -> T:
    """`on_store` for a storage that a node has written to.

    Raises CommandError for any other: a mistyped name must not pass for a healthy empty storage, nor be made.
    """
    location = settings.storage
    nothing = CommandError(f"storage {location}: no node has ever written here")
    if not location.startswith("s3://") and not Path(location.removeprefix("file://")).is_dir():
        raise nothing

    async def checked(store: ObjectStore) -> T:
        if await store.get(CLUSTER) is None:
            raise nothing
        return await work(store)

    return on_store(settings, checked)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One slot of the tail. `kind` is an error where the object cannot be read."""

    seq: int
    kind: str
    epoch: int | None
    writer: str
    batches: int
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the storage says about a namespace. `tail` has the first log entries, the sums have all."""

    manifest: Manifest
    manifest_bytes: int
    tail: tuple[LogLine, ...]
    tail_slots: int
    tail_bytes: int

    def to_json(self) -> dict[str, Any]:
        """A JSON form for programs."""
        manifest = self.manifest
        return {
            "name": manifest.name,
            "incarnation": manifest.inc,
            "state": manifest.state,
            "generation": manifest.generation,
            "applied": manifest.applied,
            "epoch": manifest.epoch,
            "rows_live": manifest.rows_live,
            "manifest_bytes": self.manifest_bytes,
            "schema": manifest.schema.to_json(),
            "segments": [asdict(s) | {"rows_live": s.rows_live} for s in manifest.segments],
            "intents": [asdict(i) for i in manifest.intents],
            "pins": [asdict(pin) for pin in manifest.pins],
            "bases": [asdict(base) for base in manifest.bases],
            "tail_slots": self.tail_slots,
            "tail_bytes": self.tail_bytes,
            "tail": [asdict(line) for line in self.tail],
        }


async def look(store: ObjectStore, name: str, limit: int) -> Inspection:
    """Read the manifest and the log after it, at most `limit` entries of it. Raises NamespaceNotFound."""
    catalog.check_name(name)
    loaded = await ManifestFile(store, name, system_random()).load()
    if loaded is None or loaded.manifest.state is State.DELETED:
        raise NamespaceNotFound(name)
    manifest = loaded.manifest
    homes = dict.fromkeys((*(base.home for base in manifest.bases), manifest.home))
    slots = [
        info
        for home in homes
        async for info in store.list(NamespaceKeys(home.name).wal_prefix(home.inc))
        if (seq := seq_of_wal(info.key) or 0) >= manifest.applied and manifest.home_of_slot(seq) == home
    ]
    lines = [await _log_line(store, info) for info in slots[:limit]]
    size_bytes = len(manifest.encode())
    return Inspection(manifest, size_bytes, tuple(lines), len(slots), sum(s.size_bytes for s in slots))


async def _log_line(store: ObjectStore, info: ObjectInfo) -> LogLine:
    seq = seq_of_wal(info.key) or 0
    try:
        found = await store.get(info.key)
        if found is None:
            return LogLine(seq, "collected meanwhile", None, "", 0, 0, 0)
        entry = WalEntry.decode(found.data, key=info.key)
    except CorruptObject as error:
        return LogLine(seq, f"damaged: {error.reason}", None, "", 0, 0, info.size_bytes)
    rows = sum(batch.rows for batch in entry.batches)
    return LogLine(seq, entry.kind, entry.epoch, entry.writer, len(entry.batches), rows, len(found.data))


def inspect(
    namespace: Namespace,
    storage: Storage = None,
    config: ConfigFile = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Show manifest, segments and log of a namespace as they lie in the storage."""
    settings = Config.load({"storage": storage}, config_path=config)
    inspection = on_data(settings, lambda store: look(store, namespace, limit))
    if as_json:
        print_json(inspection.to_json())
        return
    out.print(_summary(inspection))
    if inspection.manifest.segments:
        out.print()
        out.print(_segments(inspection.manifest))
    if inspection.tail_slots:
        out.print()
        out.print(_tail(inspection))


def _summary(inspection: Inspection) -> Table:
    manifest = inspection.manifest
    made = table(f"namespace {escape(manifest.name)}", "manifest", "")
    segment_bytes = sum(s.size_bytes for s in manifest.segments)
    rows = {
        "state": str(manifest.state),
        "incarnation": manifest.inc,
        "generation": str(manifest.generation),
        "epoch": str(manifest.epoch),
        "size": show_size(inspection.manifest_bytes),
        "live rows in segments": f"{manifest.rows_live:,}",
        "segments": f"{len(manifest.segments)} with {show_size(segment_bytes)}",
        "log": f"{inspection.tail_slots} slots from {manifest.applied}, {show_size(inspection.tail_bytes)}",
        "log begins in": ", ".join(f"{b.home.name} below {b.end}" for b in manifest.bases) or "itself",
        "pinned by": ", ".join(dict.fromkeys(pin.holder for pin in manifest.pins)) or "nobody",
        "jobs under way": ", ".join(f"{i.kind} {i.job}" for i in manifest.intents) or "none",
        "id type": manifest.schema.id_type or "not known yet",
        "metric": str(manifest.schema.metric or "none"),
        "attributes": ", ".join(f"{name} {a.type}" for name, a in manifest.schema.attributes.items())
        or "none",
    }
    for name, value in rows.items():
        made.add_row(name, escape(value))
    return made


def _segments(manifest: Manifest) -> Table:
    numeric = ("rows", "live", "level", "size", "slots")
    columns = ("job", "home", "rows", "live", "level", "slots", "size", "files")
    made = table("segments", *columns, numeric=numeric)
    for segment in manifest.segments:
        files = ", ".join(f"{f.part} {show_size(f.size_bytes)}" for f in segment.files)
        made.add_row(
            segment.job,
            escape((segment.home or manifest.home).name),
            f"{segment.rows:,}",
            f"{segment.rows_live:,}",
            str(segment.level),
            f"{segment.seq_min}…{segment.seq_max}",
            show_size(segment.size_bytes),
            escape(files),
        )
    return made


def _tail(inspection: Inspection) -> Table:
    numeric = ("seq", "epoch", "requests", "rows", "size")
    made = table("log", "seq", "kind", "epoch", "requests", "rows", "size", "writer", numeric=numeric)
    for line in inspection.tail:
        made.add_row(
            str(line.seq),
            escape(line.kind),
            "" if line.epoch is None else str(line.epoch),
            str(line.batches),
            f"{line.rows:,}",
            show_size(line.size_bytes),
            escape(line.writer),
        )
    hidden = inspection.tail_slots - len(inspection.tail)
    if hidden:
        made.add_row("…", f"{hidden:,} more")
    return made


def scrub_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Namespaces; none: all of them.", show_default=False)
    ] = None,
    storage: Storage = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Read every object again and verify every checksum. Exit code 1 if something is damaged."""
    settings = Config.load({"storage": storage}, config_path=config)
    reports = on_data(settings, lambda store: _scrub_all(store, names or ()))
    if as_json:
        print_json([asdict(report) for report in reports])
    else:
        _print_reports(reports)
    if any(report.problems for report in reports):
        raise typer.Exit(EXIT_PROBLEM)


async def _scrub_all(store: ObjectStore, names: Sequence[str]) -> list[ScrubReport]:
    found, cursor = list(names), None
    while not names:
        page, cursor = await catalog.list_names(store, cursor=cursor, page_size=1000)
        found += page
        if cursor is None:
            break
    compute = ThreadCompute()
    try:
        return [await scrub(store, name, compute=compute, rng=system_random()) for name in found]
    finally:
        compute.close()


def _print_reports(reports: Sequence[ScrubReport]) -> None:
    numeric = ("objects", "size", "documents", "problems")
    made = table(None, "namespace", "objects", "size", "documents", "problems", numeric=numeric)
    for report in reports:
        style = "red" if report.problems else ""
        counts = (f"{report.objects:,}", show_size(report.bytes), f"{report.documents:,}")
        made.add_row(escape(report.name), *counts, str(len(report.problems)), style=style)
    out.print(made)
    for report in reports:
        for key, reason in report.problems:
            what = reason if reason.startswith(key) else f"{key}: {reason}"
            out.print(f"[bold red]damaged[/bold red] {escape(what)}", soft_wrap=True)
