"""The sequential rounds that a query takes on a namespace that its node has never seen: the table in
docs/architecture.md."""

import asyncio

import numpy as np
import pytest
from support.database import open_database

from benches.distant import DistantStore
from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.index.ivf import FILL_ROW_US
from elacsym.query.ast import Compare, Op, Query, TextLeg, VectorLeg
from elacsym.store.memory import MemoryStore
from elacsym.store.ranges import GAP_BYTES_MAX
from elacsym.store.wrapper import StoreWrapper
from elacsym.types import STRONG, Attribute, AttributeType, FullText, Metric, Schema

SEGMENTS, ROWS = 2, 8_000
WORDS = [f"word{n}" for n in range(20_000)]
VECTOR = np.linspace(-1, 1, 32, dtype=np.float32)
SCHEMA = Schema(
    metric=Metric.L2,
    attributes={
        "vector": Attribute(AttributeType.parse("[32]f32"), filterable=False),
        "body": Attribute(AttributeType.parse("string"), filterable=False, full_text=FullText()),
        "number": Attribute(AttributeType.parse("int")),
    },
)


def documents(segment):
    rng = np.random.default_rng(segment)
    vectors = rng.standard_normal((ROWS, 32)).astype(np.float32)
    words = (rng.zipf(1.2, (ROWS, 12)) - 1) % len(WORDS)
    # bit-reversed, so that what is written together is not read together
    return [
        Document(
            f"document {(n * 7_919) % (ROWS * SEGMENTS)}",
            {"vector": vectors[i], "body": " ".join(WORDS[w] for w in words[i]), "number": n},
        )
        for i, n in enumerate(range(segment * ROWS, (segment + 1) * ROWS))
    ]


class Unhurried(StoreWrapper):
    """Reads take many turns of the event loop, so that those of one round overlap however busy the machine
    is."""

    async def get(self, key):
        await turns()
        return await self.inner.get(key)

    async def get_if_changed(self, key, etag):
        await turns()
        return await self.inner.get_if_changed(key, etag)

    async def get_ranges(self, key, ranges, *, gap_bytes=GAP_BYTES_MAX):
        await turns()
        return await self.inner.get_ranges(key, ranges, gap_bytes=gap_bytes)


async def turns():
    for _ in range(300):
        await asyncio.sleep(0)


async def fill(store, cache_path):
    database = await open_database(store, cache_path=cache_path)
    for name in ("folded", "tailed"):
        await database.create(name, SCHEMA)
        for segment in range(SEGMENTS):
            await database.write(name, WriteRequest(upserts=documents(segment)))
            assert await fold(await database.namespace(name))
    await database.write("tailed", WriteRequest(deletes=["document 1"]))
    await database.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with two namespaces of two segments each, of which one has a log tail besides."""
    store = MemoryStore()
    asyncio.run(fill(store, tmp_path_factory.mktemp("cache")))
    return store


@pytest.fixture
async def cold(filled, tmp_path):
    """A database whose node has never seen the namespaces, and its store, which counts."""
    store = DistantStore(Unhurried(filled), latency_s=0)
    database = await open_database(store, cache_path=tmp_path)
    store.reset()
    yield database, store
    await database.close()


QUERIES = {
    "vector": (Query(legs=(VectorLeg("vector", VECTOR),)), 4),
    "text": (Query(legs=(TextLeg((("body", 1.0),), "word3 word70 word9000"),)), 5),
    "filtered vector": (
        Query(legs=(VectorLeg("vector", VECTOR),), filter=Compare("number", Op.GTE, 9_000)),
        6,
    ),
}


# the ids in the tail are looked up before anything is searched
@pytest.mark.parametrize(("namespace", "more"), [("folded", 0), ("tailed", 1)])
@pytest.mark.parametrize("kind", QUERIES)
async def test_a_cold_query_takes_the_rounds_of_the_table(cold, kind, namespace, more):
    (database, store), (query, rounds) = cold, QUERIES[kind]
    result = await database.query(namespace, query)
    assert len(result.hits) == 10 and all(len(hit.attributes) == 2 for hit in result.hits)
    assert store.rounds == rounds + more


@pytest.mark.parametrize(("namespace", "more"), [("folded", 0), ("tailed", 1)])
async def test_a_cold_look_up_takes_the_rounds_of_the_table(cold, namespace, more):
    database, store = cold
    found = await database.documents(namespace, ["document 2", "document 3", "none"], consistency=STRONG)
    assert [hit is not None for hit in found] == [True, True, False]
    assert store.rounds == 4 + more


class OneHeadLate(Unhurried):
    """The head of the first file of ids that is asked for takes twice as long as everything else."""

    late_key = None

    async def get_ranges(self, key, ranges, *, gap_bytes=GAP_BYTES_MAX):
        if key.endswith("/ids") and self.late_key is None:
            self.late_key = key
            await turns()
        return await super().get_ranges(key, ranges, gap_bytes=gap_bytes)


async def test_a_look_up_in_all_segments_shares_its_rounds_when_a_head_is_late(filled, tmp_path):
    """The other segment's keys were fetched while the head was under way, and then those of this one."""
    late = OneHeadLate(filled)
    store = DistantStore(late, latency_s=0)
    database = await open_database(store, cache_path=tmp_path)
    store.reset()
    found = await database.documents("folded", ["document 2", "document 3"], consistency=STRONG)
    assert all(found) and late.late_key is not None
    assert store.rounds == 4
    await database.close()


async def test_codes_that_were_not_searched_yet_are_expected_to_take_time(cold):
    database, _ = cold
    namespace = await database.namespace("folded")
    views = (await namespace.view.snapshot()).parts

    def pending_us():
        return sum(view.part.pending_us("vector") for view in views)

    assert pending_us() == pytest.approx(FILL_ROW_US * ROWS * SEGMENTS)
    # more rows are wanted of each segment than it has, so all lists are searched
    await database.query("folded", Query(legs=(VectorLeg("vector", VECTOR),), top_k=10_000))
    assert pending_us() == 0.0
    assert sum(view.part.pending_us("body") for view in views) == 0.0
