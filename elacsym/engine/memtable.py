"""The memtable: rows of the log's tail that are in no segment yet, searched exactly.

Rows are numbered globally in commit order; a dictionary knows the row of each live id. Batches are kept as
chunks, and neighbours are joined geometrically when a snapshot is taken, so that after many small writes a
query sees O(log n) chunks. Not thread-safe: changed on the event loop only. Chunks are immutable and may be
read by other threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elacsym.engine.payload import RowChanges
from elacsym.format.reading import Steps, done
from elacsym.index.attribute import ArrowValues, Values
from elacsym.index.columns import UNKNOWN_ARROW, arrow_type, fitted, retyped
from elacsym.index.distance import Norms
from elacsym.index.ids import IdColumn, Ids, MemoryIds
from elacsym.index.sparse import NoSparse, Sparse, SparseFile
from elacsym.index.text import TextIndex
from elacsym.index.tokenize import analysis_of
from elacsym.index.vector import VectorColumn, Vectors
from elacsym.query.searchable import PartView
from elacsym.types import DocumentId, Schema

# joining large chunks would copy more than searching them one by one costs
JOINED_BYTES_MAX = 16 * 2**20
# a chunk from here on is worth its own pass: what a query pays for the pass is little beside the rows
LONG_BYTES = 256 * 1024
# up to so many deleted ids, looking each up takes less than a millisecond
_DELETES_AT_ONCE = 4_096
_US_PER_TEXT_BYTE = 0.1
_US_PER_SPARSE_BYTE = 0.05
_US_PER_NORM_ELEMENT = 0.0025


class Chunk:
    """A run of rows in memory; implements `query.searchable.Part` under a schema. Indexes are built when
    first asked for, and kept; two threads that build the same at once build equal ones.

    arrays, vector_columns: by the names that `Schema.stored` gives; text_indexes: by that name and analysis.
    """

    label = "memtable"
    is_built = False

    def __init__(
        self,
        ids: IdColumn,
        versions: npt.NDArray[np.uint64],
        arrays: dict[str, pa.Array],
        schema: Schema = Schema(),  # noqa: B008 - immutable
    ) -> None:
        self.id_column, self._versions, self.arrays = ids, versions, arrays
        self._schema = schema
        self.text_indexes: dict[tuple[str, str], TextIndex] = {}
        self.vector_columns: dict[str, VectorColumn] = {}
        self._norms: dict[str, Norms] = {}  # known before the column is made
        self._sparse_files: dict[str, SparseFile] = {}
        self._ids = MemoryIds(ids)

    def under(self, schema: Schema) -> Chunk:
        """The same rows seen under a schema; what is built for either is built for both."""
        seen = copy(self)
        seen._schema = schema  # noqa: SLF001 - its own copy
        return seen

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.id_column)

    def pending_us(self, name: str) -> float:
        """See Part: postings, inverted lists, and the norms of vectors."""
        attribute, stored = self._schema.attributes[name], self._schema.stored(name)
        array = self.arrays.get(stored)
        if array is None or stored in self.vector_columns or stored in self._sparse_files:
            return 0.0
        if attribute.type.is_sparse:
            return float(array.nbytes * _US_PER_SPARSE_BYTE)
        if attribute.type.is_vector:
            return self.rows * (attribute.type.dimensions or 0) * _US_PER_NORM_ELEMENT
        if attribute.full_text is None or (stored, analysis_of(attribute.full_text)) in self.text_indexes:
            return 0.0
        return float(array.nbytes * _US_PER_TEXT_BYTE)

    def ids(self) -> Steps[Ids]:
        """The ids; the last row of an id is found, for only that can be alive."""
        return done(self._ids)

    def versions(self) -> npt.NDArray[np.uint64]:
        """The log slot that wrote each row."""
        return self._versions

    def attribute(self, name: str) -> Steps[Values]:
        """An attribute that is no dense vector."""
        return done(ArrowValues(self.column(name)))

    def column(self, name: str) -> pa.Array:
        """The attribute's values, null where a row has none."""
        kind = self._schema.attributes[name].type
        array = self.arrays.get(self._schema.stored(name))
        return pa.nulls(self.rows, arrow_type(kind)) if array is None else fitted(array, kind)

    def vectors(self, name: str) -> Steps[Vectors]:
        """A vector attribute."""
        return done(self.vector_column(name))

    def sparse(self, name: str) -> Steps[Sparse]:
        """The inverted lists of a sparse vector attribute."""
        stored = self._schema.stored(name)
        if stored not in self.arrays:
            return done(NoSparse())
        file = self._sparse_files.get(stored)
        if file is None:
            file = self._sparse_files[stored] = SparseFile.in_memory(self.arrays[stored])
        return done(file)

    def text(self, name: str) -> Steps[TextIndex]:
        """The postings of an attribute."""
        settings = self._schema.attributes[name].full_text
        assert settings is not None, name
        key = self._schema.stored(name), analysis_of(settings)
        index = self.text_indexes.get(key)
        if index is None:
            is_missing = key[0] not in self.arrays
            index = TextIndex.empty(self.rows) if is_missing else TextIndex.build(self.column(name), settings)
            self.text_indexes[key] = index
        return done(index)

    def vector_column(self, name: str) -> VectorColumn:
        """A vector attribute, which is at hand."""
        stored = self._schema.stored(name)
        if stored not in self.arrays and stored not in self.vector_columns:
            dimensions = self._schema.attributes[name].type.dimensions or 0
            self.vector_columns[stored] = VectorColumn.empty(dimensions, self.rows)
        return self._vectors(stored)

    def _vectors(self, stored: str) -> VectorColumn:
        column = self.vector_columns.get(stored)
        if column is None:
            column = _vector_column(self.arrays[stored], self._norms.get(stored))
            self.vector_columns[stored] = column
        return column

    def looked_at_vectors(self) -> tuple[str, ...]:
        """The vector columns, by the names that `Schema.stored` gives, that queries have looked at."""
        # copies: queries in other threads add to them
        return (*self.vector_columns.copy(), *self._norms.copy())

    def joined(self, others: Sequence[Chunk]) -> Chunk:
        """One chunk with the rows of this one and then those of others, in order."""
        chunks = (self, *others)
        names = dict.fromkeys(name for chunk in chunks for name in chunk.arrays)
        arrays = {name: _joined([(chunk.arrays.get(name), chunk.rows) for chunk in chunks]) for name in names}
        ids = IdColumn.concat([chunk.id_column for chunk in chunks])
        versions = np.concatenate([chunk.versions() for chunk in chunks])
        joined = Chunk(ids, versions, arrays)
        joined._take_over(chunks)
        return joined

    def _take_over(self, chunks: Sequence[Chunk]) -> None:
        """Make indexes of those of the joined chunks: building them anew takes far longer."""
        # where one was searched the others will be, and a query would have to compute their norms
        for name in set.union(*(set(chunk.vector_columns) for chunk in chunks)) & self.arrays.keys():
            norms = [chunk._vectors(name).norms for chunk in chunks if name in chunk.arrays]  # noqa: SLF001
            self.vector_columns[name] = _vector_column(self.arrays[name], np.concatenate(norms))
        ends = np.cumsum([chunk.rows for chunk in chunks])
        maps = [np.arange(end - chunk.rows, end) for chunk, end in zip(chunks, ends, strict=True)]
        for key in set.intersection(*(set(chunk.text_indexes) for chunk in chunks)):
            self.text_indexes[key] = TextIndex.merge([c.text_indexes[key] for c in chunks], maps, self.rows)

    @cached_property
    def size_bytes(self) -> int:
        """What the columns take."""
        return int(sum(array.nbytes for array in self.arrays.values()) + self._versions.nbytes)

    def after(self, row: int) -> Chunk:
        """The rows from `row` on, with what is known of their vectors; nothing is computed."""
        keep = np.arange(row, self.rows)
        arrays = {name: array.slice(row) for name, array in self.arrays.items()}
        after = Chunk(self.id_column.select(keep), self._versions[row:], arrays)
        # a copy: queries in other threads add to it
        for name, column in self.vector_columns.copy().items():
            known = column.known_norms
            if name in arrays and known is not None:
                after._norms[name] = known[np.searchsorted(column.rows, row) :]
        for name, norms in self._norms.copy().items():
            before = row - self.arrays[name].slice(0, row).null_count
            after._norms.setdefault(name, norms[before:])
        return after


