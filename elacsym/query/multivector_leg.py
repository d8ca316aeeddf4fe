"""The leg of several query vectors on an attribute of several vectors a row: exact late interaction.

The score of a row is the sum, over the query's vectors, of the best distance to one of the row's vectors
(MaxSim of Khattab and Zaharia, ColBERT, 2020, with distances in the place of similarities). Distances are
those of `elacsym.index.distance`, float32 each; they are added up in float64 and rounded to float32 once.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from elacsym.format.reading import Steps, together
from elacsym.index.distance import exact_distances, norms_of, within_f32
from elacsym.query.ast import MultiVectorLeg
from elacsym.query.columns import Bools
from elacsym.query.matching import Matches
from elacsym.query.ranking import Beside, PartRows, Ranking, cut, ranked
from elacsym.query.searchable import Part, SearchSnapshot
from elacsym.types import Metric

_LARGEST = float(np.finfo(np.float32).max)


def multivector_nearest(
    snapshot: SearchSnapshot, leg: MultiVectorLeg, matches: Matches, depth: int, beside: Beside | None = None
) -> Steps[Ranking]:
    """The `depth` nearest rows among `matches`, without those that have no vectors. Cost: every distance
    between a vector of the query and one of a matching row."""
    metric = snapshot.schema.metric
    assert metric is not None, "a namespace with vectors has a metric"
    numbers = [number for number, count in enumerate(matches.counts) if count]
    found = yield from together(
        [
            _nearest_of_part(number, snapshot.parts[number].part, leg, matches.masks[number], depth, metric)
            for number in numbers
        ]
    )

    def figures() -> dict[str, object]:
        return {"index": "vectors", "rows_scored": sum(count for _, count in found)}

    rows = [part_rows for part_rows, _ in found]
    ascending = metric is not Metric.DOT
    return (yield from ranked(snapshot, rows, depth, ascending=ascending, figures=figures, beside=beside))


def _nearest_of_part(
    number: int, part: Part, leg: MultiVectorLeg, mask: Bools, depth: int, metric: Metric
) -> Steps[tuple[PartRows, int]]:
    """The best rows of a part, and how many were scored."""
    values = yield from part.attribute(leg.attribute)
    rows = np.flatnonzero(mask)
    array = yield from (values.column() if len(rows) == len(mask) else values.select(rows))
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    is_filled = lengths > 0
    rows, lengths = rows[is_filled], lengths[is_filled]
    if not len(rows):
        return (number, np.empty(0, np.float32), rows), 0
    dimensions = leg.vectors.shape[1]
    matrix = array.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, dimensions)
    norms, starts = norms_of(matrix), np.cumsum(lengths) - lengths
    best = np.maximum if metric is Metric.DOT else np.minimum
    sums = np.zeros(len(rows))
    for vector in leg.vectors:
        # two infinities of opposite signs would have no sum
        distances = within_f32(exact_distances(matrix, norms, vector, metric))
        sums += best.reduceat(distances, starts)
    scores = sums.clip(-_LARGEST, _LARGEST).astype(np.float32)
    return (number, *cut(scores, rows, depth, ascending=metric is not Metric.DOT)), len(rows)
