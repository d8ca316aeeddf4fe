from __future__ import annotations

import asyncio
import random

import pytest
from contract import ObjectStoreContract

from elacsym.clock import SystemClock
from elacsym.errors import StoreUnavailable
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.store.metered import MeteredStore
from elacsym.store.resolve import Budget, ResolvingStore
from elacsym.store.wrapper import StoreWrapper

PATIENT = Budget(tries=60, total_s=1e9)


class Pauses:
    """Records the pauses, and does not pause."""

    def __init__(self) -> None:
        self.taken_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken_s.append(seconds)
        await asyncio.sleep(0)


def resolving(inner, *, budget: Budget | None = None, pauses: Pauses | None = None) -> ResolvingStore:
    return ResolvingStore(
        inner, clock=SystemClock(), rng=random.Random(0), budget=budget, sleep=pauses or Pauses()
    )


class TestResolvingStoreOverLossyRequests(ObjectStoreContract):
    """Lost requests, lost responses, doubled requests and 503s: a patient client sees none of them."""

    @pytest.fixture(params=range(5))
    def store(self, request):
        rates = FaultRates(lost=0.15, doubled=0.2, response_lost=0.2, refused=0.1)
        return resolving(FaultyStore(MemoryStore(), random.Random(request.param), rates), budget=PATIENT)


class Script(StoreWrapper):
    """Calls the given steps, one per mutation, instead of the inner store's method."""

    def __init__(self, *steps) -> None:
        super().__init__(MemoryStore())
        self.steps, self.sent = list(steps), 0

    async def put_if_absent(self, key, data):
        return await self._step(lambda: self.inner.put_if_absent(key, data))

    async def put_if_match(self, key, data, etag):
        return await self._step(lambda: self.inner.put_if_match(key, data, etag))

    async def _step(self, apply):
        self.sent += 1
        return await self.steps.pop(0)(apply, self.inner)


async def passes(apply, inner):
    return await apply()


async def loses_the_response(apply, inner):
    await apply()
    raise StoreUnavailable("response lost")


async def loses_the_request(apply, inner):
    raise StoreUnavailable("request lost")


async def is_doubled(apply, inner):
    await apply()
    return await apply()


async def refuses(apply, inner):
    return None


async def hangs(apply, inner):
    await apply()
    await asyncio.Event().wait()


async def loses_to_another(apply, inner):
    await inner.delete("a")
    await inner.put_if_absent("a", b"another's")
    raise StoreUnavailable("response lost")


async def test_a_create_that_the_layer_below_sent_twice_is_a_success():
    store = resolving(Script(is_doubled))
    etag = await store.put_if_absent("a", b"ours")
    assert etag == (await store.get("a")).etag


async def test_a_create_whose_response_was_lost_is_a_success_without_a_second_request():
    script = Script(loses_the_response)
    store = resolving(script)
    assert await store.put_if_absent("a", b"ours") == (await store.get("a")).etag
    assert script.sent == 1


async def test_a_create_that_never_arrived_is_sent_again():
    script = Script(loses_the_request, loses_the_request, passes)
    assert await resolving(script).put_if_absent("a", b"ours") is not None
    assert script.sent == 3


async def test_a_create_without_an_answer_is_cut_off_and_resolved():
    store = resolving(Script(hangs), budget=Budget(try_s=0.01))
    assert await store.put_if_absent("a", b"ours") == (await store.get("a")).etag


async def test_a_create_that_failed_while_another_won_is_refused():
    assert await resolving(Script(loses_to_another)).put_if_absent("a", b"ours") is None


async def test_a_clean_refusal_with_nothing_stored_is_a_refusal_and_not_sent_again():
    script = Script(refuses)
    assert await resolving(script).put_if_absent("a", b"ours") is None
    assert script.sent == 1


async def test_a_replacement_is_resolved_like_a_create():
    for steps, sent in [((is_doubled,), 1), ((loses_the_response,), 1), ((loses_the_request, passes), 2)]:
        script = Script(*steps)
        store = resolving(script)
        first = await script.inner.put_if_absent("a", b"before")
        assert await store.put_if_match("a", b"ours", first) == (await store.get("a")).etag
        assert (await store.get("a")).data == b"ours"
        assert script.sent == sent


