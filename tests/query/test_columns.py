"""Attributes of parts, `id` among them."""

from __future__ import annotations

import numpy as np
import pytest
from index.sources import driven
from parts import SCHEMA, FilePart, MemoryPart, schema_of

from elacsym.query.columns import attribute_of, matched, values_in


def test_the_id_is_an_attribute_of_the_namespace_s_id_type():
    assert str(attribute_of(SCHEMA, "id").type) == "uint"
    assert str(attribute_of(schema_of(id_type="string"), "id").type) == "string"
    assert attribute_of(SCHEMA, "nothing") is None


@pytest.mark.parametrize("part", [MemoryPart, FilePart])
def test_the_id_is_read_as_an_attribute_is(part):
    one = part(schema_of(year="int"), [{"id": 5, "year": 1}, {"id": 7, "year": None}, {"id": 6, "year": 3}])
    mask = np.array([True, True, False])
    assert driven(matched(one, "id", mask)).value.to_pylist() == [5, 7]
    assert driven(matched(one, "year", ~mask)).value.to_pylist() == [3]
    assert driven(matched(one, "year", mask | True)).value.to_pylist() == [1, None, 3]
    ids = driven(values_in(one, "id")).value
    assert driven(ids.select(np.array([2, 0]))).value.to_pylist() == [6, 5]
    assert (len(ids), ids.index, driven(ids.valid()).value.tolist()) == (3, None, [True] * 3)
