"""Membership by heartbeats under virtual time: who is in the ring, who may claim, what faults do to that."""

import asyncio
import random
from collections import Counter

import pytest
from sim.sim_loop import SimClock, SimLoop

from elacsym.cluster.dynamic import HeartbeatMembership
from elacsym.cluster.heartbeat import FORGET_MS, decode
from elacsym.cluster.member import Health, Member
from elacsym.errors import StoreUnavailable
from elacsym.format import keys
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.telemetry import REGISTRY

HEARTBEAT_S, SILENT_S = 5.0, 30.0
# a round of heartbeats with its jitter, and the requests of it
ROUND_S = HEARTBEAT_S * 1.1 + 0.5


class Bucket(FaultyStore):
    """One node's way to the bucket; `asked` counts requests by operation and key."""

    def __init__(self, memory, rng):
        super().__init__(memory, rng, latency_s_max=0.05)
        self.asked = Counter()

    async def get(self, key):
        self.asked["get", key] += 1
        return await super().get(key)

    def list(self, prefix):
        self.asked["list", prefix] += 1
        return super().list(prefix)


class ShiftedClock(SimClock):
    """A clock that can be put forward, as suspension does."""

    ahead_s = 0.0

    def monotonic_s(self):
        return super().monotonic_s() + self.ahead_s


class Nodes:
    """A cluster whose time is virtual; every node has its own way to the one bucket."""

    def __init__(self, seed=0):
        self.rng = random.Random(seed)
        self.loop = SimLoop(random.Random(f"{seed}/loop"))
        self.memory = MemoryStore(clock=SimClock(self.loop))
        self.stores, self.clocks = {}, {}

    def run(self, scenario):
        """The scenario's result; whatever the loop would have logged is an error."""
        result = self.loop.run_until_done(self.loop.spawn("main", scenario))
        self.loop.drain()
        assert self.loop.errors == []
        return result

    async def add(self, node_id, *, process=None, url=None, **member):
        """A node that has started; `process` is what is paused and killed."""
        process = process or node_id
        store = self.stores[process] = Bucket(self.memory, random.Random(self.rng.random()))
        clock = self.clocks[process] = ShiftedClock(self.loop)
        membership = HeartbeatMembership(
            Member(node_id, url or f"http://{node_id}:3000", **member),
            store,
            clock,
            random.Random(self.rng.random()),
            heartbeat_s=HEARTBEAT_S,
            silent_s=SILENT_S,
        )
        await self.loop.spawn(process, membership.start())
        return membership

    def stored(self, node_id):
        key = keys.node(node_id)
        return decode(self.memory.objects[key].data, key=key)


def health(membership):
    return {s.member.node_id: s.health.value for s in membership.states()}


def test_nodes_find_each_other_and_agree():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a", weight=2.0)
        assert list(a.ring.weights) == ["a"]
        b, q = await nodes.add("b"), await nodes.add("q", role="query")
        assert list(b.ring.weights) == ["a", "b"]
        await asyncio.sleep(ROUND_S)
        assert len({m.ring.digest for m in (a, b, q)}) == 1
        assert a.ring.weights == {"a": 2.0, "b": 1.0}
        assert a.readers.weights == {"q": 1.0}
        assert a.member("b") == b.own
        assert a.member("c") is None
        assert (a.may_claim, b.may_claim, q.may_claim) == (True, True, False)
        for membership in (a, b, q):
            assert membership.fault is None
            assert health(membership) == {"a": "live", "b": "live", "q": "live"}
            assert all(0 <= s.heartbeat_age_s <= ROUND_S * 1.2 for s in membership.states())
        assert a.epoch == 1  # both came between two of its looks

    nodes.run(scenario())


def test_without_query_nodes_all_nodes_answer_queries():
    nodes = Nodes()

    async def scenario():
        await nodes.add("a")
        b = await nodes.add("b", weight=0.5)
        assert b.readers.weights == {"a": 1.0, "b": 0.5}

    nodes.run(scenario())


