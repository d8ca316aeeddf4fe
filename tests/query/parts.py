"""Parts in memory over real indexes, snapshots made of them, and documents to fill them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import strategies as st
from index.sources import HoleySource, driven

from elacsym.format.reading import MemorySource, Source, Steps, done
from elacsym.index.attribute import ArrowValues, AttributeFile, Values
from elacsym.index.columns import arrow_type
from elacsym.index.ids import IdColumn, IdFile, Ids, MemoryIds
from elacsym.index.sparse import Sparse, SparseFile
from elacsym.index.text import TextIndex
from elacsym.index.values import to_arrow
from elacsym.index.vector import VectorColumn
from elacsym.query.ast import Filter
from elacsym.query.filters import matches
from elacsym.query.searchable import Part, PartView, SearchSnapshot
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

DIMENSIONS = 3


def schema_of(*, id_type="uint", metric=Metric.L2, **attributes: str | Attribute) -> Schema:
    """A schema of attributes given as type texts or whole."""
    return Schema(
        id_type,
        metric,
        MappingProxyType(
            {
                name: given if isinstance(given, Attribute) else Attribute(AttributeType.parse(given))
                for name, given in attributes.items()
            }
        ),
    )


SCHEMA = schema_of(
    vector=f"[{DIMENSIONS}]f32",
    title=Attribute(AttributeType.parse("string"), full_text=FullText()),
    body=Attribute(AttributeType.parse("string"), full_text=FullText(stemming=True, remove_stopwords=True)),
    category="string",
    year="int",
    size="uint",
    price="float",
    is_open="bool",
    owner="uuid",
    seen="datetime",
    tags="[]string",
    marks="[]int",
    owners="[]uuid",
    secret=Attribute(AttributeType.parse("string"), filterable=False),
)

Document = dict[str, Any]


class MemoryPart:
    """A part of documents (`id` and attributes; a missing one is null), as a memtable has them."""

    def __init__(self, schema: Schema, documents: Sequence[Document], label: str = "memory") -> None:
        self.label = label
        self.rows = len(documents)
        self._schema, self._documents = schema, documents
        self._ids = IdColumn.of(schema.id_type or "uint", [d["id"] for d in documents])
        self._columns: dict[str, Any] = {}
        self._vectors: dict[str, VectorColumn] = {}
        self._texts: dict[str, TextIndex] = {}
        for name, attribute in schema.attributes.items():
            if not attribute.type.is_vector:
                values = [d.get(name) for d in documents]
                self._columns[name] = to_arrow(values, arrow_type(attribute.type))

    is_built = True

    def pending_us(self, name: str) -> float:
        return 0.0

    def ids(self) -> Steps[Ids]:
        return done(MemoryIds(self._ids))

    def attribute(self, name: str) -> Steps[Values]:
        return done(ArrowValues(self._columns[name]))

    def vectors(self, name: str) -> Steps[VectorColumn]:
        if name not in self._vectors:
            values = [d.get(name) for d in self._documents]
            rows = np.array([i for i, v in enumerate(values) if v is not None], np.int64)
            matrix = np.array([values[i] for i in rows], np.float32)
            matrix = matrix.reshape(len(rows), self._schema.attributes[name].type.dimensions)
            self._vectors[name] = VectorColumn.of(matrix, rows, self.rows)
        return done(self._vectors[name])

    def sparse(self, name: str) -> Steps[Sparse]:
        return done(SparseFile.in_memory(self._columns[name]))

    def text(self, name: str) -> Steps[TextIndex]:
        if name not in self._texts:
            settings = self._schema.attributes[name].full_text
            self._texts[name] = TextIndex.build(self._columns[name], settings)
        return done(self._texts[name])


class FilePart(MemoryPart):
    """A part whose ids and attributes are files, wholly at hand."""

    source: Callable[[bytes], Source] = MemorySource

    def __init__(self, schema: Schema, documents: Sequence[Document], label: str = "files") -> None:
        super().__init__(schema, documents, label)
        make = type(self).source
        self.id_source = make(IdFile.build(self._ids))
        self.sources = {
            name: make(
                SparseFile.build(column)
                if schema.attributes[name].type.is_sparse
                else AttributeFile.build(column, schema.attributes[name])
            )
            for name, column in self._columns.items()
        }

    def ids(self) -> Steps[Ids]:
        return IdFile.opened(self.id_source, self.rows)

    def attribute(self, name: str) -> Steps[Values]:
        if self._schema.attributes[name].type.is_sparse:
            return self.sparse(name)
        return AttributeFile.opened(self.sources[name], self.rows)

    def sparse(self, name: str) -> Steps[SparseFile]:
        return SparseFile.opened(self.sources[name], self.rows)


class ColdPart(FilePart):
    """A part whose files have to be brought; what is not wanted is poison."""

    source = HoleySource


def snapshot_of(
    schema: Schema,
    *parts: Sequence[Document],
    dead: Sequence[Sequence[Document]] | None = None,
    kind: type[MemoryPart] = MemoryPart,
) -> SearchSnapshot:
    """A snapshot with one part for each list of documents, followed in the part by its dead rows if any."""
    views = []
    for number, documents in enumerate(parts):
        gone = list(dead[number]) if dead else []
        alive = np.array([True] * len(documents) + [False] * len(gone), np.bool_)
        alive.flags.writeable = False
        views.append(PartView(kind(schema, [*documents, *gone], f"part{number}"), alive))
    return SearchSnapshot(schema, tuple(views), inc="0" * 16, generation=1, tail=1)


def masked_parts(snapshot: SearchSnapshot, condition: Filter | None = None) -> list[tuple[int, Part, Any]]:
    """What orders and aggregations take: the parts with the live rows where a checked filter holds."""
    return [
        (
            number,
            view.part,
            view.alive
            if condition is None
            else view.alive & driven(matches(condition, snapshot.schema, view.part)).value,
        )
        for number, view in enumerate(snapshot.parts)
    ]


def views(schema: Schema, documents: Sequence[Document], seed: int) -> list[SearchSnapshot]:
    """The same live documents as one part, and spread over several in another order among dead rows, in
    memory and in files."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 5))
    spread: list[list[Document]] = [[] for _ in range(count)]
    for index in rng.permutation(len(documents)):
        spread[int(rng.integers(count))].append(documents[index])
    # a dead row is an older version of a row that lives in another part
    dead = [
        [
            {**d, "title": "dead apple apple", "year": -7}
            for other in spread
            if other is not own
            for d in other[:2]
        ]
        for own in spread
    ]
    return [
        snapshot_of(schema, documents),
        snapshot_of(schema, *spread, dead=dead),
        snapshot_of(schema, *spread, dead=dead, kind=FilePart),
    ]


