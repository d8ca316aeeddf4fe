"""BM25 over postings: the formula, and the exact best rows without scoring every posting.

With N documents, df of them with the term t, tf its count in the document, dl tokens in the document's field,
avgdl their mean, q its count in the query:

    sum over t of idf · tf·(k1 + 1) / (tf + k1·(1 - b + b·dl/avgdl)) · q·(k3 + 1) / (k3 + q)
    idf = ln(1 + (N - df + 0.5) / (df + 0.5))

Over several fields it is the sum of weight · BM25. Candidates are found by MaxScore (Turtle and Flood 1995:
Query evaluation: strategies and optimizations) with whole arrays, list by list; then `exact` adds their
shares in the one order that makes equal documents equal to the last bit, whatever part they are in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Self

import numpy as np
import numpy.typing as npt

from elacsym.index.text import Postings
from elacsym.index.text_build import DENSE_ROWS_MIN, DENSE_SHARE, WIDE, Bools, Unsigned
from elacsym.types import FullText

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

# norms are looked up by length where the longest text has at most so many tokens
_LENGTHS_TABLED_MAX = 2**14
# of more terms all postings are added up: every list costs a look into every other, and bounds exclude little
_TERMS_MAX = 24
# lists longer than this are first looked at where the term is frequent, to learn what the answer takes
_LONG = 4_096
# a filter that leaves up to 1/_SELECTIVE of the rows is a list of them, too; a term's list that is _FEW times
# as long is not gone through but looked into
_SELECTIVE = 16
_FEW = 8


class FieldScoring:
    """How one field scores under the statistics of a snapshot.

    documents: live rows with a value; tokens: theirs. length_min, length_max: no row that has tokens has
    fewer or more.
    """

    def __init__(
        self, settings: FullText, documents: int, tokens: int, length_min: int, length_max: int
    ) -> None:
        self._k1, self._b, self._k3 = settings.k1, settings.b, settings.k3
        self.gain = settings.k1 + 1
        self._documents = documents
        self._average = tokens / max(1, documents)
        self._table = None
        if length_max <= _LENGTHS_TABLED_MAX:
            self._table = self._norms(np.arange(length_max + 1, dtype=np.float64))
        self.norm_min = float(self._norms(np.array([length_min], np.float64))[0])

    def weight(self, document_frequency: int, in_query: int) -> float:
        """What of a term's share does not depend on the document."""
        rare = (self._documents - document_frequency + 0.5) / (document_frequency + 0.5)
        return math.log(1 + rare) * (in_query * (self._k3 + 1) / (self._k3 + in_query))

    def norms(self, lengths: Unsigned) -> Floats:
        """(n,) float64 of (n,) lengths: what is added to tf below the line."""
        return self._norms(lengths.astype(np.float64)) if self._table is None else self._table.take(lengths)

    def _norms(self, lengths: Floats) -> Floats:
        if not self._average:
            return np.ones(len(lengths))
        norms = self._k1 * (1 - self._b + self._b * lengths / self._average)
        # texts without tokens have no postings: any number will do that divides 0
        norms[lengths == 0] = 1.0
        return norms


@dataclass(slots=True, eq=False)
class FieldRows:
    """One field of a run of rows. lengths: (rows,) unsigned; weight: the field's in the query."""

    scoring: FieldScoring
    lengths: Unsigned
    weight: float = 1.0

    def norms(self, rows: Rows) -> Floats:
        """(m,) what is added to tf below the line in these rows."""
        return self.scoring.norms(self.lengths.take(rows))


class TermList:
    """A query term in one field of a run of rows.

    weight: `FieldScoring.weight`; frequency_max: no row has it more often, WIDE standing for any number.
    scale: the limit of a row's weighted share for tf without end; bound: no row's share is above it.
    """

    __slots__ = ("bound", "field", "postings", "scale", "weight")

    def __init__(self, field_rows: FieldRows, postings: Postings, weight: float, frequency_max: int) -> None:
        self.field, self.postings, self.weight = field_rows, postings, weight
        self.scale = self.bound = field_rows.weight * weight * field_rows.scoring.gain
        if frequency_max < WIDE:
            self.bound *= frequency_max / (frequency_max + field_rows.scoring.norm_min)

    def least_frequency(self, share: float) -> int:
        """How often a row must have the term for such a share, at least; 0: it need not."""
        if share <= 0:
            return 0
        if share >= self.scale:
            return 2**31
        # rounded down a little: a bound must not exclude by an error of rounding
        return max(
            1, math.ceil(share * self.field.scoring.norm_min / (self.scale - share) * (1 - 1e-9) - 1e-9)
        )

    def shares(self, frequencies: Unsigned, norms: Floats) -> Floats:
        """(m,) weighted shares, up to the order of rounding."""
        tf = frequencies.astype(np.float64)
        norms = norms + tf
        tf *= self.scale
        tf /= norms
        return tf


