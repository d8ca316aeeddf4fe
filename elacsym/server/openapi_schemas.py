"""The JSON shapes of the API, as OpenAPI component schemas."""

from __future__ import annotations

from elacsym.engine import recall
from elacsym.query.ast import FILTER_DEPTH_MAX, TOP_K_MAX, WEIGHT_MAX, Op
from elacsym.server.openapi_cluster import CLUSTER_SCHEMAS
from elacsym.server.openapi_plan import PLAN_SCHEMAS
from elacsym.server.openapi_shapes import BOOLEAN, COUNT, NUMBER, STRING, Json, array, object_of, ref
from elacsym.server.schema_json import TYPES, VECTOR_TYPE_PATTERN
from elacsym.types import DIMENSIONS_MAX, VECTOR_SCALARS, Metric

_WEIGHT = {"type": "number", "minimum": 0, "maximum": WEIGHT_MAX}

_SCHEMA_SCHEMAS: Json = {
    "FullTextSettings": object_of(
        {
            "tokenizer": {"type": "string", "default": "word_v4"},
            "language": {"type": "string", "default": "english"},
            "stemming": BOOLEAN,
            "remove_stopwords": BOOLEAN,
            "case_sensitive": BOOLEAN,
            "ascii_folding": BOOLEAN,
            "max_token_length": {"type": "integer", "minimum": 1, "maximum": 254, "default": 39},
            "k1": {"type": "number", "default": 1.2},
            "b": {"type": "number", "default": 0.75},
            "k3": {"type": "number", "default": 8.0},
        }
    ),
    "FullText": {
        "oneOf": [BOOLEAN, ref("FullTextSettings"), object_of({"Simple": BOOLEAN}, ["Simple"])],
        "description": "`true` is the settings' defaults",
    },
    "AttributeType": {
        "oneOf": [
            {"type": "string", "enum": list(TYPES)},
            {
                "type": "string",
                "pattern": f"^{VECTOR_TYPE_PATTERN}$",
                "description": "a vector beside the namespace's `vector`, of so many elements: 32-bit "
                "floats, 16-bit floats, or whole numbers from -128 to 127",
            },
        ]
    },
    "AttributeDeclaration": object_of(
        {
            "type": ref("AttributeType"),
            "attr_type": ref("AttributeType") | {"description": "another name of `type`"},
            "indexed": {
                "type": "boolean",
                "default": True,
                "description": "whether it can be filtered; not for vectors",
            },
            "full_text": ref("FullText"),
        }
    ),
    "Schema": object_of(
        {
            "vector_dim": {"type": "integer", "minimum": 1, "maximum": DIMENSIONS_MAX},
            "vector_type": {
                "type": "string",
                "enum": list(VECTOR_SCALARS),
                "default": "f32",
                "description": "how elements of `vector` are stored; numbers are rounded to it",
            },
            "vector_metric": {
                "type": "string",
                "enum": list(Metric),
                "description": "`cosine` where a new namespace has vectors and says nothing",
            },
            "attributes": {"type": "object", "additionalProperties": ref("AttributeDeclaration")},
        }
    ),
    "CreateRequest": object_of({"schema": ref("Schema")}, ["schema"]),
    "CreateAnswer": object_of({"namespace": STRING, "created": BOOLEAN}, ["namespace", "created"]),
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
            array(NUMBER, minItems=1, maxItems=DIMENSIONS_MAX),
            {"type": "string", "contentEncoding": "base64", "description": "little-endian 32-bit floats"},
        ]
    },
    "Attributes": {"type": "object", "additionalProperties": True},
    "Document": object_of(
        {
            "id": ref("DocumentId"),
            "vector": {"oneOf": [ref("Vector"), {"type": "null"}]},
            "attributes": {"oneOf": [ref("Attributes"), {"type": "null"}]},
        },
        ["id"],
    ),
    "UpsertRequest": object_of({"documents": array(ref("Document"), minItems=1)}, ["documents"]),
    "DeleteRequest": {
        "oneOf": [
            object_of({"ids": array(ref("DocumentId"), minItems=1)}, ["ids"]),
            object_of({"filter": ref("Filter")}, ["filter"]),
        ]
    },
    "WriteAnswer": object_of(
        {
            "count": COUNT
            | {"description": "documents upserted; ids to delete, there or not; or matches of the filter"},
            "seq": COUNT,
            "token": STRING | {"description": "given to a query as its consistency, it sees this write"},
        },
        ["count", "seq", "token"],
    ),
}

