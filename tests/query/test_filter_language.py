"""Filters in JSON: what they mean, and which refusal says what of which place."""

from __future__ import annotations

import pytest
from parts import schema_of

from elacsym.errors import InvalidRequest, InvalidShape, TypeMismatch
from elacsym.query.ast import And, Compare, Fuzzy, Glob, Not, Op, Or, RefNew, Regex, Tokens
from elacsym.query.check_filter import check_filter
from elacsym.query.language.filter import bound, parse_filter
from elacsym.types import Attribute, AttributeType, FullText

STRING = AttributeType.parse("string")
SCHEMA = schema_of(
    vector="[2]f32",
    weights="{}f16",
    late="[][2]f32",
    year="int",
    price="float",
    is_open="bool",
    born="datetime",
    guid="uuid",
    name="string",
    tags="[]string",
    marks="[]int",
    guids="[]uuid",
    empty="[]unknown",
    data=Attribute(AttributeType.parse("bytes"), filterable=False),
    hidden=Attribute(STRING, filterable=False),
    globbed=Attribute(STRING, filterable=False, glob=True),
    searched=Attribute(STRING, filterable=False, full_text=FullText()),
    regexed=Attribute(STRING, filterable=False, regex=True),
    fuzzied=Attribute(STRING, filterable=False, fuzzy=True),
)
FUZZY = {"max_edit_distance": [{"min_query_chars": 6, "distance": 1}]}


def compare(name, op, value, path="filters"):
    return Compare(name, op, value, path)


def test_comparisons_say_what_null_means():
    year = compare("year", Op.EQ, None)
    has_year = compare("year", Op.NE, None)
    assert parse_filter(["year", "Eq", 1], "filters") == compare("year", Op.EQ, 1)
    assert parse_filter(["year", "Eq", None], "filters") == year
    assert parse_filter(["year", "NotEq", None], "filters") == has_year
    assert parse_filter(["year", "Lt", 1], "filters") == Or((compare("year", Op.LT, 1), year))
    assert parse_filter(["year", "Lte", 1], "filters") == Or((compare("year", Op.LTE, 1), year))
    assert parse_filter(["year", "Gt", 1], "filters") == compare("year", Op.GT, 1)
    assert check(["year", "Lt", None]) == Or(())
    assert check(["year", "Lte", None]) == Compare("year", Op.EQ, None)
    assert check(["year", "Gt", None]) == Compare("year", Op.NE, None)
    assert check(["year", "Gte", None]) == And(())


@pytest.mark.parametrize(
    ("word", "op"),
    [
        ("In", Op.IN),
        ("NotIn", Op.NOT_IN),
        ("ContainsAny", Op.CONTAINS_ANY),
        ("NotContainsAny", Op.NOT_CONTAINS_ANY),
    ],
)
def test_lists_are_taken_as_they_are(word, op):
    assert parse_filter(["tags", word, ["a", "b"]], "filters") == compare("tags", op, ["a", "b"])
    assert parse_filter(["tags", word, []], "filters") == compare("tags", op, [])


def test_a_scalar_counts_as_a_list_of_one_for_in_only():
    assert parse_filter(["year", "In", 5], "filters") == compare("year", Op.IN, [5])
    assert parse_filter(["year", "NotIn", 5], "filters") == compare("year", Op.NOT_IN, [5])
    assert parse_filter(["tags", "ContainsAny", "a"], "filters") == compare("tags", Op.CONTAINS_ANY, "a")


def test_patterns_and_tokens_with_their_options():
    assert parse_filter(["name", "Glob", "a*"], "filters") == Glob("name", "a*", False, "filters")
    assert parse_filter(["name", "IGlob", "a*"], "filters") == Glob("name", "a*", True, "filters")
    assert parse_filter(["name", "NotIGlob", "a*"], "filters") == Not(Glob("name", "a*", True, "filters"))
    assert parse_filter(["name", "Regex", "a+"], "filters") == Regex("name", "a+", "filters")
    options = {**FUZZY, "case_sensitive": False}
    assert parse_filter(["name", "Fuzzy", "jonson", options], "f") == Fuzzy(
        "name", "jonson", ((6, 1),), False, "f"
    )
    assert parse_filter(["name", "Fuzzy", "jonson", FUZZY], "f").is_case_sensitive
    assert parse_filter(["t", "ContainsAllTokens", "a b"], "f") == Tokens("t", "a b", "all", False, "f")
    prefix = {"last_as_prefix": True}
    assert parse_filter(["t", "ContainsAnyToken", ["a", "b"], prefix], "f") == Tokens(
        "t", ("a", "b"), "any", True, "f"
    )
    assert parse_filter(["t", "ContainsTokenSequence", "a b"], "f") == Tokens(
        "t", "a b", "sequence", False, "f"
    )