def test_a_view_that_stays_the_same_stays_one_value():
    nodes = Nodes()

    async def scenario():
        a, _ = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(ROUND_S)
        ring, epoch = a.ring, a.epoch
        await asyncio.sleep(10 * ROUND_S)
        assert a.ring is ring
        assert a.epoch == epoch == 1

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_a_dead_node_leaves_when_it_has_been_silent_and_not_before(seed):
    nodes = Nodes(seed)

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(20)
        nodes.loop.kill("b")
        last_ms = max([info async for info in nodes.memory.list("nodes/b")], key=lambda i: i.key).modified_ms
        now_ms = nodes.loop.time() * 1000
        await asyncio.sleep(SILENT_S - (now_ms - last_ms) / 1000 - 1)
        assert list(a.ring.weights) == ["a", "b"]
        await asyncio.sleep(1 + ROUND_S)
        assert list(a.ring.weights) == ["a"]
        assert health(a) == {"a": "live", "b": "silent"}
        again = await nodes.add("b", process="b again")
        assert list(again.ring.weights) == ["a", "b"]
        await asyncio.sleep(ROUND_S)
        assert health(a) == {"a": "live", "b": "live"}
        assert a.epoch == 3
        assert b.epoch <= 1

    nodes.run(scenario())


def test_a_restart_under_the_same_id_is_at_home_at_once():
    nodes = Nodes()

    async def scenario():
        await nodes.add("a")
        other = await nodes.add("b")
        await asyncio.sleep(7)
        nodes.loop.kill("a")
        began_s = nodes.loop.time()
        again = await nodes.add("a", process="a again", url="http://elsewhere:3000")
        assert nodes.loop.time() - began_s < 2
        assert again.may_claim
        assert list(again.ring.weights) == ["a", "b"]
        await asyncio.sleep(ROUND_S)
        assert other.member("a").url == "http://elsewhere:3000"

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_a_process_whose_id_was_taken_over_never_claims_again(seed):
    nodes = Nodes(seed)

    async def scenario():
        first = await nodes.add("a", process="first")
        await asyncio.sleep(nodes.rng.uniform(0, 10))
        second = await nodes.add("a", process="second")
        nonce = nodes.stored("a").nonce
        await asyncio.sleep(ROUND_S)
        assert not first.may_claim
        assert "another process has started as node 'a'" in first.fault
        await asyncio.sleep(10 * ROUND_S)
        assert not first.may_claim
        with pytest.raises(StoreUnavailable):
            await first.drain()
        await first.stop()
        assert nodes.stored("a").nonce == nonce
        assert second.may_claim
        assert second.fault is None

    nodes.run(scenario())


def test_a_draining_node_is_out_at_once_and_goes_on_to_say_so():
    nodes = Nodes()

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(ROUND_S)
        await b.drain()
        assert not b.may_claim
        assert list(b.ring.weights) == ["a"]
        assert health(b) == {"a": "live", "b": "draining"}
        await a.refresh()
        assert list(a.ring.weights) == ["a"]
        await asyncio.sleep(2 * SILENT_S)
        assert health(a) == {"a": "live", "b": "draining"}
        assert b.fault is None

    nodes.run(scenario())


def test_a_node_that_stops_takes_its_heartbeat_with_it():
    nodes = Nodes()

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(ROUND_S)
        await b.stop()
        assert keys.node("b") not in nodes.memory.objects
        await asyncio.sleep(ROUND_S)
        assert health(a) == {"a": "live"}
        await asyncio.sleep(ROUND_S)
        assert keys.node("b") not in nodes.memory.objects
        await b.stop()

    nodes.run(scenario())


def test_a_drain_that_reaches_nobody_stops_the_claims_all_the_same():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a")
        nodes.stores["a"].is_down = True
        with pytest.raises(StoreUnavailable):
            await a.drain()
        assert not a.may_claim
        assert list(a.ring.weights) == []
        nodes.stores["a"].is_down = False
        await asyncio.sleep(ROUND_S)
        assert nodes.stored("a").is_draining

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_a_node_that_cannot_reach_the_bucket_stops_claiming_before_others_take_it_for_silent(seed):
    nodes = Nodes(seed)

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(20)
        nodes.stores["a"].is_down = True
        cut_s = nodes.loop.time()
        while a.may_claim:
            assert "a" in b.ring.weights
            await asyncio.sleep(0.1)
        assert SILENT_S - ROUND_S <= nodes.loop.time() - cut_s <= SILENT_S + 0.2
        assert "no heartbeat has reached the bucket" in a.fault
        await asyncio.sleep(SILENT_S)
        assert "a" not in b.ring.weights
        assert not a.may_claim
        nodes.stores["a"].is_down = False
        await asyncio.sleep(ROUND_S)
        assert a.may_claim
        assert "a" in a.ring.weights

    nodes.run(scenario())


