"""One attribute of a part: its values in row order, and the sorted index of filters, orders and counts.

A file `attr.<name>` is a blob with the stored array `column` (`elacsym.index.arrays`) and, where the
attribute is filterable, an index of its values (of its elements, for arrays):

    distinct   a stored array: the distinct values ascending; numbers and times by value, false before true,
               strings by UTF-8 bytes, UUIDs by their bytes, zero and negative zero as one
    sample     a stored array, eager: every BLOCK_VALUES-th of them
    starts     u4 (distinct + 1): where the rows of each value begin in `rows`
    rows       u4: row numbers by value, then row; of an array each element once. Null rows are not in it.

So the rows of any range of values are one range of `rows`: a look-up takes one round for the blocks of values
and one for the rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import CorruptObject
from elacsym.format import blob as blob_format
from elacsym.format.blob import PREFIX_BYTES, Blob
from elacsym.format.reading import Source, Span, Steps, done
from elacsym.index import arrays
from elacsym.index.arrays import Bools, Encoded, Ints, StoredArray
from elacsym.index.columns import arrow_type, fitted
from elacsym.index.leaves import Records, Texts
from elacsym.index.sizes import value_bytes
from elacsym.index.values import UUID_ARROW, to_python, uuid_bytes
from elacsym.types import Attribute, AttributeType, Scalar

KIND, VERSION = "attribute", 1
BLOCK_VALUES = 512
# the values of an index that is smaller are read with the head
_EAGER_VALUES_BYTES_MAX = 16 * 2**10
# texts whose distinct values are longer on average get no index: it would be as large as the texts
_INDEXED_TEXT_BYTES_MAX = 128
_UNORDERED = (Scalar.BYTES, Scalar.UNKNOWN)

Rows = npt.NDArray[np.uint32]


class Values(Protocol):
    """An attribute's values in row order. Every method is steps and takes at most one round."""

    def __len__(self) -> int:
        """Rows."""
        ...

    @property
    def index(self) -> SortedValues | None:
        """The sorted index, where there is one."""
        ...

    def column(self) -> Steps[pa.Array]:
        """All rows."""
        ...

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """The values of these rows, in the order given."""
        ...

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """The same as plain Python values, None for null; for the few rows of an answer."""
        ...

    def valid(self) -> Steps[Bools]:
        """(rows,) bool, fresh: which rows have a value."""
        ...

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """(n,) int64: the bytes of these rows' values as `index.sizes` counts them; a null may count as a
        value. Values themselves are not read."""
        ...


class ArrowValues:
    """`Values` of an array in memory, without an index."""

    index: SortedValues | None = None

    def __init__(self, array: pa.Array) -> None:
        self._array = array

    def __len__(self) -> int:
        """See Values."""
        return len(self._array)

    def column(self) -> Steps[pa.Array]:
        """See Values."""
        return done(self._array)

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """See Values."""
        return done(self._array.take(pa.array(rows)))

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """See Values."""
        return done(to_python(self._array.take(pa.array(rows))))

    def valid(self) -> Steps[Bools]:
        """See Values."""
        return done(self._array.is_valid().to_numpy(zero_copy_only=False).copy())

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """See Values."""
        return done(value_bytes(self._array)[rows])


class MissingValues:
    """`Values` of a part that stores none: all null."""

    index: SortedValues | None = None

    def __init__(self, kind: AttributeType, rows: int) -> None:
        self._type, self._rows = arrow_type(kind), rows

    def __len__(self) -> int:
        """See Values."""
        return self._rows

    def column(self) -> Steps[pa.Array]:
        """See Values."""
        return done(pa.nulls(self._rows, self._type))

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """See Values."""
        return done(pa.nulls(len(rows), self._type))

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """See Values."""
        return done([None] * len(rows))

    def valid(self) -> Steps[Bools]:
        """See Values."""
        return done(np.zeros(self._rows, np.bool_))

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """See Values."""
        return done(np.zeros(len(rows), np.int64))


