"""What a query runs over: parts (segments and memtable chunks) seen through one snapshot's live rows.

`elacsym.engine` implements these protocols, so imports point from engine to query. All methods but `prepare`
are CPU work without I/O, callable from a pool thread, and safe to call concurrently; what they return is
immutable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from elacsym.index.ids import IdColumn
from elacsym.index.text import TextIndex
from elacsym.index.vector import VectorColumn
from elacsym.types import Schema


@dataclass(frozen=True, slots=True)
class Needs:
    """The pieces of a part that a query will touch."""

    columns: frozenset[str] = frozenset()
    vectors: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


class Part(Protocol):
    """An immutable run of rows, numbered from 0. Every part knows every attribute of the snapshot's schema:
    where it stores none, `column` is all null, `vectors` has no rows and `text` is an empty index."""

    @property
    def label(self) -> str:
        """A name for `explain`: `memtable` or the segment's job."""
        ...

    @property
    def rows(self) -> int:
        """How many rows there are, live or not."""
        ...

    async def prepare(self, needs: Needs) -> None:
        """Fetch, verify and map what `needs` names; the only method that does I/O. Idempotent, single-flight.

        Any call, also one with empty needs, covers `ids` and `rows_of`."""
        ...

    def ids(self) -> IdColumn:
        """The ids in row order."""
        ...

    def rows_of(self, ids: IdColumn) -> npt.NDArray[np.int64]:
        """(n,) int64: the row of each id, -1 where the part has none; ids inside one part are unique."""
        ...

    def column(self, name: str) -> Any:
        """The attribute as one pyarrow.Array of `rows` values in row order (prepared as a column)."""
        ...

    def vectors(self, name: str) -> VectorColumn:
        """The vector attribute (prepared as a vector)."""
        ...

    def text(self, name: str) -> TextIndex:
        """The postings of a full-text attribute (prepared as a text)."""
        ...


@dataclass(frozen=True, slots=True)
class PartView:
    """A part in a snapshot. alive: (rows,) bool, read-only: False where a row is deleted or overwritten."""

    part: Part
    alive: npt.NDArray[np.bool_]

    @property
    def rows_live(self) -> int:
        """Live rows."""
        return int(np.count_nonzero(self.alive))


@dataclass(frozen=True, slots=True)
class SearchSnapshot:
    """One immutable state of a namespace: what every step of one query looks at."""

    schema: Schema
    parts: Sequence[PartView]
    inc: str
    generation: int
    tail: int
    staleness_ms: int = 0
    memo: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
