"""Vectors of all kinds, on their way in and out."""

from __future__ import annotations

import base64
import struct

from v2.scenarios.trial import COSINE, EUCLIDEAN, Trial, scenario

IN_COSINE, IN_EUCLIDEAN = {"distance_metric": COSINE}, {"distance_metric": EUCLIDEAN}


def encoded(*numbers: float) -> str:
    """Base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def decoded(text: str) -> list[float]:
    """The numbers of such base64."""
    data = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


@scenario("V-01", "H-07", "S-10")
async def vectors_come_back_as_the_shortest_decimals(t: Trial) -> None:
    await t.store([{"id": 1, "vector": [1, 0.7]}, {"id": 2, "vector": [0.1, -3]}], **IN_EUCLIDEAN)
    rows = await t.rows(rank_by=["id", "asc"], limit=9, include_attributes=["vector"])
    assert rows == [{"id": 1, "vector": [1.0, 0.7]}, {"id": 2, "vector": [0.1, -3.0]}]
    entry = (await t.schema())["vector"]
    assert entry == {"type": "[2]f32", "filterable": None, "full_text_search": None, "ann": True}
    for bad, told in (([1.0], "vector"), ([1.0, 2.0, 3.0], "vector"), ([], "vector"), (None, "vector")):
        await t.refused(400, told, upsert_rows=[{"id": 3, "vector": bad}])
    await t.refused(400, "vector", upsert_rows=[{"id": 3, "n": 1}])


@scenario("V-02")
async def vectors_may_be_base64_in_rows_and_columns(t: Trial) -> None:
    await t.store(
        [{"id": 1, "vector": [0.5, 0.25]}, {"id": 2, "vector": encoded(1, 2)}], distance_metric=COSINE
    )
    await t.write(upsert_columns={"id": [3, 4, 5], "vector": [[0.5, 1], [1, 0.5], encoded(3, 4)]})
    rows = await t.rows(rank_by=["id", "asc"], limit=9, include_attributes=["vector"])
    assert [row["vector"] for row in rows] == [[0.5, 0.25], [1, 2], [0.5, 1], [1, 0.5], [3, 4]]
    near = await t.ids(rank_by=["vector", "ANN", encoded(1, 2)], limit=2)
    assert near[0] == 2
    three_bytes = base64.b64encode(b"abc").decode()
    for bad in (three_bytes, "no base64!", encoded(1), encoded(1, float("nan")), encoded(1, float("inf"))):
        await t.refused(400, "vector", upsert_rows=[{"id": 9, "vector": bad}])


@scenario("V-03")
async def a_column_of_vectors_may_be_one_flat_list(t: Trial) -> None:
    # the client makes one base64 string of it
    columns = {"id": [1, 2, 3], "vector": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]}
    await t.write(upsert_columns=columns, **IN_EUCLIDEAN)
    rows = await t.rows(rank_by=["id", "asc"], limit=9, include_attributes=["vector"])
    assert [row["vector"] for row in rows] == [[0.5, 1.0], [1.5, 2.0], [2.5, 3.0]]
    await t.refused(400, "vector", upsert_columns={"id": [4, 5], "vector": [0.5, 1.0, 1.5]})


@scenario("V-04", "V-05")
async def vectors_are_answered_as_base64_of_f32(t: Trial) -> None:
    schema = {"half": {"type": "[2]f16", "ann": True}}
    await t.store(
        [{"id": 1, "vector": [0.1, 2.0], "half": [0.1, 1.0]}], schema=schema, distance_metric=EUCLIDEAN
    )
    query = {"rank_by": ["id", "asc"], "limit": 1, "include_attributes": True}
    (row,) = await t.rows(vector_encoding="base64", **query)
    assert decoded(row["vector"]) == [0.10000000149011612, 2.0]
    assert decoded(row["half"]) == [0.0999755859375, 1.0]
    (row,) = await t.rows(vector_encoding="float", **query)
    assert row["vector"] == [0.1, 2.0]
    await t.query_refused(422, "", **query, extra_body={"vector_encoding": "hex"})


@scenario("V-05", "Q-01")
async def half_floats_are_rounded(t: Trial) -> None:
    schema = {"vector": {"type": "[2]f16", "ann": True}}
    await t.store(
        [{"id": 1, "vector": [0.1, 2049.0]}, {"id": 2, "vector": [1, 2]}],
        schema=schema,
        **IN_EUCLIDEAN,
    )
    (first, second) = await t.rows(rank_by=["id", "asc"], limit=9, include_attributes=["vector"])
    assert first["vector"] == [0.099975586, 2048.0]
    assert second["vector"] == [1.0, 2.0]
    scores = await t.scores(rank_by=["vector", "ANN", [1.0, 0.0]], limit=1)
    assert scores == [(2, 4.0)]
    assert (await t.schema())["vector"]["type"] == "[2]f16"
    await t.refused(400, "vector", upsert_rows=[{"id": 3, "vector": [1e6, 0.0]}])


@scenario("V-06")
async def bytes_as_vectors_take_whole_numbers(t: Trial) -> None:
    schema = {"vector": {"type": "[3]i8", "ann": True}}
    await t.store(
        [{"id": 1, "vector": [-128, 0, 127]}, {"id": 2, "vector": [1.0, 2.0, 3.0]}],
        schema=schema,
        **IN_EUCLIDEAN,
    )
    rows = await t.rows(rank_by=["id", "asc"], limit=9, include_attributes=["vector"])
    assert [row["vector"] for row in rows] == [[-128, 0, 127], [1, 2, 3]]
    assert await t.scores(rank_by=["vector", "ANN", [1, 2, 3.5]], limit=1) == [(2, 0.25)]
    for bad in ([128, 0, 0], [-129, 0, 0], [0.5, 0, 0]):
        await t.refused(400, "vector", upsert_rows=[{"id": 3, "vector": bad}])


@scenario("V-07", "S-10")
async def a_document_has_all_vectors_of_its_namespace(t: Trial) -> None:
    schema = {name: {"type": "[2]f32", "ann": True} for name in ("title", "body")}
    rows = [
        {"id": 1, "title": [1.0, 0.0], "body": [0.0, 1.0]},
        {"id": 2, "title": [0.0, 1.0], "body": [1.0, 0.0]},
    ]
    await t.store(rows, schema=schema, **IN_COSINE)
    assert await t.ids(rank_by=["title", "ANN", [1.0, 0.1]], limit=1) == [1]
    assert await t.ids(rank_by=["body", "ANN", [1.0, 0.1]], limit=1) == [2]
    assert await t.documents() == rows
    await t.refused(400, "body", upsert_rows=[{"id": 3, "title": [1.0, 0.0]}])
    entry = (await t.schema())["body"]
    assert entry == {"type": "[2]f32", "filterable": False, "full_text_search": None, "ann": True}


@scenario("V-08", "Q-07")
async def sparse_vectors_are_ranked_by_their_product(t: Trial) -> None:
    schema = {"s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}}
    await t.store(
        [
            {"id": 1, "s": {"17": 0.5, "40210": 1.25}},
            {"id": 2, "s": {"17": 2.0}},
            {"id": 3, "s": {"99": 4.0}},
            {"id": 4, "n": 1},
            {"id": 5, "s": {"17": 0.5, "40210": 1.25}},
        ],
        schema=schema,
    )
    scores = await t.scores(rank_by=["s", "SparseKNN", {"17": 2.0, "40210": 1.0, "5": 9.0}], limit=9)
    assert scores == [(2, 4.0), (1, 2.25), (5, 2.25)]
    (row,) = await t.rows(filters=["id", "Eq", 1], limit=1, include_attributes=["s"])
    assert row == {"id": 1, "s": {"17": 0.5, "40210": 1.25}}
    filtered = await t.ids(rank_by=["s", "SparseKNN", {"17": 1.0}], filters=["id", "NotEq", 2], limit=9)
    assert filtered == [1, 5]
    assert (await t.schema())["s"] == {"type": "{}f16", "filterable": False, "full_text_search": None}
    assert (await t.metadata())["schema"]["s"]["sparse_knn"] == {"distance_metric": "dot_product"}


@scenario("V-08", "D-11")
async def sparse_vectors_are_rounded_bounded_and_patched(t: Trial) -> None:
    schema = {"s": {"type": "{}f16", "sparse_knn": {"distance_metric": "dot_product"}}}
    await t.store([{"id": 1, "s": {"1": 0.1}}], schema=schema)
    assert (await t.documents())[0]["s"] in ({"1": 0.1}, {"1": 0.099975586}, {"1": 0.0999755859375})
    many = {str(n): 1.0 for n in range(1025)}
    await t.refused(400, "1024", upsert_rows=[{"id": 2, "s": many}])
    await t.store([{"id": 2, "s": dict(list(many.items())[:1024])}])
    await t.write(patch_rows=[{"id": 1, "s": {"7": 2.0}}])
    assert await t.scores(rank_by=["s", "SparseKNN", {"7": 1.0}], limit=9) == [(1, 2.0), (2, 1.0)]
    other = {"x": {"type": "{}f16", "sparse_knn": {"distance_metric": "cosine_distance"}}}
    await t.refused(422, "", schema=other, upsert_rows=[{"id": 3, "x": {"1": 1.0}}])


@scenario("V-09", "Q-06")
async def arrays_of_vectors_are_ranked_by_late_interaction(t: Trial) -> None:
    schema = {"m": {"type": "[][2]f32", "ann": {"distance_metric": EUCLIDEAN, "late_interaction": True}}}
    await t.store(
        [
            {"id": 1, "m": [[0.0, 0.0], [4.0, 0.0]]},
            {"id": 2, "m": [[1.0, 0.0]]},
            {"id": 3, "m": [[9.0, 9.0], [8.0, 8.0], [7.0, 7.0]]},
        ],
        schema=schema,
        **IN_EUCLIDEAN,
    )
    query = [[1.0, 0.0], [4.0, 1.0]]
    # document 1: 1 + 1, document 2: 0 + 10, document 3: (36 + 49) + (9 + 36)
    wanted = [(1, 2.0), (2, 10.0), (3, 130.0)]
    assert await t.scores(rank_by=["m", "ANN", query], limit=9) == wanted
    assert await t.scores(rank_by=["m", "kNN", query], filters=["id", "Gt", 1], limit=9) == wanted[1:]
    (row,) = await t.rows(filters=["id", "Eq", 1], limit=1, include_attributes=["m"])
    assert row["m"] == [[0.0, 0.0], [4.0, 0.0]]
    await t.refused(400, "m", upsert_rows=[{"id": 4, "m": [[1.0, 2.0, 3.0]]}])


@scenario("H-04", "H-05", "V-01", "V-02")
async def bodies_are_compressed_both_ways(t: Trial) -> None:
    packed = t.through(compression=True)
    vectors = {n: [n / 8] * 4096 for n in range(1, 4)}
    await packed.store([{"id": n, "vector": v} for n, v in vectors.items()], **IN_EUCLIDEAN)
    query = {"rank_by": ["vector", "ANN", vectors[2]], "limit": 3, "include_attributes": True}
    answer = await packed.raw("query", **query)
    assert answer.headers["content-encoding"] == "gzip"
    small = await packed.raw("query", rank_by=["id", "asc"], limit=1)
    assert "content-encoding" not in small.headers
    assert "content-encoding" not in (await t.raw("query", **query)).headers
    rows = await packed.rows(**query)
    assert [row["id"] for row in rows] == [2, 1, 3]
    assert {row["id"]: row["vector"] for row in rows} == vectors
    await packed.close()
