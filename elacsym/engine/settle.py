"""What a request does to the documents that are stored: whole documents to write, ids to delete, and counts.

Its operations follow each other, each on what the ones before left: deletes by filter, patches by filter,
then upserts, patches and deletes of given ids, whose ids differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from elacsym.engine import payload
from elacsym.engine.columns import too_large
from elacsym.engine.conditions import NewValues, holds, nothing_new
from elacsym.engine.draft import Draft, Patches, narrowed
from elacsym.engine.payload import RowChanges
from elacsym.engine.request import Document
from elacsym.engine.stored import Stored, is_among, replaced
from elacsym.errors import InvalidRequest
from elacsym.index.columns import arrow_type, fitted
from elacsym.index.ids import IdColumn
from elacsym.index.sizes import total_bytes
from elacsym.query.ast import Filter
from elacsym.query.columns import Bools, Ints
from elacsym.types import ID, DocumentId, Effects, Schema

_Rows = tuple[IdColumn, dict[str, pa.Array]]


@dataclass(frozen=True, slots=True)
class Read:
    """What a request was found to be about. documents: of every id that it patches or tests, those that
    exist. deleted, patched: the ids that its filters chose, in id order, distinct from each other.
    rows_remaining: see `Effects`. schema: the one that documents were stored under."""

    schema: Schema
    documents: Stored
    deleted: IdColumn | None = None
    patched: IdColumn | None = None
    rows_remaining: bool | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Changes with their payload."""

    draft: Draft
    changes: RowChanges
    payload: bytes
    effects: Effects


def encoded(draft: Draft) -> Encoded:
    """A request that does not look at stored documents."""
    request, upserts, deletes = draft.request, draft.upserts, draft.deletes
    rows = None if upserts is None else (upserts.ids, upserts.arrays)
    changes = _changes(draft.after, rows, deletes)
    wants = request.wants_ids
    deleted_ids = list(request.deletes) if deletes is None else deletes.to_list() if wants else []
    effects = Effects(
        upserted=len(request.upserts) if request.upserts else None,
        deleted=len(request.deletes) if request.deletes else None,
        upserted_ids=tuple(upserts.ids.to_list()) if wants and upserts is not None else (),
        deleted_ids=tuple(deleted_ids) if wants else (),
        bytes_written=_bytes(rows) + _id_bytes(deletes),
    )
    return Encoded(draft, changes, payload.encode(changes), effects)


def settled(draft: Draft, read: Read) -> Encoded:
    """A request that looks at stored documents. Raises InvalidRequest where a condition does not fit."""
    return _Settling(draft, read).encoded()


