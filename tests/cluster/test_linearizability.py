"""The checker of histories: it accepts what a register can answer, and nothing else."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from cluster.linearizability import Operation, TooComplexError, violations
from hypothesis import given, settings
from hypothesis import strategies as st

DOCUMENTS = 3


def upsert(number, begun, ended, *, value=None, seq=None, document=1):
    return Operation(number, "upsert", document, begun, ended, number if value is None else value, seq=seq)


def delete(number, begun, ended, *, seq=None):
    return Operation(number, "delete", 1, begun, ended, seq=seq)


def delete_if(number, begun, ended, value, count=None, *, seq=None):
    return Operation(number, "delete_if", 1, begun, ended, value, count, seq)


def read(number, begun, ended, value, *, document=1):
    return Operation(number, "read", document, begun, ended, value)


ACCEPTED = {
    "nothing": [],
    "a read of nothing": [read(1, 0, 1, None)],
    "a read beside a write sees it or not": [upsert(1, 0, 9, value=7), read(2, 1, 2, None), read(3, 3, 4, 7)],
    "an unknown write is seen late": [upsert(1, 0, None), read(2, 1, 2, None), read(3, 3, 4, 1)],
    "an unknown write is never seen": [upsert(1, 0, None), read(2, 1, 2, None), read(3, 8, 9, None)],
    "an unknown delete acts between reads": [
        upsert(1, 0, 1),
        delete(2, 2, None),
        read(3, 3, 4, 1),
        read(4, 5, 6, None),
    ],
    "an unseen value is why a delete_if took nothing": [
        upsert(1, 0, 1),
        upsert(2, 2, None),
        delete_if(3, 4, 5, 1, 0),
    ],
    "a delete_if of unknown outcome": [upsert(1, 0, 1), delete_if(2, 2, None, 1), read(3, 4, 5, None)],
    "writes of one slot in either order": [
        upsert(1, 0, 9, seq=4),
        upsert(2, 0, 9, seq=4),
        read(3, 10, 11, 1),
    ],
    "documents are independent": [upsert(1, 0, 1), read(2, 2, 3, None, document=2), read(3, 4, 5, 1)],
}
REFUSED = {
    "a stale read": [upsert(1, 0, 1), upsert(2, 2, 3), read(3, 4, 5, 1)],
    "a lost write": [upsert(1, 0, 1), read(2, 2, 3, None)],
    "a lost delete": [upsert(1, 0, 1), delete(2, 2, 3), read(3, 4, 5, 1)],
    "a doubled write": [upsert(1, 0, 1), upsert(2, 2, 3), read(3, 4, 5, 2), read(4, 6, 7, 1)],
    "a doubled write of unknown outcome": [
        upsert(1, 0, None),
        upsert(2, 2, 3),
        read(3, 4, 5, 1),
        upsert(4, 6, 7),
        read(5, 8, 9, 1),
    ],
    "a read of what nobody wrote": [read(1, 0, 1, 5)],
    "a read of what is written later": [read(1, 0, 1, 2), upsert(2, 2, 3)],
    "reads that go back": [
        upsert(1, 0, 1),
        upsert(2, 2, 20),
        read(3, 3, 4, 2),
        read(4, 5, 6, 1),
    ],
    "a document that vanishes": [upsert(1, 0, 1), read(2, 2, 3, 1), read(3, 4, 5, None)],
    "a delete_if that took what was replaced": [upsert(1, 0, 1), upsert(2, 2, 3), delete_if(3, 4, 5, 1, 1)],
    "a delete_if that missed what was there": [upsert(1, 0, 1), delete_if(2, 2, 3, 1, 0)],
    "an unknown delete that acts twice": [
        upsert(1, 0, 1),
        delete(2, 2, None),
        read(3, 3, 4, None),
        upsert(4, 5, 6),
        read(5, 7, 8, None),
    ],
    "answers against the order of slots": [
        upsert(1, 0, 9, seq=5),
        upsert(2, 0, 9, seq=4),
        read(3, 10, 11, 2),
    ],
    "slots against real time": [
        upsert(1, 0, 1, seq=5),
        upsert(2, 2, 3, seq=4, document=2),
    ],
    "one slot for two that did not overlap": [
        upsert(1, 0, 1, seq=5),
        upsert(2, 2, 3, seq=5, document=2),
    ],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_it_accepts(name):
    assert violations(ACCEPTED[name]) == []


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses(name):
    assert violations(REFUSED[name]) != []


def test_it_says_what_does_not_fit():
    (problem,) = violations(REFUSED["a stale read"])
    assert "after 2 operations it holds 2" in problem
    assert "#3 read(1)" in problem


def test_it_gives_up_in_words_when_there_are_too_many_states():
    # that no order explains the last read is certain only after all orders were tried
    history = [upsert(n, 0, 100, value=n) for n in range(1, 15)] + [read(99, 101, 102, 77)]
    with pytest.raises(TooComplexError, match="document 1: more than 500 states"):
        violations(history, states_max=500)


def test_many_writes_of_unknown_outcome_cost_little():
    history = [upsert(n, n, None) for n in range(200)] + [delete(n, n, None) for n in range(200, 260)]
    history += [read(300 + n, 300 + 2 * n, 301 + 2 * n, 2 * n) for n in range(90)]
    assert violations(history, states_max=20_000) == []


# against every order there is


def _explains(order):
    held = None
    for operation in order:
        if operation.kind == "read" and operation.value != held:
            return False
        if operation.kind == "delete_if":
            takes = held == operation.value
            if operation.count is not None and operation.count != takes:
                return False
            held = None if takes else held
        elif operation.is_write:
            held = operation.value if operation.kind == "upsert" else None
    return True


def _keeps_time_and_slots(order):
    for earlier, later in itertools.combinations(order, 2):
        if later.ended is not None and later.ended < earlier.begun:
            return False
        if None not in (earlier.seq, later.seq) and later.seq < earlier.seq:
            return False
    return True


def is_linearizable(history):
    """The definition: some of the unknown ones, in some order, explain all answers."""
    certain = [o for o in history if o.ended is not None]
    open_ = [o for o in history if o.ended is None]
    for count in range(len(open_) + 1):
        for chosen in itertools.combinations(open_, count):
            for order in itertools.permutations([*certain, *chosen]):
                if _keeps_time_and_slots(order) and _explains(order):
                    return True
    return False


@st.composite
def small_histories(draw):
    """Any answers at all to up to six requests on one document; slots agree with real time."""
    count = draw(st.integers(1, 6))
    times = draw(st.permutations(range(2 * count)))
    history = []
    for number in range(count):
        begun, ended = sorted(times[2 * number : 2 * number + 2])
        kind = draw(st.sampled_from(["upsert", "upsert", "read", "read", "delete", "delete_if"]))
        is_known = kind == "read" or draw(st.booleans())
        value = number if kind == "upsert" else None
        if kind in ("read", "delete_if"):
            value = draw(st.integers(0, count - 1) | (st.none() if kind == "read" else st.nothing()))
        took = draw(st.integers(0, 1)) if kind == "delete_if" and is_known else None
        seq = draw(st.integers(0, 3)) if kind != "read" and is_known and draw(st.booleans()) else None
        history.append(Operation(number, kind, 1, begun, ended if is_known else None, value, took, seq))
    return history


@settings(max_examples=600, deadline=None)
@given(small_histories())
def test_it_agrees_with_the_definition(history):
    slots_keep_time = not any(
        None not in (a.seq, b.seq) and a.ended < b.begun and a.seq >= b.seq
        for a, b in itertools.permutations(history, 2)
    )
    assert (violations(history) == []) == (slots_keep_time and is_linearizable(history))


# histories that happened


def execution(rng, count, *, clients=16, unknown=0.1):
    """What `clients` would record of `count` operations that took effect one after the other."""
    free = [0] * clients
    held = dict.fromkeys(range(DOCUMENTS))
    history, late = [], []
    for number in range(count):
        now = 1000 * (number + 1)
        for effect in [one for one in late if one[0] <= now]:
            late.remove(effect)
            held[effect[1]] = effect[2]
        client = min(rng.sample(range(clients), 3), key=free.__getitem__)
        begun = max(free[client] + 1, now - rng.randrange(1, 8000))
        if begun >= now:
            continue
        ended = now + rng.randrange(1, 8000)
        free[client] = ended
        document, kind = rng.randrange(DOCUMENTS), rng.choice(["upsert", "upsert", "read", "read", "delete"])
        if kind == "read":
            history.append(Operation(number, kind, document, begun, ended, held[document]))
            continue
        value = number if kind == "upsert" else None
        if rng.random() < unknown:
            history.append(Operation(number, kind, document, begun, None, value))
            if rng.random() < 0.6:
                late.append((now + rng.randrange(0, 30_000), document, value))
            continue
        held[document] = value
        history.append(Operation(number, kind, document, begun, ended, value, seq=number))
    return history


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 400))
def test_it_accepts_what_happened(seed, count):
    assert violations(execution(random.Random(seed), count)) == []


def _end(history):
    return 1 + max(max(o.begun, o.ended or 0) for o in history)


def _last_written(rng):
    """An execution without unknown outcomes, a document, and its last two values, one after the other."""
    history = execution(rng, 60, unknown=0)
    end = _end(history)
    first = Operation(9_001, "upsert", 0, end, end + 1, 9_001, seq=9_001)
    second = Operation(9_002, "upsert", 0, end + 2, end + 3, 9_002, seq=9_002)
    return history, first, second


def _stale_read(rng):
    history, first, second = _last_written(rng)
    end = second.ended
    return [*history, first, second, Operation(9_003, "read", 0, end + 1, end + 2, first.value)]


def _lost_write(rng):
    """The last write of a document is acknowledged, and what it wrote is nowhere."""
    history, first, _ = _last_written(rng)
    before = {o.document: o.value for o in sorted(history, key=lambda o: o.seq or -1) if o.seq is not None}
    end = first.ended
    return [*history, first, Operation(9_003, "read", 0, end + 1, end + 2, before.get(0))]


def _doubled_write(rng):
    history, first, second = _last_written(rng)
    end = second.ended
    seen = Operation(9_003, "read", 0, end + 1, end + 2, second.value)
    return [*history, first, second, seen, Operation(9_004, "read", 0, end + 3, end + 4, first.value)]


def _reordered_writes(rng):
    """Two writes that did not overlap have exchanged their slots."""
    history, first, second = _last_written(rng)
    return [*history, replace(first, seq=second.seq), replace(second, seq=first.seq)]


@pytest.mark.parametrize("mutant", [_stale_read, _lost_write, _doubled_write, _reordered_writes])
@pytest.mark.parametrize("seed", range(25))
def test_it_refuses_a_history_with_one_fault(mutant, seed):
    rng = random.Random(seed)
    history = mutant(rng)
    assert violations(history) != []


@pytest.mark.parametrize("seed", range(40))
def test_a_read_that_shows_another_value_than_it_did_is_found_where_it_matters(seed):
    """Any read of any document, answered with a value that had certainly been replaced before it began."""
    rng = random.Random(seed)
    history = execution(rng, 200, unknown=0)
    writes = [o for o in history if o.is_write]
    reads = [o for o in history if o.kind == "read"]
    rng.shuffle(reads)
    for stale in reads:
        own = sorted((o for o in writes if o.document == stale.document), key=lambda o: o.seq)
        over = [
            old for old, new in itertools.pairwise(own) if old.kind == "upsert" and new.ended < stale.begun
        ]
        if over:
            changed = replace(stale, value=over[-1].value)
            assert violations([changed if o is stale else o for o in history]) != []
            return
    pytest.fail("no read of the execution could be made stale")
