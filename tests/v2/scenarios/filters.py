"""Filters over scalars and arrays."""

from __future__ import annotations

from v2.scenarios.trial import EUCLIDEAN, Trial, scenario

NUMBERS = {1: 1, 2: 5, 3: None, 4: 9, 5: 5}
TAGS = {1: ["a", "b"], 2: ["b"], 3: None, 4: [], 5: ["c", "a", "a"]}
SIZES = {1: [1, 9], 2: [5], 3: None, 4: [], 5: [2, 3]}


async def numbered(t: Trial) -> None:
    """Five documents with numbers, tags, sizes; the third has none of them."""
    await t.store([{"id": n, "n": NUMBERS[n], "tags": TAGS[n], "sizes": SIZES[n]} for n in NUMBERS])


@scenario("X-01")
async def connectives(t: Trial) -> None:
    await numbered(t)
    five, low = ["n", "Eq", 5], ["id", "Lt", 3]
    assert await t.found("And", [five, low]) == [2]
    assert await t.found("Or", [five, low]) == [1, 2, 5]
    assert await t.found("Not", five) == [1, 3, 4]
    assert await t.found("Not", ["n", "Lt", 6]) == [4]
    assert await t.found("And", []) == [1, 2, 3, 4, 5]
    assert await t.found("Or", []) == []
    assert await t.found("And", [["Or", [five, ["Not", low]]], ["Not", ["n", "Eq", None]]]) == [2, 4, 5]
    assert await t.ids(filters=None, limit=9) == [1, 2, 3, 4, 5]
    for bad in (["And", five], ["Not"], ["Not", []], ["Xor", [five]], "n", [], ["n", "Eq"], {"n": 5}):
        await t.query_refused(422, filters=bad, limit=1)
    await t.query_refused(400, filters=["n", "Eq", 5, {"exactly": True}], limit=1)


@scenario("X-02", "D-10")
async def equality(t: Trial) -> None:
    await numbered(t)
    assert await t.found("n", "Eq", 5) == [2, 5]
    assert await t.found("n", "NotEq", 5) == [1, 3, 4]
    assert await t.found("n", "Eq", None) == [3]
    assert await t.found("n", "NotEq", None) == [1, 2, 4, 5]
    assert await t.found("tags", "Eq", ["a", "b"]) == [1]
    assert await t.found("tags", "Eq", ["b", "a"]) == []
    assert await t.found("tags", "Eq", []) == [4]
    assert await t.found("tags", "NotEq", ["b"]) == [1, 3, 4, 5]
    assert await t.found("id", "Eq", None) == []
    assert await t.found("id", "Eq", 3) == [3]


@scenario("X-02")
async def vectors_are_compared_with_null_only(t: Trial) -> None:
    await t.store([{"id": 1, "vector": [1.0, 0.0]}], distance_metric=EUCLIDEAN)
    assert await t.found("vector", "NotEq", None) == [1]
    assert await t.found("vector", "Eq", None) == []
    await t.query_refused(400, "vector", filters=["vector", "Eq", [1.0, 0.0]], limit=1)


@scenario("X-03")
async def membership(t: Trial) -> None:
    await numbered(t)
    assert await t.found("n", "In", [1, 9, 77]) == [1, 4]
    assert await t.found("n", "In", 5) == [2, 5]
    assert await t.found("n", "In", []) == []
    assert await t.found("n", "NotIn", [1, 9]) == [2, 3, 5]
    assert await t.found("n", "NotIn", []) == [1, 2, 3, 4, 5]
    assert await t.found("tags", "In", ["a"]) == [1, 5]
    assert await t.found("tags", "In", "b") == [1, 2]
    assert await t.found("tags", "NotIn", ["a"]) == [2, 3, 4]
    assert await t.found("id", "In", [2, 4, 6]) == [2, 4]
    assert await t.found("id", "NotIn", [2, 4, 6]) == [1, 3, 5]
    await t.query_refused(422, filters=["n", "In", [1, None]], limit=1)
    await t.query_refused(422, filters=["n", "NotIn", [1, None]], limit=1)
    await t.query_refused(422, filters=["n", "In", [1, "a"]], limit=1)


@scenario("X-04", "D-10")
async def ranges(t: Trial) -> None:
    await numbered(t)
    assert await t.found("n", "Lt", 5) == [1, 3]
    assert await t.found("n", "Lte", 5) == [1, 2, 3, 5]
    assert await t.found("n", "Gt", 5) == [4]
    assert await t.found("n", "Gte", 5) == [2, 4, 5]
    assert await t.found("n", "Lt", None) == []
    assert await t.found("n", "Lte", None) == [3]
    assert await t.found("n", "Gt", None) == [1, 2, 4, 5]
    assert await t.found("n", "Gte", None) == [1, 2, 3, 4, 5]
    assert await t.found("id", "Gt", 3) == [4, 5]
    assert await t.found("And", [["n", "Gt", 1], ["n", "Lt", 9]]) == [2, 5]
    await t.query_refused(400, "tags", filters=["tags", "Lt", "b"], limit=1)


@scenario("X-04", "D-02")
async def strings_compare_by_their_bytes(t: Trial) -> None:
    await t.store([{"id": n, "s": s} for n, s in enumerate(["Z", "a", "é", "😀", ""])])
    assert await t.found("s", "Lt", "a") == [0, 4]
    assert await t.found("s", "Gt", "a") == [2, 3]
    assert await t.found("s", "Gte", "é") == [2, 3]


