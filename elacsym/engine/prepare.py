"""Write requests to log batches: large ones are checked and encoded before they queue, small ones together
when their entry is cut.

Consecutive small requests with distinct ids become one Arrow payload: it lies in the first one's batch, and
the batches of the others are empty. Each stays a batch of its own, with its own idempotency key, and is
refused alone; so is one that meets a fault in here.

A request that looks at stored documents sees exactly the log up to the slot before its entry. So one that
goes by filters is always the first of an entry; one that goes by ids may follow others that do and plain
ones, as long as none of them touches the same ids. Requests behind it do not disturb what it read.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from elacsym.clock import new_nonce
from elacsym.compute import Compute, give_way
from elacsym.engine.choose import Named, by_filter, named
from elacsym.engine.draft import Draft, declared, drafted, redrafted
from elacsym.engine.payload import RowChanges
from elacsym.engine.request import WriteRequest
from elacsym.engine.settle import Encoded, encoded, settled
from elacsym.errors import ElacsymError, InvalidRequest
from elacsym.format.reading import Steps, resident
from elacsym.format.wal_entry import Batch
from elacsym.index.sizes import row_bytes
from elacsym.index.values import parse_uuid
from elacsym.log.writer import Prepared
from elacsym.query.searchable import SearchSnapshot
from elacsym.telemetry import get_logger
from elacsym.types import DocumentId, Effects, Schema

T = TypeVar("T")

_log = get_logger(__name__)

# up to this many documents a request is small: building its columns costs mostly what any number of documents
# costs
SMALL_DOCUMENTS = 32
# up to this many documents, building columns is shorter than a hop to the pool
_INLINE_DOCUMENTS = 64
_INLINE_BYTES = 256 * 1024
# each has a payload of its own, which the event loop takes into the memtable
_LOOKING_MAX = 64
# beyond this many ids, looking whether a request shares any takes longer than an entry of its own
_SHARED_IDS_MAX = 16_384


class ReadStored(Protocol):
    """Runs steps over the state of the log before the entry."""

    async def __call__(self, make: Callable[[SearchSnapshot], Steps[T]]) -> T:
        """What the steps give. Raises what they raise, and StoreUnavailable, CorruptObject."""
        ...


@dataclass(frozen=True, slots=True)
class WriteItem:
    """A request as it waits for its entry. draft: its columns, None for a small one; encoded: where nothing
    stored takes part, the changes, too."""

    request: WriteRequest
    draft: Draft | None
    encoded: Encoded | None
    size_bytes: int
    idempotency_key: str | None


async def item_of(request: WriteRequest, schema: Schema, key: str | None, compute: Compute) -> WriteItem:
    """The request, checked against `schema` and encoded unless it is small. Raises InvalidRequest."""
    is_small = len(request.upserts) + len(request.patches) + len(request.deletes) <= SMALL_DOCUMENTS
    # ids to be deleted have the type that the writes before them give, which wait in the queue perhaps
    if is_small or (request.deletes and schema.id_type is None):
        return WriteItem(request, None, None, _estimated_bytes(request), key)

    def item() -> WriteItem:
        draft = drafted(request, schema)
        if request.is_reading:
            return WriteItem(request, draft, None, _estimated_bytes(request), key)
        changes = encoded(draft)
        return WriteItem(request, draft, changes, len(changes.payload), key)

    # one hop for both: each may wait for queries
    return await compute.bulk.run(item)


async def check_first(request: WriteRequest, compute: Compute) -> None:
    """Raise InvalidRequest if the request would be refused as the first of a new namespace."""

    def check() -> None:
        draft = drafted(request, Schema())
        snapshot = SearchSnapshot(Schema(), (), "", 0, 0)
        if request.is_by_filter:
            settled(draft, resident(by_filter(snapshot, draft)))
        elif request.is_reading:
            settled(draft, resident(named(snapshot, [request])).read(request))

    await compute.bulk.run(check)


def _estimated_bytes(request: WriteRequest) -> int:
    """About what a small request adds to its entry: for the bounds of queue and entry."""
    documents = (*request.upserts, *request.patches)
    values = (v for document in documents for v in document.attributes.values())
    return 256 + 16 * len(request.deletes) + sum(16 + _estimated_value_bytes(v) for v in values)


def _estimated_value_bytes(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return 16 * len(value)
    if isinstance(value, list) and value and isinstance(value[0], list | str):
        return sum(32 + _estimated_value_bytes(element) for element in value)
    return 4 * len(value) if hasattr(value, "__len__") else 8


class Preparer:
    """Turns a prefix of the queue into the batches of one entry, in order; implements the log's preparer."""

    def __init__(
        self,
        schema: Callable[[], Schema],
        read: ReadStored,
        expect: Callable[[dict[str, RowChanges]], None],
        rng: random.Random,
        compute: Compute,
    ) -> None:
        self._schema, self._read, self._expect = schema, read, expect
        self._rng, self._compute = rng, compute

    async def prepare(self, items: Sequence[WriteItem], seq: int) -> Prepared:  # noqa: ARG002 - rows get it later
        """The batches of a prefix of `items`; a request that breaks a rule is refused alone."""
        before = schema = self._schema()
        entry = _Entry(self._rng)
        group = _sharing(items, schema)
        known = await self._named([item.request for item in group])
        while len(entry.outcomes) < len(group):
            begin = len(entry.outcomes)
            run = _looking(group, begin)
            if run:
                schema = await self._settle_looking(run, schema, entry, known)
            else:
                schema = await self._settle(_run_of(group, begin, schema), schema, entry)
        self._expect(entry.own)
        return Prepared(
            tuple(entry.batches),
            None if schema is before else schema,
            tuple(entry.outcomes),
            len(entry.outcomes),
            tuple(entry.effects),
        )

    async def _named(self, requests: Sequence[WriteRequest]) -> Named | ElacsymError | None:
        """The documents that requests look at by id; why they cannot be read fails those requests only."""
        looking = [request for request in requests if request.is_reading and not request.is_by_filter]
        if not looking:
            return None
        try:
            return await self._read(lambda snapshot: named(snapshot, looking))
        except Exception as error:  # noqa: BLE001 - writes of others must not fail with these
            return _refusal(error)

    async def _settle_looking(
        self,
        run: Sequence[WriteItem],
        schema: Schema,
        entry: _Entry,
        known: Named | ElacsymError | None,
    ) -> Schema:
        """Add requests that look at documents by id; the schema after them."""
        if isinstance(known, ElacsymError):
            entry.outcomes += [known] * len(run)
            return schema
        assert known is not None, "their documents were read"
        # each of several takes most of a millisecond by itself
        if len(run) == 1 and _is_short(run) and known.size_bytes <= _INLINE_BYTES:
            outcomes = _looked_at(run, schema, known)
        else:
            outcomes = await self._compute.bulk.run(_looked_at, run, schema, known)
        for item, outcome in zip(run, outcomes, strict=True):
            if isinstance(outcome, ElacsymError):
                entry.outcomes.append(outcome)
            else:
                entry.add([item], outcome)
                schema = outcome.draft.after
        return schema

    async def _settle(self, run: Sequence[WriteItem], schema: Schema, entry: _Entry) -> Schema:
        """Add a run to the entry; the schema after it. One that breaks a rule is taken apart to find who
        does."""
        try:
            changes = await self._together(run, schema)
        except Exception as error:  # noqa: BLE001 - writes of others must not fail with this one
            if len(run) == 1:
                entry.outcomes.append(_refusal(error))
                return schema
            for item in run:
                schema = await self._settle([item], schema, entry)
            return schema
        entry.add(run, changes)
        return changes.draft.after

    async def _together(self, run: Sequence[WriteItem], schema: Schema) -> Encoded:
        first = run[0]
        request = first.request
        if request.is_by_filter:
            if _is_short(run):
                draft = _drafted(request, schema, first.draft)
            else:
                draft = await self._compute.bulk.run(_drafted, request, schema, first.draft)
            read = await self._read(lambda snapshot: by_filter(snapshot, draft))
            return await self._compute.bulk.run(settled, draft, read)
        if first.encoded is not None and first.encoded.draft.before is schema:
            return first.encoded
        if len(run) > 1:
            request = replace(request, upserts=[d for item in run for d in item.request.upserts])
        if _is_short(run):
            return _encoded(request, schema, first)
        return await self._compute.bulk.run(_encoded, request, schema, first)


