"""Vectors as 4-bit product-quantised codes, and FastScan over them.

Jégou et al., "Product quantization for nearest neighbor search" (2011); André et al., "Quicker ADC" (2019).
A point is cut into parts of a few components; each part is replaced by the nearest of 16 centroids of its
own. A query computes its distance to all centroids once, and the distance to a row is the sum of table
entries, looked up in registers for 32 rows at a time.

The code of a row in a file is (M + 1) // 2 bytes for M parts: part 2i in the low half of byte i, part 2i + 1
in the high half.
"""

from __future__ import annotations

import threading
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from elacsym.index.cluster import keep_to_one_thread
from elacsym.index.space import Points

CENTROIDS = 16  # of a part: 4 bits
TRAINING_ROWS = 4_096  # more, or more iterations, found no more neighbours
ITERATIONS = 10
BLOCK_CODES = 32  # rows that FastScan looks up at once
HEAPLESS = 11  # of faiss: one query at a time, the best so far in a reservoir; less work for each list

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# how FastScan interleaves a block: half-byte j of the first 16 bytes is row _PLACES[j]
_PLACES = np.array([0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15])


def train(sample: Points, step: int) -> npt.NDArray[np.float32]:
    """The centroids of every part, (width / step, 16, step) float32, by k-means over a sample of points."""
    quantizer = _quantizer(sample.shape[1], step)
    quantizer.cp.niter = ITERATIONS
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(sample)
    return _codebook(quantizer)


def encode(codebook: npt.NDArray[np.float32], points: Points) -> Bytes:
    """(n, (M + 1) // 2) uint8: the codes of points."""
    parts, _, step = codebook.shape
    quantizer = _quantizer(parts * step, step)
    faiss.copy_array_to_vector(codebook.reshape(-1), quantizer.centroids)
    codes: Bytes = quantizer.compute_codes(np.ascontiguousarray(points))
    return codes


