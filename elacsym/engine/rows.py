"""The files of a new segment, made of rows of the log's tail or of other segments: the CPU work of folding
and compaction.

Pure: bytes in, bytes out, so that it runs as well in the thread pool as in a process of its own
(`elacsym.engine.build`). One part is made, handed on and let go after the other; what is held at once is the
columns of attributes, or one vector attribute, or one text index.

Rows are ordered by the clusters of the first vector attribute, which are found once; rows without that vector
come last. Without vector attributes they stay in the order in which they come.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.errors import CorruptObject
from elacsym.format import segment as segment_format
from elacsym.format.blob import Blob
from elacsym.format.digest import blake2b_128
from elacsym.format.manifest import FileRef
from elacsym.format.reading import MemorySource, resident
from elacsym.index import ivf
from elacsym.index.attribute import AttributeFile
from elacsym.index.cluster import cluster
from elacsym.index.columns import arrow_type, fitted
from elacsym.index.ids import IdColumn, IdFile
from elacsym.index.ivf import VectorIndex
from elacsym.index.sparse import SparseFile
from elacsym.index.text import TextIndex
from elacsym.index.tokenize import analysis_of
from elacsym.store.cache import ObjectMissing
from elacsym.types import ID, Attribute, FullText, Metric, Schema

Matrix = npt.NDArray[Any]
RowNumbers = npt.NDArray[np.int64]
_GATHER_ROWS = 8_192  # a copy of so many vectors is made at a time: 12 MiB at 384 dimensions
_SCRATCH_BYTES_MIN = 64 * 2**20
Emit = Callable[[str, bytes | memoryview], None]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of an input segment. content: its bytes, which were checked, or a file that begins with them."""

    key: str
    ref: FileRef
    content: memoryview | Path

    def data(self) -> memoryview:
        """The bytes; those of a file are mapped and checked. Raises ObjectMissing, CorruptObject."""
        if isinstance(self.content, memoryview):
            return self.content
        try:
            with self.content.open("rb") as file:
                mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError as error:
            raise ObjectMissing(self.key) from error
        except ValueError as error:
            raise CorruptObject(self.key, "an empty file", offset=0) from error
        return self._checked(mapped[: self.ref.size_bytes])

    def _checked(self, data: memoryview) -> memoryview:
        ref = self.ref
        if len(data) != ref.size_bytes:
            raise CorruptObject(
                self.key, f"{len(data)} bytes where the manifest says {ref.size_bytes}", offset=len(data)
            )
        if not ref.head_bytes:
            if blake2b_128(data) != ref.digest:
                raise CorruptObject(self.key, "digest mismatch")
            return data
        if blake2b_128(data[: ref.head_bytes]) != ref.head_digest:
            raise CorruptObject(self.key, "head digest mismatch", offset=0)
        Blob.open(data, self.key).verify()
        return data


@dataclass(frozen=True, slots=True)
class TailInput:
    """Rows of the log's tail. batch: `id`, `version` and the attributes under their column names; rows: (k,)
    int64 ascending, those that are alive."""

    batch: pa.RecordBatch
    rows: RowNumbers


@dataclass(frozen=True, slots=True)
class SegmentInput:
    """Rows of a segment that has rows_total. rows: (k,) int64 ascending; files: by part name, those that
    `merge_parts` names and the segment has."""

    rows_total: int
    rows: RowNumbers
    files: Mapping[str, InputFile]


@dataclass(frozen=True, slots=True)
class Written:
    """What was made. place: (rows,) int64, for each input row, inputs one after another, its row in the
    segment."""

    rows: int
    seq_min: int
    seq_max: int
    row_sum: int
    place: RowNumbers


def merge_parts(schema: Schema) -> list[str]:
    """The part names of the files that a merge reads."""
    vectors = [segment_format.vector_part(schema.stored(name)) for name in schema.vectors()]
    texts = [_text_part(schema, name) for name, _ in _texts(schema)]
    return [segment_format.ROWS, *vectors, *texts]


