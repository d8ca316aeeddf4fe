"""The v2 API in the OpenAPI description."""

from __future__ import annotations

from elacsym.server.openapi_operation import (
    BODY,
    IDEMPOTENCY,
    NAMESPACE,
    PAGE,
    READ,
    WRITE,
    answer,
    operation,
)
from elacsym.server.openapi_shapes import BOOLEAN, COUNT, NUMBER, STRING, Json, array, ref
from elacsym.server.v2_query import QUERIES_MAX
from elacsym.server.v2_schema import ID_TYPES, METRICS
from elacsym.server.v2_write import SHARDS_MAX


def _open(properties: Json, required: list[str] | None = None, **more: object) -> Json:
    """An object with these fields; others say nothing."""
    shape: Json = {"type": "object", "properties": properties}
    return shape | ({"required": required} if required else {}) | more


_ID = ref("DocumentId")
_METRIC: Json = {"type": "string", "enum": list(METRICS)}
_NULLABLE_ROWS = array(ref("RowV2"))
_NAMES = array(STRING)
_LIMIT: Json = {
    "oneOf": [
        {"type": "integer", "minimum": 1, "maximum": 10_000},
        _open(
            {
                "total": {"type": "integer", "minimum": 1, "maximum": 10_000},
                "per": _open(
                    {"attributes": array(STRING, minItems=1), "limit": {"type": "integer", "minimum": 1}},
                    ["attributes", "limit"],
                ),
            },
            ["total"],
        ),
    ]
}
_CONSISTENCY = _open(
    {
        "level": {"type": "string", "enum": ["strong", "eventual"]},
        "max_staleness_seconds": {"type": "number", "minimum": 0, "default": 60},
    },
    ["level"],
)
_ENCODING: Json = {"type": "string", "enum": ["float", "base64"], "default": "float"}
_QUERY_FIELDS: Json = {
    "rank_by": ref("RankByV2"),
    "limit": _LIMIT,
    "top_k": {"type": "integer", "minimum": 1, "maximum": 10_000},
    "offset": COUNT,
    "filters": ref("FilterV2"),
    "include_attributes": {"oneOf": [BOOLEAN, _NAMES]},
    "exclude_attributes": _NAMES,
    "compute_attributes": {"type": "object", "additionalProperties": array({})},
    "aggregate_by": {"type": "object", "additionalProperties": array(STRING, minItems=1, maxItems=2)},
    "group_by": array({"oneOf": [STRING, {"type": "object"}]}),
    "distance_metric": _METRIC,
}
_ANSWERED: Json = {
    "rows": array(ref("RowV2")),
    "aggregations": {"type": "object"},
    "aggregation_groups": array({"type": "object"}),
}
_QUERY_BILLING = _open(
    {"billable_logical_bytes_queried": COUNT, "billable_logical_bytes_returned": COUNT},
    ["billable_logical_bytes_queried", "billable_logical_bytes_returned"],
)

