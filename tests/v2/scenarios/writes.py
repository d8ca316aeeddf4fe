"""Upserts, patches, deletes: what they do and what they answer."""

from __future__ import annotations

from v2.scenarios.trial import COSINE, EUCLIDEAN, Trial, scenario


@scenario("W-01", "W-17", "W-28")
async def upserts_replace_whole_documents(t: Trial) -> None:
    rows = [{"id": 1, "vector": [0.1, 0.2], "city": "Oslo"}, {"id": 2, "vector": [0.3, 0.1], "tags": ["a"]}]
    answer = await t.store(rows, distance_metric=COSINE)
    assert answer["status"] == "OK"
    assert answer["message"]
    assert answer["rows_affected"] == answer["rows_upserted"] == 2
    assert not {"rows_patched", "rows_deleted", "rows_remaining", "upserted_ids"} & set(answer)
    assert answer["billing"]["billable_logical_bytes_written"] > 0
    assert "query" not in answer["billing"]
    assert answer["performance"]["server_total_ms"] >= 0
    await t.store([{"id": 1, "vector": [1.0, 0.0], "year": 1048}])
    assert await t.documents() == [
        {"id": 1, "vector": [1.0, 0.0], "year": 1048},
        {"id": 2, "vector": [0.3, 0.1], "tags": ["a"]},
    ]


@scenario("W-02", "D-10")
async def upserts_may_be_columns(t: Trial) -> None:
    columns = {"id": [1, 2, 3], "n": [10, None, 30], "tags": [["a"], [], None]}
    answer = await t.write(upsert_columns=columns)
    assert answer["rows_upserted"] == 3
    assert await t.documents() == [
        {"id": 1, "n": 10, "tags": ["a"]},
        {"id": 2, "tags": []},
        {"id": 3, "n": 30},
    ]
    await t.refused(400, upsert_columns={"id": [4, 5], "n": [1]})
    await t.refused(400, "id", upsert_columns={"n": [1]})
    assert len(await t.documents()) == 3


@scenario("W-03", "W-04", "W-17")
async def patches_set_what_they_name(t: Trial) -> None:
    rows = [{"id": n, "vector": [n, 0.5], "a": n, "b": "x"} for n in (1, 2, 3)]
    await t.store(rows, distance_metric=EUCLIDEAN)
    answer = await t.write(
        patch_rows=[{"id": 1, "a": 10}, {"id": 2, "b": None, "c": True}, {"id": 99, "a": 1}]
    )
    assert answer["rows_patched"] == answer["rows_affected"] == 2
    assert "rows_upserted" not in answer
    columns = {"id": [3, 98], "a": [30, 980], "d": ["new", "newer"]}
    assert (await t.write(patch_columns=columns))["rows_patched"] == 1
    assert await t.documents() == [
        {"id": 1, "vector": [1.0, 0.5], "a": 10, "b": "x"},
        {"id": 2, "vector": [2.0, 0.5], "a": 2, "c": True},
        {"id": 3, "vector": [3.0, 0.5], "a": 30, "b": "x", "d": "new"},
    ]
    assert (await t.schema())["c"]["type"] == "bool"
    assert await t.found("d", "Eq", "new") == [3]
    assert await t.found("b", "Eq", None) == [2]


@scenario("W-03", "W-04", "W-18")
async def patches_change_neither_ids_nor_vectors(t: Trial) -> None:
    await t.store([{"id": 1, "vector": [1, 2], "a": 1}], distance_metric=EUCLIDEAN)
    await t.refused(400, "vector", patch_rows=[{"id": 1, "vector": [2, 1]}])
    await t.refused(400, "vector", patch_columns={"id": [1], "vector": [[2, 1]]})
    await t.refused(400, "a", patch_rows=[{"id": 1, "a": "text"}])
    await t.refused(400, patch_columns={"id": [1, 2], "a": [1]})
    await t.write(patch_rows=[{"id": 1, "a": 2}], distance_metric=EUCLIDEAN)
    await t.refused(400, "mismatch", patch_rows=[{"id": 1, "a": 3}], distance_metric=COSINE)
    assert await t.documents() == [{"id": 1, "vector": [1.0, 2.0], "a": 2}]


