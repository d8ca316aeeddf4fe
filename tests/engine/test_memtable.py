"""The memtable against a dictionary."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elacsym.engine.memtable import JOINED_BYTES_MAX, Chunk, Memtable, alive_after
from elacsym.engine.payload import RowChanges
from elacsym.format.reading import resident
from elacsym.index.ids import IdColumn
from elacsym.types import Attribute, AttributeType, FullText, Scalar, Schema

_YEAR = Schema(attributes={"year": Attribute(AttributeType(Scalar.INT))})

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
    for view in memtable.views(_YEAR):
        for row in np.flatnonzero(view.alive):
            id_ = view.part.id_column.take(np.array([row]))[0]
            assert id_ not in found, "an id is alive once"
            found[id_] = view.part.column("year")[int(row)].as_py()
    return found


@settings(max_examples=150, deadline=None)
@given(steps)
def test_live_rows_are_those_of_a_dictionary_whatever_is_merged_or_dropped(actions):
    memtable = Memtable()
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
    alive = [one for view in memtable.views(_YEAR) for one in view.alive.tolist()]
    assert alive_after(memtable.touched).tolist() == alive


def test_a_view_keeps_its_rows_when_the_memtable_goes_on():
    memtable = Memtable()
    memtable.apply(0, [RowChanges(IdColumn.of("uint", [1, 2]), {"year": pa.array([10, 20])}, None)])
    before = memtable.views(_YEAR)
    memtable.apply(1, [RowChanges(None, {}, IdColumn.of("uint", [1]))])
    assert before[0].alive.tolist() == [True, True]
    assert memtable.views(_YEAR)[0].alive.tolist() == [False, True]


def test_many_small_writes_leave_few_chunks():
    memtable = Memtable()
    for seq in range(500):
        memtable.apply(seq, [RowChanges(IdColumn.of("uint", [seq]), {"year": pa.array([seq])}, None)])
    for group in memtable.merge_groups():
        memtable.replace(group, group[0].joined(group[1:]))
    assert len(memtable.views(_YEAR)) <= 10
    assert len(_live(memtable)) == 500


def test_joined_chunks_have_the_indexes_of_one_that_was_made_at_once():
    attributes = {
        "text": Attribute(AttributeType(Scalar.STRING), full_text=FullText()),
        "vector": Attribute(AttributeType(Scalar.F32, dimensions=2)),
    }
    texts = [["apple pie", None], ["pie"], ["", "apple apple"]]
    vectors = [[[1.0, 0.0], [3.0, 4.0]], [None], [[0.0, 2.0], None]]

    def chunk(first, chosen_texts, chosen_vectors):
        ids = IdColumn.of("uint", list(range(first, first + len(chosen_texts))))
        arrays = {
            "text": pa.array(chosen_texts, pa.string()),
            "vector": pa.array(chosen_vectors, pa.list_(pa.float32(), 2)),
        }
        versions = np.zeros(len(chosen_texts), np.uint64)
        return Chunk(ids, versions, arrays, Schema(attributes=attributes))

    pieces = [chunk(10 * i, *both) for i, both in enumerate(zip(texts, vectors, strict=True))]
    for piece in pieces:
        resident(piece.text("text"))
    resident(pieces[1].vectors("vector"))
    joined = pieces[0].joined(pieces[1:]).under(Schema(attributes=attributes))
    assert joined.pending_us("text") == 0.0
    assert "norms" in vars(pieces[0].vector_columns["vector"])
    whole = chunk(0, [t for some in texts for t in some], [v for some in vectors for v in some])
    assert resident(joined.text("text")).encode() == resident(whole.text("text")).encode()
    found, expected = resident(joined.vectors("vector")), resident(whole.vectors("vector"))
    assert found.matrix.tolist() == expected.matrix.tolist()
    assert found.rows.tolist() == expected.rows.tolist() == [0, 1, 3]
    assert found.norms.tolist() == expected.norms.tolist() == [1.0, 5.0, 2.0]


def test_large_chunks_are_not_joined():
    memtable = Memtable()
    rows = JOINED_BYTES_MAX // 16 // 2 + 1
    for seq in range(4):
        ids = IdColumn.of("uint", list(range(seq * rows, (seq + 1) * rows)))
        memtable.apply(seq, [RowChanges(ids, {"year": pa.array(np.arange(rows))}, None)])
    assert memtable.merge_groups() == []


@pytest.mark.parametrize("kind", ["uint", "string", "uuid"])
def test_many_deletes_meet_the_rows_that_are_there(kind):
    """Far more ids than the memtable has rows."""

    def ids(numbers):
        spelled = {"uint": int, "string": str, "uuid": lambda n: str(UUID(int=n))}[kind]
        return IdColumn.of(kind, [spelled(n) for n in numbers])

    memtable = Memtable()
    memtable.apply(1, [RowChanges(ids([2, 5, 100_000]), {}, None)])
    memtable.apply(2, [RowChanges(None, {}, ids(range(0, 20_000, 2)))])
    assert [view.alive.tolist() for view in memtable.views(Schema())] == [[False, True, True]]
    memtable.apply(3, [RowChanges(ids([2]), {}, ids(range(10_000)))])
    assert [view.alive.tolist() for view in memtable.views(Schema())] == [[False, False, True], [True]]


@pytest.mark.parametrize("with_nulls", [False, True])
def test_what_is_left_of_a_chunk_after_a_fold_keeps_its_norms(with_nulls):
    """They were computed anew by the first query, for thousands of rows."""
    rng = np.random.default_rng(1)
    mask = np.array([with_nulls and row % 3 == 1 for row in range(10)])
    matrix = pa.array(rng.standard_normal(40, np.float32))
    array = pa.FixedSizeListArray.from_arrays(matrix, 4, mask=pa.array(mask))
    schema = Schema(attributes={"v": Attribute(AttributeType.parse("[4]f32"), filterable=False)})
    memtable = Memtable()
    whole = Chunk(IdColumn.of("uint", list(range(10))), np.arange(10, dtype=np.uint64), {"v": array}, schema)
    memtable._chunks, memtable._rows = [whole], 10
    norms = whole.vector_column("v").norms
    memtable.drop_before(4)
    (left,) = memtable.chunks
    # made when somebody looks: this is the event loop
    assert not left.vector_columns
    assert left.looked_at_vectors() == ("v",)
    memtable.drop_before(5)
    (rest,) = memtable.chunks
    column = left.under(schema).vector_column("v")
    again = rest.under(schema).vector_column("v")
    assert again._norms.tolist() == norms[np.flatnonzero(~mask) >= 5].tolist()
    assert column.rows.tolist() == [row - 4 for row in range(4, 10) if not mask[row]]
    assert column._norms.tolist() == norms[np.flatnonzero(~mask) >= 4].tolist()
    assert column.matrix.tolist() == np.array(array.slice(4).drop_null().flatten()).reshape(-1, 4).tolist()


def test_norms_that_nobody_asked_for_are_not_computed_when_a_fold_takes_rows_away():
    schema = Schema(attributes={"v": Attribute(AttributeType.parse("[2]f32"), filterable=False)})
    array = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(20, np.float32)), 2)
    chunk = Chunk(IdColumn.of("uint", list(range(10))), np.arange(10, dtype=np.uint64), {"v": array}, schema)
    column = chunk.vector_column("v")
    assert chunk.after(4).looked_at_vectors() == ()
    assert "norms" not in vars(column)