def _is_short(run: Sequence[WriteItem]) -> bool:
    """Whether making the changes of these requests is shorter than a hop to the pool, as far as they say it
    themselves."""
    requests = [item.request for item in run]
    documents = sum(len(r.upserts) + len(r.patches) + len(r.deletes) for r in requests)
    return documents <= _INLINE_DOCUMENTS and sum(item.size_bytes for item in run) <= _INLINE_BYTES


def _looked_at(run: Sequence[WriteItem], schema: Schema, known: Named) -> list[Encoded | ElacsymError]:
    """The outcomes of requests that look at documents by id, each under the schema that the ones before
    leave."""
    outcomes: list[Encoded | ElacsymError] = []
    for item in run:
        give_way()
        try:
            outcome = settled(_drafted(item.request, schema, item.draft), known.read(item.request))
        except Exception as error:  # noqa: BLE001 - writes of others must not fail with this one
            outcomes.append(_refusal(error))
        else:
            outcomes.append(outcome)
            schema = outcome.draft.after
    return outcomes


def _refusal(error: Exception) -> ElacsymError:
    """Why a request is refused; what is no answer of ours is a fault of the program and logged."""
    if isinstance(error, ElacsymError):
        return error
    _log.error("a write could not be prepared", exc_info=error)
    return ElacsymError("internal error; nothing was written")


def _drafted(request: WriteRequest, schema: Schema, draft: Draft | None) -> Draft:
    return drafted(request, schema) if draft is None else redrafted(draft, schema)


def _encoded(request: WriteRequest, schema: Schema, item: WriteItem) -> Encoded:
    if item.encoded is None:
        return encoded(drafted(request, schema))
    draft = redrafted(item.encoded.draft, schema)
    if draft.upserts is item.encoded.draft.upserts and _keeps_names(draft, item.encoded.draft):
        return replace(item.encoded, draft=draft)
    return encoded(draft)


