"""The OpenAPI 3.1 description of the API, as data. Tests hold it against the routes, in both directions."""

from __future__ import annotations

import elacsym
from elacsym.server.openapi_schemas import SCHEMAS
from elacsym.server.openapi_shapes import STRING, Json, ref

_REQUEST_HEADERS = [
    {"$ref": "#/components/parameters/RequestId"},
    {"$ref": "#/components/parameters/RequestTimeout"},
]
_IDEMPOTENCY = {"$ref": "#/components/parameters/IdempotencyKey"}
_NAMESPACE = {"$ref": "#/components/parameters/Namespace"}
_RESPONSE_HEADERS = {
    "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
    "X-Served-By": {"$ref": "#/components/headers/ServedBy"},
}


def _answer(description: str, schema: Json) -> Json:
    return {
        "description": description,
        "headers": _RESPONSE_HEADERS,
        "content": {"application/json": {"schema": schema}},
    }


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def _operation(
    name: str,
    summary: str,
    answer: Json,
    errors: tuple[int, ...],
    *,
    body: str | None = None,
    parameters: tuple[Json, ...] = (),
    is_open: bool = False,
    status: int = 200,
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": [*parameters, *_REQUEST_HEADERS],
        "responses": {str(status): answer}
        | {str(status): {"$ref": f"#/components/responses/{_ERRORS[status][0]}"} for status in errors},
    }
    if body is not None:
        operation["requestBody"] = _body(body)
    if is_open:
        operation["security"] = []
    return operation


_ERRORS: dict[int, tuple[str, str]] = {
    307: ("WrongOwner", "another node writes the namespace: repeat the request at `Location`"),
    400: ("BrokenRule", "a rule is broken, or the body is not JSON; the message names the field"),
    401: ("Unauthorized", "no API key, or an unknown one"),
    404: ("NotFound", "what the path names does not exist"),
    413: ("TooLarge", "the body is larger than this server takes"),
    415: ("UnsupportedEncoding", "a content coding other than gzip"),
    422: ("WrongShape", "JSON of the wrong shape: type, unknown or missing field"),
    429: ("Overloaded", "refused early; come back after `Retry-After` seconds"),
    500: ("Fault", "stored data fails its checks, or an internal error"),
    503: ("Unavailable", "nothing happened, or (code `outcome_unknown`) a write may have happened"),
}
_READ = (400, 401, 404, 429, 500, 503)
_WRITE = (307, *_READ)
_BODY = (413, 415, 422)
_PLAIN = (400, 500)


def _error_response(status: int) -> Json:
    headers: Json = dict(_RESPONSE_HEADERS)
    if status in (429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status in (307, 503):
        headers["X-Correct-Indexer"] = {"$ref": "#/components/headers/CorrectIndexer"}
    if status == 307:
        headers["Location"] = {"schema": {"type": "string", "format": "uri"}, "description": "absolute"}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}, "description": "`Bearer`"}
    return {
        "description": _ERRORS[status][1],
        "headers": headers,
        "content": {"application/json": {"schema": ref("Error")}},
    }


