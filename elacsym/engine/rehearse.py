"""Before a new segment takes its place, this node looks at it the way queries are going to.

The first query that looks at a segment checks blocks, parses heads and packs codes: tens of milliseconds for
a large one, and round trips where the store is remote. A job that has made a segment does that first, in the
background, as far as queries looked at what the namespace has. Where nobody asks, nothing is done.
"""

from __future__ import annotations

import numpy as np

from elacsym.engine.namespace import Namespace
from elacsym.engine.segment import SegmentPart
from elacsym.engine.tuning import Vector
from elacsym.format.manifest import SegmentRef
from elacsym.query.ast import Query, VectorLeg
from elacsym.query.execute import execute
from elacsym.query.plan import Needs
from elacsym.query.searchable import PartView, SearchSnapshot
from elacsym.store.wrapper import keeps_files
from elacsym.types import Schema

# recent queries of each vector attribute that are asked of the new segment
QUERIES = 8
TOP_K = 10


async def rehearse(namespace: Namespace, ref: SegmentRef) -> None:
    """Have at hand what queries will look at in a segment that no manifest names yet.

    Raises ObjectMissing, CorruptObject, StoreUnavailable; no manifest may name the segment then.
    """
    # one of them may be dropped before the end
    schema, needs = namespace.view.schema, namespace.view.looked_at()
    if needs == Needs():
        return
    part = namespace.view.part(namespace.reader.manifest.inc, ref)
    await part.open(needs)
    if keeps_files(namespace.services.store):
        # written a moment ago, so in memory: all that it takes is checking
        await part.warm(needs)
    await _ask(namespace, part, needs, schema)


async def _ask(namespace: Namespace, part: SegmentPart, needs: Needs, schema: Schema) -> None:
    """Ask recent queries of the segment alone."""
    tuning, compute, inc = (
        namespace.services.tuning,
        namespace.services.compute.bulk,
        namespace.reader.manifest.inc,
    )
    alive = np.ones(part.rows, np.bool_)
    snapshot = SearchSnapshot(schema, [PartView(part, alive)], inc, 0, 0)
    for attribute in needs.vectors:
        dimensions = snapshot.schema.attributes[attribute].type.dimensions
        # others were asked of an attribute that was dropped, whose name was taken again
        recent = [vector for vector in tuning.recent(inc, attribute) if len(vector) == dimensions]
        for vector in recent[:QUERIES]:
            await execute(snapshot, _query(attribute, vector), compute, lambda name: tuning.effort(inc, name))


def _query(attribute: str, vector: Vector) -> Query:
    return Query(legs=(VectorLeg(attribute, vector),), top_k=TOP_K, include_attributes=("id",))
