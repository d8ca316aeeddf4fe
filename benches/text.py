"""Text in process: indexing and exact top-10 queries, beside tantivy over the same documents.

    python benches/text.py [--rows 200000] [--queries 400] [--tantivy] [--json out.json]

Documents and queries are those of `benches.generated`: three words, one of them in more than a tenth of the
documents. Times are of one thread's processor, the best of TURNS turns for each query; over one part and over
PARTS, and with a filter that leaves 1 % of the rows. Answers are compared with BM25 by counting words.

`--tantivy` adds raw tantivy with its own scores, whose lengths are rounded to a byte: the addresses of the
top 10, from one segment and from several composed into one index.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tantivy

from benches import generated
from benches.support import Figure, options, report, working_folder
from elacsym.format.reading import Steps, done, resident
from elacsym.index.ids import IdColumn
from elacsym.index.text import TextIndex
from elacsym.query.ast import TextLeg
from elacsym.query.matching import Matches, live_rows
from elacsym.query.searchable import PartView, SearchSnapshot
from elacsym.query.text_leg import relevant
from elacsym.types import Attribute, AttributeType, FullText, Schema

K, TURNS, PARTS, FILTERED_SHARE = 10, 5, 12, 0.01
QUERY_US_MAX, TOKENS_PER_S_MIN = 250.0, 250_000
CHECKED = 40  # queries whose answers are compared

Bools = npt.NDArray[np.bool_]


class TextPart:
    """A part of nothing but texts; ids are row numbers of the whole."""

    label = "texts"

    def __init__(self, index: TextIndex, first: int) -> None:
        self._index, self.rows, self._first = index, index.rows_total, first

    def text(self, name: str) -> Steps[TextIndex]:  # noqa: ARG002 - there is one only
        return done(self._index)

    def ids(self) -> Steps[Any]:
        return done(self)

    def documents(self, rows: npt.NDArray[np.int64]) -> Steps[list[int]]:
        return done((rows + self._first).tolist())

    def select(self, rows: npt.NDArray[np.int64]) -> Steps[IdColumn]:
        return done(IdColumn("uint", pa.array((rows + self._first).astype(np.uint64))))


def snapshot(texts: pa.Array, parts: int) -> SearchSnapshot:
    """The texts as a snapshot of so many parts of the same size."""
    schema = Schema(
        "uint",
        None,
        MappingProxyType({"text": Attribute(AttributeType.parse("string"), full_text=FullText())}),
    )
    edges = [len(texts) * part // parts for part in range(parts + 1)]
    views = [
        PartView(
            TextPart(TextIndex.build(texts[start:stop], FullText()), start),  # type: ignore[arg-type]
            np.ones(stop - start, np.bool_),
        )
        for start, stop in pairwise(edges)
    ]
    return SearchSnapshot(schema, views, "inc", 1, 1)


def matches(of: SearchSnapshot, keep: Bools | None) -> Matches:
    """All rows, or those of `keep`."""
    if keep is None:
        return live_rows(of)
    masks = np.split(keep, np.cumsum([view.part.rows for view in of.parts])[:-1])
    return Matches(tuple(masks), tuple(int(np.count_nonzero(mask)) for mask in masks))


def best_us(answers: Sequence[Callable[[], object]]) -> npt.NDArray[np.float64]:
    """(n,) microseconds of this thread's processor that each answer takes, the best of TURNS turns."""
    best = np.full(len(answers), np.inf)
    for _ in range(TURNS):
        for number, answer in enumerate(answers):
            before_ns = time.thread_time_ns()
            answer()
            best[number] = min(best[number], (time.thread_time_ns() - before_ns) / 1_000)
    return best


def figure(name: str, times_us: npt.NDArray[np.float64], us_max: float | None = None) -> Figure:
    """The mean of some times, and how they are spread."""
    mean = float(times_us.mean())
    p50, p90 = np.quantile(times_us, [0.5, 0.9]).tolist()
    notes = {"p50_us": round(p50), "p90_us": round(p90), "max_us": round(float(times_us.max()))}
    if us_max is None:
        return Figure(name, mean, unit="us", notes=notes)
    return Figure(name, mean, f"≤ {us_max:g} us", mean <= us_max, "us", notes)