class _Settling:
    """The documents of one request as its operations change them; `documents` has rows for those stored."""

    def __init__(self, draft: Draft, read: Read) -> None:
        self._draft, self._read = draft, read
        self._schema = draft.after
        self._documents = read.documents.under(read.schema, draft.after)
        self._is_there = np.ones(len(read.documents), np.bool_)
        self._is_patched = np.zeros(len(read.documents), np.bool_)
        self._bytes = 0

    def encoded(self) -> Encoded:
        """The outcome."""
        draft, read = self._draft, self._read
        if read.deleted is not None and len(self._documents):
            self._is_there &= ~is_among(self._documents.ids, read.deleted)
        if draft.patch is not None and read.patched is not None:
            rows = self._documents.rows_of(read.patched)
            self._patch(draft.patch, np.zeros(len(rows), np.int64), rows)
        # all are tested before any is applied: they are one set
        upserted = self._upserted()
        patched = self._chosen(draft.patches, draft.request.patch_condition, draft.request.patches)
        deleted = self._deleted()
        if draft.patches is not None:
            self._patch(draft.patches, patched, self._documents.rows_of(draft.patches.ids.select(patched)))
        return self._outcome(upserted, patched, deleted)

    def _upserted(self) -> Ints:
        """Which upserts apply."""
        draft = self._draft
        upserts, condition = draft.upserts, draft.request.upsert_condition
        if upserts is None:
            return np.zeros(0, np.int64)
        if condition is None:
            return np.arange(len(upserts.ids))
        rows = self._rows_there(upserts.ids)
        stored = np.flatnonzero(rows >= 0)
        applies = np.ones(len(rows), np.bool_)
        applies[stored] = self._holds(condition, rows[stored], _values_of(draft.request.upserts, stored))
        return np.flatnonzero(applies)

    def _chosen(
        self, patches: Patches | None, condition: Filter | None, documents: Sequence[Document]
    ) -> Ints:
        """Which patches apply."""
        if patches is None:
            return np.zeros(0, np.int64)
        rows = self._rows_there(patches.ids)
        stored = np.flatnonzero(rows >= 0)
        if condition is None:
            return stored
        return stored[self._holds(condition, rows[stored], _values_of(documents, stored))]

    def _deleted(self) -> IdColumn | None:
        """The ids of the deletes that apply; those of absent documents do where nothing is tested."""
        deletes, condition = self._draft.deletes, self._draft.request.delete_condition
        if deletes is None or condition is None:
            return deletes
        rows = self._rows_there(deletes)
        stored = np.flatnonzero(rows >= 0)
        return deletes.select(stored[self._holds(condition, rows[stored], nothing_new)])

    def _rows_there(self, ids: IdColumn) -> Ints:
        """The row of each id, -1 where there is no such document (any more)."""
        rows = self._documents.rows_of(ids)
        found = np.flatnonzero(rows >= 0)
        rows[found[~self._is_there[rows[found]]]] = -1
        return rows

    def _holds(self, condition: Filter, rows: Ints, new: NewValues) -> Bools:
        return holds(condition, self._schema, self._documents, rows, new)

    def _patch(self, patches: Patches, chosen: Ints, rows: Ints) -> None:
        """Put what patch chosen[i] names into row rows[i]."""
        documents = self._documents
        arrays = dict(documents.arrays)
        for name, values in patches.arrays.items():
            is_named = patches.is_named[name][chosen]
            # another operation of the request may tell the type of elements
            kind = self._schema.attributes[name].type
            brought = fitted(values.take(pa.array(chosen[is_named])), kind)
            arrays[name] = replaced(documents.column(name, self._schema), rows[is_named], brought)
            self._bytes += total_bytes(brought)
        self._bytes += _id_bytes(documents.ids.select(rows))
        self._documents = Stored.of(documents.ids, arrays)
        self._is_patched[rows] = True

    def _outcome(self, upserted: Ints, patched: Ints, deleted: IdColumn | None) -> Encoded:
        upserts = self._draft.upserts
        whole = None
        if upserts is not None and len(upserted):
            whole = upserts.ids, upserts.arrays
            if len(upserted) < len(upserts.ids):
                places = pa.array(upserted)
                whole = (
                    upserts.ids.select(upserted),
                    {name: array.take(places) for name, array in upserts.arrays.items()},
                )
        again = self._written_again([ids for ids in (whole and whole[0], deleted) if ids is not None])
        gone = _without(_joined(self._read.deleted, deleted), whole and whole[0])
        rows = _stacked(whole, again, self._draft.after)
        draft = narrowed(self._draft, {} if rows is None else rows[1])
        changes = _changes(draft.after, rows, gone)
        written = self._bytes + _bytes(whole) + _id_bytes(self._read.deleted) + _id_bytes(deleted)
        effects = self._effects(whole and whole[0], patched, deleted, written)
        return Encoded(draft, changes, payload.encode(changes), effects)

    def _written_again(self, replaced_by: Sequence[IdColumn]) -> _Rows | None:
        """The documents that patches changed, but for those that another operation replaced or deleted."""
        documents, is_again = self._documents, self._is_patched
        if not is_again.any():
            return None
        for ids in replaced_by:
            is_again = is_again & ~is_among(documents.ids, ids)
        rows = np.flatnonzero(is_again)
        places = pa.array(rows)
        ids, arrays = documents.ids.select(rows), {n: a.take(places) for n, a in documents.arrays.items()}
        excess = too_large(ids, arrays)
        if excess is not None:
            self._refuse_patched(ids.to_list()[excess[0]], excess[1])
        return ids, arrays

    def _refuse_patched(self, id_: DocumentId, reason: str) -> NoReturn:
        by_id = [] if self._draft.patches is None else self._draft.patches.ids.to_list()
        if id_ in by_id:
            raise InvalidRequest(f"{self._draft.request.patch_path}[{by_id.index(id_)}]", reason)
        raise InvalidRequest("patch_by_filter", f"document {id_!r} would have {reason}")

    def _effects(
        self, upserts: IdColumn | None, patched: Ints, deletes: IdColumn | None, written: int
    ) -> Effects:
        request, read, patches = self._draft.request, self._read, self._draft.patches
        upserted = [] if upserts is None else [upserts]
        patched_ids = [read.patched, None if patches is None else patches.ids.select(patched)]
        deleted_ids = [read.deleted, deletes]
        # before the first document there is no type of ids, and plain deletes are counted all the same
        untyped = len(request.deletes) if deletes is None and request.delete_condition is None else 0
        has_patches = bool(request.patches) or request.patch_by_filter is not None
        has_deletes = bool(request.deletes) or request.delete_by_filter is not None
        all_deleted = _listed(deleted_ids) + tuple(request.deletes[:untyped]) if request.wants_ids else ()
        return Effects(
            upserted=_count(upserted) if request.upserts else None,
            patched=_count(patched_ids) if has_patches else None,
            deleted=_count(deleted_ids) + untyped if has_deletes else None,
            upserted_ids=_listed(upserted) if request.wants_ids else (),
            patched_ids=_listed(patched_ids) if request.wants_ids else (),
            deleted_ids=all_deleted,
            rows_remaining=read.rows_remaining,
            bytes_written=written,
            has_read=True,
        )


