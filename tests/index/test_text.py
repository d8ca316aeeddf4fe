from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.format.blob import Blob
from elacsym.format.reading import resident
from elacsym.index.text import TextIndex
from elacsym.index.text_build import BLOCK_TERMS, DENSE_ROWS_MIN
from elacsym.index.tokenize import analyzer
from elacsym.types import FullText
from tests.index.sources import HoleySource, driven

WORDS = ["cat", "dog", "the", "Zürich", "東京", "don't", "-", "a.b", "x" * 50]
TOKENS = FullText(tokenizer="pre_tokenized_array")
words = st.sampled_from(WORDS)
sentences = st.lists(words, max_size=8).map(" ".join)
texts = st.lists(st.none() | sentences, min_size=1, max_size=25)
lists = st.lists(st.none() | st.lists(st.none() | sentences, max_size=3), min_size=1, max_size=8)


def token_counts(values, options: FullText) -> list[Counter]:
    """How often each value has each token, by the analyzer alone."""
    analysis = analyzer(options)
    found = []
    for value in values:
        elements = [value] if isinstance(value, str) else value or []
        found.append(Counter(token for text in elements if text for token in analysis.tokens(text)))
    return found


def string_array(values) -> pa.Array:
    return pa.array(
        values, pa.list_(pa.string()) if any(isinstance(v, list) for v in values) else pa.string()
    )


def postings_of(index: TextIndex, term: str) -> list[tuple[int, int]]:
    """(row, frequency) of a term's rows."""
    found = index.term(term)
    if found is None:
        return []
    rows, frequencies = index.postings(found).listed()
    assert len(rows) == found.rows and frequencies.max() >= min(found.frequency_max, 255)
    return list(zip(rows.tolist(), frequencies.tolist(), strict=True))


def expected_postings(counts: list[Counter], term: str) -> list[tuple[int, int]]:
    return [(row, count[term]) for row, count in enumerate(counts) if count[term]]


def random_texts(rows: int, *, seed: int = 0, vocabulary: int = 400, length: int = 6) -> list[str]:
    """Texts whose words thin out: `w0` is in about half of them."""
    drawn = np.random.default_rng(seed).zipf(1.2, (rows, length)) % vocabulary
    return [" ".join(f"w{word}" for word in text) for text in drawn.tolist()]


@settings(max_examples=100, deadline=None)
@given(texts | lists)
def test_an_index_holds_the_tokens_of_the_texts(values):
    index = TextIndex.build(string_array(values), FullText())
    counts = token_counts(values, FullText())
    vocabulary = sorted({term for count in counts for term in count})
    assert index.lengths.tolist() == [count.total() for count in counts]
    assert index.has_value.tolist() == [value is not None for value in values]
    assert (index.rows_total, index.documents) == (len(values), sum(v is not None for v in values))
    assert index.tokens == sum(count.total() for count in counts)
    present = [count.total() for count in counts if count]
    assert (index.length_min, index.length_max) == (min(present, default=0), max(present, default=0))
    assert index.terms().to_pylist() == vocabulary
    for term in [*vocabulary, "absent", "", "\U0010ffff"]:
        assert postings_of(index, term) == expected_postings(counts, term)


def test_terms_of_many_blocks_are_found_and_neighbours_of_terms_are_not():
    terms = [f"{i:05}" for i in range(0, 20 * BLOCK_TERMS, 2)]
    index = TextIndex.build(pa.array([[term] for term in terms]), TOKENS)
    assert [postings_of(index, term) for term in terms] == [[(row, 1)] for row in range(len(terms))]
    assert not any(postings_of(index, f"{i:05}") for i in range(1, 20 * BLOCK_TERMS, 2))
    assert not any(postings_of(index, term[:-1]) or postings_of(index, term + "0") for term in terms)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=40), st.text(max_size=2))
def test_terms_of_any_characters_keep_the_order_of_utf_8_and_are_found_by_prefix(terms, prefix):
    index = TextIndex.build(pa.array([list(terms)]), TOKENS)
    in_order = sorted(terms, key=str.encode)
    assert index.terms().to_pylist() == in_order
    assert all(postings_of(index, term) == [(0, 1)] for term in terms)
    found = [term for term in in_order if term.startswith(prefix)]
    assert resident(index.terms_with_prefix(prefix)) == [index.term(term) for term in found]


