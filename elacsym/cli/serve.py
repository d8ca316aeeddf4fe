"""`serve` and `demo`: a server in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elacsym.cli.terminal import ConfigFile, Storage, out
from elacsym.config import Config


def serve(
    storage: Storage = None,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: a free one.", show_default=False)
    ] = None,
    node_id: Annotated[str | None, typer.Option(help="Name of this node.", show_default=False)] = None,
    node_type: Annotated[str | None, typer.Option(help="all, indexer or query.", show_default=False)] = None,
    cache_path: Annotated[
        str | None, typer.Option(help="Folder of the disk cache.", show_default=False)
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default=False)
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="json, human or auto.", show_default=False)] = None,
    allow_anonymous: Annotated[
        bool | None, typer.Option(help="Listen on any address without keys.", show_default=False)
    ] = None,
) -> None:
    """Run a server until it is told to stop. Without settings: ./elacsym-data on 127.0.0.1:3000.

    Flags win over ELACSYM_* variables, these over the TOML file.
    """
    from elacsym.server.node import open_node
    from elacsym.server.run import serve as run

    flags = {
        "storage": storage,
        "host": host,
        "port": port,
        "node_id": node_id,
        "node_type": node_type,
        "cache_path": cache_path,
        "log_level": log_level,
        "log_format": log_format,
        "allow_anonymous": allow_anonymous,
    }
    settings = Config.load(flags, config_path=config)
    run(settings, open_node, announce=typer.echo)


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder for the data; default: a temporary one.", show_default=False)
    ] = None,
    keep_serving: Annotated[
        bool, typer.Option("--serve", help="Leave the server running afterwards.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(help="Port of the server; default: a free one, 3000 with --serve.", show_default=False),
    ] = None,
) -> None:
    """Search real text: the docstrings of Python's standard library, by vector, by text and by both."""
    from elacsym.demo import tour

    tour.run(out, data=data, port=(3000 if keep_serving else 0) if port is None else port, serve=keep_serving)
