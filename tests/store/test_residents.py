from __future__ import annotations

import threading

import pytest
from cache_bench import ManualClock, lookups, metric
from hypothesis import given
from hypothesis import strategies as st

from elacsym.store.residents import MAPS, MEMORY, Residents, Use


def residents(bytes_max: int = 100, uses: dict[str, Use] | None = None) -> Residents:
    return Residents(bytes_max, use_of=(uses or {}).get, now_s=ManualClock().monotonic_s)


def test_the_least_recently_used_values_go_first():
    kept = residents(100)
    kept.put("s/a", "A", 40)
    kept.put("s/b", "B", 40)
    assert kept.get("s/a") == "A"
    kept.put("s/c", "C", 40)
    assert [kept.get(f"s/{name}") for name in "abc"] == ["A", None, "C"]
    kept.put("s/a", "A2", 60)
    assert [kept.get(f"s/{name}") for name in "ac"] == ["A2", "C"]
    assert kept.bytes == 100


def test_a_value_above_the_whole_budget_is_not_kept_and_costs_the_others_nothing():
    kept = residents(100)
    kept.put("s/a", "A", 40)
    kept.put("s/huge", "H", 101)
    kept.put("s/b", "B", 10)
    kept.put("s/b", "B", 101)
    assert [kept.get(f"s/{name}") for name in ("a", "huge", "b")] == ["A", None, None]
    assert kept.bytes == 40


def test_of_a_value_that_several_make_the_first_is_kept_for_all():
    kept = residents(100)
    assert kept.keep("s/a", "first", 40) == "first"
    assert kept.keep("s/a", "second", 50) == "first"
    assert (kept.get("s/a"), kept.bytes) == ("first", 40)
    kept.drop("s/a")
    assert kept.keep("s/a", "third", 50) == "third"
    assert kept.keep("s/huge", "H", 101) == "H"
    assert (kept.get("s/huge"), kept.bytes) == (None, 50)


def test_dropping_a_key_drops_what_was_made_of_it_and_no_more():
    kept = residents()
    for name in ("s/j/ids", "s/j/ids#rows", "s/j/ids2", "s/j2/ids", "s/j/text#t"):
        kept.put(name, name, 1)
    kept.drop("s/j/ids")
    assert [n for n in ("s/j/ids", "s/j/ids#rows", "s/j/ids2", "s/j2/ids", "s/j/text#t") if kept.get(n)] == [
        "s/j/ids2",
        "s/j2/ids",
        "s/j/text#t",
    ]


def test_dropping_a_folder_drops_the_structures_directly_in_it():
    kept = residents()
    for name in ("s/j/ids", "s/j/text", "s/j2/ids"):
        kept.put(name, name, 1)
    kept.put("s/j/small#d", "bytes", 1, tier=MEMORY)
    kept.drop("s/j/")
    assert (len(kept), kept.get("s/j2/ids"), kept.get("s/j/small#d", tier=MEMORY)) == (2, "s/j2/ids", "bytes")
    kept.drop("s/j/", tier=None)
    assert len(kept) == 1


def test_a_look_up_counts_as_a_use_of_the_file():
    use = Use()
    kept = residents(uses={"s/a": use})
    kept.put("s/a", "A", 1)
    kept.get("s/a")
    assert use.used_s == 1000.0


def test_a_map_whose_file_was_used_since_goes_round_once():
    used, idle = Use(), Use()
    kept = residents(100)
    kept.put("s/used#map", "U", 40, tier=MAPS, use=used)
    kept.put("s/idle#map", "I", 40, tier=MAPS, use=idle)
    used.used_s = 2000.0
    kept.put("s/c", "C", 40)
    assert kept.get("s/idle#map") is None
    kept.put("s/d", "D", 40)
    assert [kept.get(n) is not None for n in ("s/used#map", "s/c", "s/d")] == [True, False, True]
    for name in "efg":
        kept.put(f"s/{name}", name, 40)
    assert kept.get("s/used#map") is None


def test_what_was_made_of_an_evicted_file_is_not_kept():
    kept = residents(uses={"s/a": Use(is_evicted=True)})
    kept.put("s/a", "A", 1)
    assert (kept.get("s/a"), kept.bytes) == (None, 0)


@pytest.mark.parametrize(
    "end",
    [
        lambda kept: kept.put("s/b", "B", 90),
        lambda kept: kept.drop("s/a", tier=None),
        lambda kept: kept.put("s/a", "A3", 200),
        lambda kept: kept.clear(),
    ],
    ids=["evicted", "dropped", "replaced by too much", "cleared"],
)
def test_whoever_wants_to_know_is_told_that_a_value_went(end):
    kept, told = residents(), []
    kept.put("s/a", "A", 20, on_gone=lambda: told.append("A"))
    kept.put("s/a", "A2", 30, on_gone=lambda: told.append("A2"))
    end(kept)
    assert told == ["A2"]


def test_hits_and_misses_are_counted_by_tier():
    kept = residents()
    kept.put("s/a", "A", 1)
    hits, misses = lookups("structures", "hit"), lookups("structures", "miss")
    for _ in range(70):
        kept.get("s/a")
    kept.get("s/b")
    assert (lookups("structures", "hit"), lookups("structures", "miss")) == (hits + 70, misses + 1)


def test_bytes_and_evictions_reach_the_metrics():
    held, evicted = (
        metric("elacsym_cache_bytes", tier="structures"),
        metric("elacsym_cache_evictions_total", tier="structures"),
    )
    kept = residents(100)
    for name in "abc":
        kept.put(f"s/{name}", name, 40)
    assert metric("elacsym_cache_bytes", tier="structures") == held + 80
    assert metric("elacsym_cache_evictions_total", tier="structures") == evicted + 1
    kept.clear()
    assert metric("elacsym_cache_bytes", tier="structures") == held


NAMES = st.sampled_from(["f/a", "f/a#x", "f/b", "g/a", "a"])


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "keep", "drop"]), NAMES, st.integers(0, 60))))
def test_bytes_are_the_sum_of_what_is_there_and_never_above_the_budget(steps):
    kept, sizes = residents(100), {}
    for step, name, size in steps:
        if step == "put":
            kept.put(name, name, size)
            sizes[name] = size
        elif step == "keep":
            if name not in kept._values:
                sizes[name] = size
            kept.keep(name, name, size)
        elif step == "drop":
            kept.drop(name)
        else:
            kept.get(name)
        there = [n for n in ("f/a", "f/a#x", "f/b", "g/a", "a") if n in kept._values]
        assert kept.bytes == sum(sizes[n] for n in there) <= 100
        assert sorted(n for names in kept._in_folder.values() for n in names) == sorted(there)


def test_threads_may_share_it():
    kept, failures = residents(50), []

    def work(seed: int) -> None:
        try:
            for i in range(2000):
                name = f"f{(i + seed) % 7}/x"
                kept.put(name, name, 10 + i % 5)
                assert kept.get(name) in (name, None)
                if i % 11 == 0:
                    kept.drop(name)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert kept.bytes == sum(v.size_bytes for v in kept._values.values()) <= 50