def _changes(schema: Schema, rows: _Rows | None, deletes: IdColumn | None) -> RowChanges:
    """The changes in the form of the log, which knows attributes by the names of their columns."""
    if deletes is not None and not len(deletes):
        deletes = None
    if rows is None or not len(rows[0]):
        return RowChanges(None, {}, deletes)
    ids, arrays = rows
    stored = {schema.stored(n): a for n, a in arrays.items() if n in schema.attributes}
    return RowChanges(ids, stored, deletes)


def _stacked(first: _Rows | None, second: _Rows | None, schema: Schema) -> _Rows | None:
    """The rows of both; an attribute that only one of them has is null in the other."""
    if first is None or second is None:
        return first or second
    arrays = {}
    for name in first[1] | second[1]:
        kind = schema.attributes[name].type
        arrays[name] = pa.concat_arrays(
            [
                fitted(rows[1][name], kind) if name in rows[1] else pa.nulls(len(rows[0]), arrow_type(kind))
                for rows in (first, second)
            ]
        )
    return IdColumn.concat([first[0], second[0]]), arrays


def _joined(first: IdColumn | None, second: IdColumn | None) -> IdColumn | None:
    """The ids of both, each once."""
    if first is None or second is None:
        return second if first is None else first
    return IdColumn.concat([first, second.select(np.flatnonzero(~is_among(second, first)))])


def _without(ids: IdColumn | None, others: IdColumn | None) -> IdColumn | None:
    if ids is None or others is None:
        return ids
    return ids.select(np.flatnonzero(~is_among(ids, others)))


def _values_of(documents: Sequence[Document], chosen: Ints) -> NewValues:
    """What the chosen documents bring; their ids, too."""

    def values(index: int) -> Mapping[str, Any]:
        document = documents[int(chosen[index])]
        return {**document.attributes, ID: document.id}

    return values


def _bytes(rows: _Rows | None) -> int:
    return 0 if rows is None else _id_bytes(rows[0]) + total_bytes(*rows[1].values())


def _id_bytes(ids: IdColumn | None) -> int:
    return 0 if ids is None else total_bytes(ids.to_arrow())


def _count(columns: Iterable[IdColumn | None]) -> int:
    return sum(len(ids) for ids in columns if ids is not None)


def _listed(columns: Iterable[IdColumn | None]) -> tuple[DocumentId, ...]:
    return tuple(id_ for ids in columns if ids is not None for id_ in ids.to_list())
