"""The sparse leg of a ranked query: exact inner products, over the inverted lists of the query's dimensions.

Products are added up in float64, dimensions in ascending order, and rounded to float32 once, so that a score
does not depend on how rows are spread. A cold leg takes one round for the places of the dimensions and one
for their lists, of all parts together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from elacsym.format.reading import Steps, together
from elacsym.index.sparse import Sparse
from elacsym.query.ast import SparseLeg
from elacsym.query.columns import Bools
from elacsym.query.matching import Matches
from elacsym.query.ranking import Beside, PartRows, Ranking, cut, ranked
from elacsym.query.searchable import SearchSnapshot

_LARGEST = float(np.finfo(np.float32).max)


def sparse_nearest(
    snapshot: SearchSnapshot, leg: SparseLeg, matches: Matches, depth: int, beside: Beside | None = None
) -> Steps[Ranking]:
    """The `depth` rows among `matches` of the largest inner product, among those that share a dimension with
    the query and whose product is not 0. Weights of the query count up to the largest float32.

    Cost: one step per entry of the query's dimensions.
    """
    query = sorted(leg.vector, key=lambda entry: entry[0].encode())
    dimensions = [dimension for dimension, _ in query]
    # as large as stored ones can be, so that no product is infinite, nor a sum of them NaN
    weights = np.array([weight for _, weight in query], np.float64).clip(-_LARGEST, _LARGEST)
    numbers = [number for number, count in enumerate(matches.counts) if count]
    opened = yield from together([snapshot.parts[n].part.sparse(leg.attribute) for n in numbers])
    found = yield from together(
        [
            _products(number, vectors, dimensions, weights, matches.masks[number], depth)
            for number, vectors in zip(numbers, opened, strict=True)
        ]
    )

    def figures() -> dict[str, object]:
        return {
            "index": "inverted lists",
            "dimensions": len(dimensions),
            "rows_scored": sum(count for _, count in found),
        }

    rows = [part_rows for part_rows, _ in found]
    return (yield from ranked(snapshot, rows, depth, ascending=False, figures=figures, beside=beside))


def _products(
    number: int,
    vectors: Sparse,
    dimensions: list[str],
    weights: npt.NDArray[np.float64],
    mask: Bools,
    depth: int,
) -> Steps[tuple[PartRows, int]]:
    """The best rows of a part, and how many were scored."""
    postings = yield from vectors.postings(dimensions)
    kept = mask[postings.rows]
    rows, entry = np.unique(postings.rows[kept], return_inverse=True)
    products = weights[postings.places[kept]] * postings.weights[kept]
    # adds in the order of the entries, which is that of the dimensions
    sums = np.bincount(entry, products, minlength=len(rows))
    scores = sums.clip(-_LARGEST, _LARGEST).astype(np.float32)
    is_found = scores != 0
    return (number, *cut(scores[is_found], rows[is_found], depth, ascending=False)), len(rows)
