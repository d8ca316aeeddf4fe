import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.index.text import FieldStatistics, TextIndex, bm25_scores
from elacsym.index.tokenize import analyzer
from elacsym.types import FullText

words = st.sampled_from(["cat", "dog", "the", "Zürich", "東京", "don't", "-", "a.b", "x" * 50])
sentences = st.lists(words, max_size=8).map(" ".join)
texts = st.lists(st.none() | sentences, min_size=1, max_size=25)
lists = st.lists(st.none() | st.lists(st.none() | sentences, max_size=3), min_size=1, max_size=8)
scorings = st.builds(
    FullText, k1=st.floats(0.01, 3), b=st.floats(0, 1), k3=st.floats(0, 10), remove_stopwords=st.booleans()
)
queries = st.dictionaries(
    st.sampled_from(["cat", "dog", "the", "zürich", "東", "absent"]), st.integers(1, 3), max_size=4
)


def token_lists(values, options: FullText) -> list[list[str] | None]:
    """The tokens of each value, by the analyzer alone."""
    analysis = analyzer(options)
    return [
        None
        if value is None
        else [
            token
            for text in ([value] if isinstance(value, str) else value)
            if text
            for token in analysis.tokens(text)
        ]
        for value in values
    ]


def naive_bm25(values, alive, query, options: FullText) -> dict[int, float]:
    """The formula over the live values, one by one, terms in sorted order."""
    documents = {
        i: Counter(t) for i, t in enumerate(token_lists(values, options)) if t is not None and alive[i]
    }
    tokens = sum(d.total() for d in documents.values())
    scores: dict[int, float] = {}
    for i, document in documents.items():
        if not any(document[term] for term in query):
            continue
        score = 0.0
        for term in sorted(query):
            df = sum(term in d for d in documents.values())
            idf = math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
            q, tf = query[term], document[term]
            if tf:
                norm = options.k1 * (1 - options.b + options.b * document.total() / (tokens / len(documents)))
                score += (
                    idf * (q * (options.k3 + 1) / (options.k3 + q)) * (tf * (options.k1 + 1) / (tf + norm))
                )
        scores[i] = score
    return scores


def string_array(values) -> pa.Array:
    return pa.array(
        values, pa.list_(pa.string()) if any(isinstance(v, list) for v in values) else pa.string()
    )


@settings(max_examples=200)
@given(texts, scorings, queries, st.data())
def test_scores_are_those_of_the_formula_for_any_split_into_parts_and_any_deletions(
    values, options, query, data
):
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(values)), max_size=4)) | {0, len(values)})
    parts = [slice(a, b) for a, b in pairwise(cuts)]
    indexes = [TextIndex.build(string_array(values[part]), options) for part in parts]
    statistics = FieldStatistics.none(query)
    for index, part in zip(indexes, parts, strict=True):
        statistics += index.statistics(query, alive[part])
    found: dict[int, float] = {}
    for index, part in zip(indexes, parts, strict=True):
        rows, scores = bm25_scores(index, statistics, query, options)
        assert rows.tolist() == sorted(set(rows.tolist()))
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            assert score > 0
            if alive[part.start + row]:
                found[part.start + row] = score
    # to the last bit: ties and order must not depend on how rows are spread
    assert found == naive_bm25(values, alive, query, options)


@settings(max_examples=100)
@given(texts | lists, st.data())
def test_statistics_count_live_rows_with_a_value(values, data):
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    index = TextIndex.build(string_array(values), FullText())
    live = [t for t, a in zip(token_lists(values, FullText()), alive, strict=True) if t is not None and a]
    terms = ["cat", "the", "東", "absent"]
    assert index.statistics(terms, alive) == FieldStatistics(
        len(live), sum(map(len, live)), {term: sum(term in t for t in live) for term in terms}
    )


@pytest.mark.parametrize("dead", [1, 60, 99])
def test_statistics_are_the_same_whichever_way_deletions_are_counted(dead):
    # few dead rows are looked up in the forward list, many make counting the postings cheaper
    values = [f"common word{i % 7} " + "rare " * (i % 10 == 0) for i in range(100)]
    alive = np.ones(100, bool)
    alive[:dead] = False
    found = TextIndex.build(pa.array(values), FullText()).statistics(["common", "word3", "rare"], alive)
    kept = values[dead:]
    expected = {term: sum(term in value for value in kept) for term in ("common", "word3", "rare")}
    assert found == FieldStatistics(len(kept), sum(len(value.split()) for value in kept), expected)


