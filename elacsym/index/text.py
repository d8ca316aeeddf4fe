"""Postings of one text attribute of one part, exact statistics under deletions, and BM25.

All arrays, so that a file is opened without parsing and scored without a loop over postings:

    terms        sorted by UTF-8 bytes: offsets (t + 1,) and bytes; a term's position is its number
    postings     by term: offsets (t + 1,), rows ascending, frequencies
    forward      by row: offsets (n + 1,), term numbers ascending, frequencies
    lengths      (n,) tokens of each row, has_value (n,)

The forward list takes deleted rows out of document frequencies and makes a merge possible without the texts.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import CorruptObject
from elacsym.format import blob
from elacsym.index.tokenize import TOKEN_LENGTH_MAX, Analyzer, analyzer
from elacsym.types import FullText

KIND, VERSION = "text", 1
VALUES_AT_ONCE = 1_024  # texts that are Python objects at one time while an index is built
DROPPED = 2**32 - 1  # the number of segments without a term while an index is built
_FREQUENCY_TYPES = ("|u1", "<u2", "<u4")

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FieldStatistics:
    """What BM25 knows of a field: documents with a value, their tokens, how many have each term."""

    documents: int
    tokens: int
    document_frequency: Mapping[str, int]

    def __add__(self, other: FieldStatistics) -> FieldStatistics:
        """The statistics of both sets of documents, over the same terms."""
        assert self.document_frequency.keys() == other.document_frequency.keys()
        frequency = {term: n + other.document_frequency[term] for term, n in self.document_frequency.items()}
        return FieldStatistics(self.documents + other.documents, self.tokens + other.tokens, frequency)

    @classmethod
    def none(cls, terms: Iterable[str]) -> Self:
        """The statistics of no documents: the neutral element of addition."""
        return cls(0, 0, dict.fromkeys(terms, 0))


@dataclass(frozen=True, slots=True)
class Lists:
    """Lists of numbers with frequencies, one after another: list i is at offsets[i]:offsets[i + 1]."""

    offsets: Ints
    numbers: npt.NDArray[np.uint32]
    frequencies: npt.NDArray[np.unsignedinteger[Any]]

    def one(self, i: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """`(numbers, frequencies)` of list i, uint32 each."""
        part = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return self.numbers[part], self.frequencies[part].astype(np.uint32, copy=False)

    def places(self, lists: Ints) -> Ints:
        """Where the elements of these lists stand, list after list."""
        starts, counts = self.offsets[lists], self.counts(lists)
        before = np.cumsum(counts) - counts
        return np.repeat(starts - before, counts) + np.arange(counts.sum())

    def counts(self, lists: Ints) -> Ints:
        """How many elements these lists have."""
        return self.offsets[lists + 1] - self.offsets[lists]


class TextIndex:
    """The postings of one attribute; immutable, safe for threads. rows_total: rows of the part.

    lengths: (rows_total,) uint32, tokens per row. has_value: (rows_total,) bool, rows that are not null.
    """

    def __init__(
        self,
        terms: tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]],
        postings: Lists,
        forward: Lists,
        lengths: npt.NDArray[np.uint32],
        has_value: npt.NDArray[np.bool_],
    ) -> None:
        self._term_offsets, self._term_bytes = terms
        self._offsets_view, self._bytes_view = terms[0].data, terms[1].data
        self._postings, self.forward_lists = postings, forward
        self.lengths, self.has_value = lengths, has_value

    @classmethod
    def build(cls, texts: pa.Array | pa.ChunkedArray, settings: FullText) -> Self:
        """The index of `texts`: string, or list of string.

        The elements of a list are analysed one by one and their lengths add up. Nulls have no value; an
        empty text has one of length 0.
        """
        whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        analysis = analyzer(settings)
        numbering = _Numbering(analysis)
        numbers, ends = array("I"), np.zeros(len(whole) + 1, np.int64)
        for row, value in enumerate(_values(whole)):
            for text in _texts(value):
                numbers.extend(map(numbering.__getitem__, analysis.segments(text)))
            ends[row + 1] = len(numbers)
        found = np.frombuffer(numbers, np.uint32)
        kept = np.flatnonzero(found != DROPPED)
        rows = np.repeat(np.arange(len(whole)), ends[1:] - ends[:-1])[kept]
        lengths = np.bincount(rows, minlength=len(whole)).astype(np.uint32)
        terms = sorted(numbering.terms)
        rank = np.empty(len(terms), np.uint32)
        rank[[numbering.terms[term] for term in terms]] = np.arange(len(terms))
        keys = np.sort(_pairs(rows, rank[found[kept]]))
        first = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
        frequencies = np.diff(first, append=len(keys))
        has_value = whole.is_valid().to_numpy(zero_copy_only=False)
        return cls._assemble(pa.array(terms, pa.string()), keys[first], frequencies, lengths, has_value)

    @classmethod
    def empty(cls, rows_total: int) -> Self:
        """The index of rows without a value."""
        none = np.empty(0, np.uint64)
        terms = pa.array([], pa.string())
        return cls._assemble(
            terms, none, none, np.zeros(rows_total, np.uint32), np.zeros(rows_total, np.bool_)
        )

    @classmethod
    def _assemble(
        cls,
        terms: pa.Array,
        keys: npt.NDArray[np.uint64],
        frequencies: npt.NDArray[np.integer[Any]],
        lengths: npt.NDArray[np.uint32],
        has_value: npt.NDArray[np.bool_],
    ) -> Self:
        """terms: sorted. keys: ascending (row, term number) pairs with their frequencies."""
        narrow = frequencies.astype(np.min_scalar_type(int(frequencies.max(initial=0))))
        rows, numbers = _unpaired(keys)
        order = np.argsort(_pairs(numbers, rows))
        by_term, by_row = (
            np.bincount(numbers, minlength=len(terms)),
            np.bincount(rows, minlength=len(lengths)),
        )
        postings = Lists(_starts(by_term), rows[order], narrow[order])
        return cls(_term_arrays(terms), postings, Lists(_starts(by_row), numbers, narrow), lengths, has_value)

    @classmethod
    def merge(cls, indexes: Sequence[TextIndex], row_maps: Sequence[Ints], rows_total: int) -> Self:
        """One index over `rows_total` rows: row r of indexes[i] becomes row row_maps[i][r], or goes (-1).

        Equal to building it from the texts again; rows that nothing maps to have no value. Cost: a sort of
        the pairs kept.
        """
        every = pa.concat_arrays([index.terms() for index in indexes]).dictionary_encode()
        order = pc.sort_indices(every.dictionary).to_numpy()
        rank = np.empty(len(order), np.uint32)
        rank[order] = np.arange(len(order))
        codes = rank[every.indices.to_numpy()]
        lengths, has_value = np.zeros(rows_total, np.uint32), np.zeros(rows_total, np.bool_)
        keys, frequencies, first = [], [], 0
        for index, row_map in zip(indexes, row_maps, strict=True):
            kept = np.flatnonzero(row_map >= 0)
            lengths[row_map[kept]], has_value[row_map[kept]] = index.lengths[kept], index.has_value[kept]
            places = index.forward_lists.places(kept)
            rows = np.repeat(row_map[kept], index.forward_lists.counts(kept))
            keys.append(_pairs(rows, codes[first + index.forward_lists.numbers[places].astype(np.int64)]))
            frequencies.append(index.forward_lists.frequencies[places].astype(np.uint32))
            first += index.terms_total
        pairs, counts = np.concatenate(keys), np.concatenate(frequencies)
        by_row = np.argsort(pairs)
        kept_rows, numbers = _unpaired(pairs[by_row])
        # terms of deleted rows alone must not stay behind
        used = np.bincount(numbers, minlength=len(order)) > 0
        compact = _pairs(kept_rows, (np.cumsum(used) - 1)[numbers])
        terms = every.dictionary.take(pa.array(order[used]))
        return cls._assemble(terms, compact, counts[by_row], lengths, has_value)

    def encode(self) -> bytes:
        """The index as a file."""
        sections: dict[str, npt.NDArray[Any]] = {
            "term_offsets": self._term_offsets,
            "term_bytes": self._term_bytes,
            "lengths": self.lengths,
            "has_value": self.has_value,
        }
        for name, lists in (("posting", self._postings), ("forward", self.forward_lists)):
            sections[f"{name}_offsets"] = lists.offsets
            sections[f"{name}_numbers"] = lists.numbers
            sections[f"{name}_frequencies"] = lists.frequencies
        meta = {
            "kind": KIND,
            "version": VERSION,
            "rows_total": self.rows_total,
            "terms_total": self.terms_total,
        }
        return blob.encode(sections, meta)

    @classmethod
    def open(cls, data: memoryview | bytes, key: str, *, verify: bool = False) -> Self:
        """The index in a file, without copying.

        `verify` checks every byte: not needed where the file was mapped by its digest. Raises CorruptObject.
        """
        file = blob.Blob.open(data, key).expect(KIND, VERSION)
        if verify:
            file.verify()
        n, t = file.scalar("rows_total"), file.scalar("terms_total")
        return cls(
            (file.array("term_offsets", "<i4", t + 1), file.array("term_bytes", "u1", None)),
            _open_lists(file, "posting", t),
            _open_lists(file, "forward", n),
            file.array("lengths", "<u4", n),
            file.array("has_value", "?", n),
        )

    @property
    def rows_total(self) -> int:
        """Rows of the part, with a value or without."""
        return len(self.lengths)

    @property
    def terms_total(self) -> int:
        """Distinct terms."""
        return len(self._term_offsets) - 1

    @cached_property
    def _totals(self) -> tuple[int, int]:
        return int(np.count_nonzero(self.has_value)), int(self.lengths.sum(dtype=np.uint64))

    def term(self, number: int) -> str:
        """The term of a number."""
        return self._encoded(number).decode()

    def number(self, term: str) -> int | None:
        """The number of a term, or None where no row has it. Cost: a binary search."""
        wanted = term.encode()
        number = bisect_left(range(self.terms_total), wanted, key=self._encoded)
        return number if number < self.terms_total and self._encoded(number) == wanted else None

    def postings(self, term: str) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """`(rows, frequencies)` of a term, (p,) uint32 each, rows ascending; deleted rows included."""
        number = self.number(term)
        if number is None:
            return np.empty(0, np.uint32), np.empty(0, np.uint32)
        return self._postings.one(number)

    def forward(self, row: int) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """`(term numbers, frequencies)` of a row, uint32 each, numbers ascending."""
        return self.forward_lists.one(row)

    def statistics(self, terms: Iterable[str], alive: npt.NDArray[np.bool_]) -> FieldStatistics:
        """The statistics of the live rows for these terms. alive: (rows_total,) bool.

        Cost: the smaller of the terms' postings and the dead rows' forward lists.
        """
        numbers = {term: self.number(term) for term in terms}
        dead = np.flatnonzero(~alive)
        known = np.unique(np.array([n for n in numbers.values() if n is not None], np.int64))
        counts = self._live_counts(known, dead, alive)
        documents, tokens = self._totals
        frequency = {
            term: 0 if number is None else int(counts[np.searchsorted(known, number)])
            for term, number in numbers.items()
        }
        return FieldStatistics(
            documents - int(np.count_nonzero(self.has_value[dead])),
            tokens - int(self.lengths[dead].sum(dtype=np.uint64)),
            frequency,
        )

    def _live_counts(self, numbers: Ints, dead: Ints, alive: npt.NDArray[np.bool_]) -> Ints:
        """How many live rows have each of these terms. numbers: ascending and distinct."""
        counts = self._postings.counts(numbers)
        if not len(dead) or not len(numbers):
            return counts
        if self.forward_lists.counts(dead).sum() > counts.sum():
            return np.array(
                [np.count_nonzero(alive[self._postings.one(number)[0]]) for number in numbers.tolist()]
            )
        gone = self.forward_lists.numbers[self.forward_lists.places(dead)]
        place = np.minimum(np.searchsorted(numbers, gone), len(numbers) - 1)
        return counts - np.bincount(place[numbers[place] == gone], minlength=len(numbers))

    def _encoded(self, number: int) -> bytes:
        return bytes(self._bytes_view[self._offsets_view[number] : self._offsets_view[number + 1]])

    def terms(self) -> pa.Array:
        """The terms as an Arrow array of string, in the order of their numbers."""
        buffers = [None, pa.py_buffer(self._term_offsets), pa.py_buffer(self._term_bytes)]
        return pa.Array.from_buffers(pa.string(), self.terms_total, buffers)


def bm25_scores(
    index: TextIndex, statistics: FieldStatistics, query_terms: Mapping[str, int], settings: FullText
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """BM25 of every row that has a query term, deleted rows included.

    query_terms: term to how often the query has it. statistics: of the whole snapshot, for at least these
    terms. Returns `(rows, scores)`: (j,) int64 ascending and float64, greater than 0. With N documents, df
    of them with the term t:

        sum over t of idf · tf·(k1 + 1) / (tf + k1·(1 - b + b·dl/avgdl)) · q·(k3 + 1) / (k3 + q)
        idf = ln(1 + (N - df + 0.5) / (df + 0.5))

    Terms are added in sorted order, so a row's score does not depend on the part it is in.
    """
    if not statistics.tokens:
        return np.empty(0, np.int64), np.empty(0)
    average = statistics.tokens / statistics.documents
    found = []
    for term in sorted(query_terms):
        rows, frequencies = index.postings(term)
        df, q = statistics.document_frequency[term], query_terms[term]
        weight = math.log(1 + (statistics.documents - df + 0.5) / (df + 0.5)) * (
            q * (settings.k3 + 1) / (settings.k3 + q)
        )
        tf = frequencies.astype(np.float64)
        norm = settings.k1 * (1 - settings.b + settings.b * index.lengths[rows] / average)
        found.append((rows, weight * (tf * (settings.k1 + 1) / (tf + norm))))
    return _summed(found, index.rows_total)


def _summed(
    found: Sequence[tuple[npt.NDArray[np.uint32], npt.NDArray[np.float64]]], rows_total: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Shares added up by row, in the order given; rows are distinct within one element."""
    if 8 * sum(len(rows) for rows, _ in found) > rows_total:
        dense = np.zeros(rows_total)
        for rows, shares in found:
            dense[rows] += shares
        hit = np.flatnonzero(dense)
        return hit, dense[hit]
    hit = np.unique(np.concatenate([np.empty(0, np.uint32), *(rows for rows, _ in found)])).astype(np.int64)
    scores = np.zeros(len(hit))
    for rows, shares in found:
        scores[np.searchsorted(hit, rows)] += shares
    return hit, scores


