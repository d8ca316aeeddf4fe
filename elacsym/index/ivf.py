"""The file `vector.<attr>.ivf`: lists of vectors that are near each other, their codes, the vectors.

Sections, see `format/blob.py`; a position numbers the vectors in the order of the lists:

    eager  offsets    (L + 1,) u32: list c has the positions offsets[c] to offsets[c + 1]
           centroids  (L, width) f4, points of `space`
           codebook   (M, 16, step) f4, see `codes`
           radii      (L,) f4, root mean square distances to the centroids
           reach      (REACH_NUMBERS,) f8, `probe.Reach`
           rows       (m,) u32, the row of each position; missing where row and position are the same
           codes      (m, (M + 1) // 2) u1; not eager where they are large: then fetched list by list
           records    (m, 8 + padded d components) u1: Euclidean norm f8, the vector as it was written

Below `cluster.ROWS_MIN` vectors there are only records and rows. A record has all that an exact distance
needs, so that candidates are one round of ranges, and vectors of one list are one range.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from elacsym.errors import CorruptObject
from elacsym.format import blob
from elacsym.format.reading import Source, Span, Steps, done
from elacsym.index.cluster import ROWS_MIN, Clustering, cluster
from elacsym.index.codes import ListCodes, Selection
from elacsym.index.distance import (
    Distances,
    Matrix,
    Norms,
    Queries,
    Query,
    Rows,
    best_first,
    nearest,
    nearest_each,
    scans_all,
)
from elacsym.index.ivf_arrays import NORM_BYTES, coded, record_array, record_bytes
from elacsym.index.probe import RANKS, REACH_NUMBERS, Lists, Reach
from elacsym.index.space import Points, Space
from elacsym.index.vector import Candidates, Effort, Mask, VectorColumn, scan_cost_us
from elacsym.types import Metric

KIND, VERSION = "vector", 1
EAGER_CODES_BYTES = 16 * 2**20
CANDIDATES_GAP_BYTES = 16 * 1024  # between candidates' vectors; they are spread, so gaps are mostly waste
MASKS_REMEMBERED = 8
# what proposing takes in any case, for a byte of code, and what the usual number of candidates do
PROPOSE_US, CODE_BYTE_US, RERANKED, VECTOR_BYTE_US = 80.0, 7.5e-5, 100, 2e-4
FILL_ROW_US = 0.1  # taking a code into the layout of FastScan


class _Inside(NamedTuple):
    """What a mask lets pass. counts: (L,) vectors by list."""

    counts: npt.NDArray[np.int64]
    matches: int
    selection: Selection


class VectorIndex:
    """The vectors of an opened file: `vector.Vectors`. Made by `opened`, or by `build` and `opened`."""

    def __init__(self, file: blob.Blob, space: Space, rows_total: int) -> None:
        self.rows_total, self.dimensions, self.space = rows_total, space.dimensions, space
        self._file = file
        self._records = _records(file, space.dimensions)
        self._width = int(self._records.shape[1])
        self._start = file.sections["records"].offset
        dtype = np.dtype(file.meta["dtype"])
        self.norms, self.matrix = _split(self._records, dtype, space.dimensions)
        self._rows = file.array("rows", "<u4", len(self)) if "rows" in file.sections else None
        if self._rows is not None and len(self) and int(self._rows.max()) >= rows_total:
            raise CorruptObject(file.key, "rows beyond the part", offset=file.sections["rows"].offset)
        self.has_codes = "codes" in file.sections
        self._masks: dict[int, tuple[weakref.ref[Mask], _Inside]] = {}
        self._lock = threading.Lock()
        if self.has_codes:
            self._open_codes()

    def _open_codes(self) -> None:
        file, width = self._file, self.space.width
        offsets = file.array("offsets", "<u4", None).astype(np.int64)
        if len(offsets) < 2 or offsets[0] or offsets[-1] != len(self) or (np.diff(offsets) <= 0).any():
            raise CorruptObject(
                file.key, "lists do not tile the vectors", offset=file.sections["offsets"].offset
            )
        parts = width // self.space.step
        codebook = file.array("codebook", "<f4", parts, 16, self.space.step)
        self._offsets = offsets
        self._lists = Lists(
            file.array("centroids", "<f4", len(offsets) - 1, width),
            file.array("radii", "<f4", len(offsets) - 1),
            np.diff(offsets),
            Reach.of_array(file.array("reach", "<f8", REACH_NUMBERS)),
        )
        self._code_bytes = file.array("codes", "u1", len(self), (parts + 1) // 2)
        self._codes = ListCodes(codebook, offsets)

    @classmethod
    def opened(cls, source: Source, rows_total: int) -> Steps[Self]:
        """The index in a file of a part with so many rows; heads and eager sections are at hand then.

        Raises CorruptObject. Cost: what is computed from rows and lists; codes are taken in when searched.
        """
        file = (yield from blob.Blob.opened(source)).expect(KIND, VERSION)
        if file.scalar("rows_total") != rows_total:
            raise CorruptObject(file.key, f"of {file.scalar('rows_total')} rows, not {rows_total}", offset=0)
        return cls(file, _space(file), rows_total)

    def __len__(self) -> int:
        """Vectors."""
        return len(self._records)

    @property
    def resident_bytes(self) -> int:
        """Memory it holds besides the file, once all lists were searched."""
        if not self.has_codes:
            return 0
        return self._codes.resident_bytes + 8 * int(self._offsets.nbytes) + MASKS_REMEMBERED * len(self) // 8

    @property
    def pending_us(self) -> float:
        """About how long taking in the codes takes that were not searched yet."""
        return FILL_ROW_US * self._codes.pending if self.has_codes else 0.0

    def scan(self, query: Query, k: int, metric: Metric, mask: Mask | None) -> Steps[tuple[Distances, Rows]]:
        """See Vectors."""
        chosen = None if mask is None else np.flatnonzero(self._here(mask))
        if scans_all(chosen, len(self)):
            yield from self._file.want_whole("records")
        else:
            assert chosen is not None
            yield from self._want(chosen, CANDIDATES_GAP_BYTES // self._width)
        distances, positions = nearest(self.matrix, self.norms, query, k, metric, chosen)
        return best_first(distances, self._rows_of(positions), metric)

    def propose(
        self, queries: Queries, depth: int, metric: Metric, mask: Mask | None, effort: Effort
    ) -> Steps[Candidates]:
        """See Vectors."""
        assert self.has_codes and metric is self.space.metric and depth > 0, (metric, depth)
        inside = None if mask is None else self._inside(mask)
        counts, matches, selection = (None, len(self), None) if inside is None else inside
        selection = selection if matches < len(self) else None
        wanted = min(depth, matches)
        if not wanted:
            return Candidates.none(len(queries))
        targets = self.space.targets(queries)
        choice = self._lists.chosen(targets.points, wanted, effort, counts, matches)
        lists = choice.lists
        squares, positions = yield from self._searched(targets.points, lists, wanted, selection)
        kth = squares[:, effort.k - 1] if wanted >= effort.k else np.full(len(queries), np.inf, np.float32)
        others = self._lists.further(choice, kth, effort)
        if others is not None:
            more = yield from self._searched(targets.points, others, wanted, selection)
            squares, positions = _merged((squares, positions), more, wanted)
            lists = np.concatenate((lists, others), axis=1)
        keys = targets.keys(squares)
        kth = _last(squares[:, : effort.k])
        slack = effort.scale * self._lists.reach.slack(kth) * targets.factors[:, 0]
        if positions[:, -1].min() < 0:
            for number, found in enumerate(positions):
                missing = int(np.count_nonzero(found < 0))
                if missing:
                    rest = self._rest(found[:-missing], lists[number], mask)
                    found[-missing:] = rest[:missing]
        return Candidates(positions, keys, slack, lambda number: self._lists.looked_at(lists[number]))

    def rerank(
        self, positions: Rows, counts: Sequence[int], queries: Queries, k: int, metric: Metric
    ) -> Steps[list[tuple[Distances, Rows]]]:
        """See Vectors."""
        yield from self._want(positions)
        # one pass over scattered memory brings norms and components
        norms, matrix = _split(self._records[positions], self.matrix.dtype, self.dimensions)
        found = nearest_each(matrix, norms, counts, queries, k, metric)
        starts = [0, *accumulate(counts)]
        return [
            (distances, self._rows_of(positions[places + start]))
            for start, (distances, places) in zip(starts, found, strict=False)
        ]

    def rows_at(self, positions: Rows) -> Steps[Rows]:
        """See Vectors."""
        return done(self._rows_of(positions))

    def select(self, rows: Rows) -> Steps[tuple[Matrix, Mask]]:
        """See Vectors."""
        if self._rows is None:
            positions = rows
            present = rows < len(self)
        else:
            places = np.full(self.rows_total, -1, np.int64)
            places[self._rows] = np.arange(len(self))
            positions = places[rows]
            present = positions >= 0
        yield from self._want(positions[present])
        matrix = np.zeros((len(rows), self.dimensions), self.matrix.dtype)
        matrix[present] = self.matrix[positions[present]]
        return matrix, present

    def whole(self) -> Steps[VectorColumn]:
        """See Vectors. Without a copy where positions are rows."""
        yield from self._file.want_whole("records")
        if self._rows is None:
            rows = None if len(self) == self.rows_total else np.arange(len(self))
            return VectorColumn(self.matrix, rows, self.rows_total, self.norms)
        order = np.argsort(self._rows)
        return VectorColumn(self.matrix[order], self._rows_of(order), self.rows_total, self.norms[order])

    def scan_cost_us(self, matches: int) -> float:
        """See Vectors."""
        return scan_cost_us(self.matrix, matches)

    def propose_cost_us(self, share: float) -> float:
        """See Vectors."""
        looked_at = self._lists.expected(RANKS[0] / share) if share > 0.0 else 0.0
        code_bytes = looked_at * int(self._code_bytes.shape[1])
        return PROPOSE_US + code_bytes * CODE_BYTE_US + RERANKED * self._width * VECTOR_BYTE_US

    def _searched(
        self, points: Points, lists: Rows, count: int, selection: Selection | None
    ) -> Steps[tuple[npt.NDArray[np.float32], Rows]]:
        if self._codes.pending:
            missing = self._codes.missing(np.unique(lists[lists >= 0]))
            if len(missing):
                yield from self._file.want(*self._code_spans(missing))
                self._codes.fill(missing, self._code_bytes)
        return self._codes.search(points, lists, count, selection)

    def _rows_of(self, positions: Rows) -> Rows:
        return positions if self._rows is None else self._rows[positions].astype(np.int64)

    def _here(self, mask: Mask) -> Mask:
        """(m,) bool: the mask by position."""
        return mask[: len(self)] if self._rows is None else mask[self._rows]

    def _inside(self, mask: Mask) -> _Inside:
        """What a mask lets pass, remembered if it cannot change."""
        remembered = self._masks.get(id(mask))
        if remembered is not None and remembered[0]() is mask:
            return remembered[1]
        here = self._here(mask)
        counts = np.add.reduceat(here.view(np.uint8), self._offsets[:-1], dtype=np.int64)
        inside = _Inside(counts, int(counts.sum()), Selection(here))
        if not mask.flags.writeable:
            with self._lock:
                while len(self._masks) >= MASKS_REMEMBERED:
                    del self._masks[next(iter(self._masks))]
                self._masks[id(mask)] = (weakref.ref(mask), inside)
        return inside

    def _want(self, positions: Rows, gap_rows: int = 0) -> Steps[None]:
        """Have the records at these positions at hand; runs of them are one span, as are gaps of gap_rows."""
        start, source = self._start, self._file.source
        if not len(positions) or source.has(start, start + len(self) * self._width):
            return
        if source.has_records(start + positions * self._width, self._width):
            return
        places = np.unique(positions)
        ends = np.flatnonzero(np.diff(places) > gap_rows + 1)
        first = places[np.concatenate(([0], ends + 1))]
        last = places[np.concatenate((ends, [len(places) - 1]))]
        spans = zip(
            (start + first * self._width).tolist(), (start + (last + 1) * self._width).tolist(), strict=True
        )
        yield from self._file.want(*spans, gap_bytes=CANDIDATES_GAP_BYTES)

    def _code_spans(self, lists: Rows) -> list[Span]:
        starts, stops = self._offsets[lists].tolist(), self._offsets[lists + 1].tolist()
        return [self._file.span("codes", start, stop) for start, stop in zip(starts, stops, strict=True)]

    def _rest(self, found: Rows, lists: Rows, mask: Mask | None) -> Rows:
        """Matching positions of lists without those found: their estimates saturate, so they are far."""
        is_rest = np.zeros(len(self), np.bool_)
        lists = lists[lists >= 0]
        for start, stop in zip(self._offsets[lists].tolist(), self._offsets[lists + 1].tolist(), strict=True):
            is_rest[start:stop] = True
        is_rest[found] = False
        return np.flatnonzero(is_rest if mask is None else is_rest & self._here(mask))


def build(
    matrix: Matrix,
    rows: Rows | None,
    rows_total: int,
    metric: Metric,
    clustering: Clustering | None = None,
) -> bytes:
    """The file of a matrix.

    matrix: (m, d), see `Matrix`; may be mapped. rows: (m,) int64 the row of each vector; None: vector i is of
    row i. clustering: of this matrix by `cluster`; None: it is clustered here. Cost: see `cluster`, and about
    m·d·32 operations for the codes; memory: the file, twice, and a few blocks.
    """
    assert len(matrix) <= rows_total < 2**32, (len(matrix), rows_total)
    count, dimensions = matrix.shape
    has_codes = count >= ROWS_MIN
    if clustering is None or not has_codes:
        clustering = cluster(matrix, metric)
    order = clustering.order
    sections: dict[str, npt.NDArray[Any]] = {}
    placed = order if rows is None else rows[order]
    if not np.array_equal(placed, np.arange(count)):
        sections["rows"] = placed.astype("<u4")
    eager = {"offsets", "centroids", "radii", "codebook", "reach", "rows"}
    if has_codes:
        sections |= coded(matrix, clustering)
        if sections["codes"].nbytes <= EAGER_CODES_BYTES:
            eager.add("codes")
    sections["records"] = record_array(matrix, order)
    space = clustering.space
    meta = {
        "kind": KIND,
        "version": VERSION,
        "rows_total": rows_total,
        "dimensions": dimensions,
        "dtype": matrix.dtype.newbyteorder("<").str,
        "metric": metric.value,
        "scale": space.scale,
        "bound": space.bound,
        "typical": space.typical,
    }
    return blob.encode(sections, meta, eager)


def _merged(
    first: tuple[npt.NDArray[np.float32], Rows], second: tuple[npt.NDArray[np.float32], Rows], count: int
) -> tuple[npt.NDArray[np.float32], Rows]:
    """For each query the `count` best of two searches of different lists."""
    squares = np.concatenate((first[0], second[0]), axis=1)
    positions = np.concatenate((first[1], second[1]), axis=1)
    order = np.argsort(squares, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(squares, order, 1), np.take_along_axis(positions, order, 1)


def _last(squares: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(B,) the last finite element of each ascending row, 0 where there is none."""
    last = squares[:, -1]
    if not np.isfinite(last).all():
        last = np.where(np.isfinite(squares), squares, 0.0).max(1)
    return last


def _records(file: blob.Blob, dimensions: int) -> npt.NDArray[np.uint8]:
    """The records as the file has them. Raises CorruptObject."""
    if file.meta.get("dtype") not in ("<f4", "<f2", "|i1"):
        raise CorruptObject(file.key, f"vectors of type {file.meta.get('dtype')!r}", offset=0)
    width = record_bytes(dimensions, np.dtype(file.meta["dtype"]))
    records: npt.NDArray[np.uint8] = file.array("records", "u1", None, width)
    return records


def _split(records: npt.NDArray[np.uint8], dtype: np.dtype[Any], dimensions: int) -> tuple[Norms, Matrix]:
    """Norms and vectors of records, as views."""
    vectors = records[:, NORM_BYTES : NORM_BYTES + dtype.itemsize * dimensions]
    return records[:, :NORM_BYTES].view("<f8")[:, 0], vectors.view(dtype)


def _space(file: blob.Blob) -> Space:
    """The space that the file's meta object describes. Raises CorruptObject."""
    try:
        return Space(
            Metric(file.meta["metric"]),
            file.scalar("dimensions"),
            *(float(file.meta[name]) for name in ("scale", "bound", "typical")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptObject(file.key, f"not the meta object of vectors: {error}", offset=0) from error
