"""The best rows by BM25 without scoring every posting: exact.

MaxScore (Turtle and Flood 1995: Query evaluation: strategies and optimizations) with whole arrays, list by
list, from the highest bound down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Self

import numpy as np

from elacsym.index.bm25 import AnyList, FieldLists, Floats, Rows, TermList, Work, exact
from elacsym.index.text_build import Bools, Unsigned

# of more terms all postings are added up: every list costs a look into every other, and bounds exclude little
_TERMS_MAX = 24
# lists longer than this are first looked at where the term is frequent, to learn what the answer takes
_LONG = 4_096
# of so many rows all terms are looked up: to leave out some in between would cost as much
_ROWS_AT_ONCE = 512
# a filter that leaves up to 1/_SELECTIVE of the rows is a list of them, too; a term's list that is _FEW times
# as long is not gone through but looked into
_SELECTIVE = 16
_FEW = 8
# among so many scores equal ones are looked for first
_EQUAL_MIN = 256
# what is not 0 as float32 is above half of its smallest number
_LEAST = math.nextafter(2.0**-150, 1.0)


class Best:
    """The best scores so far, over all runs of rows of one query.

    A row whose score cannot reach `bar` is not among the best `depth`, and does not tie with the last of them
    when scores are rounded to float32.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._scores: Floats | None = None
        self.bar = 0.0

    def offer(self, scores: Floats) -> None:
        """Raise the bar to where scores of distinct rows, begun or whole, put it by themselves."""
        if len(scores) >= self.depth:
            self._raise(_last_of_best(scores, self.depth))

    def add(self, scores: Floats) -> None:
        """Take note of whole scores; a row's is added once."""
        known = scores if self._scores is None else np.concatenate([self._scores, scores])
        place = len(known) - self.depth
        if place >= 0 and len(known) <= _EQUAL_MIN:
            known = known.copy()
            known.partition(place)
            known = known[place:]
            self._raise(float(known[0]))
        elif place >= 0:
            last = _last_of_best(known, self.depth)
            self._raise(last)
            above = known.compress(known > last)
            known = np.full(self.depth, last)
            known[: len(above)] = above
        self._scores = known

    def _raise(self, score: float) -> None:
        # neighbours of float32 are 1.2e-7 apart relatively, or 1.4e-45; sums differ by far less
        self.bar = max(self.bar, score * (1 - 1e-6) - 1e-44)


class Chosen:
    """The rows of a run that may be answered, which are alive. rows: (m,) ascending, None where they are so
    many that they had better be told by the mask. is_all: every row that is alive may be."""

    __slots__ = ("_mask", "_total", "is_all", "rows")

    def __init__(self, mask: Bools | None, rows: Rows | None, total: int, *, is_all: bool = False) -> None:
        self._mask, self.rows, self._total, self.is_all = mask, rows, total, is_all

    @classmethod
    def listed(cls, rows: Rows, total: int) -> Self:
        """These rows, which ascend, of a run of so many."""
        return cls(None, rows, total)

    @staticmethod
    def are_few(count: int, total: int) -> bool:
        """Whether so many of a run's rows are worth a list of them."""
        return count * _SELECTIVE <= total

    @property
    def mask(self) -> Bools:
        """(rows,) bool, made at the first look."""
        if self._mask is None:
            self._mask = np.zeros(self._total, np.bool_)
            self._mask[self.rows] = True
        return self._mask


