"""Live rows gathered from parts, in the order of a new segment: what folding and compaction both write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elacsym.format import segment as segment_format
from elacsym.index.cluster import cluster_order
from elacsym.index.ids import IdColumn, IdIndex
from elacsym.index.text import TextIndex
from elacsym.index.vector import VectorColumn
from elacsym.query.searchable import Needs, Part
from elacsym.types import Schema


class Source(Part, Protocol):
    """A part that also knows the log slot that wrote each row."""

    def versions(self) -> npt.NDArray[np.uint64]:
        """(rows,) slot numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Some rows of a prepared source: `rows` are (k,) row numbers, ascending."""

    source: Source
    rows: npt.NDArray[np.int64]


def needs_of(schema: Schema) -> Needs:
    """Everything that a segment of this schema stores."""
    return Needs(
        columns=frozenset(name for name, a in schema.attributes.items() if not a.type.is_vector),
        vectors=frozenset(schema.vectors()),
        texts=frozenset(name for name, a in schema.attributes.items() if a.full_text is not None),
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in their final order. origin: for each, its position among the selections' rows one after
    another."""

    ids: IdColumn
    versions: npt.NDArray[np.uint64]
    columns: dict[str, pa.Array]
    vectors: dict[str, VectorColumn]
    texts: dict[str, TextIndex]
    origin: npt.NDArray[np.int64]

    def row_sum(self) -> int:
        """The order-free sum over all rows."""
        return self.ids.row_sum(self.versions)

    def encoded(self) -> dict[str, bytes]:
        """The files of a segment by part name."""
        files = {
            segment_format.ROWS: segment_format.encode_rows(self.ids.to_arrow(), self.versions, self.columns),
            segment_format.IDS: IdIndex.build(self.ids).encode(),
        }
        for name, vectors in self.vectors.items():
            if len(vectors.rows):
                files[segment_format.attribute_part("vector", name)] = vectors.encode()
        for name, text in self.texts.items():
            files[segment_format.attribute_part("text", name)] = text.encode()
        return files


def gathered(selections: Sequence[Selection], schema: Schema) -> Rows:
    """The selected rows, ordered by the clusters of the first vector attribute (as they come when there is
    none).

    CPU work; the sources must be prepared for `needs_of(schema)`.
    """
    needs = needs_of(schema)
    total = sum(len(s.rows) for s in selections)
    origin = _row_order(selections, schema, total)
    place = np.empty(total, np.int64)
    place[origin] = np.arange(total)
    maps = _row_maps(selections, place)
    return Rows(
        IdColumn.concat([s.source.ids().select(s.rows) for s in selections]).select(origin),
        np.concatenate([s.source.versions()[s.rows] for s in selections])[origin],
        {
            name: pa.concat_arrays([s.source.column(name).take(pa.array(s.rows)) for s in selections]).take(
                pa.array(origin)
            )
            for name in schema.attributes
            if name in needs.columns
        },
        {
            name: VectorColumn.merge([s.source.vectors(name) for s in selections], maps, total)
            for name in schema.vectors()
        },
        {
            name: TextIndex.merge([s.source.text(name) for s in selections], maps, total)
            for name in sorted(needs.texts)
        },
        origin,
    )


def _row_order(selections: Sequence[Selection], schema: Schema, total: int) -> npt.NDArray[np.int64]:
    """(total,) positions among the selections' rows, in the order of the new rows; rows without the vector
    come last."""
    first = next(iter(schema.vectors()), None)
    if first is None:
        return np.arange(total, dtype=np.int64)
    maps = _row_maps(selections, np.arange(total, dtype=np.int64))
    column = VectorColumn.merge([s.source.vectors(first) for s in selections], maps, total)
    order: npt.NDArray[np.int64] = column.rows[cluster_order(column.matrix)]
    if len(order) < total:
        order = np.concatenate([order, np.setdiff1d(np.arange(total, dtype=np.int64), order)])
    return order


def _row_maps(selections: Sequence[Selection], place: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """For each source its rows' new row, -1 where it is not selected. place: new row by position among the
    selections."""
    maps, start = [], 0
    for selection in selections:
        row_map = np.full(selection.source.rows, -1, np.int64)
        row_map[selection.rows] = place[start : start + len(selection.rows)]
        maps.append(row_map)
        start += len(selection.rows)
    return maps
