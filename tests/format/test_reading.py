from __future__ import annotations

import pytest

from elacsym.format.reading import (
    GAP_BYTES,
    MemorySource,
    Want,
    both,
    done,
    ensure,
    folded,
    resident,
    together,
)


class PartialSource:
    """A file of 100 bytes of which `there` is at hand."""

    key = "seg/partial"
    size_bytes = eager_bytes = 100
    data = memoryview(bytes(100))

    def __init__(self, *there: tuple[int, int]) -> None:
        self.there = list(there)

    def has(self, start: int, stop: int) -> bool:
        return any(first <= start and stop <= last for first, last in self.there)

    async def bring(self, spans, gap_bytes) -> None:
        self.there += spans


def rounds_of(steps) -> tuple[list[list[Want]], object]:
    """What steps ask for, round by round, when they get it, and their result."""
    rounds = []
    try:
        while True:
            wants = list(next(steps))
            rounds.append(wants)
            for want in wants:
                want.source.there += want.spans
    except StopIteration as finished:
        return rounds, finished.value


def reading(source, *spans):
    """The length of everything, one range after the other."""
    for span in spans:
        yield from ensure(source, span)
    return sum(stop - start for start, stop in spans)


def test_only_what_is_not_at_hand_is_asked_for_and_all_of_it_at_once():
    source = PartialSource((0, 50))
    rounds, _ = rounds_of(ensure(source, (0, 10), (40, 60), (70, 80), gap_bytes=7))
    assert rounds == [[Want(source, ((40, 60), (70, 80)), 7)]]


def test_empty_ranges_are_always_at_hand():
    assert rounds_of(ensure(PartialSource(), (5, 5), (9, 3))) == ([], None)


def test_nothing_is_asked_for_where_everything_is_at_hand():
    assert rounds_of(reading(PartialSource((0, 100)), (0, 10), (20, 30))) == ([], 20)


def test_ranges_are_joined_over_the_default_gap_unless_told_otherwise():
    source = PartialSource()
    assert rounds_of(ensure(source, (0, 1)))[0] == [[Want(source, ((0, 1),), GAP_BYTES)]]


def test_computations_together_share_rounds_and_keep_the_order_of_their_results():
    one, two, three = PartialSource(), PartialSource(), PartialSource((0, 100))
    rounds, results = rounds_of(
        together([reading(one, (0, 1), (5, 7)), reading(two, (0, 4)), reading(three, (0, 9)), done(0)])
    )
    assert [[want.source for want in wants] for wants in rounds] == [[one, two], [one]]
    assert results == [3, 4, 9, 0]


def test_nothing_together_needs_nothing():
    assert rounds_of(together([])) == ([], [])


def test_two_computations_of_different_types_share_rounds():
    one, two = PartialSource(), PartialSource()
    rounds, results = rounds_of(both(reading(one, (0, 1)), ensure(two, (0, 1))))
    assert (len(rounds), results) == (1, (1, None))


def test_an_error_in_one_computation_ends_all_of_them():
    def failing():
        yield from ensure(PartialSource(), (0, 1))
        raise ValueError("no")

    steps = together([reading(PartialSource(), (0, 1), (2, 3)), failing()])
    next(steps)
    with pytest.raises(ValueError, match="no"):
        next(steps)


def test_steps_over_memory_run_to_their_end_at_once():
    assert resident(reading(MemorySource(b"x" * 100), (0, 10), (50, 60))) == 20


def test_asking_memory_for_bytes_that_are_elsewhere_is_a_programmer_error():
    with pytest.raises(AssertionError, match="seg/partial is not at hand"):
        resident(reading(PartialSource(), (0, 10)))


async def test_memory_is_read_only_has_everything_and_brings_nothing():
    source = MemorySource(bytearray(b"abc"), "k")
    assert (source.key, source.size_bytes, source.eager_bytes) == ("k", 3, 3)
    assert source.has(0, 3)
    await source.bring([(0, 3)], 0)
    assert source.data.readonly
    assert source.data is source.data


def test_folded_results_are_made_one_as_they_come_and_share_rounds():
    sources = [PartialSource() for _ in range(3)]
    waiting = [reading(source, (0, 10), (20, 40)) for source in sources]
    folds: list[tuple[int, int]] = []

    def add(one: int, other: int) -> int:
        folds.append((one, other))
        return one + other

    rounds, total = rounds_of(folded([*waiting, done(5), done(7)], add))
    assert (len(rounds), total) == (2, 102)
    assert folds[0] == (5, 7)
    assert rounds_of(folded([done(5)], add)) == ([], 5)
