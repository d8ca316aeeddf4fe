"""Flipped bits and missing ends of every file of a segment: reported by who looks there, served to nobody."""

from __future__ import annotations

import numpy as np
import pytest
from support.database import WORDS, document, open_database, schema, upsert
from support.queries import aggregate_of

from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.errors import CorruptObject
from elacsym.query.ast import Compare, Op, OrderKey, Query, TextLeg, VectorLeg
from elacsym.store.base import StoredObject
from elacsym.store.memory import MemoryStore

ROWS = 1_200  # enough for codes and lists
DIMENSIONS = 32
FLIPS, CUTS = 30, 4
PARTS = ["ids", "attr.text", "attr.year", "attr.tags", "vector.vector.ivf", "text.text", "deletes."]


def _queries() -> list[Query]:
    rng = np.random.default_rng(5)
    near = [VectorLeg("vector", rng.standard_normal(DIMENSIONS).astype(np.float32)) for _ in range(6)]
    words = [TextLeg((("text", 1.0),), " ".join(WORDS[i : i + 3])) for i in range(0, len(WORDS), 3)]
    few = Compare("year", Op.IN, (1999, 2011))
    tagged = Compare("tags", Op.CONTAINS, WORDS[1])
    return [
        *(Query((leg,), include_vector=True) for leg in near[:3]),
        Query((near[3],), exact=True, top_k=50),
        Query((near[4],), filter=few),
        Query((near[5], words[0]), filter=tagged),
        *(Query((leg,)) for leg in words),
        Query((words[1],), filter=Compare("text", Op.GT, "m"), include_attributes=()),
        Query(order_by=(OrderKey("year"), OrderKey("id", descending=True)), top_k=30),
        Query(order_by=(OrderKey("text"),), top_k=30),
        Query(aggregate=aggregate_of(sums=("year",), group_by=("year",)), filter=tagged),
    ]


async def _outcomes(store, cache_path):
    """What a process that knows nothing yet makes of everything that is asked."""
    database = await open_database(store, cache_path=cache_path)
    outcomes = []
    for query in _queries():
        try:
            result = await database.query("docs", query)
        except CorruptObject as error:
            outcomes.append(error)
            continue
        hits = [
            (h.id, h.score, [(n, np.asarray(v).tolist()) for n, v in h.attributes.items()])
            for h in result.hits
        ]
        outcomes.append((hits, result.aggregations, result.groups))
    for start in range(0, ROWS, 200):
        ids = list(range(start, ROWS + 200, 173))
        try:
            found = await database.documents("docs", ids)
        except CorruptObject as error:
            outcomes.append(error)
            continue
        outcomes.append([hit and (hit.id, hit.attributes) for hit in found])
    await database.close()
    return outcomes


async def _filled(cache_path) -> MemoryStore:
    """One segment, and a bitmap of its dead rows."""
    store, rng = MemoryStore(), np.random.default_rng(1)
    database = await open_database(store, cache_path=cache_path)
    await database.create("docs", schema(DIMENSIONS))
    await database.write("docs", upsert(*(document(i, rng, DIMENSIONS) for i in range(ROWS))))
    await fold(await database.namespace("docs"))
    await database.write("docs", WriteRequest(deletes=list(range(0, ROWS, 9))))
    await fold(await database.namespace("docs"))
    await database.close()
    return store


def _damages(data: bytes, rng: np.random.Generator) -> list[bytes]:
    """Bits flipped everywhere, and ends cut off; first the two that nobody can miss."""
    places = [0, len(data) - 1, *rng.integers(0, len(data), FLIPS).tolist()]
    flipped = []
    for place in places:
        bad = bytearray(data)
        bad[place] ^= 1 << int(rng.integers(8))
        flipped.append(bytes(bad))
    ends = [len(data) - 1, *rng.integers(1, len(data), CUTS).tolist()]
    return [b"", *flipped, *(data[:end] for end in ends)]


@pytest.mark.parametrize("part", PARTS)
async def test_no_answer_is_made_of_damaged_bytes(tmp_path, part):
    store = await _filled(tmp_path / "first")
    expected = await _outcomes(store, tmp_path / "sound")
    assert not any(isinstance(outcome, CorruptObject) for outcome in expected)
    (key,) = (key for key in store.objects if "/seg/" in key and key.rpartition("/")[2].startswith(part))
    good = store.objects[key]
    for number, bad in enumerate(_damages(good.data, np.random.default_rng(len(part)))):
        store.objects[key] = StoredObject(bad, good.etag)
        outcomes = await _outcomes(store, tmp_path / str(number))
        reported = [outcome for outcome in outcomes if isinstance(outcome, CorruptObject)]
        assert all((error.key, error.offset is None) == (key, False) for error in reported)
        assert reported or number > 1
        for got, wanted in zip(outcomes, expected, strict=True):
            assert isinstance(got, CorruptObject) or got == wanted
