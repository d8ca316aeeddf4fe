"""Document ids in row order, and the sorted index that finds the rows of given ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import CorruptObject
from elacsym.format import blob, digest
from elacsym.types import DocumentId, IdType

KIND, VERSION = "ids", 1
HASH_ROWS = 64 * 2**10  # strings hashed at a time: bounds the padded copy to 4 MiB of 64-byte ids
_ARROW_TYPES: dict[IdType, pa.DataType] = {"uint": pa.uint64(), "string": pa.string()}


class IdColumn:
    """Ids in row order; immutable. All ids are of one type."""

    __slots__ = ("_array", "id_type")

    def __init__(self, id_type: IdType, array: pa.Array) -> None:
        self.id_type: IdType = id_type
        self._array = array

    @classmethod
    def of(cls, id_type: IdType, values: Sequence[int] | Sequence[str]) -> Self:
        """The column of Python values: integers in 0…2^64-1, or strings."""
        return cls(id_type, pa.array(values, _ARROW_TYPES[id_type]))

    @classmethod
    def from_arrow(cls, array: pa.Array | pa.ChunkedArray) -> Self:
        """The column of an Arrow array of uint64 or string without nulls."""
        whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if pa.types.is_large_string(whole.type):
            whole = whole.cast(pa.string())
        assert whole.null_count == 0 and whole.type in _ARROW_TYPES.values(), whole.type
        return cls("uint" if pa.types.is_uint64(whole.type) else "string", whole)

    def to_arrow(self) -> pa.Array:
        """The ids as an Arrow array of uint64 or string."""
        return self._array

    def __len__(self) -> int:
        """Rows."""
        return len(self._array)

    def __eq__(self, other: object) -> bool:
        """Whether type, ids and order are the same."""
        return isinstance(other, IdColumn) and bool(self._array.equals(other.to_arrow()))

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> list[DocumentId]:
        """The ids of these rows, as Python values."""
        return cast("list[DocumentId]", self.select(rows).to_arrow().to_pylist())

    def select(self, rows: npt.NDArray[np.integer[Any]]) -> IdColumn:
        """The column of these rows, in the order given."""
        return IdColumn(self.id_type, self._array.take(pa.array(rows.astype(np.int64, copy=False))))

    @classmethod
    def concat(cls, columns: Sequence[IdColumn]) -> IdColumn:
        """The columns one after another; at least one, all of one type."""
        kinds = {column.id_type for column in columns}
        assert len(kinds) == 1, kinds
        return IdColumn(columns[0].id_type, pa.concat_arrays([column.to_arrow() for column in columns]))

    @classmethod
    def merge(
        cls, columns: Sequence[IdColumn], row_maps: Sequence[npt.NDArray[np.int64]], rows_total: int
    ) -> IdColumn:
        """One column of `rows_total` rows: row r of columns[i] becomes row row_maps[i][r], or goes (-1).

        Every new row must be given exactly once.
        """
        row_map = np.concatenate(row_maps)
        kept = np.flatnonzero(row_map >= 0)
        order = np.empty(rows_total, np.int64)
        order[row_map[kept]] = kept
        assert len(kept) == rows_total, (len(kept), rows_total)
        return cls.concat(columns).select(order)

    def row_sum(self, versions: npt.NDArray[np.uint64]) -> int:
        """`elacsym.format.digest.row_sum` of the rows. versions: (n,) uint64."""
        assert len(versions) == len(self)
        ids = self._uints() if self.id_type == "uint" else self._array.to_pylist()
        return digest.row_sum(ids, versions)

    def keys(self) -> npt.NDArray[np.uint64]:
        """(n,) uint64: the ids, or a 64-bit hash of each string. Stored in files, so it never changes."""
        return self._uints() if self.id_type == "uint" else _hashes(self._array)

    def _uints(self) -> npt.NDArray[np.uint64]:
        return cast("npt.NDArray[np.uint64]", self._array.to_numpy(zero_copy_only=True))


class IdIndex:
    """Which row holds an id: sorted keys with row numbers; ids inside one index are unique.

    Cost of a look-up: one binary search per id, and for strings one comparison per id whose hash is found.
    """

    def __init__(
        self,
        id_type: IdType,
        keys: npt.NDArray[np.uint64],
        rows: npt.NDArray[np.uint32],
        strings: IdColumn | None,
    ) -> None:
        self.id_type: IdType = id_type
        self._keys, self._rows, self._strings = keys, rows, strings

    @classmethod
    def build(cls, ids: IdColumn) -> Self:
        """The index of a column."""
        keys = ids.keys()
        order = np.argsort(keys, kind="stable")
        return cls(
            ids.id_type, keys[order], order.astype(np.uint32), ids if ids.id_type == "string" else None
        )

    def __len__(self) -> int:
        """Ids."""
        return len(self._keys)

    @cached_property
    def ids(self) -> IdColumn:
        """The ids in row order."""
        if self._strings is not None:
            return self._strings
        values = np.empty(len(self), np.uint64)
        values[self._rows] = self._keys
        return IdColumn("uint", pa.array(values))

    def encode(self) -> bytes:
        """The index, ids of strings included, as a file."""
        sections: dict[str, npt.NDArray[Any]] = {"keys": self._keys, "rows": self._rows}
        if self._strings is not None:
            sections["offsets"], sections["data"] = _string_buffers(self._strings.to_arrow())
        meta = {"kind": KIND, "version": VERSION, "id_type": self.id_type, "rows": len(self)}
        return blob.encode(sections, meta)

    @classmethod
    def open(cls, data: memoryview | bytes, key: str, *, verify: bool = False) -> Self:
        """The index in a file, without copying.

        `verify` checks every byte: not needed where the file was mapped by its digest. Raises CorruptObject.
        """
        file = blob.Blob.open(data, key).expect(KIND, VERSION)
        if verify:
            file.verify()
        n = file.scalar("rows")
        keys, rows = file.array("keys", "<u8", n), file.array("rows", "<u4", n)
        id_type = file.meta.get("id_type")
        if id_type == "uint":
            return cls("uint", keys, rows, None)
        if id_type != "string":
            raise CorruptObject(key, f"unknown id type {id_type!r}", offset=blob.PREFIX_BYTES)
        offsets, text = file.array("offsets", "<i4", n + 1), file.array("data", "u1", None)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text)]
        return cls("string", keys, rows, IdColumn("string", pa.Array.from_buffers(pa.string(), n, buffers)))

    def rows_of(self, ids: IdColumn) -> npt.NDArray[np.int64]:
        """(n,) int64: the row of each id, -1 where it is absent."""
        found = np.full(len(ids), -1, np.int64)
        if ids.id_type != self.id_type:
            return found
        wanted = ids.keys()
        place = np.searchsorted(self._keys, wanted)
        open_ = np.arange(len(ids))
        # one round unless two strings share a hash
        while len(open_):
            inside = place[open_] < len(self._keys)
            open_ = open_[inside]
            open_ = open_[self._keys[place[open_]] == wanted[open_]]
            rows = self._rows[place[open_]].astype(np.int64)
            same = self._same(ids, open_, rows)
            found[open_[same]] = rows[same]
            open_ = open_[~same]
            place[open_] += 1
        return found

    def _same(
        self, ids: IdColumn, queries: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        if self._strings is None:
            return np.ones(len(rows), np.bool_)
        equal = pc.equal(ids.select(queries).to_arrow(), self._strings.select(rows).to_arrow())
        return np.asarray(equal.to_numpy(zero_copy_only=False), np.bool_)


def _string_buffers(array: pa.Array) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """Offsets from 0, (n + 1,) int32, and the bytes they point into, of an Arrow string array."""
    _, offset_buffer, data_buffer = array.buffers()
    if offset_buffer is None or not len(array):
        return np.zeros(len(array) + 1, np.int32), np.empty(0, np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)[array.offset : array.offset + len(array) + 1]
    data = np.empty(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return offsets - offsets[0], data[offsets[0] : offsets[-1]]


def _hashes(array: pa.Array) -> npt.NDArray[np.uint64]:
    """(n,) uint64: splitmix64 over the 8-byte little-endian words of each string, seeded by its length."""
    offsets, data = _string_buffers(array)
    lengths = np.diff(offsets).astype(np.int64)
    hashes = np.empty(len(array), np.uint64)
    for start in range(0, len(array), HASH_ROWS):
        part = slice(start, start + HASH_ROWS)
        hashes[part] = _hash_padded(data, offsets[:-1][part].astype(np.int64), lengths[part])
    return hashes


def _hash_padded(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    words = -(-int(lengths.max(initial=0)) // 8)
    inside = np.arange(words * 8) < lengths[:, None]
    padded = np.zeros((len(starts), words * 8), np.uint8)
    padded[inside] = data[int(starts[0]) : int(starts[-1] + lengths[-1])]
    columns = padded.view("<u8").astype(np.uint64, copy=False)
    value = _mix(lengths.astype(np.uint64))
    for word in range(words):
        # words past a string's end must not count: the hash may not depend on its neighbours
        value = np.where(word * 8 < lengths, _mix(value ^ columns[:, word]), value)
    return value


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One step of splitmix64 (Steele, Lea, Flood 2014); wraps by design."""
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
