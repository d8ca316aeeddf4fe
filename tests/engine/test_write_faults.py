"""A write that meets a fault of the program fails alone; others in its entry are committed."""

from __future__ import annotations

import asyncio

import pytest
from support.database import upsert

from elacsym.engine import prepare
from elacsym.engine.request import ByFilter, Document, WriteRequest
from elacsym.errors import ElacsymError
from elacsym.query.ast import Compare, Op
from elacsym.types import Attribute, AttributeType, Schema


class Fault(Exception):
    """What nobody expects."""


def _failing(real, is_struck):
    def call(*given):
        if is_struck(*given):
            raise Fault
        return real(*given)

    return call


def _patched(id_, n):
    return WriteRequest(patches=[Document(id_, {"n": n})])


def _names_seven(draft, _read=None):
    return any(d.id == 7 for d in (*draft.request.upserts, *draft.request.patches))


STRUCK = {
    "upsert": ("encoded", _names_seven, upsert(Document(7, {"n": 70}))),
    "patch": ("settled", _names_seven, _patched(7, 70)),
    "by filter": (
        "settled",
        lambda draft, _: draft.request.is_by_filter,
        WriteRequest(patch_by_filter=ByFilter(Compare("n", Op.EQ, 7)), patch={"n": 70}),
    ),
    "reading by filter": (
        "by_filter",
        lambda *_: True,
        WriteRequest(delete_by_filter=ByFilter(Compare("n", Op.EQ, 7))),
    ),
    "reading by id": ("named", lambda _, requests: len(requests) == 1, _patched(7, 70)),
}


@pytest.mark.parametrize("place", STRUCK)
async def test_a_fault_is_the_internal_error_of_its_request_alone(database, monkeypatch, place):
    name, is_struck, struck = STRUCK[place]
    await database.create("docs", Schema())
    await database.write("docs", upsert(Document(7, {"n": 7}), Document(1, {"n": 1})))
    monkeypatch.setattr(prepare, name, _failing(getattr(prepare, name), is_struck))
    others = [upsert(Document(2, {"n": 2}))]
    if place == "patch":
        others.append(_patched(1, 10))
    first, *rest = await asyncio.gather(
        *(database.write("docs", request) for request in (struck, *others)), return_exceptions=True
    )
    assert type(first) is ElacsymError and (first.status, first.code) == (500, "internal")
    assert [result.count for result in rest] == [1] * len(others)
    hits = await database.documents("docs", [7, 2, 1])
    assert [hit.attributes["n"] for hit in hits] == [7, 2, 10 if place == "patch" else 1]


@pytest.mark.parametrize("is_known", [False, True])
async def test_operations_may_tell_the_elements_of_arrays_that_others_bring_empty(database, is_known):
    kinds = {"tags": Attribute(AttributeType.parse("[]unknown"))} if is_known else {}
    await database.create("docs", Schema("uint", None, kinds))
    await database.write("docs", upsert(*(Document(i, {"n": i}) for i in range(4))))
    request = WriteRequest(
        patch_by_filter=ByFilter(Compare("n", Op.GT, 1)),
        patch={"tags": ["x"]},
        upserts=[Document(9, {"tags": []})],
        patches=[Document(0, {"tags": []}), Document(2, {"tags": []})],
    )
    assert (await database.write("docs", request)).effects.affected == 5
    hits = await database.documents("docs", [0, 1, 2, 3, 9])
    assert [hit.attributes.get("tags") for hit in hits] == [[], None, [], ["x"], []]
