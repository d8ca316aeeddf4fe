"""BM25 over postings: the formula, and the lists of terms with what each term adds to a row's score.

With N documents, df of them with the term t, tf its count in the document, dl tokens in the document's field,
avgdl their mean, q its count in the query:

    sum over t of idf · tf·(k1 + 1) / (tf + k1·(1 - b + b·dl/avgdl)) · q·(k3 + 1) / (k3 + q)
    idf = ln(1 + (N - df + 0.5) / (df + 0.5))

Over several fields it is the sum of weight · BM25. Shares are computed in one way and added in one order,
that of the query's fields and of their terms, so that equal documents are equal to the last bit, whatever
part they are in. `elacsym.index.maxscore` finds the best rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from elacsym.index.text import Postings
from elacsym.index.text_build import DENSE_ROWS_MIN, WIDE, Bools, Unsigned
from elacsym.types import FullText

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]

# norms are looked up by length where the longest text has at most so many tokens
_LENGTHS_TABLED_MAX = 2**14
# joined postings are dense from 1/_JOINED_DENSE_SHARE of the rows on: they are looked into more than once
_JOINED_DENSE_SHARE = 16
# up to so many rows are looked up by binary search; for more, a mask tells the few that are in both lists
_NEEDLES_MAX = 256


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
    """One field of a run of rows. lengths: (rows,) unsigned."""

    scoring: FieldScoring
    lengths: Unsigned

    def norms(self, rows: Rows) -> Floats:
        """(m,) what is added to tf below the line in these rows."""
        return self.scoring.norms(self.lengths.take(rows))


class Work:
    """Rows whose scores are being added up, (m,) ascending, with their norms in the fields looked at."""

    __slots__ = ("_norms", "rows")

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._norms: dict[int, Floats] = {}

    def norms_of(self, field_rows: FieldRows) -> Floats:
        """(m,) `FieldRows.norms`, computed once."""
        norms = self._norms.get(id(field_rows))
        if norms is None:
            norms = self._norms[id(field_rows)] = field_rows.norms(self.rows)
        return norms

    def keep(self, kept: Rows) -> None:
        """Go on with the rows at these places."""
        self.rows = self.rows.take(kept)
        self._norms = {key: norms.take(kept) for key, norms in self._norms.items()}


class TermList:
    """A query term in one field of a run of rows, by its postings.

    weight: `FieldScoring.weight`; frequency_max: no row has it more often, WIDE standing for any number.
    scale: the limit of a row's share for tf without end; bound: no row's share is above it.
    """

    __slots__ = ("bound", "field", "postings", "scale", "weight")

    def __init__(self, field_rows: FieldRows, postings: Postings, weight: float, frequency_max: int) -> None:
        self.field, self.postings, self.weight = field_rows, postings, weight
        self.scale = self.bound = weight * field_rows.scoring.gain
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
        """(m,) what the term adds in rows that have it so often."""
        tf = frequencies.astype(np.float64)
        below = tf + norms
        tf *= self.field.scoring.gain
        tf /= below
        tf *= self.weight
        return tf

    def shares_at(self, work: Work) -> Floats:
        """(m,) what the term adds in these rows, 0 where it is absent. A new array."""
        frequencies = self.postings.at(work.rows)
        if self.postings.rows is None or len(frequencies) <= _NEEDLES_MAX:
            return self.shares(frequencies, work.norms_of(self.field))
        # few of the rows have it
        places = frequencies.nonzero()[0]
        found, norms = np.zeros(len(frequencies)), self.field.norms(work.rows.take(places))
        found[places] = self.shares(frequencies.take(places), norms)
        return found

    def everything(self) -> tuple[Rows, Floats]:
        """(p,) the rows of the term, and its shares."""
        listed, frequencies = self.postings.listed()
        rows = listed.astype(np.intp)
        return rows, self.shares(frequencies, self.field.norms(rows))

    def has(self, rows: Rows) -> Bools:
        """(m,) which of these rows have the term."""
        found: Bools = self.postings.at(rows) != 0
        return found


class ScoredList:
    """A query term in one field of a run of rows, by its shares; of the rows that are alive.

    rows: (p,) ascending; shares: (p,), not to be changed; rows_total: of the run; bound: the largest share.
    """

    __slots__ = ("bound", "rows", "rows_total", "shares")

    def __init__(self, rows: Rows, shares: Floats, rows_total: int) -> None:
        self.rows, self.shares, self.rows_total = rows, shares, rows_total
        self.bound = float(shares.max(initial=0.0))

    @classmethod
    def of(cls, one: TermList, alive: Bools | None) -> Self:
        """The same term. alive: (rows,), None where all are."""
        rows, shares = one.everything()
        if alive is not None:
            kept = alive.take(rows).nonzero()[0]
            rows, shares = rows.take(kept), shares.take(kept)
        return cls(rows, shares, one.postings.rows_total)

    @classmethod
    def none(cls, rows_total: int) -> Self:
        """A term that no row has."""
        return cls(np.empty(0, np.intp), np.empty(0), rows_total)

    @property
    def size_bytes(self) -> int:
        """What rows and shares take."""
        return self.rows.nbytes + self.shares.nbytes

    def shares_at(self, work: Work) -> Floats:
        """(m,) what the term adds in these rows, 0 where it is absent. A new array."""
        own, rows = self.rows, work.rows
        if not len(own):
            return np.zeros(len(rows))
        if len(rows) <= _NEEDLES_MAX:
            places = own.searchsorted(rows)
            found = self.shares.take(places, mode="clip")
            found *= own.take(places, mode="clip") == rows
            return found
        found, places = np.zeros(len(rows)), self.has(rows).nonzero()[0]
        found[places] = self.shares.take(own.searchsorted(rows.take(places)))
        return found

    def everything(self) -> tuple[Rows, Floats]:
        """(p,) the rows of the term, and its shares."""
        return self.rows, self.shares

    def has(self, rows: Rows) -> Bools:
        """(m,) which of these rows, which are alive, have the term."""
        if not len(self.rows):
            return np.zeros(len(rows), np.bool_)
        if len(rows) <= _NEEDLES_MAX:
            found: Bools = self.rows.take(self.rows.searchsorted(rows), mode="clip") == rows
            return found
        mask = np.zeros(self.rows_total, np.bool_)
        mask[self.rows] = True
        return mask.take(rows)

    def selected(self, share: float, mask: Bools | None) -> tuple[Rows, Floats]:
        """The rows, as far as the mask has them, with such a share or more, and their shares."""
        if mask is not None:
            wanted = mask.take(self.rows)
            if share > 0:
                wanted &= self.shares >= share
        elif share > 0:
            wanted = self.shares >= share
        else:
            return self.rows, self.shares
        kept = wanted.nonzero()[0]
        return self.rows.take(kept), self.shares.take(kept)


AnyList = TermList | ScoredList


class FieldLists(NamedTuple):
    """The lists of one field's terms, in the order of the terms, and the field's weight in the query."""

    weight: float
    lists: Sequence[AnyList]


def exact(fields: Iterable[FieldLists], rows: Rows) -> Floats:
    """(m,) the scores of rows that are alive, which ascend. fields: in the order of the query."""
    total, work = np.zeros(len(rows)), Work(rows)
    for weight, lists in fields:
        if lists:
            score = np.zeros(len(rows))
            for one in lists:
                score += one.shares_at(work)
            total += weight * score
    return total


def joined(postings: Sequence[Postings | None], sizes: Sequence[int]) -> Postings:
    """The postings of one term over several runs of rows, numbered on. sizes: rows of each; None: no row has
    the term, but in one run some have."""
    if len(postings) == 1 and postings[0] is not None:
        return postings[0]
    total, count = sum(sizes), sum(one.count for one in postings if one is not None)
    starts = [0, *accumulate(sizes)]
    present = [(start, one) for start, one in zip(starts, postings, strict=False) if one is not None]
    if count * _JOINED_DENSE_SHARE >= total >= DENSE_ROWS_MIN:
        by_row = np.zeros(total, np.result_type(*(one.frequencies for _, one in present)))
        for start, one in present:
            part = by_row[start : start + one.rows_total]
            part[slice(None) if one.rows is None else one.rows] = one.frequencies
        return Postings(None, by_row, count, total)
    listed = [one.listed() for _, one in present]
    rows = np.concatenate([rows for rows, _ in listed], dtype=np.uint32)
    rows += np.repeat(np.array([start for start, _ in present], np.uint32), [one.count for _, one in present])
    return Postings(rows, np.concatenate([frequencies for _, frequencies in listed]), count, total)
