"""The ring: the same answers everywhere, even shares, and no more movement than there has to be."""

import json
import random
import subprocess
import sys
from collections import Counter

import pytest
import seahash
from hypothesis import given
from hypothesis import strategies as st

from elacsym.cluster.ring import HashRing

NAMESPACES = [f"namespace-{i}" for i in range(10_000)]
# names that people give nodes, and one family without any order
FAMILIES = {
    "numbered": [f"indexer-{i}" for i in range(20)],
    "addresses": [f"10.0.0.{i + 11}" for i in range(20)],
    "letters": [chr(ord("a") + i) for i in range(20)],
    "random": [f"{random.Random(i).getrandbits(64):016x}" for i in range(20)],
}

three = HashRing({"indexer-0": 1.0, "indexer-1": 1.0, "indexer-2": 1.0})
weighted = HashRing({"indexer-0": 1.0, "indexer-1": 2.0, "indexer-2": 0.5})
node_ids = st.text("abcdef-.0123456789", min_size=1, max_size=12)
rings = st.dictionaries(node_ids, st.floats(0.01, 4), min_size=1, max_size=6)


def owners(ring):
    return ring.owners(NAMESPACES)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"", 14492805990617963705),
        (b"123", 17880861427118377629),
        (b"foobar", 5348458858952426560),
        # the vector in the description of the hash
        (b"to be or not to be", 1988685042348123509),
        (b"indexer-0#0", 5726906368972941267),
    ],
)
def test_the_hash_is_seahash(data, value):
    assert seahash.hash(data) == value


@pytest.mark.parametrize(
    ("namespace", "of_three", "of_weighted"),
    [
        ("a", "210", "210"),
        ("docs", "201", "120"),
        ("Docs", "120", "120"),
        ("books.2024", "021", "102"),
        ("namespace-0000000017", "201", "210"),
        ("x" * 128, "021", "012"),
        ("-", "210", "120"),
        ("_.", "120", "102"),
    ],
)
def test_golden_preferences(namespace, of_three, of_weighted):
    # nodes of different releases must agree: these never change
    assert three.preference(namespace) == [f"indexer-{digit}" for digit in of_three]
    assert weighted.preference(namespace) == [f"indexer-{digit}" for digit in of_weighted]


def test_golden_shares_and_digests():
    assert three.shares() == pytest.approx(
        {"indexer-0": 0.33262310, "indexer-1": 0.32645120, "indexer-2": 0.34092570}, abs=1e-8
    )
    assert three.digest == "78e8876dcf7fed2f"


def test_another_process_gives_the_same_answer():
    code = (
        "import json, sys; from elacsym.cluster.ring import HashRing;"
        "ring = HashRing(json.loads(sys.argv[1]));"
        "print(json.dumps([[ring.preference(f'namespace-{i}') for i in range(500)], ring.digest]))"
    )
    # another seed of Python's own hash, and the nodes in another order
    command = [sys.executable, "-c", code, json.dumps(dict(reversed(weighted.weights.items())))]
    answer = subprocess.run(command, env={"PYTHONHASHSEED": "7"}, capture_output=True, check=True)
    assert json.loads(answer.stdout) == [
        [weighted.preference(name) for name in NAMESPACES[:500]],
        weighted.digest,
    ]


@given(rings, st.randoms(use_true_random=False))
def test_the_order_of_nodes_does_not_matter(weights, rng):
    items = list(weights.items())
    rng.shuffle(items)
    one, other = HashRing(weights), HashRing(dict(items))
    assert one.digest == other.digest
    assert one.shares() == other.shares()
    assert [one.preference(name) for name in NAMESPACES[:50]] == [
        other.preference(name) for name in NAMESPACES[:50]
    ]


@given(rings, st.integers(0, 7))
def test_a_preference_is_every_node_once_and_its_beginning_what_is_asked_for(weights, count):
    ring = HashRing(weights)
    for name in NAMESPACES[:20]:
        whole = ring.preference(name)
        assert sorted(whole) == sorted(weights)
        assert ring.preference(name, count) == whole[:count]
        assert ring.owner(name) == whole[0]


@given(rings)
def test_owners_of_many_are_those_of_each(weights):
    ring = HashRing(weights)
    assert ring.owners(NAMESPACES[:100]) == [ring.owner(name) for name in NAMESPACES[:100]]
    assert ring.owners([]) == []


@given(rings)
def test_shares_are_of_the_whole_circle(weights):
    shares = HashRing(weights).shares()
    assert list(shares) == sorted(weights)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert all(share >= 0 for share in shares.values())


def test_without_nodes_nobody_owns_anything():
    empty = HashRing({})
    assert empty.owner("docs") is None
    assert empty.preference("docs") == []
    assert empty.owners(["docs", "more"]) == [None, None]
    assert empty.shares() == {}


def test_a_ring_of_one_place_is_all_of_the_circle():
    ring = HashRing({"a": 1.0}, virtual_nodes=1)
    assert ring.shares() == {"a": 1.0}
    assert set(owners(ring)) == {"a"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", range(2, 21))
def test_equal_nodes_own_at_most_a_quarter_more_than_the_mean(family, count):
    ring = HashRing(dict.fromkeys(FAMILIES[family][:count], 1.0))
    owned = Counter(owners(ring))
    assert len(owned) == count
    assert max(owned.values()) <= 1.25 * len(NAMESPACES) / count
    assert max(ring.shares().values()) <= 1.25 / count


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", range(2, 21))
def test_the_next_node_takes_its_share_and_nothing_else_moves(family, count):
    nodes = FAMILIES[family][:count]
    before = owners(HashRing(dict.fromkeys(nodes[:-1], 1.0)))
    after = owners(HashRing(dict.fromkeys(nodes, 1.0)))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {nodes[-1]}
    assert len(moved) <= 1.5 * len(NAMESPACES) / count


@pytest.mark.parametrize("family", FAMILIES)
def test_removing_a_node_moves_only_what_it_owned_to_the_next_in_preference(family):
    nodes = FAMILIES[family]
    whole = HashRing(dict.fromkeys(nodes, 1.0))
    for gone in nodes[::4]:
        rest = HashRing(dict.fromkeys(set(nodes) - {gone}, 1.0))
        for name in NAMESPACES[:2_000]:
            first, second = whole.preference(name, 2)
            assert rest.owner(name) == (second if first == gone else first)


@given(rings, node_ids, st.floats(0.01, 4))
def test_a_changed_weight_moves_only_from_or_to_its_node(weights, node, weight):
    before, after = HashRing(weights), HashRing({**weights, node: weight})
    for name in NAMESPACES[:200]:
        old, new = before.owner(name), after.owner(name)
        assert old == new or node in (old, new)


def test_weights_are_shares_relative_to_each_other():
    weights = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 4.0}
    owned = Counter(owners(HashRing(weights)))
    for node, weight in weights.items():
        expected = len(NAMESPACES) * weight / sum(weights.values())
        assert owned[node] == pytest.approx(expected, rel=0.15), node


@given(rings, rings)
def test_digests_tell_rings_apart(one, other):
    assert (HashRing(one).digest == HashRing(other).digest) is (one == other)