def test_combinations_carry_the_paths_of_their_conditions():
    value = ["And", [["year", "Eq", 1], ["Not", ["Or", [["name", "Eq", "a"]]]]]]
    assert parse_filter(value, "filters") == And(
        (
            compare("year", Op.EQ, 1, "filters[1][0]"),
            Not(Or((compare("name", Op.EQ, "a", "filters[1][1][1][1][0]"),))),
        )
    )
    assert parse_filter(["And", []], "filters") == And(())
    assert parse_filter(["Or", []], "filters") == Or(())


@pytest.mark.parametrize("name", ["And", "Or", "Not", "Eq", "Sum", ""])
def test_an_attribute_may_be_called_like_an_operator(name):
    assert parse_filter([name, "Eq", 1], "filters") == compare(name, Op.EQ, 1)


@pytest.mark.parametrize(
    ("value", "field", "typed"),
    [
        ({"year": 1}, "filters", "invalid type: map, expected a sequence"),
        ("year", "filters", 'invalid type: string "year", expected a sequence'),
        ([], "filters", "invalid length 0"),
        (["year"], "filters", "invalid length 1"),
        (["year", "Eq"], "filters", "invalid length 2"),
        (["name", "Fuzzy", "jonson", FUZZY, 1], "filters", "invalid length 5"),
        ([1, "Eq", 1], "filters[0]", "invalid type: integer `1`, expected a string"),
        (["year", ["Eq"], 1], "filters[1]", "invalid type: sequence, expected a string"),
        (["year", "Like", 1], "filters[1]", "unknown variant `Like`, expected one of `Eq`, `NotEq`"),
        (["year", "eq", 1], "filters[1]", "unknown variant `eq`"),
        (["And", ["year", "Eq", 1]], "filters[1][0]", 'invalid type: string "year", expected a sequence'),
        (["And", {"year": 1}], "filters[1]", "invalid type: map, expected a sequence"),
        (["Not", []], "filters[1]", "invalid length 0"),
        (["year", "Eq", {"a": 1}], "filters[2]", "invalid type: map"),
        (["year", "Eq", {"$ref_new": "year"}], "filters[2]", "invalid type: map"),
        (["year", "In", None], "filters[2]", "invalid type: null"),
        (["year", "NotIn", [1, None]], "filters[2][1]", "invalid type: null"),
        (["tags", "ContainsAny", None], "filters[2]", "invalid type: null"),
        (["tags", "NotContainsAny", ["a", None]], "filters[2][1]", "invalid type: null"),
        (["tags", "Eq", ["a", ["b"]]], "filters[2][1]", "invalid type: sequence"),
        (["year", "In", [1, "a"]], "filters[2]", "several types: number, string"),
        (["is_open", "In", [True, 1]], "filters[2]", "several types: bool, number"),
        (["t", "ContainsAnyToken", ["a", 1]], "filters[2]", "several types"),
        (["t", "ContainsAnyToken", "a", True], "filters[3]", "invalid type: boolean `true`, expected a map"),
        (["t", "ContainsAnyToken", "a", {"last_as_prefix": 1}], "filters[3].last_as_prefix", "integer `1`"),
        (["t", "ContainsAnyToken", "a", {"prefix": True}], "filters[3].prefix", ""),
        (["n", "Fuzzy", "jonson", {}], "filters[3].max_edit_distance", "missing field `max_edit_distance`"),
        (["n", "Fuzzy", "jonson", {"max_edit_distance": 1}], "filters[3].max_edit_distance", "integer `1`"),
        (["n", "Fuzzy", "jonson", {**FUZZY, "case": True}], "filters[3].case", ""),
        (
            ["n", "Fuzzy", "jonson", {"max_edit_distance": [{"distance": 1}]}],
            "filters[3].max_edit_distance[0].min_query_chars",
            "missing field `min_query_chars`",
        ),
    ],
)
def test_wrong_shapes_are_refused_with_422(value, field, typed):
    with pytest.raises(InvalidShape) as caught:
        parse_filter(value, "filters")
    assert caught.value.status == 422
    assert caught.value.field == field
    assert typed in caught.value.typed


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (["year", "Eq", 1, {}], "filters[3]"),
        (["name", "Glob", "a", {}], "filters[3]"),
        (["t", "ContainsTokenSequence", "a", {"last_as_prefix": True}], "filters[3]"),
        (["n", "Fuzzy", "jonson"], "filters[3]"),
        (["n", "Fuzzy", "jonson", {"max_edit_distance": []}], "filters[3].max_edit_distance"),
        (
            ["n", "Fuzzy", "jonson", {"max_edit_distance": [{"min_query_chars": 12, "distance": 3}]}],
            "filters[3].max_edit_distance[0].distance",
        ),
        (
            ["n", "Fuzzy", "jonson", {"max_edit_distance": [{"min_query_chars": 12, "distance": -1}]}],
            "filters[3].max_edit_distance[0].distance",
        ),
        (
            ["n", "Fuzzy", "jonson", {"max_edit_distance": [{"min_query_chars": 5, "distance": 1}]}],
            "filters[3].max_edit_distance[0].min_query_chars",
        ),
    ],
)
def test_broken_rules_are_refused_with_400(value, field):
    with pytest.raises(InvalidRequest) as caught:
        parse_filter(value, "filters")
    assert (caught.value.status, caught.value.field) == (400, field)


