"""Conditions on tokens against an evaluator that analyses one document at a time."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from index.sources import driven
from parts import ColdPart, FilePart, MemoryPart, schema_of

from elacsym.index.tokenize import analyzer
from elacsym.query.ast import Tokens
from elacsym.query.check_filter import check_filter
from elacsym.query.filters import columns_of, matches, texts_of
from elacsym.query.language.filter import parse_filter
from elacsym.types import Attribute, AttributeType, FullText

PLAIN = FullText()
CUT = FullText(stemming=True, remove_stopwords=True, max_token_length=8)
GIVEN = FullText(tokenizer="pre_tokenized_array", case_sensitive=True)


def attribute(kind, settings):
    return Attribute(AttributeType.parse(kind), filterable=False, full_text=settings)


SCHEMA = schema_of(
    plain=attribute("string", PLAIN),
    cut=attribute("string", CUT),
    many=attribute("[]string", CUT),
    given=attribute("[]string", GIVEN),
)


def found(condition, values, kind=FilePart):
    name = condition[0]
    documents = [{"id": i} | ({} if v is None else {name: v}) for i, v in enumerate(values)]
    checked = check_filter(parse_filter(condition, "filters"), SCHEMA)
    return driven(matches(checked, SCHEMA, kind(SCHEMA, documents))).value.nonzero()[0].tolist()


LORDS = [
    "lord in a rings",
    "lord rings",
    "rings of the lord",
    "the lord of the rings",
    "lord rings rings rings",
    None,
]


def test_removed_stop_words_leave_gaps_that_line_up():
    assert found(["cut", "ContainsTokenSequence", "lord of the rings"], LORDS) == [0, 3, 4]
    assert found(["cut", "ContainsTokenSequence", "lord rings"], LORDS) == [1, 4]
    assert found(["cut", "ContainsTokenSequence", "the lord"], LORDS) == [0, 1, 2, 3, 4]
    assert found(["plain", "ContainsTokenSequence", "lord of the rings"], LORDS) == [3]


def test_tokens_are_dropped_for_their_length_like_stop_words():
    values = ["red extraordinary bus", "red bus", "red tiny bus"]
    assert found(["cut", "ContainsTokenSequence", "red incomprehensible bus"], values) == [0, 2]


def test_a_sequence_does_not_run_across_the_elements_of_an_array():
    values = [["lord kettles", "rings"], ["lord", "kettle rings"], ["lord kettle rings"], []]
    assert found(["many", "ContainsTokenSequence", "lord kettle"], values) == [0, 2]
    assert found(["many", "ContainsAllTokens", "lord rings"], values) == [0, 1, 2]


def test_given_tokens_are_one_text():
    values = [["a", "b c", "D"], ["b c", "a"], ["a", "b", "c"]]
    assert found(["given", "ContainsTokenSequence", ["a", "b c"]], values) == [0]
    assert found(["given", "ContainsAllTokens", ["a", "b c"]], values) == [0, 1]
    assert found(["given", "ContainsAnyToken", ["d"]], values) == []
    assert found(["given", "ContainsAnyToken", ["D", "c"]], values) == [0, 2]


def test_the_last_token_may_be_a_prefix():
    values = ["copper kettle", "copper kettledrum", "kettle", "copper"]
    prefix = {"last_as_prefix": True}
    assert found(["plain", "ContainsAllTokens", "copper kett", prefix], values) == [0, 1]
    assert found(["plain", "ContainsAllTokens", "copper kett"], values) == []
    assert found(["plain", "ContainsAnyToken", ["cop", "kettled"], prefix], values) == [1]
    assert found(["plain", "ContainsAllTokens", "copper x", prefix], values) == []
    assert found(["plain", "ContainsAnyToken", "copper x", prefix], values) == [0, 1, 3]


@pytest.mark.parametrize("query", ["", "  ", "the of", [], ["the"]])
@pytest.mark.parametrize("op", ["ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"])
def test_a_query_without_tokens_matches_nothing(op, query):
    assert found(["cut", op, query], LORDS) == []


def test_only_sequences_look_at_texts():
    for mode, columns in (("all", frozenset()), ("any", frozenset()), ("sequence", {"plain"})):
        condition = Tokens("plain", "a", mode)
        assert columns_of(condition) == columns
        assert texts_of(condition) == {"plain"}


WORDS = ["the", "lord", "rings", "ring", "Ringing", "of", "extraordinary", "é"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)
VALUES = {
    "plain": TEXTS,
    "cut": TEXTS,
    "many": st.lists(TEXTS, max_size=3),
    "given": st.lists(TEXTS, max_size=4),
}


def sequences(name, value):
    analysis = analyzer(SCHEMA.attributes[name].full_text)
    texts = [value] if isinstance(value, str) else value
    found = [[analysis.term(segment) for segment in analysis.segments(text)] for text in texts]
    return [list(chain(*found))] if name == "given" else found


def holds(condition, value):
    name, op, query, *options = condition
    if value is None:
        return False
    given = list(chain(*sequences(name, query if isinstance(query, list) else [query])))
    wanted = [term for term in given if term]
    texts = sequences(name, value)
    if not wanted:
        return False
    if op == "ContainsTokenSequence":
        while not given[0]:
            given = given[1:]
        starts = [text[start:] for text in texts for start in range(len(text))]
        return any(
            all(not term or rest[place : place + 1] == [term] for place, term in enumerate(given))
            for rest in starts
        )
    terms = {term for text in texts for term in text if term}
    tests = [term in terms for term in wanted]
    if options and options[0]["last_as_prefix"]:
        tests[-1] = any(term.startswith(wanted[-1]) for term in terms)
    return all(tests) if op == "ContainsAllTokens" else any(tests)


@st.composite
def cases(draw):
    name = draw(st.sampled_from(sorted(VALUES)))
    op = draw(st.sampled_from(["ContainsAllTokens", "ContainsAnyToken", "ContainsTokenSequence"]))
    queries = st.lists(TEXTS, max_size=3) if name == "given" else TEXTS | st.lists(TEXTS, max_size=3)
    condition = [name, op, draw(queries)]
    if op != "ContainsTokenSequence" and draw(st.booleans()):
        condition.append({"last_as_prefix": draw(st.booleans())})
    return condition, draw(st.lists(st.none() | VALUES[name], max_size=8))


@given(cases(), st.sampled_from([MemoryPart, FilePart, ColdPart]))
def test_conditions_hold_for_the_documents_that_a_naive_evaluator_says(case, kind):
    condition, values = case
    assert found(condition, values, kind) == [i for i, value in enumerate(values) if holds(condition, value)]