def _quantizer(width: int, step: int) -> Any:
    keep_to_one_thread()
    return faiss.ProductQuantizer(width, width // step, 4)


def _codebook(quantizer: Any) -> npt.NDArray[np.float32]:
    flat: npt.NDArray[np.float32] = faiss.vector_to_array(quantizer.centroids)
    return flat.reshape(quantizer.M, CENTROIDS, quantizer.dsub)


def _index(coarse: Any, codebook: npt.NDArray[np.float32], lists: int) -> Any:
    """An empty index over lists whose codes are of the points themselves, not of what centroids leave."""
    parts, _, step = codebook.shape
    index: Any = faiss.IndexIVFPQFastScan(coarse, parts * step, lists, parts, 4, faiss.METRIC_L2)
    index.by_residual, index.is_trained = False, True
    index.implem = HEAPLESS
    faiss.copy_array_to_vector(codebook.reshape(-1), index.pq.centroids)
    return index


class Selection:
    """Positions that a search may find. here: (n,) bool."""

    __slots__ = ("_bits", "selector")

    def __init__(self, here: npt.NDArray[np.bool_]) -> None:
        self._bits = np.packbits(here, bitorder="little")  # faiss only points to it
        self.selector = faiss.IDSelectorBitmap(len(here), faiss.swig_ptr(self._bits))


class ListCodes:
    """The codes of lists in the layout of FastScan, filled list by list; safe in any thread.

    codebook: of `train`. offsets: (L + 1,) int64, list c has the positions offsets[c] to offsets[c + 1].
    resident_bytes: memory it holds once all lists are filled. pending: rows of lists that are not filled.
    """

    def __init__(self, codebook: npt.NDArray[np.float32], offsets: Ints) -> None:
        _check_layout()
        parts, _, step = codebook.shape
        lists = len(offsets) - 1
        self._offsets = offsets
        self._first = codebook[:, 0].reshape(-1)
        self._is_filled = np.zeros(lists, np.bool_)
        self.pending = int(offsets[-1])
        self._lock = threading.Lock()
        blocks = int((-(-np.diff(offsets) // BLOCK_CODES)).sum())
        self.resident_bytes: int = (
            blocks * BLOCK_CODES * ((parts + 1) // 2) + 8 * int(offsets[-1]) + codebook.nbytes
        )
        # distances do not depend on the list, so the coarse quantizer is never asked
        self._coarse = faiss.IndexFlatL2(parts * step)
        self._index = _index(self._coarse, codebook, lists)
        self._index.ntotal = int(offsets[-1])
        self._lists = faiss.downcast_InvertedLists(self._index.invlists)

    def missing(self, lists: Ints) -> Ints:
        """Those of these lists that were not filled."""
        return lists[~self._is_filled[lists]]

    def fill(self, lists: Ints, codes: Bytes) -> None:
        """Take in lists. codes: (n, (M + 1) // 2) of all positions; read where the lists are.

        Other threads may search other lists meanwhile. Cost: about 0.1 µs a row.
        """
        with self._lock:
            for number in self.missing(lists).tolist():
                start, stop = int(self._offsets[number]), int(self._offsets[number + 1])
                packed, ids = _packed(codes[start:stop]), np.arange(start, stop)
                self._lists.resize(number, stop - start)
                faiss.memcpy(self._lists.get_codes(number), faiss.swig_ptr(packed), packed.nbytes)
                faiss.memcpy(self._lists.get_ids(number), faiss.swig_ptr(ids), ids.nbytes)
                self._is_filled[number] = True
                self.pending -= stop - start

    def search(
        self, points: Points, lists: Ints, count: int, selection: Selection | None
    ) -> tuple[npt.NDArray[np.float32], Ints]:
        """The `count` nearest of filled lists to each of B points: (B, count) estimated squared distances
        ascending, and positions.

        points: (B, width). lists: (B, m) for each point, -1 for none; nearest first is fastest. May find less
        than there is, because sums that saturate are dropped: then infinite, and -1.
        """
        keep_to_one_thread()
        squares = np.empty((len(points), count), np.float32)
        positions = np.empty((len(points), count), np.int64)
        none = np.zeros(lists.shape, np.float32)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = lists.shape[1]
        if selection is not None:
            parameters.sel = selection.selector
        self._index.search_preassigned_c(
            len(points),
            faiss.swig_ptr(points),
            count,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(none),
            faiss.swig_ptr(squares),
            faiss.swig_ptr(positions),
            False,
            parameters,
        )
        if positions[:, -1].min() < 0:
            squares[positions < 0] = np.inf
        if np.isnan(squares[:, 0]).any():
            self._settle_equal(points, squares)
        return squares, positions

    def _settle_equal(self, points: Points, squares: npt.NDArray[np.float32]) -> None:
        """Where all codes stand for one point, FastScan divides by the range of its tables, which is 0."""
        away = points - self._first
        np.copyto(squares, np.vecdot(away, away)[:, None], where=np.isnan(squares))


def _packed(codes: Bytes) -> Bytes:
    """Codes in the layout of FastScan: (blocks, bytes) uint8.

    A block has 32 rows, missing ones 0; of every byte of a code 32 bytes: the low halves of all rows, 16
    bytes of which byte j has row _PLACES[j] in its low half and that row + 16 in its high one, then the high
    halves likewise.
    """
    count, width = codes.shape
    blocks = -(-count // BLOCK_CODES)
    padded = np.zeros((blocks * BLOCK_CODES, width), np.uint8)
    padded[:count] = codes
    columns = padded.reshape(blocks, 2, 16, width)[:, :, _PLACES].transpose(0, 1, 3, 2)
    packed = np.empty((blocks, width, 2, 16), np.uint8)
    packed[:, :, 0] = (columns[:, 0] & 15) | (columns[:, 1] << 4)
    packed[:, :, 1] = (columns[:, 0] >> 4) | (columns[:, 1] & 0xF0)
    return packed.reshape(blocks, -1)


_layout_checked = False


def _check_layout() -> None:
    """Compare `_packed` with what faiss packs, once: another layout would find wrong rows silently."""
    global _layout_checked
    if _layout_checked:
        return
    keep_to_one_thread()
    points = np.random.default_rng(1).random((40, 6), np.float32)
    coarse = faiss.IndexFlatL2(6)
    coarse.add(points[:1])
    codebook = np.linspace(0, 1, 6 * CENTROIDS, dtype=np.float32).reshape(CENTROIDS, 6).T[:, :, None].copy()
    index = _index(coarse, codebook, 1)
    index.add(points)
    ours = _packed(encode(codebook, points)).reshape(-1)
    theirs = faiss.rev_swig_ptr(faiss.downcast_InvertedLists(index.invlists).get_codes(0), len(ours))
    if not np.array_equal(ours, theirs):
        raise RuntimeError(f"faiss {faiss.__version__} lays out codes in a way unknown here")
    _layout_checked = True