@scenario("X-05", "X-11")
async def arrays_contain(t: Trial) -> None:
    await numbered(t)
    assert await t.found("tags", "Contains", "a") == [1, 5]
    assert await t.found("tags", "NotContains", "a") == [2, 3, 4]
    assert await t.found("sizes", "Contains", 5) == [2]
    for operator in ("Contains", "NotContains"):
        told = f"filter error in key `tags`: type mismatch, {operator} expects string, but got"
        await t.query_refused(400, told, filters=["tags", operator, ["a"]], limit=1)
        await t.query_refused(400, "tags", filters=["tags", operator, None], limit=1)
        await t.query_refused(400, "`n`", filters=["n", operator, 5], limit=1)


@scenario("X-06", "X-11")
async def arrays_contain_one_of_several(t: Trial) -> None:
    await numbered(t)
    assert await t.found("tags", "ContainsAny", ["b", "c"]) == [1, 2, 5]
    assert await t.found("tags", "NotContainsAny", ["b", "c"]) == [3, 4]
    assert await t.found("tags", "ContainsAny", []) == []
    assert await t.found("tags", "NotContainsAny", []) == [1, 2, 3, 4, 5]
    for operator in ("ContainsAny", "NotContainsAny"):
        told = f"filter error in key `tags`: type mismatch, {operator} expects []string, but got"
        await t.query_refused(400, told, filters=["tags", operator, "a"], limit=1)
        await t.query_refused(422, filters=["tags", operator, ["a", None]], limit=1)
        await t.query_refused(422, filters=["tags", operator, ["a", 1]], limit=1)
        await t.query_refused(400, "`n`", filters=["n", operator, [5]], limit=1)


@scenario("X-07")
async def some_element_compares(t: Trial) -> None:
    await numbered(t)
    assert await t.found("sizes", "AnyLt", 2) == [1]
    assert await t.found("sizes", "AnyLte", 2) == [1, 5]
    assert await t.found("sizes", "AnyGt", 5) == [1]
    assert await t.found("sizes", "AnyGte", 5) == [1, 2]
    assert await t.found("Not", ["sizes", "AnyGte", 5]) == [3, 4, 5]
    assert await t.found("tags", "AnyGt", "b") == [5]
    await t.query_refused(400, "sizes", filters=["sizes", "AnyLt", None], limit=1)
    await t.query_refused(400, "n", filters=["n", "AnyLt", 2], limit=1)


@scenario("X-11", "S-07")
async def operands_have_the_attributes_type(t: Trial) -> None:
    schema = {"f": "float", "u": "uint", "hidden": {"type": "string", "filterable": False}}
    row = {"id": 1, "s": "x", "n": 1, "b": True, "f": 2.0, "u": 3, "hidden": "x", "tags": ["x"]}
    await t.store([row], schema=schema)
    assert await t.found("f", "Eq", 2) == [1]
    for name, operand in (("s", 1), ("n", "1"), ("n", 1.0), ("n", 1.5), ("b", 1), ("b", "true")):
        told = f"filter error in key `{name}`: type mismatch, Eq expects"
        await t.query_refused(400, told, filters=[name, "Eq", operand], limit=1)
    await t.query_refused(400, "nowhere", filters=["nowhere", "Eq", 1], limit=1)
    await t.query_refused(400, "filterable", filters=["hidden", "Eq", "x"], limit=1)
    await t.query_refused(400, "id", filters=["id", "Eq", "1"], limit=1)
    await t.query_refused(400, "tags", filters=["tags", "Eq", "x"], limit=1)
    await t.query_refused(400, "s", filters=["s", "Eq", ["x"]], limit=1)
    await t.query_refused(422, filters=["s", "Equals", "x"], limit=1)


@scenario("X-12", "D-06", "D-07")
async def operands_are_converted(t: Trial) -> None:
    key = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
    schema = {"key": "uuid", "at": "datetime", "keys": "[]uuid", "times": "[]datetime"}
    time = "2024-03-02T04:05:06Z"
    await t.store([{"id": 1, "key": key, "at": time, "keys": [key], "times": [time]}], schema=schema)
    spelt, moved = key.upper().replace("-", ""), "2024-03-02T06:05:06+02:00"
    for name, operand in (("key", spelt), ("at", moved)):
        assert await t.found(name, "Eq", operand) == [1]
        assert await t.found(name, "In", [operand]) == [1]
        assert await t.found(name, "Lte", operand) == [1]
    for name, operand in (("keys", spelt), ("times", moved)):
        assert await t.found(name, "Contains", operand) == [1]
        assert await t.found(name, "Eq", [operand]) == [1]
        assert await t.found(name, "AnyGte", operand) == [1]
    await t.query_refused(400, "key", filters=["key", "Eq", "none"], limit=1)
    await t.query_refused(400, "at", filters=["at", "Gt", "none"], limit=1)


@scenario("X-01", "X-04", "A-01")
async def filters_count_and_delete_alike(t: Trial) -> None:
    await numbered(t)
    condition = ["Or", [["n", "Lt", 5], ["tags", "Contains", "c"]]]
    found = await t.found(*condition)
    assert found == [1, 3, 5]
    counted = await t.query(aggregate_by={"rows": ["Count"]}, filters=condition)
    assert counted["aggregations"] == {"rows": 3}
    assert (await t.write(delete_by_filter=condition))["rows_deleted"] == 3
    assert await t.ids(limit=9) == [2, 4]
