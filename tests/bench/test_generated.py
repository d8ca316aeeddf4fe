import numpy as np
import pytest

from benches import generated
from benches.reference import NaiveBm25


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(generated, "_BLOCK", 300)


def test_a_smaller_collection_is_the_beginning_of_a_larger_one(tmp_path):
    few, many = generated.vectors(tmp_path, 400), generated.vectors(tmp_path, 1_000)
    assert few.shape == (400, generated.DIMENSIONS)
    assert few.dtype == np.float32
    assert np.array_equal(few, many[:400])
    assert np.array_equal(generated.texts(400), generated.texts(1_000)[:400])


def test_vectors_are_made_once(tmp_path):
    generated.vectors(tmp_path, 50)
    (path,) = tmp_path.iterdir()
    made = path.stat()
    generated.vectors(tmp_path, 50)
    assert path.stat().st_ino == made.st_ino


def test_vector_queries_are_no_stored_vectors(tmp_path):
    queries, base = generated.vector_queries(20), generated.vectors(tmp_path, 300)
    nearest = ((base[None] - queries[:, None]) ** 2).sum(axis=2).min(axis=1)
    assert (nearest > 1e-3).all()


def test_words_follow_the_zipf_distribution():
    counts = np.bincount(generated.texts(3_000).ravel(), minlength=100)
    assert counts[0] / counts[9] == pytest.approx(10**generated.EXPONENT, rel=0.1)


def test_document_frequencies_count_a_text_once():
    ranks = np.array([[3, 3, 5], [5, 1, 1]], np.int32)
    frequencies = generated.document_frequencies(ranks)
    assert frequencies[[1, 3, 5]].tolist() == [1, 1, 2]
    assert frequencies.sum() == 4


def test_text_queries_have_one_frequent_word_and_two_rarer_ones_of_one_text():
    ranks = generated.texts(2_000)
    frequencies = generated.document_frequencies(ranks) / len(ranks)
    for query in generated.text_queries(ranks, 50):
        assert len(set(query.tolist())) == 3
        assert frequencies[query[0]] > generated.FREQUENT_SHARE
        assert (frequencies[query[1:]] <= generated.FREQUENT_SHARE).all()
        together = (ranks == query[1]).any(axis=1) & (ranks == query[2]).any(axis=1)
        assert together.any()


def test_bm25_by_counting_words_is_bm25_by_the_formula():
    ranks = generated.texts(500)
    # of one width, so that ids as strings are in the order of rows
    naive = NaiveBm25([f"{row:04}" for row in range(500)], map(generated.text, ranks), str.split)
    for query in generated.text_queries(ranks, 20):
        rows, scores = generated.best_bm25(ranks, query, 10)
        hits = naive.hits(generated.text(query), 10)
        assert [int(document) for document, _ in hits] == rows.tolist()
        assert np.allclose([score for _, score in hits], scores, rtol=1e-6)


def test_a_filter_leaves_statistics_alone():
    ranks = generated.texts(500)
    (query,) = generated.text_queries(ranks, 1)
    rows, scores = generated.best_bm25(ranks, query, 500)
    keep = np.arange(500) % 3 == 0
    kept = keep[rows]
    filtered_rows, filtered_scores = generated.best_bm25(ranks, query, 500, keep)
    assert filtered_rows.tolist() == rows[kept].tolist()
    assert filtered_scores.tolist() == scores[kept].tolist()
