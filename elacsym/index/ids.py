"""Document ids in row order, and the sorted index that finds the rows of given ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.errors import CorruptObject
from elacsym.format import blob as blob_format
from elacsym.format import digest
from elacsym.format.blob import PREFIX_BYTES, Blob
from elacsym.format.reading import Source, Span, Steps, done
from elacsym.index import arrays
from elacsym.index.arrays import Ints, StoredArray
from elacsym.index.leaves import record_values, string_buffers
from elacsym.index.values import UUID_ARROW, UUID_BYTES, to_arrow, to_python
from elacsym.types import DocumentId, IdType

KIND, VERSION = "ids", 2
BLOCK_KEYS = 512
HASH_ROWS = 64 * 2**10  # strings hashed at a time: bounds the padded copy to 4 MiB of 64-byte ids
# a look-up asks every part for the same few ids; the hashes of whole columns are not worth their memory
KEYS_KEPT_MAX = 1_024
# beyond this share of its blocks, the index is fetched whole
_WHOLE_SHARE = 1 / 4
_ARROW_TYPES: dict[IdType, pa.DataType] = {"uint": pa.uint64(), "string": pa.string(), "uuid": UUID_ARROW}
_ID_TYPES = {type_: id_type for id_type, type_ in _ARROW_TYPES.items()}

Keys = npt.NDArray[np.uint64]


class IdColumn:
    """Ids in row order; immutable. All ids are of one type."""

    __slots__ = ("_array", "_keys", "id_type")

    def __init__(self, id_type: IdType, array: pa.Array) -> None:
        self.id_type: IdType = id_type
        self._array = array
        self._keys: Keys | None = None

    @classmethod
    def of(cls, id_type: IdType, values: Sequence[int] | Sequence[str]) -> Self:
        """The column of Python values: integers in 0…2^64-1, or strings (UUIDs: canonical)."""
        return cls(id_type, to_arrow(values, _ARROW_TYPES[id_type]))

    @classmethod
    def from_arrow(cls, array: pa.Array | pa.ChunkedArray) -> Self:
        """The column of an Arrow array of uint64, string or fixed binary (of a UUID) without nulls."""
        whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        if pa.types.is_large_string(whole.type):
            whole = whole.cast(pa.string())
        assert whole.null_count == 0 and whole.type in _ID_TYPES, whole.type
        return cls(_ID_TYPES[whole.type], whole)

    def to_arrow(self) -> pa.Array:
        """The ids as an Arrow array of uint64, string or fixed binary."""
        return self._array

    def __len__(self) -> int:
        """Rows."""
        return len(self._array)

    def __eq__(self, other: object) -> bool:
        """Whether type, ids and order are the same."""
        return isinstance(other, IdColumn) and bool(self._array.equals(other.to_arrow()))

    __hash__ = None  # type: ignore[assignment]

    def to_list(self) -> list[DocumentId]:
        """The ids as Python values."""
        # through numpy, which makes Python values in one call
        values = self._uints().tolist() if self.id_type == "uint" else to_python(self._array)
        return cast("list[DocumentId]", values)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> list[DocumentId]:
        """The ids of these rows, as Python values."""
        return self.select(rows).to_list()

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
        ids = self._uints() if self.id_type == "uint" else to_python(self._array)
        return digest.row_sum(ids, versions)

    def keys(self) -> npt.NDArray[np.uint64]:
        """(n,) uint64: the ids, or a 64-bit hash of each string or UUID. Stored in files, so it never
        changes."""
        if self.id_type == "uint":
            return self._uints()
        keys = _hashes(self._array) if self._keys is None else self._keys
        if len(keys) <= KEYS_KEPT_MAX:
            self._keys = keys
        return keys

    def _uints(self) -> npt.NDArray[np.uint64]:
        return cast("npt.NDArray[np.uint64]", self._array.to_numpy(zero_copy_only=True))


class Ids(Protocol):
    """The ids of a part's rows. Every method is steps and takes at most one round."""

    @property
    def id_type(self) -> IdType:
        """The type of all of them."""
        ...

    def __len__(self) -> int:
        """Rows."""
        ...

    def column(self) -> Steps[IdColumn]:
        """All ids in row order."""
        ...

    def select(self, rows: Ints) -> Steps[IdColumn]:
        """The ids of these rows, in the order given."""
        ...

    def documents(self, rows: Ints) -> Steps[list[DocumentId]]:
        """The same as Python values; for the few rows of an answer."""
        ...

    def rows_of(self, ids: IdColumn) -> Steps[Ints]:
        """(n,) int64: the last row of each id, -1 where it is absent or of another type."""
        ...


