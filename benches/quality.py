"""nDCG@10 on real collections through the HTTP API, against exact references.

    python benches/quality.py --data FOLDER --sets scifact,cranfield --json out.json

A set's documents (title and text as one field, stored MiniLM vectors) go to a fresh server; when they are
folded and indexed, every query is asked as text, as vector, and as both under two fusions. Text is compared
with a naive BM25 over the same analysis, vectors with exact cosine, fusions with the scorer's fusion of the
very legs that the server answered. The vector leg is asked twice: as the index answers by default, and
looking at every vector.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from benches.processes import wait_settled
from benches.reference import Hits, NaiveBm25, Run, load_scorer, ndcg, published, published_tokens, weighted
from benches.support import Figure, exit_code, running_server, table, write_json
from elacsym.client import Answer, Client, Document
from elacsym.index.tokenize import analyzer
from elacsym.types import FullText

SETS = ("scifact", "cranfield", "cisi", "cacm", "vaswani", "cosqa", "medquad")
NAMESPACE = "quality"
DEPTH = 100
VECTOR_WEIGHT = 0.8
DOCUMENTS_PER_REQUEST = 1_000

TEXT_TOLERANCE, VECTOR_TOLERANCE, FUSION_TOLERANCE = 0.001, 0.0005, 0.001
INDEX_TOLERANCE = 0.002  # of the vector leg when an index chooses what it looks at
PUBLISHED_TOLERANCE, NAIVE_TOLERANCE = 0.02, 0.0005

ANALYSIS = FullText(stemming=True, remove_stopwords=True)
LINEAR = 1e9  # k3 so large that a query term counts as often as it is there
SCHEMA: dict[str, Any] = {
    "vector_dim": 384,
    "vector_metric": "cosine",
    "attributes": {
        "text": {
            "type": "string",
            "full_text": {"language": "english", "stemming": True, "remove_stopwords": True},
        },
        # a small attribute, so that answers need not bring the texts
        "place": {"type": "integer"},
    },
}


def text_of(document: dict[str, Any]) -> str:
    """What is searched: title and text as one field."""
    return f"{document['title']} {document['text']}"


def documents(collection: Any) -> list[Document]:
    """The documents of a set as an upsert takes them."""
    return [
        {"id": d["_id"], "vector": vector, "attributes": {"text": text_of(d), "place": place}}
        for place, (d, vector) in enumerate(zip(collection.docs, collection.doc_vecs, strict=True))
    ]


def ingest(client: Client, collection: Any) -> None:
    """Create the namespace and fill it."""
    client.create(NAMESPACE, SCHEMA)
    rows = documents(collection)
    for start in range(0, len(rows), DOCUMENTS_PER_REQUEST):
        client.upsert(NAMESPACE, rows[start : start + DOCUMENTS_PER_REQUEST])


@dataclass(frozen=True)
class Runs:
    """The server's answers to all queries of a set. In `vector` scores are similarities, 1 - distance."""

    text: Run
    vector: Run
    rrf: Run
    weighted: Run


