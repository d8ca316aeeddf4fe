"""Writes text indexes, from texts or from other indexes without their texts; `elacsym.index.text` reads them.

A file holds, as sections of a blob:

    samples         eager: one byte string per block of BLOCK_TERMS terms, at or below its first term and
                    above the last term before it, as short as can be
    sample_ends     eager, i8 (blocks,): where each sample ends
    block_ends      eager, i8 (blocks,): where each block ends in `dictionary`
    block_words     eager, i8 (blocks,): where the postings of each block's first term begin in `postings`
    lengths         (rows,) u1, u2 or u4: tokens of each row
    has_value       u1: bit r is set where row r is not null
    dictionary      u1, by blocks: rows with the term u4 (n,), where its postings begin u4 (n,), its largest
                    frequency u1 (n,), and the n terms in the order of their UTF-8 bytes, 0xFF before, between
                    and after them
    postings        u4 words, term after term: its rows ascending (u2 in files of up to 2**16 rows, else u4),
                    padded to a word, and their frequencies (u1, or u4 where the largest is WIDE or more),
                    padded; a *dense* term has a frequency for every row, 0 where it is absent, and no rows

The meta object tells the analysis that made the terms (`elacsym.index.tokenize.analysis_of`).

A term is dense where that costs about as much as listing its rows: lookups and intersections of frequent
terms are plain array arithmetic then. Where postings begin counts words from those of the block.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.format import blob
from elacsym.index.arrays import EAGER_FILE_BYTES_MAX
from elacsym.index.tokenize import TOKEN_LENGTH_MAX, Analyzer, analysis_of, analyzer
from elacsym.types import FullText

KIND, VERSION = "text", 3
BLOCK_TERMS = 128
SEPARATOR = b"\xff"  # no byte of UTF-8
WIDE = 255  # frequencies from here on take four bytes
DENSE_ROWS_MIN = 4_096
DENSE_SHARE = 8  # dense from 1/8 of the rows on
VALUES_AT_ONCE = 1_024  # texts that are Python objects at one time while an index is built
POSTINGS_AT_ONCE = 2**20  # what is sorted or laid out at one time
DROPPED = 2**32 - 1  # the number of segments without a term while an index is built

Ints = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.unsignedinteger[Any]]
Bools = npt.NDArray[np.bool_]


class Mergeable(Protocol):
    """An index that is wholly at hand."""

    @property
    def lengths(self) -> Unsigned:
        """(rows,) tokens of each row."""
        ...

    @property
    def has_value(self) -> Bools:
        """(rows,) which rows are not null."""
        ...

    def terms(self) -> pa.Array:
        """All terms, in the order of their UTF-8 bytes."""
        ...

    def counts(self) -> Ints:
        """(terms,) in how many rows each term is."""
        ...

    def run(self, first: int, stop: int) -> tuple[Unsigned, Unsigned]:
        """Rows and frequencies of the terms [first, stop), term after term."""
        ...


def row_type(rows_total: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The type that row numbers have in a file."""
    return np.dtype("<u2" if rows_total <= 2**16 else "<u4")


def dense_terms(counts: Ints, rows_total: int) -> Bools:
    """Which terms have a frequency for every row."""
    return (counts * DENSE_SHARE >= rows_total) & (rows_total >= DENSE_ROWS_MIN)


