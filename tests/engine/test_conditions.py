"""Conditions of writes: what they are tested against, what they are bound to, and writers that race."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.database import FAST, open_database, upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import InvalidRequest, OutcomeUnknown, Unavailable
from elacsym.query.ast import Compare, Op, Or, RefNew
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.types import Schema

ABSENT = Compare("id", Op.EQ, None)
NEWER = Or((Compare("rev", Op.EQ, None), Compare("rev", Op.LT, RefNew("rev"))))


async def _values(database, *ids, name="rev"):
    hits = await database.documents("docs", ids)
    return [None if hit is None else hit.attributes.get(name) for hit in hits]


async def _with(database, *documents, is_folded=False):
    await database.write("docs", WriteRequest(upserts=documents))
    if is_folded:
        await fold(await database.namespace("docs"))


@pytest.mark.parametrize("is_folded", [False, True])
async def test_a_document_is_replaced_by_a_newer_one_only(database, is_folded):
    await _with(
        database, Document(1, {"rev": 5}), Document(2, {"rev": 9}), Document(3, {}), is_folded=is_folded
    )
    documents = [Document(i, {"rev": 7, "is_new": True}) for i in range(1, 5)]
    result = await database.write(
        "docs", WriteRequest(upserts=documents, upsert_condition=NEWER, wants_ids=True)
    )
    assert result.effects.upserted_ids == (1, 3, 4) and result.effects.has_read
    assert await _values(database, 1, 2, 3, 4) == [7, 9, 7, 7]


async def test_id_is_null_inserts_only_what_is_absent(database):
    await _with(database, Document(1, {"rev": 1}))
    again = WriteRequest(upserts=[Document(1, {"rev": 2}), Document(2, {"rev": 2})], upsert_condition=ABSENT)
    assert (await database.write("docs", again)).effects.upserted == 1
    assert await _values(database, 1, 2) == [1, 2]
    assert (await database.write("docs", again)).effects.upserted == 0


async def test_absent_documents_are_neither_patched_nor_deleted_under_a_condition(database):
    await _with(database, Document(1, {"rev": 1}))
    always = Compare("id", Op.NE, None)
    result = await database.write(
        "docs",
        WriteRequest(
            patches=[Document(7, {"rev": 2})],
            deletes=[1, 8],
            patch_condition=always,
            delete_condition=always,
            wants_ids=True,
        ),
    )
    assert result.effects.deleted_ids == (1,)
    assert (result.effects.patched, result.effects.deleted) == (0, 1)
    plain = await database.write("docs", WriteRequest(deletes=[1, 8], wants_ids=True))
    assert plain.effects.deleted_ids == (1, 8)


async def test_deletes_bring_nothing_new(database):
    await _with(database, Document(1, {"rev": 1}), Document(2, {}))
    condition = Compare("rev", Op.EQ, RefNew("rev"))
    result = await database.write(
        "docs", WriteRequest(deletes=[1, 2], delete_condition=condition, wants_ids=True)
    )
    assert result.effects.deleted_ids == (2,)


async def test_a_reference_to_the_id_is_the_documents_own(database):
    await _with(database, Document(1, {"twin": 1}), Document(2, {"twin": 1}))
    condition = Compare("twin", Op.EQ, RefNew("id"))
    patches = [Document(i, {"rev": 1}) for i in (1, 2)]
    result = await database.write(
        "docs", WriteRequest(patches=patches, patch_condition=condition, wants_ids=True)
    )
    assert result.effects.patched_ids == (1,)


async def test_many_documents_are_bound_to_their_own_values(database):
    """More than are looked at together, every second of them newer."""
    count = 300
    await _with(database, *(Document(i, {"rev": i}) for i in range(count)), is_folded=True)
    documents = [Document(i, {"rev": i + (i % 2)}) for i in range(count)]
    result = await database.write("docs", WriteRequest(upserts=documents, upsert_condition=NEWER))
    assert result.effects.upserted == count // 2
    assert await _values(database, 10, 11) == [10, 12]


@pytest.mark.parametrize("field", ["upsert_condition", "patch_condition", "delete_condition"])
async def test_a_condition_needs_the_operation_that_it_is_for(database, field):
    await _with(database, Document(1, {"rev": 1}))
    requests = [WriteRequest(**{field: ABSENT})]
    if field != "upsert_condition":
        requests.append(WriteRequest(upserts=[Document(2, {})], **{field: ABSENT}))
    for request in requests:
        with pytest.raises(InvalidRequest, match=field):
            await database.write("docs", request)
    assert await _values(database, 2) == [None]


async def test_a_condition_that_does_not_fit_refuses_the_request_alone(database):
    await _with(database, Document(1, {"rev": 1}))
    wrong = WriteRequest(
        upserts=[Document(2, {"other": 1})], upsert_condition=Compare("nothing", Op.EQ, 1, "upsert_condition")
    )
    refused, accepted = await asyncio.gather(
        database.write("docs", wrong),
        database.write("docs", WriteRequest(upserts=[Document(3, {"rev": 3})])),
        return_exceptions=True,
    )
    assert isinstance(refused, InvalidRequest) and "nothing" in str(refused)
    assert accepted.effects.upserted == 1
    info = await database.info("docs")
    assert "other" not in info.schema.attributes
    assert await _values(database, 2, 3) == [None, 3]


async def test_attributes_that_the_request_adds_are_null_in_stored_documents(database):
    await _with(database, Document(1, {}))
    result = await database.write(
        "docs", WriteRequest(upserts=[Document(1, {"rev": 4})], upsert_condition=NEWER)
    )
    assert result.effects.upserted == 1
    assert await _values(database, 1) == [4]


async def _increment(database, rng, attempts):
    """Raise the counter by compare-and-set; how often that surely, and how often it perhaps happened."""
    sure = unsure = 0
    for _ in range(attempts):
        (value,) = await _values(database, 0)
        condition = Compare("rev", Op.EQ, value)
        patch = [Document(0, {"rev": value + 1})]
        try:
            result = await database.write("docs", WriteRequest(patches=patch, patch_condition=condition))
            sure += result.effects.patched
        except OutcomeUnknown:
            unsure += 1
        except Unavailable:
            continue
        await asyncio.sleep(rng.random() / 1_000)
    return sure, unsure


async def test_racing_compare_and_set_loses_no_update(tmp_path):
    """Several clients of two nodes that write one namespace."""
    store = MemoryStore()
    nodes = [await open_database(store, cache_path=tmp_path / str(i), seed=i) for i in range(2)]
    await nodes[0].create("docs", Schema())
    await _with(nodes[0], Document(0, {"rev": 0}))
    rng = random.Random(1)
    counts = await asyncio.gather(*(_increment(nodes[i % 2], rng, 12) for i in range(8)))
    succeeded = sum(sure for sure, _ in counts)
    assert not any(unsure for _, unsure in counts)
    assert await _values(nodes[0], 0) == [succeeded] and succeeded > 0
    assert await _values(nodes[1], 0) == [succeeded]
    for node in nodes:
        await node.close()


@pytest.mark.parametrize("seed", range(4))
async def test_compare_and_set_over_a_bad_network_counts_what_it_said(tmp_path, seed):
    inner = MemoryStore()
    first = await open_database(inner, cache_path=tmp_path / "first", seed=seed)
    await first.create("docs", Schema())
    await _with(first, Document(0, {"rev": 0}))
    await first.close()
    rng = random.Random(seed)
    stores = [FaultyStore(inner, random.Random(seed * 10 + i), FaultRates.rough()) for i in range(2)]
    nodes = [
        await open_database(store, cache_path=tmp_path / str(i), seed=seed + i, settings=FAST)
        for i, store in enumerate(stores)
    ]
    counts = await asyncio.gather(
        *(_increment(nodes[i % 2], rng, 10) for i in range(4)), return_exceptions=True
    )
    done = [count for count in counts if not isinstance(count, BaseException)]
    assert done, counts
    for store in stores:
        store.rates = FaultRates()
    for node in nodes:
        await node.close()
    checking = await open_database(inner, cache_path=tmp_path / "last", seed=99)
    (value,) = await _values(checking, 0)
    await checking.close()
    # what was said to be done is there, and nothing was done twice
    sure, unsure = sum(s for s, _ in done), sum(u for _, u in done)
    lost_clients = len(counts) - len(done)
    assert sure <= value <= sure + unsure + 10 * lost_clients


@pytest.mark.parametrize(
    ("op", "patched"), [(Op.LT, (1,)), (Op.LTE, (1, 2)), (Op.GT, (3,)), (Op.GTE, (2, 3))]
)
async def test_ranges_look_at_what_is_stored(database, op, patched):
    await database.create("docs", Schema())
    await database.write("docs", upsert(*(Document(i, {"n": i}) for i in (1, 2, 3))))
    request = WriteRequest(
        patches=[Document(i, {"n": 2}) for i in (1, 2, 3)],
        patch_condition=Compare("n", op, RefNew("n")),
        wants_ids=True,
    )
    assert (await database.write("docs", request)).effects.patched_ids == patched
