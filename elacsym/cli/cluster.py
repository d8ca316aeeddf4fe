"""`cluster`: who is in it, who writes a namespace, what other members would move, and taking a node out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.text import Text

from elacsym import setting_forms as forms
from elacsym.cli.terminal import (
    EXIT_USAGE,
    ApiKey,
    AsJson,
    CommandError,
    Namespace,
    Url,
    connect,
    err,
    out,
    print_json,
    table,
)
from elacsym.client import DEFAULT_URL, Cluster, ClusterMember

MOVES_PRINTED_MAX = 20
_STYLES = {"live": "green", "suspect": "yellow", "draining": "yellow", "silent": "red"}

app = typer.Typer(help="The nodes of a cluster: members, owners, draining.")


@app.callback(invoke_without_command=True)
def members(
    context: typer.Context, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show the members as one node sees them: health, share of the ring, namespaces that each owns."""
    if context.invoked_subcommand is not None:
        return
    with connect(url, api_key) as client:
        found = client.cluster(count_namespaces=True)
    if as_json:
        print_json(found.body)
    else:
        _print_members(found)


@app.command()
def drain(
    node: Annotated[str, typer.Argument(help="Id of the node.", show_default=False)],
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    admin_key: Annotated[
        str | None,
        typer.Option(
            envvar="ELACSYM_ADMIN_KEY", help="One of the node's ELACSYM_ADMIN_KEYS.", show_default=False
        ),
    ] = None,
) -> None:
    """Have a node leave the ring, finish what it has begun, and exit. It must be reachable from here."""
    with connect(url, api_key) as client:
        member = _member(client.cluster(), node)
    with connect(member.url, admin_key) as client:
        client.drain()
    err.print(f"{node} at {member.url} drains")


@app.command()
def owner(
    namespace: Namespace, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """Show which node writes a namespace, whether it exists or not, and which nodes are best asked for it."""
    with connect(url, api_key) as client:
        found = client.owner(namespace)
    if as_json:
        shown = None if found.id is None else {"id": found.id, "url": found.url}
        readers = list(found.preferred_readers)
        print_json({"namespace": namespace, "owner": shown, "preferred_readers": readers})
        return
    if found.id is None:
        raise CommandError(f"no node writes {namespace} at present: no indexer can be reached")
    out.print(Text(f"{found.id} {found.url}"), soft_wrap=True)
    err.print(Text(f"best read at: {', '.join(found.preferred_readers)}"), soft_wrap=True)


@app.command()
def rebalance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would move.")] = False,
    add: Annotated[
        list[str] | None,
        typer.Option(help="id or id=weight of a node to add, or to weigh otherwise.", show_default=False),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="id of a node to remove.", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Show which namespaces would have another owner if nodes were added or removed."""
    if not dry_run:
        err.print(
            "there is nothing to do: owners follow from the members, and data stays in the bucket; "
            "--dry-run shows what a change of members would move"
        )
        raise typer.Exit(EXIT_USAGE)
    with connect(url, api_key) as client:
        weights = _changed(client.cluster(), add or (), remove or ())
        found = client.rebalance(weights)
    if as_json:
        print_json(found.body)
        return
    share = found.moved / found.total if found.total else 0.0
    out.print(f"{found.moved:,} of {found.total:,} namespaces would move ({share:.1%})")
    if found.moves:
        made = table(None, "namespace", "from", "to")
        for move in found.moves[:MOVES_PRINTED_MAX]:
            made.add_row(Text(move.namespace), move.source or "nobody", move.target or "nobody")
        out.print(made)
    if found.moved > MOVES_PRINTED_MAX:
        err.print(f"and {found.moved - MOVES_PRINTED_MAX:,} more; --json shows {len(found.moves):,}")


def _changed(cluster: Cluster, add: Iterable[str], remove: Iterable[str]) -> dict[str, float]:
    """The weights of those that would own namespaces, by id."""
    weights = {m.id: m.weight for m in cluster.members if m.role != "query" and _is_in_ring(m)}
    for name in remove:
        if weights.pop(name, None) is None:
            raise typer.BadParameter(f"{name!r} owns no namespaces", param_hint="--remove")
    for text in add:
        name, separator, weight = text.partition("=")
        try:
            weights[forms.node_id(name)] = forms.weight(weight) if separator else 1.0
        except ValueError as error:
            raise typer.BadParameter(f"{text!r} where {error} is allowed", param_hint="--add") from error
    if not weights:
        raise typer.BadParameter("no indexer would be left", param_hint="--remove")
    return weights


def _is_in_ring(member: ClusterMember) -> bool:
    return member.health in ("live", "suspect")


def _member(cluster: Cluster, node: str) -> ClusterMember:
    found = next((m for m in cluster.members if m.id == node), None)
    if found is None:
        names = ", ".join(m.id for m in cluster.members)
        raise typer.BadParameter(f"{node!r} is none of {names}", param_hint="NODE")
    return found


def _print_members(cluster: Cluster) -> None:
    title = f"{cluster.mode} · epoch {cluster.epoch} · ring {cluster.ring} · as seen by {cluster.node}"
    numbers = ("weight", "share", "namespaces", "heartbeat")
    made = table(title, "node", "address", "role", "health", *numbers, numeric=numbers)
    for m in cluster.members:
        made.add_row(
            Text(m.id, style="bold" if m.is_self else ""),
            Text(m.url),
            m.role,
            Text(m.health, style=_STYLES.get(m.health, "")),
            f"{m.weight:g}",
            f"{m.ring_share:.1%}",
            "" if m.namespaces is None else f"{m.namespaces:,}",
            "" if m.heartbeat_age_s is None else f"{m.heartbeat_age_s:.1f} s ago",
        )
    out.print(made)
