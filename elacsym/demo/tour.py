"""The tour: embed the standard library's docstrings, load them over HTTP, search them in five ways."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from elacsym.client import Answer, Client, Document, MissingError, QueryParams, Result
from elacsym.demo.corpus import Entry, standard_library
from elacsym.demo.local import DemoError, running_server

NAMESPACE = "python-stdlib"
BATCH = 500
TOP_K = 5
SNIPPET_CHARS = 90
_SHOWN = ["name", "kind", "module", "doc", "line"]


class Projection(Protocol):
    """Texts to vectors."""

    @property
    def dimensions(self) -> int:
        """Length of the vectors."""
        ...

    def project(self, text: str) -> npt.NDArray[np.float32]:
        """The vector of a text: (dimensions,) float32."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """One stop of the tour: words, which legs they are searched with, what the rest of the request says."""

    title: str
    words: str
    has_vector: bool = False
    has_text: bool = False
    rest: QueryParams = field(default_factory=QueryParams)

    def params(self, projection: Projection) -> QueryParams:
        """The request."""
        params: QueryParams = {"top_k": TOP_K, "include_attributes": _SHOWN, **self.rest}
        if self.has_vector:
            params["vector"] = projection.project(self.words)
        if self.has_text:
            params["full_text"] = {"field": "doc", "query": self.words}
        return params


QUESTIONS = (
    Question("text: BM25 over the docstrings", "read compressed archive members", has_text=True),
    Question("vector: nearest neighbours by meaning", "run a function in a separate thread", has_vector=True),
    Question(
        "hybrid: both, fused by reciprocal ranks, explained",
        "parse command line arguments",
        has_vector=True,
        has_text=True,
        rest={"explain": True},
    ),
    Question(
        "hybrid and filtered: functions with more than 300 characters of text",
        "convert a date between time zones",
        has_vector=True,
        has_text=True,
        rest={
            "filter": {
                "type": "and",
                "conditions": [
                    {"field": "kind", "op": "in", "value": ["function", "method"]},
                    {"field": "length", "op": "gt", "value": 300},
                ],
            }
        },
    ),
    Question(
        "no search: the longest docstrings, by order of an attribute",
        "",
        rest={"order_by": [["length", "desc"]]},
    ),
)
COUNTS: QueryParams = {"aggregate": {"count": True, "group_by": ["kind"], "sum": ["length"]}}


def schema(dimensions: int) -> dict[str, Any]:
    """The schema of the demo's namespace."""
    return {
        "vector_dim": dimensions,
        "vector_metric": "cosine",
        "attributes": {
            "name": {"type": "string"},
            "kind": {"type": "string"},
            "module": {"type": "string"},
            "doc": {
                "type": "string",
                "indexed": False,
                "full_text": {"language": "english", "stemming": True, "remove_stopwords": True},
            },
            "length": {"type": "integer"},
            "line": {"type": "integer"},
        },
    }


def documents(entries: Sequence[Entry], vectors: npt.NDArray[np.float32]) -> list[Document]:
    """One document per entry. vectors: (n, d) float32; ids count from 1."""
    return [
        {
            "id": number,
            "vector": vector,
            "attributes": {
                "name": entry.full_name,
                "kind": entry.kind,
                "module": entry.module,
                "doc": entry.doc,
                "length": len(entry.doc),
                "line": entry.line,
            },
        }
        for number, (entry, vector) in enumerate(zip(entries, vectors, strict=True), 1)
    ]


def run(console: Console, *, data: Path | None = None, port: int = 0, serve: bool = False) -> None:
    """The whole tour. data: the server's folder (None: a temporary one). Raises DemoError, ApiError."""
    started_s = time.perf_counter()
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="elacsym-demo-")))
        entries, projection, vectors = _embedded(console)
        url = stack.enter_context(running_server(folder, port))
        client = stack.enter_context(Client(url))
        console.print(f"a server without settings runs on {url}, its data is in {folder}\n")
        load(console, client, documents(entries, vectors), projection.dimensions)
        for question in QUESTIONS:
            ask(console, client, projection, question)
        _print_counts(console, client.query(NAMESPACE, **COUNTS))
        console.print(f"the whole tour took {time.perf_counter() - started_s:.1f} s")
        if serve:
            hybrid = folder / "hybrid-query.json"
            hybrid.write_bytes(_as_body(QUESTIONS[2].params(projection)))
            console.print(Text(curl_examples(url, hybrid)), soft_wrap=True)
            _wait_for_signal()


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _embedded(console: Console) -> tuple[list[Entry], Projection, npt.NDArray[np.float32]]:
    try:
        from elacsym.demo.embedding import LatentSemantics
    except ImportError as error:
        raise DemoError("the demo needs scikit-learn: pip install 'elacsym[demo]'") from error
    with console.status("reading the docstrings of the standard library"):
        entries = standard_library()
    if not entries:
        raise DemoError("this Python has no sources of its standard library")
    modules = len({e.module for e in entries})
    console.print(f"{len(entries):,} docstrings of {modules} modules of the Python standard library")
    with console.status("computing vectors: TF-IDF and truncated SVD"):
        projection, vectors = LatentSemantics.fit([e.text for e in entries])
    console.print(f"{len(vectors):,} vectors of {projection.dimensions} dimensions, computed on this machine")
    return entries, projection, vectors