def deep(levels, leaf):
    for _ in range(levels):
        leaf = ["Not", leaf]
    return leaf


def test_filters_nest_up_to_32_levels_whatever_null_means():
    check_filter(parse_filter(deep(32, ["year", "Lt", 1]), "filters"), SCHEMA)
    for levels in (33, 900):
        with pytest.raises(InvalidRequest, match="nested deeper than 32") as caught:
            parse_filter(deep(levels, ["year", "Lt", 1]), "delete_condition")
        assert caught.value.field == "delete_condition"


def test_a_filter_has_an_end():
    parse_filter(["Or", [["year", "Lt", 1]] * 9_999], "filters")
    with pytest.raises(InvalidRequest, match="more than 10000 conditions") as caught:
        parse_filter(["Or", [["And", [["year", "Lt", 1]] * 5_000]] * 2], "delete_condition")
    assert caught.value.field == "delete_condition"


def check(value, schema=SCHEMA):
    return check_filter(parse_filter(value, "filters"), schema)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["tags", "ContainsAny", "python"], "tags: ContainsAny expects []string, but got 'python'"),
        (["tags", "NotContainsAny", "python"], "tags: NotContainsAny expects []string, but got 'python'"),
        (["tags", "Contains", ["python", "c"]], "tags: Contains expects string, but got '[python, c]'"),
        (["tags", "NotContains", ["python", "c"]], "tags: NotContains expects string, but got '[python, c]'"),
        (["tags", "Contains", None], "tags: Contains expects string, but got 'null'"),
        (["tags", "NotContains", None], "tags: NotContains expects string, but got 'null'"),
        (["marks", "AnyLt", None], "marks: AnyLt expects int, but got 'null'"),
        (["marks", "AnyGte", [1]], "marks: AnyGte expects int, but got '[1]'"),
        (["marks", "Eq", 1], "marks: Eq expects []int, but got '1'"),
        (["year", "Eq", "a"], "year: Eq expects int, but got 'a'"),
        (["year", "Lt", 5.0], "year: Lt expects int, but got '5.0'"),
        (["year", "In", [5.5]], "year: In expects []int, but got '[5.5]'"),
        (["year", "NotEq", True], "year: NotEq expects int, but got 'true'"),
        (["year", "Gt", [1]], "year: Gt expects int, but got '[1]'"),
        (["born", "Gt", "yesterday"], "born: Gt expects datetime, but got 'yesterday'"),
        (["guid", "Eq", "no"], "guid: Eq expects uuid, but got 'no'"),
        (["guids", "ContainsAny", [1]], "guids: ContainsAny expects []uuid, but got '[1]'"),
        (["is_open", "Eq", 1], "is_open: Eq expects bool, but got '1'"),
        (["id", "Eq", "a"], "id: Eq expects uint, but got 'a'"),
        (["name", "Glob", 5], "name: Glob expects string, but got '5'"),
        (["name", "NotGlob", None], "name: NotGlob expects string, but got 'null'"),
        (["regexed", "Regex", ["a"]], "regexed: Regex expects string, but got '[a]'"),
        (["fuzzied", "Fuzzy", 1, FUZZY], "fuzzied: Fuzzy expects string, but got '1'"),
        (
            ["searched", "ContainsAllTokens", 1],
            "searched: ContainsAllTokens expects string or []string, but got '1'",
        ),
    ],
)
def test_operands_of_another_type_are_refused_with_the_text_that_clients_look_for(value, text):
    with pytest.raises(TypeMismatch) as caught:
        check(value)
    name, rest = text.split(": ", 1)
    assert str(caught.value) == f"filter error in key `{name}`: type mismatch, {rest}"
    assert (caught.value.status, caught.value.field) == (400, "filters")


