"""Glob, Regex, Fuzzy."""

from __future__ import annotations

from v2.scenarios.trial import Trial, scenario

PATHS = {1: "src/main.py", 2: "src/lib/Main.PY", 3: "README", 4: None, 5: "a*b", 6: "ab\ncd", 7: "日本語.txt"}


async def paths(t: Trial, **options: object) -> None:
    """Documents with a string each."""
    schema = {"s": {"type": "string"} | options}
    await t.store([{"id": n, "s": s} for n, s in PATHS.items()], schema=schema)


@scenario("X-08")
async def globs_match_the_whole_value(t: Trial) -> None:
    await paths(t)
    for pattern, wanted in (
        ("src/*", [1, 2]),
        ("*.py", [1]),
        ("README", [3]),
        ("READ", []),
        ("*", [1, 2, 3, 5, 6, 7]),
        ("a\\*b", [5]),
        ("???.txt", [7]),
        ("*[mM]ain*", [1, 2]),
        ("*[!a-z]", [2, 3]),
        ("*.{py,txt}", [1, 7]),
        ("ab?cd", [6]),
        ("", []),
    ):
        assert await t.found("s", "Glob", pattern) == wanted, pattern
    assert await t.found("s", "IGlob", "*.py") == [1, 2]
    assert await t.found("s", "NotGlob", "*.py") == [2, 3, 4, 5, 6, 7]
    assert await t.found("s", "NotIGlob", "*.py") == [3, 4, 5, 6, 7]
    for bad in ("[a", "{a,b"):
        await t.query_refused(400, "s", filters=["s", "Glob", bad], limit=1)
    await t.query_refused(400, "s", filters=["s", "Glob", 7], limit=1)


@scenario("X-08", "D-09")
async def globs_match_some_element(t: Trial) -> None:
    schema = {"tags": {"type": "[]string", "glob": True}}
    await t.store(
        [{"id": 1, "tags": ["red", "blue"]}, {"id": 2, "tags": ["green"]}, {"id": 3}], schema=schema
    )
    assert await t.found("tags", "Glob", "b*") == [1]
    assert await t.found("tags", "NotGlob", "b*") == [2, 3]
    await t.store([{"id": 4, "n": 1}])
    await t.query_refused(400, "n", filters=["n", "Glob", "*"], limit=1)


@scenario("X-09")
async def regular_expressions_match_somewhere(t: Trial) -> None:
    await paths(t, regex=True)
    for pattern, wanted in (
        ("main", [1]),
        ("(?i)main", [1, 2]),
        ("^src/[a-z]+/", [2]),
        (r"\.(py|txt)$", [1, 7]),
        (r"\p{Han}{2}", [7]),
        (r"^[A-Z]+$", [3]),
        ("b\nc", [6]),
        ("", [1, 2, 3, 5, 6, 7]),
    ):
        assert await t.found("s", "Regex", pattern) == wanted, pattern
    for bad in ("(", "a(?=b)", r"(a)\1"):
        await t.query_refused(400, "s", filters=["s", "Regex", bad], limit=1)
    await t.query_refused(400, "s", filters=["s", "Eq", "README"], limit=1)
    plain = t.other("plain")
    await paths(plain)
    await plain.query_refused(400, "regex", filters=["s", "Regex", "main"], limit=1)


@scenario("X-10")
async def fuzzy_finds_a_substring_within_a_distance(t: Trial) -> None:
    names = {1: "Jonathan Johnson", 2: "jonsson", 3: "Jahnsen", 4: None, 5: "son"}
    schema = {"name": {"type": "string", "fuzzy": True}}
    await t.store([{"id": n, "name": s} for n, s in names.items()], schema=schema)

    async def fuzzy(text: str, *thresholds: tuple[int, int], **options: object) -> list[int]:
        limits = [{"min_query_chars": chars, "distance": distance} for chars, distance in thresholds]
        return await t.found("name", "Fuzzy", text, {"max_edit_distance": limits} | options)

    assert await fuzzy("jonson", (6, 1)) == [2]
    assert await fuzzy("jonson", (6, 1), case_sensitive=False) == [1, 2]
    assert await fuzzy("Johnson", (3, 0)) == [1]
    assert await fuzzy("Johnson", (3, 0), (6, 1)) == [1]
    assert await fuzzy("Johnsen", (3, 0), (6, 1)) == [1, 3]
    # shorter than every threshold
    assert await fuzzy("son", (6, 1)) == []
    assert await fuzzy("son", (3, 0)) == [1, 2, 5]
    for bad in (
        {"max_edit_distance": []},
        {"max_edit_distance": [{"min_query_chars": 12, "distance": 3}]},
        {"max_edit_distance": [{"min_query_chars": 5, "distance": 1}]},
    ):
        await t.query_refused(400, "", filters=["name", "Fuzzy", "johnson", bad], limit=1)
    plain = t.other("plain")
    await plain.store([{"id": 1, "name": "x"}])
    limits = {"max_edit_distance": [{"min_query_chars": 3, "distance": 0}]}
    await plain.query_refused(400, "fuzzy", filters=["name", "Fuzzy", "johnson", limits], limit=1)
