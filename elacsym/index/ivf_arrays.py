"""What is computed for a file of vectors: codes, what the stop rule needs, and records. See `ivf`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from elacsym.index.cluster import Clustering, sampled, spaced
from elacsym.index.codes import TRAINING_ROWS, ListCodes, encode, train
from elacsym.index.distance import Matrix, Rows, norms_of
from elacsym.index.probe import LISTS_ALL, RANKS, Reach, blur_of, squared_distances
from elacsym.index.space import BLOCK_ROWS

NORM_BYTES = 8
SAMPLE_QUERIES = 256
BLUR_QUERIES, BLUR_CANDIDATES = 128, 256  # fewer candidates are re-ranked for the first 10


def coded(matrix: Matrix, clustering: Clustering) -> dict[str, npt.NDArray[Any]]:
    """The sections that `VectorIndex.propose` reads. Cost: about m·d·32 operations and SAMPLE_QUERIES
    searches."""
    space, order, offsets = clustering.space, clustering.order, clustering.offsets
    centroids, sizes = clustering.centroids, np.diff(clustering.offsets)
    codebook = train(sampled(matrix, space, TRAINING_ROWS), space.step)
    codes = np.empty((len(matrix), (len(codebook) + 1) // 2), np.uint8)
    squares = np.empty(len(matrix), np.float32)
    lists = np.repeat(np.arange(len(sizes)), sizes)
    for start in range(0, len(matrix), BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        points = space.points(matrix[order[part]])
        codes[part] = encode(codebook, points)
        points -= centroids[lists[part]]
        squares[part] = np.vecdot(points, points)
    radii = np.sqrt(np.add.reduceat(squares, offsets[:-1], dtype=np.float64) / sizes).astype(np.float32)
    return {
        "offsets": offsets.astype("<u4"),
        "centroids": centroids,
        "radii": radii,
        "codebook": codebook,
        "reach": _fitted(matrix, clustering, radii, codebook, codes).array(),
        "codes": codes,
    }


def _fitted(
    matrix: Matrix,
    clustering: Clustering,
    radii: npt.NDArray[np.float32],
    codebook: npt.NDArray[np.float32],
    codes: npt.NDArray[np.uint8],
) -> Reach:
    """The reach that sampled rows need as queries. Their neighbours are taken by the codes, whose mistakes
    lie further away: a little more than needed."""
    order, offsets, centroids = clustering.order, clustering.offsets, clustering.centroids
    lists = np.arange(len(centroids))
    lookup = ListCodes(codebook, offsets)
    lookup.fill(lists, codes)
    blur = blur_of(_sampled_candidates(matrix, clustering, lookup))
    if len(lists) <= LISTS_ALL:
        return Reach.unlimited(blur)
    depth = min(RANKS[-1] + 1, len(matrix))
    queries = spaced(len(matrix), SAMPLE_QUERIES)
    neighbours = np.full((len(queries), depth), -1, np.int64)
    estimates = np.full((len(queries), depth), np.inf, np.float32)
    points = clustering.space.targets(matrix[order[queries]].astype(np.float32)).points
    for number, position in enumerate(queries.tolist()):
        squares, found = _nearest(lookup, points[number], lists, depth)
        is_other = found != position
        count = np.count_nonzero(is_other)
        neighbours[number, :count] = np.searchsorted(offsets, found[is_other], "right") - 1
        estimates[number, :count] = squares[is_other]
    to_centroids = squared_distances(centroids, np.vecdot(centroids, centroids), points)
    return Reach.fitted(to_centroids, radii, neighbours, estimates, blur)


def _sampled_candidates(
    matrix: Matrix, clustering: Clustering, lookup: ListCodes
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """For sampled rows as queries: their candidates' estimated squared distances, and the true ones."""
    order, space = clustering.order, clustering.space
    lists = np.arange(len(clustering.centroids))
    positions = spaced(len(matrix), BLUR_QUERIES)
    targets = space.targets(matrix[order[positions]].astype(np.float32)).points
    for position, point in zip(positions.tolist(), targets, strict=True):
        count = min(BLUR_CANDIDATES, len(matrix))
        estimates, found = _nearest(lookup, point, lists, count)
        is_other = found != position
        points = space.points(matrix[order[found[is_other]]])
        points -= point
        yield estimates[is_other], np.vecdot(points, points)


def _nearest(
    lookup: ListCodes, point: npt.NDArray[np.float32], lists: Rows, count: int
) -> tuple[npt.NDArray[np.float32], Rows]:
    """What the codes find for one point, at most `count`: estimated squared distances, and positions."""
    squares, found = lookup.search(point[None], lists[None], count, None)
    is_found = found[0] >= 0
    return squares[0, is_found], found[0, is_found]


def record_array(matrix: Matrix, order: Rows) -> npt.NDArray[np.uint8]:
    """(m, bytes) uint8: norm and vector of each position."""
    count, dimensions = matrix.shape
    length = dimensions * matrix.dtype.itemsize
    records = np.zeros((count, record_bytes(dimensions, matrix.dtype)), np.uint8)
    norms, vectors = records[:, :NORM_BYTES].view("<f8"), records[:, NORM_BYTES : NORM_BYTES + length]
    for start in range(0, count, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        block = np.ascontiguousarray(matrix[order[part]], matrix.dtype.newbyteorder("<"))
        norms[part, 0] = norms_of(block)
        vectors[part] = block.view(np.uint8)
    return records


def record_bytes(dimensions: int, dtype: np.dtype[Any]) -> int:
    """The size of a record: norm and vector, aligned for the next norm."""
    return NORM_BYTES + -(-dimensions * dtype.itemsize // 8) * 8
