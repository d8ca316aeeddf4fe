"""Values everybody shares: attribute types, schemas, consistency, what a write brings and what it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Self

# a UUID is its canonical lower-case spelling here, and 16 bytes in files
DocumentId = int | str
IdType = Literal["uint", "string", "uuid"]

ID = "id"
VECTOR = "vector"
DIMENSIONS_MAX = 10_752
ATTRIBUTES_MAX = 1_024
VECTOR_ATTRIBUTES_MAX = 8
ATTRIBUTE_NAME_BYTES_MAX = 128
STRING_ID_BYTES_MAX = 64
DOCUMENT_BYTES_MAX = 64 * 2**20
VALUE_BYTES_MAX = 8 * 2**20
SPARSE_ENTRIES_MAX = 1_024
FILTERABLE_VALUE_BYTES_MAX = 4 * 2**10


class Metric(StrEnum):
    """How two vectors are compared; one per namespace."""

    COSINE = "cosine"
    L2 = "l2"
    DOT = "dot"


class Scalar(StrEnum):
    """The kinds of attribute values; those of `VECTOR_SCALARS` only occur as the elements of a vector.

    datetime: milliseconds since 1970, UTC. uuid: its canonical spelling. bytes: bytes. unknown: the element
    of an array whose type no value has told yet; it only occurs as `[]unknown`.
    """

    STRING = "string"
    INT = "int"
    UINT = "uint"
    FLOAT = "float"
    BOOL = "bool"
    UUID = "uuid"
    DATETIME = "datetime"
    BYTES = "bytes"
    UNKNOWN = "unknown"
    F32 = "f32"
    F16 = "f16"
    I8 = "i8"


VECTOR_SCALARS = (Scalar.F32, Scalar.F16, Scalar.I8)


@dataclass(frozen=True, slots=True)
class AttributeType:
    """A scalar (`string`), an array of scalars (`[]string`), a dense vector (`[384]f32`, `[384]f16`,
    `[384]i8`: `dimensions` is set, and `scalar` is how its elements are stored), an array of dense vectors
    (`[][384]f32`: both) or a sparse vector (`{}f16`: neither, but an element of vectors)."""

    scalar: Scalar
    is_array: bool = False
    dimensions: int | None = None

    @property
    def is_vector(self) -> bool:
        """Whether this is a dense vector."""
        return self.dimensions is not None and not self.is_array

    @property
    def is_multivector(self) -> bool:
        """Whether this is an array of dense vectors."""
        return self.dimensions is not None and self.is_array

    @property
    def is_sparse(self) -> bool:
        """Whether this is a sparse vector."""
        return self.scalar in VECTOR_SCALARS and self.dimensions is None

    @property
    def is_plain(self) -> bool:
        """Whether this is a scalar or an array of scalars."""
        return self.scalar not in VECTOR_SCALARS

    def joined(self, other: AttributeType) -> AttributeType | None:
        """The type of an attribute that is of this type and of another: the one that is known of arrays whose
        elements are not; None where they disagree."""
        if self == other:
            return self
        if not (self.is_array and other.is_array and self.is_plain and other.is_plain):
            return None
        if other.scalar is Scalar.UNKNOWN:
            return self
        return other if self.scalar is Scalar.UNKNOWN else None

    def __str__(self) -> str:
        if self.is_sparse:
            return "{}" + self.scalar
        size = "" if self.dimensions is None else f"[{self.dimensions}]"
        return ("[]" if self.is_array else "") + size + self.scalar

    @classmethod
    def parse(cls, text: str) -> Self:
        """The type that `str` prints as `text`. Raises ValueError for anything else."""
        match = re.fullmatch(r"(\[\])?(?:\[([1-9]\d{0,4})\])?(\{\})?([a-z0-9]+)", text)
        if match is None:
            raise ValueError(f"unknown attribute type {text!r}")
        is_array, is_sparse = match[1] is not None, match[3] is not None
        scalar = Scalar(match[4])
        dimensions = int(match[2]) if match[2] else None
        if dimensions is not None and not 1 <= dimensions <= DIMENSIONS_MAX:
            raise ValueError(f"{dimensions} dimensions where 1 to {DIMENSIONS_MAX} are allowed")
        type_ = cls(scalar, is_array, dimensions)
        fits = type_.is_plain or dimensions is not None or is_sparse
        if str(type_) != text or not fits or (is_sparse and scalar is not Scalar.F16):
            raise ValueError(f"unknown attribute type {text!r}")
        if (type_.is_multivector and scalar is not Scalar.F32) or (scalar is Scalar.UNKNOWN and not is_array):
            raise ValueError(f"unknown attribute type {text!r}")
        if scalar is Scalar.BYTES and is_array:
            raise ValueError(f"unknown attribute type {text!r}")
        return type_


@dataclass(frozen=True, slots=True)
class FullText:
    """How one text attribute is analysed and scored; the same at write and at query time."""

    tokenizer: str = "word_v4"
    language: str = "english"
    stemming: bool = False
    remove_stopwords: bool = False
    case_sensitive: bool = False
    ascii_folding: bool = False
    max_token_length: int = 39
    k1: float = 1.2
    b: float = 0.75
    k3: float = 8.0


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a schema.

    regex, glob, fuzzy: which pattern filters may look at it. stored_as: the name of its columns in files,
    where that is not its own, because an attribute of this name was dropped before.
    """

    type: AttributeType
    filterable: bool = True
    full_text: FullText | None = None
    regex: bool = False
    glob: bool = False
    fuzzy: bool = False
    stored_as: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What else is settled for a whole namespace.

    read_only: documents and schema are locked. replicas: how many nodes are asked to keep it pinned; 0: it is
    not pinned. shards: stored and shown; there is one log all the same. parent: what it was branched from.
    """

    read_only: bool = False
    replicas: int = 0
    shards: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """What a namespace's documents look like, and its options. `id_type` is None until the first document or
    its declaration. drops: how many attributes were dropped so far."""

    id_type: IdType | None = None
    metric: Metric | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    options: Options = Options()
    drops: int = 0

    def vectors(self) -> dict[str, Attribute]:
        """The dense vector attributes, in the order they were declared."""
        return {name: a for name, a in self.attributes.items() if a.type.is_vector}

    def stored(self, name: str) -> str:
        """The name of an attribute's columns in files and in the memory of the tail."""
        return self.attributes[name].stored_as or name

    def to_json(self) -> dict[str, Any]:
        """A JSON form that `from_json` reads back."""
        return {
            "id_type": self.id_type,
            "metric": self.metric,
            "options": _fields_of(self.options),
            "drops": self.drops,
            "attributes": {
                name: _fields_of(a)
                | {
                    "type": str(a.type),
                    "full_text": None if a.full_text is None else _fields_of(a.full_text),
                }
                for name, a in self.attributes.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The schema of a JSON form. Raises KeyError, TypeError or ValueError if it is none."""
        attributes = {
            name: Attribute(
                **{
                    **a,
                    "type": AttributeType.parse(a["type"]),
                    "full_text": None if a["full_text"] is None else FullText(**a["full_text"]),
                }
            )
            for name, a in value["attributes"].items()
        }
        return cls(
            value["id_type"],
            None if value["metric"] is None else Metric(value["metric"]),
            MappingProxyType(attributes),
            Options(**value["options"]),
            value["drops"],
        )


def _fields_of(value: Attribute | FullText | Options) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Consistency:
    """What a read must see.

    strong:    everything acknowledged before the read began (the default).
    at_least:  everything up to and including slot `min_seq` (of incarnation `inc`, when a token named it).
    eventual:  the snapshot at hand, at most `staleness_ms_max` old.
    """

    level: Literal["strong", "at_least", "eventual"] = "strong"
    min_seq: int = 0
    inc: str | None = None
    staleness_ms_max: int = 60_000


STRONG = Consistency()


@dataclass(frozen=True, slots=True)
class Token:
    """A write's place in the log, `inc:seq`; a read that is given it sees the write."""

    inc: str
    seq: int

    def __str__(self) -> str:
        return f"{self.inc}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token that prints as `text`. Raises ValueError."""
        match = re.fullmatch(r"([0-9a-f]{16}):(\d{1,19})", text)
        if match is None:
            raise ValueError(f"{text!r} is no token of a write")
        return cls(match[1], int(match[2]))


@dataclass(frozen=True, slots=True)
class Effects:
    """What a write did, document by document.

    upserted, patched, deleted: how many; None where the request had no such operation. The ids are there when
    they were asked for: of patches and deletes, those by filter come first, in id order. rows_remaining:
    whether a partial operation by filter left matches. bytes_written: of ids and values, uncompressed.
    has_read: whether stored documents were looked at.
    """

    upserted: int | None = None
    patched: int | None = None
    deleted: int | None = None
    upserted_ids: tuple[DocumentId, ...] = ()
    patched_ids: tuple[DocumentId, ...] = ()
    deleted_ids: tuple[DocumentId, ...] = ()
    rows_remaining: bool | None = None
    bytes_written: int = 0
    has_read: bool = False

    @property
    def affected(self) -> int:
        """The sum of the counts."""
        return (self.upserted or 0) + (self.patched or 0) + (self.deleted or 0)


@dataclass(frozen=True, slots=True)
class WriteResult:
    """An acknowledged write: how many documents it changed, its place in the log, and what it did in detail;
    None where only an idempotency key told that it had been done before."""

    count: int
    token: Token
    effects: Effects | None = None
