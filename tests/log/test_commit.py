"""The commit state machine: every way of an entry through its slot."""

import pytest

from elacsym.format.manifest import Manifest, State
from elacsym.log.commit import Outcome, Ownership, SlotAttempt, Step

INC, OURS, OTHER = "00ff" * 4, "01" * 16, "02" * 16


def manifest(applied=5, ring=None, **changes):
    return Manifest("Docs", changes.pop("inc", INC), "ab" * 16, applied=applied, ring=ring or {}, **changes)


def attempt(*events):
    """The attempt of slot 7 after these events, and its last decision."""
    machine = SlotAttempt(INC, 7, OURS)
    decision = machine.begin()
    for event, *arguments in events:
        decision = getattr(machine, event)(*arguments)
    return machine, decision


CREATED = [("put_created",)]
REFUSED_OURS = [("put_refused",), ("slot_read", True)]
FAILED_OURS = [("put_failed",), ("slot_read", True)]
REFUSED_OTHER = [("put_refused",), ("slot_read", False)]
FAILED_OTHER = [("put_failed",), ("slot_read", False)]
REFUSED_GONE = [("put_refused",), ("slot_read", None)]
IN_LOG = (CREATED, REFUSED_OURS, FAILED_OURS)
NOT_OURS = (REFUSED_OTHER, FAILED_OTHER)


def test_an_attempt_begins_with_the_put():
    assert SlotAttempt(INC, 7, OURS).begin() is Step.PUT


@pytest.mark.parametrize("answer", ["put_refused", "put_failed"])
def test_anything_but_created_reads_the_slot(answer):
    assert attempt((answer,))[1] is Step.READ_SLOT


def test_nothing_in_the_slot_after_an_error_sends_the_same_bytes_again():
    assert attempt(("put_failed",), ("slot_read", None))[1] is Step.PUT
    assert attempt(("put_refused",), ("slot_read", False))[1] is Step.READ_MANIFEST


@pytest.mark.parametrize("events", [*IN_LOG, *NOT_OURS, REFUSED_GONE])
def test_every_other_way_leads_to_the_manifest(events):
    assert attempt(*events)[1] is Step.READ_MANIFEST


@pytest.mark.parametrize("applied", [0, 7])
def test_a_slot_that_is_not_folded_is_what_it_holds(applied):
    for events, outcome in (
        *((e, Outcome.COMMITTED) for e in IN_LOG),
        *((e, Outcome.REJECTED) for e in NOT_OURS),
        (REFUSED_GONE, Outcome.UNKNOWN),
    ):
        assert attempt(*events)[0].manifest_read(manifest(applied)) is outcome


@pytest.mark.parametrize("events", [*IN_LOG, *NOT_OURS, REFUSED_GONE])
def test_of_a_folded_slot_only_the_ring_tells(events):
    machine = attempt(*events)[0]
    assert machine.manifest_read(manifest(8, {7: OURS})) is Outcome.COMMITTED
    assert machine.manifest_read(manifest(8, {7: OTHER})) is Outcome.REJECTED
    assert machine.manifest_read(manifest(900, {899: OTHER})) is Outcome.UNKNOWN


@pytest.mark.parametrize("events", [*IN_LOG, *NOT_OURS, REFUSED_GONE])
@pytest.mark.parametrize(
    "found",
    [None, manifest(state=State.DELETED), manifest(state=State.SEALED), manifest(inc="11" * 8)],
    ids=["none", "deleted", "sealed", "other incarnation"],
)
def test_without_an_active_manifest_of_the_incarnation_nothing_is_known(events, found):
    assert attempt(*events)[0].manifest_read(found) is Outcome.UNKNOWN


@pytest.mark.parametrize(("seq", "seen"), [(0, 0), (9, 3), (3, 9)])
def test_a_claim_is_above_everything_seen(seq, seen):
    assert Ownership.claim_epoch(seq, seen) > max(seq, seen)


def test_ownership_lasts_until_an_entry_is_not_committed():
    for outcome in (Outcome.REJECTED, Outcome.UNKNOWN):
        ownership = Ownership()
        assert not ownership.may_write(0)
        ownership.won(5)
        ownership.settled(Outcome.COMMITTED)
        assert ownership.may_write(5)
        ownership.settled(outcome)
        assert not ownership.may_write(5)


def test_ownership_ends_when_a_higher_epoch_is_seen():
    ownership = Ownership()
    ownership.won(5)
    assert not ownership.may_write(6)
