"""Namespaces: list, metadata, copies, branches, recall, export."""

from __future__ import annotations

import asyncio
from datetime import datetime

from v2.scenarios.trial import COSINE, EUCLIDEAN, Trial, scenario


@scenario("N-01")
async def namespaces_are_listed_by_prefix_and_pages(t: Trial) -> None:
    names = sorted(f"{t.name}-{n}" for n in ("a", "b", "B", "c.d", "e_f"))
    for name in names:
        await Trial(t.client, name, t.version, t.connect).store([{"id": 1, "n": 1}])
    found = await t.names(prefix=t.name)
    assert found == names
    assert await t.names(prefix=t.name, page_size=2) == names
    assert await t.names(prefix=t.name, page_size=5) == names
    assert await t.names(prefix=f"{t.name}-c") == [names[3]]
    assert await t.names(prefix=f"{t.name}-nothing") == []


@scenario("N-02", "S-06")
async def metadata(t: Trial) -> None:
    await t.store([{"id": n, "vector": [1.0, 2.0], "s": "x"} for n in range(4)], distance_metric=COSINE)
    first = await t.metadata()
    assert set(first) == {
        "schema",
        "approx_logical_bytes",
        "approx_row_count",
        "created_at",
        "updated_at",
        "last_write_at",
        "encryption",
        "index",
    }
    assert first["approx_row_count"] == 4
    assert first["approx_logical_bytes"] > 0
    assert first["encryption"] == {"mode": "default"}
    assert first["index"]["status"] in {"up-to-date", "updating"}
    times = {
        name: datetime.fromisoformat(str(first[name]))
        for name in ("created_at", "updated_at", "last_write_at")
    }
    assert all(time.utcoffset().total_seconds() == 0 for time in times.values())
    await t.write(deletes=[0])
    second = await t.metadata()
    assert second["approx_row_count"] == 3
    assert second["created_at"] == first["created_at"]
    assert datetime.fromisoformat(str(second["last_write_at"])) >= times["last_write_at"]
    legacy = await t.request("get", f"/v1/namespaces/{t.name}/metadata")
    assert legacy["encryption"] == {"sse": True}
    assert datetime.fromisoformat(legacy["created_at"]) == times["created_at"]


