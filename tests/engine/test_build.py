"""What is in the files of a new segment, made of rows of the tail and of other segments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from support.builds import SHAPES, TEXT, attribute, built_here, fold_plan, merge_plan

from elacsym.engine.build import BuildPlan
from elacsym.engine.rows import TailInput
from elacsym.errors import CorruptObject
from elacsym.format import segment
from elacsym.format.reading import MemorySource, resident
from elacsym.index.attribute import AttributeFile
from elacsym.index.ids import IdColumn, IdFile
from elacsym.index.ivf import VectorIndex
from elacsym.index.sparse import SparseFile
from elacsym.index.text import TextIndex
from elacsym.types import Metric, Schema


@pytest.mark.parametrize("name", SHAPES)
def test_a_segment_of_the_tail_holds_its_live_rows(name):
    schema = SHAPES[name]
    plan = fold_plan(schema)
    files, written = built_here(plan)
    table = pa.Table.from_batches([i.batch.take(pa.array(i.rows)) for i in plan.inputs])
    order = np.argsort(written.place)
    expected = table.take(pa.array(order))
    rows = len(expected)
    assert written.rows == rows == sum(len(i.rows) for i in plan.inputs)
    versions = expected.column("version").to_numpy()
    assert (written.seq_min, written.seq_max) == (versions.min(), versions.max())
    ids = IdColumn.from_arrow(expected.column("id"))
    assert written.row_sum == ids.row_sum(versions)
    index = resident(IdFile.opened(MemorySource(files[segment.IDS]), rows))
    assert resident(index.column()) == ids
    assert resident(index.rows_of(ids)).tolist() == list(range(rows))
    names = ["id", "version", *(segment.column_name(n) for n in schema.attributes)]
    parquet = segment.decode_columns(files[segment.ROWS], names, key="k", rows=rows)
    for attribute_name, declared in schema.attributes.items():
        part = segment.attribute_part("attr", attribute_name)
        vector_part = segment.vector_part(attribute_name)
        column = segment.column_name(attribute_name)
        if attribute_name == "never":
            assert part not in files and vector_part not in files and parquet[column] is None
        elif declared.type.is_vector:
            found = resident(resident(VectorIndex.opened(MemorySource(files[vector_part]), rows)).whole())
            values = expected.column(column).combine_chunks()
            assert found.rows.tolist() == np.flatnonzero(values.is_valid()).tolist()
            assert found.matrix.tolist() == values.drop_null().to_pylist()
        else:
            values = expected.column(column).to_pylist()
            assert parquet[column].to_pylist() == values
            opened = (SparseFile if declared.type.is_sparse else AttributeFile).opened
            stored = resident(opened(MemorySource(files[part]), rows))
            assert resident(stored.column()).to_pylist() == values


def test_rows_are_ordered_by_clusters_and_those_without_a_vector_come_last():
    rng = np.random.default_rng(3)
    centres = 10 * rng.standard_normal((8, 16))
    labels = rng.integers(0, 8, 4_000)
    matrix = (centres[labels] + rng.standard_normal((4_000, 16))).astype(np.float32)
    is_null = rng.random(4_000) < 0.1
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(np.arange(4_000, dtype=np.uint64)),
            pa.array(np.ones(4_000, np.uint64)),
            pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), 16, mask=pa.array(is_null)),
        ],
        ["id", "version", "a:vector"],
    )
    schema = Schema("uint", Metric.L2, {"vector": attribute("[16]f32", filterable=False)})
    files, written = built_here(BuildPlan(schema, [TailInput(batch, np.arange(4_000))]))
    order = np.argsort(written.place)
    assert is_null[order].tolist() == sorted(is_null.tolist())
    # neighbours in the file are mostly of one cluster; in the log they were not
    runs = np.count_nonzero(np.diff(labels[order][~is_null[order]]))
    assert runs < np.count_nonzero(np.diff(labels)) / 4
    index = resident(VectorIndex.opened(MemorySource(files[segment.vector_part("vector")]), 4_000))
    assert resident(index.rows_at(np.arange(5))).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", SHAPES)
async def test_merging_segments_gives_what_their_rows_give_at_once(name, tmp_path):
    schema = SHAPES[name]
    merge = await merge_plan(schema, tmp_path)
    files, written = built_here(merge)
    versions, ids, attributes = [], [], []
    for source in merge.inputs:
        names = ["id", "version", *(segment.column_name(n) for n in schema.attributes)]
        data = source.files[segment.ROWS].data()
        columns = segment.decode_columns(data, names, key="k", rows=source.rows_total)
        keep = pa.array(source.rows)
        ids += columns["id"].take(keep).to_pylist()
        versions += columns["version"].take(keep).to_pylist()
        attributes.append({n: None if c is None else c.take(keep).to_pylist() for n, c in columns.items()})
    order = np.argsort(written.place)
    parquet = segment.decode_columns(files[segment.ROWS], names, key="k", rows=written.rows)
    assert parquet["id"].to_pylist() == [ids[i] for i in order]
    assert parquet["version"].to_pylist() == [versions[i] for i in order]
    for column, values in parquet.items():
        if values is not None:
            both = attributes[0][column] + attributes[1][column]
            assert values.to_pylist() == [both[i] for i in order]
    for vector in schema.vectors():
        if vector != "never":
            column = resident(
                resident(
                    VectorIndex.opened(MemorySource(files[segment.vector_part(vector)]), written.rows)
                ).whole()
            )
            assert set(map(tuple, column.matrix.tolist())) == _vectors(merge, vector)


def _vectors(merge: BuildPlan, name: str) -> set[tuple[float, ...]]:
    found = set()
    for source in merge.inputs:
        data = MemorySource(source.files[segment.vector_part(name)].data())
        matrix, present = resident(resident(VectorIndex.opened(data, source.rows_total)).select(source.rows))
        found |= set(map(tuple, matrix[present].tolist()))
    return found


async def test_a_merge_of_texts_equals_an_index_of_the_texts(tmp_path):
    schema = SHAPES["text"]
    files, written = built_here(await merge_plan(schema, tmp_path))
    columns = segment.required_columns(files[segment.ROWS], ["a:body"], key="k", rows=written.rows)
    assert files[segment.attribute_part("text", "body")] == TextIndex.build(columns["a:body"], TEXT).encode()


async def test_an_input_of_another_size_is_reported(tmp_path):
    plan = await merge_plan(SHAPES["vector"], tmp_path)
    source = plan.inputs[0]
    file = source.files[segment.ROWS]
    larger = replace(file, ref=replace(file.ref, size_bytes=file.ref.size_bytes + 100))
    plan = BuildPlan(plan.schema, [replace(source, files={**source.files, segment.ROWS: larger})])
    with pytest.raises(CorruptObject, match="where the manifest says"):
        built_here(plan)
