"""The bodies of v2 writes: what the engine is given, and what is refused in which words."""

from __future__ import annotations

import asyncio
import base64

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elacsym.compute import InlineCompute
from elacsym.errors import InvalidRequest, InvalidShape
from elacsym.query.ast import Compare, Op, RefNew
from elacsym.server import codec, large_body, v2_write
from elacsym.types import AttributeType, Metric


def decoded(**body):
    return v2_write.decode(orjson.loads(orjson.dumps(body)))


def documents(several):
    return [(d.id, dict(d.attributes)) for d in several]


IDS = st.lists(st.integers(0, 2**64 - 1) | st.text(max_size=5), max_size=8)
VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5)


@given(IDS, st.data())
def test_rows_and_columns_say_the_same(ids, data):
    table = {name: data.draw(st.lists(VALUES, min_size=len(ids), max_size=len(ids))) for name in ("a", "b")}
    rows = [{"id": id_} | {name: table[name][n] for name in table} for n, id_ in enumerate(ids)]
    by_row, by_column = decoded(upsert_rows=rows).request, decoded(upsert_columns={"id": ids} | table).request
    assert documents(by_row.upserts) == documents(by_column.upserts)
    assert (by_row.path, by_column.path) == ("upsert_rows", "upsert_columns")


def test_a_column_of_vectors_in_one_text_is_cut_by_the_number_of_documents():
    matrix = np.arange(6, dtype="<f4")
    text = base64.b64encode(matrix.tobytes()).decode()
    request = decoded(upsert_columns={"id": [1, 2, 3], "vector": text}).request
    found = [np.frombuffer(d.attributes["vector"], "<f4").tolist() for d in request.upserts]
    assert found == [[0, 1], [2, 3], [4, 5]]
    for ids in ([], [1, 2, 3, 4, 5]):
        with pytest.raises(InvalidRequest, match=r"upsert_columns\.vector: base64 of 24 bytes"):
            decoded(upsert_columns={"id": ids, "vector": text})


def test_every_field_reaches_the_engine():
    wanted = decoded(
        upsert_rows=[{"id": 1, "rev": 2}],
        upsert_columns={"id": [2]},
        patch_rows=[{"id": 3, "a": None}],
        deletes=["x"],
        upsert_condition=["rev", "Eq", {"$ref_new": "rev"}],
        delete_by_filter=["a", "Eq", 1],
        delete_by_filter_allow_partial=True,
        patch_by_filter={"filters": ["a", "Eq", 2], "patch": {"a": 3}},
        return_affected_ids=True,
        distance_metric="euclidean_squared",
        schema={
            "id": "string",
            "vector": {"type": "[2]f16", "ann": True},
            "old": {"drop": True},
            "n": "uint",
        },
        create_namespace=False,
        sharding={"num_shards": 4},
        encryption={"mode": "default"},
        require_all_vectors=False,
        no_such_field=1,
    )
    request = wanted.request
    assert decoded(deletes=[1]).request.requires_all_vectors
    assert documents(request.upserts) == [(1, {"rev": 2}), (2, {})]
    assert documents(request.patches) == [(3, {"a": None})]
    assert request.deletes == ["x"]
    assert request.upsert_condition == Compare("rev", Op.EQ, RefNew("rev"), "upsert_condition")
    assert (request.delete_by_filter.condition.value, request.delete_by_filter.is_partial) == (1, True)
    assert (request.patch_by_filter.condition.value, request.patch_by_filter.is_partial) == (2, False)
    assert request.patch == {"a": 3}
    assert (request.wants_ids, request.creates, request.requires_all_vectors) == (True, False, False)
    assert not request.inference.floats
    change = request.change
    assert (change.id_type, change.metric) == ("string", Metric.L2)
    assert change.attributes["vector"].type == AttributeType.parse("[2]f16")
    assert change.attributes["old"] is None
    assert change.attributes["n"].is_shorthand
    assert (change.options.shards, wanted.origin, wanted.unknown) == (4, None, ("no_such_field",))


