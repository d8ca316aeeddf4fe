"""`cluster nginx`: the configuration of an nginx in front of a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from elacsym.cluster.nginx import BODY_MIB_MAX, LISTEN, READ_TIMEOUT_S, render


def nginx(
    indexer: Annotated[
        list[str], typer.Option(help="Address of an indexer, as in http://indexer-0:3000; one or more.")
    ],
    query_node: Annotated[
        list[str] | None, typer.Option(help="Address of a query node.", show_default=False)
    ] = None,
    listen: Annotated[str, typer.Option(help="Port to listen on, or address and port.")] = LISTEN,
    body_mib_max: Annotated[
        int, typer.Option(min=1, help="Longest request body in MiB, as the nodes' ELACSYM_REQUEST_BYTES_MAX.")
    ] = BODY_MIB_MAX,
    read_timeout_s: Annotated[
        int,
        typer.Option(min=1, help="Seconds for an answer; above the nodes' ELACSYM_REQUEST_TIMEOUT_S."),
    ] = READ_TIMEOUT_S,
) -> None:
    """Print a configuration for nginx. The nodes behind it are to run with ELACSYM_FORWARD=true."""
    try:
        configuration = render(
            indexer,
            query_node or (),
            listen=listen,
            body_mib_max=body_mib_max,
            read_timeout_s=read_timeout_s,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(configuration, nl=False)
