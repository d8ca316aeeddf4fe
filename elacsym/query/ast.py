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

from elacsym.types import STRONG, Consistency, DocumentId, Metric, Schema

TOP_K_MAX = 10_000
FILTER_DEPTH_MAX = 32
# as people write them, combinations included
FILTER_CONDITIONS_MAX = 10_000
# what null means takes two more for each
QUERY_CONDITIONS_MAX = 3 * FILTER_CONDITIONS_MAX
SCORE_CLAUSES_MAX = 1_000
SCORE_LEAVES_MAX = 256
ORDER_KEYS_MAX = 8
PER_ATTRIBUTES_MAX = ORDER_KEYS_MAX
GROUP_KEYS_MAX = 64
# of a ranking in a fusion, and of a field
WEIGHT_MAX = 1e6
GROUPS_MAX = 10_000
TEXT_QUERY_CHARS_MAX = 8_192
PATTERN_CHARS_MAX = 4_096
COMPUTED_MAX = 256


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
    NOT_CONTAINS = "not_contains"
    CONTAINS_ANY = "contains_any"
    NOT_CONTAINS_ANY = "not_contains_any"
    ANY_LT = "any_lt"
    ANY_LTE = "any_lte"
    ANY_GT = "any_gt"
    ANY_GTE = "any_gte"


@dataclass(frozen=True, slots=True)
class RefNew:
    """In the condition of a write, in an operand's place: the value that the request brings for `attribute`
    of the document in question; null where it brings none."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Compare:
    """`field op value`. A missing attribute is null: `ne` and `not_…` match it, everything else does not.
    `any_…` compare the elements of an array: some element is less, and so on."""

    field: str
    op: Op
    value: Any
    path: str = "filter"


@dataclass(frozen=True, slots=True)
class Glob:
    """A string, or some element of an array of strings, matches a pattern as a whole: `*` any run, `?` one
    character, `[abc]`, `[a-z]`, `[!a]`, `{one,two}`, backslash escapes."""

    field: str
    pattern: str
    ignores_case: bool = False
    path: str = "filter"


@dataclass(frozen=True, slots=True)
class Regex:
    """A regular expression (RE2 syntax) matches somewhere in a string, or in some element of an array."""

    field: str
    pattern: str
    path: str = "filter"


@dataclass(frozen=True, slots=True)
class Fuzzy:
    """Some substring of a string, or of some element of an array, is within an edit distance (Levenshtein, in
    characters) of `text`.

    thresholds: (least length of the text in characters, distance 0 to 2); of those that apply the one with
    the largest length counts, and where none applies nothing matches.
    """

    field: str
    text: str
    thresholds: tuple[tuple[int, int], ...]
    is_case_sensitive: bool = True
    path: str = "filter"


@dataclass(frozen=True, slots=True)
class Tokens:
    """A full-text attribute has all or any of a query's tokens, or has them next to each other in order.

    query: a text, or a tuple of tokens that are analysed each. last_as_prefix (not with `sequence`): the last
    token stands for every token that begins with it. A query without tokens matches nothing. A sequence keeps
    the gaps of removed stop words, and does not run across elements of an array.
    """

    field: str
    query: str | tuple[str, ...]
    mode: Literal["all", "any", "sequence"]
    last_as_prefix: bool = False
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


# what looks at an attribute
Test = Compare | Glob | Regex | Fuzzy | Tokens
Filter = Test | And | Or | Not


@dataclass(frozen=True, slots=True)
class Bm25:
    """BM25 of a query on a full-text attribute; 0 where no token occurs.

    query: a text, or a tuple of tokens that are analysed each. last_as_prefix: the last token stands for
    every token that begins with it; a document that has longer ones only gets 1.0 for it in place of BM25.
    """

    attribute: str
    query: str | tuple[str, ...]
    last_as_prefix: bool = False
    path: str = "rank_by"


@dataclass(frozen=True, slots=True)
class Sum:
    """The sum of the clauses."""

    clauses: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Max:
    """The largest of the clauses and, where there is one, a floor."""

    clauses: tuple[Score, ...]
    floor: float | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """A clause times a weight, which is finite and >= 0."""

    weight: float
    clause: Score


@dataclass(frozen=True, slots=True)
class Indicator:
    """1 where a filter holds, else 0."""

    condition: Filter


@dataclass(frozen=True, slots=True)
class AttributeValue:
    """The number that a document has as an attribute; null counts as 0."""

    attribute: str
    path: str = "rank_by"


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a document's number or time is from an origin: |attribute - origin|, in milliseconds for times.

    Only inside `Saturate` and `Decay`: a document without the attribute gets nothing from these. origin: a
    number, or the text of a time, which validation makes milliseconds.
    """

    attribute: str
    origin: int | float | str
    path: str = "rank_by"


@dataclass(frozen=True, slots=True)
class Duration:
    """A length of time where a midpoint stands, in milliseconds, as in "36h"."""

    milliseconds: float


@dataclass(frozen=True, slots=True)
class Saturate:
    """x^e / (x^e + m^e) of a clause x >= 0 (less counts as 0); m > 0 is the midpoint, e > 0 the exponent."""

    clause: Score | Distance
    midpoint: float | Duration
    exponent: float = 1.0
    path: str = "rank_by"


@dataclass(frozen=True, slots=True)
class Decay:
    """m^e / (x^e + m^e) of a clause x >= 0 (less counts as 0); m > 0 is the midpoint, e > 0 the exponent."""

    clause: Score | Distance
    midpoint: float | Duration
    exponent: float = 1.0
    path: str = "rank_by"


# a score expression: larger is better
Score = Bm25 | Sum | Max | Product | Indicator | AttributeValue | Saturate | Decay