@pytest.mark.parametrize("value", ["src", {"source_namespace": "src"}])
def test_a_copy_and_a_branch_name_their_source_in_two_forms(value):
    copied, branched = decoded(copy_from_namespace=value), decoded(branch_from_namespace=value)
    assert (copied.origin.namespace, copied.origin.is_copy) == ("src", True)
    assert (branched.origin.namespace, branched.origin.is_copy) == ("src", False)


SHAPES = [
    ({"upsert_rows": {}}, "upsert_rows: invalid type: map, expected a sequence"),
    ({"upsert_rows": [1]}, "upsert_rows[0]: invalid type: integer `1`, expected a map"),
    ({"upsert_rows": [{"id": 1}, {}]}, "upsert_rows[1]: missing field `id`"),
    *[
        (
            {"patch_rows": [{"id": id_}]},
            "patch_rows[0].id: data did not match any variant of untagged enum Id",
        )
        for id_ in (True, [1], {}, 1.5, None, -1)
    ],
    ({"deletes": [1, None]}, "deletes[1]: data did not match any variant of untagged enum Id"),
    (
        {"upsert_columns": {"id": [1], "a": 5}},
        "upsert_columns.a: invalid type: integer `5`, expected a sequence",
    ),
    ({"schema": {"a": {}}}, "schema.a: missing field `type`"),
    (
        {"schema": {"a": {"type": "string", "full_text_search": {"language": "klingon"}}}},
        "schema.a.full_text_search.language: unknown variant `klingon`, expected one of `arabic`",
    ),
    ({"schema": {"a": {"type": "no"}}}, "schema.a.type: unknown attribute type 'no'"),
    (
        {"schema": {"a": {"type": "{}f16", "sparse_knn": {"distance_metric": "x"}}}},
        "schema.a.sparse_knn.distance_metric: unknown variant `x`, expected `dot_product`",
    ),
    (
        {"distance_metric": "euclidean"},
        "distance_metric: unknown variant `euclidean`, expected `cosine_distance` or `euclidean_squared`",
    ),
    ({"encryption": {"mode": "x"}}, "encryption.mode: unknown variant `x`, expected"),
    ({"sharding": {}}, "sharding: missing field `num_shards`"),
    ({"return_affected_ids": 1}, "return_affected_ids: invalid type: integer `1`, expected a boolean"),
    ({"patch_by_filter": {"patch": {}}}, "patch_by_filter: missing field `filters`"),
]


@pytest.mark.parametrize(("body", "typed"), SHAPES)
def test_wrong_shapes_are_refused_in_the_words_of_typed_decoders(body, typed):
    with pytest.raises(InvalidShape) as caught:
        decoded(**body)
    assert caught.value.typed.startswith(typed)


RULES = [
    ({"upsert_columns": {"a": []}}, "upsert_columns: the column `id` is missing"),
    ({"upsert_columns": {"id": [1], "a": []}}, "upsert_columns.a: 0 values where the column `id` has 1"),
    ({"schema": {"vector": "[2]f32"}}, "the `vector` attribute must have `ann` set to `true`"),
    ({"schema": {"v": {"type": "[2]f32", "ann": False}}}, "vector attribute 'v' must have ann:true"),
    ({"schema": {"a": {"type": "int", "ann": True}}}, "schema.a.ann: int is not searched"),
    ({"schema": {"a": {"type": "[0]f32", "ann": True}}}, "schema.a.type: 0 dimensions"),
    ({"schema": {"id": {"type": "int"}}}, "schema.id: ids of type 'int'"),
    ({"schema": {"id": {"drop": True}}}, "schema.id: ids cannot be dropped"),
    ({"schema": {"a": {"type": "int", "drop": True}}}, "schema.a: drop stands alone"),
    (
        {"branch_from_namespace": "b", "sharding": {"num_shards": 2}},
        "sharding: a branch cannot be sharded",
    ),
    (
        {"schema": {"v": {"type": "[2]f32", "ann": {"distance_metric": "cosine_distance"}}}},
        "schema: ann.distance_metric is given, but the request has no distance_metric",
    ),
    (
        {"schema": {"a": {"type": "string", "embed": "m1"}}},
        "schema.a.embed: embedding model 'm1' is not available on this server",
    ),
    (
        {"encryption": {"mode": "customer-managed", "key_name": "mykey"}},
        "Malformed Cloud KMS crypto key: mykey",
    ),
    ({"sharding": {"num_shards": 257}}, "sharding.num_shards: 257 where 1 to 256 are allowed"),
    ({"copy_from_namespace": "a/b"}, "copy_from_namespace: no namespace can be called 'a/b'"),
    ({"copy_from_namespace": "a", "deletes": [1]}, "copy_from_namespace: no other write operation"),
    ({"copy_from_namespace": "a", "branch_from_namespace": "b"}, "branch_from_namespace: a namespace is"),
    (
        {"copy_from_namespace": {"source_namespace": "a", "source_region": "r"}},
        "copy_from_namespace.source_region: only namespaces of this server",
    ),
    ({"disable_backpressure": True, "patch_rows": [{"id": 1}]}, "disable_backpressure: it is for"),
]


