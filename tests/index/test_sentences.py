"""Sentence boundaries of UAX #29, by its own rules and examples of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.index.sentences import sentence_spans

ALPHABET = "aAzZ1.!?,:; \n\r\t\"')(\u0301\u200d\u00e9\u6771\u3002\u2028\u00a0\u201c\u2026"


def sentences(text):
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("expected", "rule"),
    [
        (["The kettle is copper. ", "It boils! ", "Does it? ", "Yes."], "SB11"),
        (["one\r\n", "two\n", "three\r", "four\u2028", "five"], "SB3, SB4"),
        (["It costs 3.14 today. ", "Or so."], "SB6"),
        (["Made in the U.S.A by hand."], "SB7"),
        (["See fig. 2 for e.g. this. ", "That is all."], "SB8"),
        (["Wait... what? ", "No."], "SB8"),
        (["Is it so?! ", "Yes."], "SB8a"),
        (['He said "Go away." ', "Then he left."], "SB9"),
        (["The end.)   ", "Another."], "SB10"),
        (["Ends. \n", "here"], "SB11"),
        (["caf\u00e9.\u0301 ", "Next\u0301."], "SB5"),
        (["\u6771\u4eac\u3002", "\u5927\u962a\u3002"], "SB11 for ideographs"),
        (["\n", "\u0301a"], "SB4 before SB5"),
        (["no end"], "SB998"),
    ],
)
def test_sentences_end_where_the_rules_say(expected, rule):
    assert sentences("".join(expected)) == expected, rule


def test_nothing_has_no_sentence():
    assert sentence_spans("") == []


@given(st.text(alphabet=ALPHABET, max_size=40) | st.text(max_size=40))
def test_sentences_cover_the_text_and_none_is_empty(text):
    spans = sentence_spans(text)
    assert "".join(sentences(text)) == text
    assert all(start < end for start, end in spans)
