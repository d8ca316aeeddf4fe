"""A segment as a searchable part: its files are mapped and opened when a query first needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.compute import Compute
from elacsym.engine.columns import arrow_type
from elacsym.engine.memtable import AttributeOf
from elacsym.format import deletes as deletes_format
from elacsym.format import segment as segment_format
from elacsym.format.keys import NamespaceKeys
from elacsym.format.manifest import DeletesRef, SegmentRef
from elacsym.index.ids import IdColumn, IdIndex
from elacsym.index.text import TextIndex
from elacsym.index.vector import VectorColumn
from elacsym.query.searchable import Needs
from elacsym.store.cache import ObjectCache

T = TypeVar("T")


class SegmentPart:
    """The rows of one segment; implements `query.searchable.Part`. Opened pieces are kept until the part is
    dropped."""

    def __init__(
        self,
        keys: NamespaceKeys,
        inc: str,
        ref: SegmentRef,
        cache: ObjectCache,
        compute: Compute,
        attribute_of: AttributeOf,
    ) -> None:
        self._keys, self._inc, self._ref = keys, inc, ref
        self._cache, self._compute, self._attribute_of = cache, compute, attribute_of
        self._columns: dict[str, pa.Array | None] = {}
        self._vectors: dict[str, VectorColumn] = {}
        self._texts: dict[str, TextIndex] = {}
        self._id_index: IdIndex | None = None
        self._opening = asyncio.Lock()

    @property
    def label(self) -> str:
        """The segment's job."""
        return self._ref.job

    @property
    def rows(self) -> int:
        """How many rows there are, live or not."""
        return self._ref.rows

    async def prepare(self, needs: Needs) -> None:
        """Map and open the files that `needs` names, and always the ids. Raises ObjectMissing,
        CorruptObject."""
        if self._has(needs):
            return
        async with self._opening:
            if self._id_index is None:
                self._id_index = await self._open(segment_format.IDS, IdIndex.open)
            missing = [f"a:{name}" for name in needs.columns if f"a:{name}" not in self._columns]
            if missing:
                await self._open_columns(missing)
            for name in needs.vectors - self._vectors.keys():
                part = segment_format.attribute_part("vector", name)
                opened = await self._open(part, VectorColumn.open)
                dimensions = self._attribute_of(name).type.dimensions or 0
                self._vectors[name] = opened or VectorColumn.empty(dimensions, self.rows)
            for name in needs.texts - self._texts.keys():
                opened_text = await self._open(segment_format.attribute_part("text", name), TextIndex.open)
                self._texts[name] = opened_text or TextIndex.empty(self.rows)

    def _has(self, needs: Needs) -> bool:
        return (
            self._id_index is not None
            and all(f"a:{name}" in self._columns for name in needs.columns)
            and needs.vectors <= self._vectors.keys()
            and needs.texts <= self._texts.keys()
        )

    async def prepare_versions(self) -> None:
        """Read the row versions."""
        async with self._opening:
            if segment_format.VERSION not in self._columns:
                await self._open_columns([segment_format.VERSION])

    async def _open_columns(self, names: list[str]) -> None:
        ref = self._ref.file(segment_format.ROWS)
        assert ref is not None, "every segment has rows"
        key = self._keys.segment_file(self._inc, self._ref.job, ref.part)
        data = await self._cache.map(key, ref.size_bytes, ref.digest)
        self._columns |= await self._compute.run(
            segment_format.decode_columns, data, names, key=key, rows=self._ref.rows
        )

    async def _open(self, part: str, opener: Callable[[memoryview, str], T]) -> T | None:
        ref = self._ref.file(part)
        if ref is None:
            return None
        key = self._keys.segment_file(self._inc, self._ref.job, part)
        data = await self._cache.map(key, ref.size_bytes, ref.digest)
        return await self._compute.run(opener, data, key)

    async def dead(self, ref: DeletesRef | None) -> npt.NDArray[np.bool_]:
        """The (rows,) bool array of rows that a delete bitmap of this segment marks."""
        if ref is None:
            return np.zeros(self.rows, np.bool_)
        key = self._keys.segment_file(self._inc, ref.job, ref.file.part)
        data = await self._cache.map(key, ref.file.size_bytes, ref.file.digest)
        return deletes_format.decode(data, key=key, rows=self.rows)

    def ids(self) -> IdColumn:
        """The ids in row order."""
        return self._index().ids

    def rows_of(self, ids: IdColumn) -> npt.NDArray[np.int64]:
        """The row of each id, -1 where the segment has none."""
        return self._index().rows_of(ids)

    def _index(self) -> IdIndex:
        assert self._id_index is not None, "prepare first"
        return self._id_index

    def versions(self) -> npt.NDArray[np.uint64]:
        """The log slot that wrote each row (after `prepare_versions`)."""
        array = self._columns[segment_format.VERSION]
        assert array is not None, "every segment has versions"
        versions: npt.NDArray[np.uint64] = array.to_numpy()
        return versions

    def column(self, name: str) -> pa.Array:
        """The attribute's values, null where a row has none."""
        array = self._columns[f"a:{name}"]
        return pa.nulls(self.rows, arrow_type(self._attribute_of(name).type)) if array is None else array

    def vectors(self, name: str) -> VectorColumn:
        """The vectors of an attribute."""
        return self._vectors[name]

    def text(self, name: str) -> TextIndex:
        """The postings of an attribute."""
        return self._texts[name]
