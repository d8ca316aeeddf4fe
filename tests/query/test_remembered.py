import gc

import numpy as np
import pytest

from elacsym.query.matching import Masks, Matches
from elacsym.query.remembered import Budget, Remembered


def test_the_least_recently_used_goes_first_whoever_remembers_it():
    budget = Budget(10)
    first, second = Remembered(budget), Remembered(budget)
    first.put("a", 1, 4)
    second.put("a", 2, 4)
    assert first.get("a") == 1
    first.put("b", 3, 4)
    assert (first.get("a"), second.get("a"), first.get("b")) == (1, None, 3)
    assert budget.bytes == 8


def test_a_value_in_place_of_another_takes_the_room_of_one():
    budget = Budget(10)
    kept = Remembered(budget)
    for value in range(5):
        kept.put("a", value, 4)
    assert (kept.get("a"), len(kept), budget.bytes) == (4, 1, 4)


def test_the_newest_is_kept_whatever_its_size():
    budget = Budget(10)
    kept = Remembered(budget)
    kept.put("a", 1, 4)
    kept.put("b", 2, 40)
    assert (kept.get("a"), kept.get("b"), budget.bytes) == (None, 2, 40)
    kept.put("c", 3, 1)
    assert (kept.get("b"), kept.get("c"), budget.bytes) == (None, 3, 1)


def test_what_nobody_refers_to_makes_room():
    budget = Budget(10)
    kept, other = Remembered(budget), Remembered(budget)
    kept.put("a", 1, 4)
    other.put("a", 2, 3)
    del kept
    gc.collect()
    assert budget.bytes == 3 and other.get("a") == 2


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_masks_are_what_they_were_whether_few_or_many_rows_are_set(share):
    rng = np.random.default_rng(7)
    masks = [rng.random(rows) < share for rows in (0, 1, 1_000, 20_000)]
    counts = tuple(int(np.count_nonzero(mask)) for mask in masks)
    found = Matches(Masks(masks, counts), counts)
    assert len(found.masks) == 4 and len(found.masks[1:3]) == 2
    for number, mask in enumerate(masks):
        assert found.masks[number].tolist() == mask.tolist()
        assert found.rows(number).tolist() == Matches(masks, counts).rows(number).tolist()
        assert found.rows(number).tolist() == np.flatnonzero(mask).tolist()
    assert Masks(masks, counts).size_bytes <= sum(mask.size for mask in masks)
    assert share != 0.01 or Masks(masks, counts).size_bytes < 2_000
