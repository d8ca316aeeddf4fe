"""The tour on a small corpus against a real server."""

import io
from pathlib import Path

import numpy as np
import orjson
import pytest
from rich.console import Console

from elacsym.client import Client
from elacsym.demo import tour
from elacsym.demo.corpus import Entry
from elacsym.demo.embedding import LatentSemantics
from elacsym.demo.local import DemoError, running_server

TEXTS = [
    "Read members of a compressed archive, one after the other, and verify their checksums.",
    "Run a function in a separate thread and wait for its result.",
    "Parse command line arguments into a namespace of values.",
    "Convert a date between time zones. " + "The zone of the result is the one that was asked for. " * 8,
]
ENTRIES = [Entry(f"f{n}", "function", "mod", text, n) for n, text in enumerate(TEXTS, 1)]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture(scope="module")
def projection(url):
    projection, vectors = LatentSemantics.fit([e.text for e in ENTRIES], 3)
    with Client(url) as client:
        quiet = Console(file=io.StringIO())
        # the second run finds the namespace of the first one and makes it anew
        tour.load(quiet, client, tour.documents(ENTRIES + ENTRIES, np.tile(vectors, (2, 1))), 3)
        tour.load(quiet, client, tour.documents(ENTRIES, vectors), 3)
        assert client.info(tour.NAMESPACE)["documents"] == len(ENTRIES)
    return projection


@pytest.mark.parametrize(("number", "expected"), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4)])
def test_every_question_finds_the_text_that_answers_it(url, projection, number, expected):
    printed = io.StringIO()
    with Client(url) as client:
        question = tour.QUESTIONS[number]
        answer = tour.ask(Console(file=printed, width=200), client, projection, question)
    assert answer.results[0].id == expected
    assert question.title in printed.getvalue()
    assert f"mod.f{expected}" in printed.getvalue()


def test_the_hybrid_question_is_explained_leg_by_leg(url, projection):
    printed = io.StringIO()
    with Client(url) as client:
        answer = tour.ask(Console(file=printed, width=200), client, projection, tour.QUESTIONS[2])
    assert len(answer.results[0].shares) == 2
    assert "vector:vector: rank 1" in printed.getvalue()
    assert "text:doc: rank 1" in printed.getvalue()
    assert "plan: hybrid" in printed.getvalue()


def test_the_examples_name_the_server_and_the_file():
    shown = tour.curl_examples("http://127.0.0.1:3000", Path("/data/q.json"))
    assert f"curl http://127.0.0.1:3000/v1/namespaces/{tour.NAMESPACE}/query -d @/data/q.json" in shown
    bodies = [line.split("'")[1] for line in shown.splitlines() if "'" in line]
    assert len(bodies) == 3
    assert all(orjson.loads(body) for body in bodies)


def test_the_example_bodies_are_valid_queries(url, projection):
    shown = tour.curl_examples(url, Path("/data/q.json"))
    with Client(url) as client:
        for line in shown.splitlines():
            if "'" in line:
                client.query(tour.NAMESPACE, **orjson.loads(line.split("'")[1]))


def test_a_port_that_is_taken_is_reported(url, tmp_path):
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(DemoError, match=f"{port}.*--port"), running_server(tmp_path, port):
        pass