@scenario("W-05", "W-16", "W-17", "N-13")
async def deletes_count_absent_documents_too(t: Trial) -> None:
    await t.store([{"id": n, "n": n} for n in (1, 2)])
    answer = await t.write(deletes=[1, 7], return_affected_ids=True)
    assert answer["rows_deleted"] == answer["rows_affected"] == 2
    assert answer["deleted_ids"] == [1, 7]
    assert "deleted_ids" not in await t.write(deletes=[2])
    assert await t.documents() == []
    assert await t.exists()
    assert set(await t.schema()) == {"id", "n"}
    assert (await t.metadata())["approx_row_count"] == 0


@scenario("W-06", "W-16", "W-17", "W-28")
async def deletes_by_filter(t: Trial) -> None:
    await t.store([{"id": n, "n": n % 3} for n in range(9)])
    answer = await t.write(delete_by_filter=["n", "Eq", 1], return_affected_ids=True)
    assert answer["rows_deleted"] == answer["rows_affected"] == 3
    assert answer["deleted_ids"] == [1, 4, 7]
    assert answer["billing"]["query"]["billable_logical_bytes_queried"] >= 0
    assert "rows_remaining" not in answer
    answer = await t.write(delete_by_filter=["n", "Eq", 1], return_affected_ids=True)
    assert (answer["rows_deleted"], answer["rows_affected"]) == (0, 0)
    assert "deleted_ids" not in answer
    assert await t.found("n", "NotEq", None) == [0, 2, 3, 5, 6, 8]
    await t.refused(400, "nowhere", delete_by_filter=["nowhere", "Eq", 1])


@scenario("W-07", "W-16", "W-17")
async def patches_by_filter(t: Trial) -> None:
    await t.store([{"id": n, "n": n, "s": "old"} for n in range(5)])
    by_filter = {"filters": ["n", "Gte", 3], "patch": {"s": "new", "n": None}}
    answer = await t.write(
        patch_by_filter=by_filter, patch_rows=[{"id": 0, "s": "own"}], return_affected_ids=True
    )
    assert answer["rows_patched"] == answer["rows_affected"] == 3
    assert answer["patched_ids"] == [3, 4, 0]
    rows = await t.documents()
    assert [row["s"] for row in rows] == ["own", "old", "old", "new", "new"]
    assert rows[4] == {"id": 4, "s": "new"}
    for bad in ({"id": 7}, {"n": "text"}):
        await t.refused(400, next(iter(bad)), patch_by_filter={"filters": ["n", "Eq", 1], "patch": bad})
    nothing = await t.write(patch_by_filter={"filters": ["n", "Eq", 77], "patch": {"s": "x"}})
    assert nothing["rows_patched"] == 0


@scenario("W-08")
async def operations_by_filter_tell_whether_rows_remain(t: Trial) -> None:
    await t.store([{"id": n, "n": n} for n in range(5)])
    answer = await t.write(
        patch_by_filter={"filters": ["n", "Lt", 3], "patch": {"s": "x"}}, patch_by_filter_allow_partial=True
    )
    assert (answer["rows_patched"], answer["rows_remaining"]) == (3, False)
    answer = await t.write(delete_by_filter=["n", "Lt", 3], delete_by_filter_allow_partial=True)
    assert (answer["rows_deleted"], answer["rows_remaining"]) == (3, False)


@scenario("W-08", "W-10")
async def more_than_50000_patches_by_filter_go_in_parts(t: Trial) -> None:
    await t.write(upsert_columns={"id": list(range(50_003)), "n": [1] * 50_003})
    by_filter = {"filters": ["n", "Eq", 1], "patch": {"n": 2}}
    await t.refused(400, "50000", patch_by_filter=by_filter)
    count = {"aggregate_by": {"rows": ["Count"]}, "filters": ["n", "Eq", 2]}
    assert (await t.query(**count))["aggregations"] == {"rows": 0}
    answer = await t.write(patch_by_filter=by_filter, patch_by_filter_allow_partial=True)
    assert (answer["rows_patched"], answer["rows_remaining"]) == (50_000, True)
    answer = await t.write(patch_by_filter=by_filter, patch_by_filter_allow_partial=True)
    assert (answer["rows_patched"], answer["rows_remaining"]) == (3, False)
    assert (await t.query(**count))["aggregations"] == {"rows": 50_003}


