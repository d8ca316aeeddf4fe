"""Rankings of real collections through a real server are those of the plain formulas."""

from __future__ import annotations

import pytest

from benches import layouts, quality
from benches.support import running_server
from elacsym.client import Client

pytestmark = pytest.mark.data


def first_queries(collection, count):
    """The set with its first `count` judged queries only."""
    chosen = [i for i, q in enumerate(collection.query_ids) if q in collection.qrels][:count]
    collection.queries = [collection.queries[i] for i in chosen]
    collection.query_ids = [collection.query_ids[i] for i in chosen]
    collection.query_vecs = collection.query_vecs[chosen]
    collection.qrels = {q: collection.qrels[q] for q in collection.query_ids}
    return collection


def answered(folder, collection):
    with running_server(folder) as server, Client(server.url) as client:
        quality.ingest(client, collection)
        return quality.ask(client, collection)


def assert_rankings_alike(figures):
    # exact cosine comes from BLAS, which may swap documents whose distances differ in the last bit
    assert {f.name: f.notes["rankings_equal"] for f in figures if f.notes["rankings_equal"] < 0.95} == {}


def missed(figures):
    return [f"{f.name}: {f.value:.4f}, goal {f.goal}" for f in figures if f.reached is False]


def test_every_leg_and_fusion_on_scifact_equals_its_reference(scorer, tmp_path):
    collection = first_queries(scorer.load("scifact"), 60)
    figures = quality.compare(scorer, collection, answered(tmp_path, collection))
    assert len(figures) == 4
    assert all(figure.value > 0.5 for figure in figures)
    assert missed(figures) == []
    assert_rankings_alike(figures)


def test_cranfield_equals_its_references_and_the_published_figures(collections, scorer, tmp_path):
    collection = scorer.load("cranfield")
    runs = answered(tmp_path, collection)
    figures = quality.compare(scorer, collection, runs)
    assert missed(figures) == []
    assert_rankings_alike(figures)
    assert missed(quality.compare_published(scorer, collection, runs, collections)) == []


def test_cranfield_is_answered_alike_on_every_layout(scorer, tmp_path):
    collection = first_queries(scorer.load("cranfield"), 20)
    by_layout = {
        layout: layouts.answers(tmp_path / layout, layout, collection) for layout in layouts.SEGMENTS
    }
    figures = layouts.compare("cranfield", by_layout)
    assert len(figures) == 3
    assert missed(figures) == []