def test_after_a_pause_the_very_first_check_refuses_to_claim():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a")
        assert a.may_claim
        nodes.clocks["a"].ahead_s += SILENT_S + ROUND_S
        # nothing has run between the pause and this
        assert not a.may_claim
        await asyncio.sleep(ROUND_S)
        assert a.may_claim

    nodes.run(scenario())


def test_a_round_that_was_paused_in_its_middle_is_no_reason_to_claim():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a")
        store, clock = nodes.stores["a"], nodes.clocks["a"]
        inner_list = store.list

        def list_after_a_pause(prefix):
            # the heartbeat was sent before the pause, and may be the last that the others have seen
            clock.ahead_s += SILENT_S + 1
            store.list = inner_list
            return inner_list(prefix)

        store.list = list_after_a_pause
        while store.list is not inner_list:
            await asyncio.sleep(0.01)
        rounds = store.asked["list", "nodes/"]
        while store.asked["list", "nodes/"] == rounds:
            assert not a.may_claim
            await asyncio.sleep(0.01)
        await asyncio.sleep(ROUND_S)
        assert a.may_claim

    nodes.run(scenario())


@pytest.mark.parametrize("is_lost", [False, True], ids=["under way", "lost"])
def test_a_look_while_nobody_knows_when_the_heartbeat_arrived_takes_nobody_for_silent(is_lost):
    """A node that was cut off for long sends a heartbeat, and a write of its that was fenced looks at the
    others before the answer is there. It took the new heartbeat for its last one before the cut: by that the
    store's present was as far ahead as the cut was long, and all others were silent."""
    nodes = Nodes()

    async def scenario():
        a, _ = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(ROUND_S)
        store, seen = nodes.stores["a"], []
        inner_put = store.put_if_match

        async def put_and_look(key, data, etag):
            arrived = await inner_put(key, data, etag)
            store.put_if_match = inner_put
            await a.refresh()
            seen.append(health(a)["b"])
            if is_lost:
                raise StoreUnavailable("the answer was lost")
            return arrived

        store.is_down = True
        await asyncio.sleep(3 * SILENT_S)
        store.put_if_match, store.is_down = put_and_look, False
        while not a.may_claim:
            await asyncio.sleep(0.01)
        assert seen == ["live"]
        assert health(a) == {"a": "live", "b": "live"}
        await asyncio.sleep(ROUND_S)
        assert health(a) == {"a": "live", "b": "live"}

    nodes.run(scenario())


def metric(name, **labels):
    return REGISTRY.get_sample_value(f"elacsym_{name}", labels) or 0.0


def test_members_heartbeats_and_epochs_are_counted():
    nodes = Nodes()
    names = ("sent", "failed", "displaced")
    before = {name: metric("heartbeats_total", outcome=name) for name in names}
    epochs, corrupt = metric("cluster_epochs_total"), metric("heartbeats_corrupt_total")

    def counted(name):
        return metric("heartbeats_total", outcome=name) - before[name]

    async def scenario():
        await nodes.memory.put_if_absent("nodes/x.json", b"nonsense")
        a = await nodes.add("a")
        assert metric("heartbeats_corrupt_total") == corrupt + 1
        assert metric("cluster_members", health="live") == 1
        nodes.stores["a"].is_down = True
        await asyncio.sleep(2 * ROUND_S)
        assert counted("sent") == 1
        assert counted("failed") >= 1
        nodes.stores["a"].is_down = False
        await asyncio.sleep(ROUND_S)
        assert counted("sent") >= 2
        await nodes.add("a", process="again")
        await asyncio.sleep(ROUND_S)
        assert counted("displaced") == 1
        # each of the two processes saw its ring begin
        assert metric("cluster_epochs_total") == epochs + 2
        assert not a.may_claim

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(20))
def test_a_paused_node_claims_only_after_a_whole_round(seed):
    nodes = Nodes(seed)
    seen = []

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")

        async def watch():
            while True:
                seen.append((nodes.loop.time(), a.may_claim, nodes.stores["a"].asked["list", "nodes/"]))
                await asyncio.sleep(0.05)

        nodes.loop.spawn("a", watch())
        await asyncio.sleep(nodes.rng.uniform(15, 25))
        pause_s = nodes.rng.uniform(SILENT_S + 0.1, 3 * SILENT_S)
        woke_s = nodes.loop.time() + pause_s
        lists = nodes.stores["a"].asked["list", "nodes/"]
        nodes.loop.pause("a", pause_s)
        await asyncio.sleep(pause_s + 2 * ROUND_S)
        after = [row for row in seen if row[0] >= woke_s]
        assert not after[0][1]
        assert all(listed > lists for _, may_claim, listed in after if may_claim)
        assert after[-1][1]
        assert list(b.ring.weights) == ["a", "b"]

    nodes.run(scenario())