def _keeps_names(draft: Draft, before: Draft) -> bool:
    """Whether the columns of the upserts are called the same under both."""
    arrays = {} if draft.upserts is None else draft.upserts.arrays
    return all(draft.after.stored(name) == before.after.stored(name) for name in arrays)


class _Entry:
    """The batches of an entry as they come together, and what becomes of each request."""

    def __init__(self, rng: random.Random) -> None:
        self.batches: list[Batch] = []
        self.effects: list[Effects] = []
        self.outcomes: list[int | Exception] = []
        self.own: dict[str, RowChanges] = {}
        self._rng = rng

    def add(self, run: Sequence[WriteItem], encoded: Encoded) -> None:
        """One batch for each request of the run; the first carries the payload of all."""
        changes = encoded.changes
        if len(run) == 1:
            self._add(run[0], encoded.effects, changes.rows, encoded.payload)
        else:
            for position, (item, effects) in enumerate(zip(run, _shares(run, changes), strict=True)):
                data = b"" if position else encoded.payload
                self._add(item, effects, len(item.request.upserts), data)
        self.own[self.batches[-len(run)].id] = changes

    def _add(self, item: WriteItem, effects: Effects, rows: int, data: bytes) -> None:
        batch = Batch(new_nonce(self._rng), item.idempotency_key, effects.affected, rows, data)
        self.outcomes.append(len(self.batches))
        self.batches.append(batch)
        self.effects.append(effects)


def _shares(run: Sequence[WriteItem], changes: RowChanges) -> Iterator[Effects]:
    """The effects of each of the requests whose upserts a run put together."""
    ids = changes.upserts
    assert ids is not None, "a run is one of upserts"
    sizes = row_bytes(ids, changes.arrays)
    ends = np.cumsum([len(item.request.upserts) for item in run])
    totals = np.concatenate([[0], np.cumsum(sizes)])[[0, *ends]]
    for item, end, written in zip(run, ends.tolist(), np.diff(totals).tolist(), strict=True):
        count = len(item.request.upserts)
        shown = ids.take(np.arange(end - count, end)) if item.request.wants_ids else ()
        yield Effects(upserted=count or None, upserted_ids=tuple(shown), bytes_written=written)


def _looking(items: Sequence[WriteItem], begin: int) -> Sequence[WriteItem]:
    """The items from `begin` on that look at documents by id."""
    end = begin
    while end < len(items) and items[end].request.is_reading and not items[end].request.is_by_filter:
        end += 1
    return items[begin:end]


def _sharing(items: Sequence[WriteItem], schema: Schema) -> Sequence[WriteItem]:
    """The first items, as many as can be in one entry: none looks at what one before it may change."""
    touched: set[DocumentId] = set()
    noted = looking = 0
    for position, item in enumerate(items):
        request = item.request
        looking += request.is_reading
        if not position or not request.is_reading:
            continue
        # before the first document there is nothing to look at, and no type that ids are compared as
        is_alone = request.is_by_filter or items[0].request.is_by_filter or schema.id_type is None
        if is_alone or looking > _LOOKING_MAX:
            return items[:position]
        for earlier in items[noted:position]:
            touched.update(_touched(earlier.request, schema))
        noted = position
        if len(touched) > _SHARED_IDS_MAX or not touched.isdisjoint(_touched(request, schema)):
            return items[:position]
    return items


def _touched(request: WriteRequest, schema: Schema) -> Iterator[DocumentId]:
    """The ids that a request names, as they are compared."""
    for ids in ((d.id for d in request.upserts), (d.id for d in request.patches), request.deletes):
        for id_ in ids:
            if type(id_) in (int, str):  # else the request is refused
                yield _canonical(id_) if schema.id_type == "uuid" else id_


def _canonical(id_: DocumentId) -> DocumentId:
    try:
        return parse_uuid(str(id_))
    except ValueError:
        return id_


def _run_of(items: Sequence[WriteItem], begin: int, schema: Schema) -> list[WriteItem]:
    """The item at `begin`, and those behind it that stand together with it: small requests of nothing but
    upserts of the same rules, with distinct ids."""
    run = [items[begin]]
    if not _is_plain(items[begin], schema):
        return run
    first = items[begin].request
    seen = {document.id for document in first.upserts}
    for item in items[begin + 1 :]:
        request = item.request
        ids = [document.id for document in request.upserts]
        is_alike = request.inference == first.inference and (
            request.requires_all_vectors == first.requires_all_vectors
        )
        if not (is_alike and _is_plain(item, schema) and seen.isdisjoint(ids)):
            break
        run.append(item)
        seen.update(ids)
    return run


def _is_plain(item: WriteItem, schema: Schema) -> bool:
    request = item.request
    if item.encoded is not None or request.is_reading or request.deletes:
        return False
    if not all(type(document.id) in (int, str) for document in request.upserts):
        return False
    try:
        return not request.has_schema or declared(request, schema) is schema
    except InvalidRequest:
        return False
