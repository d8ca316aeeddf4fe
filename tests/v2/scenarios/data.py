"""Ids, types and values."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from v2.scenarios.trial import EUCLIDEAN, Trial, scenario

BIG = 2**64 - 1
LOW_UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
HIGH_UUID = "F47AC10B-58CC-4372-A567-0E02B2C3D479"


@scenario("D-01", "H-07")
async def integer_ids_are_exact_up_to_64_bits(t: Trial) -> None:
    ids = [0, 1, 2**53, 2**53 + 1, 2**63, BIG]
    await t.store([{"id": n, "n": 1} for n in reversed(ids)])
    assert await t.ids(rank_by=["id", "asc"], limit=10) == ids
    assert await t.ids(rank_by=["id", "desc"], limit=10) == ids[::-1]
    assert await t.found("id", "Gt", 2**53) == [2**53 + 1, 2**63, BIG]
    assert await t.found("id", "In", [BIG, 0]) == [0, BIG]
    answer = await t.write(deletes=[2**53], return_affected_ids=True)
    assert answer["deleted_ids"] == [2**53]
    assert await t.found("id", "Lte", 2**53 + 1) == [0, 1, 2**53 + 1]


@scenario("D-01", "H-03")
async def integer_ids_are_never_negative_or_fractional(t: Trial) -> None:
    # larger numbers than 2^64 - 1 the client cannot write
    for bad in (-1, 1.5):
        await t.refused(422, "", upsert_rows=[{"id": bad, "n": 1}])
    assert not await t.exists()


@scenario("D-02")
async def string_ids_are_ordered_by_their_bytes(t: Trial) -> None:
    ids = ["", "10", "9", "A", "a", "a" * 64, "ä", "日本", "😀"]
    await t.store([{"id": n, "n": 1} for n in reversed(ids)])
    assert await t.ids(rank_by=["id", "asc"], limit=20) == ids
    assert await t.found("id", "Gte", "a") == ["a", "a" * 64, "ä", "日本", "😀"]
    await t.refused(400, "64", upsert_rows=[{"id": "a" * 65, "n": 1}])
    await t.refused(400, "64", upsert_rows=[{"id": "é" * 33, "n": 1}])
    assert (await t.schema())["id"]["type"] == "string"


@scenario("D-03", "D-04", "X-12")
async def uuid_ids_have_one_spelling(t: Trial) -> None:
    low, high = LOW_UUID.upper(), HIGH_UUID.replace("-", "")
    await t.store([{"id": high, "n": 2}, {"id": low, "n": 1}], schema={"id": "uuid"})
    assert await t.ids(rank_by=["id", "asc"], limit=9) == [LOW_UUID, HIGH_UUID.lower()]
    assert await t.found("id", "Eq", f"{{{low}}}") == [LOW_UUID]
    await t.store([{"id": UUID(HIGH_UUID), "n": 3}])
    assert await t.found("n", "Eq", 3) == [HIGH_UUID.lower()]
    await t.refused(400, "", upsert_rows=[{"id": low, "n": 1}, {"id": LOW_UUID, "n": 2}])
    await t.refused(400, "", upsert_rows=[{"id": "no uuid", "n": 1}])
    await t.refused(400, "", upsert_rows=[{"id": 7, "n": 1}])
    answer = await t.write(deletes=[low], return_affected_ids=True)
    assert answer["deleted_ids"] == [LOW_UUID]
    assert (await t.schema())["id"]["type"] == "uuid"


@scenario("D-02", "D-03")
async def what_looks_like_a_uuid_is_a_string_unless_declared(t: Trial) -> None:
    await t.store([{"id": LOW_UUID.upper(), "n": 1}])
    assert (await t.documents())[0]["id"] == LOW_UUID.upper()
    assert (await t.schema())["id"]["type"] == "string"


@scenario("D-04")
async def a_namespace_has_one_type_of_id_and_a_write_no_id_twice(t: Trial) -> None:
    await t.refused(400, "", upsert_rows=[{"id": 1, "n": 1}, {"id": "a", "n": 1}])
    assert not await t.exists()
    await t.store([{"id": 1, "n": 1}])
    await t.refused(400, "", upsert_rows=[{"id": "2", "n": 1}])
    await t.refused(400, "", deletes=["2"])
    await t.refused(400, "", patch_rows=[{"id": "2", "n": 1}])
    for twice in (
        {"upsert_rows": [{"id": 2, "n": 1}, {"id": 2, "n": 2}]},
        {"upsert_columns": {"id": [2, 3, 2], "n": [1, 2, 3]}},
        {"upsert_rows": [{"id": 2, "n": 1}], "deletes": [2]},
        {"upsert_rows": [{"id": 2, "n": 1}], "patch_rows": [{"id": 2, "n": 2}]},
        {"patch_rows": [{"id": 1, "n": 1}], "deletes": [1]},
        {"upsert_rows": [{"id": 2, "n": 1}], "upsert_columns": {"id": [2], "n": [2]}},
        {"deletes": [1, 1]},
    ):
        await t.refused(400, "", **twice)
    assert await t.documents() == [{"id": 1, "n": 1}]


@scenario("D-05", "H-07")
async def strings_integers_and_booleans_come_back(t: Trial) -> None:
    rows = [
        {"id": 1, "text": "", "number": -(2**63), "flag": False},
        {"id": 2, "text": 'quotes " and \\, a line\nbreak, 😀', "number": 2**63 - 1, "flag": True},
        {"id": 3, "text": "null\u0000byte", "number": 0, "flag": True},
    ]
    await t.store(rows)
    assert await t.documents() == rows
    types = {name: entry["type"] for name, entry in (await t.schema()).items()}
    assert types == {"id": "uint", "text": "string", "number": "int", "flag": "bool"}
    assert await t.found("flag", "Eq", True) == [2, 3]
    assert await t.found("number", "Lt", 0) == [1]
    assert await t.ids(rank_by=["flag", "asc"], limit=9) == [1, 2, 3]
    assert await t.ids(rank_by=["text", "desc"], limit=9) == [2, 3, 1]
    for bad in (
        {"text": 1},
        {"number": "1"},
        {"number": 1.5},
        {"number": 1.0},
        {"flag": 1},
        {"number": 2**63},
    ):
        await t.refused(400, next(iter(bad)), upsert_rows=[{"id": 4} | bad])


@scenario("D-06")
async def unsigned_integers_floats_and_uuids_are_declared(t: Trial) -> None:
    schema = {"u": "uint", "f": "float", "key": "uuid"}
    await t.store(
        [
            {"id": 1, "u": 2**64 - 1, "f": 0.1, "key": HIGH_UUID},
            {"id": 2, "u": 0, "f": 3, "key": LOW_UUID.replace("-", "")},
        ],
        schema=schema,
    )
    assert await t.documents() == [
        {"id": 1, "u": 2**64 - 1, "f": 0.1, "key": HIGH_UUID.lower()},
        {"id": 2, "u": 0, "f": 3.0, "key": LOW_UUID},
    ]
    assert {n: e["type"] for n, e in (await t.schema()).items()} == {"id": "uint"} | schema
    assert await t.found("u", "Gt", 2**63) == [1]
    assert await t.found("f", "Gte", 3) == [2]
    assert await t.found("key", "Eq", LOW_UUID.upper()) == [2]
    assert await t.found("key", "Lt", HIGH_UUID) == [2]
    assert await t.ids(rank_by=["key", "asc"], limit=9) == [2, 1]
    for bad in ({"u": -1}, {"u": 1.5}, {"f": "1"}, {"key": "nothing"}, {"key": 7}):
        await t.refused(400, next(iter(bad)), upsert_rows=[{"id": 3} | bad])


@scenario("D-07", "X-12")
async def datetimes_have_milliseconds_and_one_spelling(t: Trial) -> None:
    spellings = {
        1: ("2024-03-02", "2024-03-02T00:00:00.000000000Z"),
        2: ("2024-03-02T04:05:06", "2024-03-02T04:05:06.000000000Z"),
        3: ("2024-03-02T04:05:06.789654Z", "2024-03-02T04:05:06.789000000Z"),
        4: ("2024-03-02T04:05:06+02:00", "2024-03-02T02:05:06.000000000Z"),
        5: (datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC), "1969-12-31T23:59:59.500000000Z"),
        6: ("2024-03-02 04:05:06-01:30", "2024-03-02T05:35:06.000000000Z"),
    }
    rows = [{"id": n, "at": given} for n, (given, _) in spellings.items()]
    await t.store(rows, schema={"at": "datetime"})
    shown = {row["id"]: row["at"] for row in await t.documents()}
    assert shown == {n: out for n, (_, out) in spellings.items()}
    assert await t.ids(rank_by=["at", "asc"], limit=9) == [5, 1, 4, 2, 3, 6]
    assert await t.found("at", "Eq", "2024-03-02T03:05:06+01:00") == [4]
    assert await t.found("at", "Gte", datetime(2024, 3, 2, 4, 5, 6, tzinfo=UTC)) == [2, 3, 6]
    assert await t.found("at", "In", ["2024-03-02", "1969-12-31T23:59:59.5"]) == [1, 5]
    for bad in ("tomorrow", "2024-13-01", 1709337600000):
        await t.refused(400, "at", upsert_rows=[{"id": 9, "at": bad}])
    await t.query_refused(400, "at", filters=["at", "Eq", "tomorrow"], limit=1)


@scenario("D-08")
async def bytes_are_base64_and_neither_filtered_nor_ordered(t: Trial) -> None:
    await t.store([{"id": 1, "b": "AAECAw=="}, {"id": 2, "b": ""}], schema={"b": "bytes"})
    assert await t.documents() == [{"id": 1, "b": "AAECAw=="}, {"id": 2, "b": ""}]
    await t.refused(400, "b", upsert_rows=[{"id": 3, "b": "not base64!"}])
    await t.refused(400, "b", upsert_rows=[{"id": 3, "b": 7}])
    await t.query_refused(400, "b", filters=["b", "Eq", "AAECAw=="], limit=1)
    await t.query_refused(400, "b", rank_by=["b", "asc"], limit=1)
    await t.refused(400, "b", schema={"b": {"type": "bytes", "filterable": True}})


@scenario("D-09")
async def arrays_keep_order_and_repeats(t: Trial) -> None:
    inferred = {"words": ["b", "a", "b"], "numbers": [3, -1, 3], "flags": [True, False, True]}
    declared = {
        "u": ("[]uint", [2**64 - 1, 0]),
        "f": ("[]float", [0.5, 1.0]),
        "keys": ("[]uuid", [HIGH_UUID.lower(), LOW_UUID]),
        "times": ("[]datetime", ["2024-03-02T00:00:00.000000000Z", "2020-01-01T00:00:00.000000000Z"]),
    }
    values = inferred | {name: value for name, (_, value) in declared.items()}
    await t.store([{"id": 1} | values], schema={name: kind for name, (kind, _) in declared.items()})
    assert await t.documents() == [{"id": 1} | values]
    types = {name: entry["type"] for name, entry in (await t.schema()).items()}
    assert types["words"] == "[]string"
    assert types["numbers"] == "[]int"
    assert types["flags"] == "[]bool"
    for name, value in values.items():
        assert await t.found(name, "Contains", value[0]) == [1], name
        await t.query_refused(400, name, rank_by=[name, "asc"], limit=1)
    await t.refused(400, "words", upsert_rows=[{"id": 2, "words": ["a", None]}])
    await t.refused(400, "words", upsert_rows=[{"id": 2, "words": ["a", 1]}])
    await t.refused(400, "words", upsert_rows=[{"id": 2, "words": "a"}])


@scenario("D-09", "D-10", "S-01")
async def empty_arrays_are_values_of_a_type_that_comes_later(t: Trial) -> None:
    await t.store([{"id": 1, "tags": []}, {"id": 2, "n": 1}])
    assert (await t.schema())["tags"]["type"] == "[]unknown"
    assert await t.documents() == [{"id": 1, "tags": []}, {"id": 2, "n": 1}]
    assert await t.found("tags", "Eq", None) == [2]
    await t.store([{"id": 3, "tags": [5]}])
    assert (await t.schema())["tags"]["type"] == "[]int"
    await t.refused(400, "tags", upsert_rows=[{"id": 4, "tags": ["a"]}])
    assert (await t.documents())[0] == {"id": 1, "tags": []}


@scenario("D-10")
async def null_is_the_same_as_nothing(t: Trial) -> None:
    await t.store([{"id": 1, "a": None, "b": 1}, {"id": 2, "a": "x"}, {"id": 3, "c": None}])
    rows = await t.documents()
    assert rows == [{"id": 1, "b": 1}, {"id": 2, "a": "x"}, {"id": 3}]
    assert set(await t.schema()) == {"id", "a", "b"}
    assert await t.found("a", "Eq", None) == [1, 3]
    assert await t.rows(filters=["id", "Eq", 1], limit=1, include_attributes=["a"]) == [{"id": 1}]


@scenario("D-11")
async def names_and_values_have_limits(t: Trial) -> None:
    await t.store([{"id": 1, "a" * 128: 1, "naïve name": "x" * 4096}])
    await t.refused(400, "128", upsert_rows=[{"id": 2, "a" * 129: 1}])
    await t.refused(400, "$", upsert_rows=[{"id": 2, "$price": 1}])
    await t.refused(400, "", upsert_rows=[{"id": 2, "": 1}])
    await t.refused(400, "naïve name", upsert_rows=[{"id": 2, "naïve name": "x" * 4097}])
    await t.refused(400, "1024", upsert_rows=[{"id": 2} | {f"a{n}": 1 for n in range(1025)}])
    unfilterable = {"long": {"type": "string", "filterable": False}}
    await t.store([{"id": 2, "long": "x" * 5000}], schema=unfilterable)
    await t.refused(400, "long", upsert_rows=[{"id": 3, "long": "x" * (8 * 2**20 + 1)}])
    assert len((await t.documents())[1]["long"]) == 5000


@scenario("D-11", "V-07")
async def vectors_have_limits(t: Trial) -> None:
    wide = {"v": {"type": "[10753]f32", "ann": True}}
    await t.refused(400, "10752", upsert_rows=[{"id": 1, "n": 1}], schema=wide, distance_metric=EUCLIDEAN)
    nine = {f"v{n}": {"type": "[1]f32", "ann": True} for n in range(9)}
    row = {"id": 1} | {name: [1.0] for name in nine}
    await t.refused(400, "8", upsert_rows=[row], schema=nine, distance_metric=EUCLIDEAN)
    assert not await t.exists()