def test_a_corrupt_heartbeat_makes_its_node_silent_until_the_next():
    nodes = Nodes()

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(ROUND_S)
        nodes.loop.pause("b", 2 * ROUND_S)
        key = keys.node("b")
        bad = bytearray(nodes.memory.objects[key].data)
        bad[40] ^= 1
        await nodes.memory.put_if_match(key, bytes(bad), nodes.memory.objects[key].etag)
        await asyncio.sleep(ROUND_S)
        assert health(a) == {"a": "live", "b": "silent"}
        assert a.member("b") == b.own
        assert a.may_claim
        await asyncio.sleep(2 * ROUND_S)
        assert health(a) == {"a": "live", "b": "live"}
        assert b.may_claim

    nodes.run(scenario())


def test_what_never_could_be_read_is_no_member():
    nodes = Nodes()

    async def scenario():
        await nodes.memory.put_if_absent("nodes/x.json", b"nonsense")
        await nodes.memory.put_if_absent("nodes/readme.txt", b"nonsense")
        a = await nodes.add("a")
        assert health(a) == {"a": "live"}

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_a_bit_that_flips_on_its_way_displaces_nobody(seed):
    nodes = Nodes(seed)

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        for store in nodes.stores.values():
            store.rates = FaultRates(corrupt=0.3, response_lost=0.2)
        await asyncio.sleep(20 * ROUND_S)
        assert nodes.stores["a"].injected["corrupt"] > 3
        for store in nodes.stores.values():
            store.rates = FaultRates()
        await asyncio.sleep(2 * ROUND_S)
        assert health(a) == health(b) == {"a": "live", "b": "live"}
        assert a.may_claim
        assert b.may_claim

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(10))
def test_listings_that_miss_rows_cost_no_member(seed):
    nodes = Nodes(seed)

    async def scenario():
        everyone = [await nodes.add(name) for name in "abc"]
        await asyncio.sleep(ROUND_S)
        epochs = [m.epoch for m in everyone]
        for store in nodes.stores.values():
            store.rates = FaultRates(partial_list=0.1)
        for _ in range(100):
            await asyncio.sleep(1)
            assert all(list(m.ring.weights) == ["a", "b", "c"] for m in everyone)
        assert [m.epoch for m in everyone] == epochs

    nodes.run(scenario())


@pytest.mark.parametrize("seed", range(30))
def test_on_a_bad_network_nobody_is_displaced_and_all_agree_afterwards(seed):
    nodes = Nodes(seed)

    async def scenario():
        everyone = [await nodes.add(name) for name in "abc"]
        for store in nodes.stores.values():
            store.rates = FaultRates.rough()
        for _ in range(20):
            await asyncio.sleep(ROUND_S)
            nodes.loop.pause(nodes.rng.choice("abc"), nodes.rng.uniform(0, 2 * HEARTBEAT_S))
            if nodes.rng.random() < 0.2:
                store = nodes.rng.choice(list(nodes.stores.values()))
                store.is_down = not store.is_down
        for store in nodes.stores.values():
            store.is_down, store.rates = False, FaultRates()
        await asyncio.sleep(SILENT_S)
        assert len({m.ring.digest for m in everyone}) == 1
        assert all(m.may_claim and m.fault is None for m in everyone)
        assert all(health(m) == {"a": "live", "b": "live", "c": "live"} for m in everyone)

    nodes.run(scenario())


