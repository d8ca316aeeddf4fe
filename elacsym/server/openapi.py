"""The OpenAPI 3.1 description of the API, as data. Tests hold it against the routes, in both directions."""

from __future__ import annotations

from typing import Any

import elacsym
from elacsym.query.ast import FILTER_DEPTH_MAX, TOP_K_MAX, Op
from elacsym.server.schema_json import TYPES
from elacsym.types import DIMENSIONS_MAX, Metric

Json = dict[str, Any]

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


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Json, required: list[str] | None = None, **more: Any) -> Json:
    shape: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return shape | ({"required": required} if required else {}) | more


def _array(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items} | more


def _answer(description: str, schema: Json) -> Json:
    return {
        "description": description,
        "headers": _RESPONSE_HEADERS,
        "content": {"application/json": {"schema": schema}},
    }


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": _ref(schema)}}}


def _operation(
    name: str,
    summary: str,
    answer: Json,
    errors: tuple[int, ...],
    *,
    body: str | None = None,
    parameters: tuple[Json, ...] = (),
    is_open: bool = False,
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "parameters": [*parameters, *_REQUEST_HEADERS],
        "responses": {"200": answer}
        | {str(status): {"$ref": f"#/components/responses/{_ERRORS[status][0]}"} for status in errors},
    }
    if body is not None:
        operation["requestBody"] = _body(body)
    if is_open:
        operation["security"] = []
    return operation


