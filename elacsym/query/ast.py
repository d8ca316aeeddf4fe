"""A query as a value: legs, filter, order, aggregation, fusion. Decoders build it, the planner reads it.

Field paths for error messages are those of the v1 API. Validation that needs the schema is in
`elacsym.query.validate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elacsym.types import STRONG, Consistency, DocumentId, Metric

TOP_K_MAX = 10_000
FILTER_DEPTH_MAX = 32
ORDER_KEYS_MAX = 8
TEXT_QUERY_CHARS_MAX = 8_192


class Op(StrEnum):
    """Comparisons of one attribute with an operand."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NOT_IN = "not_in"
    CONTAINS = "contains"
    CONTAINS_ANY = "contains_any"


@dataclass(frozen=True, slots=True)
class Compare:
    """`field op value`. A missing attribute is null: `ne` and `not_in` match it, everything else does not."""

    field: str
    op: Op
    value: Any
    path: str = "filter"


@dataclass(frozen=True, slots=True)
class And:
    """All conditions hold; no condition: true."""

    conditions: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some condition holds; no condition: false."""

    conditions: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The condition does not hold, nulls included."""

    condition: Filter


Filter = Compare | And | Or | Not


@dataclass(frozen=True, slots=True)
class VectorLeg:
    """Nearest neighbours. vector: (d,) float32, finite. weight: its share in a fusion."""

    attribute: str
    vector: npt.NDArray[np.float32]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TextLeg:
    """BM25 of `query` over one or more fields; the score is the sum of weight · BM25 over the fields."""

    fields: tuple[tuple[str, float], ...]
    query: str
    weight: float = 0.5
    path: str = "full_text"


Leg = VectorLeg | TextLeg


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key of an attribute order. Nulls come first ascending, last descending."""

    attribute: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Exact figures over the filtered set: a count, sums of numeric attributes, optionally by groups."""

    count: bool = True
    sums: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fusion:
    """How legs become one ranking; every leg gives `depth` candidates (None: max(100, top_k))."""

    method: Literal["rrf", "weighted", "max"] = "rrf"
    k: float = 60.0
    depth: int | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One query against one snapshot.

    At least one of legs, order_by, aggregate. With legs, `order_by` must be empty. `after` is the cursor of
    the last row of the page before (opaque, from `Hit.cursor`). include_attributes: None = all.
    """

    legs: tuple[Leg, ...] = ()
    filter: Filter | None = None
    order_by: tuple[OrderKey, ...] = ()
    after: str | None = None
    aggregate: Aggregate | None = None
    top_k: int = 10
    metric: Metric | None = None
    fusion: Fusion = field(default_factory=Fusion)
    include_attributes: tuple[str, ...] | None = None
    include_vector: bool = False
    consistency: Consistency = STRONG
    exact: bool = False
    explain: bool = False


class LegShare(NamedTuple):
    """What one leg gave a hit: rank from 1, raw score (distance or BM25), contribution to the fused score."""

    leg: str
    rank: int
    score: float
    contribution: float


class Hit(NamedTuple):
    """One row of an answer. `score` is a float32 value, None for attribute orders; null attributes are left
    out."""

    id: DocumentId
    score: float | None
    attributes: dict[str, Any]
    cursor: str | None = None
    shares: tuple[LegShare, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer. `aggregations` or `groups` as asked (`query.aggregate` gives their form); `plan` is the
    explanation when asked, JSON-ready."""

    hits: tuple[Hit, ...] = ()
    aggregations: dict[str, Any] | None = None
    groups: tuple[dict[str, Any], ...] | None = None
    plan: dict[str, Any] | None = None
    staleness_ms: int = 0