def test_terms_with_a_prefix_are_found_over_block_borders_in_one_round():
    terms = [f"{letter}{i:03}" for letter in "abc" for i in range(300)]
    index = TextIndex.build(pa.array([terms]), TOKENS)
    for prefix in ("a", "b", "c", "b1", "b29", "", "d", "a999"):
        cold = driven(TextIndex.opened(HoleySource(index.encode()), 1)).value
        found = driven(cold.terms_with_prefix(prefix))
        assert found.value == [index.term(term) for term in terms if term.startswith(prefix)]
        assert len(found.rounds) <= 1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["a", "ab", "abc", "b", "ba", "é", "éa"]), max_size=3), max_size=20),
    st.sampled_from(["a", "ab", "b", "é", "c"]),
    st.sampled_from([1, 5_000]),
)
def test_rows_with_a_prefix_are_those_of_its_terms_in_listed_and_dense_postings(rows, prefix, times):
    values = rows * times
    index = TextIndex.build(pa.array(values, pa.list_(pa.string())), TOKENS)
    cold = driven(TextIndex.opened(HoleySource(index.encode()), len(values))).value
    found = driven(cold.rows_with_prefix(prefix))
    assert found.value.tolist() == [any(term.startswith(prefix) for term in row) for row in values]
    assert len(found.rounds) <= 2


def test_long_terms_are_kept_whole():
    terms = ["x" * 300, "x" * 100_000, "y" * 299, "é" * 5_000]
    index = TextIndex.build(pa.array([terms, terms[:1]]), TOKENS)
    assert [len(postings_of(index, term)) for term in terms] == [2, 1, 1, 1]
    assert index.lengths.tolist() == [4, 1]
    assert not postings_of(index, "x" * 299)


@pytest.mark.parametrize("rows", [DENSE_ROWS_MIN - 1, DENSE_ROWS_MIN + 1, 2**16 + 1])
def test_rare_and_frequent_terms_of_many_rows_are_looked_up_by_row(rows):
    length = 6 if rows < 2**16 else 2
    values = random_texts(rows, length=length)
    values[7] += " w0" * 300  # more than a byte counts, in a frequent term
    values[rows - 1] += " rare" * 300
    index = TextIndex.build(pa.array(values), FullText())
    counts = token_counts(values, FullText())
    some = np.unique(np.random.default_rng(1).integers(0, rows, 50))
    every = np.arange(rows)
    for term in ("w0", "w1", "w2", "w5", "w40", "w399", "rare"):
        expected = np.array([count[term] for count in counts])
        assert postings_of(index, term) == expected_postings(counts, term)
        found = index.term(term)
        assert found is not None
        postings = index.postings(found)
        assert (postings.rows is None) == (rows >= DENSE_ROWS_MIN and found.rows * 8 >= rows)
        for wanted in (some, every, every[-1:], every[:0]):
            assert postings.at(wanted).tolist() == expected[wanted].tolist()
        assert postings.by_row().tolist() == expected.tolist()
        alive = every % 3 > 0
        assert postings.live(alive) == np.count_nonzero(expected[alive])


def test_frequencies_and_lengths_above_every_narrow_type_are_kept():
    for count in (254, 255, 256, 65_535, 65_536):
        index = TextIndex.build(pa.array(["a " * count, "a b"]), FullText())
        assert postings_of(index, "a") == [(0, count), (1, 1)]
        assert postings_of(index, "b") == [(1, 1)]
        assert index.lengths.tolist() == [count, 2]


def test_array_elements_are_tokens_when_they_are_tokenized_already():
    values = pa.array([["A b", "A b", "x" * 300], []])
    index = TextIndex.build(values, TOKENS)
    assert postings_of(index, "A b") == [(0, 2)]
    assert index.lengths.tolist() == [3, 0]
    assert index.has_value.tolist() == [True, True]


def test_chunked_and_sliced_texts_are_those_they_show():
    values = pa.array(["cat", "dog cat", None, "the"])
    assert TextIndex.build(values[1:], FullText()).encode() == (
        TextIndex.build(pa.chunked_array([["dog cat"], [None, "the"]]), FullText()).encode()
    )


