"""How many of the true nearest neighbours are found: ordinary queries compared with exact ones.

The queries are a sample of what was asked of this process lately, topped up with stored vectors; these alone
overestimate recall, because they lie where the index was made for. Rows that tie with the last true neighbour
count as right.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np

from elacsym.engine.database import Database
from elacsym.engine.namespace import Namespace
from elacsym.engine.tuning import Vector, unobserved
from elacsym.errors import InvalidRequest
from elacsym.format.reading import Steps, together
from elacsym.index.vector import Vectors
from elacsym.query.ast import Filter, Hit, Query, QueryResult, VectorLeg
from elacsym.query.columns import Ints
from elacsym.query.searchable import SearchSnapshot
from elacsym.store.cache import ObjectMissing
from elacsym.store.drive import drive
from elacsym.types import STRONG, VECTOR, Consistency, Metric, Schema

NUM_MAX = 1_000
TOP_K_MAX = 1_000
# rows of ground truth, which are held with their attributes until the last query is compared
TRUTH_ROWS_MAX = 10_000

# the snapshot that the first look made current is good enough for the queries after it
_AT_HAND = Consistency("eventual")
# an answer without attributes: nothing is fetched for it
_NO_ATTRIBUTES = ("id",)
_SPARE, _SPARE_ROWS = 1.5, 8


class Queries(Protocol):
    """What comparing needs of a database."""

    async def query(self, name: str, query: Query) -> QueryResult:
        """Answer one query."""
        ...


@dataclass(frozen=True, slots=True)
class RecallRequest:
    """What is to be measured: `num` queries of `top_k` rows each by a vector attribute.

    attribute: None is `vector`, or else the first vector attribute. source: `recent` takes stored vectors
    only where too few queries were asked lately. vector: (d,) the one query to measure instead.
    include_ground_truth: for TRUTH_ROWS_MAX rows at most.
    """

    attribute: str | None = None
    num: int = 25
    top_k: int = 10
    filter: Filter | None = None
    source: Literal["recent", "stored"] = "recent"
    vector: Vector | None = None
    include_ground_truth: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """One query both ways: how many true neighbours there are, how many rows an ordinary query gave and how
    many of these are right. truth: the true neighbours, where they are wanted."""

    vector: Vector
    exact: int
    found: int
    right: int
    truth: tuple[Hit, ...]

    @property
    def recall(self) -> float:
        """The share of the true neighbours that was found; 1 where there are none."""
        return self.right / self.exact if self.exact else 1.0


@dataclass(frozen=True, slots=True)
class Recall:
    """A measurement. recent, stored: how many of the queries were asked, how many are stored vectors. schema:
    what the rows of the ground truth have."""

    compared: tuple[Compared, ...]
    recent: int
    stored: int
    schema: Schema

    @property
    def average(self) -> float:
        """The mean recall of the queries; 1 where there are none."""
        return sum(c.recall for c in self.compared) / len(self.compared) if self.compared else 1.0

    @property
    def average_found(self) -> float:
        """How many rows an ordinary query gives on average."""
        return sum(c.found for c in self.compared) / max(1, len(self.compared))

    @property
    def average_exact(self) -> float:
        """How many rows an exact query gives on average."""
        return sum(c.exact for c in self.compared) / max(1, len(self.compared))


def count_right(found: Sequence[Hit], exact: Sequence[Hit], *, ascending: bool) -> int:
    """How many rows of an answer are at least as near as the last of the true neighbours."""
    if not exact:
        return 0
    last = _score(exact[-1])
    return min(len(exact), sum(_score(h) <= last if ascending else _score(h) >= last for h in found))


def _score(hit: Hit) -> float:
    assert hit.score is not None, "vector queries give scores"
    return hit.score


async def compare(queries: Queries, name: str, query: Query, metric: Metric | None) -> Compared:
    """The query of one vector leg both ways, whatever its `exact` says. Raises what a query raises."""
    (leg,) = query.legs
    assert isinstance(leg, VectorLeg), "one vector leg"
    with unobserved():
        # in this order, rows that are written meanwhile cannot look as if they had been missed
        exact = (await queries.query(name, _variant(query, exact=True))).hits
        found = (await queries.query(name, _variant(query, exact=False))).hits
    right = count_right(found, exact, ascending=metric is not Metric.DOT)
    return Compared(leg.vector, len(exact), len(found), right, exact)


def _variant(query: Query, *, exact: bool) -> Query:
    return Query(
        legs=query.legs,
        filter=query.filter,
        top_k=query.top_k,
        consistency=_AT_HAND,
        exact=exact,
        include_attributes=query.include_attributes if exact else _NO_ATTRIBUTES,
    )


def vector_query(
    attribute: str, vector: Vector, top_k: int, filter_: Filter | None = None, *, attributes: bool = False
) -> Query:
    """A query by one vector that shows all attributes, or none."""
    return Query(
        legs=(VectorLeg(attribute, vector),),
        filter=filter_,
        top_k=top_k,
        include_attributes=None if attributes else _NO_ATTRIBUTES,
    )


async def measure(database: Database, name: str, request: RecallRequest) -> Recall:
    """Compare ordinary queries with exact search, one after another.

    Costs `num` exact searches. Raises NamespaceNotFound, InvalidRequest where there is no such vector
    attribute or the filter does not fit, and what queries raise.
    """
    services = database.services
    namespace = await database.namespace(name)
    with namespace.used():
        snapshot = await namespace.snapshot(STRONG)
        attribute = _attribute(snapshot.schema, request.attribute)
        recent: Sequence[Vector] = ()
        given = [] if request.vector is None else [request.vector]
        num = 0 if given else request.num
        if request.source == "recent":
            asked = services.tuning.recent(snapshot.inc, attribute)
            recent = services.rng.sample(asked, min(len(asked), num))
        stored = await _stored(namespace, snapshot, attribute, num - len(recent))
    is_shown, compared = request.include_ground_truth, []
    for vector in [*given, *recent, *stored]:
        query = vector_query(attribute, vector, request.top_k, request.filter, attributes=is_shown)
        one = await compare(database, name, query, snapshot.schema.metric)
        # a million rows would wait here to be forgotten
        compared.append(one if is_shown else replace(one, truth=()))
    return Recall(tuple(compared), len(recent), len(stored), snapshot.schema)


def _attribute(schema: Schema, wanted: str | None) -> str:
    vectors = schema.vectors()
    if not vectors:
        raise InvalidRequest("", "the namespace has no vectors whose recall could be measured")
    if wanted is None:
        return VECTOR if VECTOR in vectors else next(iter(vectors))
    if wanted not in vectors:
        raise InvalidRequest("vector_field", f"{wanted!r} is no vector attribute of the namespace")
    return wanted


async def _stored(namespace: Namespace, snapshot: SearchSnapshot, attribute: str, count: int) -> list[Vector]:
    """Up to `count` vectors of random live rows."""
    services = namespace.services
    if count <= 0:
        return []
    try:
        return await drive(stored_vectors(snapshot, attribute, count, services.rng), services.compute)
    except ObjectMissing:
        # the snapshot's files were collected under it
        snapshot = await namespace.snapshot(STRONG)
        return await drive(stored_vectors(snapshot, attribute, count, services.rng), services.compute)


def stored_vectors(
    snapshot: SearchSnapshot, attribute: str, count: int, rng: random.Random
) -> Steps[list[Vector]]:
    """The vectors of up to `count` random live rows."""
    views = [view for view in snapshot.parts if view.rows_live]
    opened = yield from together([view.part.vectors(attribute) for view in views])
    live = [view.rows_live for view in views]
    total, present = sum(live), sum(len(vectors) for vectors in opened)
    if not present:
        return []
    # where rows without a vector are expected, more rows are asked than are needed
    share = present / sum(view.part.rows for view in views)
    wanted = count if share == 1 else math.ceil(_SPARE * count / share) + _SPARE_ROWS
    chosen = np.sort(np.array(rng.sample(range(total), min(wanted, total)), np.int64))
    starts = np.concatenate([[0], np.cumsum(live)])
    found = yield from together(
        [
            _selected(
                vectors, np.flatnonzero(view.alive)[chosen[(chosen >= start) & (chosen < stop)] - start]
            )
            for view, vectors, start, stop in zip(views, opened, starts, starts[1:], strict=False)
        ]
    )
    everything = [vector for vectors in found for vector in vectors]
    return rng.sample(everything, min(count, len(everything)))


def _selected(vectors: Vectors, rows: Ints) -> Steps[list[Vector]]:
    if not len(rows):
        return []
    matrix, is_present = yield from vectors.select(rows)
    return list(np.asarray(matrix[is_present], np.float32))
