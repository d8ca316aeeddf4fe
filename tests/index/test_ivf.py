import functools
import gc
import threading
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.errors import CorruptObject
from elacsym.format.blob import Blob
from elacsym.format.reading import MemorySource, resident
from elacsym.index import ivf
from elacsym.index.cluster import ROWS_MIN, cluster
from elacsym.index.distance import exact_distances, norms_of
from elacsym.index.ivf import VectorIndex, build
from elacsym.index.probe import LISTS_ALL
from elacsym.index.vector import Effort, VectorColumn
from elacsym.types import Metric
from tests.index.sources import HoleySource, driven
from tests.index.vector_sets import clustered, keys, queries, true_rows

metrics = st.sampled_from(Metric)
EVERYTHING = Effort(scale=1e6)


def opened(data, rows_total):
    return resident(VectorIndex.opened(MemorySource(data), rows_total))


@functools.cache
def sample(metric, rows=9_000, dimensions=40, dtype="f4"):
    """A matrix whose vectors belong to two rows of three, at random, and its file."""
    matrix = clustered(rows, dimensions, dtype=np.dtype(dtype))
    total = rows * 3 // 2
    row_of = np.random.default_rng(2).permutation(total)[:rows]
    return matrix, row_of, total, build(matrix, row_of, total, metric)


@functools.cache
def in_order(metric, rows=9_000, dimensions=40):
    """A matrix in the order of its clusters, and its file: position is row."""
    matrix = clustered(rows, dimensions)
    clustering = cluster(matrix, metric)
    matrix = matrix[clustering.order]
    return matrix, build(matrix, None, rows + 7, metric, clustering.applied())


@dataclass
class One:
    """The candidates of one query."""

    positions: np.ndarray
    keys: np.ndarray
    slack: float
    lists: int
    codes: int


def proposed_to(index, query, depth, metric, mask, effort):
    """What an index proposes for a single query."""
    found = yield from index.propose(query[None], depth, metric, mask, effort)
    return One(found.positions[0], found.keys[0], found.slack[0], *found.looked_at(0))


def reranked(index, positions, query, k, metric):
    """What re-ranking leaves of the positions of a single query."""
    (found,) = yield from index.rerank(positions, [len(positions)], query[None], k, metric)
    return found


def answer(index, query, k, metric, mask=None, effort=Effort(), depth=200):  # noqa: B008 - immutable
    """The best k rows among the candidates, as a query leg finds them."""
    candidates = resident(proposed_to(index, query, depth, metric, mask, effort))
    distances, rows = resident(reranked(index, candidates.positions, query, k, metric))
    order = np.lexsort((rows, -distances if metric is Metric.DOT else distances))[:k]
    return rows[order].tolist()


def recall(index, matrix, rows, metric, mask=None):
    found = wanted = 0
    for query in queries(matrix, 25):
        true = true_rows(matrix, rows, query, 10, metric, mask)
        found += len(set(answer(index, query, 10, metric, mask)) & set(true[:10]))
        wanted += min(10, len(true))
    return found / wanted


@pytest.mark.parametrize("dtype", ["f4", "f2", "i1"])
@pytest.mark.parametrize("metric", Metric)
def test_nearly_all_neighbours_are_among_the_candidates(metric, dtype):
    matrix, rows, total, data = sample(metric, dtype=dtype)
    index = opened(data, total)
    assert index.has_codes and len(index) == len(matrix) and index.dimensions == 40
    assert recall(index, matrix, rows, metric) >= 0.98


@pytest.mark.parametrize("rows", [3_000, 9_000])
@pytest.mark.parametrize("metric", Metric)
def test_slack_tells_how_few_candidates_hold_nearly_all_neighbours(metric, rows):
    matrix, row_of, total, data = sample(metric, rows=rows)
    index = opened(data, total)
    kept, found, best = 0, 0, 0
    for query in queries(matrix, 40):
        proposed = resident(proposed_to(index, query, 1_000, metric, None, Effort(k=10)))
        near = proposed.keys <= proposed.keys[9] + proposed.slack
        true = set(true_rows(matrix, row_of, query, 10, metric))
        all_rows = resident(index.rows_at(proposed.positions))
        found += len(true & set(all_rows[near].tolist()))
        best += len(true & set(all_rows.tolist()))
        kept += np.count_nonzero(near)
        wider = resident(proposed_to(index, query, 1_000, metric, None, Effort(k=10, scale=2.0)))
        assert wider.slack >= 1.9 * proposed.slack > 0
    assert found >= 0.99 * best
    assert kept < 40 * 250