class Search:
    """The best rows of one run of rows.

    fields: the lists of the query's terms; chosen: the rows that may be answered, None for all. scored: how
    many rows' scores were begun.
    """

    def __init__(self, fields: Sequence[FieldLists], chosen: Chosen | None, best: Best) -> None:
        self._fields, self._chosen, self._best = fields, chosen, best
        flat = [(weight * one.bound, weight, one) for weight, lists in fields for one in lists]
        # what no row gets anything from is as if it were not there
        order = sorted(
            [(bound, number) for number, (bound, _, _) in enumerate(flat) if bound > 0], reverse=True
        )
        self._bounds = [bound for bound, _ in order]
        # where each list is in the order in which shares are added
        self._places = [number for _, number in order]
        self._weights = [flat[number][1] for number in self._places]
        self._lists = [flat[number][2] for number in self._places]
        # what the lists behind each one can add
        self._after = [0.0, *accumulate(reversed(self._bounds))][-2::-1]
        self._rows = None if chosen is None else chosen.rows
        self._found: list[tuple[Rows, Floats]] = []
        self.scored = 0

    def best_rows(self) -> tuple[Rows, Floats]:
        """(m,) rows, ascending, and their scores, above 0 as float32: all that can be among the best, some
        that cannot, each once."""
        if len(self._lists) > _TERMS_MAX:
            self._collect_all()
        else:
            self._collect_by_bounds()
        if not self._found:
            return np.empty(0, np.intp), np.empty(0)
        rows, scores = self._found[0]
        if len(self._found) > 1:
            rows = np.concatenate([rows for rows, _ in self._found])
            scores = np.concatenate([scores for _, scores in self._found])
        kept = (scores >= max(self._best.bar, _LEAST)).nonzero()[0]
        rows, scores = rows.take(kept), scores.take(kept)
        if len(self._found) > 1:
            order = rows.argsort()
            rows, scores = rows.take(order), scores.take(order)
        return rows, scores

    def _collect_all(self) -> None:
        """Add up all shares of all rows."""
        scores: Floats | None = None
        for weight, one in zip(self._weights, self._lists, strict=True):
            if scores is None:
                scores = np.zeros(_rows_total(one))
            rows, shares = one.everything()
            scores[rows] += weight * shares
        assert scores is not None, "many lists"
        if self._chosen is not None:
            scores *= self._chosen.mask
        rows = (scores > 0).nonzero()[0]
        self.scored += len(rows)
        self._best.offer(scores.take(rows))
        rows = rows.take((scores.take(rows) >= self._best.bar).nonzero()[0])
        whole = exact(self._fields, rows)
        self._best.add(whole)
        self._found.append((rows, whole))

    def _collect_by_bounds(self) -> None:
        """The lists from the highest bound down, until what is left cannot reach the bar."""
        for i in range(self._collect_first(), len(self._lists)):
            if self._bounds[i] + self._after[i] < self._best.bar:
                break
            one = self._lists[i]
            if isinstance(one, TermList):
                self._collect_postings(i, one)
            else:
                rows, shares = one.selected(self._least_share(i), self._mask_of_scored())
                self._collect(i, Work(rows), {self._places[i]: shares})

    def _collect_first(self) -> int:
        """Look at the first lists at once if few rows of each may be answered: one after another they would
        hardly raise the bar. How many lists that were."""
        if self._best.bar > 0:
            return 0
        found: list[Rows] = []
        shares: dict[int, Floats] = {}
        count = 0
        for i, one in enumerate(self._lists):
            own: dict[int, Floats] = {}
            if count >= self._best.depth:
                break
            if isinstance(one, TermList):
                if self._rows is None or one.postings.rows is None:
                    break
                rows, _ = self._selected(i, one, 1, None)
            elif self._chosen is None and len(one.rows) > _ROWS_AT_ONCE:
                break
            else:
                rows, own[self._places[i]] = one.selected(0.0, self._mask_of_scored())
            if count + len(rows) > _ROWS_AT_ONCE:
                break
            count += len(rows)
            found.append(rows)
            shares = own if len(found) == 1 else {}
        if count:
            self._collect(-1, Work(_united(found)), shares)
        return len(found)

    def _mask_of_scored(self) -> Bools | None:
        """The rows of lists by shares that may be answered; None: all, since what is listed is alive."""
        return None if self._chosen is None or self._chosen.is_all else self._chosen.mask

    def _collect_postings(self, i: int, one: TermList) -> None:
        below, least = None, max(1, one.least_frequency(self._least_share(i)))
        if least == 1 and one.postings.count > _LONG and self._rows is None:
            below = self._seed_frequency(one)
            if below is not None:
                self._collect_frequent(i, one, below, None)
                least = max(1, one.least_frequency(self._least_share(i)))
        if below is None or least < below:
            self._collect_frequent(i, one, least, below)

    def _least_share(self, i: int) -> float:
        """What a row must get from term i, if it has none before it, to reach the bar."""
        return (self._best.bar - self._after[i]) / self._weights[i]

    def _seed_frequency(self, one: TermList) -> int | None:
        """A frequency that few rows have, but more than the answer has; None if there is none above 1."""
        frequencies = one.postings.frequencies
        enough, found = 4 * self._best.depth, None
        for frequency in (2, 3, 4, 6, 8, 12, 16, 32, 64, 128):
            if np.count_nonzero(frequencies >= frequency) < enough:
                break
            found = frequency
        return found

    def _collect_frequent(self, i: int, one: TermList, least: int, below: int | None) -> None:
        """Find the rows that have term i `least` times or more, below `below`, and none before it."""
        rows, frequencies = self._selected(i, one, least, below)
        work = Work(rows)
        if len(rows):
            shares = one.shares(frequencies, work.norms_of(one.field))
            self._collect(i, work, {self._places[i]: shares})

    def _collect(self, i: int, work: Work, shares: dict[int, Floats]) -> None:
        """Find the best of these rows, as far as they have no term before the i-th. shares: those of the i-th
        list, by place; i is -1 where no list has been looked at."""
        if not len(work.rows):
            return
        self.scored += len(work.rows)
        if len(work.rows) > _ROWS_AT_ONCE:
            self._prune(i, work, shares)
        else:
            for place, one in zip(self._places[i + 1 :], self._lists[i + 1 :], strict=True):
                if place not in shares:
                    shares[place] = one.shares_at(work)
        scores, rows = self._summed(shares), work.rows
        if self._best.bar > 0:
            kept = (scores >= self._best.bar).nonzero()[0]
            rows, scores = rows.take(kept), scores.take(kept)
        for before in self._lists[: max(0, i)]:
            if not len(rows):
                return
            kept = (~before.has(rows)).nonzero()[0]
            rows, scores = rows.take(kept), scores.take(kept)
        if len(rows):
            self._best.add(scores)
            self._found.append((rows, scores))

    def _prune(self, i: int, work: Work, shares: dict[int, Floats]) -> None:
        """Look up the terms behind the i-th one after another, leaving out what cannot reach the bar."""
        first = shares[self._places[i]]
        so_far = first if self._weights[i] == 1 else self._weights[i] * first
        # else the i-th term alone cannot put the bar where any row is left out
        if max(self._bounds[i], self._best.bar) > self._after[i]:
            self._best.offer(so_far)
        last = len(self._lists) - 1
        for j in range(i + 1, last + 1):
            least = self._best.bar - self._after[j - 1]
            if least > 0:
                kept = (so_far >= least).nonzero()[0]
                work.keep(kept)
                so_far = so_far.take(kept)
                for known in shares:
                    shares[known] = shares[known].take(kept)
            more = shares[self._places[j]] = self._lists[j].shares_at(work)
            so_far = so_far + (more if self._weights[j] == 1 else self._weights[j] * more)
            if j < last:
                self._best.offer(so_far)

    def _summed(self, shares: dict[int, Floats]) -> Floats:
        """(m,) whole scores of shares by place; those of absent terms may be missing. Maybe one of these."""
        total: Floats | None = None
        start = stop = 0
        for weight, lists in self._fields:
            start, stop = stop, stop + len(lists)
            score: Floats | None = None
            for place in range(start, stop):
                share = shares.get(place)
                if share is not None:
                    score = share if score is None else score + share
            if score is not None:
                score = score if weight == 1 else weight * score
                total = score if total is None else total + score
        assert total is not None, "some list's rows"
        return total

    def _selected(self, i: int, one: TermList, least: int, below: int | None) -> tuple[Rows, Unsigned]:
        """The rows where term i is so frequent, as far as they are chosen, and its frequencies there."""
        postings = one.postings
        is_dense = postings.rows is None
        if self._rows is not None and (is_dense or postings.count > _FEW * len(self._rows)):
            frequencies = postings.at(self._rows)
            kept = (frequencies >= least).nonzero()[0]
            return self._rows.take(kept), frequencies.take(kept)
        frequencies = postings.frequencies
        wanted = None if least == 1 and not is_dense else frequencies >= least
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
        if self._chosen is not None:
            places = self._chosen.mask.take(rows).nonzero()[0]
            rows, frequencies = rows.take(places), frequencies.take(places)
        return rows, frequencies

    def _intersected(self, i: int, wanted: Bools) -> Bools:
        """`wanted`, (rows,) bool, where the choice and the other dense terms let a row reach the bar."""
        if self._chosen is not None:
            wanted &= self._chosen.mask
        total = self._bounds[i] + self._after[i]
        for j in range(i + 1, len(self._lists)):
            other = self._lists[j]
            if isinstance(other, TermList) and other.postings.rows is None:
                share = (self._best.bar - (total - self._bounds[j])) / self._weights[j]
                least = other.least_frequency(share)
                if least:
                    wanted &= other.postings.frequencies >= least
        return wanted


def _last_of_best(scores: Floats, depth: int) -> float:
    """The least of the best `depth`; there are so many. Many scores are equal often, which partitioning takes
    long for."""
    if len(scores) > _EQUAL_MIN:
        pivot = scores[len(scores) // 2]
        above = scores.compress(scores > pivot)
        if len(above) < depth <= np.count_nonzero(scores >= pivot):
            return float(pivot)
        if len(above) >= depth:
            scores = above
    place = len(scores) - depth
    scores = scores.copy()
    scores.partition(place)
    return float(scores[place])


def _rows_total(one: AnyList) -> int:
    return one.postings.rows_total if isinstance(one, TermList) else one.rows_total


def _united(lists: Sequence[Rows]) -> Rows:
    """The rows that are in any of some lists, ascending; each list ascends."""
    filled = [rows for rows in lists if len(rows)]
    if len(filled) == 1:
        return filled[0]
    rows = np.concatenate(filled)
    rows.sort()
    is_new = np.ones(len(rows), np.bool_)
    np.not_equal(rows[1:], rows[:-1], out=is_new[1:])
    return rows.compress(is_new)
