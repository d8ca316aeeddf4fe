"""The progress bar of `import` and `export`."""

from __future__ import annotations

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from elacsym.cli.terminal import err


def progress_bar() -> Progress:
    """A progress bar on standard error; tasks have a field `documents`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[documents]:,} documents"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