class Cut(NamedTuple):
    """A place in the order of values: before all that are not less than `value`, or after all that are not
    greater. value: of the attribute's own type and range."""

    value: Any
    is_after: bool


# the values between two cuts; None is the end of the order
Range = tuple[Cut | None, Cut | None]


class SortedValues:
    """The index of a file: which rows have which values. Ranges are half-open ranges of the list `rows`."""

    def __init__(self, blob: Blob, leaf: pa.DataType, distinct: int, rows_null: int) -> None:
        self.rows_null = rows_null
        self._blob = blob
        self._distinct = StoredArray(blob, "distinct", leaf, distinct, 0)
        sample = StoredArray(blob, "sample", leaf, -(-distinct // BLOCK_VALUES), 0)
        self._starts: Rows = blob.array("starts", "<u4", distinct + 1)
        self._rows: Rows = blob.array("rows", "<u4", None)
        is_octets = pa.types.is_string(leaf) or leaf == UUID_ARROW
        self._keys: Any = self._distinct.octets() if is_octets else self._distinct.numbers
        self._sample: Any = sample.octets() if is_octets else sample.numbers
        self._is_whole = False

    def __len__(self) -> int:
        """Distinct values."""
        return len(self._distinct)

    @property
    def listed(self) -> int:
        """The length of `rows`: rows with a value; for arrays, distinct elements of all rows."""
        return len(self._rows)

    def distinct(self) -> Steps[pa.Array]:
        """The distinct values, ascending."""
        return self._distinct.whole()

    def starts(self) -> Steps[Rows]:
        """(distinct + 1,) uint32: where the rows of each value begin, and the end."""
        yield from self._blob.want_whole("starts")
        return self._starts

    def ranges(self, between: Sequence[Range]) -> Steps[Ints]:
        """(r, 2) int64: the range of `rows` with the values of each Range; empty ones may begin anywhere.

        One round. Cost: a binary search per cut.
        """
        cuts = [cut for pair in between for cut in pair if cut is not None]
        if self._is_at_hand():
            places = _places(self._keys, cuts)
        else:
            blocks = _places(self._sample, cuts) - 1
            yield from self._blob.want(*self._value_spans(np.unique(blocks[blocks >= 0])))
            places = self._places_in(blocks, cuts)
        # before the first value stands 0, known without looking
        found = iter(np.where(places > 0, self._starts[places], 0).tolist())
        ends = (0, self.listed)
        flat = [
            ends[side] if cut is None else next(found) for pair in between for side, cut in enumerate(pair)
        ]
        return np.array(flat, np.int64).reshape(-1, 2)

    def rows(self, ranges: Ints) -> Steps[Rows]:
        """The rows of some ranges, one after another, by value and then row; one round. ranges: (r, 2)."""
        starts, stops = ranges[ranges[:, 0] < ranges[:, 1]].T
        # neighbours are one range
        is_new = np.ones(len(starts), np.bool_)
        is_new[1:] = starts[1:] != stops[:-1]
        starts, stops = starts[is_new], stops[np.roll(is_new, -1)]
        spans = [self._blob.span("rows", *pair) for pair in zip(starts.tolist(), stops.tolist(), strict=True)]
        yield from self._blob.want(*spans)
        if len(starts) == 1:
            return self._rows[starts[0] : stops[0]]
        return self._rows[arrays.expanded(starts, stops)]

    def walk(self, start: int, stop: int) -> Steps[tuple[Rows, Rows]]:
        """The places [start, stop) of `rows`, 0 <= start < stop <= listed: the rows, and where values begin.

        The second array, ascending, has the beginning and the end of each value with a row among these, and
        maybe of others. One round, small near either end.
        """
        # every value has a row, so a place is at most as many values away from an end as it is places
        first = max(0, len(self) - (self.listed - start))
        last = min(stop, len(self))
        spans = self._blob.span("rows", start, stop), self._blob.span("starts", first, last + 1)
        yield from self._blob.want(*spans)
        return self._rows[start:stop], self._starts[first : last + 1]

    def _is_at_hand(self) -> bool:
        """Whether all values are; once true, always true."""
        if not self._is_whole:
            has, span = self._blob.source.has, self._blob.span
            self._is_whole = self._distinct.is_at_hand and has(*span("starts"))
        return self._is_whole

    def _value_spans(self, blocks: Ints) -> list[Span]:
        spans: list[Span] = []
        for start, stop in arrays.runs(blocks * BLOCK_VALUES, BLOCK_VALUES, len(self)):
            spans.append(self._blob.span("starts", start, stop + 1))
            spans += self._distinct.spans_between(start, stop)
        return spans

    def _places_in(self, blocks: Ints, cuts: Sequence[Cut]) -> Ints:
        """How many values stand before each cut, looking into its block only; -1 is before all blocks."""
        places = np.zeros(len(cuts), np.int64)
        for block in np.unique(blocks[blocks >= 0]).tolist():
            start, stop = block * BLOCK_VALUES, min((block + 1) * BLOCK_VALUES, len(self))
            inside = np.flatnonzero(blocks == block).tolist()
            places[inside] = _places(self._keys, [cuts[i] for i in inside], start, stop)
        return places


class EmptyValues:
    """`Values` of arrays that are all empty and have got a type since. inner: as they were stored."""

    index: SortedValues | None = None

    def __init__(self, inner: Values, kind: AttributeType) -> None:
        self._inner, self._kind = inner, kind

    def __len__(self) -> int:
        """See Values."""
        return len(self._inner)

    def column(self) -> Steps[pa.Array]:
        """See Values."""
        return fitted((yield from self._inner.column()), self._kind)

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """See Values."""
        return fitted((yield from self._inner.select(rows)), self._kind)

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """See Values."""
        return self._inner.values(rows)

    def valid(self) -> Steps[Bools]:
        """See Values."""
        return self._inner.valid()

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """See Values."""
        return self._inner.sizes(rows)


class AttributeFile:
    """`Values` in a file `attr.<name>`. type: that of the values."""

    def __init__(self, blob: Blob, kind: AttributeType) -> None:
        self.type = kind
        rows, nulls = blob.scalar("rows"), blob.scalar("nulls")
        self._column = StoredArray(blob, "column", arrow_type(kind), rows, nulls)
        self.index: SortedValues | None = None
        if "distinct" in blob.meta:
            self.index = SortedValues(
                blob, arrow_type(AttributeType(kind.scalar)), blob.scalar("distinct"), nulls
            )

    @staticmethod
    def build(array: pa.Array, attribute: Attribute) -> bytes:
        """The file of a column of the attribute's Arrow type, without null elements and NaN.

        Raises ValueError where strings exceed one Arrow array. Cost: a hash per value, a sort of the distinct
        values and one of the rows.
        """
        encoded = arrays.encode("column", array)
        meta = {
            "kind": KIND,
            "version": VERSION,
            "type": str(attribute.type),
            "rows": len(array),
            "nulls": array.null_count,
        }
        if attribute.filterable and attribute.type.is_plain and attribute.type.scalar not in _UNORDERED:
            codes, rows, distinct = _sorted_rows(array)
            if attribute.full_text is None or _mean_bytes(distinct) <= _INDEXED_TEXT_BYTES_MAX:
                encoded = arrays.joined(encoded, encoded_index(codes, rows, distinct))
                meta["distinct"] = len(distinct)
        return blob_format.encode(encoded.sections, meta, arrays.eager_sections(encoded))

    @classmethod
    def opened(cls, source: Source, rows_total: int) -> Steps[Self]:
        """The file in a source; it must hold `rows_total` rows. Raises CorruptObject."""
        blob = (yield from Blob.opened(source)).expect(KIND, VERSION)
        if blob.scalar("rows") != rows_total:
            reason = f"{blob.scalar('rows')} rows where {rows_total} are expected"
            raise CorruptObject(source.key, reason, offset=PREFIX_BYTES)
        try:
            return cls(blob, AttributeType.parse(str(blob.meta.get("type"))))
        except (ValueError, KeyError) as error:
            raise CorruptObject(source.key, f"no attribute: {error}", offset=PREFIX_BYTES) from error

    def __len__(self) -> int:
        """See Values."""
        return len(self._column)

    def column(self) -> Steps[pa.Array]:
        """See Values."""
        return self._column.whole()

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """See Values."""
        return self._column.select(rows)

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """See Values."""
        return self._column.values(rows)

    def valid(self) -> Steps[Bools]:
        """See Values."""
        return self._column.valid()

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """See Values."""
        return self._column.sizes(rows)


def _places(keys: Any, cuts: Sequence[Cut], start: int = 0, stop: int | None = None) -> Ints:
    """(n,) int64: where in keys[start:stop], which ascend, each cut is, counted from 0. keys: Texts, Records
    of UUIDs, or (d,) numbers."""
    if isinstance(keys, Texts | Records):
        stop = len(keys) if stop is None else stop
        octets = str.encode if isinstance(keys, Texts) else uuid_bytes
        found = [
            (bisect_right if is_after else bisect_left)(keys, octets(value), start, stop)
            for value, is_after in cuts
        ]
        return np.array(found, np.int64)
    numbers = keys[start:stop]
    values = np.array([cut.value for cut in cuts], numbers.dtype)
    is_after = np.array([cut.is_after for cut in cuts], np.bool_)
    before = np.searchsorted(numbers, values, "left")
    return start + np.where(is_after, np.searchsorted(numbers, values, "right"), before)


def _sorted_rows(array: pa.Array) -> tuple[Ints, Ints, pa.Array]:
    """The codes of all values in ascending order, the row of each, and the distinct values; equal values by
    row, of an array each once."""
    if not pa.types.is_list(array.type):
        codes, distinct = arrays.ordered_codes(array)
        # numpy sorts 16-bit numbers by radix
        small = codes.astype(np.int16) if len(distinct) < 2**15 else codes
        rows = np.argsort(small, kind="stable")[array.null_count :]
        return codes[rows], rows, distinct
    codes, distinct = arrays.ordered_codes(array.flatten())
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    pairs = np.unique(codes * len(array) + np.repeat(np.arange(len(array)), lengths))
    return pairs // max(1, len(array)), pairs % max(1, len(array)), distinct


def encoded_index(codes: Ints, rows: Ints, distinct: pa.Array) -> Encoded:
    """The sections of `SortedValues`. codes: (n,) the place among `distinct` of each value, ascending; rows:
    (n,) the row of each. Raises ValueError where there are too many."""
    starts = np.zeros(len(distinct) + 1, np.int64)
    np.cumsum(np.bincount(codes, minlength=len(distinct)), out=starts[1:])
    if len(rows) >= 2**32:
        raise ValueError(f"{len(rows)} elements, an index may have {2**32 - 1}")
    sample = arrays.encode("sample", distinct.take(pa.array(np.arange(0, len(distinct), BLOCK_VALUES))))
    values = arrays.encode("distinct", distinct)
    lists = {"starts": starts.astype(np.uint32), "rows": rows.astype(np.uint32)}
    eager: tuple[str, ...] = (*sample.sections, *values.eager)
    size_bytes = sum(section.nbytes for section in values.sections.values()) + starts.nbytes
    # the two values of bool are unpacked when the file is opened
    if size_bytes <= _EAGER_VALUES_BYTES_MAX or pa.types.is_boolean(distinct.type):
        eager = (*sample.sections, *values.sections, "starts")
    return Encoded({**sample.sections, **values.sections, **lists}, eager)


def _mean_bytes(distinct: pa.Array) -> float:
    return float(pc.sum(pc.binary_length(distinct)).as_py() or 0) / max(1, len(distinct))