def words_of_rows(counts: Ints, rows_total: int) -> Ints:
    """How many words the row numbers take."""
    return np.where(dense_terms(counts, rows_total), 0, -(-counts * row_type(rows_total).itemsize // 4))


def words_of(counts: Ints, maxima: Unsigned, rows_total: int) -> Ints:
    """How many words the postings of terms take."""
    frequencies = np.where(dense_terms(counts, rows_total), rows_total, counts)
    return words_of_rows(counts, rows_total) + np.where(maxima >= WIDE, frequencies, -(-frequencies // 4))


def built(texts: pa.Array | pa.ChunkedArray, settings: FullText) -> bytes:
    """The file of `texts`: string, or list of string.

    The elements of a list are analysed one by one and their lengths add up. Nulls have no value; an empty
    text has one of length 0.
    """
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    numbering = _Numbering(analyzer(settings))
    numbers, ends = _numbered(whole, numbering)
    kept = numbers != DROPPED
    rows = np.repeat(np.arange(len(whole), dtype=np.uint64), np.diff(ends, prepend=0))[kept]
    lengths = np.bincount(rows.view(np.int64), minlength=len(whole))
    terms = sorted(numbering.terms)
    rank = np.empty(len(terms), np.uint64)
    rank[[numbering.terms[term] for term in terms]] = np.arange(len(terms), dtype=np.uint64)
    keys = rank[numbers[kept]]
    keys <<= np.uint64(32)
    keys |= rows
    del rows, numbers, kept
    keys.sort()
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] + np.uint64(1)))
    frequencies = np.diff(first, append=len(keys)).astype(np.uint32)
    keys = keys[first]
    counts = np.bincount((keys >> np.uint64(32)).view(np.int64), minlength=len(terms))
    writer = TextWriter(len(whole))
    ends = np.cumsum(counts)
    for start, stop in _term_runs(counts):
        postings = slice(int(ends[start] - counts[start]), int(ends[stop - 1]))
        writer.add(counts[start:stop], keys[postings].astype(np.uint32), frequencies[postings])
    has_value = whole.is_valid().to_numpy(zero_copy_only=False)
    return writer.finish(pa.array(terms, pa.string()), lengths, has_value, analysis_of(settings))


def merged(indexes: Sequence[Mergeable], row_maps: Sequence[Ints], rows_total: int, analysis: str) -> bytes:
    """The file over `rows_total` rows: row r of indexes[i] becomes row row_maps[i][r], or goes (-1).

    analysis: that of all indexes.

    Equal to building it from the texts again; rows that nothing maps to have no value. Cost: a sort of the
    postings, POSTINGS_AT_ONCE at a time.
    """
    every = pa.concat_arrays([index.terms() for index in indexes]).dictionary_encode()
    order = pc.sort_indices(every.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    places = np.split(
        rank[every.indices.to_numpy()], np.cumsum([len(index.counts()) for index in indexes])[:-1]
    )
    lengths, has_value = np.zeros(rows_total, np.uint32), np.zeros(rows_total, np.bool_)
    totals = np.zeros(len(order), np.int64)
    for index, row_map, place in zip(indexes, row_maps, places, strict=True):
        kept = np.flatnonzero(row_map >= 0)
        lengths[row_map[kept]], has_value[row_map[kept]] = index.lengths[kept], index.has_value[kept]
        totals[place] += index.counts()
    writer, used = TextWriter(rows_total), np.zeros(len(order), np.bool_)
    for start, stop in _term_runs(totals):
        keys, frequencies = [], []
        for index, row_map, place in zip(indexes, row_maps, places, strict=True):
            first, last = np.searchsorted(place, [start, stop]).tolist()
            rows, found = index.run(first, last)
            mapped = row_map[rows]
            pairs = np.repeat(place[first:last] - start, index.counts()[first:last])
            pairs <<= 32
            pairs |= mapped
            kept = np.flatnonzero(mapped >= 0)
            keys.append(pairs[kept])
            frequencies.append(found[kept].astype(np.uint32))
        joined = np.concatenate(keys)
        by_term = np.argsort(joined)
        joined = joined[by_term]
        counts = np.bincount(joined >> 32, minlength=stop - start)
        # terms of rows that went must not stay behind
        used[start:stop] = counts > 0
        writer.add(counts[counts > 0], joined.astype(np.uint32), np.concatenate(frequencies)[by_term])
    return writer.finish(every.dictionary.take(pa.array(order[used])), lengths, has_value, analysis)


class TextWriter:
    """Collects postings, term after term in the order of their UTF-8 bytes, and makes the file."""

    def __init__(self, rows_total: int) -> None:
        self._rows_total = rows_total
        self._counts: list[Ints] = []
        self._maxima: list[npt.NDArray[np.uint32]] = []
        self._words: list[npt.NDArray[np.uint32]] = []

    def add(self, counts: Ints, rows: npt.NDArray[np.uint32], frequencies: npt.NDArray[np.uint32]) -> None:
        """Append terms. counts: (t,) how many of the postings are of each, none 0; rows ascend in each."""
        if not len(counts):
            return
        ends = np.cumsum(counts)
        maxima = np.maximum.reduceat(frequencies, ends - counts)
        sizes = words_of(counts, maxima, self._rows_total)
        starts = np.cumsum(sizes) - sizes
        words = np.zeros(int(sizes.sum()), "<u4")
        is_plain = ~(dense_terms(counts, self._rows_total) | (maxima >= WIDE))
        row_slots, frequency_slots = posting_slots(starts[is_plain], counts[is_plain], self._rows_total)
        of_plain = np.repeat(is_plain, counts)
        words.view(row_type(self._rows_total))[row_slots] = rows[of_plain]
        words.view("u1")[frequency_slots] = frequencies[of_plain]
        for term in np.flatnonzero(~is_plain).tolist():
            postings = slice(int(ends[term] - counts[term]), int(ends[term]))
            part = words[starts[term] : starts[term] + sizes[term]]
            self._lay(part, rows[postings], frequencies[postings])
        self._counts.append(counts)
        self._maxima.append(maxima)
        self._words.append(words)

    def _lay(self, part: npt.NDArray[np.uint32], rows: Unsigned, frequencies: Unsigned) -> None:
        """Lay out one term that is dense or has frequencies of four bytes."""
        count = np.array([len(rows)])
        width = "<u4" if frequencies.max() >= WIDE else "u1"
        if dense_terms(count, self._rows_total)[0]:
            part.view(width)[rows] = frequencies
            return
        row_words = int(words_of_rows(count, self._rows_total)[0])
        part[:row_words].view(row_type(self._rows_total))[: len(rows)] = rows
        part[row_words:].view(width)[: len(rows)] = frequencies

    def finish(
        self, terms: pa.Array, lengths: npt.NDArray[np.integer[Any]], has_value: Bools, analysis: str
    ) -> bytes:
        """The file. terms: those that were added, in that order; lengths, has_value: by row; analysis: what
        made the terms, empty where there are none."""
        counts = np.concatenate([np.empty(0, np.int64), *self._counts])
        maxima = np.concatenate([np.empty(0, np.uint32), *self._maxima])
        assert len(counts) == len(terms), "every term was added"
        ends = np.cumsum(words_of(counts, maxima, self._rows_total))
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(terms)]
        block_words = starts[::BLOCK_TERMS]
        words = (starts - np.repeat(block_words, BLOCK_TERMS)[: len(terms)]).astype("<u4")
        blocks = list(_blocks(terms, counts.astype("<u4"), words, np.minimum(maxima, WIDE).astype("u1")))
        samples = _samples(terms.cast(pa.binary()))
        present = lengths[lengths > 0]
        sections: dict[str, npt.NDArray[Any]] = {
            "samples": np.frombuffer(b"".join(samples), "u1"),
            "sample_ends": np.cumsum([len(sample) for sample in samples], dtype=np.int64),
            "block_ends": np.cumsum([len(block) for block in blocks], dtype=np.int64),
            "block_words": block_words,
            "lengths": lengths.astype(_narrowest(int(lengths.max(initial=0)))),
            "has_value": np.packbits(has_value, bitorder="little"),
            "dictionary": np.frombuffer(b"".join(blocks), "u1"),
            "postings": np.concatenate([np.empty(0, np.uint32), *self._words]),
        }
        self._words.clear()
        meta = {
            "kind": KIND,
            "version": VERSION,
            "analysis": analysis,
            "rows_total": self._rows_total,
            "terms_total": len(terms),
            "documents": int(np.count_nonzero(has_value)),
            "tokens": int(lengths.sum(dtype=np.uint64)),
            "length_min": int(present.min()) if len(present) else 0,
            "length_max": int(lengths.max(initial=0)),
        }
        is_small = sum(section.nbytes for section in sections.values()) <= EAGER_FILE_BYTES_MAX
        eager = sections.keys() if is_small else ("samples", "sample_ends", "block_ends", "block_words")
        return blob.encode(sections, meta, tuple(eager))


def posting_slots(starts: Ints, counts: Ints, rows_total: int) -> tuple[Ints, Ints]:
    """Where the postings of plain terms stand: as indexes of row numbers, and of frequency bytes.

    starts: (t,) the first word of each term; counts: (t,) its rows.
    """
    before = np.cumsum(counts) - counts
    per_word = 4 // row_type(rows_total).itemsize
    number = np.arange(int(counts.sum()))
    rows = number + np.repeat(starts * per_word - before, counts)
    number += np.repeat(4 * (starts + words_of_rows(counts, rows_total)) - before, counts)
    return rows, number


def _blocks(
    terms: pa.Array, counts: Unsigned, words: Unsigned, maxima: npt.NDArray[np.uint8]
) -> Iterator[bytes]:
    starts = range(0, len(terms), BLOCK_TERMS)
    lists = pa.ListArray.from_arrays(pa.array([*starts, len(terms)], pa.int32()), terms.cast(pa.binary()))
    for start, joined in zip(starts, pc.binary_join(lists, SEPARATOR), strict=True):
        part = slice(start, start + BLOCK_TERMS)
        numbers = (counts[part].tobytes(), words[part].tobytes(), maxima[part].tobytes())
        yield b"".join((*numbers, SEPARATOR, joined.as_py(), SEPARATOR))


def _samples(terms: pa.Array) -> list[bytes]:
    """The shortest byte string above the last term of each block and not above the first of the next."""
    edges = [place for start in range(BLOCK_TERMS, len(terms), BLOCK_TERMS) for place in (start - 1, start)]
    near = iter(terms.take(pa.array(edges, pa.int64())).to_pylist())
    cuts = [after[: _first_difference(before, after) + 1] for before, after in zip(near, near, strict=True)]
    return [b"", *cuts] if len(terms) else []


def _first_difference(before: bytes, after: bytes) -> int:
    pairs = zip(before, after, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(before), len(after)))


