"""Score expressions."""

from __future__ import annotations

import math

from v2.scenarios.trial import EUCLIDEAN, Trial, expect_scores, scenario

TEXTS = {1: "copper kettle", 2: "copper pot", 3: "iron kettle kettle", 4: "a wooden spoon"}
STOCK = {1: True, 2: False, 3: True}
COUNTS = {1: 10, 2: 0, 3: 5}
WEIGHTS = {1: -4, 2: 2, 3: 7}


async def shop(t: Trial) -> None:
    """Four documents with texts, numbers, times; the last one has only its text."""
    await t.store(
        [
            {
                "id": n,
                "title": text,
                "stock": STOCK.get(n),
                "count": COUNTS.get(n),
                "weight": WEIGHTS.get(n),
                "added": f"2026-05-0{n}T00:00:00Z" if n < 4 else None,
                "price": None if n == 4 else n + 0.5,
            }
            for n, text in TEXTS.items()
        ],
        schema={
            "title": {"type": "string", "full_text_search": True},
            "count": "uint",
            "added": "datetime",
            "price": "float",
        },
    )


async def bm25(t: Trial, word: str) -> dict[int, float]:
    """The scores of a word alone."""
    return dict(await t.scores(rank_by=["title", "BM25", word], limit=9))


def ranked(scores: dict[int, float]) -> list[tuple[int, float]]:
    """Best first, ties by id."""
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


@scenario("R-01", "R-03", "R-08")
async def sums_and_products_of_clauses(t: Trial) -> None:
    await shop(t)
    copper, kettle = await bm25(t, "copper"), await bm25(t, "kettle")
    assert (set(copper), set(kettle)) == ({1, 2}, {1, 3})
    clauses = [["title", "BM25", "copper"], ["title", "BM25", "kettle"]]
    total = {n: copper.get(n, 0) + kettle.get(n, 0) for n in (1, 2, 3)}
    expect_scores(await t.scores(rank_by=["Sum", clauses], limit=9), ranked(total))
    weighted = {n: 3 * copper.get(n, 0) + kettle.get(n, 0) for n in (1, 2, 3)}
    for product in (["Product", 3, clauses[0]], ["Product", clauses[0], 3]):
        expect_scores(await t.scores(rank_by=["Sum", [product, clauses[1]]], limit=9), ranked(weighted))
    assert await t.rows(rank_by=["Product", 0, clauses[0]], limit=9) == []
    await t.query_refused(400, rank_by=["Product", -1, clauses[0]], limit=9)
    await t.query_refused(400, rank_by=["Sum", [clauses[0], 1.0]], limit=9)


@scenario("R-02", "R-05")
async def the_largest_of_clauses_with_a_floor(t: Trial) -> None:
    await shop(t)
    copper, kettle = await bm25(t, "copper"), await bm25(t, "kettle")
    clauses = [["title", "BM25", "copper"], ["title", "BM25", "kettle"]]
    best = {n: max(copper.get(n, 0), kettle.get(n, 0)) for n in (1, 2, 3)}
    expect_scores(await t.scores(rank_by=["Max", clauses], limit=9), ranked(best))
    wanted = [(3, 7.0), (2, 2.0), (1, 0.5), (4, 0.5)]
    for floor in (["Max", [["Attribute", "weight"], 0.5]], ["Max", 0.5, ["Attribute", "weight"]]):
        assert await t.scores(rank_by=floor, limit=9) == wanted


@scenario("R-04", "R-08")
async def filters_are_scores(t: Trial) -> None:
    await shop(t)
    assert await t.scores(rank_by=["stock", "Eq", True], limit=9) == [(1, 1.0), (3, 1.0)]
    clauses = [
        ["Product", 0.5, ["stock", "Eq", True]],
        ["And", [["count", "Lt", 6], ["count", "NotEq", None]]],
    ]
    assert await t.scores(rank_by=["Sum", clauses], limit=9) == [(3, 1.5), (2, 1.0), (1, 0.5)]
    await t.query_refused(400, "nowhere", rank_by=["nowhere", "Eq", True], limit=9)


@scenario("R-05", "R-08")
async def attributes_are_scores(t: Trial) -> None:
    await shop(t)
    wanted = [(1, 10.0), (3, 5.0), (2, 0.0), (4, 0.0)]
    assert await t.scores(rank_by=["Attribute", "count"], limit=9) == wanted
    boosted = ["Sum", [["Attribute", "count"], ["title", "BM25", "nothing like it"]]]
    assert await t.scores(rank_by=boosted, limit=9) == wanted
    for bad in ("weight", "price"):  # they may be negative
        await t.query_refused(400, bad, rank_by=["Attribute", bad], limit=9)
    for bad in ("title", "stock", "added", "nowhere"):
        await t.query_refused(400, bad, rank_by=["Max", [["Attribute", bad], 0]], limit=9)