def test_an_index_without_rows_or_values_has_no_postings():
    for index in (
        TextIndex.empty(3),
        TextIndex.build(pa.array([None, None, None], pa.string()), FullText()),
        TextIndex.of(TextIndex.empty(3).encode(), 3),
        TextIndex.merge([TextIndex.empty(0)], [np.empty(0, np.int64)], 3),
    ):
        assert index.term("cat") is None
        assert (index.documents, index.tokens, index.lengths.tolist()) == (0, 0, [0, 0, 0])
        assert resident(index.terms_with_prefix("")) == []
        assert index.has_value.tolist() == [False] * 3
    assert TextIndex.build(pa.array([], pa.string()), FullText()).rows_total == 0


@settings(max_examples=150, deadline=None)
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


def test_a_merge_of_large_indexes_with_frequent_terms_in_many_runs_is_what_building_gives(monkeypatch):
    monkeypatch.setattr("elacsym.index.text_build.POSTINGS_AT_ONCE", 1_000)
    values = random_texts(3 * DENSE_ROWS_MIN)
    values[5] += " w0" * 300 + " w7" * 300
    cut, order = 2 * DENSE_ROWS_MIN, np.random.default_rng(3).permutation(len(values))
    parts = [TextIndex.build(pa.array(part), FullText()) for part in (values[:cut], values[cut:])]
    merged = TextIndex.merge(parts, [order[:cut], order[cut:]], len(values))
    placed = np.empty(len(values), object)
    placed[order] = values
    assert merged.encode() == TextIndex.build(pa.array(placed), FullText()).encode()


def test_a_cold_term_takes_a_round_for_its_block_and_one_for_its_postings():
    values = random_texts(20_000, vocabulary=20_000)
    warm = TextIndex.build(pa.array(values), FullText())
    data = warm.encode()
    source = HoleySource(data)
    opened = driven(TextIndex.opened(source, len(values)))
    cold, terms = opened.value, ["w0", "w17", "w1234", "absent"]
    assert len(opened.rounds) == 1 and opened.rounds[0] < len(data) / 20
    assert len(driven(cold.want(terms)).rounds) == 1
    found = [cold.term(term) for term in terms]
    assert found == [warm.term(term) for term in terms]
    assert cold.lengths.tolist() == warm.lengths.tolist()
    assert cold.has_value.tolist() == warm.has_value.tolist()
    entries = [term for term in found if term is not None]
    assert len(driven(cold.bring(entries)).rounds) == 1
    for term in terms:
        assert postings_of(cold, term) == postings_of(warm, term)
    assert not driven(cold.bring(entries)).rounds and not driven(cold.want(terms)).rounds
    assert source.brought_bytes < len(data) / 3 and not cold.is_whole
    source.fill([(0, len(data))])
    assert not driven(cold.want(["w9"])).rounds and cold.is_whole
    assert postings_of(cold, "w9") == postings_of(warm, "w9")


def test_a_small_index_comes_with_its_head():
    source = HoleySource(TextIndex.build(pa.array(["cat dog", "cat"]), FullText()).encode())
    opened = driven(TextIndex.opened(source, 2))
    assert len(opened.rounds) == 1 and opened.value.is_whole
    assert postings_of(opened.value, "cat") == [(0, 1), (1, 1)]


def test_a_file_of_another_part_is_refused():
    data = TextIndex.build(pa.array(["cat", "dog"]), FullText()).encode()
    with pytest.raises(CorruptObject, match="2 rows where its segment has 3"):
        TextIndex.of(data, 3)


def test_every_flipped_bit_and_every_missing_tail_is_reported_with_key_and_offset():
    good = TextIndex.build(pa.array(["cat dog", "cat", None, "Zürich " * 300]), FullText()).encode()

    def verified(data: bytes) -> TextIndex:
        Blob.open(data, "seg/text.a").verify()
        return TextIndex.of(data, 4)

    def assert_reported(data: bytes) -> None:
        with pytest.raises(CorruptObject) as caught:
            verified(data)
        assert (caught.value.key, caught.value.offset is None) == ("seg/text.a", False)

    assert postings_of(verified(good), "zürich") == [(3, 300)]
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert_reported(bytes(bad))
    for size in range(len(good)):
        assert_reported(good[:size])
