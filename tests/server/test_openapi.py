"""The description and the server say the same: routes, and the shape of real answers."""

import jsonschema
import pytest

from elacsym.server import openapi
from elacsym.server.app import ROUTES

NS = "/v1/namespaces/docs"


def described():
    return {
        (path, method.upper())
        for path, operations in openapi.DOCUMENT["paths"].items()
        for method in operations
    }


def routed():
    return {
        (path.replace(":path}", "}"), method) for path, operations in ROUTES.items() for method in operations
    }


def test_every_route_is_described_and_every_description_routed():
    assert described() == routed()


def test_what_needs_no_key_is_described_so():
    for path, operations in ROUTES.items():
        for method, operation in operations.items():
            entry = openapi.DOCUMENT["paths"][path.replace(":path}", "}")][method.lower()]
            assert (entry.get("security") == []) is operation.is_open, (method, path)


def test_writes_are_described_as_going_elsewhere():
    for path, operations in ROUTES.items():
        for method, operation in operations.items():
            entry = openapi.DOCUMENT["paths"][path.replace(":path}", "}")][method.lower()]
            assert ("307" in entry["responses"]) is operation.is_write, (method, path)


def test_every_description_names_its_errors():
    for path, operations in openapi.DOCUMENT["paths"].items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert "500" in statuses, path
            if "requestBody" in operation:
                assert {"400", "413", "422"} <= statuses, (method, path)
            if "{ns}" in path:
                assert {"400", "401", "404", "503"} <= statuses, (method, path)


def test_the_description_is_a_valid_openapi_document():
    pytest.importorskip("openapi_spec_validator").validate(openapi.DOCUMENT)


def check(schema, value):
    # local references are resolved from the root of what is validated
    whole = schema | {"components": openapi.DOCUMENT["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)


CALLS = [
    (
        "PUT",
        "/v1/namespaces/{ns}",
        NS,
        {"schema": {"attributes": {"more": {"type": "boolean"}, "other": {"type": "[384]f16"}}}},
    ),
    ("POST", "/v1/namespaces/{ns}/upsert", f"{NS}/upsert", {"documents": [{"id": 8, "vector": [1, 1]}]}),
    ("POST", "/v1/namespaces/{ns}/delete", f"{NS}/delete", {"ids": [8]}),
    (
        "POST",
        "/v1/namespaces/{ns}/query",
        f"{NS}/query",
        {
            "vector": [1, 1],
            "full_text": {"field": "title", "query": "object"},
            "explain": True,
            "include_vector": True,
            "consistency": "eventual",
            "filter": {"type": "not", "condition": {"field": "year", "op": "in", "value": [1, 2]}},
        },
    ),
    (
        "POST",
        "/v1/namespaces/{ns}/query",
        f"{NS}/query",
        {
            "order_by": [["year", "asc"]],
            "aggregate": {"count": True, "sum": ["year"], "group_by": ["category"]},
        },
    ),
    (
        "POST",
        "/v1/namespaces/{ns}/documents/get",
        f"{NS}/documents/get",
        {"ids": [1, 77], "include_vector": True},
    ),
    ("GET", "/v1/namespaces/{ns}/documents/{id}", f"{NS}/documents/1", None),
    ("GET", "/v1/namespaces/{ns}/hint_cache_warm", f"{NS}/hint_cache_warm", None),
    ("POST", "/v1/namespaces/{ns}/_debug/recall", f"{NS}/_debug/recall", {}),
    (
        "POST",
        "/v1/namespaces/{ns}/_debug/recall",
        f"{NS}/_debug/recall",
        {
            "num": 2,
            "top_k": 2,
            "filters": {"field": "year", "op": "gt", "value": 2020},
            "vector_field": "vector",
            "queries": "stored",
            "include_ground_truth": True,
        },
    ),
    ("GET", "/v1/namespaces/{ns}", NS, None),
    ("GET", "/v1/namespaces", "/v1/namespaces", None),
    ("DELETE", "/v1/namespaces/{ns}", NS, None),
    ("GET", "/v1/cluster", "/v1/cluster", None),
    ("GET", "/v1/cluster", "/v1/cluster?namespaces=true", None),
    ("GET", "/v1/cluster/owner/{ns}", "/v1/cluster/owner/docs", None),
    ("POST", "/v1/cluster/rebalance", "/v1/cluster/rebalance", {"members": {"other": 2, "node-1": 0.5}}),
    *[("GET", path, path, None) for path in ("/health", "/livez", "/readyz", "/version", "/openapi.json")],
]


@pytest.mark.parametrize(("method", "path", "url", "body"), CALLS)
async def test_requests_and_answers_fit_their_description(docs, method, path, url, body):
    operation = openapi.DOCUMENT["paths"][path][method.lower()]
    if body is not None:
        check(operation["requestBody"]["content"]["application/json"]["schema"], body)
    response = await docs.request(method, url, json=body)
    (status,) = (status for status in operation["responses"] if status.startswith("2"))
    assert response.status_code == int(status), response.text
    check(operation["responses"][status]["content"]["application/json"]["schema"], response.json())


async def test_errors_fit_their_description(docs):
    response = await docs.post(f"{NS}/upsert", json={"documents": [{}]})
    assert response.status_code == 422
    check({"$ref": "#/components/schemas/Error"}, response.json())