class Rows(Protocol):
    """Rows in the order in which they come."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def ids(self) -> IdColumn:
        """Their ids, unique."""
        ...

    def versions(self) -> npt.NDArray[np.uint64]:
        """(n,) the log slot that wrote each."""
        ...

    def column(self, name: str) -> pa.Array:
        """The values of an attribute that is no vector, null where a row has none."""
        ...

    def vectors(self, name: str) -> tuple[Matrix, RowNumbers]:
        """(m, d) the vectors of an attribute in the stored type, and the (m,) rows that they are of."""
        ...

    def text(self, name: str, settings: FullText, order: RowNumbers) -> TextIndex:
        """The postings of an attribute, for these rows in this order."""
        ...


class _Columns(ABC):
    """What is gathered from inputs column by column."""

    def __init__(self, inputs: Sequence[TailInput] | Sequence[SegmentInput], schema: Schema) -> None:
        self._rows, self._schema = sum(len(i.rows) for i in inputs), schema

    def __len__(self) -> int:
        """See Rows."""
        return self._rows

    def ids(self) -> IdColumn:
        """See Rows."""
        return IdColumn.from_arrow(self._gathered(ID, None))

    def versions(self) -> npt.NDArray[np.uint64]:
        """See Rows."""
        versions: npt.NDArray[np.uint64] = self._gathered(segment_format.VERSION, None).to_numpy()
        return versions

    def column(self, name: str) -> pa.Array:
        """See Rows."""
        stored = self._schema.stored(name)
        return self._gathered(segment_format.column_name(stored), self._schema.attributes[name])

    @abstractmethod
    def _gathered(self, column: str, attribute: Attribute | None) -> pa.Array:
        """A column of the rows; attribute: None for those that every input has."""


class TailRows(_Columns):
    """Rows of the log's tail."""

    def __init__(self, inputs: Sequence[TailInput], schema: Schema) -> None:
        super().__init__(inputs, schema)
        self._inputs = inputs

    def vectors(self, name: str) -> tuple[Matrix, RowNumbers]:
        """See Rows."""
        array, dimensions = self.column(name), self._schema.attributes[name].type.dimensions or 0
        present = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
        # `flatten` drops the values of nulls
        return array.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimensions), present

    def text(self, name: str, settings: FullText, order: RowNumbers) -> TextIndex:
        """See Rows."""
        return TextIndex.build(self.column(name).take(pa.array(order)), settings)

    def _gathered(self, column: str, attribute: Attribute | None) -> pa.Array:
        pieces = []
        for i in self._inputs:
            if column in i.batch.schema.names:
                array = _fitted(i.batch.column(column), attribute)
                pieces.append(array if len(i.rows) == len(array) else array.take(pa.array(i.rows)))
            else:
                assert attribute is not None, f"the tail has no {column}"
                pieces.append(pa.nulls(len(i.rows), arrow_type(attribute.type)))
        return pa.concat_arrays(pieces)


