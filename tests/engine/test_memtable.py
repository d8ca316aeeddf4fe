"""The memtable against a dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.compute import InlineCompute
from elacsym.engine.memtable import Memtable
from elacsym.engine.payload import RowChanges
from elacsym.index.ids import IdColumn
from elacsym.types import Attribute, AttributeType, Scalar

_YEAR = Attribute(AttributeType(Scalar.INT))

ids_ = st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("upsert"), ids_),
        st.tuples(st.just("delete"), ids_),
        st.tuples(st.just("drop"), st.integers(0, 30)),
        st.tuples(st.just("merge"), st.none()),
    ),
    max_size=25,
)


def _live(memtable: Memtable) -> dict[int, int]:
    found = {}
    for view in memtable.views():
        for row in np.flatnonzero(view.alive):
            id_ = view.part.id_column.take(np.array([row]))[0]
            assert id_ not in found, "an id is alive once"
            found[id_] = view.part.column("year")[int(row)].as_py()
    return found


@settings(max_examples=150, deadline=None)
@given(steps)
def test_live_rows_are_those_of_a_dictionary_whatever_is_merged_or_dropped(actions):
    memtable = Memtable(lambda _: _YEAR, InlineCompute())
    model: dict[int, tuple[int, int]] = {}
    for seq, (action, value) in enumerate(actions):
        if action == "upsert":
            years = [seq * 100 + i for i in range(len(value))]
            memtable.apply(seq, [RowChanges(IdColumn.of("uint", value), {"year": pa.array(years)}, None)])
            model |= {i: (seq, year) for i, year in zip(value, years, strict=True)}
        elif action == "delete":
            memtable.apply(seq, [RowChanges(None, {}, IdColumn.of("uint", value))])
            model = {i: v for i, v in model.items() if i not in value}
        elif action == "drop":
            memtable.drop_before(value)
            model = {i: v for i, v in model.items() if v[0] >= value}
            assert all(t.seq >= value for t in memtable.touched)
        else:
            for group in memtable.merge_groups():
                memtable.replace(group, group[0].joined(group[1:]))
            assert memtable.merge_groups() == []
    assert _live(memtable) == {i: year for i, (_, year) in model.items()}


def test_a_view_keeps_its_rows_when_the_memtable_goes_on():
    memtable = Memtable(lambda _: _YEAR, InlineCompute())
    memtable.apply(0, [RowChanges(IdColumn.of("uint", [1, 2]), {"year": pa.array([10, 20])}, None)])
    before = memtable.views()
    memtable.apply(1, [RowChanges(None, {}, IdColumn.of("uint", [1]))])
    assert before[0].alive.tolist() == [True, True]
    assert memtable.views()[0].alive.tolist() == [False, True]


def test_many_small_writes_leave_few_chunks():
    memtable = Memtable(lambda _: _YEAR, InlineCompute())
    for seq in range(500):
        memtable.apply(seq, [RowChanges(IdColumn.of("uint", [seq]), {"year": pa.array([seq])}, None)])
    for group in memtable.merge_groups():
        memtable.replace(group, group[0].joined(group[1:]))
    assert len(memtable.views()) <= 10
    assert len(_live(memtable)) == 500
