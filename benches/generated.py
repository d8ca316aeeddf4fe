"""Generated data: deterministic, in blocks, so that a smaller collection is the beginning of a larger one.

Vectors are clustered and of low intrinsic dimension, as embeddings are: a point of a mixture of CENTRES
Gaussians in LATENT dimensions, mapped to DIMENSIONS at random, plus a little noise in all of them. Texts are
WORDS_PER_TEXT words of a Zipf distribution with exponent EXPONENT over VOCABULARY words.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

DIMENSIONS, LATENT, CENTRES = 384, 48, 1_000
EXPONENT, VOCABULARY, WORDS_PER_TEXT = 1.05, 100_000, 40
K1, B = 1.2, 0.75
FREQUENT_SHARE = 0.1

_BLOCK = 10_000
_SPREAD, _NOISE = 0.5, 0.15
_VECTORS, _TEXTS, _QUERIES, _TEXT_QUERIES = range(4)  # what seeds are for

Floats = npt.NDArray[np.float32]
Ranks = npt.NDArray[np.int32]


def _mixture() -> tuple[Floats, Floats, npt.NDArray[np.float64]]:
    """Centres (CENTRES, LATENT), the map (LATENT, DIMENSIONS), and the shares of the centres."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, LATENT), np.float32)
    # some directions matter more than others
    spectrum = np.exp(-np.arange(LATENT, dtype=np.float32) / (LATENT / 2))
    mapping = rng.standard_normal((LATENT, DIMENSIONS), np.float32) * spectrum[:, None] / np.sqrt(LATENT)
    shares = 1.0 / (np.arange(CENTRES) + 50.0)
    return centres, mapping.astype(np.float32), shares / shares.sum()


def _points(seed: tuple[int, ...], count: int) -> Floats:
    centres, mapping, shares = _mixture()
    rng = np.random.default_rng(seed)
    latent = centres[rng.choice(CENTRES, count, p=shares)]
    latent += _SPREAD * rng.standard_normal((count, LATENT), np.float32)
    return latent @ mapping + _NOISE * rng.standard_normal((count, DIMENSIONS), np.float32)


def vector_queries(count: int) -> Floats:
    """(count, DIMENSIONS) float32 of the vectors' distribution, none of them stored."""
    return _points((_QUERIES,), count)


def vectors(work: Path, rows: int) -> Floats:
    """(rows, DIMENSIONS) float32, a map of a file in `work` that is made at the first call."""
    path = work / f"vectors-{rows}.npy"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.npy")
        made = np.lib.format.open_memmap(partial, "w+", np.float32, (rows, DIMENSIONS))
        for start in range(0, rows, _BLOCK):
            block = _points((_VECTORS, start // _BLOCK), _BLOCK)
            made[start : start + _BLOCK] = block[: rows - start]
        made.flush()
        partial.rename(path)
    found: Floats = np.load(path, mmap_mode="r")
    return found


def texts(rows: int) -> Ranks:
    """(rows, WORDS_PER_TEXT) int32: texts as ranks of their words, 0 the most frequent one."""
    shares = np.arange(1, VOCABULARY + 1) ** -EXPONENT
    edges = np.cumsum(shares / shares.sum())
    blocks = []
    for start in range(0, rows, _BLOCK):
        drawn = np.random.default_rng((_TEXTS, start // _BLOCK)).random((_BLOCK, WORDS_PER_TEXT))
        blocks.append(np.minimum(np.searchsorted(edges, drawn), VOCABULARY - 1).astype(np.int32))
    return np.concatenate(blocks)[:rows]


def word(rank: int) -> str:
    """The word of a rank; one token, whatever the tokenizer."""
    return f"w{rank:x}"


def text(ranks: Ranks) -> str:
    """The text of (n,) ranks."""
    return " ".join(map(word, ranks.tolist()))


def document_frequencies(ranks: Ranks) -> npt.NDArray[np.int64]:
    """(VOCABULARY,) how many texts have each word."""
    by_row = np.sort(ranks, axis=1)
    is_first = np.ones(by_row.shape, np.bool_)
    is_first[:, 1:] = by_row[:, 1:] != by_row[:, :-1]
    return np.bincount(by_row[is_first], minlength=VOCABULARY)


def text_queries(ranks: Ranks, count: int) -> npt.NDArray[np.int32]:
    """(count, 3) ranks of distinct words: one in more than FREQUENT_SHARE of the texts, then two that are in
    fewer, together in one."""
    rng = np.random.default_rng(_TEXT_QUERIES)
    frequencies = document_frequencies(ranks)
    is_frequent = frequencies > FREQUENT_SHARE * len(ranks)
    frequent = np.flatnonzero(is_frequent)
    queries = np.empty((count, 3), np.int32)
    made = 0
    while made < count:
        rare = np.unique(ranks[rng.integers(len(ranks))])
        rare = rare[~is_frequent[rare]]
        if len(rare) >= 2:
            queries[made] = rng.choice(frequent), *rng.choice(rare, 2, replace=False)
            made += 1
    return queries


def best_bm25(
    ranks: Ranks, query: npt.NDArray[np.int32], k: int, keep: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Exact BM25 over all texts by counting words: rows and float32 scores of the best k, ties by row.

    `query`: distinct words. keep: (rows,) bool, which rows may be answered; statistics are of all rows. The
    formula is that of `benches.reference.NaiveBm25`; all texts are equally long.
    """
    counts = [np.count_nonzero(ranks == term, axis=1) for term in query]
    scores = np.zeros(len(ranks))
    for tf in counts:
        df = np.count_nonzero(tf)
        idf = np.log(1 + (len(ranks) - df + 0.5) / (df + 0.5))
        scores += idf * tf * (K1 + 1) / (tf + K1)
    found = np.flatnonzero((scores > 0) if keep is None else (scores > 0) & keep)
    rounded = scores[found].astype(np.float32)
    order = np.lexsort((found, -rounded))[:k]
    return found[order], rounded[order]