def is_short(group: Sequence[Chunk]) -> bool:
    """Whether the chunks of a group are short on average, so that a query gains by waiting for the join."""
    return sum(chunk.size_bytes for chunk in group) < LONG_BYTES * len(group)


def _joined(pieces: Sequence[tuple[pa.Array | None, int]]) -> pa.Array:
    """One array of several, each with its number of rows: nulls where there is none."""
    types = [array.type for array, _ in pieces if array is not None]
    # arrays from before an element told their type are empty, and take the type of the others
    type_ = next((one for one in types if one != UNKNOWN_ARROW), types[0])
    return pa.concat_arrays(
        [pa.nulls(rows, type_) if array is None else retyped(array, type_) for array, rows in pieces]
    )


def _vector_column(array: pa.Array, norms: npt.NDArray[np.float64] | None = None) -> VectorColumn:
    rows = len(array)
    present = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    # `flatten` drops the values of nulls
    matrix = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
    places = None if len(present) == rows else present
    return VectorColumn(np.ascontiguousarray(matrix), places, rows, norms)


@dataclass(frozen=True, slots=True)
class Touched:
    """The ids that one slot upserted or deleted; they mask older rows in segments."""

    seq: int
    ids: IdColumn
    is_upsert: bool


def alive_after(touched: Sequence[Touched]) -> npt.NDArray[np.bool_]:
    """Of the rows that these upserts wrote, in order, those that nothing behind them deletes or replaces."""
    if not touched:
        return np.empty(0, np.bool_)
    ids = IdColumn.concat([one.ids for one in touched]).to_arrow().dictionary_encode()
    codes = ids.indices.to_numpy()
    places, last = np.arange(len(codes)), np.zeros(len(ids.dictionary), np.int64)
    np.maximum.at(last, codes, places)
    is_row = np.repeat([one.is_upsert for one in touched], [len(one.ids) for one in touched])
    alive: npt.NDArray[np.bool_] = (last[codes] == places)[is_row]
    return alive