def parameters(text: str, vector: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """The four queries that are asked for one text and its vector, by their names in Runs."""
    leg = {"field": "text", "query": text}
    lexical = leg | {"weight": round(1 - VECTOR_WEIGHT, 6)}
    yield "text", {"full_text": leg}
    yield "vector", {"vector": vector}
    yield "rrf", {"vector": vector, "full_text": leg, "fusion": {"method": "rrf", "k": 60, "depth": DEPTH}}
    yield (
        "weighted",
        {"vector": vector, "full_text": lexical, "fusion": {"method": "weighted", "depth": DEPTH}},
    )


def ask(client: Client, collection: Any, *, exact: bool = False) -> Runs:
    """Every query of the set, four ways. exact: the vector leg looks at every vector."""
    runs: dict[str, Run] = {"text": {}, "vector": {}, "rrf": {}, "weighted": {}}
    for query, vector in zip(collection.queries, collection.query_vecs, strict=True):
        for name, wanted in parameters(query["text"], vector):
            answer = client.query(NAMESPACE, **wanted, top_k=DEPTH, include_attributes=["place"], exact=exact)
            runs[name][query["_id"]] = _hits(answer, is_distance=name == "vector")
    return Runs(**runs)


def _hits(answer: Answer, *, is_distance: bool) -> Hits:
    scores = [0.0 if hit.score is None else hit.score for hit in answer.results]
    return [
        (str(hit.id), 1.0 - score if is_distance else score)
        for hit, score in zip(answer.results, scores, strict=True)
    ]


def naive_run(collection: Any, tokens: Callable[[str], list[str]], *, k3: float) -> Run:
    """All queries of a set by the naive BM25."""
    index = NaiveBm25(collection.doc_ids, map(text_of, collection.docs), tokens, k3=k3)
    return {query["_id"]: index.hits(query["text"], DEPTH) for query in collection.queries}


def compare(
    scorer: ModuleType, collection: Any, runs: Runs, *, vector_tolerance: float = VECTOR_TOLERANCE
) -> list[Figure]:
    """The runs against exact references."""
    naive = naive_run(collection, analyzer(ANALYSIS).tokens, k3=ANALYSIS.k3)
    exact = scorer.dense_run(collection, k=DEPTH)
    fused = scorer.rrf([runs.text, runs.vector], k=60, depth=DEPTH)
    summed = weighted(runs.vector, runs.text, VECTOR_WEIGHT, DEPTH)
    pairs = (
        ("text leg, naive BM25", runs.text, naive, TEXT_TOLERANCE),
        ("vector leg, exact cosine", runs.vector, exact, vector_tolerance),
        ("RRF, the scorer's of the same legs", runs.rrf, fused, FUSION_TOLERANCE),
        ("min-max 0.8, plain Python's of the same legs", runs.weighted, summed, FUSION_TOLERANCE),
    )
    figures = []
    for name, run, reference, tolerance in pairs:
        measured, wanted = (ndcg(scorer, r, collection.qrels) for r in (run, reference))
        notes = {"rankings_equal": _equal_share(run, reference)}
        figures.append(_figure(f"{collection.name}: {name}", measured, wanted, tolerance, notes))
    return figures


def compare_published(scorer: ModuleType, collection: Any, runs: Runs, folder: Path) -> list[Figure]:
    """The runs of all queries against the figures in the set's README.

    Other software analysed the texts there: of its two engines the nearer one counts for the text leg. The
    naive BM25 itself is held against bm25s with that engine's analysis, where a repeated query term counts
    in full.
    """
    readme = published(folder, collection.name)
    text, vector, rrf = (ndcg(scorer, run, collection.qrels) for run in (runs.text, runs.vector, runs.rrf))
    nearer = min(("bm25s", "tantivy"), key=lambda engine: abs(readme[engine] - text))
    name = f"{collection.name}: text leg, published {nearer}"
    naive = ndcg(scorer, naive_run(collection, published_tokens, k3=LINEAR), collection.qrels)
    return [
        _figure(
            f"{collection.name}: naive BM25 as bm25s analyses, published",
            naive,
            readme["bm25s"],
            NAIVE_TOLERANCE,
        ),
        _figure(name, text, readme[nearer], PUBLISHED_TOLERANCE, {"bm25s": readme["bm25s"]}),
        _figure(f"{collection.name}: vector leg, published", vector, readme["vector"], VECTOR_TOLERANCE),
        _figure(f"{collection.name}: RRF, published (of bm25s)", rrf, readme["rrf"], None),
    ]


def _figure(
    name: str, measured: float, reference: float, tolerance: float | None, notes: dict[str, Any] | None = None
) -> Figure:
    difference = measured - reference
    return Figure(
        name,
        measured,
        "" if tolerance is None else f"{reference:.4f} ± {tolerance:g}",
        None if tolerance is None else abs(difference) <= tolerance,
        notes={"reference": reference, "difference": difference, **(notes or {})},
    )


def _equal_share(run: Run, reference: Run) -> float:
    """The share of queries whose first 10 documents are the same in the same order."""
    same = [[d for d, _ in run[q][:10]] == [d for d, _ in reference[q][:10]] for q in run]
    return sum(same) / len(same)


def measure(folder: Path, set_name: str) -> list[Figure]:
    """All figures of one set."""
    scorer = load_scorer(folder)
    collection = scorer.load(set_name)
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_server(Path(temporary), fold_age_s=1) as server,
        Client(server.url) as client,
    ):
        ingest(client, collection)
        wait_settled(server, NAMESPACE)
        runs, exact = ask(client, collection), ask(client, collection, exact=True)
    figures = compare(scorer, collection, runs, vector_tolerance=INDEX_TOLERANCE)
    figures += [
        replace(figure, name=f"{figure.name}, every vector looked at")
        for figure in compare(scorer, collection, exact)
        if "vector leg" in figure.name
    ]
    figures += compare_published(scorer, collection, exact, folder)
    columns = ("nDCG@10", "measured", "reference", "difference", "first 10 the same", "reached")
    table(f"{set_name}: {len(collection.docs):,} documents", columns, [_row(f) for f in figures])
    return figures


def _row(figure: Figure) -> tuple[str, ...]:
    same = figure.notes.get("rankings_equal")
    return (
        figure.name,
        f"{figure.value:.4f}",
        f"{figure.notes['reference']:.4f}",
        f"{figure.notes['difference']:+.5f}",
        "" if same is None else f"{same:.1%}",
        {True: "yes", False: "NO", None: ""}[figure.reached],
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join(SETS), help="names of sets, separated by commas")
    parser.add_argument("--data", type=Path, default=os.environ.get("ELACSYM_TEST_DATA"), help="their folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data or ELACSYM_TEST_DATA must name the folder of the collections")
    figures = [figure for name in arguments.sets.split(",") for figure in measure(Path(arguments.data), name)]
    if arguments.json is not None:
        write_json(arguments.json, figures)
    return exit_code(figures)


if __name__ == "__main__":
    raise SystemExit(main())
