"""Deletes and patches by filter: order, limits, and filters on what the request brings itself."""

from __future__ import annotations

import asyncio

import pytest
from support.database import upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import ByFilter, Document, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Compare, Not, Op, OrderKey, Query
from elacsym.types import Attribute, AttributeType, Metric, Schema


def n(op, value):
    return Compare("n", op, value)


async def _stored(database):
    hits = (await database.query("docs", Query(order_by=(OrderKey("id"),), top_k=1000))).hits
    return {hit.id: hit.attributes.get("n") for hit in hits}


@pytest.fixture
async def tens(database):
    """Documents 0 to 9 with n = id, half of them folded."""
    await database.create("docs", Schema())
    await database.write("docs", upsert(*(Document(i, {"n": i}) for i in (9, 3, 1, 7, 5))))
    await fold(await database.namespace("docs"))
    await database.write("docs", upsert(*(Document(i, {"n": i}) for i in (8, 2, 0, 6, 4))))
    return database


async def test_the_operations_follow_each_other(tens):
    """Deleted documents are not patched, by filter or by id, but may be upserted again."""
    request = WriteRequest(
        delete_by_filter=ByFilter(n(Op.LT, 4)),
        patch_by_filter=ByFilter(n(Op.LT, 7)),
        patch={"n": 100},
        upserts=[Document(0, {"n": -1})],
        patches=[Document(1, {"n": -2}), Document(5, {"m": 1}), Document(9, {"n": 90})],
        deletes=[6, 77],
        wants_ids=True,
    )
    effects = (await tens.write("docs", request)).effects
    assert effects.upserted_ids == (0,)
    assert effects.patched_ids == (4, 5, 6, 5, 9) and effects.patched == 5
    assert effects.deleted_ids == (0, 1, 2, 3, 6, 77) and effects.deleted == 6
    assert effects.rows_remaining is None
    assert await _stored(tens) == {0: -1, 4: 100, 5: 100, 7: 7, 8: 8, 9: 90}


async def test_conditions_are_tested_against_what_the_filters_left(tens):
    request = WriteRequest(
        delete_by_filter=ByFilter(n(Op.EQ, 1)),
        patch_by_filter=ByFilter(n(Op.EQ, 2)),
        patch={"n": 20},
        upserts=[Document(1, {"n": 10}), Document(2, {"n": 21}), Document(3, {"n": 31})],
        upsert_condition=n(Op.EQ, 20),
        wants_ids=True,
    )
    effects = (await tens.write("docs", request)).effects
    assert effects.upserted_ids == (1, 2)
    stored = await _stored(tens)
    assert (stored[1], stored[2], stored[3]) == (10, 21, 3)


@pytest.mark.parametrize("kind", ["delete_by_filter", "patch_by_filter"])
async def test_over_the_limit_nothing_changes_and_a_part_is_done_where_it_may(tens, kind):
    before = await _stored(tens)
    with pytest.raises(InvalidRequest, match=r"matches 6 documents where one request may change 4"):
        await tens.write("docs", WriteRequest(**{kind: ByFilter(n(Op.GT, 3), 4)}, patch={"n": -1}))
    assert await _stored(tens) == before
    partial = WriteRequest(
        **{kind: ByFilter(n(Op.GT, 3), 4, is_partial=True)}, patch={"n": -1}, wants_ids=True
    )
    first = (await tens.write("docs", partial)).effects
    assert (first.deleted_ids or first.patched_ids) == (4, 5, 6, 7) and first.rows_remaining is True
    second = (await tens.write("docs", partial)).effects
    assert (second.deleted_ids or second.patched_ids) == (8, 9) and second.rows_remaining is False
    third = (await tens.write("docs", partial)).effects
    assert third.affected == 0 and third.rows_remaining is False