class MemoryIds:
    """`Ids` of a column in memory, which may hold an id several times. The look-up is made when first asked
    for."""

    def __init__(self, column: IdColumn) -> None:
        self._column = column
        self._sorted: tuple[Keys, npt.NDArray[np.uint32]] | None = None

    @property
    def id_type(self) -> IdType:
        """See Ids."""
        return self._column.id_type

    def __len__(self) -> int:
        """See Ids."""
        return len(self._column)

    def column(self) -> Steps[IdColumn]:
        """See Ids."""
        return done(self._column)

    def select(self, rows: Ints) -> Steps[IdColumn]:
        """See Ids."""
        return done(self._column.select(rows))

    def documents(self, rows: Ints) -> Steps[list[DocumentId]]:
        """See Ids."""
        return done(self._column.take(rows))

    def rows_of(self, ids: IdColumn) -> Steps[Ints]:
        """See Ids."""
        if ids.id_type != self.id_type:
            return done(np.full(len(ids), -1, np.int64))
        # two threads may both sort; either result is right
        keys, rows = self._sorted = self._sorted or _sorted(self._column)
        wanted = ids.keys()
        places = np.searchsorted(keys, wanted, "right") - 1

        def texts(at: Ints) -> pa.Array:
            return self._column.select(rows[at]).to_arrow()

        return done(_verified(ids, wanted, places, keys, rows, None if self.id_type == "uint" else texts))