@scenario("W-09")
async def filters_go_before_explicit_operations(t: Trial) -> None:
    await t.store([{"id": n, "n": n, "s": "old"} for n in range(6)])
    answer = await t.write(
        delete_by_filter=["n", "Lt", 3],
        # 1 and 2 are gone by now
        patch_by_filter={"filters": ["n", "Lte", 3], "patch": {"s": "patched"}},
        # comes back, and stays as it is written here
        upsert_rows=[{"id": 0, "n": 0, "s": "back"}],
        # deleted above, and so not there
        patch_rows=[{"id": 1, "s": "nobody"}, {"id": 4, "s": "explicit"}],
        deletes=[5],
        return_affected_ids=True,
    )
    assert await t.documents() == [
        {"id": 0, "n": 0, "s": "back"},
        {"id": 3, "n": 3, "s": "patched"},
        {"id": 4, "n": 4, "s": "explicit"},
    ]
    assert answer["rows_upserted"] == 1
    assert answer["patched_ids"] == [3, 4]
    assert answer["deleted_ids"] == [0, 1, 2, 5]
    assert answer["rows_affected"] == 7


@scenario("W-10", "H-02")
async def a_write_with_one_fault_changes_nothing(t: Trial) -> None:
    rows = [{"id": n, "n": n} for n in range(3)]
    await t.store(rows)
    faulty = [
        {"upsert_rows": [{"id": 9, "n": 9}, {"id": 10, "n": "text"}]},
        {"upsert_rows": [{"id": 9, "n": 9}], "delete_by_filter": ["nowhere", "Eq", 1]},
        {"deletes": [0], "patch_rows": [{"id": 1, "n": "text"}]},
        {"delete_by_filter": ["n", "Gte", 0], "upsert_rows": [{"id": "text"}]},
        {"upsert_rows": [{"id": 9, "fresh": 1}], "schema": {"n": "string"}},
        {"deletes": [0], "upsert_rows": [{"id": 9, "vector": [1.0]}], "distance_metric": COSINE},
    ]
    for request in faulty:
        await t.refused(400, **request)
    assert await t.documents() == rows
    assert set(await t.schema()) == {"id", "n"}


@scenario("W-11", "Q-15")
async def every_query_sees_every_write_that_was_answered(t: Trial) -> None:
    again = t.through()
    for n in range(8):
        await t.store([{"id": n, "n": n}])
        assert await again.ids(rank_by=["id", "desc"], limit=1, consistency={"level": "strong"}) == [n]
    await again.close()


@scenario("W-17", "W-28", "H-02")
async def a_write_of_nothing_is_answered_with_zeroes(t: Trial) -> None:
    await t.refused(404, "was not found", deletes=[1])
    await t.refused(404, "was not found", patch_rows=[{"id": 1, "n": 1}])
    await t.refused(404, "was not found", delete_by_filter=["id", "Eq", 1])
    await t.refused(404, "was not found", schema={"n": "int"})
    assert not await t.exists()
    await t.store([{"id": 1, "n": 1}])
    answer = await t.write()
    assert (answer["status"], answer["rows_affected"]) == ("OK", 0)
    assert not {"rows_upserted", "rows_patched", "rows_deleted"} & set(answer)


@scenario("W-18", "S-10")
async def the_distance_metric_is_the_namespaces(t: Trial) -> None:
    row = {"id": 1, "vector": [1.0, 2.0]}
    await t.refused(400, "distance_metric must be specified", upsert_rows=[row])
    for unknown in ("manhattan", "euclidean"):
        await t.refused(422, unknown, upsert_rows=[row], distance_metric=unknown)
    await t.store([row], distance_metric=COSINE)
    await t.store([{"id": 2, "vector": [2.0, 1.0]}])
    await t.store([{"id": 3, "vector": [2.0, 2.0]}], distance_metric=COSINE)
    wrong = {"upsert_rows": [{"id": 4, "vector": [0.0, 1.0]}], "distance_metric": EUCLIDEAN}
    await t.refused(400, "distance metric mismatch, expected cosine_distance, got euclidean_squared", **wrong)
    plain = t.other("plain")
    await plain.store([{"id": 1, "n": 1}])
    without = "namespace configured without vector indexing"
    await plain.refused(400, without, upsert_rows=[{"id": 2, "n": 1}], distance_metric=COSINE)
    told = "Vector provided for namespace without vector attribute"
    await plain.refused(400, told, upsert_rows=[{"id": 2, "vector": [1.0, 2.0]}])


