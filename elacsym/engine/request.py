"""What a write brings, before it is checked against a schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from elacsym.query.ast import Filter
from elacsym.types import DocumentId, Schema


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its id and its attributes. A vector is a (d,) array, a list of numbers, or its bytes,
    plain or as base64 text; None is absence."""

    id: DocumentId
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One atomic write: documents to insert or replace, ids to delete, or a filter whose matches are deleted.

    schema: attributes to add (a schema request without documents is a write, too). `path` is the JSON name of
    `upserts` in error messages.
    """

    upserts: Sequence[Document] = ()
    deletes: Sequence[DocumentId] = ()
    delete_filter: Filter | None = None
    schema: Schema | None = None
    path: str = "documents"
