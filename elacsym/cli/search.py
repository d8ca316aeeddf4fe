"""`query`, `namespaces` and `delete`: what a person asks of a running server."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

import orjson
import typer
from rich.table import Table
from rich.text import Text

from elacsym.cli.terminal import (
    ApiKey,
    AsJson,
    Namespace,
    Url,
    connect,
    err,
    json_argument,
    json_object_argument,
    one_line,
    out,
    print_json,
    table,
)
from elacsym.client import DEFAULT_URL, Answer, Client, QueryParams
from elacsym.types import DocumentId

_COMPARISON = re.compile(r"\s*([^\s=!<>]+)\s*(!=|>=|<=|=|>|<|\scontains\s)\s*(.*?)\s*", re.DOTALL)
_OPS = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "contains": "contains"}
VALUE_WIDTH = 160


def filter_argument(text: str) -> dict[str, Any]:
    """The filter of an argument: `field=value` (also != > >= < <= contains) or the JSON of the v1 API.

    A value that is JSON is taken as such, anything else as a string. Raises typer.BadParameter.
    """
    if text.lstrip().startswith(("{", "@")):
        return json_object_argument(text, "--filter")
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is neither field=value nor JSON", param_hint="--filter")
    try:
        value: Any = orjson.loads(match[3])
    except orjson.JSONDecodeError:
        value = match[3]
    return {"field": match[1], "op": _OPS[match[2].strip()], "value": value}


def all_of(texts: Sequence[str]) -> dict[str, Any]:
    """One filter out of several arguments: all of them hold."""
    conditions = [filter_argument(text) for text in texts]
    return conditions[0] if len(conditions) == 1 else {"type": "and", "conditions": conditions}


def _order_argument(text: str) -> list[str]:
    field, _, direction = text.rpartition(":")
    if not field:
        field, direction = text, "asc"
    if direction not in {"asc", "desc"}:
        raise typer.BadParameter(f"{text!r} is neither field:asc nor field:desc", param_hint="--order-by")
    return [field, direction]


def _vector_argument(text: str) -> list[Any]:
    value = json_argument(text, "--vector")
    if not isinstance(value, list) or not all(type(v) in (int, float) for v in value):
        raise typer.BadParameter("not an array of numbers", param_hint="--vector")
    return value


def _request_argument(text: str) -> dict[str, Any]:
    params = json_object_argument(text, "--request")
    for name in params.keys() - QueryParams.__annotations__.keys():
        raise typer.BadParameter(f"a query has no field {name!r}", param_hint="--request")
    return params


def _searchable(client: Client, namespace: str) -> list[str]:
    attributes = client.info(namespace)["schema"]["attributes"]
    names = [name for name, a in attributes.items() if a.get("full_text")]
    if not names:
        raise typer.BadParameter(f"no attribute of {namespace} is full text; name one with --field")
    return names


def query(
    namespace: Namespace,
    text: Annotated[str | None, typer.Argument(help="Words to search for.", show_default=False)] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Attribute to search in, may be repeated; default: all full text.", show_default=False
        ),
    ] = None,
    vector: Annotated[
        str | None, typer.Option(help="Vector as a JSON array, or @FILE.", show_default=False)
    ] = None,
    vector_field: Annotated[
        str | None, typer.Option(help="Attribute with the vectors; default: vector.", show_default=False)
    ] = None,
    text_weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the text in a hybrid ranking.", show_default=False),
    ] = None,
    fusion: Annotated[str, typer.Option(help="How rankings are fused: rrf, weighted, max.")] = "rrf",
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="field=value (!= > >= < <= contains) or JSON; repeated: all hold.",
            show_default=False,
        ),
    ] = None,
    order_by: Annotated[
        list[str] | None,
        typer.Option(help="field:asc or field:desc, instead of a search.", show_default=False),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=10_000, help="Results at most.")] = 10,
    show: Annotated[
        list[str] | None,
        typer.Option(help="Attribute to show, may be repeated; default: all.", show_default=False),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Scan everything instead of using an index.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show each leg's share and the plan.")] = False,
    request: Annotated[
        str | None,
        typer.Option(help="The whole request as JSON, or @FILE, instead of the flags.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Search a namespace by text, vector or both, or list it in the order of attributes."""
    if vector_field is not None and vector is None:
        raise typer.BadParameter("there is no --vector to search for", param_hint="--vector-field")
    with connect(url, api_key) as client:
        if request is not None:
            params = _request_argument(request)
        else:
            params = {"top_k": top_k, "exact": exact, "explain": explain}
            if vector is not None:
                params["vector"] = _vector_argument(vector)
                if vector_field is not None:
                    params["vector_field"] = vector_field
            if text is not None:
                fields = field or _searchable(client, namespace)
                params["full_text"] = {"fields": fields, "query": text, "weight": text_weight}
            params |= _modifiers(where, order_by, show)
            if text is not None and vector is not None:
                params["fusion"] = {"method": fusion}
            elif text is None and vector is None:
                params.setdefault("order_by", [["id", "asc"]])
        answer = client.query(namespace, **cast("QueryParams", params))
    if as_json:
        print_json(answer.body)
    else:
        print_answer(answer)


