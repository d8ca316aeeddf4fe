"""What a branch takes over and holds, and the transitions by which it comes to be and goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.errors import InvalidRequest
from elacsym.format.manifest import (
    PINS_MAX,
    Base,
    DeletesRef,
    FileRef,
    Hold,
    Home,
    Manifest,
    Pin,
    SegmentRef,
    State,
)
from elacsym.log import transitions
from elacsym.log.branching import branch_of, pin_of, still_needed
from elacsym.log.transitions import TransitionRefused
from elacsym.types import Options, Schema

SOURCE, BRANCH, ROOT = Home("source", "a" * 16), Home("branch", "b" * 16), Home("root", "c" * 16)
NONCE, FILE = "1" * 32, FileRef("ids", 1, "")
PIN = Pin("branch", BRANCH.inc, SOURCE.inc, ("job1", "job2"), (3, 8))


def segment(job, *, home=None, deletes=None):
    bitmap = None if deletes is None else DeletesRef(deletes, FILE, 0)
    return SegmentRef(job, 1, 0, 0, f"{0:032x}", (FILE,), bitmap, home=home)


def manifest(*segments, home=SOURCE, applied=3, **fields):
    return Manifest(
        home.name, home.inc, NONCE, applied=applied, segments=segments, rows_live=len(segments), **fields
    )


def branched(source, end):
    pin = pin_of(source, BRANCH, end)
    return branch_of(source, pin, options=Options(parent="source"), created_ms=7, nonce=NONCE)


def test_a_branch_refers_to_everything_where_it_lies():
    source = manifest(
        segment("job1", deletes="job2"), segment("job3", home=ROOT), epoch=5, tail_digest="d" * 32
    )
    made = branched(source, 9)
    assert made.check() is None
    assert [(s.job, s.home) for s in made.segments] == [("job1", SOURCE), ("job3", ROOT)]
    assert made.segments[0].deletes.home == SOURCE
    assert (made.applied, made.epoch, made.tail_digest, made.rows_live) == (3, 5, "d" * 32, 2)
    assert (made.bases, made.begins) == ((Base(SOURCE, 9),), 9)
    assert (made.slot_key(8), made.slot_key(9)) == (SOURCE.wal(8), BRANCH.wal(9))
    assert made.holds == (Hold("source", pin_of(source, BRANCH, 9)),)
    assert made.holds[0].pin.jobs == ("job1", "job2", "job3")


@pytest.mark.parametrize(
    ("end", "bases"),
    [
        (3, ()),
        (4, (Base(ROOT, 4),)),
        (5, (Base(ROOT, 5),)),
        (8, (Base(ROOT, 5), Base(SOURCE, 8))),
    ],
)
def test_the_log_of_a_branch_begins_in_all_the_logs_that_its_source_begins_in(end, bases):
    made = branched(manifest(bases=(Base(ROOT, 5),)), end)
    assert (made.bases, made.check()) == (bases, None)


def test_a_branch_of_nothing_holds_nothing():
    made = branched(manifest(applied=0), 0)
    assert (made.holds, made.bases, made.begins) == ((), (), 0)


def test_what_is_folded_and_merged_away_is_needed_no_more():
    made = replace(manifest(segment("job1", home=SOURCE), home=BRANCH), bases=(Base(SOURCE, 9),))
    hold = Hold("source", PIN)
    assert still_needed(made, hold) == replace(PIN, jobs=("job1",))
    assert still_needed(replace(made, applied=6), hold).slots == (6, 8)
    folded = replace(made, applied=9, bases=())
    assert still_needed(folded, hold) == replace(PIN, jobs=("job1",), slots=None)
    for gone in (transitions.tombstone(made), replace(made, inc="e" * 16)):
        assert still_needed(gone, hold).is_empty


def test_what_a_branch_of_it_needs_stays_needed_by_one_that_is_gone():
    own = Pin("leaf", "f" * 16, BRANCH.inc, ("job2", "other"), (5, 12))
    gone = transitions.tombstone(replace(manifest(home=BRANCH), pins=(own,)))
    needed = still_needed(gone, Hold("source", PIN))
    assert needed == replace(PIN, jobs=("job2",), slots=(5, 8))
    of_another_incarnation = replace(gone, pins=(replace(own, inc="e" * 16),))
    assert still_needed(of_another_incarnation, Hold("source", PIN)).is_empty


slots = st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda p: (min(p), max(p)))
jobs = st.sets(st.sampled_from("pqrs")).map(lambda names: tuple(sorted(names)))


@given(st.tuples(jobs, slots), st.lists(st.tuples(jobs, slots), max_size=3), jobs, st.integers(0, 9))
def test_exactly_what_is_held_and_needed_is_kept(held, pinned, own, applied):
    """Slots may be kept that lie between needed ones, and none else."""
    hold = Hold("source", Pin("branch", BRANCH.inc, SOURCE.inc, *held))
    pins = tuple(Pin("leaf", f"{i:016x}", BRANCH.inc, *pin) for i, pin in enumerate(pinned))
    made = manifest(
        *(segment(job, home=SOURCE) for job in own),
        home=BRANCH,
        applied=applied,
        pins=pins,
        bases=(Base(SOURCE, 10),),
    )
    needed = still_needed(made, hold)
    wanted_jobs = set(own).union(*(p.jobs for p in pins))
    assert set(needed.jobs) == set(held[0]) & wanted_jobs
    wanted = {seq for seq in range(10) if seq >= applied or any(p.covers(seq) for p in pins)}
    kept = {seq for seq in range(10) if needed.covers(seq)}
    assert {seq for seq in wanted if hold.pin.covers(seq)} <= kept
    if kept:
        assert min(wanted) <= min(kept)
        assert kept <= {seq for seq in range(10) if hold.pin.covers(seq)}
    assert still_needed(made, replace(hold, pin=needed)) == needed


def announced(before, successor=BRANCH.inc):
    return transitions.announce_successor(
        before, name="branch", inc="9" * 16, nonce=NONCE, successor=successor
    )


def test_a_free_name_stays_free_until_what_was_announced_is_installed():
    before = announced(None)
    assert (before.state, before.inc) == (State.DELETED, "9" * 16)
    assert announced(before) is before
    made = branched(manifest(segment("job1")), 5)
    after = transitions.install(before, made)
    assert (after.state, after.inc, after.successor) == (State.ACTIVE, BRANCH.inc, "")
    assert transitions.install(after, made) is after


def test_whoever_takes_the_name_or_announces_later_ends_what_was_announced():
    made = branched(manifest(segment("job1")), 5)
    before = announced(None)
    taken = transitions.create(
        before, name="branch", inc="8" * 16, nonce=NONCE, schema=Schema(), created_ms=1
    )
    for other in (taken, announced(before, "7" * 16), transitions.withdraw_successor(before, BRANCH.inc)):
        with pytest.raises(TransitionRefused):
            transitions.install(other, made)
    assert transitions.withdraw_successor(before, "7" * 16) is before


def test_a_namespace_is_sealed_and_what_it_held_goes_on_being_held():
    pin = replace(PIN, holder="leaf")
    hold = Hold("root", Pin("branch", "8" * 16, ROOT.inc, ("job9",)))
    living = replace(manifest(home=Home("branch", "8" * 16)), pins=(pin,), holds=(hold,))
    sealed = announced(living)
    assert sealed.state is State.SEALED
    assert transitions.withdraw_successor(sealed, BRANCH.inc) == living
    with pytest.raises(TransitionRefused):
        transitions.add_pin(sealed, PIN)
    gone = transitions.tombstone(sealed)
    made = branched(manifest(segment("job1")), 5)
    with pytest.raises(TransitionRefused):
        transitions.install(gone, made)
    after = transitions.install(sealed, made)
    assert (after.pins, after.holds) == ((pin,), (hold, *made.holds))


def test_a_pin_is_put_once_narrowed_and_taken_away():
    other = replace(PIN, holder_inc="d" * 16)
    pinned = transitions.add_pin(transitions.add_pin(manifest(), other), PIN)
    assert transitions.add_pin(pinned, replace(PIN, jobs=())) is pinned
    narrow = replace(PIN, jobs=("job1",), slots=None)
    assert transitions.narrow_pin(pinned, narrow).pins == (other, narrow)
    empty = replace(PIN, jobs=(), slots=None)
    without = transitions.narrow_pin(pinned, empty)
    assert without.pins == (other,)
    assert transitions.narrow_pin(without, empty) is without


def test_a_namespace_has_so_many_branches_and_no_more():
    full = replace(manifest(), pins=tuple(replace(PIN, holder_inc=f"{n:016x}") for n in range(PINS_MAX)))
    with pytest.raises(InvalidRequest, match="4096 branches and copies"):
        transitions.add_pin(full, PIN)


def test_a_hold_is_narrowed_like_its_pin():
    hold, other = Hold("source", PIN), Hold("root", PIN)
    made = replace(manifest(home=BRANCH), holds=(hold, other))
    narrow = Hold("source", replace(PIN, slots=None))
    assert transitions.narrow_hold(made, narrow).holds == (narrow, other)
    empty = Hold("source", replace(PIN, jobs=(), slots=None))
    assert transitions.narrow_hold(made, empty).holds == (other,)
    assert transitions.narrow_hold(made, hold) is made
