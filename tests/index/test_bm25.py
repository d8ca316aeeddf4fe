import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from elacsym.index.bm25 import (
    FieldLists,
    FieldRows,
    FieldScoring,
    ScoredList,
    TermList,
    Work,
    exact,
    joined,
)
from elacsym.index.maxscore import Best, Chosen, Search
from elacsym.index.text import Postings, TextIndex
from elacsym.types import FullText

ROWS = 12_000
RNG = np.random.default_rng(11)


def random_counts(rows: int, terms: int, *, seed: int, length: int = 12) -> np.ndarray:
    """(rows, terms) how often each row has each term; texts of 0 to `length` words, low terms frequent."""
    rng = np.random.default_rng(seed)
    drawn = np.minimum(rng.zipf(1.4, (rows, length)) - 1, terms)
    drawn[np.arange(length) >= rng.integers(0, length + 1, rows)[:, None]] = terms
    counts = np.zeros((rows, terms + 1), np.int64)
    np.add.at(counts, (np.arange(rows)[:, None], drawn), 1)
    return counts[:, :terms]


class Field:
    """A field of random texts, its index and how it scores."""

    def __init__(self, seed: int, options: FullText, weight: float, rows: int = ROWS) -> None:
        self.counts, self.options, self.weight = random_counts(rows, 40, seed=seed), options, weight
        words = np.array([f"w{i:02} " for i in range(40)], object)
        self.index = TextIndex.build(pa.array([(words * count).sum() for count in self.counts]), options)
        self.lengths = self.counts.sum(axis=1)
        index = self.index
        self.scoring = FieldScoring(
            options, index.documents, index.tokens, index.length_min, index.length_max
        )

    def lists(self, query: dict[int, int], scored_max: int = 0) -> FieldLists:
        """The lists of a query's terms; those of up to `scored_max` rows by their shares."""
        field_rows = FieldRows(self.scoring, self.index.lengths)
        lists = []
        for term, count in sorted(query.items()):
            found = self.index.term(f"w{term:02}")
            if found is not None:
                weight = self.scoring.weight(found.rows, count)
                postings = self.index.postings(found)
                one = TermList(field_rows, postings, weight, found.frequency_max)
                lists.append(ScoredList.of(one, None) if postings.count <= scored_max else one)
        return FieldLists(self.weight, lists)

    def scores(self, query: dict[int, int]) -> np.ndarray:
        """(rows,) BM25 of every row by the formula."""
        k1, b, k3 = self.options.k1, self.options.b, self.options.k3
        norms = k1 * (1 - b + b * self.lengths / (self.lengths.sum() / len(self.counts)))
        total = np.zeros(len(self.counts))
        for term, q in sorted(query.items()):
            tf = self.counts[:, term].astype(float)
            df = np.count_nonzero(tf)
            idf = math.log(1 + (len(self.counts) - df + 0.5) / (df + 0.5))
            shares = (idf * (q * (k3 + 1) / (k3 + q))) * (tf * (k1 + 1) / np.where(tf, tf + norms, 1))
            total += shares
        return self.weight * total


def chosen_by(mask: np.ndarray, *, is_all: bool = False) -> Chosen:
    """The rows of a mask, listed where they are few."""
    if Chosen.are_few(int(np.count_nonzero(mask)), len(mask)):
        return Chosen.listed(mask.nonzero()[0], len(mask))
    return Chosen(mask, None, len(mask), is_all=is_all)


def best_rows(scores: np.ndarray, mask: np.ndarray, depth: int) -> set[int]:
    """The rows that are among the best or tie with the last of them, as float32."""
    rounded = np.where(mask, scores, 0).astype(np.float32)
    last = np.sort(rounded)[-min(depth, len(rounded))]
    return set(np.flatnonzero((rounded >= last) & (rounded > 0)).tolist())


FIELDS = [
    Field(1, FullText(), 1.0),
    Field(2, FullText(k1=0.4, b=0.1), 7.5),
    Field(3, FullText(k1=2.5, b=1.0, k3=0.0), 1e-3),
]
QUERIES = [
    {0: 1},
    {30: 1},
    {0: 1, 9: 1, 20: 2},
    {0: 1, 1: 1, 2: 1},
    {0: 3, 1: 1},
    {20: 1, 33: 1, 38: 1},
    dict.fromkeys(range(0, 40, 5), 1),
    dict.fromkeys(range(40), 1),
]


@pytest.mark.parametrize("share", [1.0, 0.9, 0.3, 0.05, 0.002])
@pytest.mark.parametrize("depth", [1, 10, 400])
@pytest.mark.parametrize("fields", [FIELDS[:1], FIELDS[:2], FIELDS, [FIELDS[2]]])
@pytest.mark.parametrize("scored_max", [0, 700, ROWS])
def test_the_best_rows_hold_the_answer_and_scores_are_those_of_the_formula(fields, depth, share, scored_max):
    mask = RNG.random(ROWS) < share
    chosen = None if share == 1 else chosen_by(mask)
    for query in QUERIES:
        lists = [one.lists(query, scored_max) for one in fields]
        rows, scores = Search(lists, chosen, Best(depth)).best_rows()
        expected = sum(one.scores(query) for one in fields)
        assert best_rows(expected, mask, depth) <= set(rows.tolist())
        assert rows.tolist() == sorted(set(rows.tolist()))
        assert mask[rows].all()
        # to the last bit
        assert scores.tolist() == exact(lists, rows).tolist() == expected[rows].tolist()


