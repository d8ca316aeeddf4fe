"""Writes that reach a node which does not own the namespace, without forwarding: 307."""

from __future__ import annotations

import pytest
from cluster.served import cluster_of, owned_by

from elacsym.server.app import ROUTES

READ_ONLY = {
    ("POST", "/v1/namespaces/{ns}/query"),
    ("POST", "/v1/namespaces/{ns}/documents/get"),
    ("POST", "/v1/namespaces/{ns}/_debug/recall"),
    ("POST", "/v2/namespaces/{ns}/query"),
    ("POST", "/v2/namespaces/{ns}/explain_query"),
    ("POST", "/v2/namespaces/{ns}/_debug/recall"),
    ("POST", "/v1/cluster/rebalance"),
    # of a node, not of a namespace
    ("POST", "/internal/drain"),
}
WRITES = [
    ("PUT", "", {"schema": {}}),
    ("POST", "/upsert", {"documents": [{"id": 1}]}),
    ("POST", "/delete", {"ids": [1]}),
    ("DELETE", "", None),
    ("PATCH", "/metadata", {"read_only": True}),
    ("POST", "/schema", {"year": "int"}),
]


def test_every_operation_that_changes_something_is_marked_as_a_write():
    for path, operations in ROUTES.items():
        for method, operation in operations.items():
            is_read = method == "GET" or (method, path) in READ_ONLY
            assert operation.is_write is not is_read, (method, path)


@pytest.mark.parametrize(("method", "suffix", "body"), WRITES)
async def test_a_write_to_a_wrong_node_is_sent_to_the_owner(method, suffix, body):
    async with cluster_of("indexer", "indexer", "query") as nodes:
        members = [node.member for node in nodes]
        (name,) = owned_by("node-1", members)
        for wrong in (nodes[0], nodes[2]):
            response = await wrong.http.request(method, f"/v1/namespaces/{name}{suffix}?a=%2Fb&c", json=body)
            assert response.status_code == 307
            assert response.headers["location"] == f"{members[1].url}/v1/namespaces/{name}{suffix}?a=%2Fb&c"
            assert response.headers["x-correct-indexer"] == "node-1"
            assert response.headers["x-served-by"] == wrong.member.node_id
            assert "is written by node 'node-1'" in response.json()["error"]
