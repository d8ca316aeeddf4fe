"""Computed attributes."""

from __future__ import annotations

import math

from v2.scenarios.trial import COSINE, EUCLIDEAN, Trial, close, scenario

TEXT = "A pot of iron. The kettle is copper! An old copper kettle, a new kettle. Nothing else."


async def kettles(t: Trial) -> None:
    """Documents with texts and numbers."""
    schema = {"s": {"type": "string", "full_text_search": True, "filterable": True}, "n": "uint"}
    rows = [{"id": 1, "s": "copper kettle", "n": 3}, {"id": 2, "s": "iron pot"}, {"id": 3, "n": 1}]
    await t.store(rows, schema=schema)


@scenario("C-01")
async def scores_and_filters_are_computed(t: Trial) -> None:
    await kettles(t)
    computed = {
        "weight": ["Product", 2, ["Attribute", "n"]],
        "is_copper": ["s", "ContainsAllTokens", "copper"],
        "is_null": ["s", "Eq", None],
    }
    for query in ({"rank_by": ["id", "asc"]}, {"filters": ["id", "Gt", 0]}):
        rows = await t.rows(**query, limit=9, compute_attributes=computed)
        assert rows == [
            {"id": 1, "weight": 6.0, "is_copper": True, "is_null": False},
            {"id": 2, "weight": 0.0, "is_copper": False, "is_null": False},
            {"id": 3, "weight": 2.0, "is_copper": False, "is_null": True},
        ]
    (ranked,) = await t.rows(
        rank_by=["s", "BM25", "pot"], limit=9, include_attributes=["s"], compute_attributes=computed
    )
    assert set(ranked) == {"id", "$dist", "s", "weight", "is_copper", "is_null"}
    query = {"rank_by": ["id", "asc"], "limit": 1}
    await t.query_refused(
        400, "s", **query, include_attributes=["s"], compute_attributes={"s": computed["is_null"]}
    )
    await t.query_refused(400, "$", **query, compute_attributes={"$x": computed["is_null"]})
    await t.query_refused(
        400, "256", **query, compute_attributes={f"c{n}": computed["is_null"] for n in range(257)}
    )
    await t.query_refused(400, "nowhere", **query, compute_attributes={"x": ["nowhere", "Eq", 1]})


@scenario("C-02")
async def distances_are_computed(t: Trial) -> None:
    target = [1.0, 0.0]
    vectors = {1: [2.0, 0.0], 2: [2.0, 4.0]}
    for metric, wanted in ((EUCLIDEAN, [1.0, 17.0]), (COSINE, [0.0, 1 - 1 / math.sqrt(5)])):
        other = t.other(metric)
        await other.store(
            [{"id": n, "vector": v, "n": -n} for n, v in vectors.items()], distance_metric=metric
        )
        query = {"rank_by": ["n", "desc"], "limit": 9}
        rows = await other.rows(**query, compute_attributes={"d": ["vector", "VectorDist", target]})
        assert [row["id"] for row in rows] == [1, 2]
        assert abs(rows[0]["d"] - wanted[0]) < 1e-6
        assert close(rows[1]["d"], wanted[1])
        short = {"d": ["vector", "VectorDist", [1.0]]}
        await other.query_refused(400, "dimensions", **query, compute_attributes=short)
        for operator in ("ANN", "kNN"):
            ranking = {"d": ["vector", operator, target]}
            await other.query_refused(400, "", **query, compute_attributes=ranking)


@scenario("C-03")
async def a_computed_bm25_knows_only_its_row(t: Trial) -> None:
    await kettles(t)
    rows = await t.rows(
        rank_by=["id", "asc"], limit=9, compute_attributes={"score": ["s", "BM25", "copper kettle"]}
    )
    # no documents, an average length of one: two tokens of a text of two
    one = math.log(2) * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * 2))
    assert close(rows[0]["score"], 2 * one)
    assert rows[1]["score"] == 0
    assert not rows[2].get("score")


