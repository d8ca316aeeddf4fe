"""What the files of one segment say that its manifest entry, or each other, deny: pure, over whole files.

`rows.parquet` is the measure of everything else. Digests are checked before a file comes here: what is found
is no damage but a file that was written wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.errors import CorruptObject
from elacsym.format import segment as segment_format
from elacsym.format.blob import Blob
from elacsym.format.manifest import FileRef, SegmentRef
from elacsym.format.reading import MemorySource, resident
from elacsym.index.attribute import AttributeFile, SortedValues
from elacsym.index.distance import norms_of
from elacsym.index.ids import IdColumn, IdFile
from elacsym.index.ivf import VectorIndex
from elacsym.index.sparse import SparseFile
from elacsym.index.text import TextIndex
from elacsym.types import ID, Attribute, AttributeType, Schema

Problem = tuple[str, str]
Check = Callable[[MemorySource], Iterator[str]]


class SegmentCheck:
    """Checks the files of a segment one by one. rows: the bytes of `rows.parquet`; prefix: of the files'
    keys."""

    def __init__(self, ref: SegmentRef, schema: Schema, rows: bytes, prefix: str) -> None:
        self._ref, self._schema, self._rows, self._prefix = ref, schema, rows, prefix
        self._checks: dict[str, Check] = {
            segment_format.IDS: self._id_file,
            segment_format.VERSIONS: self._version_file,
        }
        for name, attribute in schema.attributes.items():
            self._add_checks(name, attribute)

    def rows(self, dead: npt.NDArray[np.bool_]) -> list[Problem]:
        """What is wrong with `rows.parquet`, of which these (rows,) bool are dead, and which files lack."""
        try:
            return [(self._prefix + part, reason) for part, reason in self._row_problems(dead)]
        except CorruptObject as error:
            return [(error.key, str(error))]

    def file(self, ref: FileRef, data: bytes) -> list[Problem]:
        """What is wrong with another file."""
        key = self._prefix + ref.part
        try:
            if FileRef.of(ref.part, data) != ref:
                return [(key, "its head differs from the manifest's")]
            if not ref.head_bytes:
                return [(key, "it is no index file")]
            Blob.open(data, key).verify()
            check = self._checks.get(ref.part)
            if check is None and self._schema.drops:
                return []
            if check is None:
                return [(key, "no attribute of the schema has such a file")]
            return [(key, reason) for reason in check(MemorySource(data, key))]
        except CorruptObject as error:
            return [(key, str(error))]

    def _add_checks(self, name: str, attribute: Attribute) -> None:
        stored = self._schema.stored(name)
        if attribute.type.is_vector:
            self._checks[segment_format.vector_part(stored)] = lambda s: self._vector_file(s, attribute)
            return
        self._checks[segment_format.attribute_part(segment_format.ATTRIBUTE, stored)] = lambda s: (
            self._sparse_file(s, stored)
            if attribute.type.is_sparse
            else self._attribute_file(s, stored, attribute.type)
        )
        # also where the attribute is searched no more: the file stays until the next merge
        self._checks[segment_format.attribute_part(segment_format.TEXT, stored)] = lambda s: self._text_file(
            s, stored
        )

    def _row_problems(self, dead: npt.NDArray[np.bool_]) -> Iterator[Problem]:
        ids, versions, alive = self._ids(), self._column(segment_format.VERSION), np.flatnonzero(~dead)
        assert versions is not None, "ids were read from the same columns"
        if len(alive) != self._ref.rows_live:
            reason = f"{len(alive)} live rows where the manifest says {self._ref.rows_live}"
            yield segment_format.ROWS, reason
        if f"{ids.select(alive).row_sum(versions.to_numpy()[alive]):032x}" != self._ref.row_sum:
            yield segment_format.ROWS, "the row sum of the live rows differs from the manifest's"
        expected = {segment_format.IDS, segment_format.VERSIONS}
        for name, attribute in self._schema.attributes.items():
            stored = self._schema.stored(name)
            # a text index may be lacking: full text may have been switched on since
            if not attribute.type.is_vector and self._column(segment_format.column_name(stored)) is not None:
                expected.add(segment_format.attribute_part(segment_format.ATTRIBUTE, stored))
        for part in sorted(expected - {file.part for file in self._ref.files}):
            yield part, "the segment lacks this file"

    def _id_file(self, source: MemorySource) -> Iterator[str]:
        file, ids = resident(IdFile.opened(source, self._ref.rows)), self._ids()
        if resident(file.column()) != ids:
            yield "the ids differ from those of the rows"
        if not np.array_equal(resident(file.rows_of(ids)), np.arange(self._ref.rows)):
            yield "the index does not find every row by its id"

    def _version_file(self, source: MemorySource) -> Iterator[str]:
        every, column = np.arange(self._ref.rows), self._column(segment_format.VERSION)
        found = resident(segment_format.versions_at(source, every, self._ref.rows))
        if column is None or not np.array_equal(found, column.to_numpy()):
            yield "the versions differ from those of the rows"

    def _attribute_file(self, source: MemorySource, name: str, type_: AttributeType) -> Iterator[str]:
        file = resident(AttributeFile.opened(source, self._ref.rows))
        column = self._column(segment_format.column_name(name))
        if file.type.joined(type_) != type_:
            yield f"values of type {file.type} where the schema says {type_}"
            return
        if column is None or not resident(file.column()).equals(column):
            yield "the values differ from those of the rows"
            return
        # whether there is an index, the attribute's options of that time decided
        rebuilt = MemorySource(AttributeFile.build(column, Attribute(file.type)))
        expected = resident(AttributeFile.opened(rebuilt, self._ref.rows)).index
        if file.index is not None and (expected is None or not _are_equal(file.index, expected)):
            yield "the index does not find the rows by their values"

    def _sparse_file(self, source: MemorySource, name: str) -> Iterator[str]:
        file = resident(SparseFile.opened(source, self._ref.rows))
        column = self._column(segment_format.column_name(name))
        if column is None or not resident(file.column()).equals(column):
            yield "the values differ from those of the rows"
            return
        dimensions, expected = resident(file.dimensions()), SparseFile.in_memory(column)
        if dimensions != resident(expected.dimensions()) or not all(
            np.array_equal(found, wanted)
            for found, wanted in zip(
                resident(file.postings(dimensions)), resident(expected.postings(dimensions)), strict=True
            )
        ):
            yield "the inverted lists do not find the rows by their dimensions"

    def _vector_file(self, source: MemorySource, attribute: Attribute) -> Iterator[str]:
        column = resident(resident(VectorIndex.opened(source, self._ref.rows)).whole())
        if column.dimensions != attribute.type.dimensions:
            yield f"{column.dimensions} dimensions where the schema says {attribute.type.dimensions}"
        if (np.diff(column.rows) <= 0).any() or (len(column) and column.rows[-1] >= self._ref.rows):
            yield "the vectors are not of distinct rows of the segment"
        if not np.array_equal(norms_of(column.matrix), column.norms):
            yield "the norms are not those of the vectors"

    def _text_file(self, source: MemorySource, name: str) -> Iterator[str]:
        file = resident(TextIndex.opened(source, self._ref.rows))
        column = self._column(segment_format.column_name(name))
        if column is None or not np.array_equal(
            file.has_value, column.is_valid().to_numpy(zero_copy_only=False)
        ):
            yield "the rows with a text are not those of the rows"

    def _ids(self) -> IdColumn:
        names = [ID, segment_format.VERSION]
        key = self._prefix + segment_format.ROWS
        return IdColumn.from_arrow(
            segment_format.required_columns(self._rows, names, key=key, rows=self._ref.rows)[ID]
        )

    def _column(self, name: str) -> pa.Array | None:
        key = self._prefix + segment_format.ROWS
        return segment_format.decode_columns(self._rows, [name], key=key, rows=self._ref.rows)[name]


def _are_equal(a: SortedValues, b: SortedValues) -> bool:
    if len(a) != len(b) or a.listed != b.listed:
        return False
    every = np.array([[0, a.listed]])
    return (
        bool(resident(a.distinct()).equals(resident(b.distinct())))
        and np.array_equal(resident(a.starts()), resident(b.starts()))
        and np.array_equal(resident(a.rows(every)), resident(b.rows(every)))
    )
