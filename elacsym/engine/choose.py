"""The stored documents that a write is about: those that its filters choose, and those that it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.engine import columns
from elacsym.engine.draft import Draft
from elacsym.engine.request import ByFilter, WriteRequest
from elacsym.engine.settle import Read
from elacsym.engine.stored import Stored, is_among, stored, stored_bytes
from elacsym.engine.widened import widened
from elacsym.errors import InvalidRequest
from elacsym.format.reading import Steps, both, done, together
from elacsym.index.ids import IdColumn
from elacsym.index.sizes import total_bytes
from elacsym.query.ast import Filter
from elacsym.query.columns import Ints
from elacsym.query.columns import stored as columns_in_parts
from elacsym.query.execute import matching_ids
from elacsym.query.filters import attributes_of
from elacsym.query.searchable import SearchSnapshot
from elacsym.types import DocumentId, Schema


@dataclass(frozen=True, slots=True)
class Named:
    """The documents that requests name by id and look at. patched: whole; tested: as far as conditions
    go."""

    schema: Schema
    patched: Stored
    tested: Stored

    @property
    def size_bytes(self) -> int:
        """What the values of the documents take."""
        return total_bytes(*self.patched.arrays.values(), *self.tested.arrays.values())

    def read(self, request: WriteRequest) -> Read:
        """What one of the requests is about."""
        return Read(self.schema, self.patched if request.patches else self.tested)


def named(snapshot: SearchSnapshot, requests: Sequence[WriteRequest]) -> Steps[Named]:
    """The documents of all these requests, none of which goes by filters; they share rounds."""
    schema = snapshot.schema
    patching = [request for request in requests if request.patches]
    testing = [request for request in requests if not request.patches]
    patched, tested = yield from both(
        stored(snapshot, _ids(patching, schema), tuple(schema.attributes)),
        stored(snapshot, _ids(testing, schema), _tested_names(testing, schema)),
    )
    return Named(schema, patched, tested)


def by_filter(snapshot: SearchSnapshot, draft: Draft) -> Steps[Read]:
    """What a request with filters is about. Raises InvalidRequest where a filter does not fit the schema that
    the request brings about, or matches more documents than it may."""
    request = draft.request
    filters = [request.delete_by_filter, request.patch_by_filter]
    filtered = [name for f in filters if f is not None for name in attributes_of(f.condition)]
    seen = widened(snapshot, draft.after, filtered)
    to_delete, to_patch = yield from together(
        [done(None) if f is None else _matching(seen, f.condition) for f in filters]
    )
    deleted = patched = None
    is_more = False
    if snapshot.schema.id_type is None:  # there is no document, and no type of ids that empty columns have
        to_delete = to_patch = None
    if request.delete_by_filter is not None and to_delete is not None:
        deleted, is_more = _first(to_delete, request.delete_by_filter, "delete_by_filter")
    if request.patch_by_filter is not None and to_patch is not None:
        if deleted is not None:
            to_patch = _without(to_patch, deleted)
        patched, is_more_to_patch = _first(to_patch, request.patch_by_filter, "patch_by_filter")
        sizes = (yield from stored_bytes(snapshot, patched)) + _patch_bytes(draft)
        patched, is_more_that_fits = _fitting(patched, sizes, request.patch_by_filter, "patch_by_filter")
        is_more = is_more or is_more_to_patch or is_more_that_fits
    looked_at = _ids([request], snapshot.schema)
    if patched is not None and len(patched):
        looked_at = IdColumn.concat([patched, _without(looked_at, patched)])
    all_names = tuple(snapshot.schema.attributes)
    needed = (
        all_names if request.patches or patched is not None else _tested_names([request], snapshot.schema)
    )
    documents = yield from stored(snapshot, looked_at, needed)
    is_partial = any(f is not None and f.is_partial for f in filters)
    return Read(snapshot.schema, documents, deleted, patched, is_more if is_partial else None)


def _matching(snapshot: SearchSnapshot, condition: Filter) -> Steps[IdColumn | None]:
    """The ids that match, in order."""
    ids = yield from matching_ids(snapshot, condition)
    array = ids.to_arrow()
    return IdColumn(ids.id_type, array.take(pc.sort_indices(array)))


def _first(ids: IdColumn, wanted: ByFilter, field: str) -> tuple[IdColumn, bool]:
    """As many as may be, and whether there are more."""
    if wanted.rows_max is None or len(ids) <= wanted.rows_max:
        return ids, False
    if not wanted.is_partial:
        raise InvalidRequest(
            field,
            f"the filter matches {len(ids)} documents where one request may change {wanted.rows_max}; "
            f"{field}_allow_partial changes as many",
        )
    return IdColumn(ids.id_type, ids.to_arrow().slice(0, wanted.rows_max)), True


def _fitting(ids: IdColumn, sizes: Ints, wanted: ByFilter, field: str) -> tuple[IdColumn, bool]:
    """As many as may be written again, at least one, and whether there are more. sizes: (n,) bytes."""
    ends = np.cumsum(sizes)
    if not len(ends) or ends[-1] <= wanted.bytes_max:
        return ids, False
    if not wanted.is_partial:
        raise InvalidRequest(
            field,
            f"the filter matches documents of {ends[-1]} bytes where one request may write "
            f"{wanted.bytes_max} again; {field}_allow_partial changes as many",
        )
    count = max(1, int(np.searchsorted(ends, wanted.bytes_max, "right")))
    return IdColumn(ids.id_type, ids.to_arrow().slice(0, count)), count < len(ids)


def _patch_bytes(draft: Draft) -> int:
    """What the patch of a filter brings to each document."""
    return 0 if draft.patch is None else total_bytes(*draft.patch.arrays.values())


def _without(ids: IdColumn, others: IdColumn) -> IdColumn:
    return IdColumn(ids.id_type, ids.to_arrow().filter(pa.array(~is_among(ids, others))))


def _ids(requests: Sequence[WriteRequest], schema: Schema) -> IdColumn:
    """The ids whose documents are looked at."""
    found: list[IdColumn] = []
    if schema.id_type is not None:
        for request in requests:
            for ids in _looked_at(request):
                try:
                    found.append(columns.id_column(ids, schema, lambda i: f"ids[{i}]"))
                except InvalidRequest:
                    # the request is refused for it, with the field's name, when it is drafted
                    continue
    return IdColumn.concat([IdColumn.of(schema.id_type or "uint", []), *found])


def _looked_at(request: WriteRequest) -> list[Sequence[DocumentId]]:
    ids: list[Sequence[DocumentId]] = []
    if request.patches:
        ids.append([document.id for document in request.patches])
    if request.upsert_condition is not None:
        ids.append([document.id for document in request.upserts])
    if request.delete_condition is not None:
        ids.append(request.deletes)
    return [some for some in ids if some]


def _tested_names(requests: Sequence[WriteRequest], schema: Schema) -> tuple[str, ...]:
    """The attributes that conditions look at and documents may have."""
    conditions = [
        condition
        for request in requests
        for condition in (request.upsert_condition, request.patch_condition, request.delete_condition)
        if condition is not None
    ]
    looked_at = frozenset[str]().union(*(columns_in_parts(attributes_of(c)) for c in conditions))
    return tuple(sorted(looked_at & schema.attributes.keys()))