@pytest.mark.parametrize("metric", Metric)
def test_filters_keep_recall_and_are_obeyed(metric):
    matrix, rows, total, data = sample(metric)
    index = opened(data, total)
    rng = np.random.default_rng(4)
    side = np.zeros(total, bool)
    side[rows] = matrix[:, 0].astype(float) > 1  # a region, and most queries are outside
    for mask in (rng.random(total) < 0.5, rng.random(total) < 0.02, side):
        assert recall(index, matrix, rows, metric, mask) >= 0.98
        for query in queries(matrix, 3, seed=6):
            positions = resident(proposed_to(index, query, 200, metric, mask, Effort())).positions
            found = resident(index.rows_at(positions))
            assert mask[found].all()
            assert len(set(found.tolist())) == len(found) == min(200, mask[rows].sum())


@settings(max_examples=40, deadline=None)
@given(
    metrics, st.integers(1, 9_500), st.sampled_from([0, 1, 3, 50, 5_000]), st.booleans(), st.integers(0, 99)
)
def test_there_are_as_many_candidates_as_asked_for_or_match(metric, depth, matching, clumped, seed):
    matrix, rows, total, data = sample(metric)
    index = opened(data, total)
    mask = np.zeros(total, bool)
    if clumped:  # those around one row
        mask[rows[np.argsort(keys(matrix, matrix[seed], metric))[:matching]]] = True
    else:
        mask[np.random.default_rng(seed).choice(total, matching, replace=False)] = True
    query = queries(matrix, 100)[seed]
    found = resident(proposed_to(index, query, depth, metric, mask, Effort()))
    assert len(found.positions) == min(depth, np.count_nonzero(mask[rows]))
    assert len(set(found.positions.tolist())) == len(found.positions)
    assert mask[resident(index.rows_at(found.positions))].all()
    assert (np.diff(found.keys) >= 0).all()
    whole = resident(proposed_to(index, query, depth, metric, None, Effort()))
    assert len(set(whole.positions.tolist())) == min(depth, 9_000)


