"""Branches under random schedules and faults: none loses an object, none leaves one; each rule taken away is
missed.

`ELACSYM_BRANCH_SEEDS=17,91 pytest tests/sim/test_branches.py` replays seeds.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from unittest import mock

import pytest
from sim_branches import BranchWorld

from elacsym.log import branching
from elacsym.upkeep import collect

SEEDS = [int(s) for s in os.environ.get("ELACSYM_BRANCH_SEEDS", "").split(",") if s] or list(range(24))
CHUNK = 6
CAUGHT_WITHIN_SEEDS = 60


def _without_pins(manifest, keys, listed):
    return collect_garbage(replace(manifest, pins=()), keys, listed)


def _without_branches_of_it(manifest, hold):
    return branching.still_needed(replace(manifest, pins=()), hold)


async def _nothing(self, manifest):
    pass


collect_garbage = collect.garbage
MUTANTS = {
    "what is pinned is collected": ("elacsym.upkeep.collect.garbage", _without_pins),
    "what a branch of it needs is released": ("elacsym.upkeep.pins.still_needed", _without_branches_of_it),
    "nothing is released": ("elacsym.upkeep.pins.Pins.release", _nothing),
    "a pin is withdrawn, its announcement is not": (
        "elacsym.log.transitions.withdraw_successor",
        lambda manifest, successor: manifest,
    ),
}


@pytest.mark.parametrize("seeds", [SEEDS[i : i + CHUNK] for i in range(0, len(SEEDS), CHUNK)], ids=str)
def test_no_branch_loses_anything_and_nothing_is_left_behind(seeds):
    counts: Counter[str] = Counter()
    for seed in seeds:
        world = BranchWorld(seed).run()
        assert not world.violations, f"ELACSYM_BRANCH_SEEDS={seed} replays {world.violations[:5]}"
        counts += world.counts
    if len(seeds) == CHUNK:
        assert all(counts[event] >= CHUNK for event in ("branches", "copies", "deletions", "folds", "kills"))


@pytest.mark.parametrize("mutant", MUTANTS)
def test_taking_a_rule_of_branches_away_is_caught(mutant):
    target, instead = MUTANTS[mutant]
    with mock.patch(target, instead):
        assert any(BranchWorld(seed).run().violations for seed in range(CAUGHT_WITHIN_SEEDS))