@scenario("W-19")
async def a_namespace_may_be_created_empty(t: Trial) -> None:
    await t.refused(404, "was not found", upsert_rows=[{"id": 1, "n": 1}], create_namespace=False)
    await t.refused(400, "id", create_namespace=True)
    answer = await t.write(create_namespace=True, schema={"id": "string", "n": "int"})
    assert answer["rows_affected"] == 0
    assert await t.exists()
    assert {n: e["type"] for n, e in (await t.schema()).items()} == {"id": "string", "n": "int"}
    assert await t.documents() == []
    await t.write(create_namespace=True, schema={"id": "string"})
    await t.refused(400, upsert_rows=[{"id": 1, "n": 1}])
    await t.store([{"id": "a", "n": 1}], create_namespace=False)
    assert await t.documents() == [{"id": "a", "n": 1}]


@scenario("W-20")
async def back_pressure_may_be_switched_off(t: Trial) -> None:
    answer = await t.store([{"id": 1, "n": 1}], disable_backpressure=True)
    assert answer["rows_upserted"] == 1
    await t.write(deletes=[1], disable_backpressure=True)
    await t.refused(400, "disable_backpressure", patch_rows=[{"id": 1, "n": 2}], disable_backpressure=True)
    await t.refused(400, "disable_backpressure", delete_by_filter=["n", "Eq", 1], disable_backpressure=True)


@scenario("W-21")
async def keys_of_customers_are_refused(t: Trial) -> None:
    managed = {"mode": "customer-managed", "key_name": "mykey"}
    told = "Malformed Cloud KMS crypto key: mykey"
    await t.refused(400, told, upsert_rows=[{"id": 1, "n": 1}], encryption=managed)
    assert not await t.exists()
    await t.store([{"id": 1, "n": 1}], encryption={"mode": "default"})
    assert (await t.metadata())["encryption"] == {"mode": "default"}


@scenario("W-22")
async def sharding_is_kept_and_shown(t: Trial) -> None:
    await t.refused(400, "256", upsert_rows=[{"id": 1, "n": 1}], sharding={"num_shards": 257})
    await t.store([{"id": 1, "n": 1}], sharding={"num_shards": 4})
    assert (await t.metadata())["sharding"] == {"num_shards": 4}
    await t.store([{"id": 2, "n": 2}], sharding={"num_shards": 4})
    await t.refused(400, upsert_rows=[{"id": 3, "n": 3}], sharding={"num_shards": 5})
    assert await t.ids(rank_by=["n", "desc"], limit=9) == [2, 1]
    plain = t.other("plain")
    await plain.store([{"id": 1, "n": 1}])
    await plain.refused(400, upsert_rows=[{"id": 2, "n": 2}], sharding={"num_shards": 4})
    assert "sharding" not in await plain.metadata()
    await t.other("branch").refused(400, "", "branch_from", source_namespace=t.name)


@scenario("W-27", "N-03")
async def a_read_only_namespace_takes_no_writes(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    assert (await t.update_metadata(read_only=True))["read_only"] is True
    told = "Writes not permitted. This namespace is read-only."
    for request in (
        {"upsert_rows": [{"id": 2, "n": 1}]},
        {"deletes": [1]},
        {"patch_rows": [{"id": 1, "n": 2}]},
        {"delete_by_filter": ["n", "Eq", 1]},
        {"schema": {"m": "int"}},
    ):
        await t.refused(400, told, **request)
    await t.refused(400, told, "update_schema", schema={"m": "int"})
    assert await t.documents() == [{"id": 1, "n": 1}]
    assert "read_only" not in await t.update_metadata(read_only=False)
    await t.store([{"id": 2, "n": 2}])
    await t.update_metadata(read_only=True)
    await t.delete_all()
    assert not await t.exists()


@scenario("W-28")
async def what_a_write_costs_grows_with_its_documents(t: Trial) -> None:
    small = await t.store([{"id": 1, "s": "x"}])
    large = await t.store([{"id": 2, "s": "x" * 1000}])
    bytes_of = [a["billing"]["billable_logical_bytes_written"] for a in (small, large)]
    assert bytes_of[1] - bytes_of[0] == 999
    conditional = await t.store([{"id": 2, "s": "y"}], upsert_condition=["s", "Eq", "y"])
    assert set(conditional["billing"]["query"]) == {
        "billable_logical_bytes_queried",
        "billable_logical_bytes_returned",
    }