@pytest.mark.parametrize("first_is_scored", [False, True])
@pytest.mark.parametrize("count", [3, 400, 800])
@pytest.mark.parametrize("second", [3, 400, 800])
def test_lists_of_both_kinds_are_looked_at_together_below_a_selective_filter(first_is_scored, count, second):
    total, few = 100_000, np.arange(5_000)
    field_rows = FieldRows(
        FieldScoring(FullText(), total, 10 * total, 1, 20),
        np.random.default_rng(5).integers(1, 21, total).astype(np.uint8),
    )

    def listed(rows: np.ndarray, weight: float, *, is_scored: bool) -> TermList | ScoredList:
        rows = np.concatenate([rows, np.arange(6_000, 11_000, dtype=np.uint32)]).astype(np.uint32)
        one = TermList(
            field_rows, Postings(rows, np.full(len(rows), 2, np.uint8), len(rows), total), weight, 2
        )
        return ScoredList.of(one, None) if is_scored else one

    lists = [
        FieldLists(
            1.0,
            [
                listed(few[:count], 2.0, is_scored=first_is_scored),
                listed(few[1_000 : 1_000 + second], 1.0, is_scored=not first_is_scored),
            ],
        )
    ]
    mask = np.zeros(total, bool)
    mask[few] = True
    for depth in (10, 1_000):
        rows, scores = Search(lists, chosen_by(mask), Best(depth)).best_rows()
        truth = exact(lists, np.arange(total))
        assert best_rows(truth, mask, depth) <= set(rows.tolist())
        assert scores.tolist() == truth[rows].tolist()


def test_a_field_of_no_weight_adds_nothing():
    lists = [FIELDS[0].lists({20: 1}), FieldLists(0.0, FIELDS[1].lists({0: 1, 3: 1}, ROWS).lists)]
    rows, scores = Search(lists, None, Best(10)).best_rows()
    expected = FIELDS[0].scores({20: 1})
    assert best_rows(expected, np.ones(ROWS, bool), 10) <= set(rows.tolist())
    assert scores.tolist() == expected[rows].tolist()


@pytest.mark.parametrize("term", [0, 9, 33])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_a_list_by_shares_is_that_of_its_postings_where_rows_live(term, share):
    alive = RNG.random(ROWS) < share
    one = FIELDS[0].lists({term: 1}).lists[0]
    scored = ScoredList.of(one, None if share == 1 else alive)
    assert scored.bound <= one.bound * (1 + 1e-12)
    for count in (0, 1, 100, 5_000):
        rows = np.sort(RNG.choice(np.flatnonzero(alive), min(count, np.count_nonzero(alive)), replace=False))
        shares = one.shares_at(Work(rows))
        assert scored.shares_at(Work(rows)).tolist() == shares.tolist()
        assert scored.has(rows).tolist() == one.has(rows).tolist() == (shares > 0).tolist()
    rows, shares = scored.everything()
    assert rows.tolist() == np.flatnonzero(alive & (FIELDS[0].counts[:, term] > 0)).tolist()
    assert shares.tolist() == one.shares_at(Work(rows)).tolist()
    nothing = ScoredList.none(ROWS)
    assert not nothing.has(rows).any() and not nothing.shares_at(Work(rows)).any()


@pytest.mark.parametrize("scored_max", [0, 700])
def test_frequent_terms_are_not_gone_through_when_rare_ones_decide(scored_max):
    lists = FIELDS[0].lists({0: 1, 15: 1, 25: 1})
    counts = sorted(each.postings.count for each in lists.lists)
    assert counts[-1] > 10 * counts[1]
    search = Search([FIELDS[0].lists({0: 1, 15: 1, 25: 1}, scored_max)], None, Best(10))
    search.best_rows()
    assert search.scored <= counts[0] + counts[1]


def test_a_run_that_cannot_reach_what_was_found_elsewhere_has_no_candidates():
    best = Best(2)
    best.add(np.array([100.0, 101.0]))
    search = Search([FIELDS[0].lists({0: 1, 9: 1})], None, best)
    assert not len(search.best_rows()[0]) and not search.scored


def test_rows_that_tie_as_32_bit_floats_are_all_kept():
    field_rows = FieldRows(FieldScoring(FullText(b=0.0), 20_000, 20_000, 1, 1), np.ones(20_000, np.uint8))
    even = np.arange(0, 20_000, 2, dtype=np.uint32)
    postings = Postings(even, np.ones(len(even), np.uint8), len(even), 20_000)
    search = Search([FieldLists(1.0, [TermList(field_rows, postings, 1.0, 1)])], None, Best(3))
    assert search.best_rows()[0].tolist() == even.tolist()


