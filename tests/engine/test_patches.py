"""Patches: what they keep, what they refuse, and what shares an entry of the log."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from support.database import CountingCompute, document, open_database, schema, upsert

from elacsym.engine import columns
from elacsym.engine.fold import fold
from elacsym.engine.request import ByFilter, Document, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Compare, Op, OrderKey, Query, TextLeg
from elacsym.types import Attribute, AttributeType, Metric, Schema
from elacsym.upkeep.compact import compact


def patch(*documents, **more):
    return WriteRequest(patches=[Document(id_, values) for id_, values in documents], **more)


async def _only(database, id_, *, include_vector=True):
    (hit,) = await database.documents("docs", [id_], include_vector=include_vector)
    return None if hit is None else hit.attributes


def _of(kind):
    type_ = AttributeType.parse(kind)
    return Attribute(type_, filterable=type_.is_plain)


@pytest.mark.parametrize("state", ["tail", "folded", "merged"])
async def test_a_patch_sets_what_it_names_and_keeps_everything_else_as_stored(database, state):
    kinds = {"half": "[3]f16", "whole": "[3]f32", "small": "[3]i8"}
    attributes = {name: _of(kind) for name, kind in kinds.items()}
    attributes |= {"n": _of("int"), "big": _of("uint"), "x": _of("float"), "is": _of("bool")}
    attributes |= {"tags": _of("[]string"), "text": _of("string")}
    await database.create("docs", Schema("uint", Metric.L2, attributes))
    values = {
        "half": [0.1, -0.3, 5.0],
        "whole": [1 / 3, 1e-30, 7.0],
        "small": [-128, 0, 127],
        "n": -(2**63),
        "big": 2**64 - 1,
        "x": -0.0,
        "is": False,
        "tags": [],
        "text": "a\u00e4\U0001f600",
    }
    await database.write("docs", upsert(Document(1, values), Document(2, {"n": 2})))
    namespace = await database.namespace("docs")
    if state != "tail":
        await fold(namespace)
    if state == "merged":
        await database.write("docs", upsert(Document(3, {"n": 3})))
        await fold(namespace)
        await compact(namespace, force=True)
    before = await _only(database, 1)
    result = await database.write(
        "docs", patch((1, {"n": 7, "tags": ["b", "b"]}), (9, {"n": 9}), wants_ids=True)
    )
    assert result.effects.patched_ids == (1,) and result.count == 1
    after = await _only(database, 1)
    assert after.keys() == before.keys() and (after["n"], after["tags"]) == (7, ["b", "b"])
    for name in before.keys() - {"n", "tags"}:
        kept, was = np.asarray(after[name]), np.asarray(before[name])
        assert kept.tobytes() == was.tobytes() and kept.dtype == was.dtype, name
    assert await _only(database, 9) is None
    assert (await _only(database, 2)) == {"n": 2}


async def test_null_removes_an_attribute_and_a_patch_may_add_one(database):
    await database.create("docs", schema())
    await database.write("docs", upsert(Document(1, {"year": 1, "tags": ["a"]})))
    await database.write("docs", patch((1, {"year": None, "place": "Oslo", "nothing": None})))
    assert await _only(database, 1) == {"tags": ["a"], "place": "Oslo"}
    attributes = (await database.info("docs")).schema.attributes
    assert str(attributes["place"].type) == "string" and "nothing" not in attributes


async def test_patched_documents_are_found_by_what_they_are_now(database):
    rng = np.random.default_rng(5)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(50))))
    await fold(await database.namespace("docs"))
    await database.write("docs", patch((7, {"text": "a singular zebra", "year": 3000})))
    found = await database.query("docs", Query(legs=(TextLeg((("text", 1.0),), "zebra"),)))
    assert [hit.id for hit in found.hits] == [7]
    later = await database.query(
        "docs", Query(order_by=(OrderKey("id"),), filter=Compare("year", Op.GT, 2999))
    )
    assert [hit.id for hit in later.hits] == [7]


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (patch((1, {"vector": [0.0] * 8})), "vectors cannot be patched"),
        (patch((1, {"vector": None})), "vectors cannot be patched"),
        (patch((1, {"id": 5})), "ids cannot be patched"),
        (patch((1, {"year": "late"})), "year"),
        (patch((1, {"year": 1}), (1, {"year": 2})), "occurs twice"),
        (patch((1, {"year": 1}), upserts=[Document(1, {})]), "occurs twice"),
        (patch((1, {"year": 1}), deletes=[1]), "occurs twice"),
        (WriteRequest(upserts=[Document(1, {})], deletes=[1]), "occurs twice"),
        (patch(("a", {"year": 1})), "where the namespace's ids are"),
        (
            WriteRequest(patch_by_filter=ByFilter(Compare("year", Op.GT, 0)), patch={"vector": None}),
            "vectors cannot be patched",
        ),
        (
            WriteRequest(patch_by_filter=ByFilter(Compare("year", Op.GT, 0)), patch={"id": 4}),
            "ids cannot be patched",
        ),
    ],
)
async def test_a_refused_request_changes_nothing(database, request_, said):
    await database.create("docs", schema())
    await database.write("docs", upsert(Document(1, {"year": 2000, "vector": [1.0] * 8})))
    before, info = await _only(database, 1), await database.info("docs")
    also = Document(2, {"brand_new": 1})
    whole = WriteRequest(
        upserts=[*request_.upserts, also],
        patches=request_.patches,
        deletes=request_.deletes,
        patch_by_filter=request_.patch_by_filter,
        patch=request_.patch,
    )
    with pytest.raises(InvalidRequest, match=said):
        await database.write("docs", whole)
    after = await _only(database, 1)
    assert after["year"] == before["year"] and np.array_equal(after["vector"], before["vector"])
    assert await _only(database, 2) is None
    assert (await database.info("docs")).schema == info.schema


async def test_patches_of_different_documents_share_an_entry(database):
    """They are read in one computation, and committed together."""
    await database.create("docs", schema())
    count = 100
    await database.write("docs", upsert(*(Document(i, {"year": i}) for i in range(count))))
    requests = [patch((i, {"year": -i})) for i in range(count)]
    results = await asyncio.gather(*(database.write("docs", request) for request in requests))
    # the first entry has what came before it was cut, and none more than 64
    assert len({result.token.seq for result in results}) <= 3
    assert [(await _only(database, i))["year"] for i in (1, 50, 99)] == [-1, -50, -99]


async def test_patches_of_one_document_see_each_other(database):
    await database.create("docs", schema())
    await database.write("docs", upsert(Document(1, {"year": 1})))
    requests = [patch((1, {"tags": [str(i)], f"n{i}": i})) for i in range(5)]
    results = await asyncio.gather(*(database.write("docs", request) for request in requests))
    assert [result.token.seq for result in results] == sorted({result.token.seq for result in results})
    assert await _only(database, 1) == {"year": 1, "tags": ["4"]} | {f"n{i}": i for i in range(5)}


async def test_a_patch_behind_an_upsert_of_its_document_finds_it(database):
    await database.create("docs", schema())
    requests = [upsert(Document(1, {"year": 1})), patch((1, {"tags": ["a"]})), upsert(Document(2, {}))]
    await asyncio.gather(*(database.write("docs", request) for request in requests))
    assert await _only(database, 1) == {"year": 1, "tags": ["a"]}


async def test_many_patches_are_made_in_the_pool(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    await database.write("docs", upsert(*(Document(i, {"n": i}) for i in range(500))))
    compute = CountingCompute()
    namespace = await database.namespace("docs")
    # the preparer's own pool
    namespace.writer._preparer._compute = compute
    await database.write("docs", patch(*((i, {"n": -i}) for i in range(500))))
    assert compute.runs["_looked_at"] == 1
    await database.close()


@pytest.mark.parametrize(
    "request_",
    [patch((1, {"n": 7})), WriteRequest(deletes=(1, 2)), upsert(Document(1, {"n": 8}))],
    ids=["patch", "delete", "upsert"],
)
async def test_a_small_write_needs_no_pool_in_which_it_would_wait_for_queries(tmp_path, request_):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    await database.write("docs", upsert(*(Document(i, {"n": i}) for i in range(5))))
    compute = CountingCompute()
    namespace = await database.namespace("docs")
    namespace.services = replace(namespace.services, compute=compute)
    namespace.writer._preparer._compute = namespace.writer._compute = compute
    await database.write("docs", request_)
    assert set(compute.runs) <= {"_advanced"}
    await database.close()


async def test_a_large_delete_is_checked_and_encoded_in_one_go(tmp_path):
    database = await open_database(cache_path=tmp_path)
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(1, {"n": 1})))
    compute = CountingCompute()
    namespace = await database.namespace("docs")
    namespace.services = replace(namespace.services, compute=compute)
    namespace.writer._preparer._compute = namespace.writer._compute = compute
    await database.write("docs", WriteRequest(deletes=tuple(range(500))))
    assert sum(compute.runs.values()) == 1
    await database.close()


async def test_patched_documents_keep_within_the_size_of_documents(database, monkeypatch):
    monkeypatch.setattr(columns, "DOCUMENT_BYTES_MAX", 1_000)
    await database.create("docs", Schema())
    stored = [Document(i, {"a": "x" * 100 * i}) for i in range(9)]
    await database.write("docs", upsert(*stored))
    before = [await _only(database, i) for i in (3, 8)]
    reason = "1008 bytes where a document may have 1000"
    with pytest.raises(InvalidRequest, match=rf"patch_rows\[1\]: {reason}"):
        await database.write("docs", patch((3, {"b": "y"}), (8, {"b": "y" * 200})))
    everything = ByFilter(Compare("a", Op.NE, None))
    with pytest.raises(InvalidRequest, match=f"patch_by_filter: document 8 would have {reason}"):
        await database.write("docs", WriteRequest(patch_by_filter=everything, patch={"b": "y" * 200}))
    assert [await _only(database, i) for i in (3, 8)] == before
    await database.write("docs", patch((3, {"b": "y" * 192}), (8, {"b": "y" * 192})))
    assert len((await _only(database, 8))["b"]) == 192
