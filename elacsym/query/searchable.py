"""What a query runs over: parts (segments and memtable chunks) seen through one snapshot's live rows.

`elacsym.engine` implements `Part`, so imports point from engine to query. Everything a part gives is
immutable and may be used from any thread; every method is steps (`elacsym.format.reading`): it runs to its
end where the bytes are at hand, and asks for them where they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps
from elacsym.index.attribute import Values
from elacsym.index.ids import Ids
from elacsym.index.sparse import Sparse
from elacsym.index.text import TextIndex
from elacsym.index.vector import Vectors
from elacsym.types import Schema


class Part(Protocol):
    """An immutable run of rows, numbered from 0. Every part knows every attribute of the snapshot's schema:
    where it stores none, `attribute` is all null, `vectors` and `sparse` have no rows and `text` is an empty
    index."""

    @property
    def label(self) -> str:
        """A name for `explain`: `memtable` or the segment's job."""
        ...

    @property
    def rows(self) -> int:
        """How many rows there are, live or not."""
        ...

    @property
    def is_built(self) -> bool:
        """Whether indexes were built for it, so that vectors of many rows have codes."""
        ...

    def pending_us(self, name: str) -> float:
        """How long the next search by the attribute takes, in microseconds, because something is not built
        yet."""
        ...

    def ids(self) -> Steps[Ids]:
        """The ids; unique inside one part, except that a memtable chunk may have dead rows of the same id."""
        ...

    def attribute(self, name: str) -> Steps[Values]:
        """An attribute that is no dense vector."""
        ...

    def vectors(self, name: str) -> Steps[Vectors]:
        """A vector attribute."""
        ...

    def sparse(self, name: str) -> Steps[Sparse]:
        """The inverted lists of a sparse vector attribute, which are in its file."""
        ...

    def text(self, name: str) -> Steps[TextIndex]:
        """The postings of a full-text attribute."""
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