def _query_parameter(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": STRING,
    "description": "the id, percent-encoded",
}
_PATHS: Json = {
    "/v1/namespaces": {
        "get": _operation(
            "listNamespaces",
            "List namespaces by name",
            _answer("one page", ref("NamespacePage")),
            (400, 401, 500, 503),
            parameters=(
                _query_parameter("prefix", STRING, "names that begin with this"),
                _query_parameter("cursor", STRING, "`next_cursor` of the page before"),
                _query_parameter(
                    "page_size", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "names"
                ),
            ),
        )
    },
    "/v1/namespaces/{ns}": {
        "get": _operation(
            "getNamespace",
            "Schema, counts and sizes",
            _answer("what the namespace holds", ref("NamespaceInfo")),
            _READ,
            parameters=(_NAMESPACE,),
        ),
        "put": _operation(
            "createNamespace",
            "Create a namespace, or add attributes to one",
            _answer("whether it was created", ref("CreateAnswer")),
            (*_WRITE, *_BODY),
            body="CreateRequest",
            parameters=(_NAMESPACE,),
        ),
        "delete": _operation(
            "deleteNamespace",
            "Delete a namespace and everything in it",
            _answer("deleted", ref("Status")),
            _WRITE,
            parameters=(_NAMESPACE,),
        ),
    },
    "/v1/namespaces/{ns}/upsert": {
        "post": _operation(
            "upsert",
            "Insert or replace documents, atomically",
            _answer("durable, and visible to every later strong read", ref("WriteAnswer")),
            (*_WRITE, *_BODY),
            body="UpsertRequest",
            parameters=(_NAMESPACE, _IDEMPOTENCY),
        )
    },
    "/v1/namespaces/{ns}/delete": {
        "post": _operation(
            "deleteDocuments",
            "Delete documents by ids or by filter, atomically",
            _answer("durable, and visible to every later strong read", ref("WriteAnswer")),
            (*_WRITE, *_BODY),
            body="DeleteRequest",
            parameters=(_NAMESPACE, _IDEMPOTENCY),
        )
    },
    "/v1/namespaces/{ns}/query": {
        "post": _operation(
            "query",
            "Vector, full-text or hybrid search, attribute order, aggregation",
            _answer("the answer from one snapshot", ref("QueryAnswer")),
            (*_READ, *_BODY),
            body="QueryRequest",
            parameters=(_NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/hint_cache_warm": {
        "get": _operation(
            "warm",
            "Bring what queries of a namespace look at into the cache",
            _answer("accepted: it happens in the background, once at a time", ref("WarmAnswer")),
            _READ,
            parameters=(_NAMESPACE,),
            status=202,
        )
    },
    "/v1/namespaces/{ns}/_debug/recall": {
        "post": _operation(
            "recall",
            "Compare vector queries with exact search",
            _answer("what the queries found of their true neighbours", ref("RecallAnswer")),
            (*_READ, *_BODY),
            body="RecallRequest",
            parameters=(_NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/documents/get": {
        "post": _operation(
            "getDocuments",
            "Documents by ids",
            _answer("in the order of the ids, null where there is none", ref("DocumentsAnswer")),
            (*_READ, *_BODY),
            body="DocumentsRequest",
            parameters=(_NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/documents/{id}": {
        "get": _operation(
            "getDocument",
            "One document",
            _answer("the document", ref("StoredDocument")),
            _READ,
            parameters=(
                _NAMESPACE,
                _ID,
                _query_parameter("include_vector", {"type": "boolean", "default": False}, "with its vector"),
                _query_parameter(
                    "consistency", {"type": "string", "enum": ["strong", "eventual"]}, "`strong` if absent"
                ),
            ),
        )
    },
    "/v1/cluster": {
        "get": _operation(
            "getCluster",
            "Members, health and shares of the ring",
            _answer("the cluster as this node sees it", ref("ClusterAnswer")),
            (400, 401, 500, 503),
            parameters=(
                _query_parameter(
                    "namespaces", {"type": "boolean", "default": False}, "count what each member owns"
                ),
            ),
        )
    },
    "/v1/cluster/owner/{ns}": {
        "get": _operation(
            "getOwner",
            "Who writes a namespace, and who is best asked for it; it need not exist",
            _answer("the owner, null while no indexer can be reached", ref("OwnerAnswer")),
            _READ,
            parameters=(_NAMESPACE,),
        )
    },
    "/v1/cluster/rebalance": {
        "post": _operation(
            "rebalance",
            "What other members would move; nothing is changed",
            _answer("the namespaces that would have another owner", ref("RebalanceAnswer")),
            (*_READ, *_BODY),
            body="RebalanceRequest",
        )
    },
    "/internal/drain": {
        "post": _operation(
            "drain",
            "Leave the cluster, finish what runs, and stop; needs an admin key",
            _answer("the node drains", ref("DrainAnswer")),
            (400, 401, 500, 503),
            status=202,
        )
    },
    "/health": {
        "get": _operation(
            "health", "Identity of the node", _answer("ok", ref("Health")), _PLAIN, is_open=True
        )
    },
    "/livez": {
        "get": _operation(
            "livez", "Whether the process serves", _answer("ok", ref("Status")), _PLAIN, is_open=True
        )
    },
    "/readyz": {
        "get": _operation(
            "readyz",
            "Whether the store answers",
            _answer("ok", ref("Status")),
            (*_PLAIN, 503),
            is_open=True,
        )
    },
    "/version": {
        "get": _operation(
            "version", "Version and API versions", _answer("ok", ref("Version")), _PLAIN, is_open=True
        )
    },
    "/metrics": {
        "get": _operation(
            "metrics",
            "Metrics in the Prometheus text format",
            {"description": "metrics", "content": {"text/plain": {"schema": STRING}}},
            (401, *_PLAIN),
        )
    },
    "/openapi.json": {
        "get": _operation(
            "openapi", "This document", _answer("OpenAPI 3.1", {"type": "object"}), _PLAIN, is_open=True
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
    "paths": _PATHS,
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
        "responses": {name: _error_response(status) for status, (name, _) in _ERRORS.items()},
        "schemas": SCHEMAS,
    },
}
