"""A segment as a searchable part: its files are opened by range when a query first needs them.

The part itself holds nothing but references. What is made of a file (a parsed head, quantised codes) lives in
the cache's memory budget, shared by all namespaces, and is made again when it was evicted.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from threading import Lock
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from elacsym.compute import Compute
from elacsym.engine.late_index import LateIndex
from elacsym.format import deletes as deletes_format
from elacsym.format import segment as segment_format
from elacsym.format.blob import UNIT_BYTES
from elacsym.format.manifest import DeletesRef, FileRef, Home, SegmentRef
from elacsym.format.reading import Source, Steps
from elacsym.index.attribute import AttributeFile, EmptyValues, MissingValues, Values
from elacsym.index.ids import IdFile, Ids
from elacsym.index.ivf import FILL_ROW_US, VectorIndex
from elacsym.index.sparse import NoSparse, Sparse, SparseFile
from elacsym.index.text import TextIndex
from elacsym.index.tokenize import analysis_of
from elacsym.index.vector import VectorColumn, Vectors
from elacsym.query.plan import Needs, opening
from elacsym.store.cache import ObjectCache
from elacsym.store.drive import drive
from elacsym.types import FullText, Schema

S = TypeVar("S")
Opener = Callable[[Source, int], Steps[S]]

# what a parsed head takes beside its checksums, one of 4 bytes for every unit
_HEAD_BYTES = 4_096
_CRC_BYTES = 4


class SegmentPart:
    """The rows of one segment under a schema; implements `query.searchable.Part`."""

    def __init__(
        self,
        home: Home,
        ref: SegmentRef,
        cache: ObjectCache,
        compute: Compute,
        schema: Schema,
    ) -> None:
        """home: of the namespace that refers to the segment; the files may lie elsewhere."""
        self._own, self._ref = home, ref
        self._cache, self._compute, self._schema = cache, compute, schema
        self._files = {file.part: (self._key(file.part), file) for file in ref.files}
        # by name in the cache, as long as somebody waits or it is being built; it is kept there then
        self._building = WeakValueDictionary[str, LateIndex]()
        self._building_lock = Lock()

    def under(self, schema: Schema) -> SegmentPart:
        """The same rows seen under a schema; what is opened or built for either is so for both."""
        if schema is self._schema:
            return self
        seen = copy(self)
        seen._schema = schema  # noqa: SLF001 - its own copy
        return seen

    @property
    def label(self) -> str:
        """The segment's job."""
        return self._ref.job

    @property
    def rows(self) -> int:
        """How many rows there are, live or not."""
        return self._ref.rows

    @property
    def is_built(self) -> bool:
        """See Part."""
        return True

    def pending_us(self, name: str) -> float:
        """See Part: codes are taken in when they are searched first."""
        found = self._files.get(self._part(segment_format.vector_part, name))
        if found is None:
            return 0.0
        index: VectorIndex | None = self._cache.residents.peek(found[0])
        return FILL_ROW_US * self.rows if index is None else index.pending_us

    def ids(self) -> Steps[Ids]:
        """The ids."""
        opened = yield from self._opened(segment_format.IDS, IdFile.opened)
        assert opened is not None, "every segment has ids"
        return opened

    def attribute(self, name: str) -> Steps[Values]:
        """An attribute that is no dense vector."""
        kind, part = self._schema.attributes[name].type, self._part(_column_part, name)
        if kind.is_sparse:
            vectors = yield from self._opened(part, SparseFile.opened)
            return MissingValues(kind, self.rows) if vectors is None else vectors
        opened = yield from self._opened(part, AttributeFile.opened)
        if opened is None:
            return MissingValues(kind, self.rows)
        return opened if opened.type == kind else EmptyValues(opened, kind)

    def sparse(self, name: str) -> Steps[Sparse]:
        """The inverted lists of a sparse vector attribute."""
        opened = yield from self._opened(self._part(_column_part, name), SparseFile.opened)
        return NoSparse() if opened is None else opened

    def vectors(self, name: str) -> Steps[Vectors]:
        """A vector attribute."""
        opened = yield from self._opened(self._part(segment_format.vector_part, name), VectorIndex.opened)
        if opened is None:
            return VectorColumn.empty(self._schema.attributes[name].type.dimensions or 0, self.rows)
        return opened

    def text(self, name: str) -> Steps[TextIndex]:
        """The postings of an attribute, built of its texts where no file has them."""
        settings = self._schema.attributes[name].full_text
        assert settings is not None, name
        analysis = analysis_of(settings)
        opened = yield from self._opened(self._part(_text_part, name), TextIndex.opened)
        if opened is not None and opened.analysis in (analysis, ""):
            return opened
        late = self._late_name(name, analysis)
        kept: TextIndex | None = self._cache.residents.get(late)
        if kept is not None:
            return kept
        return (yield from self._built_late(name, settings, late))

    def _built_late(self, name: str, settings: FullText, late: str) -> Steps[TextIndex]:
        def keep(built: TextIndex) -> TextIndex:
            return self._cache.residents.keep(late, built, built.size_bytes)

        values = yield from self.attribute(name)
        if isinstance(values, MissingValues):
            return keep(TextIndex.empty(self.rows))
        column = yield from values.column()
        with self._building_lock:
            building = self._building.setdefault(late, LateIndex(self._compute))
        # kept by whoever builds it: all who wait may have given up by then
        return (yield from building.built(lambda: keep(TextIndex.build(column, settings))))

    def _parts_of(self, needs: Needs) -> set[str]:
        """The names of the files that are opened."""
        wanted = (
            (_column_part, needs.columns),
            (segment_format.vector_part, needs.vectors),
            (_text_part, needs.texts),
        )
        names = {self._part(part_of, name) for part_of, attributes in wanted for name in attributes}
        return {segment_format.IDS, *names}

    def _late_name(self, name: str, analysis: str) -> str:
        """What the cache calls an index that was built of the texts of an attribute."""
        return f"{self._key(self._part(_column_part, name))}#{analysis}"

    def _part(self, part_of: Callable[[str], str], name: str) -> str:
        """The part name of an attribute's file."""
        return part_of(self._schema.stored(name))

    def _opened(self, part: str, opener: Opener[S]) -> Steps[S | None]:
        found = self._files.get(part)
        if found is None:
            return None
        key, ref = found
        residents = self._cache.residents
        kept: S | None = residents.get(key)
        if kept is None:
            made = yield from opener(self._cache.file(key, ref), self.rows)
            # many queries may have waited for the same bytes: they fill one structure, not one each
            kept = residents.keep(key, made, _weight_bytes(made, ref))
        return kept

    async def dead(self, ref: DeletesRef | None) -> npt.NDArray[np.bool_]:
        """The (rows,) bool array of rows that a delete bitmap of this segment marks."""
        if ref is None:
            return np.zeros(self.rows, np.bool_)
        key = (ref.home or self._own).segment_file(ref.job, ref.file.part)
        data = await self._cache.map(key, ref.file.size_bytes, ref.file.digest)
        return deletes_format.decode(data, key=key, rows=self.rows)

    async def open(self, needs: Needs) -> None:
        """Have what a query needs first at hand."""
        await drive(opening([self], needs), self._compute)

    async def warm(self, needs: Needs | None = None) -> None:
        """Bring whole files of the segment into the cache: those of `needs`, or all that queries look at."""
        names = self._files.keys() if needs is None else self._files.keys() & self._parts_of(needs)
        for name in sorted(names):
            key, ref = self._files[name]
            if ref.head_bytes:
                await self._cache.warm(key, ref)

    def looked_at(self) -> Needs:
        """The attributes by which the segment was searched or shown, as far as their files are open."""
        peek = self._cache.residents.peek
        opened = {name for name, (key, _) in self._files.items() if peek(key) is not None}
        columns, vectors, texts = (
            {name for name in self._schema.attributes if self._part(part_of, name) in opened}
            for part_of in (_column_part, segment_format.vector_part, _text_part)
        )
        for name, attribute in self._schema.attributes.items():
            settings = attribute.full_text
            if settings is not None and peek(self._late_name(name, analysis_of(settings))) is not None:
                texts.add(name)
        return Needs(frozenset(columns), frozenset(vectors), frozenset(texts))

    def files(self) -> dict[str, tuple[str, FileRef]]:
        """Key and reference of every file, by part name."""
        return dict(self._files)

    def forget(self) -> None:
        """Let go of everything that was made of the segment's files."""
        self._cache.residents.drop(self._key(""))

    def _key(self, part: str) -> str:
        return (self._ref.home or self._own).segment_file(self._ref.job, part)


def _column_part(attribute: str) -> str:
    return segment_format.attribute_part("attr", attribute)


def _text_part(attribute: str) -> str:
    return segment_format.attribute_part("text", attribute)


def _weight_bytes(structure: object, ref: FileRef) -> int:
    """What a structure made of a file takes of the memory budget."""
    own = structure.resident_bytes if isinstance(structure, VectorIndex) else 0
    return own + _HEAD_BYTES + _CRC_BYTES * (ref.size_bytes // UNIT_BYTES)
