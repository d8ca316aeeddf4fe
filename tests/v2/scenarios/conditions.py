"""Conditional writes."""

from __future__ import annotations

import asyncio

from v2.scenarios.trial import EUCLIDEAN, Trial, scenario


@scenario("W-12", "W-15", "W-16", "W-17")
async def upserts_where_the_stored_document_allows_it(t: Trial) -> None:
    await t.store([{"id": 1, "rev": 5}, {"id": 2, "rev": 9}, {"id": 3, "s": "without"}])
    newer = ["Or", [["rev", "Eq", None], ["rev", "Lt", {"$ref_new": "rev"}]]]
    rows = [{"id": n, "rev": 7} for n in (1, 2, 3, 4)]
    answer = await t.store(rows, upsert_condition=newer, return_affected_ids=True)
    assert answer["rows_upserted"] == answer["rows_affected"] == 3
    # what is not there yet is written without a test
    assert answer["upserted_ids"] == [1, 3, 4]
    assert await t.documents() == [
        {"id": 1, "rev": 7},
        {"id": 2, "rev": 9},
        {"id": 3, "rev": 7},
        {"id": 4, "rev": 7},
    ]
    nothing = await t.store(rows, upsert_condition=newer, return_affected_ids=True)
    assert nothing["rows_upserted"] == 0
    assert "upserted_ids" not in nothing


@scenario("W-12")
async def inserts_only_where_nothing_is(t: Trial) -> None:
    await t.store([{"id": 1, "s": "first"}])
    rows = [{"id": 1, "s": "second"}, {"id": 2, "s": "second"}]
    answer = await t.store(rows, upsert_condition=["id", "Eq", None], return_affected_ids=True)
    assert answer["upserted_ids"] == [2]
    assert await t.documents() == [{"id": 1, "s": "first"}, {"id": 2, "s": "second"}]


@scenario("W-13", "W-15", "W-17")
async def patches_where_the_stored_document_allows_it(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}, {"id": 2, "n": 5}])
    answer = await t.write(
        patch_rows=[{"id": 1, "n": 3}, {"id": 2, "n": 3}, {"id": 3, "n": 3}],
        patch_condition=["n", "Lt", {"$ref_new": "n"}],
        return_affected_ids=True,
    )
    assert answer["rows_patched"] == 1
    assert answer["patched_ids"] == [1]
    assert await t.documents() == [{"id": 1, "n": 3}, {"id": 2, "n": 5}]
    columns = {"id": [1, 2], "s": ["x", "y"]}
    assert (await t.write(patch_columns=columns, patch_condition=["n", "Gte", 5]))["rows_patched"] == 1
    assert await t.documents() == [{"id": 1, "n": 3}, {"id": 2, "n": 5, "s": "y"}]


@scenario("W-14", "W-15", "W-17")
async def deletes_where_the_stored_document_allows_it(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}, {"id": 2, "n": 5}, {"id": 3}])
    answer = await t.write(deletes=[1, 2, 4], delete_condition=["n", "Gt", 3], return_affected_ids=True)
    assert answer["rows_deleted"] == 1
    assert answer["deleted_ids"] == [2]
    # what a delete brings is always null
    answer = await t.write(
        deletes=[1, 3], delete_condition=["n", "Eq", {"$ref_new": "n"}], return_affected_ids=True
    )
    assert answer["deleted_ids"] == [3]
    assert await t.documents() == [{"id": 1, "n": 1}]


@scenario("W-12", "W-13", "W-14")
async def conditions_need_their_operation(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    condition = ["n", "Eq", 1]
    await t.refused(400, "upsert_condition", deletes=[1], upsert_condition=condition)
    await t.refused(400, "patch_condition", upsert_rows=[{"id": 1}], patch_condition=condition)
    await t.refused(400, "delete_condition", delete_by_filter=condition, delete_condition=condition)
    await t.refused(400, "nowhere", deletes=[1], delete_condition=["nowhere", "Eq", 1])
    await t.refused(400, "n", deletes=[1], delete_condition=["n", "Eq", "text"])
    assert await t.documents() == [{"id": 1, "n": 1}]


@scenario("W-12", "W-10", "W-11")
async def of_concurrent_conditional_writes_one_wins_each_round(t: Trial) -> None:
    await t.store([{"id": 1, "n": 0}])

    async def increment(seen: int) -> int:
        answer = await t.store([{"id": 1, "n": seen + 1}], upsert_condition=["n", "Eq", seen])
        return answer["rows_upserted"]

    for seen in range(3):
        won = await asyncio.gather(*(increment(seen) for _ in range(4)))
        assert sum(won) == 1
    assert await t.documents() == [{"id": 1, "n": 3}]


@scenario("W-12", "W-13")
async def conditions_may_ask_for_vectors_and_texts(t: Trial) -> None:
    rows = [
        {"id": 1, "vector": [1.0, 2.0], "s": "a copper kettle"},
        {"id": 2, "vector": [2.0, 1.0], "s": "tea"},
    ]
    schema = {"s": {"type": "string", "full_text_search": True}}
    await t.store(rows, schema=schema, distance_metric=EUCLIDEAN)
    patches = [{"id": 1, "n": 1}, {"id": 2, "n": 1}]
    condition = ["And", [["vector", "NotEq", None], ["s", "ContainsAllTokens", "kettle"]]]
    answer = await t.write(patch_rows=patches, patch_condition=condition, return_affected_ids=True)
    assert answer["patched_ids"] == [1]