async def highlighted(t: Trial, **options: object) -> list[dict]:
    """What is highlighted in TEXT, in a query for copper and kettle."""
    (row,) = await t.rows(
        rank_by=["s", "BM25", "copper kettle"],
        limit=1,
        compute_attributes={"h": ["Highlight", "s", options] if options else ["Highlight", "s"]},
    )
    return row["h"]


@scenario("C-04")
async def fragments_are_ranked(t: Trial) -> None:
    schema = {"s": {"type": "string", "full_text_search": True}, "plain": "string"}
    await t.store([{"id": 1, "s": TEXT, "plain": "x"}], schema=schema)
    found = await highlighted(t)
    assert [set(fragment) for fragment in found] == [{"text"}] * len(found)
    sentences = {fragment["text"].strip() for fragment in found}
    assert sentences == {"The kettle is copper!", "An old copper kettle, a new kettle."}
    assert len(await highlighted(t, fragment_limit=1)) == 1
    (whole,) = await highlighted(t, fragment_by="none")
    assert whole["text"] == TEXT
    words = await highlighted(t, fragment_by="word", fragment_limit=10)
    assert sorted(fragment["text"] for fragment in words) == [
        "copper",
        "copper",
        "kettle",
        "kettle",
        "kettle",
    ]
    own = {"rank_fragments_by": ["$fragment", "BM25", "iron"]}
    assert [fragment["text"].strip() for fragment in await highlighted(t, **own)] == ["A pot of iron."]
    nothing = {"rank_fragments_by": ["$fragment", "BM25", "steel"]}
    assert await highlighted(t, **nothing) == []
    query = {"rank_by": ["s", "BM25", "copper"], "limit": 1}
    for status, expression in (
        (422, ["Highlight", "s", {"fragment_by": "chapter"}]),
        (422, ["Highlight", "s", {"colour": "red"}]),
        (422, ["Highlight", "s", {"include_offsets": "utf-32"}]),
        (400, ["Highlight", "s", {"fragment_limit": 0}]),
        (400, ["Highlight", "s", {"fragment_limit": 1025}]),
        (400, ["Highlight", "plain"]),
    ):
        await t.query_refused(status, **query, compute_attributes={"h": expression})
    without = {"rank_by": ["id", "asc"], "limit": 1, "compute_attributes": {"h": ["Highlight", "s"]}}
    await t.query_refused(400, **without)


@scenario("C-04")
async def paragraphs_are_fragments(t: Trial) -> None:
    schema = {"s": {"type": "string", "full_text_search": True}}
    await t.store([{"id": 1, "s": "An iron pot.\n\n  A copper kettle. New.  \nNothing."}], schema=schema)
    assert await highlighted(t, fragment_by="paragraph") == [{"text": "A copper kettle. New."}]


@scenario("C-05")
async def offsets_are_in_three_units(t: Trial) -> None:
    schema = {"s": {"type": "string", "full_text_search": True}}
    text = "Ä😀 pot. The copper kettle."
    await t.store([{"id": 1, "s": text}], schema=schema)
    start = text.index("The")
    for unit, width in (
        ("codepoints", len),
        ("utf-8", lambda part: len(part.encode())),
        ("utf-16", lambda part: len(part.encode("utf-16-le")) // 2),
    ):
        (fragment,) = await highlighted(t, include_offsets=unit)
        assert fragment["text"].strip() == "The copper kettle."
        first, last = fragment["fragment_range"]
        assert (first, last) == (width(text[:start]), width(text))
        assert fragment["match_ranges"] == [[4, 10], [11, 17]]
        assert "array_index" not in fragment


@scenario("C-05", "F-11")
async def fragments_of_arrays_name_their_element(t: Trial) -> None:
    schema = {"s": {"type": "[]string", "full_text_search": True}}
    await t.store([{"id": 1, "s": ["an iron pot", "a copper kettle"]}], schema=schema)
    (fragment,) = await highlighted(t, include_offsets="codepoints")
    assert fragment["text"] == "a copper kettle"
    assert fragment["array_index"] == 1
    assert fragment["match_ranges"] == [[2, 8], [9, 15]]