def test_the_bar_is_below_every_score_that_rounds_to_the_last_of_the_best():
    for score in (1e-30, 0.1, 1.0, 17.3, 1e30):
        last = np.float32(score)
        best = Best(2)
        best.add(np.array([score, 2 * score]))
        # the float64 numbers that round to `last` begin halfway to its neighbour
        assert best.bar < (float(last) + float(np.nextafter(last, np.float32(0)))) / 2
        assert best.bar > score * (1 - 1e-5)


def test_the_bar_rises_with_the_best_scores_only():
    best = Best(2)
    best.offer(np.array([5.0]))
    assert best.bar == 0
    best.offer(np.array([5.0, 1.0, 3.0]))
    assert best.bar == pytest.approx(3.0, rel=1e-5)
    best.add(np.array([4.0]))
    best.add(np.array([0.5]))
    assert best.bar == pytest.approx(3.0, rel=1e-5)
    best.add(np.array([6.0, 1.0]))
    assert best.bar == pytest.approx(4.0, rel=1e-5)


@pytest.mark.parametrize("depth", [1, 7, 300])
@pytest.mark.parametrize("values", [2, 40, 10**9])
def test_the_bar_is_the_last_of_the_best_however_many_are_equal(depth, values):
    rng = np.random.default_rng(depth)
    offered, added, seen = Best(depth), Best(depth), np.empty(0)
    for count in (3, 200, 900, 5_000):
        scores = rng.integers(1, values, count, endpoint=True).astype(np.float64)
        before = scores.copy()
        offered.offer(scores)
        added.add(scores)
        assert (scores == before).all()
        seen = np.concatenate([seen, scores])
        if len(seen) >= depth:
            assert added.bar == pytest.approx(np.sort(seen)[-depth], rel=2e-6)
        if count >= depth:
            assert np.sort(scores)[-depth] * (1 - 2e-6) <= offered.bar <= added.bar


@pytest.mark.parametrize("frequency_max", [1, 2, 7, 254, 255])
@pytest.mark.parametrize("options", [FullText(), FullText(k1=0.01, b=0.0), FullText(k1=3.0, b=1.0)])
def test_bounds_hold_for_every_frequency_and_length(options, frequency_max):
    scoring = FieldScoring(options, 100, 1_000, 2, 300)
    lengths = np.arange(2, 301)
    rows = np.arange(len(lengths))
    field_rows = FieldRows(scoring, lengths.astype(np.uint16))
    empty = Postings(np.empty(0, np.uint32), np.empty(0, np.uint8), 0, len(rows))
    one = TermList(field_rows, empty, scoring.weight(7, 1), frequency_max)
    most = 10_000 if frequency_max == 255 else frequency_max
    for frequency in {1, min(2, most), most}:
        shares = one.shares(np.full(len(rows), frequency, np.uint32), field_rows.norms(rows))
        assert shares.max() <= one.bound * (1 + 1e-12)
        assert one.least_frequency(float(shares.max())) <= frequency
    assert one.least_frequency(0.0) == 0
    assert one.least_frequency(one.scale) > 10**9
    if 1 < frequency_max < 10:
        assert one.least_frequency(one.bound * (1 - 1e-6)) == frequency_max


def test_norms_are_the_same_with_and_without_a_table():
    lengths = np.array([0, 1, 5, 400], np.uint32)
    tabled = FieldScoring(FullText(), 10, 77, 1, 400).norms(lengths)
    assert tabled.tolist() == FieldScoring(FullText(), 10, 77, 1, 10**6).norms(lengths).tolist()


@pytest.mark.parametrize("sizes", [(5_000,), (4_097, 100, 5_000), (10, 0, 20), (3_000, 3_000)])
def test_joined_postings_are_those_of_the_joined_rows(sizes):
    counts = random_counts(sum(sizes), 12, seed=5)
    starts = np.cumsum([0, *sizes])
    words = np.array([f"w{i:02} " for i in range(12)], object)
    counts[-1, 3] = 700
    indexes = [
        TextIndex.build(pa.array([(words * c).sum() for c in counts[a:b]], pa.string()), FullText())
        for a, b in pairwise(starts)
    ]
    for term in range(12):
        entries = [index.term(f"w{term:02}") for index in indexes]
        if not any(entries):
            continue
        parts = [e and index.postings(e) for index, e in zip(indexes, entries, strict=True)]
        found = joined(parts, sizes)
        assert found.by_row().tolist() == counts[:, term].tolist()
        assert found.count == np.count_nonzero(counts[:, term])
        rows, frequencies = found.listed()
        assert rows.tolist() == np.flatnonzero(counts[:, term]).tolist()
        assert frequencies.tolist() == counts[rows, term].tolist()