@dataclass(frozen=True, slots=True)
class VectorLeg:
    """Nearest neighbours. vector: (d,) float32, finite. weight: its share in a fusion. path: where it stands,
    if not in the fields of v1."""

    attribute: str
    vector: npt.NDArray[np.float32]
    weight: float = 1.0
    path: str = ""


@dataclass(frozen=True, slots=True)
class TextLeg:
    """BM25 of `query` over one or more fields; the score is the sum of weight · BM25 over the fields."""

    fields: tuple[tuple[str, float], ...]
    query: str
    weight: float = 0.5
    path: str = "full_text"


@dataclass(frozen=True, slots=True)
class MultiVectorLeg:
    """Late interaction on an array of vectors: for each query vector the best distance to one of the
    document's, summed. vectors: (m, d) float32, finite. A smaller sum is nearer."""

    attribute: str
    vectors: npt.NDArray[np.float32]
    weight: float = 1.0
    path: str = "rank_by"


@dataclass(frozen=True, slots=True)
class SparseLeg:
    """The sum of query weight times stored weight over shared dimensions of a sparse vector; only documents
    that share one. vector: (dimension, weight), finite, dimensions distinct."""

    attribute: str
    vector: tuple[tuple[str, float], ...]
    weight: float = 1.0
    path: str = "rank_by"


@dataclass(frozen=True, slots=True)
class ScoreLeg:
    """A score expression. Rows whose score is 0 are left out, unless it contains an attribute or a
    distance."""

    score: Score
    weight: float = 1.0


Leg = VectorLeg | MultiVectorLeg | SparseLeg | TextLeg | ScoreLeg


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key of an attribute order. Nulls come first ascending, last descending. path: where it stands, if
    not in the fields of v1."""

    attribute: str
    descending: bool = False
    path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of an aggregation: how many documents, or the sum of a numeric attribute over them."""

    label: str
    kind: Literal["count", "sum"]
    attribute: str | None = None
    path: str = "aggregate_by"


@dataclass(frozen=True, slots=True)
class GroupKey:
    """One key of a grouping: the value of an attribute, or each distinct element of an array once (documents
    with an empty array drop out, those without any have a null key)."""

    label: str
    attribute: str
    is_each_element: bool = False
    path: str = "group_by"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Exact figures over the filtered set, optionally by groups, of which the first `groups_max` in the order
    of their keys are given (null first)."""

    figures: tuple[Figure, ...]
    group_by: tuple[GroupKey, ...] = ()
    groups_max: int = GROUPS_MAX


@dataclass(frozen=True, slots=True)
class Group:
    """The figures of one group; both by label. A null key is None."""

    key: dict[str, Any]
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Per:
    """Diversity: of the rows that share the values of some attributes the first `limit` of the ranking are
    kept. A null is a value of its own."""

    attributes: tuple[str, ...]
    limit: int


@dataclass(frozen=True, slots=True)
class VectorDistance:
    """A computed attribute: how far the row's vector is from this one, (d,) float32, in the namespace's
    metric; null where it has none."""

    attribute: str
    vector: npt.NDArray[np.float32]
    path: str = "compute_attributes"


@dataclass(frozen=True, slots=True)
class Highlight:
    """A computed attribute: the fragments of a full-text attribute that match best.

    offsets: the unit in which ranges are given, None for none. rank_by: what fragments are ranked by, where
    their text is the attribute `$fragment`; None: the query's own text clauses on the attribute.
    """

    attribute: str
    fragment_by: Literal["none", "sentence", "paragraph", "word"] = "sentence"
    limit: int = 3
    offsets: Literal["utf-8", "utf-16", "codepoints"] | None = None
    rank_by: Score | None = None
    path: str = "compute_attributes"


# a score expression gives a number (BM25 without statistics: N = 0, df = 0, avgdl = 1), a bare filter a
# boolean
Computed = Score | Filter | VectorDistance | Highlight


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
    the last row of the page before (opaque, from `Hit.cursor`). offset: how many rows of the ranking to pass
    over first. include_attributes: None = all. include_vector: with all, vectors, too. compute: computed
    attributes by name.
    """

    legs: tuple[Leg, ...] = ()
    filter: Filter | None = None
    order_by: tuple[OrderKey, ...] = ()
    after: str | None = None
    aggregate: Aggregate | None = None
    top_k: int = 10
    offset: int = 0
    per: Per | None = None
    metric: Metric | None = None
    fusion: Fusion = field(default_factory=Fusion)
    include_attributes: tuple[str, ...] | None = None
    exclude_attributes: tuple[str, ...] = ()
    include_vector: bool = False
    compute: tuple[tuple[str, Computed], ...] = ()
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


@dataclass(frozen=True)
class Rerank:
    """How the rows of several queries become one ranking: a row's score is the sum over the queries that
    found it of weight / (constant + rank), ranks from 1. weights: one for each query, none: 1 each. limit:
    None: all rows.
    """

    constant: float = 60.0
    weights: tuple[float, ...] = ()
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Work:
    """What an answer was made of. rows_live: documents of the namespace. rows_unindexed: those of the tail,
    which no index covers yet. bytes_read: wanted for it, and not at hand."""

    rows_live: int = 0
    rows_unindexed: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer. `aggregations` (figures by label) or `groups` as asked; `plan` is the explanation when
    asked, JSON-ready. schema: that of the snapshot, by which values are read."""

    hits: tuple[Hit, ...] = ()
    aggregations: dict[str, Any] | None = None
    groups: tuple[Group, ...] | None = None
    plan: dict[str, Any] | None = None
    staleness_ms: int = 0
    work: Work = Work()
    schema: Schema = field(default_factory=Schema)
