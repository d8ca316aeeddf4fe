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
# other metrics cannot be declared in this API
METRICS = ("cosine_distance", "euclidean_squared")
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
        """Write; documents may lack vectors, as those do that are older than an attribute."""
        return self._call("POST", "v2", "", {"require_all_vectors": False, **body})

    def last_id(self) -> DocumentId | None:
        """The largest id; None: there are no documents."""
        try:
            rows = self.query(rank_by=["id", "desc"], limit=1)["rows"]
        except MissingError:
            return None
        return rows[0]["id"] if rows else None

    def documents(self, limit: int, *condition: Any) -> list[Row]:
        """The first whole documents, in the order of their ids, that a filter matches."""
        filters = {"filters": list(condition)} if condition else {}
        answer = self.query(
            rank_by=["id", "asc"],
            limit=limit,
            include_attributes=True,
            vector_encoding="base64",
            **filters,
        )
        return list(answer["rows"])

    def differing(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the documents that the namespace lacks, or has with other values."""
        ids = [row["id"] for row in rows]
        stored = {row["id"]: _values(row) for row in self.documents(len(ids), "id", "In", ids)}
        return [row for row in rows if stored.get(row["id"]) != _values(row)]

    def pages(self, size: int) -> Iterator[list[Row]]:
        """Whole documents in the order of their ids, in pages of about PAGE_BYTES_MAX. size: documents of the
        first page."""
        after: DocumentId | None = None
        while True:
            rows = self.documents(size, *(() if after is None else ("id", "Gt", after)))
            if rows:
                yield rows
            if len(rows) < size:
                return
            after = rows[-1]["id"]
            size = page_size(len(orjson.dumps(rows)) / len(rows))


def _values(row: Row) -> Row:
    """What a document has, without the attributes that are null."""
    return {name: value for name, value in row.items() if value is not None}


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
    out. Raises CommandError for what cannot be taken over."""
    if "id" not in schema:
        raise CommandError("the namespace has no documents yet, nor a type of ids: nothing to import")
    declared: dict[str, Any] = {"id": schema["id"]["type"]}
    metric = None
    for name, entry in schema.items():
        if name != "id" and entry["type"] != "[]unknown":
            declared[name] = written(entry)
            if isinstance(entry.get("ann"), Mapping):
                metric = entry["ann"].get("distance_metric", metric)
    if metric is not None and metric not in METRICS:
        raise CommandError(
            f"the namespace's metric is {metric!r}; only {' and '.join(METRICS)} can be taken over"
        )
    return declared, metric


def document_bytes(schema: Mapping[str, Mapping[str, Any]]) -> float:
    """What a document takes on the wire, as far as its types tell."""
    numbers = 0
    for entry in schema.values():
        kind = entry["type"]
        if is_vector(kind) and kind.startswith("[") and kind[1 : kind.index("]")].isdigit():
            numbers += int(kind[1 : kind.index("]")])
    return DOCUMENT_BYTES_GUESS + 4 * numbers * 4 / 3


def migrate(source: Remote, target: Remote) -> int:
    """Make the target have all documents of the source, schema and metric included; what it already has in
    the same form is not written again, and documents that only the target has stay.

    Returns how many documents were written. Raises CommandError, which says whether running it again goes on.
    """
    metadata, schema = source.metadata(), source.schema()
    declared, metric = taken_over(schema)
    hosted = [name for name, entry in schema.items() if entry.get("embed")]
    if hosted:
        err.print(f"no longer embedded on write: {', '.join(hosted)}; their vectors are copied")
    with_metric = {} if metric is None else {"distance_metric": metric}
    done = same = 0
    try:
        last = target.last_id()
        target.write(create_namespace=True, schema=declared, **with_metric)
        with progress_bar() as progress:
            total = int(metadata["approx_row_count"]) or None
            task = progress.add_task("importing", total=total, documents=0)
            for rows in source.pages(page_size(document_bytes(schema))):
                # behind the last document there is nothing to compare with; ids of both sides are of one type
                wanted = rows if last is None or rows[0]["id"] > last else target.differing(rows)
                store(target, wanted)
                done += len(wanted)
                same += len(rows) - len(wanted)
                progress.update(task, advance=len(rows), documents=done)
    except ApiError as error:
        promise = "; the same command goes on" if error.retryable else ""
        raise CommandError(f"{error} ({done:,} documents were written{promise})") from error
    if same:
        err.print(f"{same:,} documents of {target.namespace} were the same already")
    return done


def store(target: Remote, rows: Sequence[Row]) -> None:
    """Write documents, in halves where they are too large for one request."""
    if not rows:
        return
    try:
        target.write(upsert_rows=rows)
    except ApiError as error:
        if error.status != 413 or len(rows) == 1:
            raise
        store(target, rows[: len(rows) // 2])
        store(target, rows[len(rows) // 2 :])
