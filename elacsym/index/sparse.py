"""A sparse vector attribute of a part: each row's dimensions and weights, and the rows of each dimension.

A file `attr.<name>` of such an attribute is a blob with the stored arrays `dimensions` (of strings) and
`weights` (of 16-bit floats), in row order, and an inverted list of them: `distinct`, `sample`, `starts` and
`rows` as `elacsym.index.attribute` has them, and

    shares     f2: the weight that each entry of `rows` has

A look-up of some dimensions takes one round for their places and one for rows and weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import CorruptObject
from elacsym.format import blob as blob_format
from elacsym.format.blob import PREFIX_BYTES, Blob
from elacsym.format.reading import MemorySource, Source, Steps, both, done, resident, together
from elacsym.index import arrays
from elacsym.index.arrays import Bools, Encoded, Ints, StoredArray
from elacsym.index.attribute import Cut, SortedValues, encoded_index
from elacsym.index.columns import SPARSE_ARROW
from elacsym.index.values import to_python

KIND, VERSION = "sparse", 1
_DIMENSIONS, _WEIGHTS = pa.list_(pa.string()), pa.list_(pa.float16())


class Postings(NamedTuple):
    """Entries of some dimensions, by dimension, then row. places: (n,) int64, which of the dimensions; rows:
    (n,) int64; weights: (n,) float64."""

    places: Ints
    rows: Ints
    weights: npt.NDArray[np.float64]


class Sparse(Protocol):
    """What finds the rows of dimensions."""

    def postings(self, dimensions: Sequence[str]) -> Steps[Postings]:
        """The entries of these dimensions, which ascend by UTF-8 bytes. At most two rounds."""
        ...


class NoSparse:
    """`Sparse` of a part that stores none."""

    def postings(self, dimensions: Sequence[str]) -> Steps[Postings]:  # noqa: ARG002 - there is none
        """See Sparse."""
        return done(Postings(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)))


class SparseFile:
    """`Sparse`, and `Values`, in a file."""

    index: SortedValues | None = None

    def __init__(self, blob: Blob) -> None:
        rows, nulls = blob.scalar("rows"), blob.scalar("nulls")
        self._blob = blob
        self._dimensions = StoredArray(blob, "dimensions", _DIMENSIONS, rows, nulls)
        self._weights = StoredArray(blob, "weights", _WEIGHTS, rows, nulls)
        self._inverted = SortedValues(blob, pa.string(), blob.scalar("distinct"), nulls)
        self._shares = blob.array("shares", "<f2", self._inverted.listed)

    @staticmethod
    def build(array: pa.Array) -> bytes:
        """The file of a column of sparse vectors. Raises ValueError where it exceeds one Arrow array. Cost: a
        hash and a sort of all entries."""
        names, weights = array.flatten().flatten()
        lengths = _lengths(array)
        codes, distinct = arrays.ordered_codes(names)
        order = np.argsort(codes, kind="stable")
        rows = np.repeat(np.arange(len(array)), lengths)[order]
        shares = weights.to_numpy(zero_copy_only=False)
        encoded = arrays.joined(
            arrays.encode("dimensions", _nested(array, names, _DIMENSIONS)),
            arrays.encode("weights", _nested(array, weights, _WEIGHTS)),
            encoded_index(codes[order], rows, distinct),
            Encoded({"shares": shares[order]}, ()),
        )
        meta = {
            "kind": KIND,
            "version": VERSION,
            "rows": len(array),
            "nulls": array.null_count,
            "distinct": len(distinct),
        }
        return blob_format.encode(encoded.sections, meta, arrays.eager_sections(encoded))

    @classmethod
    def in_memory(cls, array: pa.Array) -> Self:
        """The file of a column, made and opened."""
        return resident(cls.opened(MemorySource(cls.build(array)), len(array)))

    @classmethod
    def opened(cls, source: Source, rows_total: int) -> Steps[Self]:
        """The file in a source; it must hold `rows_total` rows. Raises CorruptObject."""
        blob = (yield from Blob.opened(source)).expect(KIND, VERSION)
        if blob.scalar("rows") != rows_total:
            reason = f"{blob.scalar('rows')} rows where {rows_total} are expected"
            raise CorruptObject(source.key, reason, offset=PREFIX_BYTES)
        return cls(blob)

    def __len__(self) -> int:
        """See Values."""
        return len(self._dimensions)

    def column(self) -> Steps[pa.Array]:
        """See Values."""
        return _combined(*(yield from both(self._dimensions.whole(), self._weights.whole())))

    def select(self, rows: Ints) -> Steps[pa.Array]:
        """See Values."""
        return _combined(*(yield from both(self._dimensions.select(rows), self._weights.select(rows))))

    def values(self, rows: Ints) -> Steps[list[Any]]:
        """See Values."""
        return to_python((yield from self.select(rows)))

    def valid(self) -> Steps[Bools]:
        """See Values."""
        return self._dimensions.valid()

    def sizes(self, rows: Ints) -> Steps[Ints]:
        """See Values."""
        names, weights = yield from both(self._dimensions.sizes(rows), self._weights.sizes(rows))
        return names + weights

    def dimensions(self) -> Steps[list[str]]:
        """All dimensions that some row has, ascending by UTF-8 bytes; one round."""
        return to_python((yield from self._inverted.distinct()))

    def postings(self, dimensions: Sequence[str]) -> Steps[Postings]:
        """See Sparse."""
        wanted = [(Cut(name, is_after=False), Cut(name, is_after=True)) for name in dimensions]
        ranges = yield from self._inverted.ranges(wanted)
        starts, stops = ranges.T
        spans = [
            self._blob.span("shares", *pair)
            for pair in zip(starts.tolist(), stops.tolist(), strict=True)
            if pair[0] < pair[1]
        ]
        bringing: list[Steps[Any]] = [self._inverted.rows(ranges), self._blob.want(*spans)]
        rows, _ = yield from together(bringing)
        weights = self._shares[arrays.expanded(starts, np.maximum(starts, stops))].astype(np.float64)
        places = np.repeat(np.arange(len(dimensions)), np.maximum(stops - starts, 0))
        return Postings(places, rows.astype(np.int64), weights)


def _lengths(array: pa.Array) -> Ints:
    lengths: Ints = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def _nested(like: pa.Array, elements: pa.Array, type_: pa.DataType) -> pa.Array:
    """The elements as lists of the same lengths as those of another array, null where it is."""
    offsets = np.zeros(len(like) + 1, np.int32)
    np.cumsum(_lengths(like), out=offsets[1:])
    mask = pc.is_null(like) if like.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), elements, type=type_, mask=mask)


def _combined(dimensions: pa.Array, weights: pa.Array) -> pa.Array:
    entries = pa.StructArray.from_arrays(
        [dimensions.flatten(), weights.flatten()], fields=list(SPARSE_ARROW.value_type)
    )
    return _nested(dimensions, entries, SPARSE_ARROW)
