"""Queries: vectors, orders, pages, what a row holds, what the answer says of itself."""

from __future__ import annotations

import math

from v2.scenarios.trial import COSINE, EUCLIDEAN, Trial, close, expect_scores, scenario

PLANE = {n: [float(n % 5), float(n // 5)] for n in range(25)}


async def plane(t: Trial) -> None:
    """A grid of 25 points."""
    rows = [{"id": n, "vector": v, "x": n % 5, "y": n // 5} for n, v in PLANE.items()]
    await t.store(rows, distance_metric=EUCLIDEAN)


@scenario("Q-01", "H-07")
async def euclidean_distances_are_squared(t: Trial) -> None:
    await t.store(
        [{"id": 1, "vector": [0.0, 0.0]}, {"id": 2, "vector": [3.0, 4.0]}, {"id": 3, "vector": [0.1, 0.0]}],
        distance_metric=EUCLIDEAN,
    )
    scores = await t.scores(rank_by=["vector", "ANN", [0.0, 0.0]], limit=9)
    assert scores[0] == (1, 0.0)
    assert scores[2] == (2, 25.0)
    # 32 bits inside, the shortest decimal outside
    assert scores[1] in ((3, 0.01), (3, 0.010000001))
    assert await t.ids(rank_by=["vector", "ANN", [0.0, 0.0]], limit=2) == [1, 3]
    await t.query_refused(400, "dimensions", rank_by=["vector", "ANN", [0.0]], limit=1)
    await t.query_refused(400, "nowhere", rank_by=["nowhere", "ANN", [0.0, 0.0]], limit=1)


@scenario("Q-02")
async def cosine_distances_are_one_minus_the_cosine(t: Trial) -> None:
    vectors = {1: [2.0, 0.0], 2: [1.0, 1.0], 3: [0.0, 1.0], 4: [-3.0, 0.0], 5: [0.0, 0.0]}
    await t.store([{"id": n, "vector": v} for n, v in vectors.items()], distance_metric=COSINE)
    scores = await t.scores(rank_by=["vector", "ANN", [1.0, 0.0]], limit=9)
    assert [n for n, _ in scores] == [1, 2, 3, 5, 4]
    wanted = [0.0, 1 - math.sqrt(0.5), 1.0, 1.0, 2.0]
    assert all(abs(got - right) < 1e-6 for (_, got), right in zip(scores, wanted, strict=True)), scores


@scenario("Q-03")
async def equal_distances_are_ordered_by_id(t: Trial) -> None:
    rows = [{"id": 9, "vector": [1.4, 1.4]}, {"id": 3, "vector": [1.7, 1.7]}, {"id": 5, "vector": [1.4, 1.4]}]
    await t.store(rows, distance_metric=EUCLIDEAN)
    scores = await t.scores(rank_by=["vector", "ANN", [1.5, 1.6]], limit=9)
    assert [n for n, _ in scores] == [3, 5, 9]
    assert len({score for _, score in scores}) == 1
    assert await t.ids(rank_by=["vector", "ANN", [1.5, 1.6]], limit=1) == [3]


@scenario("Q-04", "Q-05")
async def filters_never_cost_rows(t: Trial) -> None:
    await plane(t)
    query = [0.0, 0.0]
    for condition in (["x", "Eq", 4], ["And", [["x", "Gte", 3], ["y", "In", [2, 4]]]], ["x", "Eq", 77]):
        matching = await t.found(*condition)
        wanted = sorted(matching, key=lambda n: (sum(v * v for v in PLANE[n]), n))
        for operator in ("ANN", "kNN"):
            rank_by = ["vector", operator, query]
            assert await t.ids(rank_by=rank_by, filters=condition, limit=25) == wanted
    assert await t.rows(rank_by=["vector", "ANN", query], filters=["x", "Eq", 77], limit=9) == []


@scenario("Q-05")
async def exact_search_needs_filters(t: Trial) -> None:
    await plane(t)
    await t.query_refused(400, "kNN requires filters", rank_by=["vector", "kNN", [0.0, 0.0]], limit=3)
    scores = await t.scores(rank_by=["vector", "kNN", [2.0, 2.0]], filters=["id", "Gte", 0], limit=5)
    assert scores == [(12, 0.0), (7, 1.0), (11, 1.0), (13, 1.0), (17, 1.0)]


@scenario("Q-08", "Q-03")
async def rows_are_ordered_by_an_attribute(t: Trial) -> None:
    values = {1: "b", 2: "a", 3: None, 4: "B", 5: "a", 6: "é"}
    await t.store([{"id": n, "s": s} for n, s in values.items()])
    assert await t.ids(rank_by=["s", "asc"], limit=9) == [3, 4, 2, 5, 1, 6]
    assert await t.ids(rank_by=["s", "desc"], limit=9) == [6, 1, 2, 5, 4, 3]
    assert await t.ids(rank_by=["s", "asc"], limit=2) == [3, 4]
    (row,) = await t.rows(rank_by=["s", "asc"], limit=1)
    assert row == {"id": 3}
    assert await t.ids(rank_by=[["s", "asc"]], limit=2) == [3, 4]
    for bad in (["nowhere", "asc"], []):
        await t.query_refused(400, rank_by=bad, limit=1)
    for bad in (["s", "sideways"], ["s"], "s"):
        await t.query_refused(422, rank_by=bad, limit=1)


@scenario("Q-09")
async def rows_are_ordered_by_several_attributes(t: Trial) -> None:
    rows = [(1, "a", 2), (2, "a", None), (3, "b", 1), (4, None, 1), (5, "a", 1), (6, "b", 1)]
    await t.store([{"id": n, "s": s, "n": m} for n, s, m in rows])
    assert await t.ids(rank_by=[["s", "asc"], ["n", "desc"]], limit=9) == [4, 1, 5, 2, 3, 6]
    assert await t.ids(rank_by=[["s", "desc"], ["n", "asc"]], limit=9) == [3, 6, 2, 5, 1, 4]
    assert await t.ids(rank_by=[["s", "desc"], ["id", "desc"]], limit=3) == [6, 3, 5]
    await t.query_refused(400, "8", rank_by=[["n", "asc"]] * 9, limit=1)


@scenario("Q-10", "Q-11")
async def without_a_ranking_rows_come_by_id(t: Trial) -> None:
    await t.store([{"id": n, "n": -n} for n in (5, 3, 9)])
    assert await t.rows(limit=9) == [{"id": 3}, {"id": 5}, {"id": 9}]
    assert await t.ids(top_k=2) == [3, 5]
    assert await t.ids(filters=["n", "Lt", -3], limit=9) == [5, 9]
    assert await t.rows(filters=["n", "Eq", 7], limit=9) == []
    await t.query_refused(400)
    await t.query_refused(400, filters=["n", "Eq", 1])


@scenario("Q-11")
async def limits_and_offsets(t: Trial) -> None:
    await t.store([{"id": n, "n": n} for n in range(10)])
    order = ["n", "desc"]
    assert await t.ids(rank_by=order, limit=3) == [9, 8, 7]
    assert await t.ids(rank_by=order, limit={"total": 3}) == [9, 8, 7]
    assert await t.ids(rank_by=order, top_k=3) == [9, 8, 7]
    assert await t.ids(rank_by=order, limit=3, offset=2) == [7, 6, 5]
    assert await t.ids(rank_by=order, limit=3, offset=9) == [0]
    assert await t.ids(rank_by=order, limit=3, offset=10) == []
    assert await t.ids(rank_by=order, limit=10_000) == list(range(9, -1, -1))
    await t.query_refused(400, "rank_by queries must specify top_k or limit", rank_by=order)
    for bad in ({"limit": 0}, {"top_k": 0}, {"limit": 10_001}, {"limit": {"total": 0}}):
        await t.query_refused(400, "must be between 1 and 10000", rank_by=order, **bad)
    await t.query_refused(400, rank_by=order, limit=9_999, offset=2)
    await t.query_refused(400, rank_by=order, limit=1, top_k=1)
    await t.query_refused(400, "offset", limit=1, offset=1)
    for bad in ("3", 1.5, {"totals": 3}):
        await t.query_refused(422, rank_by=order, extra_body={"limit": bad})


@scenario("Q-11", "Q-01", "F-01")
async def offsets_go_over_every_ranking(t: Trial) -> None:
    rows = [{"id": n, "vector": [float(n), 0.0], "s": "word " * (n + 1)} for n in range(6)]
    schema = {"s": {"type": "string", "full_text_search": True}}
    await t.store(rows, schema=schema, distance_metric=EUCLIDEAN)
    for rank_by in (["vector", "ANN", [0.0, 0.0]], ["s", "BM25", "word"]):
        whole = await t.ids(rank_by=rank_by, limit=6)
        assert len(whole) == 6
        assert await t.ids(rank_by=rank_by, limit=2, offset=3) == whole[3:5]


@scenario("Q-12")
async def at_most_so_many_rows_share_a_value(t: Trial) -> None:
    shops = ["a", "a", "a", "b", "b", None, None, "c", "a"]
    rows = [{"id": n, "n": n, "shop": s, "vector": [float(n), 0.0]} for n, s in enumerate(shops)]
    schema = {"text": {"type": "string", "full_text_search": True}}
    await t.store(
        [r | {"text": "word " * (20 - r["n"])} for r in rows], schema=schema, distance_metric=EUCLIDEAN
    )
    per = {"total": 5, "per": {"attributes": ["shop"], "limit": 1}}
    with_shop = {"include_attributes": ["shop"]}
    for rank_by in (["n", "asc"], ["vector", "ANN", [0.0, 0.0]]):
        assert await t.ids(rank_by=rank_by, limit=per, **with_shop) == [0, 3, 5, 7]
    by_text = await t.ids(rank_by=["text", "BM25", "word"], limit=9)
    kept, seen = [], set()
    for n in by_text:
        if shops[n] not in seen:
            seen.add(shops[n])
            kept.append(n)
    assert await t.ids(rank_by=["text", "BM25", "word"], limit=per, **with_shop) == kept
    two = {"total": 4, "per": {"attributes": ["shop"], "limit": 2}}
    assert await t.ids(rank_by=["n", "asc"], limit=two, **with_shop) == [0, 1, 3, 4]
    both = {"total": 9, "per": {"attributes": ["shop", "n"], "limit": 1}}
    assert len(await t.ids(rank_by=["n", "asc"], limit=both, include_attributes=True)) == 9
    await t.query_refused(400, "shop", rank_by=["n", "asc"], limit=per)
    wrong = {"total": 2, "per": {"attributes": ["shop"], "limit": 3}}
    await t.query_refused(400, "per", rank_by=["n", "asc"], limit=wrong, **with_shop)


@scenario("Q-13", "Q-14")
async def rows_have_the_attributes_that_are_asked_for(t: Trial) -> None:
    row = {"id": 1, "a": 1, "b": "x", "vector": [1.0, 2.0]}
    await t.store([row], distance_metric=EUCLIDEAN)
    query = {"rank_by": ["id", "asc"], "limit": 1}
    for options, wanted in (
        ({}, {"id": 1}),
        ({"include_attributes": False}, {"id": 1}),
        ({"include_attributes": []}, {"id": 1}),
        ({"include_attributes": True}, row),
        ({"include_attributes": ["b", "id"]}, {"id": 1, "b": "x"}),
        ({"include_attributes": ["vector"]}, {"id": 1, "vector": [1.0, 2.0]}),
        ({"exclude_attributes": ["a"]}, {"id": 1, "b": "x", "vector": [1.0, 2.0]}),
        ({"exclude_attributes": ["nowhere", "vector"]}, {"id": 1, "a": 1, "b": "x"}),
        ({"exclude_attributes": []}, row),
    ):
        assert await t.rows(**query, **options) == [wanted], options
    (ranked,) = await t.rows(rank_by=["vector", "ANN", [1.0, 2.0]], limit=1)
    assert ranked == {"id": 1, "$dist": 0.0}
    told = '💔 attribute "x" not found in schema, cannot be part of `include_attributes`'
    refusal = await t.query_refused(400, told, **query, include_attributes=["x"])
    assert refusal["error"].startswith("💔")
    await t.query_refused(400, **query, include_attributes=["a"], exclude_attributes=["b"])
    await t.query_refused(400, "id", **query, exclude_attributes=["id"])


@scenario("Q-16", "Q-17")
async def consistency_levels(t: Trial) -> None:
    await t.store([{"id": 1, "n": 1}])
    query = {"rank_by": ["n", "asc"], "limit": 1}
    assert await t.ids(**query, consistency={"level": "eventual"}) == [1]
    assert await t.ids(**query, consistency={"level": "eventual", "max_staleness_seconds": 1}) == [1]
    for wrong, told in (
        ("eventual", 'invalid type: string "eventual", expected struct Consistency'),
        (
            {"level": "nonexistentvalue"},
            "unknown variant `nonexistentvalue`, expected `strong` or `eventual`",
        ),
        ({}, "missing field `level`"),
    ):
        prefix = "Failed to deserialize the JSON body into the target type: consistency"
        await t.query_refused(422, [prefix, told], **query, extra_body={"consistency": wrong})


@scenario("Q-18", "Q-19")
async def answers_tell_what_they_cost(t: Trial) -> None:
    words = ["alpha", "bravo", "delta", "gamma", "kappa"]
    rows = [{"id": n, "vector": [1.0, float(n)], "s": word} for n, word in enumerate(words)]
    await t.store(rows, distance_metric=EUCLIDEAN)
    answer = await t.query(rank_by=["vector", "ANN", [1.0, 0.0]], limit=5, include_attributes=True)
    # 8 of the id, 4 of the distance, 8 of the vector, 5 of the text
    assert answer["billing"] == {
        "billable_logical_bytes_queried": 256_000_000,
        "billable_logical_bytes_returned": 125,
    }
    answer = await t.query(rank_by=["vector", "ANN", [1.0, 0.0]], limit=2)
    assert answer["billing"]["billable_logical_bytes_returned"] == 24
    performance = answer["performance"]
    assert performance["cache_hit_ratio"] == 1.0
    assert isinstance(performance["cache_hit_ratio"], float)
    assert performance["cache_temperature"] in {"hot", "warm", "cold"}
    for name in ("server_total_ms", "query_execution_ms"):
        assert isinstance(performance[name], int)
        assert performance[name] > 0
    assert performance["exhaustive_search_count"] == 5
    assert performance["approx_namespace_size"] == 5
    answer = await t.query(
        rank_by=["vector", "ANN", [1.0, 0.0]], filters=["s", "Eq", "alpha"], limit=2, include_attributes=["s"]
    )
    assert answer["performance"]["exhaustive_search_count"] == 5
    assert answer["billing"]["billable_logical_bytes_returned"] == 17


@scenario("Q-25")
async def plans_are_explained(t: Trial) -> None:
    await plane(t)
    answer = await t.explain_query(rank_by=["vector", "ANN", [0.0, 0.0]], filters=["x", "Eq", 1], limit=3)
    assert set(answer) == {"plan_text"}
    assert "vector" in answer["plan_text"]
    await t.refused(400, "nowhere", "explain_query", rank_by=["nowhere", "asc"], limit=1)
    missing = t.other("missing")
    await missing.refused(404, "was not found", "explain_query", rank_by=["id", "asc"], limit=1)


@scenario("Q-26")
async def the_metric_of_a_query_only_repeats_the_namespaces(t: Trial) -> None:
    await plane(t)
    query = {"rank_by": ["vector", "ANN", [0.0, 0.0]], "limit": 1}
    assert await t.ids(**query, distance_metric=EUCLIDEAN) == [0]
    await t.query_refused(400, "metric", **query, distance_metric=COSINE)
    plain = t.other("plain")
    await plain.store([{"id": 1, "n": 1}])
    await plain.query_refused(400, "metric", rank_by=["n", "asc"], limit=1, distance_metric=COSINE)


@scenario("Q-15", "H-02")
async def queries_of_missing_namespaces_are_404(t: Trial) -> None:
    told = f"🤷 namespace '{t.name}' was not found"
    await t.query_refused(404, told, rank_by=["id", "asc"], limit=1)
    await t.refused(404, told, "multi_query", queries=[{"rank_by": ["id", "asc"], "limit": 1}])
    await t.refused(404, told, "delete_all")
    await t.refused(404, told, "metadata")
    await t.refused(404, told, "hint_cache_warm")
    await t.refused(404, told, "recall")
    assert await t.exists() is False


@scenario("Q-20", "Q-18")
async def several_queries_see_one_snapshot(t: Trial) -> None:
    schema = {"s": {"type": "string", "full_text_search": True}}
    rows = [{"id": n, "vector": [float(n), 1.0], "s": f"kettle {n}", "n": n} for n in range(4)]
    await t.store(rows, schema=schema, distance_metric=EUCLIDEAN)
    queries = [
        {"rank_by": ["vector", "ANN", [3.0, 1.0]], "limit": 2, "include_attributes": ["n"]},
        {"rank_by": ["s", "BM25", "2"], "limit": 9},
        {"aggregate_by": {"rows": ["Count"]}, "filters": ["n", "Gt", 0]},
        {"aggregate_by": {"rows": ["Count"]}, "group_by": ["n"], "top_k": 1},
        {"rank_by": ["n", "asc"], "filters": ["n", "Eq", 77], "limit": 1},
    ]
    answer = await t.multi_query(queries=queries, consistency={"level": "strong"})
    results = answer["results"]
    assert results[0]["rows"] == [{"id": 3, "$dist": 0.0, "n": 3}, {"id": 2, "$dist": 1.0, "n": 2}]
    assert [row["id"] for row in results[1]["rows"]] == [2]
    assert results[2]["aggregations"] == {"rows": 3}
    assert results[3]["aggregation_groups"] == [{"n": 0, "rows": 1}]
    assert results[4]["rows"] == []
    assert answer["billing"]["billable_logical_bytes_queried"] == 5 * 256_000_000
    assert answer["performance"]["approx_namespace_size"] == 4
    await t.refused(400, "16", "multi_query", queries=[])
    await t.refused(400, "16", "multi_query", queries=[queries[2]] * 17)
    await t.refused(
        400, "nowhere", "multi_query", queries=[queries[0], {"rank_by": ["nowhere", "asc"], "limit": 1}]
    )
    await t.refused(400, "offset", "multi_query", queries=queries, offset=1)
    assert len((await t.multi_query(queries=queries[:2], limit=1))["results"]) == 2


@scenario("Q-21", "Q-22")
async def rankings_are_fused_by_reciprocal_ranks(t: Trial) -> None:
    schema = {"s": {"type": "string", "full_text_search": True}}
    texts = {1: "red", 2: "red kettle", 3: "kettle kettle", 4: "pot"}
    rows = [{"id": n, "vector": [float(n), 0.0], "s": s} for n, s in texts.items()]
    await t.store(rows, schema=schema, distance_metric=EUCLIDEAN)
    queries = [
        {"rank_by": ["vector", "ANN", [1.0, 0.0]], "limit": 3, "include_attributes": ["s"]},
        {"rank_by": ["s", "BM25", "kettle"], "limit": 9},
    ]
    lists = [[1, 2, 3], [3, 2]]

    def fused(constant: float = 60.0, weights: tuple[float, ...] = (1.0, 1.0)) -> list[tuple[int, float]]:
        scores: dict[int, float] = {}
        for weight, ranked in zip(weights, lists, strict=True):
            for rank, n in enumerate(ranked, 1):
                scores[n] = scores.get(n, 0.0) + weight / (constant + rank)
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))

    async def ask(rerank_by: list, **options: object) -> list[tuple[int, float]]:
        answer = await t.multi_query(queries=queries, rerank_by=rerank_by, **options)
        (result,) = answer["results"]
        return [(row["id"], row["$dist"]) for row in result["rows"]]

    expect_scores(await ask(["RRF"]), fused())
    expect_scores(await ask(["RRF", {"rank_constant": 1}]), fused(1.0))
    expect_scores(await ask(["RRF", {"weights": [0.1, 5.0]}]), fused(60.0, (0.1, 5.0)))
    expect_scores(await ask(["RRF"], limit=1), fused()[:1])
    expect_scores(await ask(["RRF"], limit={"total": 1}, offset=1), fused()[1:2])
    answer = await t.multi_query(queries=queries, rerank_by=["RRF"])
    texts_of_rows = {row["id"]: row.get("s") for row in answer["results"][0]["rows"]}
    assert texts_of_rows == {n: texts[n] for n in (1, 2, 3)}
    for wrong in ({"weights": [1.0]}, {"weights": [1.0, 0.0]}, {"rank_constant": 0}):
        await t.refused(400, "", "multi_query", queries=queries, rerank_by=["RRF", wrong])
    counting = [queries[0], {"aggregate_by": {"rows": ["Count"]}}]
    await t.refused(400, "", "multi_query", queries=counting, rerank_by=["RRF"])
    await t.refused(400, "limit", "multi_query", queries=queries, rerank_by=["RRF"], offset=1)


@scenario("Q-23")
async def reranking_by_a_model_is_refused(t: Trial) -> None:
    schema = {"s": {"type": "string", "full_text_search": True}}
    await t.store([{"id": 1, "s": "kettle"}], schema=schema)
    query = {"rank_by": ["s", "BM25", "kettle"], "limit": 1, "include_attributes": ["s"]}
    model = {"model": "some/model", "attribute": "s", "query": "kettle"}
    await t.query_refused(400, "some/model", **query, rerank_by=model)
    await t.refused(400, "some/model", "multi_query", queries=[query], rerank_by=model)


@scenario("Q-05", "Q-04", "Q-01")
async def vector_searches_agree_with_arithmetic(t: Trial) -> None:
    numbers = [((n * 37) % 101) / 10 for n in range(400)]
    vectors = {n: numbers[4 * n : 4 * n + 4] for n in range(100)}
    await t.write(
        upsert_columns={"id": list(vectors), "vector": list(vectors.values())}, distance_metric=EUCLIDEAN
    )
    query = [5.0, 2.5, 7.5, 0.5]
    distances = {
        n: math.fsum((a - b) ** 2 for a, b in zip(v, query, strict=True)) for n, v in vectors.items()
    }
    got = await t.scores(rank_by=["vector", "kNN", query], filters=["id", "Gte", 0], limit=100)
    assert all(close(score, distances[n], 1e-5) for n, score in got)
    assert got == sorted(got, key=lambda pair: (pair[1], pair[0]))
    assert await t.scores(rank_by=["vector", "ANN", query], limit=100) == got