@scenario("R-06")
async def saturation(t: Trial) -> None:
    await shop(t)
    saturated = ["Saturate", ["Attribute", "count"], {"midpoint": 5}]
    expect_scores(await t.scores(rank_by=saturated, limit=9), [(1, 10 / 15), (3, 0.5), (2, 0.0), (4, 0.0)])
    squared = ["Saturate", ["Attribute", "weight"], {"midpoint": 2, "exponent": 2}]
    # below zero counts as zero
    wanted = [(3, 49 / 53), (2, 0.5), (1, 0.0), (4, 0.0)]
    expect_scores(await t.scores(rank_by=squared, limit=9), wanted)
    kettle = await bm25(t, "kettle")
    text = ["Saturate", ["title", "BM25", "kettle"], {"midpoint": 0.5}]
    expect_scores(
        await t.scores(rank_by=text, limit=9), ranked({n: s / (s + 0.5) for n, s in kettle.items()})
    )
    for bad in ({"midpoint": 0}, {"midpoint": -1}, {"midpoint": 1, "exponent": 0}):
        await t.query_refused(400, rank_by=["Saturate", ["Attribute", "count"], bad], limit=9)


@scenario("R-07")
async def decay_of_distances(t: Trial) -> None:
    await shop(t)
    near = ["Dist", ["Attribute", "added"], "2026-05-02T00:00:00Z"]
    day = {1: 1.0, 2: 0.0, 3: 1.0}
    for midpoint in ("36h", "1.5d", 36 * 3_600_000):
        decayed = ["Decay", near, {"midpoint": midpoint, "exponent": 2}]
        wanted = ranked({n: 1.5**2 / (days**2 + 1.5**2) for n, days in day.items()} | {4: 0.0})
        expect_scores(await t.scores(rank_by=decayed, limit=9), wanted)
    weights = ["Decay", ["Dist", ["Attribute", "weight"], 2], {"midpoint": 3}]
    wanted = ranked({1: 3 / 9, 2: 1.0, 3: 3 / 8, 4: 0.0})
    expect_scores(await t.scores(rank_by=weights, limit=9), wanted)
    prices = ["Saturate", ["Dist", ["Attribute", "price"], 1.5], {"midpoint": 1}]
    expect_scores(await t.scores(rank_by=prices, limit=9), ranked({1: 0.0, 2: 0.5, 3: 2 / 3, 4: 0.0}))
    for bad in (
        ["Decay", ["Dist", ["Attribute", "weight"], 2], {"midpoint": "3d"}],
        ["Decay", ["Dist", ["Attribute", "weight"], 2.5], {"midpoint": 3}],
        ["Decay", near, {"midpoint": "0s"}],
        ["Decay", near, {"midpoint": "two days"}],
        ["Decay", ["Dist", ["Attribute", "added"], "yesterday"], {"midpoint": "1d"}],
        ["Decay", ["Dist", ["Attribute", "title"], 1], {"midpoint": 1}],
    ):
        await t.query_refused(400, rank_by=bad, limit=9)


@scenario("R-08", "R-01", "R-07")
async def expressions_combine(t: Trial) -> None:
    await shop(t)
    kettle = await bm25(t, "kettle")
    rank_by = [
        "Sum",
        [
            ["Product", 3, ["title", "BM25", "kettle"]],
            ["Product", 0.5, ["stock", "Eq", True]],
            ["Decay", ["Dist", ["Attribute", "added"], "2026-05-01T00:00:00Z"], {"midpoint": "1d"}],
        ],
    ]
    decay = {1: 1.0, 2: 0.5, 3: 1 / 3, 4: 0.0}
    wanted = {n: 3 * kettle.get(n, 0) + 0.5 * bool(STOCK.get(n)) + decay[n] for n in TEXTS}
    got = await t.scores(rank_by=rank_by, limit=9)
    assert [n for n, _ in got] == [n for n, _ in ranked(wanted)]
    assert all(math.isclose(s, wanted[n], rel_tol=1e-6, abs_tol=1e-9) for n, s in got)
    filtered = await t.ids(rank_by=rank_by, filters=["stock", "Eq", False], limit=9)
    assert filtered == [2]


@scenario("R-01", "R-04")
async def shapes_of_expressions(t: Trial) -> None:
    await shop(t)
    for bad in (
        ["Sum", ["title", "BM25", "kettle"]],
        ["sum", [["title", "BM25", "kettle"]]],
        ["Product", "3", ["title", "BM25", "kettle"]],
        ["title", "BM25"],
        {"title": "BM25"},
    ):
        await t.query_refused(422, rank_by=bad, limit=9)


@scenario("R-04", "X-01")
async def an_attribute_may_be_named_like_an_operator(t: Trial) -> None:
    schema = {"Sum": {"type": "string", "full_text_search": True, "filterable": True}}
    await t.store(
        [{"id": 1, "Sum": "kettle", "And": 1, "vector": [1.0, 0.0]}], schema=schema, distance_metric=EUCLIDEAN
    )
    assert await t.ids(rank_by=["Sum", "BM25", "kettle"], limit=9) == [1]
    assert await t.ids(rank_by=["And", "desc"], limit=9) == [1]
    assert await t.found("Sum", "Eq", "kettle") == [1]
    assert await t.found("And", "Eq", 1) == [1]
