"""What a write brings, before it is checked against a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elacsym.query.ast import Filter
from elacsym.types import AttributeType, DocumentId, IdType, Metric, Schema

# a patch keeps its documents in memory, several times over, while it writes them again
REWRITTEN_BYTES_MAX = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its id and its attributes. A vector is a (d,) array, a list of numbers, or its bytes,
    plain or as base64 text; None is absence."""

    id: DocumentId
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Inference:
    """What the first value of an attribute may tell that no schema names.

    floats: fractions make a `float`; else they are refused. vectors: numbers, or base64, under the name
    `vector` make a dense vector of f32, and arrays of such lists a multi-vector.
    """

    floats: bool = True
    vectors: bool = False


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """What a write says of one attribute.

    type: as it was given. options: those of `Attribute` that were named, by field name; a partial
    `full_text` is a mapping of the `FullText` fields that were named, True or False. is_shorthand: only the
    type was named, which switches full_text, regex, glob and fuzzy off and keeps `filterable`.
    """

    type: AttributeType
    options: Mapping[str, Any] = field(default_factory=dict)
    is_shorthand: bool = False


@dataclass(frozen=True, slots=True)
class OptionsChange:
    """What becomes of the options of a namespace (see `Options`); those that are None stay."""

    read_only: bool | None = None
    replicas: int | None = None
    shards: int | None = None


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What a write says of the schema; merged into what is there, atomically with the write.

    attributes: None drops an attribute and its data. id_type, metric: what the namespace must have, or gets.
    options: what becomes of the namespace's options; None: they stay.
    """

    attributes: Mapping[str, AttributeChange | None] = field(default_factory=dict)
    id_type: IdType | None = None
    metric: Metric | None = None
    options: OptionsChange | None = None


@dataclass(frozen=True, slots=True)
class ByFilter:
    """An operation on all documents that a filter matches. At most rows_max (None: any number); beyond that
    it is refused, or, where is_partial, done for the first rows_max in id order. bytes_max: the same for the
    bytes of the documents that a patch writes again, though one is always."""

    condition: Filter
    rows_max: int | None = None
    is_partial: bool = False
    bytes_max: int = REWRITTEN_BYTES_MAX


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One atomic write.

    Order: delete_by_filter, then patch_by_filter (values in `patch`), which does not see what that deleted,
    then upserts (whole documents), patches (the named attributes of documents that exist; None removes one)
    and deletes, among which an id occurs once. Conditions are tested against the stored document: upserts of
    absent documents are applied untested, patches and deletes of them are skipped.

    schema: attributes to add, as v1 declares them. change: what else is said of the schema (a request of only
    a schema is a write, too). creates: whether the namespace is made if it is missing; None: if there are
    upserts. requires_all_vectors: every upsert must bring every vector attribute of the schema, and vectors
    are refused where the namespace was created without. ignores_pressure: not slowed down for what is not
    indexed yet, and refused for four times as much only. wants_ids: the result names ids. `path` is the JSON
    name of `upserts` in error messages, `patch_path` that of `patches`, `delete_path` that of `deletes`.
    """

    upserts: Sequence[Document] = ()
    deletes: Sequence[DocumentId] = ()
    schema: Schema | None = None
    path: str = "documents"
    patches: Sequence[Document] = ()
    patch_path: str = "patch_rows"
    delete_path: str = "ids"
    upsert_condition: Filter | None = None
    patch_condition: Filter | None = None
    delete_condition: Filter | None = None
    delete_by_filter: ByFilter | None = None
    patch_by_filter: ByFilter | None = None
    patch: Mapping[str, Any] = field(default_factory=dict)
    change: SchemaChange | None = None
    creates: bool | None = None
    inference: Inference = Inference()
    requires_all_vectors: bool = False
    ignores_pressure: bool = False
    wants_ids: bool = False

    @property
    def is_by_filter(self) -> bool:
        """Whether documents are chosen by a filter."""
        return self.delete_by_filter is not None or self.patch_by_filter is not None

    @property
    def is_reading(self) -> bool:
        """Whether what it does depends on stored documents."""
        is_tested = self.upsert_condition is not None or self.delete_condition is not None
        return bool(self.patches) or is_tested or self.is_by_filter

    @property
    def has_documents(self) -> bool:
        """Whether it is about documents, and not of a schema only."""
        return bool(self.upserts or self.patches or self.deletes) or self.is_by_filter

    @property
    def has_schema(self) -> bool:
        """Whether it says something of the schema."""
        return self.schema is not None or self.change is not None

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing."""
        is_tested = self.is_reading or self.patch_condition is not None
        return not (self.has_documents or self.has_schema or is_tested)