@dataclass(frozen=True, slots=True)
class ChunkView(PartView):
    """A chunk in a snapshot."""

    part: Chunk


class Memtable:
    """The rows of the tail and which of them are alive."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._first = 0  # global number of the first row kept
        self._row_of: dict[DocumentId, int] = {}
        self._alive = np.zeros(1024, np.bool_)  # by global number - first
        self._rows = 0
        self.touched: list[Touched] = []

    @property
    def rows(self) -> int:
        """Rows kept, live or not."""
        return self._rows

    @property
    def chunks(self) -> Sequence[Chunk]:
        """The chunks in commit order."""
        return tuple(self._chunks)

    def apply(self, seq: int, changes: Iterable[RowChanges]) -> None:
        """Apply the batches of slot `seq`, in order."""
        for change in changes:
            for ids in (change.deletes, change.upserts):
                if ids is not None:
                    self.touched.append(Touched(seq, ids, ids is change.upserts))
            for id_ in () if change.deletes is None else self._held(change.deletes):
                row = self._row_of.pop(id_, None)
                if row is not None:
                    self._alive[row - self._first] = False
            if change.upserts is not None:
                self._append(seq, change.upserts, change.arrays)

    def _held(self, ids: IdColumn) -> list[DocumentId]:
        """The ids, without such as have no row where that spares looking at each of very many."""
        if len(ids) <= _DELETES_AT_ONCE or len(ids) <= len(self._row_of):
            return ids.to_list()
        known = IdColumn.of(ids.id_type, list(self._row_of))  # type: ignore[arg-type]
        array = ids.to_arrow()
        return IdColumn(ids.id_type, array.filter(pc.is_in(array, value_set=known.to_arrow()))).to_list()

    def _append(self, seq: int, ids: IdColumn, arrays: dict[str, pa.Array]) -> None:
        values = ids.to_list()
        start = self._rows
        self._grow(start + len(values))
        row_of = self._row_of
        replaced = [row_of[id_] - self._first for id_ in values if id_ in row_of]
        self._alive[replaced] = False
        first = self._first + start
        row_of.update(zip(values, range(first, first + len(values)), strict=True))
        self._alive[start : start + len(values)] = True
        self._rows += len(values)
        versions = np.full(len(values), seq, np.uint64)
        self._chunks.append(Chunk(ids, versions, arrays))

    def _grow(self, rows: int) -> None:
        if rows > len(self._alive):
            alive = np.zeros(max(rows, 2 * len(self._alive)), np.bool_)
            alive[: self._rows] = self._alive[: self._rows]
            self._alive = alive

    def drop_before(self, seq: int) -> None:
        """Forget the rows of slots below `seq`: they are in segments."""
        self.touched = [t for t in self.touched if t.seq >= seq]
        dropped = 0
        kept: list[Chunk] = []
        for chunk in self._chunks:
            gone = int(np.searchsorted(chunk.versions(), seq))
            dropped += gone
            if gone == 0:
                kept.append(chunk)
            elif gone < chunk.rows:
                kept.append(chunk.after(gone))
        if not dropped:
            return
        self._chunks = kept
        self._first += dropped
        self._rows -= dropped
        self._alive = np.concatenate([self._alive[dropped:], np.zeros(min(dropped, 1024), np.bool_)])
        # made of what is left, not of what was: little, after a fold of much
        self._row_of = {}
        start = self._first
        for chunk in kept:
            alive = np.flatnonzero(self._alive[start - self._first :][: chunk.rows])
            self._row_of |= zip(chunk.id_column.take(alive), (alive + start).tolist(), strict=True)
            start += chunk.rows

    def views(self, schema: Schema) -> list[ChunkView]:
        """The chunks under a schema, with their live rows."""
        views, start = [], 0
        for chunk in self._chunks:
            alive = self._alive[start : start + chunk.rows].copy()
            alive.flags.writeable = False
            views.append(ChunkView(chunk.under(schema), alive))
            start += chunk.rows
        return views

    def merge_groups(self) -> list[list[Chunk]]:
        """Runs of chunks to be joined, so that each chunk is at least twice as long as the next, or together
        they would exceed JOINED_BYTES_MAX."""
        groups: list[tuple[int, int, list[Chunk]]] = []
        for chunk in self._chunks:
            groups.append((chunk.rows, chunk.size_bytes, [chunk]))
            while len(groups) > 1:
                (rows, size_bytes, chunks), (last_rows, last_bytes, last) = groups[-2:]
                if rows >= 2 * last_rows or size_bytes + last_bytes > JOINED_BYTES_MAX:
                    break
                groups[-2:] = [(rows + last_rows, size_bytes + last_bytes, chunks + last)]
        return [chunks for _, _, chunks in groups if len(chunks) > 1]

    def replace(self, group: list[Chunk], joined: Chunk) -> None:
        """Put the joined chunk in the place of a group, unless the group was changed meanwhile."""
        for start, chunk in enumerate(self._chunks):
            if chunk is group[0]:
                found = self._chunks[start : start + len(group)]
                if len(found) == len(group) and all(a is b for a, b in zip(found, group, strict=True)):
                    self._chunks[start : start + len(group)] = [joined]
                return
