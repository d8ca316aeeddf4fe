"""Write requests to log batches: large ones are checked and encoded before they queue, small ones together
when their entry is cut.

Consecutive small requests with distinct ids become one Arrow payload: it lies in the first one's batch, and
the batches of the others are empty. Each stays a batch of its own, with its own idempotency key, and is
refused alone.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elacsym.clock import new_nonce
from elacsym.compute import Compute
from elacsym.engine import columns, payload
from elacsym.engine.payload import RowChanges
from elacsym.engine.request import WriteRequest
from elacsym.engine.schema import extended, merged
from elacsym.errors import ElacsymError, InvalidRequest
from elacsym.format.wal_entry import Batch
from elacsym.index.ids import IdColumn
from elacsym.log.writer import Prepared
from elacsym.query.ast import Filter
from elacsym.types import Attribute, DocumentId, IdType, Schema

# up to this many documents a request is small: building its columns costs mostly what any number of documents
# costs
SMALL_DOCUMENTS = 32
# up to this many documents, building columns is shorter than a hop to the pool
_INLINE_DOCUMENTS = 64
_INLINE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Encoded:
    """Changes with their payload, and what they add to the schema."""

    changes: RowChanges
    payload: bytes
    added: dict[str, Attribute]
    id_type: IdType | None


@dataclass(frozen=True, slots=True)
class WriteItem:
    """A request as it waits for its entry; `encoded` is None for a small one."""

    request: WriteRequest
    encoded: Encoded | None
    size_bytes: int
    idempotency_key: str | None


async def item_of(request: WriteRequest, schema: Schema, key: str | None, compute: Compute) -> WriteItem:
    """The request, checked against `schema` and encoded unless it is small. Raises InvalidRequest."""
    assert request.delete_filter is None or not (request.upserts or request.deletes), "a filter stands alone"
    if not (
        request.upserts or request.deletes or request.delete_filter is not None or request.schema is not None
    ):
        raise InvalidRequest(request.path, "nothing to write; give at least one document")
    is_small = len(request.upserts) <= SMALL_DOCUMENTS and not request.deletes
    # ids to be deleted have the type that the writes before them give, which wait in the queue perhaps
    if is_small or (request.deletes and schema.id_type is None):
        return WriteItem(request, None, _estimated_bytes(request), key)
    encoded = await compute.bulk.run(_encoded, request, schema)
    return WriteItem(request, encoded, len(encoded.payload), key)


def _encoded(request: WriteRequest, schema: Schema) -> Encoded:
    built = columns.build(request.upserts, schema, path=request.path) if request.upserts else None
    id_type = built.id_type if built else schema.id_type
    deletes = None
    if request.deletes:
        deletes = columns.id_column(request.deletes, replace(schema, id_type=id_type), lambda i: f"ids[{i}]")
    if id_type is None:
        # a namespace without documents has nothing to delete, and ids of no type yet
        deletes = None
    changes = RowChanges(built.ids if built else None, built.arrays if built else {}, deletes)
    return Encoded(changes, payload.encode(changes), built.attributes if built else {}, id_type)


def _estimated_bytes(request: WriteRequest) -> int:
    """About what a small request adds to its entry: for the bounds of queue and entry."""
    values = (v for document in request.upserts for v in document.attributes.values())
    return 256 + 16 * len(request.deletes) + sum(16 + _estimated_value_bytes(v) for v in values)


def _estimated_value_bytes(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return 4 * len(value) if hasattr(value, "__len__") else 8


class Preparer:
    """Turns a prefix of the queue into the batches of one entry, in order; implements the log's preparer.

    A request that reads state (delete by filter) sees exactly the log up to the slot before its entry: it is
    always the first of an entry, and requests behind it do not disturb what it read.
    """

    def __init__(
        self,
        schema: Callable[[], Schema],
        matching_ids: Callable[[Filter], Awaitable[IdColumn]],
        expect: Callable[[dict[str, RowChanges]], None],
        rng: random.Random,
        compute: Compute,
    ) -> None:
        self._schema, self._matching_ids, self._expect = schema, matching_ids, expect
        self._rng, self._compute = rng, compute

    async def prepare(self, items: Sequence[WriteItem], seq: int) -> Prepared:  # noqa: ARG002 - rows get it later
        """The batches of a prefix of `items`; a request that breaks a rule is refused alone."""
        before = schema = self._schema()
        entry = _Entry(self._rng)
        for run in _runs(items):
            if entry.outcomes and run[0].request.delete_filter is not None:
                break
            schema = await self._settle(run, schema, entry)
        self._expect(entry.own)
        changed = None if schema is before else schema
        return Prepared(tuple(entry.batches), changed, tuple(entry.outcomes), len(entry.outcomes))

    async def _settle(self, run: Sequence[WriteItem], schema: Schema, entry: _Entry) -> Schema:
        """Add a run to the entry; the schema after it. One that breaks a rule is taken apart to find who
        does."""
        try:
            encoded, after = await self._together(run, schema)
        except ElacsymError as error:
            if len(run) == 1:
                entry.outcomes.append(error)
                return schema
            for item in run:
                schema = await self._settle([item], schema, entry)
            return schema
        entry.add(run, encoded)
        return after

    async def _together(self, run: Sequence[WriteItem], schema: Schema) -> tuple[Encoded, Schema]:
        request, encoded = run[0].request, run[0].encoded
        if request.schema is not None:
            schema = extended(schema, request.schema)
        if request.delete_filter is not None:
            ids = await self._matching_ids(request.delete_filter)
            changes = RowChanges(None, {}, ids if len(ids) else None)
            return Encoded(changes, await self._compute.bulk.run(payload.encode, changes), {}, None), schema
        if encoded is None or (request.deletes and schema.id_type is None):
            encoded = await self._encoded_now(run, schema)
        try:
            return encoded, merged(schema, encoded.added, id_type=encoded.id_type)
        except InvalidRequest:
            # the schema grew since the request came: under the schema of this slot its values may fit, or the
            # refusal names the document
            encoded = await self._encoded_now(run, schema)
            return encoded, merged(schema, encoded.added, id_type=encoded.id_type)

    async def _encoded_now(self, run: Sequence[WriteItem], schema: Schema) -> Encoded:
        request = run[0].request
        if len(run) > 1:
            request = replace(request, upserts=[d for item in run for d in item.request.upserts])
        rows, size_bytes = len(request.upserts) + len(request.deletes), sum(item.size_bytes for item in run)
        if rows <= _INLINE_DOCUMENTS and size_bytes <= _INLINE_BYTES:
            return _encoded(request, schema)
        return await self._compute.bulk.run(_encoded, request, schema)


class _Entry:
    """The batches of an entry as they come together, and what becomes of each request."""

    def __init__(self, rng: random.Random) -> None:
        self.batches: list[Batch] = []
        self.outcomes: list[int | Exception] = []
        self.own: dict[str, RowChanges] = {}
        self._rng = rng

    def add(self, run: Sequence[WriteItem], encoded: Encoded) -> None:
        """One batch for each request of the run; the first carries the payload of all."""
        for position, item in enumerate(run):
            rows = len(item.request.upserts)
            deleted = item.request.deletes or encoded.changes.deletes or ()
            count = rows + len(deleted)
            data = b"" if position else encoded.payload
            batch = Batch(new_nonce(self._rng), item.idempotency_key, count, rows, data)
            self.outcomes.append(len(self.batches))
            self.batches.append(batch)
            if not position:
                self.own[batch.id] = encoded.changes


def _runs(items: Sequence[WriteItem]) -> Iterator[list[WriteItem]]:
    """The items in order, in runs: small requests of documents only, with distinct ids, stand together."""
    run: list[WriteItem] = []
    seen: set[DocumentId] = set()
    for item in items:
        ids = [document.id for document in item.request.upserts]
        request = item.request
        is_plain = item.encoded is None and request.schema is None and request.delete_filter is None
        is_plain = is_plain and not request.deletes and all(type(id_) in (int, str) for id_ in ids)
        if run and not (is_plain and seen.isdisjoint(ids)):
            yield run
            run, seen = [], set()
        if is_plain:
            run.append(item)
            seen.update(ids)
        else:
            yield [item]
    if run:
        yield run