def test_what_has_been_silent_for_an_hour_is_removed_and_comes_back_if_it_wakes():
    nodes = Nodes()

    async def scenario():
        a, b = await nodes.add("a"), await nodes.add("b")
        await asyncio.sleep(ROUND_S)
        nodes.loop.pause("b", FORGET_MS / 1000 + 60)
        await asyncio.sleep(FORGET_MS / 1000 - 60)
        assert health(a) == {"a": "live", "b": "silent"}
        await asyncio.sleep(60 + 2 * ROUND_S)
        assert keys.node("b") not in nodes.memory.objects
        assert health(a) == {"a": "live"}
        await asyncio.sleep(120)
        assert health(a) == {"a": "live", "b": "live"}
        assert b.may_claim

    nodes.run(scenario())


def test_a_node_that_is_silent_is_not_read_again():
    nodes = Nodes()

    async def scenario():
        await nodes.add("a"), await nodes.add("b")
        nodes.loop.kill("b")
        await asyncio.sleep(ROUND_S)
        asked = nodes.stores["a"].asked
        before = asked.copy()
        await asyncio.sleep(10 * ROUND_S)
        assert asked["get", keys.node("b")] == before["get", keys.node("b")]
        assert asked["get", keys.node("a")] == before["get", keys.node("a")] == 0
        assert 8 <= asked["list", "nodes/"] - before["list", "nodes/"] <= 14

    nodes.run(scenario())


def test_many_who_look_again_look_once_a_second():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a")
        await asyncio.sleep(2)
        before = nodes.stores["a"].asked["list", "nodes/"]
        await asyncio.gather(*(a.refresh() for _ in range(20)))
        assert nodes.stores["a"].asked["list", "nodes/"] == before + 1
        nodes.stores["a"].is_down = True
        await a.refresh()
        await asyncio.sleep(1.1)
        with pytest.raises(StoreUnavailable):
            await a.refresh()

    nodes.run(scenario())


def test_a_node_does_not_start_without_the_bucket():
    nodes = Nodes()

    async def scenario():
        down = Bucket(nodes.memory, nodes.rng)
        down.is_down = True
        membership = HeartbeatMembership(Member("a", "http://a:3000"), down, SimClock(nodes.loop), nodes.rng)
        with pytest.raises(StoreUnavailable, match=r"nodes/a\.json"):
            await membership.start()
        assert not membership.may_claim
        await membership.stop()

    nodes.run(scenario())


def test_a_node_that_starts_beside_a_slow_bucket_says_how_long_it_waited():
    nodes = Nodes()

    async def scenario():
        slow = Bucket(nodes.memory, nodes.rng)
        slow.latency_s_max = 10_000.0
        membership = HeartbeatMembership(
            Member("a", "http://a:3000"), slow, SimClock(nodes.loop), nodes.rng, silent_s=SILENT_S
        )
        with pytest.raises(StoreUnavailable, match=r"nodes/a\.json: .* not within 15 s"):
            await membership.start()
        await membership.stop()

    nodes.run(scenario())


def test_a_node_whose_requests_hang_stops_claiming():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a")
        nodes.stores["a"].latency_s_max = 10_000.0
        await asyncio.sleep(SILENT_S + 1)
        assert not a.may_claim
        nodes.stores["a"].latency_s_max = 0.05
        await asyncio.sleep(SILENT_S / 2 + 2 * ROUND_S)
        assert a.may_claim
        nodes.stores["a"].latency_s_max = 10_000.0
        await a.stop()

    nodes.run(scenario())


def test_the_health_of_this_node_is_its_own():
    nodes = Nodes()

    async def scenario():
        a = await nodes.add("a")
        assert [s.health for s in a.states()] == [Health.LIVE]
        await a.drain()
        await a.drain()
        assert [s.health for s in a.states()] == [Health.DRAINING]
        assert a.epoch == 1

    nodes.run(scenario())
