"""Patterns on texts: globs as regular expressions, what expressions are refused, and edit distances."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index.sources import driven
from parts import FilePart, schema_of
from support.edits import least_edits

from elacsym.query import edits
from elacsym.query.ast import Fuzzy, Glob, Regex
from elacsym.query.edits import has_near
from elacsym.query.filters import matches
from elacsym.query.patterns import _CLASS, check_expression, distance_of, fits, glob_expression


def globbed(pattern, *texts, **more):
    return [
        text
        for text, fit in zip(texts, fits(Glob("x", pattern, **more), pa.array(texts)), strict=True)
        if fit
    ]


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("", [""], ["a"]),
        ("a*", ["a", "ab", "a/b\nc"], ["ba", ""]),
        ("**", ["", "abc"], []),
        ("a?c", ["abc", "a/c", "a😀c"], ["ac", "abbc"]),
        ("[abc]", ["a", "c"], ["d", "", "ab"]),
        ("[a-c]x", ["bx"], ["dx", "-x"]),
        ("[!a-c]", ["d", "é", "-"], ["a", ""]),
        ("[^a]", ["b"], ["a"]),
        ("[]]", ["]"], ["["]),
        ("[!]]", ["["], ["]"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[a\\-c]", ["-", "a", "c"], ["b"]),
        ("[\\]x]", ["]", "x"], ["\\"]),
        ("[[:alpha:]]", [":]", "a]"], ["b"]),
        ("[&&^]", ["&", "^"], []),
        ("{one,two}", ["one", "two"], ["three", "one,two"]),
        ("{a,b{c,d}}x", ["ax", "bcx", "bdx"], ["bx"]),
        ("{,a}b", ["b", "ab"], ["aab"]),
        ("a,b", ["a,b"], ["a"]),
        ("\\*\\?\\[\\{\\\\", ["*?[{\\"], ["a"]),
        ("(a|b).$^+", ["(a|b).$^+"], ["a"]),
        ("\\n", ["n"], ["\n"]),
    ],
)
def test_a_glob_matches_whole_texts(pattern, fitting, others):
    assert globbed(pattern, *fitting, *others) == fitting


def test_a_glob_may_ignore_case():
    assert globbed("ÄB[c-d]*", "äbD", "ÄBcé", "ab", ignores_case=True) == ["äbD", "ÄBcé"]


@pytest.mark.parametrize(
    "pattern", ["[", "[]", "[!", "[a", "a\\", "[\\", "{", "{a", "{a,{b}", "}", "a}b", "[z-a]"]
)
def test_globs_that_do_not_end_are_refused(pattern):
    with pytest.raises(ValueError, match=r"without|follows|empty"):
        glob_expression(pattern)


@given(st.text(alphabet="ab*?[]!{},\\-^.é😀", max_size=12))
def test_every_glob_that_is_taken_is_an_expression_that_is_taken(pattern):
    try:
        expression = glob_expression(pattern)
    except ValueError:
        return
    check_expression(expression)
    fits(Glob("x", pattern), pa.array(["a", None, ""]))


@given(st.text(alphabet="ab*?", max_size=6), st.text(alphabet="ab\n", max_size=6))
def test_globs_match_as_the_same_expression_of_the_standard_library(pattern, text):
    expected = re.fullmatch(pattern.replace("*", ".*").replace("?", "."), text, re.DOTALL)
    assert bool(globbed(pattern, text)) == (expected is not None)


@pytest.mark.parametrize(
    "expression",
    [
        "(", "a**", "[a", "(?=a)", "(?!a)", "(?<=a)b", "(a)\\1", "a{1001}", "(a{1000}){1000}", "[a-z&&[^b]]",
        "[x[^y]]", "[a--b]", "[a~~b]", "(?x) a", "\\u{61}", "\\p{Alphabetic}", "\\",
    ],
)  # fmt: skip
def test_expressions_that_are_not_linear_or_meant_otherwise_are_refused(expression, capfd):
    with pytest.raises(ValueError):
        check_expression(expression)
    assert capfd.readouterr().err == "", "nothing is printed"


@pytest.mark.parametrize(
    ("expression", "fitting"),
    [
        ("b", ["abc"]),
        ("^b", []),
        ("(?i)ABC", ["abc"]),
        ("\\pL{3}", ["abc", "äöü"]),
        ("[[:digit:]]", ["a1"]),
        ("\\[|[&]", ["[", "&&"]),
        ("[^a-z[:digit:]äöü]", ["[", "&&"]),
        ("^$", [""]),
        ("a|(?P<name>ö)", ["abc", "a1", "äöü"]),
    ],
)
def test_an_expression_matches_anywhere(expression, fitting):
    texts = ["abc", "a1", "äöü", "[", "&&", "", None]
    check_expression(expression)
    found = fits(Regex("x", expression), pa.array(texts))
    assert [text for text, fit in zip(texts, found, strict=True) if fit] == fitting


def test_an_expression_that_would_backtrack_forever_takes_linear_time():
    assert not fits(Regex("x", "^(a|a)*(a|a)*(a|a)*b$"), pa.array(["a" * 200_000])).any()


@st.composite
def near_texts(draw):
    """A query, a distance, and texts of which many contain the query with some edits."""
    distance = draw(st.integers(0, 2))
    alphabet = draw(st.sampled_from(["ab", "abcdé😀"]))
    query = draw(st.text(alphabet, min_size=3 * (distance + 1), max_size=20))
    texts: list[str | None] = [None]
    for _ in range(draw(st.integers(0, 6))):
        signs = list(query)
        for _ in range(draw(st.integers(0, 4))):
            place = draw(st.integers(0, max(0, len(signs) - 1)))
            signs[place : place + draw(st.integers(0, 1))] = draw(st.text(alphabet, max_size=1))
        texts.append(
            draw(st.text(alphabet, max_size=3)) + "".join(signs) + draw(st.text(alphabet, max_size=3))
        )
    texts += draw(st.lists(st.text(alphabet, max_size=12), max_size=4))
    return query, distance, texts


@given(near_texts())
def test_a_text_is_near_if_a_substring_is_within_the_distance(case):
    query, distance, texts = case
    expected = [text is not None and least_edits(query, text) <= distance for text in texts]
    assert has_near(pa.array(texts, pa.string()), query, distance).tolist() == expected


@given(near_texts())
def test_texts_and_places_may_be_looked_at_in_any_portions(case):
    query, distance, texts = case
    array = pa.array(texts, pa.string())
    whole = has_near(array, query, distance).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edits, "_CHARACTERS_MAX", 7)
        patch.setattr(edits, "_PLACES_MAX", 2)
        patch.setattr(edits, "_PRUNED_EVERY", 1)
        assert has_near(array, query, distance).tolist() == whole


def test_case_counts_unless_it_is_said_not_to():
    texts = pa.array(["JÖNSON", "jönsen", "Jensen"])
    assert has_near(texts, "jönson", 1).tolist() == [False, True, False]
    assert has_near(texts, "jÖnson", 1, is_case_sensitive=False).tolist() == [True, True, False]


@pytest.mark.parametrize(("text", "expected"), [("ab", None), ("abc", 0), ("abcdef", 1), ("abcdefghi", 2)])
def test_of_the_thresholds_that_apply_the_longest_counts(text, expected):
    assert distance_of(Fuzzy("x", text, ((6, 1), (9, 2), (3, 0)))) == expected


def test_a_text_shorter_than_all_thresholds_matches_nothing():
    assert not fits(Fuzzy("x", "abcde", ((6, 1),)), pa.array(["abcde"])).any()


@pytest.mark.parametrize("kind", ["string", "[]string"])
def test_distinct_values_and_columns_give_the_same_rows(kind):
    values = ["apple", "bread", None, "cider"]
    if kind == "[]string":
        values = [["apple", "bread"], [], None, ["cider", "apple", "apple"]]
    schema = schema_of(x=kind)
    for repeats in (1, 5):  # with repeats the index is looked at
        part = FilePart(schema, [{"id": i, "x": value} for i, value in enumerate(values * repeats)])
        found = driven(matches(Glob("x", "*pl*"), schema, part)).value
        expected = [value is not None and ("apple" in value) for value in values * repeats]
        assert found.tolist() == expected


@pytest.mark.parametrize("sign", ["[", "[^", "[[:alpha:"])
def test_the_check_of_an_expression_passes_over_each_class_once(sign):
    # a class that never ends is one match, not a try from every bracket
    assert sum(len(found[0]) for found in _CLASS.finditer(sign * 2_000)) >= 2_000 * len(sign) - 1
    with pytest.raises(ValueError, match=r"."):
        check_expression(sign * 1_000)
