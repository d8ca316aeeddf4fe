import numpy as np
import pytest

from elacsym.index import codes
from elacsym.index.codes import ListCodes, Selection, encode, train
from tests.index.vector_sets import clustered


def estimates(codebook, found, point):
    """(n,) squared distances to what the codes stand for, by their definition."""
    parts, _, step = codebook.shape
    halves = np.stack([found & 15, found >> 4], axis=-1).reshape(len(found), -1)[:, :parts]
    decoded = codebook[np.arange(parts), halves].reshape(len(found), parts * step)
    return ((decoded - point) ** 2).sum(1)


@pytest.mark.parametrize(("width", "step"), [(1, 1), (3, 1), (6, 2), (34, 2), (132, 4)])
def test_a_search_ranks_by_the_distance_to_what_codes_stand_for(width, step):
    points = clustered(2_000, width)
    codebook = train(points, step)
    assert codebook.shape == (width // step, 16, step)
    found = encode(codebook, points)
    assert found.shape == (2_000, (width // step + 1) // 2)
    offsets = np.array([0, 1, 33, 700, 2_000])
    lookup = ListCodes(codebook, offsets)
    lists = np.array([3, 1])
    assert lookup.missing(lists).tolist() == [3, 1]
    lookup.fill(lists, found)
    assert not len(lookup.missing(lists)) and lookup.missing(np.arange(4)).tolist() == [0, 2]
    here = np.random.default_rng(0).random(2_000) < 0.3
    for selection, allowed in ((None, np.ones(2_000, bool)), (Selection(here), here)):
        point = points[5] + np.float32(0.1)
        found_squares, found_positions = lookup.search(point[None], lists[None], 50, selection)
        squares, positions = found_squares[0], found_positions[0]
        true = estimates(codebook, found, point)
        inside = np.zeros(2_000, bool)
        inside[1:33] = inside[700:] = True
        inside &= allowed
        assert inside[positions].all() and (np.diff(squares) >= 0).all()
        # tables are rounded to 8 bits a part
        slack = true.max() / 100
        assert np.abs(squares - true[positions]).max() <= slack
        assert true[positions].max() <= np.sort(true[inside])[len(positions) - 1] + slack


def test_codes_of_another_layout_are_refused(monkeypatch):
    monkeypatch.setattr(codes, "_layout_checked", False)
    monkeypatch.setattr(codes, "_PLACES", np.arange(16))
    with pytest.raises(RuntimeError, match="lays out codes"):
        ListCodes(np.zeros((2, 16, 1), np.float32), np.array([0, 5]))
