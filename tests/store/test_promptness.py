"""When small reads of a folder may be done on the event loop, and what they tell."""

from __future__ import annotations

import pytest

from elacsym.store import promptness
from elacsym.store.local import LocalStore
from elacsym.store.memory import MemoryStore
from elacsym.store.promptness import (
    DISTRUST_S_MAX,
    DISTRUST_S_MIN,
    FORGIVEN_READS,
    PROMPT_READS,
    PROMPT_S,
    SLOW_READS,
    STALL_S,
    Promptness,
)
from elacsym.store.wrapper import is_unchanged_now


@pytest.fixture
def now(monkeypatch):
    """The clock that promptness reads, in a list of one."""
    reading = [1_000.0]
    monkeypatch.setattr(promptness.time, "monotonic", lambda: reading[0])
    return reading


def _earn(one: Promptness) -> None:
    for _ in range(PROMPT_READS):
        one.note(PROMPT_S / 2)


def test_promptness_is_earned_by_reads_in_a_row(now):
    one = Promptness()
    for _ in range(PROMPT_READS - 1):
        one.note(PROMPT_S / 2)
        assert not one.is_given
    one.note(PROMPT_S / 2)
    assert one.is_given


@pytest.mark.parametrize("reads_s", [[STALL_S], [PROMPT_S] * SLOW_READS])
def test_a_stall_or_slow_reads_in_a_row_lose_it_for_a_while_and_it_must_be_earned_again(now, reads_s):
    one = Promptness()
    _earn(one)
    for took_s in reads_s:
        one.note(took_s)
    _earn(one)
    assert not one.is_given
    now[0] += DISTRUST_S_MIN
    assert one.is_given


def test_every_stall_loses_it_for_longer_until_many_were_prompt(now):
    one = Promptness()
    for _ in range(20):
        _earn(one)
        one.note(STALL_S)
    _earn(one)
    now[0] += DISTRUST_S_MAX - 0.01
    assert not one.is_given
    now[0] += 0.01
    assert one.is_given
    for _ in range(FORGIVEN_READS):
        one.note(PROMPT_S / 2)
    one.note(STALL_S)
    _earn(one)
    now[0] += DISTRUST_S_MIN
    assert one.is_given


def test_single_slow_reads_do_not_lose_it(now):
    """In a busy process a read of microseconds waits for the interpreter, now and then for milliseconds."""
    one = Promptness()
    _earn(one)
    for _ in range(10):
        one.note(2 * PROMPT_S)
        one.note(PROMPT_S / 2)
        assert one.is_given


def test_slow_reads_between_others_earn_nothing(now):
    one = Promptness()
    for _ in range(10):
        for _ in range(PROMPT_READS - 1):
            one.note(PROMPT_S / 2)
        one.note(2 * PROMPT_S)
        now[0] += DISTRUST_S_MAX
        assert not one.is_given


async def _prompt(tmp_path) -> tuple[LocalStore, str]:
    store = LocalStore(tmp_path)
    etag = await store.put_if_absent("manifest", b"one")
    for _ in range(PROMPT_READS):
        store._promptness.note(0.0)
    return store, etag


async def test_a_folder_that_was_not_yet_prompt_tells_nothing(tmp_path):
    store = LocalStore(tmp_path)
    etag = await store.put_if_absent("manifest", b"one")
    assert not is_unchanged_now(store, "manifest", etag, "wal/1")


async def test_reads_in_threads_earn_it(tmp_path, now):
    store = LocalStore(tmp_path)
    etag = await store.put_if_absent("manifest", b"one")
    for _ in range(100 * PROMPT_READS):
        await store.get_if_changed("manifest", etag)
        if is_unchanged_now(store, "manifest", etag, "wal/1"):
            break
    else:
        pytest.fail("never prompt")


async def test_it_tells_that_nothing_changed_only_while_nothing_did(tmp_path):
    store, etag = await _prompt(tmp_path)
    assert is_unchanged_now(store, "manifest", etag, "wal/1")
    await store.put_if_absent("wal/1", b"entry")
    assert not is_unchanged_now(store, "manifest", etag, "wal/1")
    assert is_unchanged_now(store, "manifest", etag, "wal/2")
    changed = await store.put_if_match("manifest", b"two", etag)
    assert not is_unchanged_now(store, "manifest", etag, "wal/2")
    assert is_unchanged_now(store, "manifest", changed, "wal/2")
    await store.delete("manifest")
    assert not is_unchanged_now(store, "manifest", changed, "wal/2")


async def test_damage_is_left_to_the_ordinary_read(tmp_path):
    store, etag = await _prompt(tmp_path)
    (tmp_path / "manifest").write_bytes(b"short")
    assert not is_unchanged_now(store, "manifest", etag, "wal/1")


async def test_a_store_that_needs_a_request_tells_nothing():
    store = MemoryStore()
    etag = await store.put_if_absent("manifest", b"one")
    assert not is_unchanged_now(store, "manifest", etag, "wal/1")
