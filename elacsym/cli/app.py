"""All commands in one place, and the boundary where expected errors become one red line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from elacsym import __version__
from elacsym.cli import cluster, doctor, measure, nginx, search, serve, storage, transfer
from elacsym.cli.terminal import EXIT_PROBLEM, out, print_error
from elacsym.errors import ElacsymError
from elacsym.telemetry import configure_logging

app = typer.Typer(
    name="elacsym",
    help="Vector, full-text and hybrid search whose only durable state is a folder or a bucket.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.command()(serve.serve)
app.command()(serve.demo)


@app.callback()
def _quiet() -> None:
    # logs go to standard error, where they cannot spoil what a command prints; `serve` sets its own level
    configure_logging(level="warning")


@app.command()
def version() -> None:
    """Print the version."""
    out.print(f"elacsym {__version__}")


app.command("import")(transfer.import_file)
app.command()(transfer.export)
app.command()(search.query)
app.command()(search.namespaces)
app.command()(search.delete)
app.command()(measure.recall)
app.command()(measure.warm)
cluster.app.command()(nginx.nginx)
app.add_typer(cluster.app, name="cluster")
app.command()(storage.inspect)
app.command()(doctor.doctor)
app.command("scrub")(storage.scrub_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code: the console script."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="elacsym")
    except BrokenPipeError:
        # the reader of a pipe had enough; nothing may be written to it at exit
        sys.stderr.close()
        raise SystemExit(EXIT_PROBLEM) from None
    except (ElacsymError, OSError) as error:
        print_error(error)
        raise SystemExit(EXIT_PROBLEM) from None