@pytest.mark.parametrize(("body", "message"), RULES)
def test_broken_rules_are_refused_by_name(body, message):
    with pytest.raises(InvalidRequest) as caught:
        decoded(**body)
    assert not isinstance(caught.value, InvalidShape)
    assert str(caught.value).startswith(message)


async def test_a_child_decodes_to_the_same_write():
    body = {
        "upsert_columns": {
            "id": list(range(3_000)),
            "vector": [[n, 0.5] if n % 2 else base64.b64encode(bytes(8)).decode() for n in range(3_000)],
            "text": ["ü" * (n % 40) for n in range(3_000)],
        },
        "patch_rows": [{"id": n + 10_000, "a": [n]} for n in range(500)],
        "deletes": [f"d{n}" for n in range(500)],
        "upsert_condition": ["a", "Eq", 1],
        "distance_metric": "cosine_distance",
        "other": 1,
    }
    data = orjson.dumps(body)
    found, wanted = await large_body.write(data, InlineCompute()), v2_write.decode(orjson.loads(data))
    assert (found.unknown, found.shards, found.origin) == (("other",), None, None)
    assert documents(found.request.patches) == documents(wanted.request.patches)
    assert list(found.request.deletes) == list(wanted.request.deletes)
    assert found.request.upsert_condition == wanted.request.upsert_condition
    assert found.request.change == wanted.request.change
    assert [d.id for d in found.request.upserts] == list(range(3_000))
    for n, document in enumerate(found.request.upserts):
        vector = document.attributes["vector"]
        assert document.attributes["text"] == "ü" * (n % 40)
        if n % 2:
            assert vector.tolist() == [n, 0.5]
        else:
            assert vector == bytes(8)


@pytest.mark.parametrize("body", [b'{"upsert_rows": {}}', b'{"upsert_rows": [', b'{"schema": {"id": "int"}}'])
async def test_a_refusal_in_the_child_is_the_refusal_of_the_request(body):
    with pytest.raises(InvalidRequest) as here:
        v2_write.decode(codec.loads(body))
    with pytest.raises(InvalidRequest) as there:
        await large_body.write(body, InlineCompute())
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))
    assert getattr(there.value, "typed", None) == getattr(here.value, "typed", None)


async def test_a_large_body_of_columns_goes_through_the_child(client, monkeypatch):
    monkeypatch.setattr(codec, "POOL_BYTES_MAX", 100_000)
    seen, child = [], asyncio.create_subprocess_exec

    async def counted(*arguments, **options):
        seen.append(arguments)
        return await child(*arguments, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", counted)
    columns = {"id": list(range(2_000)), "title": ["x" * 100] * 2_000}
    answer = await client.post("/v2/namespaces/large", json={"upsert_columns": columns})
    assert answer.json()["rows_upserted"] == 2_000, answer.text
    answer = await client.post("/v2/namespaces/large", json={"upsert_columns": columns | {"id": [1]}})
    assert (answer.status_code, len(seen)) == (400, 2)


def test_ids_to_be_deleted_are_named_as_the_request_has_them():
    assert decoded(deletes=[1]).request.delete_path == "deletes"
