"""Values everybody shares: attribute types, schemas, consistency, what a write brings and what it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, Self

DocumentId = int | str
IdType = Literal["uint", "string"]

ID = "id"
VECTOR = "vector"
DIMENSIONS_MAX = 10_752
ATTRIBUTES_MAX = 1_024
VECTOR_ATTRIBUTES_MAX = 8
ATTRIBUTE_NAME_BYTES_MAX = 128
STRING_ID_BYTES_MAX = 64
VALUE_BYTES_MAX = 8 * 2**20
FILTERABLE_VALUE_BYTES_MAX = 4 * 2**10


class Metric(StrEnum):
    """How two vectors are compared; one per namespace."""

    COSINE = "cosine"
    L2 = "l2"
    DOT = "dot"


class Scalar(StrEnum):
    """The kinds of attribute values; those of `VECTOR_SCALARS` only occur as the elements of a vector."""

    STRING = "string"
    INT = "int"
    UINT = "uint"
    FLOAT = "float"
    BOOL = "bool"
    F32 = "f32"
    F16 = "f16"
    I8 = "i8"


VECTOR_SCALARS = (Scalar.F32, Scalar.F16, Scalar.I8)


@dataclass(frozen=True, slots=True)
class AttributeType:
    """A scalar (`string`), an array of scalars (`[]string`) or a vector (`[384]f32`, `[384]f16`, `[384]i8`:
    `dimensions` is set, and `scalar` is how its elements are stored)."""

    scalar: Scalar
    is_array: bool = False
    dimensions: int | None = None

    @property
    def is_vector(self) -> bool:
        """Whether this is a dense vector."""
        return self.dimensions is not None

    def __str__(self) -> str:
        prefix = f"[{self.dimensions}]" if self.is_vector else "[]" if self.is_array else ""
        return prefix + self.scalar

    @classmethod
    def parse(cls, text: str) -> Self:
        """The type that `str` prints as `text`. Raises ValueError for anything else."""
        match = re.fullmatch(r"(\[(\d*)\])?([a-z0-9]+)", text)
        if match is None:
            raise ValueError(f"unknown attribute type {text!r}")
        scalar = Scalar(match[3])
        dimensions = int(match[2]) if match[2] else None
        if (scalar in VECTOR_SCALARS) != (dimensions is not None):
            raise ValueError(f"unknown attribute type {text!r}")
        if dimensions is not None and not 1 <= dimensions <= DIMENSIONS_MAX:
            raise ValueError(f"{dimensions} dimensions where 1 to {DIMENSIONS_MAX} are allowed")
        return cls(scalar, match[1] is not None and dimensions is None, dimensions)


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
    """One attribute of a schema."""

    type: AttributeType
    filterable: bool = True
    full_text: FullText | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """What a namespace's documents look like. `id_type` is None until the first document."""

    id_type: IdType | None = None
    metric: Metric | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))

    def vectors(self) -> dict[str, Attribute]:
        """The vector attributes, in the order they were declared."""
        return {name: a for name, a in self.attributes.items() if a.type.is_vector}

    def to_json(self) -> dict[str, Any]:
        """A JSON form that `from_json` reads back."""
        return {
            "id_type": self.id_type,
            "metric": self.metric,
            "attributes": {
                name: {
                    "type": str(a.type),
                    "filterable": a.filterable,
                    "full_text": None
                    if a.full_text is None
                    else {key: getattr(a.full_text, key) for key in FullText.__dataclass_fields__},
                }
                for name, a in self.attributes.items()
            },
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The schema of a JSON form. Raises KeyError, TypeError or ValueError if it is none."""
        attributes = {
            name: Attribute(
                AttributeType.parse(a["type"]),
                a["filterable"],
                None if a["full_text"] is None else FullText(**a["full_text"]),
            )
            for name, a in value["attributes"].items()
        }
        metric = None if value["metric"] is None else Metric(value["metric"])
        return cls(value["id_type"], metric, MappingProxyType(attributes))


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
class WriteResult:
    """An acknowledged write: how many documents it upserted or deleted, and its place in the log."""

    count: int
    token: Token