V2_SCHEMAS: Json = {
    "FilterV2": array({})
    | {
        "description": '["And", [filter…]], ["Or", [filter…]], ["Not", filter], or [attribute, operator, '
        "operand] with options for some operators"
    },
    "RankByV2": array({})
    | {
        "description": '[attribute, "ANN", vector], [attribute, "kNN", vector], [attribute, "SparseKNN", '
        'weights], [attribute, "asc"], several of these, or a score expression'
    },
    "RowV2": _open({"id": _ID, "$dist": NUMBER}, ["id"], description="attributes stand beside the id"),
    "FullTextV2": {"oneOf": [BOOLEAN, ref("FullTextSettings")]},
    "AttributeV2": {
        "oneOf": [
            STRING,
            _open(
                {
                    "type": STRING,
                    "filterable": BOOLEAN,
                    "full_text_search": ref("FullTextV2"),
                    "regex": BOOLEAN,
                    "glob": BOOLEAN,
                    "fuzzy": BOOLEAN,
                    "ann": {
                        "oneOf": [BOOLEAN, _open({"distance_metric": _METRIC, "late_interaction": BOOLEAN})]
                    },
                    "sparse_knn": {"oneOf": [BOOLEAN, {"type": "object"}]},
                    "drop": BOOLEAN,
                }
            ),
        ],
        "description": f"a type, or options; of `id` a type, one of {', '.join(ID_TYPES)}",
    },
    "SchemaV2": {"type": "object", "additionalProperties": ref("AttributeV2")},
    "ShownSchemaV2": {"type": "object", "additionalProperties": {"type": "object"}},
    "WriteRequestV2": _open(
        {
            "upsert_rows": _NULLABLE_ROWS,
            "upsert_columns": _open({"id": array(_ID)}, ["id"]),
            "patch_rows": _NULLABLE_ROWS,
            "patch_columns": _open({"id": array(_ID)}, ["id"]),
            "deletes": array(_ID),
            "upsert_condition": ref("FilterV2"),
            "patch_condition": ref("FilterV2"),
            "delete_condition": ref("FilterV2"),
            "delete_by_filter": ref("FilterV2"),
            "delete_by_filter_allow_partial": BOOLEAN,
            "patch_by_filter": _open(
                {"filters": ref("FilterV2"), "patch": {"type": "object"}}, ["filters", "patch"]
            ),
            "patch_by_filter_allow_partial": BOOLEAN,
            "return_affected_ids": BOOLEAN,
            "distance_metric": _METRIC,
            "schema": ref("SchemaV2"),
            "create_namespace": BOOLEAN,
            "encryption": _open(
                {"mode": {"type": "string", "enum": ["default", "customer-managed"]}}, ["mode"]
            ),
            "sharding": _open(
                {"num_shards": {"type": "integer", "minimum": 1, "maximum": SHARDS_MAX}}, ["num_shards"]
            ),
            "copy_from_namespace": {
                "oneOf": [STRING, _open({"source_namespace": STRING}, ["source_namespace"])]
            },
            "branch_from_namespace": {
                "oneOf": [STRING, _open({"source_namespace": STRING}, ["source_namespace"])]
            },
            "disable_backpressure": BOOLEAN,
            "require_all_vectors": BOOLEAN
            | {
                "default": True,
                "description": "false: upserts may lack vectors, and a namespace made without vectors may "
                "get some",
            },
        }
    ),
    "WriteAnswerV2": _open(
        {
            "status": STRING,
            "message": STRING,
            "rows_affected": COUNT,
            "rows_upserted": COUNT,
            "rows_patched": COUNT,
            "rows_deleted": COUNT,
            "rows_remaining": BOOLEAN,
            "upserted_ids": array(_ID),
            "patched_ids": array(_ID),
            "deleted_ids": array(_ID),
            "billing": _open(
                {"billable_logical_bytes_written": COUNT, "query": _QUERY_BILLING},
                ["billable_logical_bytes_written"],
            ),
            "performance": _open({"server_total_ms": COUNT}, ["server_total_ms"]),
        },
        ["status", "message", "rows_affected", "billing", "performance"],
    ),
    "QueryRequestV2": _open(
        _QUERY_FIELDS
        | {
            "queries": array(_open(_QUERY_FIELDS), minItems=1, maxItems=QUERIES_MAX),
            "rerank_by": array({}),
            "vector_encoding": _ENCODING,
            "consistency": _CONSISTENCY,
        }
    ),
    "QueryAnswerV2": _open(
        _ANSWERED
        | {
            "results": array(_open(_ANSWERED)),
            "billing": _QUERY_BILLING,
            "performance": _open(
                {
                    "cache_hit_ratio": NUMBER,
                    "cache_temperature": {"type": "string", "enum": ["hot", "warm", "cold"]},
                    "server_total_ms": COUNT,
                    "query_execution_ms": COUNT,
                    "exhaustive_search_count": COUNT,
                    "approx_namespace_size": COUNT,
                }
            ),
        },
        ["billing", "performance"],
    ),
    "ExplainAnswerV2": _open({"plan_text": STRING}, ["plan_text"]),
    "OperationTokenV2": _open({"token": STRING}, ["token"]),
    "OperationV2": _open(
        {
            "status": {"type": "string", "enum": ["running", "finished"]},
            "start_time": STRING,
            "finish_time": STRING,
            "result": {"type": "object"},
        },
        ["status", "start_time"],
    ),
    "MetadataV2": _open(
        {
            "schema": ref("ShownSchemaV2"),
            "approx_logical_bytes": COUNT,
            "approx_row_count": COUNT,
            "created_at": STRING,
            "updated_at": STRING,
            "last_write_at": STRING,
            "encryption": {"type": "object"},
            "index": _open({"status": STRING, "unindexed_bytes": COUNT, "unindexed_rows": COUNT}, ["status"]),
            "pinning": _open({"replicas": COUNT}),
            "read_only": BOOLEAN,
            "sharding": _open({"num_shards": COUNT}),
            "branching": _open({"parent": STRING}),
        },
        ["schema", "approx_logical_bytes", "approx_row_count", "encryption", "index"],
    ),
    "MetadataChangeV2": _open(
        {
            "read_only": BOOLEAN,
            "pinning": {"oneOf": [{"type": "null"}, BOOLEAN, _open({"replicas": COUNT}, ["replicas"])]},
        }
    ),
}


