"""A snapshot under the schema that a write brings about: what that adds is null in all stored documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from elacsym.format.reading import Steps, done
from elacsym.index.attribute import MissingValues, Values
from elacsym.index.ids import Ids
from elacsym.index.sparse import NoSparse, Sparse
from elacsym.index.text import TextIndex
from elacsym.index.vector import VectorColumn, Vectors
from elacsym.query.searchable import Part, PartView, SearchSnapshot
from elacsym.types import Attribute, Schema


def widened(snapshot: SearchSnapshot, after: Schema, names: Iterable[str]) -> SearchSnapshot:
    """The snapshot in which these attributes are what a later schema says, as far as it says anything; the
    same one where that adds nothing."""
    known = snapshot.schema.attributes
    said = {name: after.attributes[name] for name in names if name in after.attributes}
    added = {
        name: attribute
        for name, attribute in said.items()
        if name not in known or known[name].stored_as != attribute.stored_as
    }
    if not added and all(known[name] == attribute for name, attribute in said.items()):
        return snapshot
    kept = {
        # what arrays are of is told by values that are not stored yet
        name: replace(attribute, type=known[name].type)
        for name, attribute in said.items()
        if name not in added
    }
    schema = replace(after, attributes=MappingProxyType({**known, **kept, **added}))
    parts = [PartView(_Widened(view.part, added), view.alive) for view in snapshot.parts]
    return replace(snapshot, schema=schema, parts=parts, memo={})


class _Widened:
    """A part with further attributes, of which it has no values; implements `query.searchable.Part`."""

    def __init__(self, part: Part, added: dict[str, Attribute]) -> None:
        self._part, self._added = part, added

    @property
    def label(self) -> str:
        return self._part.label

    @property
    def rows(self) -> int:
        return self._part.rows

    @property
    def is_built(self) -> bool:
        return self._part.is_built

    def pending_us(self, name: str) -> float:
        return 0.0 if name in self._added else self._part.pending_us(name)

    def ids(self) -> Steps[Ids]:
        return self._part.ids()

    def attribute(self, name: str) -> Steps[Values]:
        if name not in self._added:
            return self._part.attribute(name)
        values: Values = MissingValues(self._added[name].type, self.rows)
        return done(values)

    def vectors(self, name: str) -> Steps[Vectors]:
        if name not in self._added:
            return self._part.vectors(name)
        vectors: Vectors = VectorColumn.empty(self._added[name].type.dimensions or 0, self.rows)
        return done(vectors)

    def sparse(self, name: str) -> Steps[Sparse]:
        return done(NoSparse()) if name in self._added else self._part.sparse(name)

    def text(self, name: str) -> Steps[TextIndex]:
        return done(TextIndex.empty(self.rows)) if name in self._added else self._part.text(name)
