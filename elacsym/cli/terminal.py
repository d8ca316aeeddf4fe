"""What the commands share: consoles, exit codes, errors, the connection options, sizes for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from elacsym.client import Client
from elacsym.errors import ElacsymError

EXIT_PROBLEM = 1
EXIT_USAGE = 2

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Option(envvar="ELACSYM_URL", help="Address of the server.")]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="ELACSYM_API_KEY", help="Key that the server asks for.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Namespace = Annotated[str, typer.Argument(help="Name of the namespace.", show_default=False)]
Storage = Annotated[
    str | None,
    typer.Option(
        help="./folder, file:///folder or s3://bucket/prefix; default: ELACSYM_STORAGE.", show_default=False
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings.", show_default=False, dir_okay=False)
]


class CommandError(ElacsymError):
    """A command that could not do its work, for a reason that its user can act on."""

    code = "command_failed"


def connect(url: str, api_key: str | None, *, retries: int = 4) -> Client:
    """A client for the connection options. Raises typer.BadParameter if `url` is no address."""
    try:
        return Client(url, api_key=api_key, retries=retries)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--url") from error


def print_error(error: BaseException) -> None:
    """One red line on standard error, with the request id when the server gave one."""
    message = " ".join(str(error).split()) or type(error).__name__
    request_id = getattr(error, "request_id", None)
    line = Text(f"error: {message}", style="bold red")
    if request_id:
        line.append(f" (request {request_id})", style="not bold dim")
    err.print(line, soft_wrap=True)


def print_json(value: Any) -> None:
    """The value as indented JSON on standard output, without colours, so that it can be piped."""
    text = orjson.dumps(
        value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    )
    out.print(Text(text.decode()), soft_wrap=True)


def json_argument(text: str, hint: str) -> Any:
    """The JSON value of an argument; `@FILE` reads it from a file. Raises typer.BadParameter."""
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return orjson.loads(data)
    except (OSError, orjson.JSONDecodeError) as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=hint) from error


def json_object_argument(text: str, hint: str) -> dict[str, Any]:
    """The JSON object of an argument, as `json_argument` reads it. Raises typer.BadParameter."""
    value = json_argument(text, hint)
    if not isinstance(value, dict):
        raise typer.BadParameter("not a JSON object", param_hint=hint)
    return value


def table(title: str | None, *columns: str, numeric: tuple[str, ...] = ()) -> Table:
    """An empty table; the columns in `numeric` are set to the right."""
    made = Table(
        title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    return made


def show_size(size_bytes: int) -> str:
    """A size for people, rounded: `1.5 MiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def one_line(value: Any, width: int) -> str:
    """A value on one line of at most `width` characters."""
    text = (
        value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    )
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= width else text[: width - 1] + "…"