def load(console: Console, client: Client, corpus: Sequence[Document], dimensions: int) -> None:
    """Make the namespace anew and fill it."""
    with contextlib.suppress(MissingError):
        client.delete_namespace(NAMESPACE)
    client.create(NAMESPACE, schema(dimensions))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    started_s = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("upserting", total=len(corpus))
        for start in range(0, len(corpus), BATCH):
            progress.advance(task, client.upsert(NAMESPACE, corpus[start : start + BATCH]).count)
    rate = len(corpus) / (time.perf_counter() - started_s)
    console.print(f"{len(corpus):,} documents are durable and searchable: {rate:,.0f} per second\n")


def ask(console: Console, client: Client, projection: Projection, question: Question) -> Answer:
    """Run one question and print what it asks and what it finds."""
    answer = client.query(NAMESPACE, **question.params(projection))
    console.print(Text(question.title, style="bold"))
    if question.words:
        console.print(Text(f"“{question.words}”", style="italic"))
    console.print(_ranking(answer.results))
    if answer.body.get("plan") is not None:
        console.print(_plan(answer.body["plan"]))
    console.print(Text(f"{answer.took_ms} ms in the server\n", style="dim"))
    return answer


def _ranking(results: Sequence[Result]) -> Table:
    made = Table(box=None, pad_edge=False, show_header=False)
    made.add_column(justify="right")
    made.add_column(justify="right", style="dim")
    made.add_column(overflow="fold")
    for rank, result in enumerate(results, 1):
        found = result.attributes
        name = Text.assemble((found["name"], "cyan"), f"  {found['kind']}, line {found['line']}")
        snippet = Text(f"\n{' '.join(found['doc'].split())[:SNIPPET_CHARS]}…", style="dim")
        shares = "".join(f"\n{share}" for share in result.shares)
        made.add_row(
            str(rank), "" if result.score is None else f"{result.score:.4f}", name + snippet + shares
        )
    return made


def _plan(plan: dict[str, Any]) -> Text:
    """The figures of a plan, a line per leg."""
    rows = plan["rows"]
    lines = [f"plan: {plan['kind']}, {rows['matched']:,} of {rows['live']:,} rows match the filter"]
    for leg in plan["legs"]:
        terms = f", words {' '.join(leg['terms'])}" if leg.get("terms") else ""
        ways = dict.fromkeys(part["way"] for part in leg.get("parts", ()))
        lines.append(
            f"  {leg['leg']} by {', '.join(ways) or leg['index']}: {leg['rows_scored']:,} rows scored, "
            f"{leg['candidates']:,} candidates{terms}"
        )
    if plan["rounds"]:
        lines.append(f"  waited {len(plan['rounds'])} times for {plan['bytes_read']:,} bytes")
    if "fusion" in plan:
        fusion = plan["fusion"]
        lines.append(f"  fused by {fusion['method']}, k {fusion['k']:g}, depth {fusion['depth']}")
    return Text("\n".join(lines), style="green")


def _print_counts(console: Console, answer: Answer) -> None:
    console.print(Text("aggregation: what there is, counted exactly", style="bold"))
    made = Table(box=None, pad_edge=False)
    made.add_column("kind")
    made.add_column("documents", justify="right")
    made.add_column("characters", justify="right")
    for group in answer.body["groups"]:
        made.add_row(group["key"]["kind"], f"{group['count']:,}", f"{group['sum']['length']:,}")
    console.print(made)


def _as_body(params: QueryParams) -> bytes:
    return orjson.dumps(params, option=orjson.OPT_SERIALIZE_NUMPY)


def curl_examples(url: str, hybrid: Path) -> str:
    """Commands to go on with. `hybrid` holds the body of a hybrid query."""
    namespace = f"{url}/v1/namespaces/{NAMESPACE}"
    text = '{"full_text": {"field": "doc", "query": "compressed archive"}, "top_k": 3}'
    filtered = (
        '{"full_text": {"field": "doc", "query": "thread"}, "include_attributes": ["name"], '
        '"filter": {"field": "kind", "op": "eq", "value": "class"}}'
    )
    counted = '{"aggregate": {"count": true, "group_by": ["kind"]}}'
    return f"""
The server goes on; Ctrl-C ends it. To go on with:

  curl {namespace}
  curl {namespace}/query -d '{text}'
  curl {namespace}/query -d '{filtered}'
  curl {namespace}/query -d @{hybrid}
  curl {namespace}/query -d '{counted}'
"""
