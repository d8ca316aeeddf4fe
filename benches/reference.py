"""What the figures of quality are compared with: rankings in plain Python, without the code they judge.

The evaluation collections come with their own scorer, `eval.py` in their folder, which reads a set, ranks by
exact cosine and fuses by reciprocal ranks. Runs are as there: query id to [(document id, score), ...], higher
scores better.
"""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from elacsym.index.tokenize import analyzer
from elacsym.types import FullText

Hits = list[tuple[str, float]]
Run = dict[str, Hits]


def load_scorer(folder: Path) -> ModuleType:
    """The module `eval.py` of the collections' folder."""
    spec = importlib.util.spec_from_file_location("collections_eval", folder / "eval.py")
    if spec is None or spec.loader is None or not (folder / "eval.py").is_file():
        raise FileNotFoundError(f"{folder}: no eval.py, so this is no folder of evaluation collections")
    module = importlib.util.module_from_spec(spec)
    # the folder may be read-only
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def ndcg(scorer: ModuleType, run: Run, qrels: dict[str, dict[str, int]]) -> float:
    """Mean nDCG@10 over the queries with a relevant document, not rounded; a query the run lacks counts 0."""
    gains_of = {query: gains for query, gains in qrels.items() if max(gains.values()) > 0}
    return float(
        np.mean([scorer.ndcg_at_k(scorer.ranked(run.get(q, ())), gains) for q, gains in gains_of.items()])
    )


def published_tokens(text: str) -> list[str]:
    """The analysis behind the published figures of bm25s: runs of at least two word characters, the same
    stop words and stems as ours."""
    term = analyzer(FullText(stemming=True, remove_stopwords=True)).term
    return list(filter(None, map(term, re.findall(r"\b\w\w+\b", text))))


class NaiveBm25:
    """BM25 by the formula, over whatever terms `tokens` gives.

    score(d) = sum over distinct query terms t of idf(t) · tf·(k1 + 1) / (tf + k1·(1 - b + b·dl/avgdl))
               · q·(k3 + 1) / (k3 + q),   idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))
    """

    def __init__(
        self,
        ids: Sequence[str],
        texts: Iterable[str],
        tokens: Callable[[str], list[str]],
        *,
        k1: float = 1.2,
        b: float = 0.75,
        k3: float = 8.0,
    ) -> None:
        self._ids, self._tokens, self._k1, self._b, self._k3 = ids, tokens, k1, b, k3
        documents = [tokens(text) for text in texts]
        self._lengths = [len(document) for document in documents]
        self._average = sum(self._lengths) / len(self._lengths)
        self._rows: dict[str, list[tuple[int, int]]] = {}
        for row, document in enumerate(documents):
            for term, frequency in Counter(document).items():
                self._rows.setdefault(term, []).append((row, frequency))

    def hits(self, query: str, depth: int) -> Hits:
        """The best `depth` documents; scores rounded to float32 as in an answer, ties by id."""
        k1, b, k3 = self._k1, self._b, self._k3
        shares: dict[int, list[float]] = {}
        for term, q in Counter(self._tokens(query)).items():
            rows = self._rows.get(term, [])
            idf = math.log(1 + (len(self._ids) - len(rows) + 0.5) / (len(rows) + 0.5))
            for row, tf in rows:
                norm = k1 * (1 - b + b * self._lengths[row] / self._average)
                shares.setdefault(row, []).append(
                    idf * (tf * (k1 + 1) / (tf + norm)) * (q * (k3 + 1) / (k3 + q))
                )
        scored = [(self._ids[row], float(np.float32(math.fsum(s)))) for row, s in shares.items()]
        return sorted(scored, key=lambda hit: (-hit[1], hit[0]))[:depth]


def weighted(first: Run, second: Run, first_weight: float, depth: int = 100) -> Run:
    """Sums of scores: of each run's first `depth`, scaled to 0…1 per query, times the weights, which add up
    to 1."""
    fused: Run = {}
    for query in first.keys() | second.keys():
        total: dict[str, float] = {}
        for run, weight in ((first, first_weight), (second, 1 - first_weight)):
            for document, score in _scaled(run.get(query, []), depth):
                total[document] = total.get(document, 0.0) + weight * score
        fused[query] = sorted(total.items(), key=lambda hit: (-hit[1], hit[0]))
    return fused


def _scaled(hits: Hits, depth: int) -> Hits:
    best = sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:depth]
    if not best:
        return []
    high, low = best[0][1], best[-1][1]
    return [(d, (score - low) / (high - low) if high > low else 1.0) for d, score in best]


def published(folder: Path, set_name: str) -> dict[str, float]:
    """nDCG@10 in the set's README: `bm25s`, `tantivy`, `vector`, `rrf` (of bm25s and vector)."""
    rows = {
        "bm25s": r"BM25, bm25s [\d.]+ ",
        "tantivy": r"BM25, tantivy",
        "vector": r"MiniLM, exact cosine",
        "rrf": r"RRF [^|]*of bm25s",
    }
    text = (folder / set_name / "README.md").read_text(encoding="utf-8")
    found: dict[str, Any] = {
        name: re.search(rf"^\| {start}[^|]*\| (0\.\d+) \|", text, re.MULTILINE)
        for name, start in rows.items()
    }
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise ValueError(f"{set_name}/README.md: no measured figure of {', '.join(missing)}")
    return {name: float(match[1]) for name, match in found.items()}
