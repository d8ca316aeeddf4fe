"""Write requests to log batches: checked and encoded before they queue, settled against the log's order when
their entry is cut."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from elacsym.clock import new_nonce
from elacsym.compute import Compute
from elacsym.engine import columns, payload
from elacsym.engine.columns import Columns
from elacsym.engine.payload import RowChanges
from elacsym.engine.request import WriteRequest
from elacsym.engine.schema import extended, merged
from elacsym.errors import ElacsymError, InvalidRequest
from elacsym.format.wal_entry import Batch
from elacsym.index.ids import IdColumn
from elacsym.log.writer import Prepared
from elacsym.query.ast import Filter
from elacsym.types import Schema

# below this many documents, building columns is shorter than a hop to the pool
_INLINE_DOCUMENTS = 32


@dataclass(frozen=True, slots=True)
class WriteItem:
    """A request as it waits for its entry: columns under the schema of its arrival, and their encoded
    payload."""

    request: WriteRequest
    changes: RowChanges
    added: Columns | None
    payload: bytes
    idempotency_key: str | None

    @property
    def size_bytes(self) -> int:
        """Bytes that the request adds to its entry."""
        return len(self.payload)


async def item_of(request: WriteRequest, schema: Schema, key: str | None, compute: Compute) -> WriteItem:
    """The request checked against `schema` and encoded. Raises InvalidRequest."""
    if len(request.upserts) <= _INLINE_DOCUMENTS:
        return _item(request, schema, key)
    return await compute.run(_item, request, schema, key)


def _item(request: WriteRequest, schema: Schema, key: str | None) -> WriteItem:
    assert request.delete_filter is None or not (request.upserts or request.deletes), "a filter stands alone"
    if not (
        request.upserts or request.deletes or request.delete_filter is not None or request.schema is not None
    ):
        raise InvalidRequest(request.path, "nothing to write; give at least one document")
    built = columns.build(request.upserts, schema, path=request.path) if request.upserts else None
    deletes = None
    if request.deletes:
        deletes = columns.id_column(request.deletes, schema, lambda i: f"ids[{i}]")
    changes = RowChanges(built.ids if built else None, built.arrays if built else {}, deletes)
    return WriteItem(request, changes, built, payload.encode(changes), key)


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

    async def prepare(self, items: Sequence[WriteItem], seq: int) -> Prepared:  # noqa: ARG002 - row versions are the slot's
        """The batches of a prefix of `items`; a request that breaks a rule is refused alone."""
        before = schema = self._schema()
        batches: list[Batch] = []
        own: dict[str, RowChanges] = {}
        outcomes: list[int | Exception] = []
        for item in items:
            if outcomes and item.request.delete_filter is not None:
                break
            try:
                batch, changes, schema = await self._batch(item, schema)
            except ElacsymError as error:
                outcomes.append(error)
            else:
                outcomes.append(len(batches))
                batches.append(batch)
                own[batch.id] = changes
        self._expect(own)
        return Prepared(tuple(batches), None if schema is before else schema, tuple(outcomes), len(outcomes))

    async def _batch(self, item: WriteItem, schema: Schema) -> tuple[Batch, RowChanges, Schema]:
        request, changes, encoded = item.request, item.changes, item.payload
        count = len(request.deletes) + changes.rows
        if request.schema is not None:
            schema = extended(schema, request.schema)
        if request.delete_filter is not None:
            ids = await self._matching_ids(request.delete_filter)
            changes = RowChanges(None, {}, ids if len(ids) else None)
            encoded, count = await self._compute.run(payload.encode, changes), len(ids)
        if item.added is not None:
            try:
                schema = merged(schema, item.added.attributes, id_type=item.added.id_type)
            except InvalidRequest:
                # the schema grew since the request came: under the schema of this slot its values may fit, or
                # the refusal names the document
                item = await item_of(request, schema, item.idempotency_key, self._compute)
                assert item.added is not None, "the request has documents"
                schema = merged(schema, item.added.attributes, id_type=item.added.id_type)
                changes, encoded = item.changes, item.payload
        elif changes.deletes is not None and schema.id_type not in (None, changes.deletes.id_type):
            raise InvalidRequest(
                "ids", f"{changes.deletes.id_type} ids where the namespace has {schema.id_type} ids"
            )
        batch = Batch(new_nonce(self._rng), item.idempotency_key, count, changes.rows, encoded)
        return batch, changes, schema
