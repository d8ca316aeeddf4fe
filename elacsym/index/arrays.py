"""Arrow arrays as sections of a blob: mapped whole without copying, and read by row in one round.

A `StoredArray` called `name` has these sections, as its type needs them:

    name.valid    u1: bit r is set where row r has a value; left out where every row has one
    name.lists    i4 (n + 1): where the elements of each row of an array type begin
    name.strings  i4 (n + 1): where the bytes of each string begin; of each element for arrays of strings;
                  other values of varying length (binary) are stored alike
    name.values   numbers, bits (bool) or bytes (strings); of records, which are values of one width (fixed
                  binary, fixed-size lists of numbers), (n, width) bytes or numbers
    name.blocks   i8 (levels, blocks + 1), eager: the first row of each block, and where that row begins in
                  every section that offsets point into

A block is a run of rows whose bytes are at most about one unit of the blob, or one row that is larger, so
that a row of any length is found and read by one look at `blocks`. Rows of plain numbers and records need no
table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.format.blob import UNIT_BYTES, Blob
from elacsym.format.reading import Span, Steps
from elacsym.index.leaves import (
    Octets,
    Records,
    Texts,
    has_offsets,
    record_array,
    record_of,
    record_values,
    string_buffers,
)
from elacsym.index.values import to_python, uuid_text

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

BLOCK_ROWS = 1_024
ROWS_GAP_BYTES = UNIT_BYTES  # between chosen rows; they are spread, so gaps are mostly waste
ARRAY_BYTES_MAX = 2**31 - 1  # what the 32-bit offsets of an Arrow string or list array reach
# files up to this size are read whole with their head: their pieces would be as many units
EAGER_FILE_BYTES_MAX = 2 * UNIT_BYTES
# beyond this share of its blocks, an array is fetched whole
FEW_ROWS = 256  # up to so many are taken one by one
_WHOLE_SHARE = 1 / 4


@dataclass(frozen=True, slots=True)
class Encoded:
    """The sections of an array, and which of them every reader needs."""

    sections: dict[str, npt.NDArray[Any]]
    eager: tuple[str, ...]


def encode(name: str, array: pa.Array) -> Encoded:
    """The sections of an array of numbers, bool, string, binary, records, or a list of those without null
    elements.

    Raises ValueError where strings or lists are larger than ARRAY_BYTES_MAX.
    """
    sections: dict[str, npt.NDArray[Any]] = {}
    if array.null_count:
        sections[f"{name}.valid"] = _packed(array.is_valid())
    # per level, where each row begins: in rows, in elements, in bytes
    leaf, levels = array, [np.arange(len(array) + 1, dtype=np.int64)]
    if pa.types.is_list(array.type):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        levels.append(_offsets(lengths))
        sections[f"{name}.lists"] = _narrow(name, levels[-1])
        leaf = array.flatten()
        assert leaf.null_count == 0, f"{name}: null elements"
    size_bytes = 8 * levels[-1]
    record = record_of(leaf.type)
    if has_offsets(leaf.type):
        offsets, values = string_buffers(leaf)
        sections[f"{name}.strings"] = _narrow(name, offsets)
        levels.append(offsets[levels[-1]].astype(np.int64))
        size_bytes = levels[-1] + (4 * levels[1] if leaf is not array else 0)
    elif pa.types.is_boolean(leaf.type):
        values = _packed(leaf.fill_null(False))
    elif record is not None:
        values = record_values(leaf, *record)
        size_bytes = record[0].itemsize * record[1] * levels[-1]
    else:
        values = (leaf.fill_null(0) if leaf.null_count else leaf).to_numpy(zero_copy_only=False)
    sections[f"{name}.values"] = values
    if len(levels) == 1:
        return Encoded(sections, ())
    bounds = _block_bounds(size_bytes)
    blocks = np.stack([level[bounds] for level in levels])
    return Encoded({f"{name}.blocks": blocks} | sections, (f"{name}.blocks",))


def eager_sections(encoded: Encoded) -> tuple[str, ...]:
    """What to make eager: everything where the file is small."""
    size_bytes = sum(array.nbytes for array in encoded.sections.values())
    return tuple(encoded.sections) if size_bytes <= EAGER_FILE_BYTES_MAX else encoded.eager


def joined(*parts: Encoded) -> Encoded:
    """The sections of several arrays."""
    sections = {name: array for part in parts for name, array in part.sections.items()}
    return Encoded(sections, tuple(name for part in parts for name in part.eager))


class StoredArray:
    """An array in a blob. type: what was encoded; rows, nulls: how many it has.

    Raises CorruptObject where the sections do not fit the type or the number of rows.
    """

    def __init__(self, blob: Blob, name: str, type_: pa.DataType, rows: int, nulls: int) -> None:
        self.blob, self.type, self._rows, self._nulls = blob, type_, rows, nulls
        self._name = name
        self._leaf = type_.value_type if pa.types.is_list(type_) else type_
        self._valid = blob.array(f"{name}.valid", "u1", -(-rows // 8)) if nulls else None
        entries: int | None = rows
        self._lists = self._strings = None
        if self._leaf is not type_:
            self._lists, entries = blob.array(f"{name}.lists", "<i4", rows + 1), None
        self._record = record_of(self._leaf)
        if has_offsets(self._leaf):
            count = None if entries is None else entries + 1
            self._strings, entries = blob.array(f"{name}.strings", "<i4", count), None
        self._values = self._opened_values(entries)
        levels = 1 + (self._lists is not None) + (self._strings is not None)
        self._blocks = blob.array(f"{name}.blocks", "<i8", levels, None) if levels > 1 else None
        parts = {"valid": self._valid, "lists": self._lists, "strings": self._strings, "values": self._values}
        self._sections = tuple(f"{name}.{part}" for part, array in parts.items() if array is not None)
        # what one look at the places of rows reads
        self._is_flat = self._lists is None and not pa.types.is_boolean(type_)
        self._is_plain = levels == 1 and not nulls and self._is_flat
        width = 1 if self._record is None else self._record[1]
        self._start, self._item = blob.sections[f"{name}.values"].offset, self._values.itemsize * width
        self._is_at_hand = False
        self._whole: pa.Array | None = None

    def _opened_values(self, entries: int | None) -> npt.NDArray[Any]:
        if self._record is not None:
            dtype, width = self._record
            return self.blob.array(f"{self._name}.values", dtype, entries, width)
        if pa.types.is_boolean(self._leaf):
            entries, kind = None if entries is None else -(-entries // 8), "u1"
        else:
            kind = "u1" if self._strings is not None else np.dtype(self._leaf.to_pandas_dtype()).str
        return self.blob.array(f"{self._name}.values", kind, entries)

    def __len__(self) -> int:
        """Rows."""
        return self._rows

    @property
    def numbers(self) -> npt.NDArray[Any]:
        """The values of an array of numbers without nulls, bool as 0 and 1. Only what was wanted may be
        looked at."""
        assert self._strings is None and self._lists is None and self._record is None
        if pa.types.is_boolean(self._leaf):
            return np.unpackbits(self._values, count=self._rows, bitorder="little")
        return self._values

    def octets(self) -> Octets:
        """The values of an array of strings (as UTF-8), binary or fixed binary, as a sequence of bytes. Only
        what was wanted may be looked at."""
        assert self._lists is None
        if self._record is not None:
            return Records(self._values)
        assert self._strings is not None
        return Texts(self._strings, self._values)

    @property
    def is_at_hand(self) -> bool:
        """Whether all of it is; once true, always true."""
        if not self._is_at_hand:
            has, span = self.blob.source.has, self.blob.span
            self._is_at_hand = all(has(*span(name)) for name in self._sections)
        return self._is_at_hand

    def whole(self) -> Steps[pa.Array]:
        """All rows, over the file's bytes."""
        if self._whole is None:
            yield from self.blob.want_whole(*self._sections)
            self._whole = self._mapped()
        return self._whole

    def valid(self) -> Steps[Bools]:
        """(rows,) bool, fresh: which rows have a value."""
        if self._valid is None:
            return np.ones(self._rows, np.bool_)
        yield from self.blob.want_whole(f"{self._name}.valid")
        return np.unpackbits(self._valid, count=self._rows, bitorder="little").view(np.bool_)

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """(n,) int64: the bytes of some rows' values, nulls of fixed width as others; one round."""
        starts, stops = rows, rows + 1
        yield from self.blob.want_whole(*(n for n in self._sections if n.endswith((".lists", ".strings"))))
        for offsets in (self._lists, self._strings):
            if offsets is not None:
                starts, stops = offsets[starts], offsets[stops]
        return (stops - starts).astype(np.int64) * self._item

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """The values of some rows, in the order given; one round."""
        if self._is_plain and self.blob.source.has_records(self._start + rows * self._item, self._item):
            return self._leaves(rows, None)
        if not self.is_at_hand:
            spans = self.spans_of(rows)
            if spans is not None:
                yield from self.blob.want(*spans, gap_bytes=ROWS_GAP_BYTES)
                return self.gathered(rows)
        array = yield from self.whole()
        return array.take(pa.array(rows))

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """`select` as plain Python values, None for null. The few rows of an answer are taken from the file's
        bytes: an Arrow kernel costs more to call."""
        if self._is_flat and len(rows) <= FEW_ROWS:
            is_at_hand = self._is_at_hand or (
                self.blob.source.has_records(self._start + rows * self._item, self._item)
                if self._is_plain
                else self.is_at_hand
            )
            if is_at_hand:
                return self._few(rows)
        return to_python((yield from self.select(rows)))

    def _few(self, rows: Ints) -> list[Any]:
        found: list[Any]
        if self._record is not None:
            found = [uuid_text(record.tobytes()) for record in self._values[rows]]
        elif self._strings is None:
            found = self._values[rows].tolist()
        else:
            data = self._values.data
            places = zip(self._strings[rows].tolist(), self._strings[rows + 1].tolist(), strict=True)
            found = [bytes(data[start:stop]) for start, stop in places]
            if pa.types.is_string(self._leaf):
                found = [str(value, "utf-8") for value in found]
        if self._valid is None:
            return found
        is_valid = _bits(self._valid, rows).tolist()
        return [value if there else None for value, there in zip(found, is_valid, strict=True)]

    def spans_of(self, rows: Ints) -> list[Span] | None:
        """What `gathered` looks at; None where that is so much that the whole array should be fetched."""
        spans: list[Span] = []
        if self._valid is not None:
            for start, stop in runs(rows, 8 * UNIT_BYTES, self._rows):
                spans.append(self.blob.span(f"{self._name}.valid", start // 8, -(-stop // 8)))
        if self._blocks is None:
            needed = runs(rows, 8 if pa.types.is_boolean(self._leaf) else 1, self._rows)
            if len(needed) * UNIT_BYTES > _WHOLE_SHARE * self._values.nbytes:
                return None
            return spans + [self._values_span(start, stop) for start, stop in needed]
        blocks = np.unique(np.searchsorted(self._blocks[0], rows, "right") - 1)
        if len(blocks) > _WHOLE_SHARE * (self._blocks.shape[1] - 1):
            return None
        for start, stop in runs(blocks, 1, self._blocks.shape[1] - 1):
            spans += self._block_spans(start, stop)
        return spans

    def spans_between(self, start: int, stop: int) -> list[Span]:
        """What the rows [start, stop) of an array without nulls take."""
        if start == stop:
            return []
        if self._blocks is None:
            return [self._values_span(start, stop)]
        first = int(np.searchsorted(self._blocks[0], start, "right")) - 1
        return self._block_spans(first, int(np.searchsorted(self._blocks[0], stop, "left")))

    def gathered(self, rows: Ints) -> pa.Array:
        """The values of rows whose spans are at hand, copied. Cost: a Python step per string."""
        if self._whole is not None:
            return self._whole.take(pa.array(rows))
        mask = None if self._valid is None else ~_bits(self._valid, rows)
        if self._lists is None:
            return self._leaves(rows, mask)
        starts, stops = self._lists[rows].astype(np.int64), self._lists[rows + 1].astype(np.int64)
        elements = self._leaves(expanded(starts, stops), None)
        offsets = pa.array(_offsets(stops - starts).astype(np.int32))
        return pa.ListArray.from_arrays(
            offsets, elements, type=self.type, mask=None if mask is None else pa.array(mask)
        )

    def _leaves(self, entries: Ints, mask: Bools | None) -> pa.Array:
        if self._record is not None:
            return record_array(self._values[entries], self._leaf, mask)
        if self._strings is None:
            is_bool = pa.types.is_boolean(self._leaf)
            values = _bits(self._values, entries) if is_bool else self._values[entries]
            return pa.array(values, self._leaf, mask=mask)
        starts, stops = self._strings[entries], self._strings[entries + 1]
        data = self._values.data
        text = b"".join([data[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)])
        offsets = _offsets(stops - starts).astype(np.int32)
        valid = None if mask is None else pa.py_buffer(np.packbits(~mask, bitorder="little"))
        return pa.Array.from_buffers(
            self._leaf, len(entries), [valid, pa.py_buffer(offsets), pa.py_buffer(text)]
        )

    def _mapped(self) -> pa.Array:
        valid = None if self._valid is None else pa.py_buffer(self._valid)
        if self._record is not None:
            return self._mapped_records(valid)
        values = pa.py_buffer(self._values)
        buffers = [values] if self._strings is None else [pa.py_buffer(self._strings), values]
        if self._lists is None:
            return pa.Array.from_buffers(self.type, self._rows, [valid, *buffers], self._nulls)
        count = int(self._lists[-1])
        child = pa.Array.from_buffers(self._leaf, count, [None, *buffers], 0)
        return pa.Array.from_buffers(
            self.type, self._rows, [valid, pa.py_buffer(self._lists)], self._nulls, children=[child]
        )

    def _mapped_records(self, valid: pa.Buffer | None) -> pa.Array:
        if self._lists is None:
            return pa.Array.from_buffers(
                self.type, self._rows, [valid, pa.py_buffer(self._values)], self._nulls
            )
        child = record_array(self._values, self._leaf, None)
        return pa.Array.from_buffers(
            self.type, self._rows, [valid, pa.py_buffer(self._lists)], self._nulls, children=[child]
        )

    def _block_spans(self, start: int, stop: int) -> list[Span]:
        assert self._blocks is not None
        begins, ends = self._blocks[:, start].tolist(), self._blocks[:, stop].tolist()
        names = [section for section in self._sections if section.endswith((".lists", ".strings"))]
        spans = [
            self.blob.span(name, begin, end + 1)
            for name, begin, end in zip(names, begins, ends, strict=False)
        ]
        return [*spans, self._values_span(begins[-1], ends[-1])]

    def _values_span(self, start: int, stop: int) -> Span:
        if pa.types.is_boolean(self._leaf):
            start, stop = start // 8, -(-stop // 8)
        return self.blob.span(f"{self._name}.values", start, stop)


def ordered_codes(array: Any) -> tuple[Ints, Any]:
    """Numbers that order and compare as the values do.

    Returns `(codes, distinct)`: codes (n,) int64, -1 for null, otherwise the index into `distinct`, the
    array's distinct values in ascending order (a pyarrow.Array). Zero and negative zero are one value. Cost:
    one hash per row, one sort of the distinct.
    """
    if pa.types.is_floating(array.type):
        array = pc.add(array, pa.scalar(0.0, array.type))  # turns -0.0 into 0.0
    encoded = array.dictionary_encode()
    codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    order = pc.sort_indices(encoded.dictionary).to_numpy(zero_copy_only=False).astype(np.int64)
    # one place more than there are values, for the index -1 of null
    rank = np.full(len(order) + 1, -1, np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes], encoded.dictionary.take(pa.array(order))


def expanded(starts: Ints, stops: Ints) -> Ints:
    """All numbers of the ranges [starts[i], stops[i]), one range after another."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Ints = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return numbers


def _offsets(lengths: npt.NDArray[Any]) -> Ints:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _narrow(name: str, offsets: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    if offsets[-1] > ARRAY_BYTES_MAX:
        raise ValueError(f"{name}: {offsets[-1]} bytes or elements, an array may have {ARRAY_BYTES_MAX}")
    narrow: npt.NDArray[np.int32] = offsets.astype(np.int32, copy=False)
    return narrow


def _packed(array: pa.Array) -> Bytes:
    return np.packbits(array.to_numpy(zero_copy_only=False), bitorder="little")


def _bits(packed: Bytes, places: Ints) -> Bools:
    return cast("Bools", (packed[places >> 3] >> (places & 7).astype(np.uint8) & 1).view(np.bool_))


def _block_bounds(size: Ints) -> Ints:
    """The first rows of blocks, and the number of rows. size: (n + 1,) bytes before each row."""
    rows = len(size) - 1
    bucket = size[:-1] // UNIT_BYTES
    # a large row stands alone: what is before it should not take reading it
    begins = (np.arange(rows) % BLOCK_ROWS == 0) | (np.diff(size) >= UNIT_BYTES)
    begins[1:] |= bucket[1:] != bucket[:-1]
    return np.append(np.flatnonzero(begins), rows)


def runs(numbers: Ints, stride: int, total: int) -> list[tuple[int, int]]:
    """The ranges of whole strides that hold these numbers, neighbours joined; none reaches past total."""
    found = np.unique(numbers // stride)
    if not len(found):
        return []
    breaks = np.flatnonzero(np.diff(found) != 1)
    firsts = found[np.concatenate([[0], breaks + 1])] * stride
    lasts = (found[np.concatenate([breaks, [len(found) - 1]])] + 1) * stride
    return list(zip(firsts.tolist(), np.minimum(lasts, total).tolist(), strict=True))
