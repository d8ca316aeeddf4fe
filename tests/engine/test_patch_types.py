"""Patches and conditions over every type of id and value: what is kept is exactly what was stored."""

from __future__ import annotations

import numpy as np
import pytest
from support.database import upsert

from elacsym.engine.fold import fold
from elacsym.engine.request import ByFilter, Document, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.query.ast import Compare, Op, RefNew
from elacsym.types import Attribute, AttributeType, Metric, Schema
from elacsym.upkeep.compact import compact

KINDS = {
    "uuid": ("uuid", "00112233-4455-6677-8899-aabbccddeeff"),
    "uuids": ("[]uuid", ["00112233-4455-6677-8899-aabbccddeeff"] * 2),
    "time": ("datetime", "1969-12-31T23:59:59.999Z"),
    "times": ("[]datetime", ["2024-03-02", "2024-03-02T01:02:03.456789+01:00"]),
    "data": ("bytes", "AAEC/w=="),
    "floats": ("[]float", [0.1, -0.0, 1e300]),
    "bools": ("[]bool", [True, False]),
    "uints": ("[]uint", [2**64 - 1, 0]),
    "lexical": ("{}f16", {"17": 0.1, "40210": 1.25}),
    "late": ("[][2]f32", [[0.1, 0.2], [1 / 3, -5.0]]),
    "half": ("[3]f16", [0.1, 0.2, -3.0]),
    "open": ("[]unknown", []),
}
ID_TYPES = {
    "uint": [1, 2, 3],
    "string": ["a", "b", "\U0001f600"],
    "uuid": [f"0000000{i}-0000-0000-0000-00000000000A" for i in (1, 2, 3)],
}


def _schema(id_type):
    attributes = {"n": Attribute(AttributeType.parse("int"))}
    for name, (kind, _) in KINDS.items():
        type_ = AttributeType.parse(kind)
        attributes[name] = Attribute(type_, filterable=type_.is_plain and kind != "bytes")
    return Schema(id_type, Metric.L2, attributes)


def _bits(value):
    """A value so that equal means the same bits."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, list):
        return [_bits(v) for v in value]
    return {k: _bits(v) for k, v in value.items()} if isinstance(value, dict) else value


async def _only(database, id_):
    (hit,) = await database.documents("docs", [id_], include_vector=True)
    return None if hit is None else {name: _bits(value) for name, value in hit.attributes.items()}


@pytest.mark.parametrize("id_type", ID_TYPES)
async def test_patches_keep_every_type_as_it_was_stored(database, id_type):
    await database.create("docs", _schema(id_type))
    first, second, absent = ID_TYPES[id_type]
    values = {name: value for name, (_, value) in KINDS.items()}
    await database.write("docs", upsert(Document(first, values), Document(second, {})))
    namespace = await database.namespace("docs")
    before = await _only(database, first.lower() if isinstance(first, str) else first)
    assert before.keys() == values.keys()
    for turn, step in enumerate(("tail", "fold", "merge")):
        if step != "tail":
            await fold(namespace)
        if step == "merge":
            await database.write("docs", upsert(Document(second, {"n": 0})))
            await fold(namespace)
            await compact(namespace, force=True)
        ids = [first, second, absent]
        request = WriteRequest(patches=[Document(i, {"n": turn}) for i in ids], wants_ids=True)
        effects = (await database.write("docs", request)).effects
        shown = tuple(i.lower() if id_type == "uuid" else i for i in ids[:2])
        assert effects.patched_ids == shown
        assert await _only(database, shown[0]) == before | {"n": turn}
        assert await _only(database, shown[1]) == {"n": turn}


@pytest.mark.parametrize("name", [n for n in KINDS if n not in ("half", "late", "open")])
async def test_every_type_but_vectors_can_be_patched(database, name):
    await database.create("docs", _schema("uint"))
    _, value = KINDS[name]
    await database.write("docs", upsert(Document(1, {"n": 1}), Document(2, {name: value})))
    expected = (await _only(database, 2))[name]
    await fold(await database.namespace("docs"))
    await database.write("docs", WriteRequest(patches=[Document(1, {name: value})]))
    assert await _only(database, 1) == {"n": 1, name: expected}
    everywhere = ByFilter(Compare("id", Op.GTE, 0))
    await database.write("docs", WriteRequest(patch_by_filter=everywhere, patch={name: None}))
    assert await _only(database, 1) == {"n": 1}
    await database.write("docs", WriteRequest(patch_by_filter=everywhere, patch={name: value}))
    assert await _only(database, 2) == {name: expected}


@pytest.mark.parametrize("name", ["half", "late"])
async def test_dense_vectors_cannot_be_patched(database, name):
    await database.create("docs", _schema("uint"))
    _, value = KINDS[name]
    await database.write("docs", upsert(Document(1, {"n": 1, name: value})))
    for given in (value, None):
        with pytest.raises(InvalidRequest, match="cannot be patched"):
            await database.write("docs", WriteRequest(patches=[Document(1, {name: given})]))


async def test_a_patch_may_tell_the_type_of_arrays_that_were_empty(database):
    await database.create("docs", _schema("uint"))
    await database.write("docs", upsert(Document(1, {"open": []}), Document(2, {"open": [], "n": 1})))
    await fold(await database.namespace("docs"))
    requests = WriteRequest(
        patches=[Document(1, {"open": ["a", "b"]})],
        patch_by_filter=ByFilter(Compare("n", Op.EQ, 1)),
        patch={"n": 2},
    )
    await database.write("docs", requests)
    assert await _only(database, 1) == {"open": ["a", "b"]}
    assert await _only(database, 2) == {"open": [], "n": 2}
    assert str((await database.info("docs")).schema.attributes["open"].type) == "[]string"


async def test_two_spellings_of_a_uuid_are_one_id(database):
    await database.create("docs", _schema("uuid"))
    plain = "00112233-4455-6677-8899-aabbccddeeff"
    await database.write("docs", upsert(Document(plain.upper(), {"n": 1})))
    twice = WriteRequest(
        upserts=[Document(plain, {"n": 2})], patches=[Document(plain.replace("-", ""), {"n": 3})]
    )
    with pytest.raises(InvalidRequest, match="occurs twice"):
        await database.write("docs", twice)
    newer = Compare("n", Op.LT, RefNew("n"))
    spelled = Document("{" + plain.upper() + "}", {"n": 5})
    result = await database.write(
        "docs", WriteRequest(upserts=[spelled], upsert_condition=newer, wants_ids=True)
    )
    assert result.effects.upserted_ids == (plain,)
    assert await _only(database, plain) == {"n": 5}


@pytest.mark.parametrize("name", ["uuid", "time", "floats", "uints"])
async def test_references_are_compared_as_their_attributes_are(database, name):
    await database.create("docs", _schema("uint"))
    _, value = KINDS[name]
    await database.write("docs", upsert(Document(1, {name: value}), Document(2, {})))
    same = Compare(name, Op.EQ, RefNew(name))
    patches = [Document(i, {name: value, "n": 1}) for i in (1, 2)]
    request = WriteRequest(patches=patches, patch_condition=same, wants_ids=True)
    assert (await database.write("docs", request)).effects.patched_ids == (1,)
