"""The OpenAPI 3.1 description of the API, as data. Tests hold it against the routes, in both directions."""

from __future__ import annotations

import elacsym
from elacsym.server.openapi_operation import (
    BODY,
    ERRORS,
    IDEMPOTENCY,
    NAMESPACE,
    PAGE,
    PLAIN,
    READ,
    WRITE,
    answer,
    error_response,
    operation,
    query_parameter,
)
from elacsym.server.openapi_schemas import SCHEMAS
from elacsym.server.openapi_shapes import STRING, Json, ref
from elacsym.server.openapi_v2 import V2_PATHS, V2_SCHEMAS

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": STRING,
    "description": "the id, percent-encoded",
}
_PATHS: Json = {
    "/v1/namespaces": {
        "get": operation(
            "listNamespaces",
            "List namespaces by name",
            answer("one page", ref("NamespacePage")),
            (400, 401, 500, 503),
            parameters=PAGE,
        )
    },
    "/v1/namespaces/{ns}": {
        "get": operation(
            "getNamespace",
            "Schema, counts and sizes",
            answer("what the namespace holds", ref("NamespaceInfo")),
            READ,
            parameters=(NAMESPACE,),
        ),
        "put": operation(
            "createNamespace",
            "Create a namespace, or add attributes to one",
            answer("whether it was created", ref("CreateAnswer")),
            (*WRITE, *BODY),
            body="CreateRequest",
            parameters=(NAMESPACE,),
        ),
        "delete": operation(
            "deleteNamespace",
            "Delete a namespace and everything in it",
            answer("deleted", ref("Status")),
            WRITE,
            parameters=(NAMESPACE,),
        ),
    },
    "/v1/namespaces/{ns}/upsert": {
        "post": operation(
            "upsert",
            "Insert or replace documents, atomically",
            answer("durable, and visible to every later strong read", ref("WriteAnswer")),
            (*WRITE, *BODY),
            body="UpsertRequest",
            parameters=(NAMESPACE, IDEMPOTENCY),
        )
    },
    "/v1/namespaces/{ns}/delete": {
        "post": operation(
            "deleteDocuments",
            "Delete documents by ids or by filter, atomically",
            answer("durable, and visible to every later strong read", ref("WriteAnswer")),
            (*WRITE, *BODY),
            body="DeleteRequest",
            parameters=(NAMESPACE, IDEMPOTENCY),
        )
    },
    "/v1/namespaces/{ns}/query": {
        "post": operation(
            "query",
            "Vector, full-text or hybrid search, attribute order, aggregation",
            answer("the answer from one snapshot", ref("QueryAnswer")),
            (*READ, *BODY),
            body="QueryRequest",
            parameters=(NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/hint_cache_warm": {
        "get": operation(
            "warm",
            "Bring what queries of a namespace look at into the cache",
            answer("accepted: it happens in the background, once at a time", ref("WarmAnswer")),
            READ,
            parameters=(NAMESPACE,),
            status=202,
        )
    },
    "/v1/namespaces/{ns}/_debug/recall": {
        "post": operation(
            "recall",
            "Compare vector queries with exact search",
            answer("what the queries found of their true neighbours", ref("RecallAnswer")),
            (*READ, *BODY),
            body="RecallRequest",
            parameters=(NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/documents/get": {
        "post": operation(
            "getDocuments",
            "Documents by ids",
            answer("in the order of the ids, null where there is none", ref("DocumentsAnswer")),
            (*READ, *BODY),
            body="DocumentsRequest",
            parameters=(NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/documents/{id}": {
        "get": operation(
            "getDocument",
            "One document",
            answer("the document", ref("StoredDocument")),
            READ,
            parameters=(
                NAMESPACE,
                _ID,
                query_parameter("include_vector", {"type": "boolean", "default": False}, "with its vector"),
                query_parameter(
                    "consistency", {"type": "string", "enum": ["strong", "eventual"]}, "`strong` if absent"
                ),
            ),
        )
    },
    "/v1/cluster": {
        "get": operation(
            "getCluster",
            "Members, health and shares of the ring",
            answer("the cluster as this node sees it", ref("ClusterAnswer")),
            (400, 401, 500, 503),
            parameters=(
                query_parameter(
                    "namespaces", {"type": "boolean", "default": False}, "count what each member owns"
                ),
            ),
        )
    },
    "/v1/cluster/owner/{ns}": {
        "get": operation(
            "getOwner",
            "Who writes a namespace, and who is best asked for it; it need not exist",
            answer("the owner, null while no indexer can be reached", ref("OwnerAnswer")),
            READ,
            parameters=(NAMESPACE,),
        )
    },
    "/v1/cluster/rebalance": {
        "post": operation(
            "rebalance",
            "What other members would move; nothing is changed",
            answer("the namespaces that would have another owner", ref("RebalanceAnswer")),
            (*READ, *BODY),
            body="RebalanceRequest",
        )
    },
    "/internal/drain": {
        "post": operation(
            "drain",
            "Leave the cluster, finish what runs, and stop; needs an admin key",
            answer("the node drains", ref("DrainAnswer")),
            (400, 401, 500, 503),
            status=202,
        )
    },
    "/health": {
        "get": operation("health", "Identity of the node", answer("ok", ref("Health")), PLAIN, is_open=True)
    },
    "/livez": {
        "get": operation(
            "livez", "Whether the process serves", answer("ok", ref("Status")), PLAIN, is_open=True
        )
    },
    "/readyz": {
        "get": operation(
            "readyz",
            "Whether the store answers",
            answer("ok", ref("Status")),
            (*PLAIN, 503),
            is_open=True,
        )
    },
    "/version": {
        "get": operation(
            "version", "Version and API versions", answer("ok", ref("Version")), PLAIN, is_open=True
        )
    },
    "/metrics": {
        "get": operation(
            "metrics",
            "Metrics in the Prometheus text format",
            {"description": "metrics", "content": {"text/plain": {"schema": STRING}}},
            (401, *PLAIN),
        )
    },
    "/openapi.json": {
        "get": operation(
            "openapi", "This document", answer("OpenAPI 3.1", {"type": "object"}), PLAIN, is_open=True
        )
    },
}

DOCUMENT: Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "elacsym",
        "version": elacsym.__version__,
        "summary": "Vector, full-text and hybrid search on object storage",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "servers": [{"url": "/"}],
    "security": [{"key": []}, {}],
    "paths": _PATHS | V2_PATHS,
    "components": {
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "asked for where the server has keys"}
        },
        "parameters": {
            "Namespace": {
                "name": "ns",
                "in": "path",
                "required": True,
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9\\-_.]{1,128}$"},
            },
            "IdempotencyKey": {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "a repeat with the same key gives the first result instead of a second write",
            },
            "RequestId": {
                "name": "X-Request-Id",
                "in": "header",
                "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"},
                "description": "sent back and logged; the server makes one where there is none",
            },
            "RequestTimeout": {
                "name": "X-Request-Timeout-Ms",
                "in": "header",
                "schema": {"type": "integer", "minimum": 1},
                "description": "time limit, up to the server's own",
            },
        },
        "headers": {
            "RequestId": {"schema": STRING, "description": "the request's id"},
            "ServedBy": {"schema": STRING, "description": "the node's id"},
            "CorrectIndexer": {
                "schema": STRING,
                "description": "the node that writes the namespace, where it is not the one that was asked",
            },
            "RetryAfter": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"},
        },
        "responses": {name: error_response(status) for status, (name, _) in ERRORS.items()},
        "schemas": SCHEMAS | V2_SCHEMAS,
    },
}
