"""What can be asked of a server: a call is a value, the request and how to read its answer. No I/O here."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NotRequired, Required, TypedDict, TypeVar
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import orjson

from elacsym.clock import new_nonce, system_random
from elacsym.types import DocumentId

T = TypeVar("T")
VectorLike = Sequence[float] | npt.NDArray[np.floating[Any]]


class Document(TypedDict):
    """One document. vector: (d,) numbers, sent as little-endian float32."""

    id: Required[DocumentId]
    vector: NotRequired[VectorLike | None]
    attributes: NotRequired[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Written:
    """An acknowledged write. As the consistency of a read it makes that read see the write; so
    does `{"token": token}`."""

    count: int
    seq: int
    token: str


# `strong`, `eventual`, {"min_seq": …}, {"token": …}, or the write that is to be seen
Consistency = str | Mapping[str, Any] | Written


class QueryParams(TypedDict, total=False):
    """The body of a query, field by field as in the v1 API."""

    vector: VectorLike
    vector_field: str
    vector_weight: float
    metric: str
    full_text: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    top_k: int
    filter: Mapping[str, Any]
    fusion: Mapping[str, Any]
    order_by: Sequence[Sequence[str]]
    after: str
    aggregate: Mapping[str, Any]
    include_vector: bool
    include_attributes: Sequence[str]
    consistency: Consistency
    exact: bool
    explain: bool


@dataclass(frozen=True, slots=True)
class Share:
    """What one leg gave a result: its rank there from 1, its raw score, its part of the fused score."""

    leg: str
    rank: int
    score: float
    contribution: float

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.leg}: rank {self.rank}, score {self.score:.4f}, gives {self.contribution:.4f}"


@dataclass(frozen=True, slots=True)
class Result:
    """One row of an answer. vector: (d,) float32 when asked for; shares: when it was to be explained."""

    id: DocumentId
    score: float | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    vector: npt.NDArray[np.float32] | None = None
    cursor: str | None = None
    shares: tuple[Share, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query; `body` is all of it as JSON values."""

    results: tuple[Result, ...]
    took_ms: float
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NamespacePage:
    """One page of names; `cursor` of the next page, None at the end."""

    names: tuple[str, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Recall:
    """What vector queries found of their true neighbours.

    average: the mean share found, 0…1. found, exact: rows that an ordinary and an exact query give on
    average. recent, stored: how many queries were asked of the server lately, and how many are stored
    vectors. `body` is the whole answer as JSON values.
    """

    average: float
    found: float
    exact: float
    recent: int
    stored: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and how to read its answer.

    gone_is_done: a 404 that follows an attempt of unknown outcome means that the attempt succeeded.
    namespace: what a write writes.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    is_write: bool = False
    idempotency_key: str | None = None
    gone_is_done: bool = False
    namespace: str = ""


def path_segment(namespace: str) -> str:
    """The name as one segment of a path."""
    # a dot segment would be normalised away on its way to the server
    return namespace.replace(".", "%2E") if namespace in {".", ".."} else quote(namespace, safe="")


def _path(namespace: str, *rest: str) -> str:
    return "/".join(("/v1/namespaces", path_segment(namespace), *rest))


def _encode(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _encode_vector(vector: VectorLike) -> str:
    array = np.asarray(vector)
    if array.ndim != 1:
        raise ValueError(f"a vector has one axis, this array has shape {array.shape}")
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def _decode_vector(value: Any) -> npt.NDArray[np.float32] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4").astype(np.float32)
    return np.asarray(value, np.float32)


def _encode_consistency(consistency: Consistency) -> str | Mapping[str, Any]:
    return {"token": consistency.token} if isinstance(consistency, Written) else consistency


def _encode_document(document: Document) -> dict[str, Any]:
    encoded: dict[str, Any] = dict(document)
    if encoded.get("vector") is not None:
        encoded["vector"] = _encode_vector(encoded["vector"])
    return encoded


def encode_documents(documents: Iterable[Document]) -> bytes:
    """The body of an upsert. A NaN attribute becomes null: JSON has no other word for it."""
    return _encode({"documents": [_encode_document(d) for d in documents]})


def _result(value: Mapping[str, Any]) -> Result:
    return Result(
        value["id"],
        value.get("score"),
        value.get("attributes") or {},
        _decode_vector(value.get("vector")),
        value.get("cursor"),
        tuple(Share(s["leg"], s["rank"], s["score"], s["contribution"]) for s in value.get("explain") or ()),
    )


def _written(value: Mapping[str, Any]) -> Written:
    return Written(value["count"], value["seq"], value["token"])


def create(namespace: str, schema: Mapping[str, Any]) -> Call[bool]:
    """`PUT /v1/namespaces/{ns}`: whether it was created."""
    body = _encode({"schema": schema})
    return Call(
        "PUT", _path(namespace), lambda v: bool(v["created"]), body, is_write=True, namespace=namespace
    )


def upsert(namespace: str, body: bytes, key: str | None) -> Call[Written]:
    """`POST …/upsert` of a body that `encode_documents` made."""
    return _documents_write(namespace, "upsert", body, key)


def delete(
    namespace: str, ids: Iterable[DocumentId] | None, condition: Mapping[str, Any] | None, key: str | None
) -> Call[Written]:
    """`POST …/delete`. Raises ValueError unless there are either ids or a filter."""
    if (ids is None) == (condition is None):
        raise ValueError("delete takes either ids or a filter")
    body = _encode({"filter": condition} if ids is None else {"ids": list(ids)})
    return _documents_write(namespace, "delete", body, key)


def _documents_write(namespace: str, verb: str, body: bytes, key: str | None) -> Call[Written]:
    return Call(
        "POST",
        _path(namespace, verb),
        _written,
        body,
        is_write=True,
        idempotency_key=key or new_nonce(system_random()),
        namespace=namespace,
    )


def query(namespace: str, params: QueryParams) -> Call[Answer]:
    """`POST …/query`."""
    body: dict[str, Any] = dict(params)
    if body.get("vector") is not None:
        body["vector"] = _encode_vector(body["vector"])
    if "consistency" in body:
        body["consistency"] = _encode_consistency(body["consistency"])

    def read(value: dict[str, Any]) -> Answer:
        return Answer(tuple(map(_result, value.get("results", ()))), value.get("took_ms", 0), value)

    return Call("POST", _path(namespace, "query"), read, _encode(body))


def documents(
    namespace: str, ids: Sequence[DocumentId], include_vector: bool, consistency: Consistency
) -> Call[list[Result | None]]:
    """`POST …/documents/get`."""
    body = _encode(
        {
            "ids": list(ids),
            "include_vector": include_vector,
            "consistency": _encode_consistency(consistency),
        }
    )

    def read(value: Any) -> list[Result | None]:
        found = {r.id: r for r in (_result(d) for d in value["documents"] if d is not None)}
        return [found.get(i) for i in ids]

    return Call("POST", _path(namespace, "documents", "get"), read, body)


def namespaces(prefix: str, cursor: str | None, page_size: int) -> Call[NamespacePage]:
    """`GET /v1/namespaces`: one page."""
    params = {"page_size": str(page_size)}
    params |= {"prefix": prefix} if prefix else {}
    params |= {"cursor": cursor} if cursor else {}

    def read(value: Any) -> NamespacePage:
        return NamespacePage(tuple(n["id"] for n in value["namespaces"]), value.get("next_cursor") or None)

    return Call("GET", "/v1/namespaces", read, params=params)


def info(namespace: str) -> Call[dict[str, Any]]:
    """`GET /v1/namespaces/{ns}`."""
    return Call("GET", _path(namespace), dict)


def _nothing(_: Any) -> None:
    return None


def warm(namespace: str) -> Call[None]:
    """`GET …/hint_cache_warm`."""
    return Call("GET", _path(namespace, "hint_cache_warm"), _nothing)


def recall(
    namespace: str,
    num: int,
    top_k: int,
    filters: Mapping[str, Any] | None,
    vector_field: str | None,
    queries: str,
    include_ground_truth: bool,
) -> Call[Recall]:
    """`POST …/_debug/recall`."""
    body: dict[str, Any] = {
        "num": num,
        "top_k": top_k,
        "queries": queries,
        "include_ground_truth": include_ground_truth,
    }
    body |= {} if filters is None else {"filters": filters}
    body |= {} if vector_field is None else {"vector_field": vector_field}

    def read(value: dict[str, Any]) -> Recall:
        counts = value["queries"]
        return Recall(
            value["avg_recall"],
            value["avg_ann_count"],
            value["avg_exhaustive_count"],
            counts["recent"],
            counts["stored"],
            value,
        )

    return Call("POST", _path(namespace, "_debug", "recall"), read, _encode(body))


def delete_namespace(namespace: str) -> Call[None]:
    """`DELETE /v1/namespaces/{ns}`."""
    return Call("DELETE", _path(namespace), _nothing, is_write=True, gone_is_done=True, namespace=namespace)


def health() -> Call[dict[str, Any]]:
    """`GET /health`."""
    return Call("GET", "/health", dict)
