"""Values of every type come back from the log's tail, from segments and from merged segments."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.database import open_database, upsert

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.index.values import parse_datetime
from elacsym.query.ast import Compare, MultiVectorLeg, Op, OrderKey, Query, SparseLeg
from elacsym.types import Attribute, AttributeType, Metric, Schema
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

_UUIDS = st.uuids().map(str)
_TIMES = st.datetimes().map(lambda moment: moment.isoformat())
_INTS = st.integers(-(2**63), 2**63 - 1)
_UINTS = st.integers(0, 2**64 - 1)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(max_size=12)
_HALVES = st.floats(-(2.0**10), 2.0**10, width=16)
_SINGLES = st.floats(-(2.0**10), 2.0**10, width=32)
_BASE64 = st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())


def _few(values):
    return st.lists(values, max_size=4)


# by type: what documents bring
GIVEN = {
    "string": _TEXTS,
    "int": _INTS,
    "uint": _UINTS,
    "float": _FLOATS,
    "bool": st.booleans(),
    "uuid": _UUIDS,
    "datetime": _TIMES,
    "bytes": _BASE64,
    "[]string": _few(_TEXTS),
    "[]int": _few(_INTS),
    "[]uint": _few(_UINTS),
    "[]float": _few(_FLOATS),
    "[]bool": _few(st.booleans()),
    "[]uuid": _few(_UUIDS),
    "[]datetime": _few(_TIMES),
    "[3]f32": st.lists(_SINGLES, min_size=3, max_size=3),
    "[3]f16": st.lists(_HALVES, min_size=3, max_size=3),
    "[3]i8": st.lists(st.integers(-128, 127), min_size=3, max_size=3),
    "[][3]f32": _few(st.lists(_SINGLES, min_size=3, max_size=3)),
    "{}f16": st.dictionaries(_TEXTS, _HALVES, max_size=4),
}
NAMES = {kind: f"a{number}" for number, kind in enumerate(GIVEN)}
IDS = {"uint": _UINTS, "string": _TEXTS, "uuid": _UUIDS}


def schema_of(id_type) -> Schema:
    attributes = {}
    for kind, name in NAMES.items():
        type_ = AttributeType.parse(kind)
        attributes[name] = Attribute(type_, filterable=type_.is_plain and kind != "bytes")
    return Schema(id_type, Metric.L2, attributes)


def inside(kind: str, value):
    """What a value that documents bring is inside, comparable."""
    match kind.removeprefix("[]"):
        case "datetime":
            return [parse_datetime(v) for v in value] if isinstance(value, list) else parse_datetime(value)
        case "bytes":
            return base64.b64decode(value)
    return value


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


@st.composite
def tables(draw):
    id_type = draw(st.sampled_from(list(IDS)))
    rows = draw(
        st.lists(
            st.fixed_dictionaries({}, optional={name: GIVEN[kind] for kind, name in NAMES.items()}),
            max_size=12,
        )
    )
    ids = draw(st.lists(IDS[id_type], min_size=len(rows), max_size=len(rows), unique=True))
    return id_type, [Document(id_, row) for id_, row in zip(ids, rows, strict=True)]


async def shown(database):
    result = await database.query("docs", Query(order_by=(OrderKey("id"),), include_vector=True, top_k=100))
    return [(hit.id, {name: plain(value) for name, value in hit.attributes.items()}) for hit in result.hits]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
async def test_what_is_written_is_read_from_every_layer(tmp_path_factory, table):
    id_type, documents = table
    kinds = {name: kind for kind, name in NAMES.items()}
    expected = sorted(
        (
            (
                d.id,
                {name: inside(kinds[name], value) for name, value in d.attributes.items()},
            )
            for d in documents
        ),
        key=lambda row: row[0].encode() if isinstance(row[0], str) else row[0],
    )
    database = await open_database(cache_path=tmp_path_factory.mktemp("cache"))
    try:
        await database.create("docs", schema_of(id_type))
        namespace = await database.namespace("docs")
        half = len(documents) // 2
        for part in (documents[:half], documents[half:]):
            if part:
                await database.write("docs", upsert(*part))
        assert await shown(database) == expected
        await fold(namespace)
        assert await shown(database) == expected
        # a second segment, of the same documents, and both as one
        for part in (documents[:half], documents[half:]):
            if part:
                await database.write("docs", upsert(*part))
                await fold(namespace)
        assert await shown(database) == expected
        if len(namespace.reader.manifest.segments) > 1:
            assert await compact(namespace, force=True)
            assert len(namespace.reader.manifest.segments) == 1
            assert await shown(database) == expected
        services = database.services
        report = await scrub(services.store, "docs", compute=InlineCompute(), rng=services.rng)
        assert report.problems == []
        found = await database.documents("docs", [d.id for d in documents])
        assert [hit.id for hit in found] == [d.id for d in documents]
    finally:
        await database.close()


async def test_arrays_that_were_empty_everywhere_get_a_type(tmp_path):
    database = await open_database(cache_path=tmp_path)
    has_x = Query(filter=Compare("tags", Op.CONTAINS, "x"), order_by=(OrderKey("id"),))
    is_empty = Query(filter=Compare("tags", Op.EQ, ()), order_by=(OrderKey("id"),))

    async def ids(query):
        return [hit.id for hit in (await database.query("docs", query)).hits]

    await database.write("docs", upsert(Document(1, {"tags": []}), Document(2, {})))
    namespace = await database.namespace("docs")
    assert str(namespace.view.schema.attributes["tags"].type) == "[]unknown"
    assert (await ids(has_x), await ids(is_empty)) == ([], [1])
    await fold(namespace)
    assert (await ids(has_x), await ids(is_empty)) == ([], [1])
    await database.write("docs", upsert(Document(3, {"tags": []})))
    await database.write("docs", upsert(Document(4, {"tags": ["x"]}), Document(5, {"tags": []})))
    assert str(namespace.view.schema.attributes["tags"].type) == "[]string"
    await database.write("docs", upsert(Document(6, {"tags": []})))
    with pytest.raises(InvalidRequest, match="tags"):
        await database.write("docs", upsert(Document(7, {"tags": [1]})))
    for _ in range(2):
        assert (await ids(has_x), await ids(is_empty)) == ([4], [1, 3, 5, 6])
        await fold(namespace)
    assert await compact(namespace, force=True)
    assert (await ids(has_x), await ids(is_empty)) == ([4], [1, 3, 5, 6])
    assert (await database.query("docs", is_empty)).hits[0].attributes == {"tags": []}
    await database.close()


async def test_sparse_and_multi_vector_rankings_do_not_depend_on_where_rows_are(tmp_path):
    rng = np.random.default_rng(5)
    attributes = {
        "lexical": Attribute(AttributeType.parse("{}f16"), filterable=False),
        "tokens": Attribute(AttributeType.parse("[][4]f32"), filterable=False),
        "year": Attribute(AttributeType.parse("int")),
    }

    def drawn(number):
        weights = {str(d): round(float(rng.normal()), 2) for d in rng.integers(0, 40, 6)}
        vectors = rng.integers(-3, 4, (int(rng.integers(0, 4)), 4)).tolist()
        return Document(number, {"lexical": weights, "tokens": vectors, "year": int(rng.integers(5))})

    query = {str(d): float(rng.normal()) for d in range(0, 40, 3)}
    legs = [
        SparseLeg("lexical", tuple(query.items())),
        MultiVectorLeg("tokens", rng.integers(-3, 4, (3, 4)).astype(np.float32)),
    ]
    queries = [
        Query(wanted, top_k=25, filter=condition)
        for wanted in ((legs[0],), (legs[1],), tuple(legs))
        for condition in (None, Compare("year", Op.GTE, 3))
    ]
    documents = [drawn(number) for number in range(240)]
    again = [drawn(number) for number in range(0, 240, 3)]
    answers = []

    async def ask(database):
        found = [(await database.query("docs", one)).hits for one in queries]
        answers.append([[(hit.id, hit.score) for hit in hits] for hits in found])

    for layers in (0, 1, 5):
        database = await open_database(cache_path=tmp_path / str(layers))
        await database.create("docs", Schema(None, Metric.L2, attributes))
        namespace = await database.namespace("docs")
        for start in range(0, len(documents), 48):
            await database.write("docs", upsert(*documents[start : start + 48]))
            if layers == 5:
                await fold(namespace)
        await database.write("docs", upsert(*again))
        await database.write("docs", WriteRequest(deletes=[4, 5]))
        if layers == 1:
            await fold(namespace)
        await ask(database)
        if layers == 5:
            assert await compact(namespace, force=True)
            await ask(database)
        await database.close()
    assert all(answers[0])
    assert all(other == answers[0] for other in answers[1:])