def _modifiers(
    where: Sequence[str] | None, order_by: Sequence[str] | None, show: Sequence[str] | None
) -> dict[str, Any]:
    params: dict[str, Any] = {}
    if where:
        params["filter"] = all_of(where)
    if order_by:
        params["order_by"] = [_order_argument(o) for o in order_by]
    if show:
        params["include_attributes"] = list(show)
    return params


def print_answer(answer: Answer) -> None:
    """Results as a table, groups, and the explanation where there is one."""
    if answer.results:
        out.print(_results_table(answer))
    for name in ("aggregations", "groups", "plan"):
        if answer.body.get(name) is not None:
            out.print(f"[bold]{name}[/bold]")
            print_json(answer.body[name])
    err.print(f"{len(answer.results)} results in {answer.took_ms} ms")


def _results_table(answer: Answer) -> Table:
    has_scores = any(r.score is not None for r in answer.results)
    explained = any(r.shares for r in answer.results)
    columns = ["", "id", *(["score"] if has_scores else []), "attributes", *(["legs"] if explained else [])]
    made = table(None, *columns, numeric=("", "score"))
    for rank, result in enumerate(answer.results, 1):
        score = [] if not has_scores else ["" if result.score is None else f"{result.score:.4f}"]
        shares = [Text("\n".join(map(str, result.shares)), style="dim")] if explained else []
        made.add_row(str(rank), Text(str(result.id)), *score, _attributes(result.attributes), *shares)
    return made


def _attributes(attributes: Mapping[str, Any]) -> Text:
    lines = [
        Text.assemble((f"{name}: ", "cyan"), one_line(value, VALUE_WIDTH))
        for name, value in attributes.items()
    ]
    return Text("\n").join(lines)


def namespaces(
    prefix: Annotated[str, typer.Argument(help="Only names that begin with this.")] = "",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List the namespaces, one name per line."""
    with connect(url, api_key) as client:
        names = list(client.all_namespaces(prefix=prefix))
    if as_json:
        print_json(names)
    else:
        for name in names:
            out.print(Text(name), soft_wrap=True)


def delete(
    namespace: Namespace,
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of documents; none: the whole namespace.", show_default=False),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", help="Delete what matches, as in query; repeated: all hold.", show_default=False
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a namespace with everything in it, or only documents of it: by id or by filter."""
    if ids and where:
        raise typer.BadParameter("ids and --filter exclude each other")
    with connect(url, api_key) as client:
        info = client.info(namespace)
        if ids:
            what = f"{len(ids):,} documents of {namespace}"
        elif where:
            what = f"the documents of {namespace} that match {' and '.join(where)}"
        else:
            what = f"the namespace {namespace} with {info['documents']:,} documents"
        if not yes:
            typer.confirm(f"Delete {what}?", abort=True, err=True)
        if ids:
            client.delete(namespace, document_ids(client, namespace, ids))
            done = f"{namespace} has none of these {len(ids):,} documents any more"
        elif where:
            done = f"deleted {client.delete(namespace, filter=all_of(where)).count:,} documents"
        else:
            client.delete_namespace(namespace)
            done = f"deleted {what}"
    err.print(done)


def document_ids(client: Client, namespace: str, ids: Sequence[str]) -> list[DocumentId]:
    """The ids of a command line as the namespace spells them: numbers where its ids are numbers."""
    first = client.query(namespace, order_by=[["id", "asc"]], top_k=1).results
    if first and isinstance(first[0].id, str):
        return list(ids)
    try:
        return [int(i) for i in ids]
    except ValueError as error:
        raise typer.BadParameter(f"the ids of {namespace} are numbers: {error}") from error