class _Numbering(dict[str, int]):
    """Segment to the number of its term, or DROPPED; `terms` are numbered in the order they turn up."""

    def __init__(self, analysis: Analyzer) -> None:
        super().__init__()
        self._analysis = analysis
        self.terms: dict[str, int] = {}

    def __missing__(self, segment: str) -> int:
        term = self._analysis.term(segment)
        number = self.terms.setdefault(term, len(self.terms)) if term else DROPPED
        if len(segment) <= TOKEN_LENGTH_MAX:  # longer ones may be as long as the text
            self[segment] = number
        return number


def _values(texts: pa.Array) -> Iterable[Any]:
    """The values as Python objects, a bounded number at a time."""
    for start in range(0, len(texts), VALUES_AT_ONCE):
        yield from texts.slice(start, VALUES_AT_ONCE).to_pylist()


def _texts(value: str | list[str | None] | None) -> Iterable[str]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else (text for text in value if text is not None)


def _pairs(high: npt.NDArray[np.integer[Any]], low: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint64]:
    """(high, low) pairs of 32-bit numbers as one sortable number each."""
    return high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)


def _unpaired(pairs: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    return (pairs >> np.uint64(32)).astype(np.uint32), pairs.astype(np.uint32)


def _starts(counts: npt.NDArray[np.integer[Any]]) -> Ints:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def _term_arrays(terms: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    _, offset_buffer, byte_buffer = terms.buffers()
    if not len(terms):
        return np.zeros(1, np.int32), np.empty(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32, len(terms) + 1)
    data = (
        np.empty(0, np.uint8)
        if byte_buffer is None
        else np.frombuffer(byte_buffer, np.uint8, int(offsets[-1]))
    )
    return offsets, data


def _open_lists(file: blob.Blob, name: str, count: int) -> Lists:
    section = file.sections.get(f"{name}_frequencies")
    if section is None or section.dtype not in _FREQUENCY_TYPES:
        raise CorruptObject(file.key, f"no frequencies of {name} lists", offset=blob.PREFIX_BYTES)
    return Lists(
        file.array(f"{name}_offsets", "<i8", count + 1),
        file.array(f"{name}_numbers", "<u4", None),
        file.array(f"{name}_frequencies", section.dtype, None),
    )
