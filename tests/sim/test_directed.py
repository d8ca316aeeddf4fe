"""Schedules that need one rule of the protocol each: right with the rule, wrong without it.

A gate stops one request of one node at the store, which is how a stall of any length looks from outside.
"""

import asyncio
import random

import pytest
from sim_mutants import mutated
from sim_segments import Files, Rows, fold
from sim_world import Item, JsonPreparer

from elacsym.errors import CorruptObject
from elacsym.log import catalog
from elacsym.log.settings import LogSettings
from elacsym.log.writer import LogWriter
from elacsym.store.faults import FaultRates, FaultyStore
from elacsym.store.memory import MemoryStore
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import Schema

SETTINGS = LogSettings(retry_base_s=0.0, probes_cold=(1,), probes_warm=(1,))


class ManualClock:
    """Time that the test moves."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic_s(self):
        return self.now_s

    def wall_ms(self):
        return int(self.now_s * 1000)


class Gate(StoreWrapper):
    """Holds the next request whose operation and key match, until it is opened."""

    def __init__(self, inner):
        super().__init__(inner)
        self.operation, self.key = "", ""
        self.reached, self.opened = asyncio.Event(), asyncio.Event()

    def arm(self, operation, key):
        self.operation, self.key = operation, key

    async def _pass(self, operation, key):
        if (operation, True) == (self.operation, key.endswith(self.key)):
            self.operation = ""
            self.reached.set()
            await self.opened.wait()

    async def get(self, key):
        await self._pass("get", key)
        return await self.inner.get(key)

    async def put_if_absent(self, key, data):
        await self._pass("put", key)
        return await self.inner.put_if_absent(key, data)


class Process:
    """One node over the shared memory store, behind its own gate."""

    def __init__(self, memory, reader_type, clock, *, store=None):
        self.gate = Gate(store or memory)
        rng = random.Random(0)
        self.rows, self.files = Rows(), Files(self.gate, "directed")
        self.reader = reader_type(self.gate, "directed", self.rows, clock, rng, SETTINGS)
        self.writer = LogWriter(self.reader, self.gate, JsonPreparer(random.Random(1)), clock, rng, SETTINGS)

    async def put(self, number):
        return await self.writer.write(Item([(number, "put", f"row{number}")], None))

    async def fold(self, job):
        """Fold the whole tail and collect the slots at once, as if the grace had passed."""
        await self.reader.check()
        keys = [self.reader.keys.wal(self.reader.manifest.inc, s.seq) for s in self.reader.slots]
        assert await fold(self.reader, self.rows, self.files, Largest(), job)
        for key in keys:
            await self.gate.delete(key)

    async def numbers(self):
        """The operations in a strong view."""
        await self.reader.check()
        tail = [number for number, *_ in self.rows.operations(self.reader.tail)]
        manifest = self.reader.manifest
        folded = [n for s in manifest.segments for n, _ in await self.files.journal(manifest.inc, s)]
        return sorted(folded + tail)


class Largest(random.Random):
    """Draws the largest of everything: folds the whole tail."""

    def randint(self, a, b):
        return b


async def start(mutant_reader, clock, count):
    memory = MemoryStore(clock=clock)
    await catalog.create(memory, "directed", Schema(), clock=clock, rng=random.Random(5))
    return memory, [Process(memory, mutant_reader, clock) for _ in range(count)]


def wal(seq):
    return f"/wal/{seq:020d}"


async def stalled_claim_becomes_a_ghost(mutant):
    """A claim stalls before its PUT; the slot is taken, folded and collected; then the claim arrives."""
    with mutated(mutant) as reader_type:
        clock = ManualClock()
        _, (owner, reader, stalled) = await start(reader_type, clock, 3)
        await owner.put(1)
        await reader.numbers()
        stalled.gate.arm("put", wal(2))
        late = asyncio.ensure_future(stalled.put(3))
        await stalled.gate.reached.wait()
        committed = await owner.put(2)
        assert committed.seq == 2
        await owner.fold("job1")
        # while the ghost of slot 2 lies there, before the stalled writer hears anything
        reader_saw_ghost = asyncio.Event()
        get_if_changed = stalled.gate.get_if_changed

        async def held(key, etag):
            reader_saw_ghost.set()
            await release.wait()
            return await get_if_changed(key, etag)

        release = asyncio.Event()
        stalled.gate.get_if_changed = held
        stalled.gate.opened.set()
        await reader_saw_ghost.wait()
        seen = await reader.numbers()
        release.set()
        await late
        return seen


async def test_a_reader_does_not_take_the_ghost_of_a_collected_slot_for_the_log():
    assert await stalled_claim_becomes_a_ghost(None) == [1, 2]


async def test_accepting_a_changed_manifest_that_is_not_ahead_is_caught():
    assert await stalled_claim_becomes_a_ghost("laxrecheck") != [1, 2]


async def slow_round(mutant):
    """The manifest half of a strong check is answered, the slot half comes after fold and collection."""
    with mutated(mutant) as reader_type:
        clock = ManualClock()
        _, (owner, reader) = await start(reader_type, clock, 2)
        await owner.put(1)
        await reader.numbers()
        reader.gate.arm("get", wal(2))
        read = asyncio.ensure_future(reader.numbers())
        await reader.gate.reached.wait()
        await owner.put(2)
        await owner.fold("job1")
        clock.now_s += SETTINGS.gc_grace_s
        # acknowledged before this read began, which shares nothing with the stalled one but the view
        reader.gate.opened.set()
        return await read


async def test_a_round_longer_than_half_the_grace_is_done_again_in_order():
    assert await slow_round(None) == [1, 2]


async def test_accepting_a_slow_round_is_caught():
    assert await slow_round("parnoguard") == [1]


async def put_into_a_collected_slot(mutant):
    """A writer stalls before the PUT of a value; another takes over; the slot is folded and collected."""
    with mutated(mutant) as reader_type:
        clock = ManualClock()
        _, (stalled, other) = await start(reader_type, clock, 2)
        await stalled.put(1)
        stalled.gate.arm("put", wal(2))
        write = asyncio.ensure_future(stalled.put(2))
        await stalled.gate.reached.wait()
        await other.put(3)
        await other.fold("job1")
        stalled.gate.opened.set()
        committed = await write
        return committed, await other.numbers()


async def test_a_writer_that_wins_a_collected_slot_does_not_acknowledge_it():
    committed, seen = await put_into_a_collected_slot(None)
    assert committed.seq > 3  # again, behind a claim of its own
    assert seen == [1, 2, 3]


async def test_acknowledging_without_the_manifest_is_caught():
    committed, seen = await put_into_a_collected_slot("nocheck")
    assert committed.seq == 2
    assert seen == [1, 3]


async def doubled_puts(mutant):
    with mutated(mutant) as reader_type:
        clock = ManualClock()
        memory, (reader,) = await start(reader_type, clock, 1)
        faulty = FaultyStore(memory, random.Random(0))
        owner = Process(memory, reader_type, clock, store=faulty)
        await owner.put(1)
        faulty.rates = FaultRates(doubled=1.0)
        write = asyncio.ensure_future(owner.put(2))
        while not faulty.injected["doubled"]:
            await asyncio.sleep(0)
        faulty.rates = FaultRates()
        await write
        return await reader.numbers()


async def test_a_refusal_of_ones_own_doubled_request_is_recognised():
    assert await doubled_puts(None) == [1, 2]


async def test_trusting_a_refusal_is_caught():
    assert await doubled_puts("noverify") == [1, 2, 2]


async def write_after_losing_a_slot(mutant):
    with mutated(mutant) as reader_type:
        clock = ManualClock()
        _, (first, second) = await start(reader_type, clock, 2)
        await first.put(1)
        await second.put(2)
        await first.reader.check()  # its view moves past the claim that ended its ownership
        await first.put(3)
        return await second.numbers()


async def test_nothing_is_put_at_a_later_slot_before_a_new_claim():
    assert await write_after_losing_a_slot(None) == [1, 2, 3]


async def test_writing_the_next_slot_under_the_old_epoch_is_caught():
    assert await write_after_losing_a_slot("nextslot") == [1, 2]


async def test_a_damaged_slot_is_damage_and_not_a_ghost():
    clock = ManualClock()
    with mutated(None) as reader_type:
        memory, (owner, reader) = await start(reader_type, clock, 2)
        await owner.put(1)
        key = owner.reader.keys.wal(owner.reader.manifest.inc, 1)
        good = memory.objects[key]
        bad = good.data[:-1] + bytes([good.data[-1] ^ 1])
        await memory.delete(key)
        await memory.put_if_absent(key, bad)
        with pytest.raises(CorruptObject) as caught:
            await reader.numbers()
        assert caught.value.key == key
