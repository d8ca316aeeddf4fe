"""The text index of one attribute of one part: a term dictionary in blocks and postings, read by range.

`elacsym.index.text_build` tells the layout, `elacsym.index.bm25` scores. A cold query takes one round for
dictionary blocks and lengths, and one for postings.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.errors import CorruptObject
from elacsym.format.blob import Blob
from elacsym.format.reading import MemorySource, Source, Steps, resident
from elacsym.index import text_build
from elacsym.index.text_build import (
    BLOCK_TERMS,
    DENSE_ROWS_MIN,
    DENSE_SHARE,
    SEPARATOR,
    WIDE,
    Bools,
    Ints,
    Unsigned,
    row_type,
)
from elacsym.index.tokenize import check_analysis
from elacsym.types import FullText

# blocks and postings are small beside what is between them: joining them as vectors are would multiply bytes
GAP_BYTES = 16 * 1024
# one more needle in a binary search costs as much as laying out this many postings by row
_NEEDLE_COST = 16
_U32 = struct.Struct("<I").unpack_from


class Term(NamedTuple):
    """A term of a part. rows: how many have it, deleted ones included; frequency_max: the most that one has
    it, WIDE standing for that or more; start, stop: the words of its postings."""

    rows: int
    frequency_max: int
    start: int
    stop: int


@dataclass(slots=True, eq=False)
class Postings:
    """The rows of a term and how often each has it; not to be changed.

    rows: (p,) unsigned, ascending; frequencies: (p,) unsigned. Where rows is None the term is *dense*:
    frequencies are (rows_total,), 0 where it is absent. count: p.
    """

    rows: Unsigned | None
    frequencies: Unsigned
    count: int
    rows_total: int

    @property
    def size_bytes(self) -> int:
        """What rows and frequencies take."""
        return self.frequencies.nbytes + (0 if self.rows is None else self.rows.nbytes)

    def listed(self) -> tuple[Unsigned, Unsigned]:
        """Rows and frequencies, (p,) each."""
        if self.rows is not None:
            return self.rows, self.frequencies
        rows = (self.frequencies != 0).nonzero()[0]
        return rows.astype(np.uint32), self.frequencies.take(rows)

    def by_row(self) -> Unsigned:
        """(rows_total,) frequencies."""
        if self.rows is None:
            return self.frequencies
        laid = np.zeros(self.rows_total, self.frequencies.dtype)
        # numpy goes through indices of its own width twice as fast
        laid[self.rows.astype(np.intp)] = self.frequencies
        return laid

    def at(self, rows: npt.NDArray[np.intp]) -> Unsigned:
        """(m,) the frequency in each of these rows, which ascend; 0 where the term is absent. A new array."""
        if self.rows is None:
            return self.frequencies.take(rows)
        if not self.count:
            return np.zeros(len(rows), np.uint8)
        if len(rows) * _NEEDLE_COST > self.count + self.rows_total // 32:
            return self.by_row().take(rows)
        needles = rows.astype(self.rows.dtype)
        places = self.rows.searchsorted(needles)
        found = self.frequencies.take(places, mode="clip")
        found *= self.rows.take(places, mode="clip") == needles
        return found

    def live(self, alive: Bools) -> int:
        """How many of the rows are alive."""
        if self.rows is None:
            return int(np.count_nonzero(alive & (self.frequencies != 0)))
        return int(np.count_nonzero(alive.take(self.rows)))


class TextIndex:
    """Terms and postings of one attribute; immutable, safe for threads.

    rows_total: rows of the part. analysis: what made the terms, see `tokenize.analysis_of`; empty where there
    are no texts. documents: rows that are not null. tokens: of all rows. length_min, length_max: the fewest
    and most tokens of rows that have any. is_whole: all bytes are at hand. Figures include deleted rows.
    """

    def __init__(self, file: Blob, rows_total: int) -> None:
        self.rows_total = file.scalar("rows_total")
        if self.rows_total != rows_total:
            raise CorruptObject(file.key, f"{self.rows_total} rows where its segment has {rows_total}")
        self.terms_total, self.documents = file.scalar("terms_total"), file.scalar("documents")
        self.tokens = file.scalar("tokens")
        self.length_min, self.length_max = file.scalar("length_min"), file.scalar("length_max")
        analysis = file.meta.get("analysis")
        if not isinstance(analysis, str):
            raise CorruptObject(file.key, "no analysis")
        if analysis:
            check_analysis(analysis, file.key)
        self.analysis = analysis
        self._file = file
        blocks = -(-self.terms_total // BLOCK_TERMS)
        self._sample_bytes = file.array("samples", "u1", None)
        self._sample_ends = file.array("sample_ends", "<i8", blocks)
        # views whose elements are plain integers and bytes: a term's look-up is a few of them
        self._block_ends = file.array("block_ends", "<i8", blocks).data
        self._block_words = file.array("block_words", "<i8", blocks).data
        self._dictionary = file.array("dictionary", "u1", None).data
        self._postings = file.array("postings", "<u4", None)
        self._postings_offset = file.span("postings")[0]
        self._row_type = row_type(rows_total)
        self._has_value = file.array("has_value", "u1", -(-rows_total // 8))
        lengths = file.sections.get("lengths")
        if lengths is None or lengths.dtype not in ("|u1", "<u2", "<u4"):
            raise CorruptObject(file.key, "no lengths")
        self.lengths = file.array("lengths", lengths.dtype, rows_total)
        """(rows_total,) unsigned, tokens of each row; at hand after `want`."""
        if len(self._dictionary) != (self._block_ends[-1] if blocks else 0):
            raise CorruptObject(file.key, "blocks do not tile the dictionary")
        self.is_whole = file.source.has(0, file.source.size_bytes)

    @classmethod
    def opened(cls, source: Source, rows_total: int) -> Steps[Self]:
        """The index in a file of a part of so many rows. One round where it is cold.

        Raises CorruptObject, and UnknownAnalysis where a later program wrote the file.
        """
        file = yield from Blob.opened(source)
        return cls(file.expect(text_build.KIND, text_build.VERSION), rows_total)

    @classmethod
    def of(cls, data: bytes | memoryview, rows_total: int) -> Self:
        """The index in memory. Raises CorruptObject; bytes are trusted."""
        return resident(cls.opened(MemorySource(data), rows_total))

    @classmethod
    def empty(cls, rows_total: int) -> Self:
        """The index of rows without a value. Cost: some 0.2 ms; worth keeping."""
        nothing = np.zeros(rows_total, np.bool_)
        writer = text_build.TextWriter(rows_total)
        return cls.of(
            writer.finish(pa.array([], pa.string()), nothing.view(np.uint8), nothing, ""), rows_total
        )

    @classmethod
    def build(cls, texts: pa.Array | pa.ChunkedArray, settings: FullText) -> Self:
        """The index of `texts`, string or list of string: see `text_build.built`."""
        return cls.of(text_build.built(texts, settings), len(texts))

    @classmethod
    def merge(cls, indexes: Sequence[TextIndex], row_maps: Sequence[Ints], rows_total: int) -> Self:
        """One index of several of one analysis that are wholly at hand: see `text_build.merged`."""
        assert all(index.is_whole for index in indexes)
        analyses = {index.analysis for index in indexes} - {""}
        assert len(analyses) <= 1, f"indexes of several analyses: {analyses}"
        return cls.of(text_build.merged(indexes, row_maps, rows_total, next(iter(analyses), "")), rows_total)

    def encode(self) -> bytes:
        """The index as a file. It must be wholly at hand."""
        assert self.is_whole
        return bytes(self._file.source.data)

    @property
    def size_bytes(self) -> int:
        """The size of the whole file."""
        return self._file.source.size_bytes

    @property
    def has_value(self) -> Bools:
        """(rows_total,) bool, which rows are not null; at hand after `want`. Cost: unpacks all bits."""
        return np.unpackbits(self._has_value, count=self.rows_total, bitorder="little").view(np.bool_)

    def want(self, terms: Iterable[str]) -> Steps[None]:
        """Have at hand what `term` takes for these, and the lengths. One round where they are cold."""
        # the cache may have completed the file since it was opened
        self.is_whole = self.is_whole or self._file.source.has(0, self._file.source.size_bytes)
        if not self.is_whole:
            blocks = {self._block_of(term.encode()) for term in terms} - {-1}
            spans = [self._file.span("dictionary", *self._block(block)) for block in blocks]
            spans += [self._file.span("lengths"), self._file.span("has_value")]
            yield from self._file.want(*sorted(spans), gap_bytes=GAP_BYTES)

    def term(self, term: str) -> Term | None:
        """The entry of a term, after `want`; None where no row has it. Cost: a few microseconds."""
        encoded = term.encode()
        block = self._block_of(encoded)
        if block < 0:
            return None
        start, stop = self._block(block)
        data, n = (
            bytes(self._dictionary[start:stop]),
            min(BLOCK_TERMS, self.terms_total - block * BLOCK_TERMS),
        )
        place = data.find(SEPARATOR + encoded + SEPARATOR, 9 * n)
        if place < 0:
            return None
        number = data.count(SEPARATOR, 9 * n, place)
        if number >= n:
            raise self._damaged(block)
        rows, frequency_max = _U32(data, 4 * number)[0], data[8 * n + number]
        first = self._block_words[block] + _U32(data, 4 * (n + number))[0]
        stop = first + _words(rows, frequency_max, self.rows_total)
        if stop > len(self._postings):
            raise self._damaged(block)
        return Term(rows, frequency_max, first, stop)

    def bring(self, terms: Iterable[Term]) -> Steps[None]:
        """Have the postings of these terms at hand. One round where they are cold."""
        if not self.is_whole:
            spans = [self._file.span("postings", term.start, term.stop) for term in terms]
            yield from self._file.want(*sorted(spans), gap_bytes=GAP_BYTES)

    def postings(self, term: Term) -> Postings:
        """The postings of a term, after `bring`; views of the file."""
        data, total, place = self._file.source.data, self.rows_total, self._postings_offset + 4 * term.start
        width = "<u4" if term.frequency_max >= WIDE else "u1"
        if term.rows * DENSE_SHARE >= total >= DENSE_ROWS_MIN:
            return Postings(None, np.frombuffer(data, width, total, place), term.rows, total)
        rows = np.frombuffer(data, self._row_type, term.rows, place)
        place += -(-rows.nbytes // 4) * 4
        return Postings(rows, np.frombuffer(data, width, term.rows, place), term.rows, total)

    def terms_with_prefix(self, prefix: str) -> Steps[list[Term]]:
        """The terms that begin with `prefix`, in the order of their UTF-8 bytes. One round."""
        start = prefix.encode()
        first = max(0, bisect_right(self._samples, start) - 1)
        # terms with the prefix are below prefix + 0xFF
        stop = bisect_left(self._samples, start + SEPARATOR)
        found: list[Term] = []
        if first < stop:
            span = (self._block(first)[0], self._block(stop - 1)[1])
            yield from self._file.want(self._file.span("dictionary", *span), gap_bytes=GAP_BYTES)
            for block in range(first, stop):
                found += self._block_entries(block, start)
        return found

    def rows_with_prefix(self, prefix: str) -> Steps[Bools]:
        """(rows_total,) bool, fresh: which rows have a term that begins with `prefix`. Two rounds.

        Cost: a few microseconds for every such term.
        """
        terms = yield from self.terms_with_prefix(prefix)
        mask = np.zeros(self.rows_total, np.bool_)
        if terms:
            # their postings stand side by side
            span = self._file.span("postings", terms[0].start, terms[-1].stop)
            yield from self._file.want(span, gap_bytes=GAP_BYTES)
        for term in terms:
            mark(mask, self.postings(term))
        return mask

    def terms(self) -> pa.Array:
        """All terms, in the order of their UTF-8 bytes. The index must be wholly at hand."""
        blocks = range(len(self._block_ends))
        arrays = [pa.array(self._block_parts(block)[2], pa.binary()).cast(pa.string()) for block in blocks]
        return pa.concat_arrays([pa.array([], pa.string()), *arrays])

    def counts(self) -> Ints:
        """(terms_total,) in how many rows each term is. The index must be wholly at hand."""
        return self._table[0]

    def run(self, first: int, stop: int) -> tuple[Unsigned, Unsigned]:
        """Rows and frequencies of the terms [first, stop) by their order, term after term.

        The index must be wholly at hand.
        """
        counts, maxima = self._table[0][first:stop], self._table[1][first:stop]
        bounds = self._table[2][first : stop + 1]
        words, starts = self._postings[bounds[0] : bounds[-1]], bounds[:-1] - bounds[0]
        is_plain = ~(text_build.dense_terms(counts, self.rows_total) | (maxima >= WIDE))
        row_slots, frequency_slots = text_build.posting_slots(
            starts[is_plain], counts[is_plain], self.rows_total
        )
        of_plain = np.repeat(is_plain, counts)
        rows = np.empty(len(of_plain), np.uint32)
        frequencies = np.empty(len(of_plain), np.uint32)
        rows[of_plain] = words.view(self._row_type)[row_slots]
        frequencies[of_plain] = words.view("u1")[frequency_slots]
        ends = np.cumsum(counts)
        for i in np.flatnonzero(~is_plain).tolist():
            term = Term(int(counts[i]), int(maxima[i]), int(bounds[i]), int(bounds[i + 1]))
            part = slice(int(ends[i] - counts[i]), int(ends[i]))
            rows[part], frequencies[part] = self.postings(term).listed()
        return rows, frequencies

    @cached_property
    def _samples(self) -> list[bytes]:
        data, ends = self._sample_bytes.tobytes(), self._sample_ends.tolist()
        return [data[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]

    @cached_property
    def _table(self) -> tuple[Ints, npt.NDArray[np.uint8], Ints]:
        """Counts, largest frequencies, and (terms_total + 1,) where postings start, of all terms."""
        counts, maxima = np.empty(self.terms_total, np.int64), np.empty(self.terms_total, np.uint8)
        for block in range(len(self._block_ends)):
            terms = slice(block * BLOCK_TERMS, (block + 1) * BLOCK_TERMS)
            counts[terms], maxima[terms], _ = self._block_parts(block)
        starts = np.zeros(self.terms_total + 1, np.int64)
        np.cumsum(text_build.words_of(counts, maxima, self.rows_total), out=starts[1:])
        if starts[-1] != len(self._postings):
            raise CorruptObject(self._file.key, "terms do not tile the postings")
        return counts, maxima, starts

    def _block_of(self, term: bytes) -> int:
        """The block that a term is in, if it is in any; -1 where there is none."""
        return bisect_right(self._samples, term) - 1

    def _block(self, block: int) -> tuple[int, int]:
        """The bytes of a block in the dictionary."""
        return self._block_ends[block - 1] if block else 0, self._block_ends[block]

    def _block_parts(self, block: int) -> tuple[Unsigned, npt.NDArray[np.uint8], list[bytes]]:
        """Rows, largest frequencies, and the terms of a block."""
        start, stop = self._block(block)
        data, n = (
            bytes(self._dictionary[start:stop]),
            min(BLOCK_TERMS, self.terms_total - block * BLOCK_TERMS),
        )
        terms = data[9 * n :].split(SEPARATOR)[1:-1]
        if len(terms) != n:
            raise self._damaged(block)
        return np.frombuffer(data, "<u4", n), np.frombuffer(data, "u1", n, 8 * n), terms

    def _block_entries(self, block: int, prefix: bytes) -> list[Term]:
        """The terms of a block that begin with `prefix`."""
        counts, maxima, terms = self._block_parts(block)
        n = len(terms)
        places = np.frombuffer(self._dictionary, "<u4", n, self._block(block)[0] + 4 * n)
        found = []
        for number, term in enumerate(terms):
            if term.startswith(prefix):
                rows, most = int(counts[number]), int(maxima[number])
                first = self._block_words[block] + int(places[number])
                stop = first + _words(rows, most, self.rows_total)
                if stop > len(self._postings):
                    raise self._damaged(block)
                found.append(Term(rows, most, first, stop))
        return found

    def _damaged(self, block: int) -> CorruptObject:
        offset = self._file.span("dictionary", *self._block(block))[0]
        return CorruptObject(self._file.key, f"damaged dictionary block {block}", offset=offset)


def mark(mask: Bools, postings: Postings) -> None:
    """Set the rows of a term in a (rows_total,) mask."""
    if postings.rows is None:
        np.logical_or(mask, postings.frequencies != 0, out=mask)
    else:
        mask[postings.rows] = True


def _words(count: int, frequency_max: int, rows_total: int) -> int:
    """`text_build.words_of` of one term, without the cost of arrays."""
    width = 1 if frequency_max < WIDE else 4
    if count * DENSE_SHARE >= rows_total >= DENSE_ROWS_MIN:
        return -(-rows_total * width // 4)
    row_bytes = 2 if rows_total <= 2**16 else 4
    return -(-count * row_bytes // 4) + -(-count * width // 4)
