from dataclasses import replace

import numpy as np
import pytest

from elacsym.query.alike import alike
from elacsym.query.ast import (
    Aggregate,
    Compare,
    Figure,
    Op,
    OrderKey,
    Per,
    Query,
    SparseLeg,
    TextLeg,
    VectorLeg,
)
from elacsym.types import Consistency


def vector(value=0.0, attribute="vector"):
    return VectorLeg(attribute, np.full(3, value, np.float32))


BASE = Query(legs=(vector(),), filter=Compare("year", Op.GT, 3), include_attributes=("year",))


def are_alike(a, b):
    return alike([a, b]) == [[0, 1]]


def test_what_is_looked_for_and_how_fresh_it_is_do_not_matter():
    other = replace(BASE, legs=(vector(2.0),), consistency=Consistency("eventual"))
    assert are_alike(BASE, other)
    texts = [Query(legs=(TextLeg((("title", 1.0),), text),)) for text in ("one", "two")]
    assert are_alike(*texts) and are_alike(texts[0], replace(texts[1], filter=BASE.filter))
    assert alike([BASE, texts[0], other, texts[1]]) == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    "change",
    [
        {"legs": (vector(attribute="other"),)},
        {"legs": (vector(), vector())},
        {"legs": (TextLeg((("title", 1.0),), "one"),)},
        {"legs": (), "order_by": (OrderKey("year"),)},
        {"filter": None},
        {"filter": Compare("year", Op.GT, 4)},
        {"top_k": 11},
        {"offset": 1},
        {"exact": True},
        {"include_attributes": None},
        {"exclude_attributes": ("year",)},
        {"include_vector": True},
        {"explain": True},
        {"aggregate": Aggregate((Figure("n", "count"),))},
        {"per": Per(("year",), 1)},
        {"compute": (("x", BASE.filter),)},
    ],
)
def test_everything_else_keeps_queries_apart(change):
    other = replace(BASE, **change)
    assert not are_alike(BASE, other) and not are_alike(other, BASE)


def test_texts_of_other_attributes_and_legs_of_other_kinds_stand_alone():
    title, body = (Query(legs=(TextLeg(((name, 1.0),), "one"),)) for name in ("title", "body"))
    sparse = Query(legs=(SparseLeg("sparse", (("a", 1.0),)),))
    assert alike([title, body, sparse, sparse]) == [[0], [1], [2], [3]]


def test_a_query_that_is_large_is_compared_with_none():
    values = tuple(range(100_000))
    large = [replace(BASE, filter=Compare("year", Op.IN, values)) for _ in range(2)]
    assert alike(large) == [[0], [1]]