_FILTER_SCHEMAS: Json = {
    "Comparison": object_of(
        {
            "field": STRING,
            "op": {"type": "string", "enum": list(Op)},
            "value": {
                "oneOf": [
                    {"type": ["string", "number", "boolean", "null"]},
                    array({"type": ["string", "number", "boolean", "null"]}),
                ]
            },
        },
        ["field", "op", "value"],
    ),
    "Combination": object_of(
        {"type": {"type": "string", "enum": ["and", "or"]}, "conditions": array(ref("Filter"))},
        ["type", "conditions"],
    ),
    "Negation": object_of(
        {"type": {"type": "string", "const": "not"}, "condition": ref("Filter")}, ["type", "condition"]
    ),
    "Condition": {
        "type": "array",
        "minItems": 2,
        "maxItems": 4,
        "examples": [["year", "Gte", 2020], ["And", [["tags", "Contains", "a"], ["title", "Glob", "The *"]]]],
        "description": "the query language's form: an attribute, an operator and a value; or And, Or, Not",
    },
    "Filter": {
        "oneOf": [ref("Comparison"), ref("Combination"), ref("Negation"), ref("Condition")],
        "description": f"nested at most {FILTER_DEPTH_MAX} deep; a missing attribute is null",
    },
}

_QUERY_SCHEMAS: Json = {
    "TextQuery": object_of(
        {
            "query": STRING,
            "field": STRING,
            "fields": array(STRING, minItems=1),
            "weights": {"type": "object", "additionalProperties": _WEIGHT, "description": "by field"},
            "weight": _WEIGHT | {"description": "of this leg in the fusion"},
        },
        ["query"],
        oneOf=[{"required": ["field"]}, {"required": ["fields"]}],
    ),
    "Fusion": object_of(
        {
            "method": {"type": "string", "enum": ["rrf", "weighted", "max"], "default": "rrf"},
            "k": {"type": "number", "exclusiveMinimum": 0, "default": 60},
            "depth": {"type": "integer", "minimum": 1, "maximum": TOP_K_MAX},
            "vector_weight": _WEIGHT,
        }
    ),
    "Aggregation": object_of(
        {"count": BOOLEAN, "sum": array(STRING), "group_by": array(STRING)},
        description="exact over the filtered set",
    ),
    "Consistency": {
        "oneOf": [
            {"type": "string", "enum": ["strong", "eventual"]},
            object_of({"min_seq": COUNT}, ["min_seq"]),
            object_of({"token": STRING}, ["token"]),
        ]
    },
    "QueryRequest": object_of(
        {
            "vector": ref("Vector"),
            "vector_field": STRING
            | {"default": "vector", "description": "the vector attribute that `vector` is compared with"},
            "vector_weight": _WEIGHT,
            "full_text": {"oneOf": [ref("TextQuery"), array(ref("TextQuery"))]},
            "top_k": {"type": "integer", "minimum": 1, "maximum": TOP_K_MAX, "default": 10},
            "metric": {"type": "string", "enum": list(Metric)},
            "filter": ref("Filter"),
            "fusion": ref("Fusion"),
            "order_by": array(
                {
                    "type": "array",
                    "prefixItems": [STRING, {"type": "string", "enum": ["asc", "desc"]}],
                    "minItems": 2,
                    "maxItems": 2,
                }
            ),
            "after": STRING | {"description": "the `cursor` of the last row of the page before"},
            "aggregate": ref("Aggregation"),
            "include_vector": {"type": "boolean", "default": False},
            "include_attributes": array(STRING, description="empty: all"),
            "consistency": ref("Consistency"),
            "exact": {
                "type": "boolean",
                "default": False,
                "description": "compare every vector that the filter leaves, whatever indexes there are",
            },
            "explain": {"type": "boolean", "default": False},
        },
        description="at least one of vector, full_text, order_by and aggregate",
    ),
    "LegShare": object_of(
        {"leg": STRING, "rank": COUNT, "score": NUMBER, "contribution": NUMBER},
        ["leg", "rank", "score", "contribution"],
    ),
    "Row": object_of(
        {
            "id": ref("DocumentId"),
            "score": NUMBER | {"description": "distance, BM25 or fused score; absent in attribute orders"},
            "attributes": ref("Attributes"),
            "vector": array(NUMBER),
            "cursor": STRING,
            "explain": array(ref("LegShare")),
        },
        ["id", "attributes"],
    ),
    "QueryAnswer": object_of(
        {
            "results": array(ref("Row")),
            "took_ms": {"type": "number", "minimum": 0},
            "aggregations": {"type": "object"},
            "groups": array({"type": "object"}),
            "plan": ref("Plan"),
            "staleness_ms": COUNT,
        },
        ["results", "took_ms"],
    ),
    "DocumentsRequest": object_of(
        {
            "ids": array(ref("DocumentId"), maxItems=10_000),
            "include_vector": {"type": "boolean", "default": False},
            "consistency": ref("Consistency"),
        },
        ["ids"],
    ),
    "RecallRequest": object_of(
        {
            "num": {"type": "integer", "minimum": 1, "maximum": recall.NUM_MAX, "default": 25},
            "top_k": {"type": "integer", "minimum": 1, "maximum": recall.TOP_K_MAX, "default": 10},
            "filters": ref("Filter"),
            "vector_field": STRING | {"description": "default: `vector`, else the first vector attribute"},
            "rank_by": array({}) | {"description": "one vector search to measure; num is 1 then"},
            "queries": {
                "type": "string",
                "enum": ["recent", "stored"],
                "default": "recent",
                "description": "`recent`: a sample of what was asked of this node lately, topped up with "
                "stored vectors; `stored`: these only, which overestimates recall",
            },
            "include_ground_truth": {
                "type": "boolean",
                "default": False,
                "description": f"show the true neighbours; num times top_k may be {recall.TRUTH_ROWS_MAX}",
            },
        }
    ),
    "RecallAnswer": object_of(
        {
            "avg_recall": {"type": "number", "minimum": 0, "maximum": 1}
            | {"description": "the share of true neighbours found; rows tied with the last one count"},
            "avg_ann_count": NUMBER | {"description": "rows that an ordinary query gives"},
            "avg_exhaustive_count": NUMBER | {"description": "rows that an exact query gives"},
            "queries": object_of({"recent": COUNT, "stored": COUNT}, ["recent", "stored"]),
            "took_ms": {"type": "number", "minimum": 0},
            "ground_truth": array(
                object_of(
                    {"query_vector": array(NUMBER), "nearest_neighbors": array(ref("RowV2"))},
                    ["query_vector", "nearest_neighbors"],
                )
            ),
        },
        ["avg_recall", "avg_ann_count", "avg_exhaustive_count", "queries", "took_ms"],
    ),
    "WarmAnswer": object_of({"status": STRING, "message": STRING}, ["status", "message"]),
    "StoredDocument": object_of(
        {"id": ref("DocumentId"), "attributes": ref("Attributes"), "vector": array(NUMBER)},
        ["id", "attributes"],
    ),
    "DocumentsAnswer": object_of(
        {"documents": array({"oneOf": [ref("StoredDocument"), {"type": "null"}]})}, ["documents"]
    ),
}

