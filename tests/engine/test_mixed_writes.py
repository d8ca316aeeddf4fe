"""Requests of every kind of operation against a dictionary, alone and many at once."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.database import open_database

from elacsym.compute import InlineCompute
from elacsym.engine.fold import fold
from elacsym.engine.request import ByFilter, Document, WriteRequest
from elacsym.errors import InvalidRequest
from elacsym.query.ast import And, Compare, Not, Op, Or, OrderKey, Query, RefNew
from elacsym.store.memory import MemoryStore
from elacsym.types import Attribute, AttributeType, Metric, Schema
from elacsym.upkeep.compact import compact
from elacsym.upkeep.scrub import scrub

SCHEMA = Schema(
    "uint",
    Metric.L2,
    {
        "vector": Attribute(AttributeType.parse("[2]f16"), filterable=False),
        "n": Attribute(AttributeType.parse("int")),
        "tags": Attribute(AttributeType.parse("[]string")),
        "word": Attribute(AttributeType.parse("string")),
    },
)
IDS = 10
VECTORS = [None, [0.1, 0.2], [0.3, -7.5]]

numbers = st.one_of(st.none(), st.integers(-3, 3))
values = {
    "n": numbers,
    "tags": st.one_of(st.none(), st.lists(st.sampled_from("abc"), max_size=2)),
    "word": st.one_of(st.none(), st.sampled_from(["copper", "kettle", ""])),
}
patches_ = st.fixed_dictionaries({}, optional=values)
wholes = st.fixed_dictionaries({"vector": st.sampled_from(VECTORS)}, optional=values)

compares = st.one_of(
    st.builds(Compare, st.just("n"), st.sampled_from([Op.EQ, Op.NE, Op.LT, Op.GTE]), st.integers(-3, 3)),
    st.builds(Compare, st.sampled_from(["n", "word", "id"]), st.sampled_from([Op.EQ, Op.NE]), st.none()),
    st.builds(Compare, st.just("tags"), st.just(Op.CONTAINS), st.sampled_from("abc")),
    st.builds(Compare, st.just("id"), st.just(Op.LT), st.integers(0, IDS)),
)
refs = st.builds(
    Compare,
    st.just("n"),
    st.sampled_from([Op.EQ, Op.NE, Op.LT, Op.LTE]),
    st.just(RefNew("n")),
)


def nested(leaves):
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Not, inner),
            st.builds(And, st.lists(inner, max_size=2).map(tuple)),
            st.builds(Or, st.lists(inner, max_size=2).map(tuple)),
        ),
        max_leaves=3,
    )


filters = nested(compares)
conditions = st.one_of(st.none(), nested(st.one_of(compares, refs)))
by_filter = st.one_of(st.none(), st.builds(ByFilter, filters, st.sampled_from([1, 3, None]), st.booleans()))


@st.composite
def requests(draw, *, allows_filters=True):
    ids = draw(st.lists(st.integers(0, IDS - 1), max_size=6, unique=True))
    cuts = sorted(draw(st.tuples(st.integers(0, len(ids)), st.integers(0, len(ids)))))
    upserts, patched, deletes = ids[: cuts[0]], ids[cuts[0] : cuts[1]], ids[cuts[1] :]
    is_filtering = allows_filters and draw(st.booleans())
    return WriteRequest(
        upserts=[Document(i, draw(wholes)) for i in upserts],
        patches=[Document(i, draw(patches_)) for i in patched],
        deletes=deletes,
        upsert_condition=draw(conditions) if upserts else None,
        patch_condition=draw(conditions) if patched else None,
        delete_condition=draw(conditions) if deletes else None,
        delete_by_filter=draw(by_filter) if is_filtering else None,
        patch_by_filter=draw(by_filter) if is_filtering else None,
        patch=draw(patches_),
        wants_ids=draw(st.booleans()),
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(requests(), min_size=1, max_size=1)),
        st.tuples(st.just("write"), st.lists(requests(), max_size=6)),
        st.tuples(st.just("write"), st.lists(requests(allows_filters=False), max_size=8)),
        st.tuples(st.sampled_from(["fold", "compact", "reopen"]), st.none()),
    ),
    max_size=10,
)


def holds(condition, id_, stored, new):
    match condition:
        case Not():
            return not holds(condition.condition, id_, stored, new)
        case And():
            return all(holds(c, id_, stored, new) for c in condition.conditions)
        case Or():
            return any(holds(c, id_, stored, new) for c in condition.conditions)
    has = id_ if condition.field == "id" else stored.get(condition.field)
    wanted, is_less = condition.value, condition.op in (Op.LT, Op.LTE)
    if isinstance(wanted, RefNew):
        wanted = new.get(wanted.attribute)
        # as in the language of filters, null is less than every value where references stand
        if is_less and (has is None or wanted is None):
            return has is None and (wanted is not None or condition.op is Op.LTE)
    match condition.op:
        case Op.EQ:
            return has == wanted
        case Op.NE:
            return has != wanted
        case _ if has is None or wanted is None:
            return False
        case Op.LT:
            return has < wanted
        case Op.LTE:
            return has <= wanted
        case Op.GTE:
            return has >= wanted
        case _:
            return wanted in has


class Refused(Exception):
    pass


def chosen(wanted, model):
    ids = [i for i in sorted(model) if holds(wanted.condition, i, model[i], {})]
    most = len(ids) if wanted.rows_max is None else wanted.rows_max
    if len(ids) > most and not wanted.is_partial:
        raise Refused
    return ids[:most], len(ids) > most


def applied(request, model):
    """The documents after a request, and its effects: (upserted, patched, deleted, rows_remaining)."""
    model = dict(model)
    upserted, patched, deleted = [], [], []
    remaining = []
    if request.delete_by_filter is not None:
        deleted, is_more = chosen(request.delete_by_filter, model)
        remaining += [is_more] if request.delete_by_filter.is_partial else []
        for id_ in deleted:
            del model[id_]
    if request.patch_by_filter is not None:
        patched, is_more = chosen(request.patch_by_filter, model)
        remaining += [is_more] if request.patch_by_filter.is_partial else []
        for id_ in patched:
            model[id_] = model[id_] | request.patch
    for document in request.upserts:
        stored, condition = model.get(document.id), request.upsert_condition
        if stored is None or condition is None or holds(condition, document.id, stored, document.attributes):
            model[document.id] = document.attributes
            upserted.append(document.id)
    for document in request.patches:
        stored, condition = model.get(document.id), request.patch_condition
        if stored is not None and (
            condition is None or holds(condition, document.id, stored, document.attributes)
        ):
            model[document.id] = stored | document.attributes
            patched.append(document.id)
    for id_ in request.deletes:
        stored, condition = model.get(id_), request.delete_condition
        if condition is None or (stored is not None and holds(condition, id_, stored, {})):
            model.pop(id_, None)
            deleted.append(id_)
    return model, (upserted, patched, deleted, any(remaining) if remaining else None)


def check_effects(result, request, expected):
    upserted, patched, deleted, remaining = expected
    effects = result.effects
    has_patches = bool(request.patches) or request.patch_by_filter is not None
    has_deletes = bool(request.deletes) or request.delete_by_filter is not None
    assert effects.upserted == (len(upserted) if request.upserts else None)
    assert effects.patched == (len(patched) if has_patches else None)
    assert effects.deleted == (len(deleted) if has_deletes else None)
    assert result.count == effects.affected == len(upserted) + len(patched) + len(deleted)
    assert effects.rows_remaining == remaining
    assert effects.has_read == request.is_reading
    ids = (effects.upserted_ids, effects.patched_ids, effects.deleted_ids)
    wanted = (tuple(upserted), tuple(patched), tuple(deleted))
    assert ids == (wanted if request.wants_ids else ((), (), ()))


async def check_documents(database, model):
    hits = (
        await database.query("docs", Query(order_by=(OrderKey("id"),), top_k=100, include_vector=True))
    ).hits
    assert [hit.id for hit in hits] == sorted(model)
    for hit in hits:
        expected = {name: value for name, value in model[hit.id].items() if value is not None}
        vector = expected.pop("vector", None)
        found = dict(hit.attributes)
        if vector is not None:
            assert np.array_equal(found.pop("vector"), np.array(vector, np.float16).astype(np.float32))
        assert found == expected


async def _check(actions, folder):
    store = MemoryStore()
    database = await open_database(store, cache_path=Path(folder))
    await database.create("docs", SCHEMA)
    model = {}
    for action, group in actions:
        if action == "write":
            results = await asyncio.gather(
                *(database.write("docs", request) for request in group), return_exceptions=True
            )
            for result, request in zip(results, group, strict=True):
                try:
                    after, expected = applied(request, model)
                except Refused:
                    assert isinstance(result, InvalidRequest), result
                    continue
                if isinstance(result, Exception):
                    raise result
                if request.has_documents:
                    check_effects(result, request, expected)
                model = after
        elif action == "reopen":
            await database.close()
            database = await open_database(store, cache_path=Path(folder))
        else:
            namespace = await database.namespace("docs")
            await (fold(namespace) if action == "fold" else compact(namespace, force=True))
        await check_documents(database, model)
    report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
    assert report.problems == []
    await database.close()


@settings(max_examples=120, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(steps)
def test_any_mix_of_operations_does_what_it_does_to_a_dictionary(actions):
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_check(actions, folder))