class Best:
    """The best scores so far, over all runs of rows of one query.

    A row whose score cannot reach `bar` is not among the best `depth`, and does not tie with the last of them
    when scores are rounded to float32.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._scores = np.empty(0)
        self.bar = 0.0

    def offer(self, scores: Floats) -> None:
        """Raise the bar to where scores of distinct rows, begun or whole, put it by themselves."""
        place = len(scores) - self.depth
        if place >= 0:
            scores = scores.copy()
            scores.partition(place)
            self._raise(float(scores[place]))

    def add(self, scores: Floats) -> None:
        """Take note of whole scores; a row's is added once."""
        self._scores = np.concatenate([self._scores, scores])
        place = len(self._scores) - self.depth
        if place >= 0:
            self._scores.partition(place)
            self._scores = self._scores[place:]
            self._raise(float(self._scores[0]))

    def _raise(self, score: float) -> None:
        # neighbours of float32 are 1.2e-7 apart relatively, or 1.4e-45; sums differ by far less
        self.bar = max(self.bar, score * (1 - 1e-6) - 1e-44)


@dataclass(slots=True, eq=False)
class _Work:
    """Rows whose score is being added up. norms: by field, of the rows."""

    rows: Rows
    scores: Floats
    norms: dict[int, Floats] = field(default_factory=dict)

    def norms_of(self, field_rows: FieldRows) -> Floats:
        norms = self.norms.get(id(field_rows))
        if norms is None:
            norms = self.norms[id(field_rows)] = field_rows.norms(self.rows)
        return norms

    def keep(self, is_kept: Bools) -> None:
        kept = is_kept.nonzero()[0]
        if len(kept) < len(self.rows):
            self.rows, self.scores = self.rows.take(kept), self.scores.take(kept)
            self.norms = {key: norms.take(kept) for key, norms in self.norms.items()}


@dataclass(slots=True, eq=False)
class Chosen:
    """The rows of a run that may be answered. mask: (rows,) bool; rows: (m,) ascending, None where they are
    so many that they had better be told by the mask."""

    mask: Bools
    rows: Rows | None

    @classmethod
    def of(cls, mask: Bools, count: int) -> Self:
        """The rows that are set in a mask, so many."""
        return cls(mask, mask.nonzero()[0] if cls.are_few(count, len(mask)) else None)

    @classmethod
    def listed(cls, rows: Rows, total: int) -> Self:
        """These rows, which ascend, of a run of so many."""
        mask = np.zeros(total, np.bool_)
        mask[rows] = True
        return cls(mask, rows)

    @staticmethod
    def are_few(count: int, total: int) -> bool:
        """Whether so many of a run's rows are worth a list of them."""
        return count * _SELECTIVE <= total


