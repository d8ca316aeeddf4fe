"""`recall` and `warm`: how well a running server finds vectors, and having it ready before it is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from elacsym.cli.search import all_of
from elacsym.cli.terminal import ApiKey, AsJson, Namespace, Url, connect, err, out, print_json
from elacsym.client import DEFAULT_URL


def recall(
    namespace: Namespace,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    num: Annotated[int, typer.Option("--num", "-n", min=1, max=1_000, help="Queries to compare.")] = 25,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=1_000, help="Results of each.")] = 10,
    where: Annotated[
        list[str] | None,
        typer.Option("--filter", help="As in query; repeated: all hold.", show_default=False),
    ] = None,
    vector_field: Annotated[
        str | None, typer.Option(help="Attribute with the vectors; default: vector.", show_default=False)
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Take stored vectors as queries, not those asked lately.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare vector queries with exact search: the share of true neighbours that they find."""
    with connect(url, api_key) as client:
        found = client.recall(
            namespace,
            num=num,
            top_k=top_k,
            filters=all_of(where) if where else None,
            vector_field=vector_field,
            queries="stored" if stored else "recent",
        )
    if as_json:
        print_json(found.body)
        return
    out.print(f"recall@{top_k}: {found.average:.4f}")
    err.print(
        f"{found.recent} queries asked lately and {found.stored} stored vectors; "
        f"{found.found:.1f} of {found.exact:.1f} rows on average"
    )


def warm(namespace: Namespace, url: Url = DEFAULT_URL, api_key: ApiKey = None) -> None:
    """Have a server bring a namespace into its cache, in the background."""
    with connect(url, api_key) as client:
        client.warm(namespace)
    err.print(f"{namespace} is being brought into the cache")
