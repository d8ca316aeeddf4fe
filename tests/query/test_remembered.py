import gc
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

from elacsym.query import matching
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


def test_what_an_owner_lets_go_of_is_forgotten_a_piece_at_a_time_before_what_others_remember():
    budget = Budget(10_000)
    kept, other = Remembered(budget), Remembered(budget)
    other.put("a", 1, 10)
    for key in range(9_000):
        kept.put(key, key, 1)
    del kept
    gc.collect()
    after = [budget.bytes]
    for key in range(20):
        other.put(key, key, 100)
        after.append(budget.bytes)
    assert after[0] > 8_000
    assert max(a - b for a, b in pairwise([9_010, *after])) <= 2 * 512
    assert budget.bytes == 2_010 and len(other) == 21


def test_an_owner_may_end_while_a_value_is_added():
    """As when the collector of garbage runs in the thread that holds the lock."""
    budget = Budget(10)
    kept = Remembered(budget)
    doomed = [Remembered(budget)]
    doomed[0].put("a", 1, 1)

    class Ends:
        def __hash__(self) -> int:
            doomed.clear()
            return 1

    ending = threading.Thread(target=lambda: kept.put(Ends(), 1, 4), daemon=True)
    ending.start()
    ending.join(20)
    assert not ending.is_alive() and budget.bytes == 4


@pytest.fixture
def many_switches():
    """Threads switch as often as they can."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("many_switches")
def test_threads_that_read_write_and_let_go_lose_nothing_and_count_right():
    budget = Budget(1_000)
    shared, raised = Remembered(budget), []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            for key in range(20):
                value = shared.get(key)
                assert value in (None, key)

    def write() -> None:
        own = Remembered(budget)
        for turn in range(8_000):
            shared.put(turn % 20, turn % 20, 60)
            own.put(turn % 7, turn, 30)
            if not turn % 50:
                own = Remembered(budget)

    def guarded(work) -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    readers, writers = (
        [threading.Thread(target=guarded, args=(work,)) for _ in "ab"] for work in (read, write)
    )
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    is_over.set()
    for thread in readers:
        thread.join()
    assert not raised
    gc.collect()
    shared.put("last", "last", 60)
    assert budget.bytes == 60 * len(shared) <= 1_000


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


def test_a_mask_of_few_rows_is_the_same_at_every_look_while_there_is_room(monkeypatch):
    budget = Budget(6_000)
    monkeypatch.setattr(matching, "_MADE", budget)
    few = np.arange(2_000) == 7
    masks = Masks([few, few, few, few], [1] * 4)
    first = masks[0]
    assert masks[0] is first and not first.flags.writeable
    assert masks[1:3][0] is not masks[1:3][0]
    for number in (1, 2, 3):
        assert masks[number].tolist() == few.tolist()
    assert masks[0] is not first and masks[0].tolist() == few.tolist()
    assert 0 < budget.bytes <= 6_000
    del masks
    gc.collect()
    assert budget.bytes == 0