# the same but for their first, a middle and their last byte
UUIDS = [
    "00000000-0000-0000-0000-000000000000",
    "00000000-0000-0000-0000-0000000000ff",
    "00000000-0000-4000-8000-000000000000",
    "ff000000-0000-0000-0000-000000000000",
]
_words = st.sampled_from(["apple", "bread", "cider", "dates", "eggs"])
_texts = st.lists(_words, max_size=6).map(" ".join)
_floats = st.sampled_from([0.0, -0.0, 0.5, 1.0, -1.5, 1e16, 2.0**53, 0.1, 1e-310, -1e300])


_ids = st.integers(0, 2**64 - 1)


def documents_of(ids=_ids) -> st.SearchStrategy[list[Document]]:
    """Lists of documents for SCHEMA with distinct ids, many ties and many nulls."""
    document = st.fixed_dictionaries(
        {"id": ids},
        optional={
            "vector": st.lists(
                st.sampled_from([0.0, 0.5, 1.0, -1.0]), min_size=DIMENSIONS, max_size=DIMENSIONS
            ),
            "title": _texts,
            "body": _texts,
            "category": st.sampled_from(["", "a", "b", "é", "z", "😀"]),
            "year": st.sampled_from([-(2**63), -1, 0, 1, 2**53, 2**53 + 1, 2**63 - 1]),
            "size": st.sampled_from([0, 1, 2**53 + 1, 2**63, 2**64 - 1]),
            "price": _floats,
            "is_open": st.booleans(),
            "owner": st.sampled_from(UUIDS),
            "seen": st.sampled_from([-1, 0, 1, 1_700_000_000_000]),
            "tags": st.lists(st.sampled_from(["x", "y", "z"]), max_size=3),
            "marks": st.lists(st.integers(-2, 2), max_size=3),
            "owners": st.lists(st.sampled_from(UUIDS), max_size=3),
        },
    )
    return st.lists(document, max_size=12, unique_by=lambda d: d["id"])