@settings(max_examples=100)
@given(texts | lists)
def test_postings_and_forward_lists_are_the_tokens_of_the_texts(values):
    index = TextIndex.build(string_array(values), FullText())
    counts = [Counter(t or ()) for t in token_lists(values, FullText())]
    assert index.lengths.tolist() == [c.total() for c in counts]
    assert index.has_value.tolist() == [v is not None for v in values]
    assert index.rows_total == len(values)
    vocabulary = sorted({t for c in counts for t in c})
    assert [index.term(i) for i in range(index.terms_total)] == vocabulary
    for term in vocabulary:
        rows, frequencies = index.postings(term)
        assert rows.dtype == frequencies.dtype == np.uint32
        assert list(zip(rows, frequencies, strict=True)) == [
            (i, c[term]) for i, c in enumerate(counts) if c[term]
        ]
    for row, count in enumerate(counts):
        numbers, frequencies = index.forward(row)
        assert numbers.tolist() == sorted(numbers.tolist())
        assert {
            index.term(n): f for n, f in zip(numbers.tolist(), frequencies.tolist(), strict=True)
        } == count
    assert not len(index.postings("absent")[0])
    assert index.number("") is None and index.number("\U0010ffff") is None


@settings(max_examples=100)
@given(texts | lists)
def test_an_index_survives_its_file(values):
    index = TextIndex.build(string_array(values), FullText())
    data = index.encode()
    opened = TextIndex.open(memoryview(data), "text", verify=True)
    assert opened.encode() == data
    assert opened.lengths.tolist() == index.lengths.tolist()
    assert [opened.postings(index.term(i))[0].tolist() for i in range(index.terms_total)] == [
        index.postings(index.term(i))[0].tolist() for i in range(index.terms_total)
    ]


@settings(max_examples=150)
@given(texts | lists, st.data())
def test_a_merge_is_what_building_from_the_texts_gives(values, data):
    cut = data.draw(st.integers(0, len(values)))
    total = len(values) + 2
    places = np.array(data.draw(st.permutations(range(total))))[: len(values)]
    places[np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))] = -1
    array = string_array(values)
    halves = [TextIndex.build(half, FullText()) for half in (array[:cut], array[cut:])]
    merged = TextIndex.merge(halves, [places[:cut], places[cut:]], total)
    expected: list[object] = [None] * total
    for value, place in zip(values, places.tolist(), strict=True):
        if place >= 0:
            expected[place] = value
    assert merged.encode() == TextIndex.build(pa.array(expected, array.type), FullText()).encode()


def test_an_index_without_rows_or_values_has_no_postings():
    for index in (
        TextIndex.empty(3),
        TextIndex.build(pa.array([None, None, None], pa.string()), FullText()),
        TextIndex.open(TextIndex.empty(3).encode(), "text"),
        TextIndex.merge([TextIndex.empty(0)], [np.empty(0, np.int64)], 3),
    ):
        statistics = index.statistics(["cat"], np.ones(3, bool))
        assert statistics == FieldStatistics(0, 0, {"cat": 0})
        assert [len(part) for part in bm25_scores(index, statistics, {"cat": 1}, FullText())] == [0, 0]
        assert index.has_value.tolist() == [False] * 3
    assert TextIndex.build(pa.array([], pa.string()), FullText()).rows_total == 0


def test_frequencies_above_every_narrow_type_are_kept():
    for count in (255, 256, 65_535, 65_536):
        index = TextIndex.build(pa.array(["a " * count]), FullText())
        opened = TextIndex.open(index.encode(), "text", verify=True)
        assert opened.postings("a")[1].tolist() == [count]
        assert opened.lengths.tolist() == [count]


def test_array_elements_are_tokens_when_they_are_tokenized_already():
    values = pa.array([["A b", "A b", "x" * 300], []])
    index = TextIndex.build(values, FullText(tokenizer="pre_tokenized_array"))
    assert index.postings("A b")[1].tolist() == [2]
    assert index.postings("x" * 300)[0].tolist() == [0]
    assert index.lengths.tolist() == [3, 0]
    assert index.has_value.tolist() == [True, True]


def test_a_damaged_index_is_refused():
    good = TextIndex.build(pa.array(["cat dog", "cat"]), FullText()).encode()
    for place in range(0, len(good), 5):
        bad = bytearray(good)
        bad[place] ^= 4
        with pytest.raises(CorruptObject):
            TextIndex.open(memoryview(bad), "text", verify=True)
