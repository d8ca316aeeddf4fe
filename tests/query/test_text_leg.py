import math
from collections import Counter
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.format.reading import done, resident
from elacsym.index.text import TextIndex
from elacsym.index.tokenize import analyzer
from elacsym.query import terms, text_leg
from elacsym.query.ast import Bm25, TextLeg
from elacsym.query.matching import Matches, live_rows
from elacsym.query.remembered import Budget
from elacsym.query.searchable import PartView, SearchSnapshot
from elacsym.types import Attribute, AttributeType, FullText, Schema
from tests.index.sources import HoleySource, driven

WORDS = ["cat", "dog", "the", "Zürich", "東京", "don't", "-", "a.b"]
sentences = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
rows = st.lists(st.tuples(st.none() | sentences, st.none() | sentences), min_size=1, max_size=20)
scorings = st.builds(
    FullText, k1=st.floats(0.01, 3), b=st.floats(0, 1), k3=st.floats(0, 10), remove_stopwords=st.booleans()
)
legs = st.builds(
    lambda fields, query: TextLeg(tuple(fields.items()), " ".join(query)),
    st.dictionaries(st.sampled_from(["title", "body"]), st.floats(0.01, 100), min_size=1),
    st.lists(st.sampled_from(["cat", "dog", "the", "zürich", "東", "absent"]), max_size=4),
)


def relevant(snapshot, leg, matches, depth, beside=None):
    """What a single leg finds."""
    (ranking,) = yield from text_leg.relevant(snapshot, [leg], [matches], depth, beside)
    return ranking


class TextPart:
    """A part of texts by attribute; ids count on from `first`. cold: its files are all holes at first."""

    label = "texts"

    def __init__(self, texts: dict[str, list], schema: Schema, first: int = 0, *, cold: bool = False) -> None:
        self.rows, self.first = len(next(iter(texts.values()))), first
        self.sources: dict[str, HoleySource] = {}
        self._files = {
            name: TextIndex.build(pa.array(values, pa.string()), schema.attributes[name].full_text)
            for name, values in texts.items()
        }
        if cold:
            self.sources = {name: HoleySource(index.encode(), name) for name, index in self._files.items()}

    def text(self, name: str):
        if name in self.sources:
            return TextIndex.opened(self.sources[name], self.rows)
        return done(self._files[name])

    def ids(self):
        return done(self)

    def documents(self, rows):
        return done((self.first + np.asarray(rows)).tolist())


def schema_of(**attributes: FullText) -> Schema:
    text = AttributeType.parse("string")
    fields = {name: Attribute(text, full_text=options) for name, options in attributes.items()}
    return Schema("uint", None, MappingProxyType(fields))


def snapshot_of(schema, texts, alive=None, *, cuts=(), cold=False) -> SearchSnapshot:
    """Rows cut into parts; ids are the row numbers of the whole."""
    total = len(next(iter(texts.values())))
    alive = np.ones(total, bool) if alive is None else alive
    parts = []
    for start, stop in pairwise([0, *cuts, total]):
        part = {name: values[start:stop] for name, values in texts.items()}
        parts.append(PartView(TextPart(part, schema, start, cold=cold), alive[start:stop]))
    return SearchSnapshot(schema, parts, "inc", 1, 1)


def matches_of(snapshot: SearchSnapshot, mask) -> Matches:
    masks = tuple(view.alive & mask[view.part.first :][: view.part.rows] for view in snapshot.parts)
    return Matches(masks, tuple(int(np.count_nonzero(m)) for m in masks))


def naive(schema, texts, alive, leg: TextLeg) -> np.ndarray:
    """(rows,) the formula, document by document, terms in sorted order; 0 for deleted rows."""
    total = np.zeros(len(alive))
    for name, weight in leg.fields:
        options = schema.attributes[name].full_text
        analysis = analyzer(options)
        query = Counter(analysis.tokens(leg.query))
        documents = {
            row: Counter(analysis.tokens(text))
            for row, text in enumerate(texts[name])
            if text is not None and alive[row]
        }
        tokens = sum(document.total() for document in documents.values())
        df = {term: sum(term in document for document in documents.values()) for term in query}
        for row, document in documents.items():
            score = 0.0
            for term, q in sorted(query.items()):
                if tf := document[term]:
                    idf = math.log(1 + (len(documents) - df[term] + 0.5) / (df[term] + 0.5))
                    average = tokens / len(documents)
                    norm = options.k1 * (1 - options.b + options.b * document.total() / average)
                    q_share = q * (options.k3 + 1) / (options.k3 + q)
                    score += (idf * q_share) * (tf * (options.k1 + 1) / (tf + norm))
            total[row] += weight * score
    return total


def expected(scores: np.ndarray, mask: np.ndarray, depth: int) -> list[tuple[int, float]]:
    """The best rows and their scores, ties by id."""
    rounded = scores.astype(np.float32)
    found = np.flatnonzero((rounded > 0) & mask)
    order = np.lexsort((found, -rounded[found]))[:depth]
    return list(zip(found[order].tolist(), rounded[found[order]].tolist(), strict=True))


