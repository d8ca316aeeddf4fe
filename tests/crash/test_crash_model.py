"""The checker finds what it is for, and nothing else."""

from __future__ import annotations

import pytest
from crash.journal import Journal
from crash.model import Model


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def write(journal, kind, ids, seq=None):
    op = journal.begin(kind, ids)
    if seq is None:
        journal.unknown(op, "killed")
    else:
        journal.ack(op, seq, len(ids))
    return op


def judged(journal, observed, *, model=None, is_settled=True):
    model = model or Model()
    model.consume(journal.unread())
    model.check(observed, is_settled=is_settled)
    return model.violations


def test_acknowledged_writes_and_deletes_pass(journal):
    first = write(journal, "upsert", [1, 2, 3], 5)
    second = write(journal, "upsert", [2], 6)
    write(journal, "delete", [3], 7)
    assert judged(journal, {1: first, 2: second}) == []


def test_a_lost_write_is_found(journal):
    op = write(journal, "upsert", [1, 2], 5)
    assert "document 2 holds nothing" in judged(journal, {1: op})[0]


def test_an_older_version_is_found(journal):
    old = write(journal, "upsert", [1], 5)
    write(journal, "upsert", [1], 6)
    assert "the last acknowledged is upsert 2" in judged(journal, {1: old})[0]


def test_a_deleted_document_that_is_back_is_found(journal):
    op = write(journal, "upsert", [1], 5)
    write(journal, "delete", [1], 6)
    assert "the last acknowledged is delete 2" in judged(journal, {1: op})[0]


def test_documents_that_nobody_wrote_are_found(journal):
    op = write(journal, "upsert", [1], 5)
    assert len(judged(journal, {1: op, 2: op})) == 1
    assert "which nobody sent of late" in judged(journal, {9: 77})[0]


def test_the_effect_of_a_refused_write_is_found(journal):
    op = journal.begin("upsert", [1])
    journal.refused(op, "overloaded")
    assert "refused" in judged(journal, {1: op})[0]


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_write_of_unknown_outcome_may_be_there_or_not(journal, is_applied):
    old = write(journal, "upsert", [1], 5)
    op = write(journal, "upsert", [1])
    assert judged(journal, {1: op if is_applied else old}) == []


def test_half_of_a_write_is_found(journal):
    op = write(journal, "upsert", [1, 2])
    assert "torn" in judged(journal, {1: op})[0]


def test_half_of_a_delete_is_found(journal):
    op = write(journal, "upsert", [1, 2], 5)
    model = Model()
    assert judged(journal, {1: op, 2: op}, model=model) == []
    model.settle({1: op, 2: op}, 5)
    write(journal, "delete", [1, 2])
    assert "torn" in judged(journal, {1: op}, model=model)[0]


def test_what_was_settled_may_not_change_any_more(journal):
    old = write(journal, "upsert", [1], 5)
    late = write(journal, "upsert", [1])
    model = Model()
    assert judged(journal, {1: old}, model=model) == []
    model.settle({1: old}, 6)
    assert f"it held write {old}" in judged(journal, {1: late}, model=model)[0]


def test_a_slot_before_one_that_was_acknowledged_earlier_is_found(journal):
    write(journal, "upsert", [1], 5)
    op = write(journal, "upsert", [2], 5)
    assert "slot 5 was acknowledged before it began" in judged(journal, {1: 1, 2: op})[0]


def test_a_write_sent_again_must_get_its_first_answer(journal):
    op = write(journal, "upsert", [1], 5)
    journal.again(op)
    journal.ack(op, 6, 1)
    assert "slot 5, and at 6" in judged(journal, {1: op})[0]


def test_a_write_that_was_there_and_is_applied_again_is_found(journal):
    op = write(journal, "upsert", [1])
    model = Model()
    assert judged(journal, {1: op}, model=model) == []
    model.settle({1: op}, 6)
    between = write(journal, "upsert", [1], 7)
    journal.again(op)
    journal.ack(op, 8, 1)
    assert "applied again" in judged(journal, {1: op}, model=model)[0]
    assert between


def test_a_write_that_was_there_and_is_answered_from_memory_passes(journal):
    op = write(journal, "upsert", [1])
    model = Model()
    assert judged(journal, {1: op}, model=model) == []
    model.settle({1: op}, 6)
    between = write(journal, "upsert", [1], 7)
    journal.again(op)
    journal.ack(op, 5, 1)
    assert judged(journal, {1: between}, model=model) == []


def test_a_read_that_misses_what_was_acknowledged_before_it_is_found(journal):
    old = write(journal, "upsert", [1], 5)
    write(journal, "upsert", [1], 6)
    read = journal.begin("read", [1])
    journal.rows(read, {1: old})
    model = Model()
    model.consume(journal.unread())
    model.check_reads()
    assert "read 3: document 1 holds write 1" in model.violations[0]


def test_a_read_may_see_what_is_acknowledged_later_or_never(journal):
    write(journal, "upsert", [1, 2], 5)
    one, two = journal.begin("upsert", [1]), journal.begin("delete", [2])
    read = journal.begin("read", [1, 2])
    journal.rows(read, {1: one, 2: None})
    journal.ack(one, 6, 1)
    journal.unknown(two, "killed")
    model = Model()
    model.consume(journal.unread())
    model.check_reads()
    assert model.violations == []