class SegmentRows(_Columns):
    """Rows of segments. scratch: a folder for what is large and needed for a while; None: memory.

    Raises ObjectMissing, CorruptObject.
    """

    def __init__(self, inputs: Sequence[SegmentInput], schema: Schema, scratch: Path | None = None) -> None:
        super().__init__(inputs, schema)
        self._inputs, self._scratch = inputs, scratch
        self._files = [{part: file.data() for part, file in i.files.items()} for i in inputs]

    def vectors(self, name: str) -> tuple[Matrix, RowNumbers]:
        """See Rows."""
        part = segment_format.vector_part(self._schema.stored(name))
        found: list[tuple[Matrix, RowNumbers, RowNumbers]] = []  # of each: which are wanted, and their rows
        for index, row_map in enumerate(self._row_maps()):
            source = self._source(index, part)
            if source is not None:
                vectors = resident(VectorIndex.opened(source, self._inputs[index].rows_total))
                rows = row_map[resident(vectors.rows_at(np.arange(len(vectors))))]
                kept = np.flatnonzero(rows >= 0)
                found.append((vectors.matrix, kept, rows[kept]))
        if not found:
            dimensions = self._schema.attributes[name].type.dimensions or 0
            return np.empty((0, dimensions), np.float32), np.empty(0, np.int64)
        rows = np.concatenate([rows for _, _, rows in found])
        matrix = self._matrix((len(rows), found[0][0].shape[1]), found[0][0].dtype)
        start = 0
        for stored, kept, _ in found:
            for first in range(0, len(kept), _GATHER_ROWS):
                block = kept[first : first + _GATHER_ROWS]
                matrix[start : start + len(block)] = stored[block]
                start += len(block)
        return matrix, rows

    def _matrix(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Matrix:
        if self._scratch is None or math.prod(shape) * dtype.itemsize <= _SCRATCH_BYTES_MIN:
            return np.empty(shape, dtype)
        # memory that the system can take back; the file goes with the last reference
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            return np.memmap(file, dtype, "w+", shape=shape)

    def text(self, name: str, settings: FullText, order: RowNumbers) -> TextIndex:
        """See Rows. Texts of which a segment has an index of this analysis are not analysed again."""
        place, starts = _inverse(order), np.cumsum([0, *(len(i.rows) for i in self._inputs)])
        indexes = [self._text_index(number, name, settings) for number in range(len(self._inputs))]
        column = self.column(name) if any(index is None for index in indexes) else None
        joined, maps = [], []
        for index, row_map, start, stop in zip(indexes, self._row_maps(), starts, starts[1:], strict=False):
            if index is None:
                assert column is not None, "it was gathered for this"
                index = TextIndex.build(column.slice(start, stop - start), settings)
                maps.append(place[start:stop])
            else:
                maps.append(np.where(row_map >= 0, place[np.maximum(row_map, 0)], -1))
            joined.append(index)
        return TextIndex.merge(joined, maps, len(self))

    def _text_index(self, number: int, name: str, settings: FullText) -> TextIndex | None:
        """An input's own index of an attribute, if it has one of this analysis."""
        source = self._source(number, _text_part(self._schema, name))
        if source is None:
            return None
        index = resident(TextIndex.opened(source, self._inputs[number].rows_total))
        return index if index.analysis == analysis_of(settings) else None

    def _source(self, index: int, part: str) -> MemorySource | None:
        data = self._files[index].get(part)
        return None if data is None else MemorySource(data, self._inputs[index].files[part].key)

    def _row_maps(self) -> Iterator[RowNumbers]:
        """For each input its rows' number among all that come, -1 where a row does not."""
        start = 0
        for i in self._inputs:
            row_map = np.full(i.rows_total, -1, np.int64)
            row_map[i.rows] = np.arange(start, start + len(i.rows))
            start += len(i.rows)
            yield row_map

    def _gathered(self, column: str, attribute: Attribute | None) -> pa.Array:
        pieces = []
        for i, files in zip(self._inputs, self._files, strict=True):
            key, data = i.files[segment_format.ROWS].key, files[segment_format.ROWS]
            decode = segment_format.required_columns if attribute is None else segment_format.decode_columns
            array = decode(data, [column], key=key, rows=i.rows_total)[column]
            if array is None:
                assert attribute is not None
                pieces.append(pa.nulls(len(i.rows), arrow_type(attribute.type)))
            else:
                array = _fitted(array, attribute)
                pieces.append(array if len(i.rows) == len(array) else array.take(pa.array(i.rows)))
        return pa.concat_arrays(pieces)


def _fitted(array: pa.Array, attribute: Attribute | None) -> pa.Array:
    return array if attribute is None else fitted(array, attribute.type)


def write_segment(rows: Rows, schema: Schema, emit: Emit) -> Written:
    """Make the files of a segment of at least one row and give each to `emit`, with its part name.

    Raises ValueError where a column is larger than one Arrow array can be.
    """
    total, order = len(rows), _write_vectors(rows, schema, emit)
    ids, versions = rows.ids().select(order), rows.versions()[order]
    emit(segment_format.IDS, IdFile.build(ids))
    emit(segment_format.VERSIONS, segment_format.encode_versions(versions))
    filled = _write_columns(rows, schema, order, ids, versions, emit)
    for name, settings in _texts(schema):
        if name in filled:
            index = rows.text(name, settings, order)
            emit(_text_part(schema, name), index.encode())
    return Written(total, int(versions.min()), int(versions.max()), ids.row_sum(versions), _inverse(order))


def _write_vectors(rows: Rows, schema: Schema, emit: Emit) -> RowNumbers:
    """Write the vector files; the (n,) rows in the order that the first of them gives."""
    total, order = len(rows), np.arange(len(rows))
    for number, name in enumerate(schema.vectors()):
        matrix, present = rows.vectors(name)
        if not len(matrix):
            continue
        clustering = cluster(matrix, _metric(schema))
        if number == 0:
            first = present[clustering.order]
            order = np.concatenate([first, np.setdiff1d(order, present, assume_unique=True)])
        data = ivf.build(matrix, _inverse(order)[present], total, _metric(schema), clustering)
        del matrix
        emit(segment_format.vector_part(schema.stored(name)), data)
    return order


def _write_columns(
    rows: Rows,
    schema: Schema,
    order: RowNumbers,
    ids: IdColumn,
    versions: npt.NDArray[np.uint64],
    emit: Emit,
) -> set[str]:
    """Write attribute files and `rows.parquet`; the names of the attributes of which a row has a value."""
    columns: dict[str, pa.Array] = {}
    filled: set[str] = set()
    for name, attribute in schema.attributes.items():
        if not attribute.type.is_vector:
            column, stored = rows.column(name), schema.stored(name)
            if column.null_count < len(column):
                filled.add(name)
                columns[stored] = column.take(pa.array(order))
                data = (
                    SparseFile.build(columns[stored])
                    if attribute.type.is_sparse
                    else AttributeFile.build(columns[stored], attribute)
                )
                emit(segment_format.attribute_part(segment_format.ATTRIBUTE, stored), data)
    emit(segment_format.ROWS, segment_format.encode_rows(ids.to_arrow(), versions, columns))
    return filled


def _text_part(schema: Schema, name: str) -> str:
    return segment_format.attribute_part(segment_format.TEXT, schema.stored(name))


def _inverse(order: RowNumbers) -> RowNumbers:
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


def _texts(schema: Schema) -> list[tuple[str, FullText]]:
    return [(name, a.full_text) for name, a in schema.attributes.items() if a.full_text is not None]


def _metric(schema: Schema) -> Metric:
    assert schema.metric is not None, "a schema with vectors has a metric"
    return schema.metric