def _term_runs(counts: Ints) -> Iterator[tuple[int, int]]:
    """Terms in runs of about POSTINGS_AT_ONCE postings, one that has more alone."""
    ends = np.cumsum(counts)
    edges = np.searchsorted(ends, np.arange(0, int(counts.sum()), POSTINGS_AT_ONCE))
    return pairwise(np.unique(np.append(edges, len(counts))).tolist())


def _narrowest(largest: int) -> str:
    return "u1" if largest < 2**8 else "<u2" if largest < 2**16 else "<u4"


def _numbered(texts: pa.Array, numbering: _Numbering) -> tuple[npt.NDArray[np.uint32], Ints]:
    """The numbers of all segments, text after text, and (n,) where each text's end."""
    numbers, ends = array("I"), np.zeros(len(texts), np.int64)
    segments, number = numbering.analysis.segments, numbering.__getitem__
    for row, value in enumerate(_values(texts)):
        for text in _texts(value):
            numbers.extend(map(number, segments(text)))
        ends[row] = len(numbers)
    return np.frombuffer(numbers, np.uint32), ends


class _Numbering(dict[str, int]):
    """Segment to the number of its term, or DROPPED; `terms` are numbered in the order they turn up."""

    def __init__(self, analysis: Analyzer) -> None:
        super().__init__()
        self.analysis = analysis
        self.terms: dict[str, int] = {}

    def __missing__(self, segment: str) -> int:
        term = self.analysis.term(segment)
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
