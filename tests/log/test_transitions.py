"""Manifest transitions: what each needs, what it leaves, and that asking twice changes nothing."""

from dataclasses import replace

import pytest

from elacsym.errors import NamespaceNotFound
from elacsym.format.manifest import (
    KEYS_REMEMBERED,
    RING_SLOTS,
    DeletesRef,
    FileRef,
    FoldedKey,
    Intent,
    Manifest,
    Pin,
    SegmentRef,
    State,
)
from elacsym.format.wal_entry import EntryKind
from elacsym.log import transitions
from elacsym.log.tail import SlotRecord
from elacsym.log.transitions import DeletesChange, TransitionRefused
from elacsym.types import Schema

INC = "00ff" * 4
EMPTY = Manifest("Docs", INC, "ab" * 16)
FILE = FileRef("rows.parquet", 10, "cd" * 16)


def hex32(n):
    return f"{n:032x}"


def slot(seq, *, epoch=1, keys=()):
    before = "" if seq == 0 else hex32(1000 + seq - 1)
    return SlotRecord(
        INC,
        seq,
        epoch,
        hex32(seq),
        EntryKind.WRITE,
        hex32(1000 + seq),
        before,
        100,
        is_void=False,
        keys=tuple(keys),
        writer="node",
    )


def segment(job, rows, total, first=0, last=0):
    return SegmentRef(job, rows, first, last, hex32(total), (FILE,))


def with_intent(manifest, job, inputs=()):
    return transitions.add_intent(manifest, Intent(job, "fold", tuple(inputs), 1, "node"))


def folded(*segments, slots=3):
    """A manifest of these segments."""
    manifest = with_intent(EMPTY, "setup")
    records = [slot(seq) for seq in range(slots)]
    return transitions.fold(manifest, records, job="setup", segments=segments, schema=Schema())


def test_a_fold_moves_slots_into_segments():
    keys = [("key", 4)]
    manifest = transitions.fold(
        with_intent(EMPTY, "job1"),
        [slot(0, epoch=2), slot(1, epoch=2, keys=keys)],
        job="job1",
        segments=[segment("job1", 5, 77, 0, 1)],
        schema=Schema("uint"),
    )
    assert (manifest.applied, manifest.epoch, manifest.tail_digest) == (2, 2, hex32(1001))
    assert dict(manifest.ring) == {0: hex32(0), 1: hex32(1)}
    assert manifest.keys == (FoldedKey("key", 1, 4),)
    assert (manifest.rows_live, manifest.row_sum) == (5, hex32(77))
    assert manifest.schema.id_type == "uint"
    assert manifest.intents == ()
    assert manifest.check() is None


def test_a_fold_that_was_done_is_not_done_again():
    slots = [slot(0), slot(1)]
    made = [segment("job1", 5, 77, 0, 1)]
    manifest = transitions.fold(with_intent(EMPTY, "job1"), slots, job="job1", segments=made, schema=Schema())
    assert transitions.fold(manifest, slots, job="job1", segments=made, schema=Schema()) is manifest


@pytest.mark.parametrize(
    "slots",
    [[slot(1)], [replace(slot(0), inc="11" * 8)], [replace(slot(0), previous=hex32(5))]],
    ids=["later slot", "other incarnation", "other chain"],
)
def test_slots_that_do_not_follow_the_manifest_are_refused(slots):
    with pytest.raises(TransitionRefused, match="does not follow"):
        transitions.fold(EMPTY, slots, job="job1", schema=Schema())


def test_slots_that_another_fold_took_are_refused():
    manifest = transitions.fold(EMPTY, [slot(0), slot(1)], job="-", schema=Schema())
    with pytest.raises(TransitionRefused):
        transitions.fold(manifest, [slot(0)], job="job1", segments=[segment("job1", 1, 1)], schema=Schema())


def test_a_fold_with_files_needs_its_intent():
    made = [segment("job1", 5, 77)]
    withdrawn = transitions.remove_intent(with_intent(EMPTY, "job1"), "job1")
    with pytest.raises(TransitionRefused, match="intent of job job1 is gone"):
        transitions.fold(withdrawn, [slot(0)], job="job1", segments=made, schema=Schema())


def test_a_fold_strikes_rows_of_standing_segments():
    manifest = with_intent(folded(segment("old", 5, 77, 0, 2)), "job1")
    change = DeletesChange(DeletesRef("job1", FileRef("deletes-old", 4, hex32(1)), 2), hex32(70))
    after = transitions.fold(
        manifest,
        [slot(3)],
        job="job1",
        segments=[segment("job1", 1, 7, 3, 3)],
        deletes={"old": change},
        schema=Schema(),
    )
    assert (after.rows_live, after.row_sum) == (4, hex32(77))
    assert after.segment("old").deletes == change.deletes


