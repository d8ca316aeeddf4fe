"""Counts, sums, groups."""

from __future__ import annotations

from v2.scenarios.trial import Trial, scenario

ROWS = [
    {"id": 1, "shop": "A", "kg": 1.5, "n": 1, "tags": ["x", "y", "x"]},
    {"id": 2, "shop": "A", "kg": 2.0, "n": 2, "tags": ["y"]},
    {"id": 3, "shop": "B", "n": 2**53, "tags": []},
    {"id": 4, "kg": 4.0, "n": 1},
]


async def shops(t: Trial) -> None:
    """Four documents."""
    await t.store(ROWS, schema={"kg": "float"})


@scenario("A-01", "A-02")
async def counts_and_sums(t: Trial) -> None:
    await shops(t)
    answer = await t.query(
        aggregate_by={"rows": ["Count"], "also": ["Count", "id"], "kg": ["Sum", "kg"], "n": ["Sum", "n"]}
    )
    assert answer["aggregations"] == {"rows": 4, "also": 4, "kg": 7.5, "n": 2**53 + 4}
    assert isinstance(answer["aggregations"]["n"], int)
    assert "rows" not in answer
    assert "aggregation_groups" not in answer
    filtered = await t.query(
        aggregate_by={"rows": ["Count"], "kg": ["Sum", "kg"], "n": ["Sum", "n"]}, filters=["shop", "Eq", "C"]
    )
    assert filtered["aggregations"] == {"rows": 0, "kg": 0.0, "n": 0}
    assert isinstance(filtered["aggregations"]["kg"], float)
    assert answer["billing"]["billable_logical_bytes_queried"] == 256_000_000
    await t.query_refused(400, "shop", aggregate_by={"x": ["Sum", "shop"]})
    await t.query_refused(400, "nowhere", aggregate_by={"x": ["Sum", "nowhere"]})
    await t.query_refused(400, "Count", aggregate_by={"x": ["Count", "shop"]})
    await t.query_refused(422, aggregate_by={"x": ["Count"]}, rank_by=["id", "asc"], limit=1)
    await t.query_refused(422, aggregate_by={"x": ["Average", "n"]})


@scenario("A-03", "A-05")
async def groups_are_in_the_order_of_their_keys(t: Trial) -> None:
    await shops(t)
    counted = {"rows": ["Count"], "kg": ["Sum", "kg"]}
    answer = await t.query(aggregate_by=counted, group_by=["shop"])
    groups = [
        {"shop": None, "rows": 1, "kg": 4.0},
        {"shop": "A", "rows": 2, "kg": 3.5},
        {"shop": "B", "rows": 1, "kg": 0.0},
    ]
    assert answer["aggregation_groups"] == groups
    assert "aggregations" not in answer
    for options, wanted in (({"top_k": 2}, groups[:2]), ({"limit": 1}, groups[:1]), ({"top_k": 0}, [])):
        answer = await t.query(aggregate_by=counted, group_by=["shop"], **options)
        assert answer["aggregation_groups"] == wanted, options
    answer = await t.query(aggregate_by={"rows": ["Count"]}, group_by=["n", "shop"])
    assert answer["aggregation_groups"] == [
        {"n": 1, "shop": None, "rows": 1},
        {"n": 1, "shop": "A", "rows": 1},
        {"n": 2, "shop": "A", "rows": 1},
        {"n": 2**53, "shop": "B", "rows": 1},
    ]
    answer = await t.query(aggregate_by={"rows": ["Count"]}, group_by=["shop"], filters=["kg", "Gt", 1])
    assert answer["aggregation_groups"] == [{"shop": None, "rows": 1}, {"shop": "A", "rows": 2}]
    assert (await t.query(aggregate_by={"rows": ["Count"]}, group_by=[]))["aggregations"] == {"rows": 4}
    await t.query_refused(400, aggregate_by=counted, top_k=3)
    for bad in (["nowhere"], ["id"], ["shop", "shop"]):
        await t.query_refused(400, aggregate_by=counted, group_by=bad)
    await t.query_refused(400, "offset", aggregate_by=counted, group_by=["shop"], offset=1)


@scenario("A-04")
async def groups_by_each_element_of_an_array(t: Trial) -> None:
    await shops(t)
    counted = {"rows": ["Count"]}
    answer = await t.query(aggregate_by=counted, group_by=[{"tag": ["ForEachUnique", "tags"]}])
    assert answer["aggregation_groups"] == [
        {"tag": None, "rows": 1},
        {"tag": "x", "rows": 1},
        {"tag": "y", "rows": 2},
    ]
    both = ["shop", {"tag": ["ForEachUnique", "tags"]}]
    answer = await t.query(aggregate_by=counted, group_by=both)
    assert answer["aggregation_groups"] == [
        {"shop": None, "tag": None, "rows": 1},
        {"shop": "A", "tag": "x", "rows": 1},
        {"shop": "A", "tag": "y", "rows": 2},
    ]
    for bad in (
        [{"tag": ["ForEachUnique", "shop"]}],
        [{"a": ["ForEachUnique", "tags"]}, {"b": ["ForEachUnique", "tags"]}],
        ["shop", {"shop": ["ForEachUnique", "tags"]}],
        [{"rows": ["ForEachUnique", "tags"]}],
    ):
        await t.query_refused(400, aggregate_by=counted, group_by=bad)
