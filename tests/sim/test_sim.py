"""The log under random schedules and faults: the full protocol holds, and each rule taken away is missed.

`ELACSYM_SIM_SEEDS=17,91 pytest tests/sim` replays seeds; `python tests/sim/run.py` runs many.
"""

import os

import pytest
from sim_mutants import MUTANTS
from sim_world import World

SEEDS = [int(s) for s in os.environ.get("ELACSYM_SIM_SEEDS", "").split(",") if s] or list(range(110))
CHUNK = 10
CAUGHT_WITHIN_SEEDS = 400


@pytest.mark.parametrize("seeds", [SEEDS[i : i + CHUNK] for i in range(0, len(SEEDS), CHUNK)], ids=str)
def test_no_acknowledged_write_is_lost_doubled_revived_or_unseen(seeds):
    for seed in seeds:
        violations = World(seed).run().history.violations
        assert not violations, f"ELACSYM_SIM_SEEDS={seed} replays {violations[:5]}"


def test_the_runs_are_eventful():
    worlds = [World(seed).run() for seed in range(16)]
    counts = sum((w.history.counts for w in worlds), start=type(worlds[0].history.counts)())
    injected = sum((w.faulty.injected for w in worlds), start=type(counts)())
    for event in (
        "acked",
        "strong reads",
        "eventual reads",
        "folds",
        "compactions",
        "collected",
        "kills",
        "stalls",
    ):
        assert counts[event] >= 8, event
    assert {"lost", "late", "doubled", "response_lost", "refused", "partial_list", "released"} <= set(
        injected
    )


@pytest.mark.parametrize("mutant", MUTANTS)
def test_taking_a_rule_away_is_caught(mutant):
    assert any(World(seed, mutant).run().history.violations for seed in range(CAUGHT_WITHIN_SEEDS))


def test_the_same_seed_gives_the_same_trace():
    first, again, other = World(3).run(), World(3).run(), World(4).run()
    assert first.digest == again.digest != other.digest
    assert first.history.counts == again.history.counts