class IdFile:
    """`Ids` in a file `ids`: the ids in row order, and an index of their keys in blocks; ids are unique.

    Sections beside the stored arrays `ids` and, unless they are numbers, `sorted` (the ids in key order, so
    that a look-up sees in its only round whether an id is the one or merely has its hash): keys u8 ascending,
    rows u4, and eager sample u8, every BLOCK_KEYS-th key. Cost of a look-up: one binary search per id, and,
    unless they are numbers, one comparison per id whose hash is found.
    """

    def __init__(self, blob: Blob, id_type: IdType) -> None:
        n = blob.scalar("rows")
        self._id_type: IdType = id_type
        self._blob = blob
        self._ids = StoredArray(blob, "ids", _ARROW_TYPES[id_type], n, 0)
        is_hashed = id_type != "uint"
        self._texts = StoredArray(blob, "sorted", _ARROW_TYPES[id_type], n, 0) if is_hashed else None
        self._keys: Keys = blob.array("keys", "<u8", n)
        self._rows: npt.NDArray[np.uint32] = blob.array("rows", "<u4", n)
        self._sample: Keys = blob.array("sample", "<u8", -(-n // BLOCK_KEYS))
        self._is_whole = False

    @staticmethod
    def build(ids: IdColumn) -> bytes:
        """The file of a column of distinct ids. Raises ValueError where strings exceed one Arrow array."""
        keys, rows = _sorted(ids)
        parts = [arrays.encode("ids", ids.to_arrow())]
        if ids.id_type != "uint":
            parts.append(arrays.encode("sorted", ids.select(rows).to_arrow()))
        index: dict[str, npt.NDArray[Any]] = {"sample": keys[::BLOCK_KEYS], "keys": keys, "rows": rows}
        encoded = arrays.joined(*parts, arrays.Encoded(index, ("sample",)))
        meta = {"kind": KIND, "version": VERSION, "id_type": ids.id_type, "rows": len(ids)}
        return blob_format.encode(encoded.sections, meta, arrays.eager_sections(encoded))

    @classmethod
    def opened(cls, source: Source, rows_total: int) -> Steps[Self]:
        """The file in a source; it must hold `rows_total` ids. Raises CorruptObject."""
        blob = (yield from Blob.opened(source)).expect(KIND, VERSION)
        if blob.scalar("rows") != rows_total:
            reason = f"{blob.scalar('rows')} ids where {rows_total} rows are expected"
            raise CorruptObject(source.key, reason, offset=PREFIX_BYTES)
        id_type = blob.meta.get("id_type")
        if id_type not in _ARROW_TYPES:
            raise CorruptObject(source.key, f"unknown id type {id_type!r}", offset=PREFIX_BYTES)
        return cls(blob, cast("IdType", id_type))

    @property
    def id_type(self) -> IdType:
        """See Ids."""
        return self._id_type

    def __len__(self) -> int:
        """See Ids."""
        return len(self._keys)

    def column(self) -> Steps[IdColumn]:
        """See Ids."""
        return IdColumn(self.id_type, (yield from self._ids.whole()))

    def select(self, rows: Ints) -> Steps[IdColumn]:
        """See Ids."""
        return IdColumn(self.id_type, (yield from self._ids.select(rows)))

    def documents(self, rows: Ints) -> Steps[list[DocumentId]]:
        """See Ids."""
        return self._ids.values(rows)

    def rows_of(self, ids: IdColumn) -> Steps[Ints]:
        """See Ids."""
        if ids.id_type != self.id_type or not len(self):
            return np.full(len(ids), -1, np.int64)
        wanted = ids.keys()
        if self._is_index_at_hand():
            places = np.searchsorted(self._keys, wanted, "right") - 1
        else:
            blocks = np.searchsorted(self._sample, wanted, "right") - 1
            spans = self._index_spans(wanted, blocks)
            yield from self._blob.want(*spans, gap_bytes=arrays.ROWS_GAP_BYTES)
            places = self._places(wanted, blocks)
        texts = None if self._texts is None else self._texts.gathered
        return _verified(ids, wanted, places, self._keys, self._rows, texts)

    def _is_index_at_hand(self) -> bool:
        """Whether the index is; once true, always true."""
        if not self._is_whole:
            has, span = self._blob.source.has, self._blob.span
            is_here = has(*span("keys")) and has(*span("rows"))
            self._is_whole = is_here and (self._texts is None or self._texts.is_at_hand)
        return self._is_whole

    def _index_spans(self, wanted: Keys, blocks: Ints) -> list[Span]:
        """The blocks that may hold keys equal to these. blocks: (n,), the last such block of each."""
        # ids that are their own keys are unique; equal hashes may reach back over a block's beginning
        firsts = blocks if self._texts is None else np.searchsorted(self._sample, wanted, "left") - 1
        needed = np.unique(arrays.expanded(np.maximum(firsts, 0), blocks + 1))
        if len(needed) > _WHOLE_SHARE * len(self._sample):
            needed = np.arange(len(self._sample))
        spans: list[Span] = []
        for start, stop in arrays.runs(needed * BLOCK_KEYS, BLOCK_KEYS, len(self)):
            spans += [self._blob.span("keys", start, stop), self._blob.span("rows", start, stop)]
            if self._texts is not None:
                spans += self._texts.spans_between(start, stop)
        return spans

    def _places(self, wanted: Keys, blocks: Ints) -> Ints:
        """Of each key the place of the last that is not greater; -1 where all are."""
        places = np.full(len(wanted), -1, np.int64)
        for block in np.unique(blocks[blocks >= 0]).tolist():
            start = block * BLOCK_KEYS
            inside = np.flatnonzero(blocks == block)
            found = np.searchsorted(self._keys[start : start + BLOCK_KEYS], wanted[inside], "right")
            places[inside] = start + found - 1
        return places


def _sorted(ids: IdColumn) -> tuple[Keys, npt.NDArray[np.uint32]]:
    """The keys ascending, and the row of each; equal keys by row."""
    keys = ids.keys()
    order = np.argsort(keys, kind="stable")
    return keys[order], order.astype(np.uint32)


def _verified(
    ids: IdColumn,
    wanted: Keys,
    places: Ints,
    keys: Keys,
    rows: npt.NDArray[np.uint32],
    texts: Callable[[Ints], pa.Array] | None,
) -> Ints:
    """The row of each id, -1 where it is absent. places: of each the last place whose key is not greater.

    texts gives the strings at places; None where keys are the ids themselves.
    """
    found = np.full(len(ids), -1, np.int64)
    open_ = np.flatnonzero(places >= 0)
    # one turn unless two strings share a hash
    while len(open_):
        open_ = open_[keys[places[open_]] == wanted[open_]]
        at = places[open_]
        if texts is None:
            found[open_] = rows[at]
            break
        asked = ids if len(open_) == len(ids) else ids.select(open_)
        equal = pc.equal(asked.to_arrow(), texts(at)).to_numpy(zero_copy_only=False)
        found[open_[equal]] = rows[at[equal]]
        open_ = open_[~equal]
        places[open_] -= 1
        open_ = open_[places[open_] >= 0]
    return found


def _hashes(array: pa.Array) -> npt.NDArray[np.uint64]:
    """(n,) uint64: splitmix64 over the 8-byte little-endian words of each string or UUID, seeded by its
    length."""
    if array.type == UUID_ARROW:
        data = record_values(array, np.dtype("u1"), UUID_BYTES).reshape(-1)
        offsets = np.arange(len(array) + 1, dtype=np.int64) * UUID_BYTES
    else:
        offsets, data = string_buffers(array)
    lengths = np.diff(offsets).astype(np.int64)
    hashes = np.empty(len(array), np.uint64)
    for start in range(0, len(array), HASH_ROWS):
        part = slice(start, start + HASH_ROWS)
        hashes[part] = _hash_padded(data, offsets[:-1][part].astype(np.int64), lengths[part])
    return hashes


def _hash_padded(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    if not len(starts):
        return np.zeros(0, np.uint64)
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
