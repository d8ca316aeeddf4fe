"""`import --from turbopuffer`: a namespace of another server, schema and documents, page by page by id.

Both servers are spoken to in the v2 API, so that either may be an elacsym.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from elacsym.cli.progress import progress_bar
from elacsym.cli.terminal import CommandError, err
from elacsym.client import ApiError, Client, MissingError
from elacsym.client.calls import Call, path_segment
from elacsym.types import DocumentId

PAGE_BYTES_MAX = 8 * 2**20
# what a document may take besides its vectors, for the first page; later ones know better
DOCUMENT_BYTES_GUESS = 2_000
ROWS_MAX = 10_000
# analysis that does not apply to tokens which come ready-made, and is refused with them
_OF_WORDS = (
    "language",
    "stemming",
    "remove_stopwords",
    "case_sensitive",
    "ascii_folding",
    "max_token_length",
)
_TAKEN = ("full_text_search", "glob", "regex", "fuzzy", "ann", "sparse_knn")

Row = dict[str, Any]


class Origin(StrEnum):
    """Whose API the server speaks that documents come from."""

    TURBOPUFFER = "turbopuffer"


@dataclass(frozen=True, slots=True)
class Remote:
    """A namespace of a server that speaks the v2 API."""

    client: Client
    namespace: str

    def _call(self, method: str, version: str, end: str, body: Mapping[str, Any] | None = None) -> Row:
        path = f"/{version}/namespaces/{path_segment(self.namespace)}{end}"
        content = None if body is None else orjson.dumps(body)
        # every write here may be repeated as it is: the same documents under the same ids
        return self.client.run(Call(method, path, dict, content))

    def metadata(self) -> Row:
        """What the namespace is."""
        return self._call("GET", "v2", "/metadata")

    def schema(self) -> dict[str, Row]:
        """Its attributes, with what either of the two views tells."""
        shown = self._call("GET", "v1", "/schema")
        return {name: shown.get(name, {}) | entry for name, entry in self.metadata()["schema"].items()}

    def query(self, **body: Any) -> Row:
        """Ask a query."""
        return self._call("POST", "v2", "/query", body)

    def write(self, **body: Any) -> Row:
        """Write."""
        return self._call("POST", "v2", "", body)

    def count(self, *condition: Any) -> int:
        """How many documents a filter matches; without one: how many there are."""
        filters = {"filters": list(condition)} if condition else {}
        return int(self.query(aggregate_by={"rows": ["Count"]}, **filters)["aggregations"]["rows"])

    def last_id(self) -> DocumentId | None:
        """The largest id."""
        rows = self.query(rank_by=["id", "desc"], limit=1)["rows"]
        return rows[0]["id"] if rows else None

    def pages(self, after: DocumentId | None, size: int) -> Iterator[list[Row]]:
        """Whole documents in the order of their ids, in pages of about PAGE_BYTES_MAX. size: documents of the
        first page."""
        while True:
            condition = {} if after is None else {"filters": ["id", "Gt", after]}
            rows = self.query(
                rank_by=["id", "asc"],
                limit=size,
                include_attributes=True,
                vector_encoding="base64",
                **condition,
            )["rows"]
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = rows[-1]["id"]
            size = page_size(len(orjson.dumps(rows)) / len(rows))


def page_size(document_bytes: float) -> int:
    """How many documents of about this size make a page."""
    return max(1, min(ROWS_MAX, int(PAGE_BYTES_MAX // document_bytes)))


def written(entry: Mapping[str, Any]) -> Row:
    """An attribute as it is declared, from how it is shown."""
    kind = entry["type"]
    declared: Row = {"type": kind}
    if entry.get("filterable") is not None and kind != "bytes" and not is_vector(kind):
        declared["filterable"] = entry["filterable"]
    declared |= {option: value for option in _TAKEN if (value := entry.get(option))}
    if entry.get("full_text_search") and entry["full_text_search"]["tokenizer"] == "pre_tokenized_array":
        settings = entry["full_text_search"]
        declared["full_text_search"] = {k: v for k, v in settings.items() if k not in _OF_WORDS}
    return declared


def is_vector(kind: str) -> bool:
    """Whether values of this type are vectors, dense or sparse, or arrays of vectors."""
    return kind.endswith(("f32", "f16", "i8"))


def taken_over(schema: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], str | None]:
    """The schema for the new namespace, and its distance metric. Attributes whose type no value told are left
    out."""
    declared: dict[str, Any] = {"id": schema["id"]["type"]}
    metric = None
    for name, entry in schema.items():
        if name != "id" and entry["type"] != "[]unknown":
            declared[name] = written(entry)
            if isinstance(entry.get("ann"), Mapping):
                metric = entry["ann"].get("distance_metric", metric)
    return declared, metric


def document_bytes(schema: Mapping[str, Mapping[str, Any]]) -> float:
    """What a document takes on the wire, as far as its types tell."""
    numbers = 0
    for entry in schema.values():
        kind = entry["type"]
        if is_vector(kind) and kind.startswith("[") and kind[1 : kind.index("]")].isdigit():
            numbers += int(kind[1 : kind.index("]")])
    return DOCUMENT_BYTES_GUESS + 4 * numbers * 4 / 3


def resumed_after(source: Remote, target: Remote) -> DocumentId | None:
    """Up to which id an import that was interrupted came: the largest at the target, if up to there both
    sides have as many documents. None: from the beginning."""
    try:
        last = target.last_id()
    except MissingError:
        return None
    if last is None:
        return None
    upto = ("id", "Lte", last)
    return last if source.count(*upto) == target.count(*upto) else None


def migrate(source: Remote, target: Remote) -> int:
    """Bring all documents, schema and metric over; what the target has under the same ids is replaced.

    Returns how many documents were written. Raises CommandError, which says that running it again goes on.
    """
    metadata, schema = source.metadata(), source.schema()
    declared, metric = taken_over(schema)
    hosted = [name for name, entry in schema.items() if entry.get("embed")]
    if hosted:
        err.print(f"no longer embedded on write: {', '.join(hosted)}; their vectors are copied")
    with_metric = {} if metric is None else {"distance_metric": metric}
    done = 0
    try:
        after = resumed_after(source, target)
        target.write(create_namespace=True, schema=declared, **with_metric)
        if after is not None:
            err.print(f"{target.namespace} has all documents up to id {after!r}: going on from there")
        with progress_bar() as progress:
            total = int(metadata["approx_row_count"]) or None
            task = progress.add_task("importing", total=total, documents=0)
            if after is not None:
                progress.update(task, completed=target.count())
            for rows in source.pages(after, page_size(document_bytes(schema))):
                store(target, rows)
                done += len(rows)
                progress.update(task, advance=len(rows), documents=done)
    except ApiError as error:
        raise CommandError(f"{error}; {done:,} documents were written, the same command goes on") from error
    return done


def store(target: Remote, rows: Sequence[Row]) -> None:
    """Write a page, in halves where it is too large for one request."""
    try:
        target.write(upsert_rows=rows)
    except ApiError as error:
        if error.status != 413 or len(rows) == 1:
            raise
        store(target, rows[: len(rows) // 2])
        store(target, rows[len(rows) // 2 :])
