"""`import` and `export`: documents between files and a server, by HTTP, in batches."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from elacsym.cli import files
from elacsym.cli.files import Fields, FileError, JsonLinesWriter, ParquetWriter, Row, Writer
from elacsym.cli.migrate import Origin, Remote, migrate
from elacsym.cli.progress import progress_bar
from elacsym.cli.terminal import (
    ApiKey,
    CommandError,
    Namespace,
    Url,
    connect,
    err,
    json_object_argument,
)
from elacsym.client import DEFAULT_URL, ApiError, Client, MissingError, QueryParams, RejectedError, Result
from elacsym.types import Metric

BATCH_BYTES_MAX = 8 * 2**20
PAGE_BYTES_MAX = 16 * 2**20
IMPORT_RETRIES = 64
_DOCUMENT_IN_MESSAGE = re.compile(r"documents\[(\d+)\]")

BatchSize = Annotated[int, typer.Option(min=1, max=10_000, help="Documents per request at most.")]


@dataclass(frozen=True, slots=True)
class _Source:
    """The rows of a file; `total` is what the progress bar runs to, in bytes of lines or in Parquet rows."""

    name: str
    unit: str
    rows: Iterator[Row]
    total: int | None


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows in batches of at most `size` documents and about 8 MiB.

    An id that comes again starts the next batch: a request may not name an id twice, and the later row wins.
    What was read before a FileError is given before it is raised.
    """
    batch: list[Row] = []
    ids: set[Any] = set()
    size_bytes = 0
    try:
        for row in rows:
            is_full = len(batch) >= size or size_bytes + row.size_bytes > BATCH_BYTES_MAX
            if batch and (is_full or row.document["id"] in ids):
                yield batch
                batch, ids, size_bytes = [], set(), 0
            batch.append(row)
            ids.add(row.document["id"])
            size_bytes += row.size_bytes
    except FileError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Target:
    """The namespace an import fills, and how it is created when it is missing."""

    client: Client
    namespace: str
    schema: dict[str, Any] | None
    metric: Metric
    full_text: Sequence[str]

    def prepare(self, first: Sequence[Row]) -> None:
        """Create the namespace: with the given schema or, where there is none, with what rows tell."""
        if self.schema is not None:
            self.client.create(self.namespace, self.schema.get("schema", self.schema))
            return
        try:
            self.client.info(self.namespace)
        except MissingError:
            self.client.create(self.namespace, self._inferred(first))

    def _inferred(self, first: Sequence[Row]) -> dict[str, Any]:
        schema: dict[str, Any] = {"attributes": {}}
        vector = next((v for row in first if (v := row.document.get("vector")) is not None), None)
        if vector is not None:
            schema |= {"vector_dim": len(vector), "vector_metric": self.metric.value}
        for name in self.full_text:
            is_array = any(isinstance(row.document["attributes"].get(name), list) for row in first)
            kind = "array<string>" if is_array else "string"
            schema["attributes"][name] = {"type": kind, "full_text": True}
        return schema

    def store(self, source: _Source, skip: int, batch_size: int, progress: Progress, task: TaskID) -> int:
        """Send the rows after `skip`. Returns how many documents; a CommandError says where to go on."""
        stored, stored_until = 0, skip
        batch: list[Row] = []
        try:
            for batch in batches((row for row in source.rows if row.number > skip), batch_size):
                if not stored:
                    self.prepare(batch)
                self.client.upsert(self.namespace, [row.document for row in batch])
                stored, stored_until = stored + len(batch), batch[-1].number
                amount = sum(row.size_bytes for row in batch) if source.unit == "line" else len(batch)
                progress.update(task, advance=amount, documents=stored)
        except (ApiError, FileError) as error:
            raise CommandError(_explained(error, source, batch, stored_until)) from error
        return stored


def _explained(error: ApiError | FileError, source: _Source, batch: Sequence[Row], stored_until: int) -> str:
    where = ""
    if isinstance(error, RejectedError):
        match = _DOCUMENT_IN_MESSAGE.search(str(error))
        if match and int(match[1]) < len(batch):
            where = f"{source.name}: {source.unit} {batch[int(match[1])].number}: "
    hint = (
        f"{source.unit}s up to {stored_until} are stored, --skip {stored_until} goes on from there"
        if stored_until
        else "nothing was stored"
    )
    return f"{where}{error}; {hint}"