_NODE_SCHEMAS: Json = {
    "NamespacePage": object_of(
        {
            "namespaces": array(object_of({"id": STRING}, ["id"])),
            "next_cursor": {"type": ["string", "null"]},
        },
        ["namespaces", "next_cursor"],
    ),
    "NamespaceInfo": object_of(
        {
            "namespace": STRING,
            "schema": {"type": "object", "description": "as in a create request, defaults spelled out"},
            "documents": COUNT,
            "bytes": COUNT,
            "segments": COUNT,
            "wal_tail": object_of(
                {"first_seq": COUNT, "slots": COUNT, "bytes": COUNT}, ["first_seq", "slots", "bytes"]
            ),
            "generation": COUNT,
            "incarnation": STRING,
            "owner": {"type": ["string", "null"], "description": "the node that writes it"},
        },
        ["namespace", "schema", "documents", "bytes", "segments", "wal_tail", "owner"],
    ),
    "DrainAnswer": object_of({"status": STRING, "node": STRING}, ["status", "node"]),
    "Status": object_of({"status": STRING}, ["status"]),
    "Health": object_of(
        {"status": STRING, "version": STRING, "node_id": STRING, "role": STRING},
        ["status", "version", "node_id", "role"],
    ),
    "Version": object_of({"version": STRING, "api": array(STRING)}, ["version", "api"]),
    "Error": object_of(
        {
            "status": {"type": "string", "const": "error"},
            "error": STRING,
            "code": STRING | {"description": "a machine word"},
            "request_id": STRING,
            "idempotency_key": STRING | {"description": "with `outcome_unknown`, if the write had one"},
            "attribute": STRING | {"description": "v2: which attribute cannot have another type"},
        },
        ["status", "error"],
        description="operations of the v2 API give `status` and `error` only",
    ),
}

SCHEMAS: Json = {
    **_SCHEMA_SCHEMAS,
    **_WRITE_SCHEMAS,
    **_FILTER_SCHEMAS,
    **_QUERY_SCHEMAS,
    **PLAN_SCHEMAS,
    **CLUSTER_SCHEMAS,
    **_NODE_SCHEMAS,
}