class Search:
    """The candidates of one run of rows.

    lists: those of the query's terms that rows have, in any order. chosen: the rows that may be answered,
    None for all. scored: how many rows' scores were begun.
    """

    def __init__(self, lists: Sequence[TermList], chosen: Chosen | None, best: Best) -> None:
        self._lists = sorted(lists, key=lambda one: -one.bound)
        bounds = [one.bound for one in self._lists]
        self._after = [sum(bounds[i:]) for i in range(1, len(bounds) + 1)]
        self._best = best
        self._mask = None if chosen is None else chosen.mask
        self._rows = None if chosen is None else chosen.rows
        self._found: list[_Work] = []
        self.scored = 0

    def candidates(self) -> Rows:
        """(m,) rows, ascending: all that can be among the best, some that cannot, each once."""
        if len(self._lists) > _TERMS_MAX:
            self._collect_all()
        else:
            self._collect_by_bounds()
        rows = [work.rows[work.scores >= self._best.bar] for work in self._found]
        return np.sort(np.concatenate([np.empty(0, np.intp), *rows]))

    def _collect_all(self) -> None:
        """Add up all shares of all rows."""
        scores = np.zeros(self._lists[0].postings.rows_total)
        for one in self._lists:
            listed, frequencies = one.postings.listed()
            rows = listed.astype(np.intp)
            scores[rows] += one.shares(frequencies, one.field.norms(rows))
        if self._mask is not None:
            scores *= self._mask
        rows = (scores > 0).nonzero()[0]
        self.scored += len(rows)
        work = _Work(rows, scores.take(rows))
        self._best.add(work.scores)
        self._found.append(work)

    def _collect_by_bounds(self) -> None:
        """MaxScore: the lists from the highest bound down, until what is left cannot reach the bar."""
        for i, one in enumerate(self._lists):
            if one.bound + self._after[i] < self._best.bar:
                break
            below = None
            if one.postings.count > _LONG and self._rows is None:
                below = self._seed_frequency(i)
                if below is not None:
                    self._collect(i, below, None)
            least = max(1, one.least_frequency(self._best.bar - self._after[i]))
            if below is None or least < below:
                self._collect(i, least, below)

    def _seed_frequency(self, i: int) -> int | None:
        """A frequency that few rows have, but more than the answer has; None if there is none above 1."""
        frequencies = self._lists[i].postings.frequencies
        enough, found = 4 * self._best.depth, None
        for frequency in (2, 3, 4, 6, 8, 12, 16, 32, 64, 128):
            if np.count_nonzero(frequencies >= frequency) < enough:
                break
            found = frequency
        return found

    def _collect(self, i: int, least: int, below: int | None) -> None:
        """Find the rows that have term i `least` times or more, below `below`, and none before it."""
        one = self._lists[i]
        rows, frequencies = self._selected(i, least, below)
        if not len(rows):
            return
        self.scored += len(rows)
        work = _Work(rows, np.empty(0))
        work.scores = one.shares(frequencies, work.norms_of(one.field))
        if one.bound > self._best.bar:
            self._best.offer(work.scores)
        last = len(self._lists) - 1
        for j in range(i + 1, last + 1):
            work.keep(work.scores >= self._best.bar - self._after[j - 1])
            if not len(work.rows):
                return
            other = self._lists[j]
            frequencies = other.postings.at(work.rows)
            work.scores = work.scores + other.shares(frequencies, work.norms_of(other.field))
            if j < last:
                self._best.offer(work.scores)
        work.keep(work.scores >= self._best.bar)
        for before in self._lists[:i]:
            work.keep(before.postings.at(work.rows) == 0)
        if len(work.rows):
            self._best.add(work.scores)
            self._found.append(work)

    def _selected(self, i: int, least: int, below: int | None) -> tuple[Rows, Unsigned]:
        """The rows where term i is so frequent, as far as the mask has them, and its frequencies there."""
        postings = self._lists[i].postings
        if self._rows is not None and postings.count > _FEW * len(self._rows):
            frequencies = postings.at(self._rows)
            kept = (frequencies >= least).nonzero()[0]
            return self._rows.take(kept), frequencies.take(kept)
        frequencies = postings.frequencies
        wanted = None if least == 1 and postings.rows is not None else frequencies >= least
        if below is not None:
            wanted = frequencies < below if wanted is None else wanted & (frequencies < below)
        if postings.rows is None:
            assert wanted is not None, "absent rows are no postings"
            rows = self._intersected(i, wanted).nonzero()[0]
            return rows, frequencies.take(rows)
        listed = postings.rows
        if wanted is not None:
            places = wanted.nonzero()[0]
            listed, frequencies = listed.take(places), frequencies.take(places)
        rows = listed.astype(np.intp)
        if self._mask is not None:
            places = self._mask.take(rows).nonzero()[0]
            rows, frequencies = rows.take(places), frequencies.take(places)
        return rows, frequencies

    def _intersected(self, i: int, wanted: Bools) -> Bools:
        """`wanted`, (rows,) bool, where mask and the other dense terms let a row reach the bar."""
        if self._mask is not None:
            wanted &= self._mask
        total = self._lists[i].bound + self._after[i]
        for other in self._lists[i + 1 :]:
            least = other.least_frequency(self._best.bar - (total - other.bound))
            if least and other.postings.rows is None:
                wanted &= other.postings.frequencies >= least
        return wanted


def exact(fields: Iterable[Sequence[TermList]], rows: Rows) -> Floats:
    """(m,) the scores of rows, which ascend. fields: in the order of the query, each with its terms' lists in
    the order of the terms."""
    total = np.zeros(len(rows))
    for lists in fields:
        if not lists:
            continue
        norms, score = lists[0].field.norms(rows), np.zeros(len(rows))
        for one in lists:
            tf = one.postings.at(rows).astype(np.float64)
            score += one.weight * (tf * one.field.scoring.gain / (tf + norms))
        total += lists[0].field.weight * score
    return total


def joined(postings: Sequence[Postings | None], sizes: Sequence[int]) -> Postings:
    """The postings of one term over several runs of rows, numbered on. sizes: rows of each; None: no row has
    the term, but in one run some have."""
    if len(postings) == 1 and postings[0] is not None:
        return postings[0]
    total, count = sum(sizes), sum(one.count for one in postings if one is not None)
    starts = [0, *accumulate(sizes)]
    present = [(start, one) for start, one in zip(starts, postings, strict=False) if one is not None]
    if count * DENSE_SHARE >= total >= DENSE_ROWS_MIN:
        by_row = np.zeros(total, np.result_type(*(one.frequencies for _, one in present)))
        for start, one in present:
            part = by_row[start : start + one.rows_total]
            part[slice(None) if one.rows is None else one.rows] = one.frequencies
        return Postings(None, by_row, count, total)
    listed = [one.listed() for _, one in present]
    rows = np.concatenate([rows for rows, _ in listed], dtype=np.uint32)
    rows += np.repeat(np.array([start for start, _ in present], np.uint32), [one.count for _, one in present])
    return Postings(rows, np.concatenate([frequencies for _, frequencies in listed]), count, total)