def _under_both(path: str, methods: dict[str, Json]) -> Json:
    """The same operations under /v1 and /v2, with names of their own."""
    return {
        f"/{version}/namespaces/{{ns}}{path}": {
            method: described | {"operationId": f"{described['operationId']}{version.upper()}"}
            for method, described in methods.items()
        }
        for version in ("v1", "v2")
    }


_NS = (NAMESPACE,)
_TOKEN = {"name": "token", "in": "path", "required": True, "schema": STRING, "description": "the operation's"}
_WRITES = (NAMESPACE, IDEMPOTENCY)
V2_PATHS: Json = {
    "/v2/namespaces": {
        "get": operation(
            "listNamespacesV2",
            "List namespaces by name",
            answer("one page", ref("NamespacePage")),
            (400, 401, 500, 503),
            parameters=PAGE,
        )
    },
    "/v2/namespaces/{ns}": {
        "post": operation(
            "writeV2",
            "Upsert, patch and delete documents, change the schema, copy or branch; atomically",
            answer("durable, and visible to every later strong read", ref("WriteAnswerV2")),
            (*WRITE, *BODY),
            body="WriteRequestV2",
            parameters=_WRITES,
        ),
        "delete": operation(
            "deleteNamespaceV2",
            "Delete a namespace and everything in it",
            answer("deleted", ref("Status")),
            WRITE,
            parameters=_NS,
        ),
    },
    "/v2/namespaces/{ns}/query": {
        "post": operation(
            "queryV2",
            "One query, or several over one snapshot",
            answer("the answer from one snapshot", ref("QueryAnswerV2")),
            (*READ, *BODY),
            body="QueryRequestV2",
            parameters=_NS,
        )
    },
    "/v2/namespaces/{ns}/explain_query": {
        "post": operation(
            "explainQueryV2",
            "How a query is answered",
            answer("for people to read", ref("ExplainAnswerV2")),
            (*READ, *BODY),
            body="QueryRequestV2",
            parameters=_NS,
        )
    },
    "/v2/namespaces/{ns}/async": {
        "post": operation(
            "startCopy",
            "Copy or branch a namespace as an operation",
            answer("the operation has begun", ref("OperationTokenV2")),
            (*WRITE, *BODY),
            body="WriteRequestV2",
            parameters=_NS,
        )
    },
    "/v2/namespaces/{ns}/hint_cache_warm": {
        "get": operation(
            "warmV2",
            "Bring what queries of a namespace look at into the cache",
            answer("accepted: it happens in the background, once at a time", ref("WarmAnswer")),
            READ,
            parameters=_NS,
            status=202,
        )
    },
    "/v2/namespaces/{ns}/_debug/recall": {
        "post": operation(
            "recallV2",
            "Compare vector queries with exact search",
            answer("what the queries found of their true neighbours", ref("RecallAnswer")),
            (*READ, *BODY),
            body="RecallRequest",
            parameters=_NS,
        )
    },
    **_under_both(
        "/operations/{token}",
        {
            "get": operation(
                "getOperation",
                "What became of an operation",
                answer("whether it runs, and its result", ref("OperationV2")),
                READ,
                parameters=(NAMESPACE, _TOKEN),
            )
        },
    ),
    **_under_both(
        "/metadata",
        {
            "get": operation(
                "getMetadata",
                "Schema, sizes, times and options of a namespace",
                answer("what the namespace is", ref("MetadataV2")),
                READ,
                parameters=_NS,
            ),
            "patch": operation(
                "updateMetadata",
                "Pin a namespace, or let it be read only",
                answer("the metadata afterwards", ref("MetadataV2")),
                (*WRITE, *BODY),
                body="MetadataChangeV2",
                parameters=_NS,
            ),
        },
    ),
    **_under_both(
        "/schema",
        {
            "get": operation(
                "getSchema",
                "The attributes of a namespace",
                answer("attribute to type and options", ref("ShownSchemaV2")),
                READ,
                parameters=_NS,
            ),
            "post": operation(
                "updateSchema",
                "Add, change and drop attributes",
                answer("the whole schema afterwards", ref("ShownSchemaV2")),
                (*WRITE, *BODY),
                body="SchemaV2",
                parameters=_NS,
            ),
        },
    ),
}