def test_deletes_in_a_segment_that_was_merged_away_are_refused():
    manifest = with_intent(folded(segment("old", 5, 77)), "job1")
    change = DeletesChange(DeletesRef("job1", FILE, 2), hex32(70))
    with pytest.raises(TransitionRefused, match="segments that are gone"):
        transitions.fold(manifest, [slot(3)], job="job1", deletes={"gone": change}, schema=Schema())


def test_the_ring_and_the_keys_are_bounded_and_keep_the_newest():
    many = [slot(seq, keys=[(f"key{seq}-{i}", 1) for i in range(5)]) for seq in range(RING_SLOTS + 10)]
    manifest = transitions.fold(EMPTY, many, job="-", schema=Schema())
    assert sorted(manifest.ring) == list(range(10, RING_SLOTS + 10))
    assert len(manifest.keys) == KEYS_REMEMBERED
    assert manifest.keys[-1].key == f"key{RING_SLOTS + 9}-4"


def merge_setup():
    manifest = folded(segment("a", 5, 50, 0, 0), segment("b", 4, 40, 1, 1), segment("c", 1, 9, 2, 2))
    return transitions.add_intent(manifest, Intent("job1", "compact", ("a", "b"), 1, "node"))


def test_a_merge_replaces_its_inputs_in_place():
    manifest = merge_setup()
    out = segment("job1", 9, 90, 0, 1)
    after = transitions.replace_segments(manifest, job="job1", inputs=["a", "b"], outputs=[out])
    assert [s.job for s in after.segments] == ["job1", "c"]
    assert (after.rows_live, after.row_sum) == (manifest.rows_live, manifest.row_sum)
    assert transitions.replace_segments(after, job="job1", inputs=["a", "b"], outputs=[out]) is after


@pytest.mark.parametrize("output", [segment("job1", 9, 91, 0, 1), segment("job1", 8, 90, 0, 1)])
def test_a_merge_that_loses_or_revives_a_row_is_refused(output):
    with pytest.raises(TransitionRefused, match="live rows and row sum"):
        transitions.replace_segments(merge_setup(), job="job1", inputs=["a", "b"], outputs=[output])


def test_a_merge_whose_input_is_gone_is_refused():
    manifest = replace(merge_setup(), segments=(segment("c", 1, 9, 2, 2),))
    with pytest.raises(TransitionRefused, match="segments that are gone"):
        transitions.replace_segments(manifest, job="job1", inputs=["a", "b"], outputs=[])


def test_a_merge_whose_intent_was_withdrawn_is_refused():
    manifest = transitions.remove_intent(merge_setup(), "job1")
    with pytest.raises(TransitionRefused, match="intent"):
        transitions.replace_segments(manifest, job="job1", inputs=["a"], outputs=[segment("job1", 5, 50)])


def test_an_intent_names_segments_that_stand_and_is_added_once():
    manifest = folded(segment("a", 5, 50))
    intent = Intent("job1", "compact", ("a",), 1, "node")
    once = transitions.add_intent(manifest, intent)
    assert transitions.add_intent(once, intent) is once
    with pytest.raises(TransitionRefused):
        transitions.add_intent(once, replace(intent, inputs=()))
    with pytest.raises(TransitionRefused):
        transitions.add_intent(manifest, replace(intent, inputs=("gone",)))
    assert transitions.remove_intent(manifest, "job1") is manifest


def test_a_tombstone_refuses_every_change_and_may_be_created_again():
    manifest = transitions.add_pin(folded(segment("a", 5, 50)), Pin("branch", "b" * 16, INC, ("a",)))
    tombstone = transitions.tombstone(manifest)
    assert (tombstone.state, tombstone.segments, tombstone.rows_live) == (State.DELETED, (), 0)
    assert tombstone.check() is None
    for change in (
        transitions.tombstone,
        lambda m: with_intent(m, "job1"),
        lambda m: transitions.fold(m, [slot(3)], job="-", schema=Schema()),
    ):
        with pytest.raises(NamespaceNotFound):
            change(tombstone)
    again = transitions.create(
        tombstone, name="Docs", inc="11" * 8, nonce="12" * 16, schema=Schema(), created_ms=5
    )
    assert (again.state, again.inc, again.applied, again.pins) == (State.ACTIVE, "11" * 8, 0, manifest.pins)


def test_creating_what_exists_changes_nothing():
    manifest = folded(segment("a", 5, 50))
    assert (
        transitions.create(
            manifest, name="Docs", inc="11" * 8, nonce="12" * 16, schema=Schema(), created_ms=5
        )
        is manifest
    )
