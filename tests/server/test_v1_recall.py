"""Measuring recall over HTTP, against a real database."""

import numpy as np
import pytest

from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import Compare, Op
from elacsym.server.v1_recall import decode

NS = "/v1/namespaces/docs"
RECALL = f"{NS}/_debug/recall"


async def measured(client, **body):
    response = await client.post(RECALL, json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_nothing_has_to_be_said(docs):
    found = await measured(docs)
    assert found.pop("took_ms") >= 0
    assert found == {
        "avg_recall": 1.0,
        "avg_ann_count": 3.0,
        "avg_exhaustive_count": 3.0,
        "queries": {"recent": 0, "stored": 3},
    }


async def test_counts_are_of_rows_up_to_top_k(docs):
    found = await measured(docs, top_k=2)
    assert (found["avg_recall"], found["avg_ann_count"], found["avg_exhaustive_count"]) == (1, 2, 2)


async def test_queries_that_were_asked_lately_come_first_and_measuring_is_not_asking(docs):
    asked = [[0.25, 0.5], [0.5, 0.25]]
    for vector in asked:
        assert (await docs.post(f"{NS}/query", json={"vector": vector})).status_code == 200
    for num, expected in ((1, (1, 0)), (2, (2, 0)), (4, (2, 2)), (25, (2, 3))):
        found = await measured(docs, num=num, include_ground_truth=True)
        assert (found["queries"]["recent"], found["queries"]["stored"]) == expected
        assert sum(t["query_vector"] in asked for t in found["ground_truth"]) == expected[0]
    assert (await measured(docs, queries="stored"))["queries"] == {"recent": 0, "stored": 3}


async def test_ground_truth_is_the_exact_answer(docs):
    found = await measured(docs, top_k=2, num=3, include_ground_truth=True, queries="stored")
    assert len(found["ground_truth"]) == 3
    for truth in found["ground_truth"]:
        exact = await docs.post(
            f"{NS}/query",
            json={"vector": truth["query_vector"], "top_k": 2, "exact": True},
        )
        rows = [{"id": r["id"], "$dist": r["score"], **r["attributes"]} for r in exact.json()["results"]]
        assert truth["nearest_neighbors"] == rows


async def test_one_given_search_is_measured(docs):
    body = {"rank_by": ["vector", "ANN", [0.25, 0.5]], "top_k": 2, "include_ground_truth": True}
    for num in (None, 1):
        found = await measured(docs, num=num, **body)
        assert (found["avg_recall"], found["queries"]) == (1, {"recent": 0, "stored": 0})
        assert [t["query_vector"] for t in found["ground_truth"]] == [[0.25, 0.5]]
    for other in ({"num": 2}, {"rank_by": ["title", "BM25", "x"]}, {"rank_by": ["category", "asc"]}):
        response = await docs.post(RECALL, json=body | other)
        assert response.status_code == 400, other


async def test_a_filter_holds_for_both_ways(docs):
    condition = {"field": "category", "op": "eq", "value": "text"}
    found = await measured(docs, filters=condition, include_ground_truth=True)
    assert (found["avg_recall"], found["avg_exhaustive_count"]) == (1, 1)
    assert {row["id"] for t in found["ground_truth"] for row in t["nearest_neighbors"]} == {3}


async def test_an_empty_namespace_has_nothing_to_miss(client):
    await client.put(NS, json={"schema": {"vector_dim": 2}})
    found = await measured(client)
    assert (found["avg_recall"], found["avg_ann_count"], found["queries"]["stored"]) == (1, 0, 0)


async def test_of_several_vectors_one_is_measured(client):
    attributes = {f"v{kind}": {"type": f"[3]{kind}"} for kind in ("f32", "f16", "i8")}
    await client.put(NS, json={"schema": {"vector_metric": "dot", "attributes": attributes}})
    rng = np.random.default_rng(1)
    documents = [
        {"id": n, "attributes": {name: rng.integers(-5, 5, 3).tolist() for name in attributes}}
        for n in range(20)
    ]
    await client.post(f"{NS}/upsert", json={"documents": documents})
    for name in attributes:
        assert (await measured(client, vector_field=name))["avg_recall"] == 1
    # without a word it is the first
    found = await measured(client, include_ground_truth=True)
    stored = [d["attributes"]["vf32"] for d in documents]
    assert all(t["query_vector"] in stored for t in found["ground_truth"])


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"vector_field": "title"}, 400, "'title' is no vector attribute"),
        ({"vector_field": "absent"}, 400, "'absent' is no vector attribute"),
        ({"filters": {"field": "absent", "op": "eq", "value": 1}}, 400, "absent"),
        ({"num": 0}, 400, "num"),
    ],
)
async def test_what_cannot_be_measured_is_refused(docs, body, status, words):
    response = await docs.post(RECALL, json=body)
    assert response.status_code == status
    assert words in response.json()["error"]


async def test_without_vectors_or_namespace_there_is_nothing_to_measure(client):
    assert (await client.post(RECALL, json={})).status_code == 404
    await client.put(NS, json={"schema": {}})
    response = await client.post(RECALL, json={})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_request")


def test_a_body_decodes():
    found = decode({"num": 3, "filters": {"field": "a", "op": "eq", "value": 1}, "queries": "stored"})
    assert (found.num, found.top_k, found.source, found.attribute) == (3, 10, "stored", None)
    assert found.filter == Compare("a", Op.EQ, 1, "filters")


@pytest.mark.parametrize(
    ("body", "kind", "field"),
    [
        ([], InvalidShape, "the body"),
        ({"num": "3"}, InvalidShape, "num"),
        ({"num": 1001}, InvalidRequest, "num"),
        ({"top_k": 0}, InvalidRequest, "top_k"),
        ({"top_k": 1001}, InvalidRequest, "top_k"),
        ({"filters": "all"}, InvalidShape, "filters"),
        ({"filter": {}}, InvalidShape, "filter"),
        ({"queries": "old"}, InvalidShape, "queries"),
        ({"include_ground_truth": 1}, InvalidShape, "include_ground_truth"),
        (
            {"num": 101, "top_k": 100, "include_ground_truth": True},
            InvalidRequest,
            "include_ground_truth",
        ),
    ],
)
def test_a_bad_body_is_refused_by_its_path(body, kind, field):
    with pytest.raises(InvalidRequest) as error:
        decode(body)
    assert (type(error.value), error.value.field) == (kind, field)