@pytest.mark.parametrize(
    ("value", "name", "reason"),
    [
        (["nothing", "Eq", 1], "nothing", "attribute not found"),
        (["nothing", "Glob", "a"], "nothing", "attribute not found"),
        (["nothing", "Lt", None], "nothing", "attribute not found"),
        (["nothing", "ContainsAnyToken", "a"], "nothing", "attribute not found"),
        (["hidden", "Eq", "a"], "hidden", "attribute isn't filterable"),
        (["hidden", "Eq", None], "hidden", "attribute isn't filterable"),
        (["data", "Eq", None], "data", "attribute isn't filterable"),
        (["hidden", "Glob", "a"], "hidden", "attribute isn't filterable"),
        (["name", "Regex", "a"], "name", "Regex needs an attribute with `regex: true`"),
        (["name", "Fuzzy", "jonson", FUZZY], "name", "Fuzzy needs an attribute with `fuzzy: true`"),
        (["name", "ContainsAllTokens", "a"], "name", "ContainsAllTokens needs full-text search"),
        (["year", "Glob", "a"], "year", "Glob needs string or []string, but the attribute is of type int"),
        (["name", "Contains", "a"], "name", "Contains needs an array, but the attribute is of type string"),
        (["name", "NotContainsAny", ["a"]], "name", "NotContainsAny needs an array"),
        (["name", "AnyLt", "a"], "name", "AnyLt needs an array"),
        (["tags", "Lt", "a"], "tags", "Lt needs a scalar, but the attribute is of type []string"),
        (["vector", "Eq", [1.0, 0.0]], "vector", "[2]f32 is only compared with null"),
        (["weights", "Eq", 1], "weights", "{}f16 is only compared with null"),
        (["late", "Contains", None], "late", "[][2]f32 is only compared with null"),
        (["name", "Glob", "a["], "name", "invalid pattern 'a[': `[` without `]`"),
        (["globbed", "Glob", "{a"], "globbed", "invalid pattern"),
        (["regexed", "Regex", "(?=a)"], "regexed", "invalid pattern"),
        (["regexed", "Regex", "(a)\\1"], "regexed", "invalid pattern"),
        (["regexed", "Regex", "[a&&b]"], "regexed", "set operations"),
        (["name", "Glob", "\ud800"], "name", "lone surrogates"),
        (["searched", "ContainsAnyToken", "x" * 8_193], "searched", "8192 characters"),
        (["searched", "ContainsAnyToken", [""] * 8_194], "searched", "8192 characters"),
    ],
)
def test_what_does_not_fit_the_schema_is_refused_by_the_attribute(value, name, reason):
    with pytest.raises(InvalidRequest) as caught:
        check(["Or", [["year", "Eq", 1], value]])
    assert (caught.value.status, caught.value.field) == (400, "filters[1][1]")
    assert caught.value.reason.startswith(f"filter error in key `{name}`: ")
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["born", "Eq", "1970-01-01T01:00:00.0019+01:00"], Compare("born", Op.EQ, 1)),
        (["born", "Eq", "1970-01-02"], Compare("born", Op.EQ, 86_400_000)),
        (
            ["guid", "In", ["{" + "AB" * 16 + "}"]],
            Compare("guid", Op.IN, ("abababab-abab-abab-abab-abababababab",)),
        ),
        (["price", "Gt", 5], Compare("price", Op.GT, 5)),
        (["vector", "NotEq", None], Compare("vector", Op.NE, None)),
        (["weights", "Eq", None], Compare("weights", Op.EQ, None)),
        (["empty", "Eq", []], Compare("empty", Op.EQ, ())),
        (["empty", "Contains", "a"], Compare("empty", Op.CONTAINS, "a")),
        (["globbed", "Glob", "a*"], Glob("globbed", "a*")),
        (["name", "Glob", "a*"], Glob("name", "a*")),
        (["regexed", "Regex", "a+"], Regex("regexed", "a+")),
    ],
)
def test_checked_operands_are_in_their_stored_form(value, expected):
    checked = check(value)
    assert checked == expected
    assert check_filter(checked, SCHEMA) == expected


@pytest.mark.parametrize(
    ("id_type", "fits", "misfits"),
    [("uint", 5, "a"), ("string", "a", 5), ("uuid", "AB" * 16, "a"), (None, "a", True), (None, 5, None)],
)
def test_ids_are_compared_with_values_of_their_type(id_type, fits, misfits):
    schema = schema_of(id_type=id_type)
    assert check(["id", "In", [fits]], schema).field == "id"
    if misfits is not None:
        with pytest.raises(TypeMismatch):
            check(["id", "Eq", misfits], schema)


