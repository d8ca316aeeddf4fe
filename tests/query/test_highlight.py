"""Highlighting: fragments, their order, and ranges that point at the text in every unit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import schema_of

from elacsym.errors import InvalidRequest
from elacsym.query.ast import Bm25, Highlight, Product, Query, ScoreLeg, Sum, TextLeg
from elacsym.query.highlight import check_highlight, highlights
from elacsym.types import Attribute, AttributeType, FullText

SETTINGS = FullText(stemming=True)
SCHEMA = schema_of(
    text=Attribute(AttributeType.parse("string"), full_text=SETTINGS),
    notes=Attribute(AttributeType.parse("[]string"), full_text=SETTINGS),
    tokens=Attribute(AttributeType.parse("[]string"), full_text=FullText(tokenizer="pre_tokenized_array")),
    plain="string",
)
TEXT = "Tea is hot. The kettle is copper. A kettle boils.\nNo\u00e9l: \U0001fad6 kettles of copper!"
LEG = ScoreLeg(Bm25("text", "copper kettle"))


def run(value, query="copper kettle", **options):
    wanted = Highlight("text", **options)
    return highlights(
        value, check_highlight(wanted, Query((ScoreLeg(Bm25("text", query)),)), SCHEMA), SETTINGS
    )


def test_the_best_sentences_come_first_with_their_ranges():
    found = run(TEXT, offsets="codepoints")
    assert [f["text"] for f in found] == [
        "The kettle is copper. ",
        "No\u00e9l: \U0001fad6 kettles of copper!",
        "A kettle boils.\n",
    ]
    assert found[0] == {
        "text": "The kettle is copper. ",
        "fragment_range": [12, 34],
        "match_ranges": [[4, 10], [14, 20]],
    }


def test_equal_fragments_come_in_their_order_and_ranges_only_where_they_are_asked_for():
    assert run("Copper. Tea. Copper.") == [{"text": "Copper. "}, {"text": "Copper."}]
    assert run("Copper. Tea. Copper.", limit=1) == [{"text": "Copper. "}]
    assert run("Tea.") == []
    assert run(None) == []


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("none", ["  A copper kettle.\n\n Tea \n kettle  "]),
        ("sentence", ["  A copper kettle.\n", " kettle  "]),
        ("paragraph", ["A copper kettle.", "kettle"]),
        ("word", ["copper", "kettle", "kettle"]),
    ],
)
def test_texts_are_cut_as_asked(by, expected):
    assert [f["text"] for f in run("  A copper kettle.\n\n Tea \n kettle  ", fragment_by=by)] == expected


def test_elements_of_an_array_are_numbered():
    query = Query((TextLeg((("notes", 1.0),), "copper"),))
    wanted = check_highlight(Highlight("notes", offsets="utf-8"), query, SCHEMA)
    found = highlights(["Tea.", "All is copper. Copper!", ""], wanted, SETTINGS)
    assert [(f["text"], f["array_index"], f["fragment_range"]) for f in found] == [
        ("Copper!", 1, [15, 22]),
        ("All is copper. ", 1, [0, 15]),
    ]


def test_fragments_can_be_ranked_by_an_expression_of_their_own():
    ranked = Sum((Product(5.0, Bm25("$fragment", "tea")), Bm25("$fragment", "kett", last_as_prefix=True)))
    found = run(TEXT, rank_by=ranked)
    assert [f["text"][:5] for f in found] == ["Tea i", "The k", "A ket"]


def bm25(fragments, terms):
    """BM25 of lists of tokens among themselves, spelled out."""
    average = sum(map(len, fragments)) / len(fragments)
    scores = []
    for tokens in fragments:
        score = 0.0
        for term in terms:
            df, tf = sum(term in other for other in fragments), tokens.count(term)
            idf = math.log(1 + (len(fragments) - df + 0.5) / (df + 0.5))
            score += idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(tokens) / average)) if tf else 0.0
        scores.append(score)
    return scores


WORD = st.sampled_from(["tea", "copper", "kettle", "caf\u00e9", "\U0001fad6", "\u6771"])


@given(st.lists(st.lists(WORD, min_size=1, max_size=6), min_size=1, max_size=6))
def test_scores_are_bm25_with_the_row_s_fragments_as_corpus(paragraphs):
    settings = FullText()
    schema = schema_of(text=Attribute(AttributeType.parse("string"), full_text=settings))
    wanted = check_highlight(Highlight("text", "paragraph", limit=9), Query((LEG,)), schema)
    texts = [" ".join(words) for words in paragraphs]
    scores = bm25(paragraphs, ["copper", "kettle"])
    order = sorted((i for i, s in enumerate(scores) if s), key=lambda i: (-round(scores[i], 6), i))
    assert [f["text"] for f in highlights("\n".join(texts), wanted, settings)] == [texts[i] for i in order]


@given(
    st.lists(WORD | st.sampled_from([". ", "! ", "\n", "\u0301", "\r\n"]), max_size=20),
    st.sampled_from(["none", "sentence", "paragraph", "word"]),
)
def test_ranges_point_at_the_text_in_every_unit(pieces, by):
    text = " ".join(pieces)
    for unit, encoding, width in [
        ("utf-8", "utf-8", 1),
        ("utf-16", "utf-16-le", 2),
        ("codepoints", "utf-32-le", 4),
    ]:
        data = text.encode(encoding)
        for fragment in run(text, fragment_by=by, offsets=unit, limit=100):
            start, end = (width * place for place in fragment["fragment_range"])
            assert data[start:end].decode(encoding) == fragment["text"]
            inner = fragment["text"].encode(encoding)
            matched = [inner[width * a : width * b].decode(encoding) for a, b in fragment["match_ranges"]]
            assert matched
            assert {word.rstrip("\u0301") for word in matched} <= {"copper", "kettle"}


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (Highlight("nothing"), "nothing"),
        (Highlight("plain"), "no full-text search"),
        (Highlight("tokens"), "tokenized already"),
        (Highlight("notes"), "give rank_fragments_by"),
        (Highlight("text", limit=0), "1 to 1024"),
        (Highlight("text", limit=1025), "1 to 1024"),
        (Highlight("text", rank_by=Bm25("text", "x")), "text"),
    ],
)
def test_what_cannot_be_highlighted_is_refused(wanted, named):
    with pytest.raises(InvalidRequest, match=named):
        check_highlight(wanted, Query((LEG,)), SCHEMA)