_ERRORS: dict[int, tuple[str, str]] = {
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
_BODY = (413, 415, 422)
_PLAIN = (400, 500)


def _error_response(status: int) -> Json:
    headers: Json = dict(_RESPONSE_HEADERS)
    if status in (429, 503):
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status == 401:
        headers["WWW-Authenticate"] = {"schema": {"type": "string"}, "description": "`Bearer`"}
    return {
        "description": _ERRORS[status][1],
        "headers": headers,
        "content": {"application/json": {"schema": _ref("Error")}},
    }


def _query_parameter(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": description}


_BOOLEAN = {"type": "boolean"}
_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_COUNT = {"type": "integer", "minimum": 0}
_WEIGHT = {"type": "number", "minimum": 0}

_SCHEMA_SCHEMAS: Json = {
    "FullTextSettings": _object(
        {
            "tokenizer": {"type": "string", "default": "word_v4"},
            "language": {"type": "string", "default": "english"},
            "stemming": _BOOLEAN,
            "remove_stopwords": _BOOLEAN,
            "case_sensitive": _BOOLEAN,
            "ascii_folding": _BOOLEAN,
            "max_token_length": {"type": "integer", "minimum": 1, "maximum": 254, "default": 39},
            "k1": {"type": "number", "default": 1.2},
            "b": {"type": "number", "default": 0.75},
            "k3": {"type": "number", "default": 8.0},
        }
    ),
    "FullText": {
        "oneOf": [_BOOLEAN, _ref("FullTextSettings"), _object({"Simple": _BOOLEAN}, ["Simple"])],
        "description": "`true` is the settings' defaults",
    },
    "AttributeDeclaration": _object(
        {
            "type": {"type": "string", "enum": list(TYPES)},
            "attr_type": {"type": "string", "enum": list(TYPES), "description": "another name of `type`"},
            "indexed": {"type": "boolean", "default": True, "description": "whether it can be filtered"},
            "full_text": _ref("FullText"),
        }
    ),
    "Schema": _object(
        {
            "vector_dim": {"type": "integer", "minimum": 1, "maximum": DIMENSIONS_MAX},
            "vector_metric": {"type": "string", "enum": list(Metric)},
            "attributes": {"type": "object", "additionalProperties": _ref("AttributeDeclaration")},
        }
    ),
    "CreateRequest": _object({"schema": _ref("Schema")}, ["schema"]),
    "CreateAnswer": _object({"namespace": _STRING, "created": _BOOLEAN}, ["namespace", "created"]),
}

_WRITE_SCHEMAS: Json = {
    "DocumentId": {
        "oneOf": [
            {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
            {"type": "string", "description": "at most 64 bytes"},
        ],
        "description": "all ids of a namespace are of one type, that of its first document",
    },
    "Vector": {
        "oneOf": [
            _array(_NUMBER, minItems=1, maxItems=DIMENSIONS_MAX),
            {"type": "string", "contentEncoding": "base64", "description": "little-endian 32-bit floats"},
        ]
    },
    "Attributes": {"type": "object", "additionalProperties": True},
    "Document": _object(
        {
            "id": _ref("DocumentId"),
            "vector": {"oneOf": [_ref("Vector"), {"type": "null"}]},
            "attributes": {"oneOf": [_ref("Attributes"), {"type": "null"}]},
        },
        ["id"],
    ),
    "UpsertRequest": _object({"documents": _array(_ref("Document"), minItems=1)}, ["documents"]),
    "DeleteRequest": {
        "oneOf": [
            _object({"ids": _array(_ref("DocumentId"), minItems=1)}, ["ids"]),
            _object({"filter": _ref("Filter")}, ["filter"]),
        ]
    },
    "WriteAnswer": _object(
        {
            "count": _COUNT | {"description": "documents upserted, or deleted"},
            "seq": _COUNT,
            "token": _STRING | {"description": "given to a query as its consistency, it sees this write"},
        },
        ["count", "seq", "token"],
    ),
}

_FILTER_SCHEMAS: Json = {
    "Comparison": _object(
        {
            "field": _STRING,
            "op": {"type": "string", "enum": list(Op)},
            "value": {
                "oneOf": [
                    {"type": ["string", "number", "boolean", "null"]},
                    _array({"type": ["string", "number", "boolean", "null"]}),
                ]
            },
        },
        ["field", "op", "value"],
    ),
    "Combination": _object(
        {"type": {"type": "string", "enum": ["and", "or"]}, "conditions": _array(_ref("Filter"))},
        ["type", "conditions"],
    ),
    "Negation": _object(
        {"type": {"type": "string", "const": "not"}, "condition": _ref("Filter")}, ["type", "condition"]
    ),
    "Filter": {
        "oneOf": [_ref("Comparison"), _ref("Combination"), _ref("Negation")],
        "description": f"nested at most {FILTER_DEPTH_MAX} deep; a missing attribute is null",
    },
}

_QUERY_SCHEMAS: Json = {
    "TextQuery": _object(
        {
            "query": _STRING,
            "field": _STRING,
            "fields": _array(_STRING, minItems=1),
            "weights": {"type": "object", "additionalProperties": _WEIGHT, "description": "by field"},
            "weight": _WEIGHT | {"description": "of this leg in the fusion"},
        },
        ["query"],
        oneOf=[{"required": ["field"]}, {"required": ["fields"]}],
    ),
    "Fusion": _object(
        {
            "method": {"type": "string", "enum": ["rrf", "weighted", "max"], "default": "rrf"},
            "k": {"type": "number", "exclusiveMinimum": 0, "default": 60},
            "depth": {"type": "integer", "minimum": 1, "maximum": TOP_K_MAX},
            "vector_weight": _WEIGHT,
        }
    ),
    "Aggregation": _object(
        {"count": _BOOLEAN, "sum": _array(_STRING), "group_by": _array(_STRING)},
        description="exact over the filtered set",
    ),
    "Consistency": {
        "oneOf": [
            {"type": "string", "enum": ["strong", "eventual"]},
            _object({"min_seq": _COUNT}, ["min_seq"]),
            _object({"token": _STRING}, ["token"]),
        ]
    },
    "QueryRequest": _object(
        {
            "vector": _ref("Vector"),
            "vector_weight": _WEIGHT,
            "full_text": {"oneOf": [_ref("TextQuery"), _array(_ref("TextQuery"))]},
            "top_k": {"type": "integer", "minimum": 1, "maximum": TOP_K_MAX, "default": 10},
            "metric": {"type": "string", "enum": list(Metric)},
            "filter": _ref("Filter"),
            "fusion": _ref("Fusion"),
            "order_by": _array(
                {
                    "type": "array",
                    "prefixItems": [_STRING, {"type": "string", "enum": ["asc", "desc"]}],
                    "minItems": 2,
                    "maxItems": 2,
                }
            ),
            "after": _STRING | {"description": "the `cursor` of the last row of the page before"},
            "aggregate": _ref("Aggregation"),
            "include_vector": {"type": "boolean", "default": False},
            "include_attributes": _array(_STRING, description="empty: all"),
            "consistency": _ref("Consistency"),
            "exact": {"type": "boolean", "default": False},
            "explain": {"type": "boolean", "default": False},
        },
        description="at least one of vector, full_text, order_by and aggregate",
    ),
    "LegShare": _object(
        {"leg": _STRING, "rank": _COUNT, "score": _NUMBER, "contribution": _NUMBER},
        ["leg", "rank", "score", "contribution"],
    ),
    "Row": _object(
        {
            "id": _ref("DocumentId"),
            "score": _NUMBER | {"description": "distance, BM25 or fused score; absent in attribute orders"},
            "attributes": _ref("Attributes"),
            "vector": _array(_NUMBER),
            "cursor": _STRING,
            "explain": _array(_ref("LegShare")),
        },
        ["id", "attributes"],
    ),
    "QueryAnswer": _object(
        {
            "results": _array(_ref("Row")),
            "took_ms": {"type": "number", "minimum": 0},
            "aggregations": {"type": "object"},
            "groups": _array({"type": "object"}),
            "plan": {"type": "object"},
            "staleness_ms": _COUNT,
        },
        ["results", "took_ms"],
    ),
    "DocumentsRequest": _object(
        {
            "ids": _array(_ref("DocumentId"), maxItems=10_000),
            "include_vector": {"type": "boolean", "default": False},
            "consistency": _ref("Consistency"),
        },
        ["ids"],
    ),
    "StoredDocument": _object(
        {"id": _ref("DocumentId"), "attributes": _ref("Attributes"), "vector": _array(_NUMBER)},
        ["id", "attributes"],
    ),
    "DocumentsAnswer": _object(
        {"documents": _array({"oneOf": [_ref("StoredDocument"), {"type": "null"}]})}, ["documents"]
    ),
}

_NODE_SCHEMAS: Json = {
    "NamespacePage": _object(
        {
            "namespaces": _array(_object({"id": _STRING}, ["id"])),
            "next_cursor": {"type": ["string", "null"]},
        },
        ["namespaces", "next_cursor"],
    ),
    "NamespaceInfo": _object(
        {
            "namespace": _STRING,
            "schema": {"type": "object", "description": "as in a create request, defaults spelled out"},
            "documents": _COUNT,
            "bytes": _COUNT,
            "segments": _COUNT,
            "wal_tail": _object(
                {"first_seq": _COUNT, "slots": _COUNT, "bytes": _COUNT}, ["first_seq", "slots", "bytes"]
            ),
            "generation": _COUNT,
            "incarnation": _STRING,
            "owner": _STRING,
        },
        ["namespace", "schema", "documents", "bytes", "segments", "wal_tail", "owner"],
    ),
    "Status": _object({"status": _STRING}, ["status"]),
    "Health": _object(
        {"status": _STRING, "version": _STRING, "node_id": _STRING, "role": _STRING},
        ["status", "version", "node_id", "role"],
    ),
    "Version": _object({"version": _STRING, "api": _array(_STRING)}, ["version", "api"]),
    "Error": _object(
        {
            "status": {"type": "string", "const": "error"},
            "error": _STRING,
            "code": _STRING | {"description": "a machine word"},
            "request_id": _STRING,
            "idempotency_key": _STRING | {"description": "with `outcome_unknown`, if the write had one"},
        },
        ["status", "error", "code", "request_id"],
    ),
}

_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": _STRING,
    "description": "the id, percent-encoded",
}
_PATHS: Json = {
    "/v1/namespaces": {
        "get": _operation(
            "listNamespaces",
            "List namespaces by name",
            _answer("one page", _ref("NamespacePage")),
            (400, 401, 500, 503),
            parameters=(
                _query_parameter("prefix", _STRING, "names that begin with this"),
                _query_parameter("cursor", _STRING, "`next_cursor` of the page before"),
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
            _answer("what the namespace holds", _ref("NamespaceInfo")),
            _READ,
            parameters=(_NAMESPACE,),
        ),
        "put": _operation(
            "createNamespace",
            "Create a namespace, or add attributes to one",
            _answer("whether it was created", _ref("CreateAnswer")),
            (*_READ, *_BODY),
            body="CreateRequest",
            parameters=(_NAMESPACE,),
        ),
        "delete": _operation(
            "deleteNamespace",
            "Delete a namespace and everything in it",
            _answer("deleted", _ref("Status")),
            _READ,
            parameters=(_NAMESPACE,),
        ),
    },
    "/v1/namespaces/{ns}/upsert": {
        "post": _operation(
            "upsert",
            "Insert or replace documents, atomically",
            _answer("durable, and visible to every later strong read", _ref("WriteAnswer")),
            (*_READ, *_BODY),
            body="UpsertRequest",
            parameters=(_NAMESPACE, _IDEMPOTENCY),
        )
    },
    "/v1/namespaces/{ns}/delete": {
        "post": _operation(
            "deleteDocuments",
            "Delete documents by ids or by filter, atomically",
            _answer("durable, and visible to every later strong read", _ref("WriteAnswer")),
            (*_READ, *_BODY),
            body="DeleteRequest",
            parameters=(_NAMESPACE, _IDEMPOTENCY),
        )
    },
    "/v1/namespaces/{ns}/query": {
        "post": _operation(
            "query",
            "Vector, full-text or hybrid search, attribute order, aggregation",
            _answer("the answer from one snapshot", _ref("QueryAnswer")),
            (*_READ, *_BODY),
            body="QueryRequest",
            parameters=(_NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/documents/get": {
        "post": _operation(
            "getDocuments",
            "Documents by ids",
            _answer("in the order of the ids, null where there is none", _ref("DocumentsAnswer")),
            (*_READ, *_BODY),
            body="DocumentsRequest",
            parameters=(_NAMESPACE,),
        )
    },
    "/v1/namespaces/{ns}/documents/{id}": {
        "get": _operation(
            "getDocument",
            "One document",
            _answer("the document", _ref("StoredDocument")),
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
    "/health": {
        "get": _operation(
            "health", "Identity of the node", _answer("ok", _ref("Health")), _PLAIN, is_open=True
        )
    },
    "/livez": {
        "get": _operation(
            "livez", "Whether the process serves", _answer("ok", _ref("Status")), _PLAIN, is_open=True
        )
    },
    "/readyz": {
        "get": _operation(
            "readyz",
            "Whether the store answers",
            _answer("ok", _ref("Status")),
            (*_PLAIN, 503),
            is_open=True,
        )
    },
    "/version": {
        "get": _operation(
            "version", "Version and API versions", _answer("ok", _ref("Version")), _PLAIN, is_open=True
        )
    },
    "/metrics": {
        "get": _operation(
            "metrics",
            "Metrics in the Prometheus text format",
            {"description": "metrics", "content": {"text/plain": {"schema": _STRING}}},
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
            "RequestId": {"schema": _STRING, "description": "the request's id"},
            "ServedBy": {"schema": _STRING, "description": "the node's id"},
            "RetryAfter": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"},
        },
        "responses": {name: _error_response(status) for status, (name, _) in _ERRORS.items()},
        "schemas": {
            **_SCHEMA_SCHEMAS,
            **_WRITE_SCHEMAS,
            **_FILTER_SCHEMAS,
            **_QUERY_SCHEMAS,
            **_NODE_SCHEMAS,
        },
    },
}