def queried(
    ranks: generated.Ranks, texts: pa.Array, queries: npt.NDArray[np.int32], keep: Bools
) -> list[Figure]:
    """The engine's text leg over one part and over PARTS, plain and filtered."""
    figures = []
    legs = [TextLeg((("text", 1.0),), generated.text(query)) for query in queries]
    for parts in (1, PARTS):
        of = snapshot(texts, parts)
        for label, mask in (("", None), (f", filter {FILTERED_SHARE:.0%}", keep)):
            chosen = matches(of, mask)

            def answer(leg: TextLeg, of: SearchSnapshot = of, chosen: Matches = chosen) -> Any:
                return resident(relevant(of, leg, chosen, K))

            for query, leg in zip(queries[:CHECKED], legs[:CHECKED], strict=True):
                rows, scores = generated.best_bm25(ranks, query, K, mask)
                found = answer(leg)
                assert list(found.ids) == rows.tolist(), leg.query
                assert found.scores.tolist() == scores.tolist(), leg.query
            times = best_us([lambda leg=leg, answer=answer: answer(leg) for leg in legs])
            figures.append(figure(f"{parts} part(s){label}", times, QUERY_US_MAX if parts == 1 else None))
    return figures


def tantivy_index(folder: Path, texts: Sequence[str]) -> tantivy.Index:
    """One segment of documents in order."""
    folder.mkdir(parents=True)
    schema = tantivy.SchemaBuilder().add_text_field("text", tokenizer_name="whitespace", index_option="freq")
    index = tantivy.Index(schema.build(), path=str(folder))
    writer = index.writer(heap_size=1_000_000_000, num_threads=1)
    for text in texts:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index


def composed(folder: Path, parts: Sequence[Path]) -> tantivy.Index:
    """One index over the segments of several, by hard links and a joint `meta.json`."""
    folder.mkdir()
    metas = []
    for part in parts:
        metas.append(json.loads((part / "meta.json").read_text()))
        for file in part.iterdir():
            if file.name not in ("meta.json", ".managed.json") and not file.name.endswith(".lock"):
                os.link(file, folder / file.name)
    metas[0]["segments"] = [segment for meta in metas for segment in meta["segments"]]
    (folder / "meta.json").write_text(json.dumps(metas[0]))
    names = sorted(file.name for file in folder.iterdir())
    (folder / ".managed.json").write_text(json.dumps(names))
    return tantivy.Index.open(str(folder))


def tantivy_figures(work: Path, texts: Sequence[str], queries: npt.NDArray[np.int32]) -> list[Figure]:
    """What tantivy takes for its own top K."""
    figures = []
    spoken = [generated.text(query) for query in queries]
    for parts in (1, PARTS):
        folder = work / f"tantivy-{parts}"
        shutil.rmtree(folder, ignore_errors=True)
        edges = [len(texts) * part // parts for part in range(parts + 1)]
        folders = [folder / str(part) for part in range(parts)]
        before = time.process_time()
        for path, (start, stop) in zip(folders, pairwise(edges), strict=True):
            tantivy_index(path, texts[start:stop])
        spent = time.process_time() - before
        searcher = composed(folder / "composed", folders).searcher()
        assert (searcher.num_docs, searcher.num_segments) == (len(texts), parts)
        index = tantivy.Index.open(str(folder / "composed"))
        parsed = [index.parse_query(query, ["text"]) for query in spoken]
        if parts == 1:
            figures.append(
                Figure("tantivy, indexing", len(texts) * generated.WORDS_PER_TEXT / spent, unit="tokens/s")
            )
        for label, depth in (("", K), (", 100 candidates", 100)):
            times = best_us([partial(searcher.search, query, depth, count=False) for query in parsed])
            figures.append(figure(f"tantivy, {parts} segment(s){label}", times))
    return figures


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=400)
    parser.add_argument("--tantivy", action="store_true", help="measure tantivy, too")
    arguments = parser.parse_args()
    ranks = generated.texts(arguments.rows)
    texts = [generated.text(row) for row in ranks]
    queries = generated.text_queries(ranks, arguments.queries)
    keep = np.random.default_rng(5).random(arguments.rows) < FILTERED_SHARE
    column = pa.array(texts)
    before = time.process_time()
    size_bytes = len(TextIndex.build(column, FullText()).encode())
    per_s = ranks.size / (time.process_time() - before)
    notes = {"index_bytes": size_bytes, "text_bytes": sum(map(len, texts))}
    reached = per_s >= TOKENS_PER_S_MIN
    figures = [Figure("indexing", per_s, f"≥ {TOKENS_PER_S_MIN:,} tokens/s", reached, "tokens/s", notes)]
    figures += queried(ranks, column, queries, keep)
    if arguments.tantivy:
        with working_folder(arguments.work) as work:
            figures += tantivy_figures(work, texts, queries)
    return report(f"text in process, {arguments.rows:,} documents", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