def import_file(
    file: Annotated[
        str,
        typer.Argument(
            help="JSON lines (.jsonl, .ndjson) or Parquet; - reads JSON lines from stdin. With --from: the "
            "address of a server."
        ),
    ],
    source: Annotated[
        str | None, typer.Argument(help="With --from: the namespace there.", show_default=False)
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            help="Where the documents go; with --from: under the same name, if there is no other.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        Origin | None,
        typer.Option(
            "--from", help="Take a namespace, schema included, from such a server.", show_default=False
        ),
    ] = None,
    source_api_key: Annotated[
        str | None,
        typer.Option(envvar="TURBOPUFFER_API_KEY", help="Key of that server.", show_default=False),
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    schema: Annotated[
        str | None, typer.Option(help="Schema as in the v1 API: JSON, or @FILE.", show_default=False)
    ] = None,
    metric: Annotated[
        Metric, typer.Option(help="Metric of a namespace that is created without a schema.")
    ] = Metric.COSINE,
    full_text: Annotated[
        list[str] | None,
        typer.Option(
            help="Attribute to search in, for a namespace created without a schema; may be repeated.",
            show_default=False,
        ),
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field or column with the id.")] = "id",
    vector_field: Annotated[str, typer.Option(help="Field or column with the vector.")] = "vector",
    batch_size: BatchSize = 1000,
    skip: Annotated[
        int, typer.Option(min=0, help="Lines or rows to pass over: where an earlier import stopped.")
    ] = 0,
) -> None:
    """Load documents from FILE into a namespace; a missing namespace is created.

    With --from turbopuffer, FILE is the address of a server and SOURCE a namespace there, which comes with
    its schema. Run again, it writes only what the namespace here does not have in the same form: it goes on
    after an interruption, and takes over what has changed at the source. Documents that only the namespace
    here has stay.
    """
    if origin is not None:
        _import_namespace(file, source, namespace, url, api_key, source_api_key)
        return
    if source is not None or namespace is None:
        raise typer.BadParameter("a file goes to one namespace", param_hint="--namespace")
    wanted = None if schema is None else json_object_argument(schema, "--schema")
    with contextlib.ExitStack() as stack:
        rows = _open_source(file, Fields(id_field, vector_field), stack)
        client = stack.enter_context(connect(url, api_key, retries=IMPORT_RETRIES))
        progress = stack.enter_context(progress_bar())
        task = progress.add_task("importing", total=rows.total, documents=0)
        target = _Target(client, namespace, wanted, metric, full_text or ())
        stored = target.store(rows, skip, batch_size, progress, task)
    err.print(f"{stored:,} documents stored in {namespace}")


def _import_namespace(
    address: str,
    source: str | None,
    namespace: str | None,
    url: str,
    api_key: str | None,
    source_api_key: str | None,
) -> None:
    if source is None:
        raise typer.BadParameter("the namespace to import is missing", param_hint="SOURCE")
    name = namespace or source
    with (
        connect(address, source_api_key, retries=IMPORT_RETRIES) as there,
        connect(url, api_key, retries=IMPORT_RETRIES) as here,
    ):
        written = migrate(Remote(there, source), Remote(here, name))
    err.print(f"{written:,} documents of {source} stored in {name}")


def _open_source(file: str, fields: Fields, stack: contextlib.ExitStack) -> _Source:
    if file == "-":
        return _Source("stdin", "line", files.read_json_lines(sys.stdin.buffer, fields, "stdin"), None)
    path = Path(file)
    if path.suffix == ".parquet":
        return _Source(file, "row", files.read_parquet(path, fields), files.parquet_rows(path))
    stream = stack.enter_context(path.open("rb"))
    return _Source(file, "line", files.read_json_lines(stream, fields, file), path.stat().st_size)


def export(
    namespace: Namespace,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A .jsonl or .parquet file; - writes JSON lines to stdout.")
    ] = "-",
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
    vectors: Annotated[bool, typer.Option(help="Whether the vectors are exported, too.")] = True,
    batch_size: BatchSize = 1000,
) -> None:
    """Write all documents of a namespace, in the order of their ids.

    The file appears under its name when it is complete. Documents written meanwhile may be in it or not.
    """
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(url, api_key))
        info = client.info(namespace)
        attributes = {name: a["type"] for name, a in info["schema"]["attributes"].items()}
        if not vectors:
            attributes = {name: kind for name, kind in attributes.items() if not files.vector_type(kind)}
        dimensions = info["schema"].get("vector_dim") if vectors else None
        writer = stack.enter_context(_open_writer(output, attributes, dimensions))
        progress = stack.enter_context(progress_bar())
        task = progress.add_task("exporting", total=info["documents"], documents=0)
        written = 0
        numbers = (dimensions or 0) + sum(d for kind in attributes.values() if (d := files.vector_type(kind)))
        for page in pages(client, namespace, batch_size, numbers):
            writer.write(page)
            written += len(page)
            progress.update(task, advance=len(page), documents=written)
    err.print(f"{written:,} documents of {namespace} written")


def pages(client: Client, namespace: str, size: int, numbers: int) -> Iterator[Sequence[Result]]:
    """All documents in the order of their ids, `size` at a time; with vectors if a document has `numbers` of
    them."""
    # a float32 takes about 12 characters of JSON
    size = min(size, max(1, PAGE_BYTES_MAX // (12 * max(1, numbers))))
    params: QueryParams = {
        "order_by": [["id", "asc"]],
        "top_k": size,
        "include_vector": numbers > 0,
    }
    while True:
        answer = client.query(namespace, **params)
        if answer.results:
            yield answer.results
        if len(answer.results) < size:
            return
        last = answer.results[-1]
        if last.cursor is None:
            raise CommandError(f"the answer for {namespace} has no cursor to go on from")
        params["after"] = last.cursor


@contextlib.contextmanager
def _open_writer(output: str, attributes: Mapping[str, str], dimensions: int | None) -> Iterator[Writer]:
    if output == "-":
        writer: Writer = JsonLinesWriter(sys.stdout.buffer)
        yield writer
        writer.close()
        return
    path, partial = Path(output), Path(output + ".partial")
    try:
        with contextlib.ExitStack() as stack:
            if path.suffix == ".parquet":
                writer = ParquetWriter(partial, attributes, dimensions)
            else:
                writer = JsonLinesWriter(stack.enter_context(partial.open("wb")))
            yield writer
            writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