def test_conditions_may_refer_to_what_a_write_brings():
    value = ["Or", [["year", "Eq", None], ["year", "Lt", {"$ref_new": "rev"}]]]
    condition = parse_filter(value, "upsert_condition", allows_ref=True)
    first = Compare("year", Op.EQ, None, "upsert_condition[1][0]")
    path = "upsert_condition[1][1]"
    assert condition == Or((first, Compare("year", Op.LT, RefNew("rev"), path)))
    is_null = Compare("year", Op.EQ, None, path)
    assert bound(condition, {"rev": 7}) == Or((first, Or((Compare("year", Op.LT, 7, path), is_null))))
    nothing = Compare("year", Op.LT, None, path)
    assert bound(condition, {}) == Or((first, nothing))
    with pytest.raises(InvalidShape):
        parse_filter(["year", "Eq", {"$ref_old": "year"}], "upsert_condition", allows_ref=True)
    with pytest.raises(InvalidShape):
        parse_filter(["year", "Eq", {"$ref_new": 5}], "upsert_condition", allows_ref=True)


@pytest.mark.parametrize(
    ("op", "with_null"),
    [("Contains", "nothing"), ("In", "nothing"), ("NotIn", "all"), ("NotContains", "all")],
)
def test_references_to_nothing_hold_for_no_document_where_a_value_is_needed(op, with_null):
    condition = bound(parse_filter(["Not", ["tags", op, {"$ref_new": "tag"}]], "c", allows_ref=True), {})
    tests = Compare("tags", Op.EQ, None, "c[1]"), Compare("tags", Op.NE, None, "c[1]")
    assert condition == Not(And(tests) if with_null == "nothing" else Or(tests))


def test_a_reference_in_the_place_of_a_list_may_bring_a_scalar():
    condition = parse_filter(["year", "In", {"$ref_new": "year"}], "c", allows_ref=True)
    assert bound(condition, {"year": 7}) == Compare("year", Op.IN, [7], "c")
    assert bound(condition, {"year": [7, 8]}) == Compare("year", Op.IN, [7, 8], "c")


@pytest.mark.parametrize("word", ["Lt", "Lte", "Gt", "Gte"])
@pytest.mark.parametrize("name", ["tags", "embedding"])
def test_ranges_from_null_need_a_scalar_attribute(name, word):
    schema = schema_of(tags="[]string", embedding="[2]f32")
    with pytest.raises(InvalidRequest) as caught:
        check([name, word, None], schema)
    assert (caught.value.status, name in str(caught.value)) == (400, True)


@pytest.mark.parametrize(
    ("word", "value"), [("Eq", 5), ("Lt", 5), ("In", [5]), ("AnyGt", 5), ("Contains", 5)]
)
def test_numbers_are_no_times(word, value):
    is_array = word in ("AnyGt", "Contains")
    with pytest.raises(TypeMismatch):
        check(["at", word, value], schema_of(at="[]datetime" if is_array else "datetime"))


def test_a_time_that_a_write_brings_is_text():
    schema = schema_of(at="datetime", ats="[]datetime", rev="int")
    times = [f"1970-01-01T00:00:00.00{n}Z" for n in (5, 6)]
    condition = parse_filter(["at", "Gt", {"$ref_new": "at"}], "c", allows_ref=True)
    assert check_filter(bound(condition, {"at": times[0]}), schema) == Compare("at", Op.GT, 5)
    condition = parse_filter(["at", "In", {"$ref_new": "ats"}], "c", allows_ref=True)
    assert check_filter(bound(condition, {"ats": times}), schema) == Compare("at", Op.IN, (5, 6))
    condition = parse_filter(["at", "Gt", {"$ref_new": "rev"}], "c", allows_ref=True)
    with pytest.raises(TypeMismatch):
        check_filter(bound(condition, {"rev": 5}), schema)


@pytest.mark.parametrize("word", ["Glob", "IGlob", "Regex", "Fuzzy"])
def test_patterns_have_4096_characters_at_most(word):
    kind = AttributeType.parse("string")
    schema = schema_of(x=Attribute(kind, regex=True, glob=True, fuzzy=True))
    thresholds = {"max_edit_distance": [{"min_query_chars": 3, "distance": 0}]}
    options = [thresholds] if word == "Fuzzy" else []
    check(["x", word, "a" * 4_096, *options], schema)
    with pytest.raises(InvalidRequest, match="4097 characters, at most 4096"):
        check(["x", word, "a" * 4_097, *options], schema)