@scenario("N-04", "N-02")
async def pinning_is_stored_and_shown(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    assert "pinning" not in await t.metadata()
    for given, replicas in ((True, 1), ({"replicas": 3}, 3)):
        shown = await t.update_metadata(pinning=given)
        assert shown["pinning"]["replicas"] == replicas
        assert (await t.metadata())["pinning"]["replicas"] == replicas
    assert (await t.update_metadata(read_only=False))["pinning"]["replicas"] == 3
    for off in (None, False):
        await t.update_metadata(pinning=True)
        assert "pinning" not in await t.update_metadata(pinning=off)


@scenario("N-03", "H-03")
async def read_only_is_a_flag(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    await t.refused(422, "read_only", "update_metadata", extra_body={"read_only": "yes"})
    assert "read_only" not in await t.metadata()
    await t.other("missing").refused(404, "was not found", "update_metadata", read_only=True)


@scenario("N-07", "N-05")
async def deleted_namespaces_are_gone(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    assert await t.exists()
    assert (await t.delete_all())["status"] == "OK"
    assert await t.exists() is False
    for method in ("schema", "metadata", "delete_all", "hint_cache_warm"):
        await t.refused(404, f"🤷 namespace '{t.name}' was not found", method)
    await t.query_refused(404, "was not found", limit=1)
    # the name is free, and nothing of the old schema is left
    await t.store([{"id": "text", "n": "text"}])
    assert await t.documents() == [{"id": "text", "n": "text"}]


@scenario("N-08")
async def caches_are_warmed(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    answer = await t.hint_cache_warm()
    assert answer["status"] == "ACCEPTED"
    assert answer["message"]


@scenario("N-09")
async def recall_of_a_small_namespace_is_perfect(t: Trial) -> None:
    await t.store([{"id": n, "vector": [float(n), 1.0]} for n in range(3)], distance_metric=EUCLIDEAN)
    answer = await t.recall(top_k=2)
    assert answer["avg_recall"] == 1
    assert answer["avg_ann_count"] == 2
    assert answer["avg_exhaustive_count"] == 2
    assert answer.get("ground_truth") is None
    assert (await t.recall())["avg_recall"] == 1
    plain = t.other("plain")
    await plain.store([{"id": 1, "n": 1}])
    await plain.refused(400, "vector", "recall")


@scenario("N-10")
async def recall_of_a_ranking_under_a_filter(t: Trial) -> None:
    rows = [{"id": n, "vector": [float(n), 1.0], "n": n} for n in range(6)]
    await t.store(rows, distance_metric=EUCLIDEAN)
    answer = await t.recall(top_k=5, filters=["n", "Gte", 4])
    assert (answer["avg_ann_count"], answer["avg_exhaustive_count"]) == (2, 2)
    answer = await t.recall(
        top_k=2,
        num=1,
        filters=["n", "Gte", 2],
        rank_by=["vector", "ANN", [0.0, 1.0]],
        include_ground_truth=True,
    )
    (truth,) = answer["ground_truth"]
    assert truth["query_vector"] == [0.0, 1.0]
    assert [row["id"] for row in truth["nearest_neighbors"]] == [2, 3]
    await t.refused(400, "num", "recall", num=2, rank_by=["vector", "ANN", [0.0, 1.0]])


@scenario("N-11", "Q-10")
async def a_namespace_is_exported_by_id(t: Trial) -> None:
    await t.write(upsert_columns={"id": list(range(100)), "n": [n * n for n in range(100)]})
    exported, last = [], None
    while True:
        condition = {} if last is None else {"filters": ["id", "Gt", last]}
        page = await t.rows(rank_by=["id", "asc"], limit=30, include_attributes=True, **condition)
        exported += page
        if len(page) < 30:
            break
        last = page[-1]["id"]
    assert exported == [{"id": n, "n": n * n} for n in range(100)]


@scenario("W-23")
async def copies_are_independent(t: Trial) -> None:
    rows = [{"id": n, "vector": [float(n), 1.0], "s": "kettle"} for n in range(3)]
    schema = {"s": {"type": "string", "full_text_search": True}}
    await t.store(rows, schema=schema, distance_metric=COSINE)
    copy, second = t.other("copy"), t.other("second")
    answer = await copy.copy_from(source_namespace=t.name)
    assert answer["rows_affected"] == 3
    assert "rows_upserted" not in answer
    answer = await second.call("write", extra_body={"copy_from_namespace": t.name})
    assert answer["rows_affected"] == 3
    await t.write(deletes=[0])
    await copy.write(deletes=[1])
    assert await t.ids(limit=9) == [1, 2]
    assert await copy.ids(limit=9) == [0, 2]
    assert await second.documents() == rows
    assert await second.schema() == await t.schema()
    assert await second.ids(rank_by=["s", "BM25", "kettle"], limit=9) == [0, 1, 2]
    told = "mismatch"
    await copy.refused(400, told, upsert_rows=[{"id": 9, "vector": [1.0, 1.0]}], distance_metric=EUCLIDEAN)
    await t.delete_all()
    assert await second.documents() == rows


@scenario("W-23", "W-25")
async def copies_have_rules(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    await t.other("copy").refused(404, "was not found", "copy_from", source_namespace=f"{t.name}-missing")
    existing = t.other("existing")
    await existing.store([{"id": 7, "n": 7}])
    await existing.refused(400, "", "copy_from", source_namespace=t.name)
    mixed = {"copy_from_namespace": t.name, "upsert_rows": [{"id": 2, "n": 2}]}
    await t.other("mixed").refused(400, "", extra_body=mixed)
    for elsewhere in ({"source_region": "aws-us-east-1"}, {"source_api_key": "another-key"}):
        name = next(iter(elsewhere))
        await t.other("far").refused(400, name, "copy_from", source_namespace=t.name, **elsewhere)
    assert await existing.documents() == [{"id": 7, "n": 7}]


@scenario("W-24", "W-25", since="3.1.0")
async def copies_are_operations_with_a_token(t: Trial) -> None:
    await t.store([{"id": n, "n": n} for n in range(3)])
    copy = t.other("copy")
    started = await copy.start_copy_from(source_namespace=t.name)
    for _ in range(200):
        state = await copy.poll_copy_from(started["token"])
        if state["status"] == "finished":
            break
        assert state["status"] == "running"
        await asyncio.sleep(0.05)
    assert state["result"]["success"]["rows_affected"] == 3
    assert state["start_time"] <= state["finish_time"]
    assert await copy.ids(limit=9) == [0, 1, 2]
    body = await t.refused(404, "", "poll_copy_from", token="0" * 32)
    assert body["status"] == "error"


@scenario("W-26", "W-27")
async def branches_share_the_past_only(t: Trial) -> None:
    rows = [{"id": n, "vector": [float(n), 1.0], "s": f"kettle {n}"} for n in range(4)]
    schema = {"s": {"type": "string", "full_text_search": True}}
    await t.store(rows, schema=schema, distance_metric=EUCLIDEAN)
    branch, grandchild = t.other("branch"), t.other("grandchild")
    await branch.branch_from(source_namespace=t.name)
    await t.write(deletes=[0], patch_rows=[{"id": 1, "s": "changed"}])
    await branch.write(deletes=[3], upsert_rows=[{"id": 9, "vector": [9.0, 1.0], "s": "kettle 9"}])
    await grandchild.call("write", extra_body={"branch_from_namespace": branch.name})
    assert await t.ids(limit=9) == [1, 2, 3]
    assert await branch.ids(limit=9) == [0, 1, 2, 9]
    assert (await branch.documents())[1] == rows[1]
    assert await branch.ids(rank_by=["s", "BM25", "kettle"], limit=9) == [0, 1, 2, 9]
    assert await branch.ids(rank_by=["vector", "ANN", [9.0, 1.0]], limit=1) == [9]
    assert (await branch.metadata())["branching"] == {"parent": t.name}
    assert "branching" not in await t.metadata()
    assert await branch.schema() == await t.schema()
    await t.delete_all()
    await branch.delete_all()
    assert await grandchild.ids(limit=9) == [0, 1, 2, 9]
    await t.other("x").refused(404, "was not found", "branch_from", source_namespace=t.name)
    existing = t.other("existing")
    await existing.store([{"id": 1, "n": 1}])
    await existing.refused(400, "", "branch_from", source_namespace=grandchild.name)


@scenario("W-26", "W-27", "N-04")
async def branches_inherit_being_read_only(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    await t.update_metadata(read_only=True, pinning=True)
    branch = t.other("branch")
    await branch.branch_from(source_namespace=t.name)
    shown = await branch.metadata()
    assert shown["read_only"] is True
    assert "pinning" not in shown
    await branch.refused(400, "read-only", upsert_rows=[{"id": 2, "n": 2}])


@scenario("N-12")
async def the_deprecated_export_is_left_out(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    try:
        await t.request("get", f"/v2/namespaces/{t.name}")
    except Exception as error:
        assert error.status_code in {404, 405}, error
    else:
        raise AssertionError("the export was answered")
