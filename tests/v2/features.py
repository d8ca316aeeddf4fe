"""What the v2 API consists of: every feature with an id, which tests name in their markers."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Status(StrEnum):
    """How a feature is answered."""

    COMPLETE = "complete"
    REFUSED = "refused by design"
    SHOWN = "stored and shown, without effect"


class Feature(NamedTuple):
    """One row of the table. group: the heading it stands under."""

    id: str
    group: str
    text: str
    status: Status = Status.COMPLETE


_HTTP = (
    ("H-01", "API keys as bearer tokens; 401 without"),
    ("H-02", "errors: body, status, the client's exception"),
    ("H-03", "JSON of the wrong shape: 422, and what was expected where"),
    ("H-04", "gzip in requests"),
    ("H-05", "gzip in answers: only where accepted, only over 1,024 bytes"),
    ("H-06", "connections stay open for more than 60 s of silence"),
    ("H-07", "numbers: shortest decimals of 32-bit floats, exact 64-bit integers"),
    ("H-08", "409, 429 and 5xx only where repeating helps; `Retry-After`"),
    ("H-09", "long copies answered 202 and polled, for clients that prefer it"),
    ("H-10", "names of namespaces; bad ones are refused in plain text"),
    ("H-11", "bodies up to 512 MB, while other requests go on"),
    ("H-12", "limit of queries at once per namespace: 429"),
)
_DATA = (
    ("D-01", "ids: unsigned integers of 64 bits"),
    ("D-02", "ids: strings"),
    ("D-03", "ids: UUIDs"),
    ("D-04", "one type of id per namespace; no id twice in a write"),
    ("D-05", "types string, int, bool"),
    ("D-06", "types uint, float, uuid"),
    ("D-07", "type datetime: spellings, milliseconds, output"),
    ("D-08", "type bytes"),
    ("D-09", "arrays of scalars"),
    ("D-10", "null is the absence of a value"),
    ("D-11", "limits of names, values, documents"),
)
_VECTORS = (
    ("V-01", "f32 vectors as arrays"),
    ("V-02", "vectors as base64, in rows and columns"),
    ("V-03", "a whole column of vectors as one base64 string"),
    ("V-04", "vectors in answers as base64"),
    ("V-05", "16-bit floats"),
    ("V-06", "8-bit integers"),
    ("V-07", "up to 8 vector attributes"),
    ("V-08", "sparse vectors"),
    ("V-09", "arrays of vectors (late interaction)"),
)
_SCHEMA = (
    ("S-01", "types inferred from values"),
    ("S-02", "schema in a write"),
    ("S-03", "no change of an attribute's type"),
    ("S-04", "what a new schema entry leaves as it was"),
    ("S-05", "the schema as the schema calls show it"),
    ("S-06", "the schema as metadata show it"),
    ("S-07", "unfilterable attributes"),
    ("S-08", "indexes switched on for documents that are there"),
    ("S-09", "dropping an attribute"),
    ("S-10", "`ann` and the distance metric"),
    ("S-11", "`embed`: models hosted by the vendor", Status.REFUSED),
)
_WRITES = (
    ("W-01", "`upsert_rows`"),
    ("W-02", "`upsert_columns`"),
    ("W-03", "`patch_rows`"),
    ("W-04", "`patch_columns`"),
    ("W-05", "`deletes`"),
    ("W-06", "`delete_by_filter`"),
    ("W-07", "`patch_by_filter`"),
    ("W-08", "filter operations in parts: `…_allow_partial`, `rows_remaining`"),
    ("W-09", "the order of operations in one request"),
    ("W-10", "a write happens whole or not at all"),
    ("W-11", "durable before it is answered; one writer after the other"),
    ("W-12", "`upsert_condition`"),
    ("W-13", "`patch_condition`"),
    ("W-14", "`delete_condition`"),
    ("W-15", "`$ref_new` in conditions"),
    ("W-16", "`return_affected_ids`"),
    ("W-17", "counts in the answer"),
    ("W-18", "`distance_metric` in writes"),
    ("W-19", "`create_namespace`"),
    ("W-20", "`disable_backpressure`; 429 while indexing lags behind"),
    ("W-21", "`encryption`: keys of the customer are refused", Status.REFUSED),
    ("W-22", "`sharding`: kept and shown; a namespace has one log"),
    ("W-23", "`copy_from_namespace`"),
    ("W-24", "copies as operations with a token"),
    ("W-25", "copies from other regions and organisations", Status.REFUSED),
    ("W-26", "`branch_from_namespace`"),
    ("W-27", "read-only namespaces"),
    ("W-28", "`billing` of writes"),
)
_QUERIES = (
    ("Q-01", "nearest neighbours by squared euclidean distance"),
    ("Q-02", "nearest neighbours by cosine distance"),
    ("Q-03", "exact distances; ties by id"),
    ("Q-04", "nearest neighbours under filters: as many rows as match"),
    ("Q-05", "exact nearest neighbours (kNN)"),
    ("Q-06", "nearest arrays of vectors"),
    ("Q-07", "nearest sparse vectors"),
    ("Q-08", "order by an attribute"),
    ("Q-09", "order by several attributes; nulls"),
    ("Q-10", "rows by id, without `rank_by`"),
    ("Q-11", "`limit`, `top_k`, `offset`"),
    ("Q-12", "`limit.per`: at most so many rows that share values"),
    ("Q-13", "`include_attributes`"),
    ("Q-14", "`exclude_attributes`"),
    ("Q-15", "strong consistency"),
    ("Q-16", "eventual consistency, with a bound on staleness"),
    ("Q-17", "`consistency` of the wrong shape"),
    ("Q-18", "`billing` of queries"),
    ("Q-19", "`performance` of queries"),
    ("Q-20", "several queries over one snapshot"),
    ("Q-21", "reciprocal rank fusion"),
    ("Q-22", "fusion: weights, constant, limit, offset"),
    ("Q-23", "re-ranking by a hosted model", Status.REFUSED),
    ("Q-24", "queries embedded by a hosted model", Status.REFUSED),
    ("Q-25", "`explain_query`"),
    ("Q-26", "`distance_metric` in queries"),
)
_RANKING = (
    ("R-01", "Sum"),
    ("R-02", "Max, with a floor"),
    ("R-03", "Product, weight on either side"),
    ("R-04", "filters as scores"),
    ("R-05", "Attribute"),
    ("R-06", "Saturate"),
    ("R-07", "Decay, Dist, durations"),
    ("R-08", "which rows with score 0 count"),
)
_FILTERS = (
    ("X-01", "And, Or, Not"),
    ("X-02", "Eq, NotEq"),
    ("X-03", "In, NotIn"),
    ("X-04", "Lt, Lte, Gt, Gte"),
    ("X-05", "Contains, NotContains"),
    ("X-06", "ContainsAny, NotContainsAny"),
    ("X-07", "AnyLt, AnyLte, AnyGt, AnyGte"),
    ("X-08", "Glob, IGlob, NotGlob, NotIGlob"),
    ("X-09", "Regex"),
    ("X-10", "Fuzzy"),
    ("X-11", "operands of the wrong type"),
    ("X-12", "operands are converted: datetimes, UUIDs"),
)
_TEXT = (
    ("F-01", "BM25"),
    ("F-02", "`k1`, `b`, `k3` per attribute"),
    ("F-03", "tokenizer `word_v4` (UAX #29)"),
    ("F-04", "tokenizers `word_v0` to `word_v3`"),
    ("F-05", "tokenizer `pre_tokenized_array`"),
    ("F-06", "stemming, English"),
    ("F-07", "stemming, 18 languages"),
    ("F-08", "stop words"),
    ("F-09", "case, ASCII folding"),
    ("F-10", "`max_token_length`"),
    ("F-11", "arrays of strings"),
    ("F-12", "ContainsAllTokens"),
    ("F-13", "ContainsAnyToken"),
    ("F-14", "ContainsTokenSequence, with the gaps of stop words"),
    ("F-15", "`last_as_prefix`"),
    ("F-16", "settings that exclude each other"),
)
_AGGREGATIONS = (
    ("A-01", "Count"),
    ("A-02", "Sum"),
    ("A-03", "`group_by`"),
    ("A-04", "ForEachUnique"),
    ("A-05", "order and number of groups"),
    ("C-01", "computed scores and filters"),
    ("C-02", "VectorDist"),
    ("C-03", "computed BM25"),
    ("C-04", "Highlight: fragments and their order"),
    ("C-05", "Highlight: offsets in bytes, UTF-16 units, code points"),
)
_NAMESPACES = (
    ("N-01", "list, by prefix and pages"),
    ("N-02", "metadata"),
    ("N-03", "`read_only`"),
    ("N-04", "`pinning`", Status.SHOWN),
    ("N-05", "schema"),
    ("N-06", "change of the schema"),
    ("N-07", "delete"),
    ("N-08", "cache warming"),
    ("N-09", "recall"),
    ("N-10", "recall with filters, a ranking, ground truth"),
    ("N-11", "export, page by page"),
    ("N-12", "deprecated export", Status.REFUSED),
    ("N-13", "an emptied namespace stays"),
)

GROUPS = {
    "HTTP": _HTTP,
    "Ids, types, values": _DATA,
    "Vectors": _VECTORS,
    "Schema": _SCHEMA,
    "Writes": _WRITES,
    "Queries": _QUERIES,
    "Rank expressions": _RANKING,
    "Filters": _FILTERS,
    "Full text": _TEXT,
    "Aggregations and computed attributes": _AGGREGATIONS,
    "Namespaces": _NAMESPACES,
}
FEATURES = {row[0]: Feature(row[0], group, *row[1:]) for group, rows in GROUPS.items() for row in rows}