async def test_a_replacement_is_refused_when_the_object_is_anothers_or_gone():
    script = Script(loses_to_another)
    first = await script.inner.put_if_absent("a", b"before")
    assert await resolving(script).put_if_match("a", b"ours", first) is None
    script.steps = [loses_the_request]
    assert await resolving(script).put_if_match("gone", b"ours", first) is None


async def test_tries_are_bounded_and_pauses_grow_with_full_jitter():
    pauses = Pauses()
    script = Script(*[loses_the_request] * 10)
    with pytest.raises(StoreUnavailable, match=r"request lost \(gave up after 4 tries\)"):
        await resolving(script, pauses=pauses).put_if_absent("a", b"ours")
    assert script.sent == 4
    assert len(pauses.taken_s) == 3
    assert all(0 <= s <= 0.05 * 2**i for i, s in enumerate(pauses.taken_s))


async def test_no_try_begins_after_the_time_is_used_up():
    script = Script(*[loses_the_request] * 10)
    with pytest.raises(StoreUnavailable):
        await resolving(script, budget=Budget(total_s=0.0)).put_if_absent("a", b"ours")
    assert script.sent == 1


async def test_an_unreadable_outcome_is_an_error_and_never_a_refusal():
    faulty = FaultyStore(MemoryStore(), random.Random(0))
    script = Script(*[refuses] * 10)
    script.inner = faulty
    faulty.is_down = True
    with pytest.raises(StoreUnavailable):
        await resolving(script).put_if_absent("a", b"ours")


async def test_a_503_storm_costs_four_requests_each_and_ends_with_the_storm():
    faulty = FaultyStore(MemoryStore(), random.Random(0))
    counted = MeteredStore(faulty)
    store = resolving(counted)
    etag = await store.put_if_absent("a", b"1")
    counted.reset()
    faulty.is_down = True
    requests = [store.get("a"), store.get_ranges("a", [(0, 1)]), store.delete("a"), anext(store.list(""))]
    for request in requests:
        with pytest.raises(StoreUnavailable):
            await request
    with pytest.raises(StoreUnavailable):
        await store.put_if_match("a", b"2", etag)
    assert counted.counts == {"get": 8, "get_ranges": 4, "delete": 4, "list": 4, "put_if_match": 4}
    faulty.is_down = False
    assert await store.put_if_match("a", b"2", etag) is not None


async def test_a_listing_that_breaks_goes_on_where_it_was():
    class Breaking(StoreWrapper):
        breaks = 2

        async def list(self, prefix):
            count = 0
            async for row in self.inner.list(prefix):
                if count == 5 and self.breaks:
                    self.breaks -= 1
                    raise StoreUnavailable("connection reset")
                count += 1
                yield row

    breaking = Breaking(MemoryStore())
    names = [f"k{i:02}" for i in range(12)]
    for name in names:
        await breaking.put_if_absent(name, b"1")
    assert [row.key async for row in resolving(breaking).list("k")] == names


async def test_late_requests_never_make_two_winners():
    # every create carries other bytes; at most one of them may be told that it won, whatever arrives when
    for seed in range(150):
        rates = FaultRates(lost=0.1, late=0.3, doubled=0.2, response_lost=0.3, release=0.2)
        faulty = FaultyStore(MemoryStore(), random.Random(seed), rates)
        store = resolving(faulty)
        outcomes = await asyncio.gather(
            *(store.put_if_absent("a", b"writer %d" % i) for i in range(6)), return_exceptions=True
        )
        await faulty.deliver_late()
        winners = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, str)]
        assert len(winners) <= 1, seed
        stored = await faulty.inner.get("a")
        assert not winners or stored.data == b"writer %d" % winners[0], seed
        assert all(o is None or isinstance(o, str | StoreUnavailable) for o in outcomes), seed