@pytest.mark.parametrize("metric", Metric)
def test_keys_estimate_the_distance_on_one_scale_for_all_parts(metric):
    matrix, rows, total, data = sample(metric)
    parts = [
        (opened(data, total), rows),
        (opened(build(matrix[:1_500], None, 1_500, metric), 1_500), np.arange(1_500)),
        (opened(build(matrix[5_000:7_500], None, 2_500, metric), 2_500), np.arange(5_000, 7_500)),
    ]
    for query in queries(matrix, 5):
        true = keys(matrix, query, metric)
        spread = np.quantile(true, 0.9) - np.quantile(true, 0.1)
        errors = []
        for index, numbers in parts:
            place = np.argsort(numbers) if index is parts[0][0] else numbers
            found = resident(proposed_to(index, query, len(index) // 20, metric, None, EVERYTHING))
            within = resident(index.rows_at(found.positions))
            if index is parts[0][0]:
                within = np.searchsorted(np.sort(numbers), within)
            errors.append(float((found.keys - true[place[within]]).mean()))
        assert max(errors) - min(errors) < 0.1 * spread
        assert max(map(abs, errors)) < 0.25 * spread


def test_more_effort_looks_at_more_lists():
    matrix = np.random.default_rng(0).standard_normal((9_000, 8)).astype(np.float32)
    index = opened(build(matrix, None, 9_000, Metric.COSINE), 9_000)
    looked = [
        sum(
            resident(proposed_to(index, q, 50, Metric.COSINE, None, Effort(scale=scale))).lists
            for q in queries(matrix, 20)
        )
        for scale in (0.0, 0.5, 1.0, 1e6)
    ]
    assert looked == sorted(looked) and looked[0] < looked[1] < looked[2] < looked[3]
    everything = resident(proposed_to(index, matrix[0], 50, Metric.COSINE, None, EVERYTHING))
    assert (everything.lists, everything.codes) == (9_000 // 448, 9_000)
    assert len(index) // 448 > LISTS_ALL


@settings(max_examples=60, deadline=None)
@given(
    metrics,
    st.integers(1, 12),
    st.sampled_from(["f4", "f2", "i1"]),
    st.integers(1, 300),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_scan_is_a_full_scan_of_exact_distances(metric, k, dtype, count, masked, seed):
    rng = np.random.default_rng(seed)
    matrix = clustered(count, int(rng.integers(1, 20)), seed, np.dtype(dtype))
    matrix[rng.random(count) < 0.1] = 0
    total = count + int(rng.integers(0, 20))
    rows = rng.permutation(total)[:count]
    index = opened(build(matrix, rows, total, metric), total)
    assert not index.has_codes
    mask = rng.random(total) < rng.random() if masked else None
    query = matrix[0].astype(np.float32) if seed % 2 else queries(matrix, 1)[0]
    distances, found = resident(index.scan(query, k, metric, mask))
    assert found.tolist() == true_rows(matrix, rows, query, k, metric, mask)
    signed = -distances if metric is Metric.DOT else distances
    place = np.argsort(rows)[np.searchsorted(np.sort(rows), found)]
    assert np.array_equal(signed, keys(matrix, query, metric)[place])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["f4", "f2", "i1"]), st.booleans())
def test_vectors_come_back_as_they_were_written(seed, dtype, gaps):
    rng = np.random.default_rng(seed)
    count, d = int(rng.integers(1, 60)), int(rng.integers(1, 9))
    matrix = clustered(count, d, seed, np.dtype(dtype))
    total = count + 5 if gaps else count
    rows = rng.permutation(total)[:count] if gaps else np.arange(count)
    index = opened(build(matrix, rows, total, Metric.L2), total)
    whole = resident(index.whole())
    order = np.argsort(rows)
    assert whole.matrix.dtype == matrix.dtype and whole.rows_total == total
    assert np.array_equal(whole.matrix, matrix[order])
    assert whole.rows.tolist() == rows[order].tolist()
    assert np.array_equal(whole.norms, norms_of(matrix[order]))
    wanted = rng.integers(0, total, 10)
    column = VectorColumn.of(matrix[order], rows[order], total)
    for vectors in (index, column):
        selected, present = resident(vectors.select(wanted))
        assert present.tolist() == np.isin(wanted, rows).tolist()
        assert np.array_equal(selected[present], matrix[order][np.searchsorted(rows[order], wanted[present])])
        assert not selected[~present].any()


def test_the_order_of_the_segment_needs_no_row_numbers():
    matrix, data = in_order(Metric.L2)
    index = opened(data, 9_007)
    assert "rows" not in Blob.open(data, "x").sections
    query = queries(matrix, 1)[0]
    found = resident(proposed_to(index, query, 20, Metric.L2, None, EVERYTHING)).positions
    assert np.array_equal(resident(index.rows_at(found)), found)
    column = resident(index.whole())
    assert np.array_equal(column.rows, np.arange(9_000)) and np.array_equal(column.matrix, matrix)
    selected, present = resident(index.select(np.array([0, 8_999, 9_003])))
    assert present.tolist() == [True, True, False] and np.array_equal(selected[1], matrix[8_999])


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("eager", [True, False])
def test_nothing_is_looked_at_that_was_not_wanted(monkeypatch, ordered, eager):
    metric = Metric.COSINE
    if not eager:
        monkeypatch.setattr(ivf, "EAGER_CODES_BYTES", 1_000)
    matrix = clustered(9_000, 40)
    clustering = cluster(matrix, metric)
    rows = np.argsort(clustering.order) if ordered else np.random.default_rng(0).permutation(9_000)
    data = build(matrix, rows, 9_000, metric, clustering)
    near = opened(data, 9_000)
    mask = np.random.default_rng(1).random(9_000) < 0.6
    few = np.random.default_rng(2).random(9_000) < 0.002
    # little effort, so that only some lists are wanted
    calls = [
        lambda v, q: proposed_to(v, q, 60, metric, None, Effort(scale=0.3)),
        lambda v, q: proposed_to(v, q, 60, metric, mask, Effort(scale=0.3)),
        lambda v, q: reranked(v, np.array([8_000, 5, 6, 4_000]), q, 3, metric),
        lambda v, q: v.select(np.array([17, 18, 8_999])),
        lambda v, q: v.scan(q, 5, metric, few),
        lambda v, q: v.scan(q, 5, metric, mask),
        lambda v, q: v.whole(),
    ]
    rounds = []
    for call in calls:
        source = HoleySource(data)
        far = driven(VectorIndex.opened(source, 9_000))
        assert far.rounds == [source.eager_bytes]
        eager_bytes = source.brought_bytes
        for query in queries(matrix, 3):
            got = driven(call(far.value, query))
            assert len(got.rounds) <= 1
            assert _same(got.value, resident(call(near, query)))
        rounds.append((source.brought_bytes - eager_bytes) / len(data))
    proposing, filtered, measuring, selecting, gathering, scanning, reading = rounds
    if eager:
        assert proposing == filtered == 0
    else:
        assert 0 < proposing < 0.06 and 0 < filtered < 0.06
    assert measuring < 0.001 and selecting < 0.001
    assert gathering < 0.06 < 0.8 < scanning <= reading < 1


def _same(one, other):
    if isinstance(one, VectorColumn):
        return np.array_equal(one.matrix, other.matrix) and np.array_equal(one.norms, other.norms)
    pairs = zip(_arrays(one), _arrays(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def _arrays(value):
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, tuple):
        return list(value)
    return [value.positions, value.keys]


@pytest.mark.parametrize("dimensions", [1, 2, 3, 31, 33, 127, 129, 515])
@pytest.mark.parametrize("metric", Metric)
def test_any_number_of_dimensions_is_indexed(metric, dimensions):
    matrix = clustered(1_100, dimensions)
    index = opened(build(matrix, None, 1_100, metric), 1_100)
    for query in queries(matrix, 5):
        true = keys(matrix, query, metric)
        positions = resident(proposed_to(index, query, 200, metric, None, Effort())).positions
        found = resident(index.rows_at(positions))
        kth = np.partition(true, 9)[9]
        assert np.count_nonzero(true[found] <= kth) >= 9


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("scale", [1e-42, 1e-20, 1.0, 1e20, 1e37])
def test_huge_and_tiny_vectors_and_queries_are_searched_too(metric, scale):
    matrix = (clustered(6_000, 12).astype(np.float64) * scale).astype(np.float32)
    index = opened(build(matrix, None, 6_000, metric), 6_000)
    for query in queries(clustered(6_000, 12), 4):
        for size in (scale, 1e-30, 1e30):
            asked = (query.astype(np.float64) * size).astype(np.float32)
            found = resident(proposed_to(index, asked, 300, metric, None, Effort()))
            assert len(set(found.positions.tolist())) == 300
        if scale != 1e-42:  # few bits are left of a component of that size
            asked = (query.astype(np.float64) * scale).astype(np.float32)
            true = keys(matrix, asked, metric)
            positions = resident(proposed_to(index, asked, 300, metric, None, Effort())).positions
            rows = resident(index.rows_at(positions))
            assert np.count_nonzero(true[rows] <= np.partition(true, 9)[9]) >= 9


@pytest.mark.parametrize("metric", Metric)
def test_equal_and_zero_vectors_are_all_found(metric):
    matrix = np.zeros((7_000, 5), np.float32)
    matrix[3_000:] = [1, 2, 3, 4, 5]
    index = opened(build(matrix, None, 7_000, metric), 7_000)
    for query in (np.zeros(5, np.float32), matrix[-1], -matrix[-1]):
        found = resident(proposed_to(index, query, 6_500, metric, None, Effort()))
        assert len(set(found.positions.tolist())) == 6_500
        rows = resident(index.rows_at(found.positions))
        best = keys(matrix[[0, -1]], query, metric)
        if best[0] != best[1]:
            nearer = rows[:2_900] < 3_000
            assert nearer.all() if best[0] < best[1] else not nearer.any()


@pytest.mark.parametrize("metric", Metric)
def test_a_filter_that_lets_nothing_pass_finds_nothing(metric):
    matrix, _, total, data = sample(metric)
    index = opened(data, total)
    nothing = np.zeros(total, bool)
    assert not len(
        resident(proposed_to(index, matrix[0].astype("f4"), 10, metric, nothing, Effort())).positions
    )
    assert not len(resident(index.scan(matrix[0].astype("f4"), 10, metric, nothing))[1])


def test_only_masks_that_cannot_change_are_remembered_while_they_live():
    matrix, _, total, data = sample(Metric.L2)
    index = opened(data, total)
    mask = np.ones(total, bool)
    first = resident(proposed_to(index, matrix[0], 10, Metric.L2, mask, Effort())).positions
    mask[resident(index.rows_at(first))] = False
    assert not set(first.tolist()) & set(
        resident(proposed_to(index, matrix[0], 10, Metric.L2, mask, Effort())).positions.tolist()
    )
    for _ in range(30):
        mask = mask.copy()
        mask.flags.writeable = False
        again = [
            resident(proposed_to(index, matrix[0], 10, Metric.L2, mask, Effort())).positions for _ in "ab"
        ]
        assert np.array_equal(*again) and not set(first.tolist()) & set(again[0].tolist())
    gone = weakref.ref(mask)
    del mask
    gc.collect()
    assert gone() is None


def test_threads_that_search_while_lists_are_taken_in_find_the_same():
    matrix, _, total, data = sample(Metric.COSINE)
    asked = queries(matrix, 60)
    reference = opened(data, total)
    expected = [
        resident(proposed_to(reference, q, 50, Metric.COSINE, None, Effort(scale=0.3))) for q in asked
    ]
    index = opened(data, total)
    wrong = []

    def work(offset):
        for i in range(len(asked)):
            number = (i + offset) % len(asked)
            found = resident(proposed_to(index, asked[number], 50, Metric.COSINE, None, Effort(scale=0.3)))
            if not np.array_equal(found.positions, expected[number].positions):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(15 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("count", [30, 3_000])
@pytest.mark.parametrize("metric", Metric)
def test_a_rerank_is_the_nearest_of_the_positions_exactly(metric, count):
    matrix, rows, total, data = sample(Metric.L2, dtype="f2")
    index = opened(data, total)
    positions = np.random.default_rng(5).permutation(9_000)[:count]
    of_positions = resident(index.rows_at(positions))
    place = np.argsort(rows)[np.searchsorted(np.sort(rows), of_positions)]
    for query in queries(matrix, 3):
        true = exact_distances(matrix[place], norms_of(matrix[place]), query, metric)
        order = np.argsort(-true if metric is Metric.DOT else true, kind="stable")[:7]
        distances, found = resident(reranked(index, positions, query, 7, metric))
        assert dict(zip(found.tolist(), distances.tolist(), strict=True)) == dict(
            zip(of_positions[order].tolist(), true[order].tolist(), strict=True)
        )
        assert len(resident(reranked(index, positions, query, count + 1, metric))[0]) == count


def test_a_rerank_finds_all_that_tie_and_may_have_nothing_to_do():
    matrix = np.repeat(np.arange(2_000, dtype="f4")[:, None], 3, axis=1)
    matrix[100:1_100] = 5
    index = opened(build(matrix, None, 2_000, Metric.L2), 2_000)
    distances, rows = resident(reranked(index, np.arange(2_000), matrix[5], 1, Metric.L2))
    assert not distances.any()
    assert sorted(rows.tolist()) == [5, *range(100, 1_100)]
    assert not len(resident(reranked(index, np.empty(0, np.int64), matrix[5], 1, Metric.L2))[1])


def test_building_twice_gives_the_same_file():
    matrix = clustered(3_000, 24)
    assert build(matrix, None, 3_000, Metric.DOT) == build(matrix.copy(), None, 3_000, Metric.DOT)


def test_few_vectors_have_no_codes_and_an_empty_file_is_fine():
    matrix = clustered(ROWS_MIN - 1, 3)
    assert not opened(build(matrix, None, ROWS_MIN, Metric.L2), ROWS_MIN).has_codes
    empty = opened(build(matrix[:0], np.empty(0, np.int64), 4, Metric.COSINE), 4)
    assert len(empty) == 0 and not len(resident(empty.scan(matrix[0], 3, Metric.COSINE, None))[1])
    assert not resident(empty.select(np.array([2])))[1].any()


@pytest.mark.parametrize("rows", [50, 1_100])
def test_every_flipped_bit_and_every_missing_end_is_reported(rows):
    good = build(clustered(rows, 3), np.random.default_rng(0).permutation(rows), rows, Metric.COSINE)
    rng = np.random.default_rng(1)
    for place in sorted({*range(0, min(len(good), 3_000), 7), *rng.integers(0, len(good), 300).tolist()}):
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(CorruptObject) as caught:
            Blob.open(memoryview(bad), "s/vector.a.ivf").verify()
        assert caught.value.key == "s/vector.a.ivf" and caught.value.offset is not None
    for end in sorted({0, 1, len(good) - 1, *rng.integers(0, len(good), 100).tolist()}):
        with pytest.raises(CorruptObject):
            resident(VectorIndex.opened(MemorySource(good[:end]), rows))


def test_a_file_of_other_contents_is_refused():
    good = build(clustered(1_100, 3), None, 1_100, Metric.COSINE)
    with pytest.raises(CorruptObject):
        opened(good, 1_101)
    file = Blob.open(good, "x")
    arrays = {
        name: np.frombuffer(good, section.dtype, offset=section.offset, count=int(np.prod(section.shape)))
        .reshape(section.shape)
        .copy()
        for name, section in file.sections.items()
    }

    def changed(meta=(), **sections):
        body = {n: a for n, a in (arrays | sections).items() if a is not None}
        return ivf.blob.encode(body, {**file.meta, **dict(meta)}, {"offsets"})

    assert len(opened(changed(), 1_100)) == 1_100
    for bad in (
        changed({"kind": "text"}),
        changed({"metric": "hamming"}),
        changed({"scale": None}),
        changed({"dimensions": 4}),
        changed({"dtype": "<f8"}),
        changed(offsets=arrays["offsets"][::-1].copy()),
        changed(offsets=arrays["offsets"] + 1),
        changed(codebook=None),
        changed(reach=np.zeros(2)),
        changed(codes=arrays["codes"][:, :-1].copy()),
        changed(rows=np.full(1_100, 2_000, "<u4")),
    ):
        with pytest.raises(CorruptObject):
            opened(bad, 1_100)


@pytest.mark.parametrize("share", [None, 0.5, 0.02])
@pytest.mark.parametrize("metric", Metric)
def test_several_queries_at_once_find_what_each_of_them_finds(metric, share):
    matrix, _, total, data = sample(metric)
    index = opened(data, total)
    mask = None if share is None else np.random.default_rng(3).random(total) < share
    asked = np.stack([*queries(matrix, 7), np.zeros(matrix.shape[1])]).astype(np.float32)
    effort = Effort(scale=0.4)
    together = resident(index.propose(asked, 60, metric, mask, effort))
    for number, query in enumerate(asked):
        alone = resident(proposed_to(index, query, 60, metric, mask, effort))
        assert np.array_equal(together.positions[number], alone.positions)
        assert np.array_equal(together.keys[number], alone.keys)
        assert together.slack[number] == alone.slack
        assert together.looked_at(number) == (alone.lists, alone.codes)
    counts = [60, 0, 3, 60, 10, 60, 1, 20]
    chosen = [together.positions[number, :count] for number, count in enumerate(counts)]
    found = resident(index.rerank(np.concatenate(chosen), counts, asked, 5, metric))
    for query, positions, (distances, rows) in zip(asked, chosen, found, strict=True):
        if len(positions):
            expected, expected_rows = resident(reranked(index, positions, query, 5, metric))
            order, expected_order = np.argsort(rows), np.argsort(expected_rows)
            assert np.array_equal(rows[order], expected_rows[expected_order])
            assert np.array_equal(distances[order], expected[expected_order])
        else:
            assert not len(rows)


@pytest.mark.parametrize("metric", [Metric.L2, Metric.DOT])
def test_rows_whose_codes_all_stand_for_one_point_are_proposed(metric):
    matrix = np.zeros((3_000, 16), np.float32)
    index = opened(build(matrix, None, 3_000, metric), 3_000)
    asked = queries(clustered(100, 16), 3).astype(np.float32)
    found = resident(index.propose(asked, 20, metric, None, Effort()))
    expected = np.vecdot(asked, asked) if metric is Metric.L2 else np.zeros(3)
    assert np.allclose(found.keys, expected[:, None], rtol=1e-3, atol=1e-3)
    assert (found.positions >= 0).all()