@pytest.mark.parametrize("is_folded", [False, True])
async def test_patches_stop_at_the_bytes_that_they_write_again(database, is_folded):
    """Measured before documents are read: of each its vector, its texts, and what the patch brings."""
    kinds = {"v": Attribute(AttributeType.parse("[8]f32"), filterable=False)}
    await database.create("docs", Schema("uint", Metric.L2, kinds))
    # 32 + 8 + 10 + 4 bytes, and as much text as the number says
    sizes = [100, 1_000, 0, 50, 3_000]
    base = {"v": [0.5] * 8, "n": 0, "tags": ["a", "bcd"]}
    documents = [Document(i, base | {"text": "x" * size}) for i, size in enumerate(sizes)]
    await database.write("docs", upsert(*documents))
    if is_folded:
        await fold(await database.namespace("docs"))
    patch = {"note": "y" * 200}
    row = 32 + 8 + 4 + 200

    def limited(bytes_max, *, is_partial):
        by_filter = ByFilter(n(Op.EQ, 0), is_partial=is_partial, bytes_max=bytes_max)
        return WriteRequest(patch_by_filter=by_filter, patch=patch, wants_ids=True)

    total = sum(sizes) + row * len(sizes)
    with pytest.raises(InvalidRequest, match=f"documents of {total} bytes .* may write {total - 1} again"):
        await database.write("docs", limited(total - 1, is_partial=False))
    for bytes_max, chosen in ((1, 1), (1_100 + 2 * row - 1, 1), (1_100 + 2 * row, 2), (total - 1, 4)):
        effects = (await database.write("docs", limited(bytes_max, is_partial=True))).effects
        assert effects.patched_ids == tuple(range(chosen)) and effects.rows_remaining is True
        await database.write("docs", upsert(*documents))
        if is_folded:
            await fold(await database.namespace("docs"))
    effects = (await database.write("docs", limited(total, is_partial=True))).effects
    assert effects.patched == 5 and effects.rows_remaining is False


async def test_no_match_is_counted_as_none(tens):
    effects = (await tens.write("docs", WriteRequest(delete_by_filter=ByFilter(n(Op.GT, 99))))).effects
    assert (effects.deleted, effects.patched, effects.upserted) == (0, None, None)


async def test_filters_may_name_what_the_request_itself_adds(database):
    """The usual way to replace the pieces of a text, also for the first text of all."""
    await database.create("docs", Schema())
    for _ in range(2):
        request = WriteRequest(
            delete_by_filter=ByFilter(Compare("source", Op.EQ, "a")),
            upserts=[Document(i, {"source": "a"}) for i in range(3)],
        )
        await database.write("docs", request)
    hits = (await database.query("docs", Query(order_by=(OrderKey("id"),)))).hits
    assert [hit.id for hit in hits] == [0, 1, 2]
    missing = Compare("other", Op.EQ, None)
    request = WriteRequest(patch_by_filter=ByFilter(missing), patch={"other": 1}, wants_ids=True)
    assert (await database.write("docs", request)).effects.patched_ids == (0, 1, 2)
    assert (await database.write("docs", request)).effects.patched_ids == ()
    await fold(await database.namespace("docs"))
    request = WriteRequest(patch_by_filter=ByFilter(Not(missing)), patch={"third": "x"}, wants_ids=True)
    assert (await database.write("docs", request)).effects.patched_ids == (0, 1, 2)


async def test_a_filter_sees_the_requests_before_it_and_not_those_behind(tens):
    requests = [
        WriteRequest(upserts=[Document(20, {"n": 50})]),
        WriteRequest(delete_by_filter=ByFilter(n(Op.GT, 8))),
        WriteRequest(upserts=[Document(21, {"n": 50})]),
        WriteRequest(patches=[Document(21, {"n": 51})]),
    ]
    results = await asyncio.gather(*(tens.write("docs", request) for request in requests))
    assert [result.count for result in results] == [1, 2, 1, 1]
    stored = await _stored(tens)
    assert stored[21] == 51 and 20 not in stored and 9 not in stored


@pytest.mark.parametrize("ids", [["b", "a", "\U0001f600", "\ue000"], [2**64 - 1, 0, 7]])
async def test_a_part_is_the_first_in_the_order_of_ids(database, ids):
    await database.create("docs", Schema())
    await database.write("docs", upsert(*(Document(i, {"n": 1}) for i in ids)))
    partial = WriteRequest(delete_by_filter=ByFilter(n(Op.EQ, 1), 2, is_partial=True), wants_ids=True)
    in_order = tuple(sorted(ids, key=lambda i: i.encode() if isinstance(i, str) else i))
    assert (await database.write("docs", partial)).effects.deleted_ids == in_order[:2]