def answer(ranking) -> list[tuple[int, float]]:
    return list(zip(ranking.ids, ranking.scores.tolist(), strict=True))


@settings(max_examples=120, deadline=None)
@given(rows, legs, scorings, scorings, st.integers(1, 8), st.data())
def test_the_answer_is_that_of_the_formula_for_any_parts_deletions_and_filters(
    documents, leg, title, body, depth, data
):
    schema = schema_of(title=title, body=body)
    texts = {"title": [t for t, _ in documents], "body": [b for _, b in documents]}
    booleans = st.lists(st.booleans(), min_size=len(documents), max_size=len(documents)).map(np.array)
    alive, mask = data.draw(booleans), data.draw(booleans)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(documents)), max_size=4)))
    wanted = expected(naive(schema, texts, alive, leg), alive & mask, depth)
    warm = snapshot_of(schema, texts, alive, cuts=cuts)
    cold = snapshot_of(schema, texts, alive, cuts=cuts, cold=True)
    for _ in range(2):  # the second time from memory
        assert answer(resident(relevant(warm, leg, matches_of(warm, mask), depth))) == wanted
        assert answer(driven(relevant(cold, leg, matches_of(cold, mask), depth)).value) == wanted


def zipf_texts(total: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    drawn = rng.zipf(1.3, (total, 10)) % 3_000
    lengths = rng.integers(0, 11, total)
    return [" ".join(f"w{w}" for w in t[:n]) for t, n in zip(drawn.tolist(), lengths.tolist(), strict=True)]


ROWS = 9_000
LARGE = {"title": zipf_texts(ROWS, 1), "body": zipf_texts(ROWS, 2)}
LARGE_SCHEMA = schema_of(title=FullText(), body=FullText(k1=0.9, b=0.4))
LARGE_LEGS = [
    TextLeg((("title", 1.0),), "w1 w40 w2500"),
    TextLeg((("title", 1.0),), "w1 w2 w3"),
    TextLeg((("title", 2.0), ("body", 1.0)), "w1 w17 w300 w2 w2"),
]


@pytest.mark.parametrize("cuts", [(), (5_000,), (100, 200, 4_500, 4_500)])
@pytest.mark.parametrize("run_rows_max", [1, 2**18])
def test_frequent_terms_of_many_rows_give_the_answer_of_the_formula(monkeypatch, cuts, run_rows_max):
    monkeypatch.setattr(text_leg, "RUN_ROWS_MAX", run_rows_max)
    rng = np.random.default_rng(4)
    for share_alive in (1.0, 0.9):
        alive = rng.random(ROWS) < share_alive
        alive[: cuts[0] if len(cuts) > 2 else 0] = False  # a part without live rows
        snapshot = snapshot_of(LARGE_SCHEMA, LARGE, alive, cuts=cuts)
        for leg in LARGE_LEGS:
            scores = naive(LARGE_SCHEMA, LARGE, alive, leg)
            for share in (1.0, 0.5, 0.01):
                mask = rng.random(ROWS) < share
                for depth in (1, 10):
                    found = resident(relevant(snapshot, leg, matches_of(snapshot, mask), depth))
                    assert answer(found) == expected(scores, alive & mask, depth)


@pytest.mark.parametrize("share_alive", [1.0, 0.9])
def test_a_cold_leg_takes_three_rounds_for_all_parts_and_fields_together(share_alive):
    alive = np.random.default_rng(8).random(ROWS) < share_alive
    snapshot = snapshot_of(LARGE_SCHEMA, LARGE, alive, cuts=(3_000, 6_000), cold=True)
    leg = LARGE_LEGS[2]
    found = driven(relevant(snapshot, leg, live_rows(snapshot), 10))
    assert len(found.rounds) == 3  # heads; dictionaries and lengths; postings
    assert answer(found.value) == expected(naive(LARGE_SCHEMA, LARGE, alive, leg), alive, 10)
    sources = [source for view in snapshot.parts for source in view.part.sources.values()]
    assert sum(s.brought_bytes for s in sources) < sum(s.size_bytes for s in sources) / 2


def test_postings_of_parts_that_the_filter_leaves_nothing_of_are_not_fetched():
    snapshot = snapshot_of(LARGE_SCHEMA, LARGE, cuts=(4_500,), cold=True)
    mask = np.arange(ROWS) < 4_500
    leg = LARGE_LEGS[0]
    found = driven(relevant(snapshot, leg, matches_of(snapshot, mask), 5)).value
    assert answer(found) == expected(naive(LARGE_SCHEMA, LARGE, np.ones(ROWS, bool), leg), mask, 5)
    first, second = (view.part.sources["title"] for view in snapshot.parts)
    assert len(first.brought) == 3 and len(second.brought) == 2


def test_what_snapshots_remember_of_terms_is_bounded_and_goes_with_them(monkeypatch):
    budget = Budget(60_000)
    monkeypatch.setattr(terms, "_BUDGET", budget)
    snapshot = snapshot_of(LARGE_SCHEMA, LARGE, cuts=(4_000,))
    for first in range(0, 60, 4):
        query = " ".join(f"w{i}" for i in range(first, first + 4))
        leg = TextLeg((("title", 1.0),), query)
        found = resident(relevant(snapshot, leg, live_rows(snapshot), 3))
        assert 0 < budget.bytes <= 60_000
    every = np.ones(ROWS, bool)
    assert answer(found) == expected(naive(LARGE_SCHEMA, LARGE, every, leg), every, 3)
    del snapshot, found  # what happened is told from what was remembered
    assert budget.bytes == 0


def test_what_is_remembered_of_one_term_is_a_share_of_the_budget(monkeypatch):
    budget = Budget(400_000)
    monkeypatch.setattr(terms, "_BUDGET", budget)
    snapshot = snapshot_of(LARGE_SCHEMA, LARGE, cuts=(4_000,))
    resident(relevant(snapshot, TextLeg((("title", 1.0),), "w1"), live_rows(snapshot), 3))
    once = budget.bytes
    for count in range(2, 40):
        leg = TextLeg((("title", 1.0),), "w1 " * count)
        resident(relevant(snapshot, leg, live_rows(snapshot), 3))
    # the texts of the queries beside
    assert once < budget.bytes < 3 * once + 40 * 1_000

    small = Budget(8_000)
    monkeypatch.setattr(terms, "_BUDGET", small)
    snapshot = snapshot_of(LARGE_SCHEMA, LARGE, cuts=(4_000,))
    leg = TextLeg((("title", 1.0),), "w1")
    found = resident(relevant(snapshot, leg, live_rows(snapshot), 3))
    every = np.ones(ROWS, bool)
    assert answer(found) == expected(naive(LARGE_SCHEMA, LARGE, every, leg), every, 3)
    assert 0 < small.bytes <= 2_000


def test_what_is_remembered_of_a_query_counts_its_terms(monkeypatch):
    sizes = []
    for query in ("absent" * 4, "a b c d e f g h i j k l "):
        budget = Budget(400_000)
        monkeypatch.setattr(terms, "_BUDGET", budget)
        snapshot = snapshot_of(LARGE_SCHEMA, LARGE)
        terms._clause(snapshot, Bm25("title", query), 1.0)
        sizes.append(budget.bytes)
    assert sizes[1] - sizes[0] >= 11 * 80


def test_a_leg_whose_terms_are_remembered_opens_nothing(monkeypatch):
    snapshot = snapshot_of(LARGE_SCHEMA, LARGE, cuts=(5_000,))
    for leg in LARGE_LEGS:
        resident(relevant(snapshot, leg, live_rows(snapshot), 10))
    monkeypatch.setattr(TextPart, "text", lambda part, name: pytest.fail(f"{name} is opened"))
    for leg in LARGE_LEGS:
        found = resident(relevant(snapshot, leg, live_rows(snapshot), 10))
        every = np.ones(ROWS, bool)
        assert answer(found) == expected(naive(LARGE_SCHEMA, LARGE, every, leg), every, 10)


def test_equal_documents_tie_by_id_across_parts():
    schema = schema_of(title=FullText())
    texts = {"title": ["cat dog"] * 9 + ["cat cat"]}
    for cuts in ((), (3,), (1, 2, 8)):
        snapshot = snapshot_of(schema, texts, cuts=cuts)
        found = resident(relevant(snapshot, TextLeg((("title", 1.0),), "cat"), live_rows(snapshot), 4))
        assert list(found.ids) == [9, 0, 1, 2]


def test_a_leg_tells_the_terms_that_live_rows_have_and_what_it_took():
    schema = schema_of(title=FullText())
    alive = np.array([True, True, False])
    snapshot = snapshot_of(schema, {"title": ["cat dog", "cat", "dodo"]}, alive)
    leg = TextLeg((("title", 1.0),), "dog cat dodo absent")
    figures = resident(relevant(snapshot, leg, live_rows(snapshot), 5)).figures()
    assert figures["terms"] == ["cat", "dog"]
    assert figures["postings"] == 3
    assert figures["rows_scored"] == 2


def test_a_query_without_tokens_and_a_snapshot_without_parts_have_no_answer():
    schema = schema_of(title=FullText())
    snapshot = snapshot_of(schema, {"title": ["cat", None]})
    nothing = SearchSnapshot(schema, [], "inc", 1, 1)
    for of, query in ((snapshot, "-"), (snapshot, "absent"), (nothing, "cat")):
        found = resident(relevant(of, TextLeg((("title", 1.0),), query), live_rows(of), 5))
        assert found.ids == () and len(found.scores) == 0


def test_what_is_to_come_with_the_hits_is_asked_for_them_only():
    schema = schema_of(title=FullText())
    snapshot = snapshot_of(schema, {"title": ["dog", "cat", "cat"]}, cuts=(2,))
    asked = []

    def beside(part, rows):
        asked.append((part, rows.tolist()))
        return done(None)

    leg = TextLeg((("title", 1.0),), "cat")
    resident(relevant(snapshot, leg, live_rows(snapshot), 5, beside))
    assert asked == [(0, [1]), (1, [0])]
