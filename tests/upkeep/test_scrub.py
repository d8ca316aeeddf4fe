"""Scrub finds what is damaged, missing, or written wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from support.builds import SHAPES, tail_input
from support.database import document, open_database, schema, upsert

from elacsym.compute import InlineCompute
from elacsym.engine.build import BuildPlan
from elacsym.engine.fold import fold
from elacsym.engine.request import WriteRequest
from elacsym.format import blob, segment
from elacsym.format.blob import Blob
from elacsym.format.manifest import FileRef, SegmentRef
from elacsym.format.reading import MemorySource, resident
from elacsym.index.attribute import AttributeFile
from elacsym.index.sparse import SparseFile
from elacsym.store.base import StoredObject
from elacsym.store.memory import MemoryStore
from elacsym.upkeep.scrub import scrub
from elacsym.upkeep.scrub_segment import SegmentCheck


async def _scrubbed(database):
    store = database.services.store
    report = await scrub(store, "docs", compute=InlineCompute(), rng=database.services.rng)
    return [key.rpartition("/")[2] for key, _ in report.problems], report


async def _database(tmp_path):
    """A store with a segment, a delete bitmap and a tail, and its database."""
    store, rng = MemoryStore(), np.random.default_rng(1)
    database = await open_database(store, cache_path=tmp_path)
    await database.create("docs", schema())
    await database.write("docs", upsert(*(document(i, rng) for i in range(30))))
    await fold(await database.namespace("docs"))
    await database.write("docs", WriteRequest(deletes=[3, 4]))
    await fold(await database.namespace("docs"))
    await database.write("docs", upsert(document(99, rng)))
    return store, database


async def test_a_sound_namespace_has_no_problems_and_every_object_is_read(tmp_path):
    store, database = await _database(tmp_path)
    names, report = await _scrubbed(database)
    assert names == []
    assert report.documents == 28
    segments = [key for key in store.objects if "/seg/" in key]
    parts = {key.rpartition("/")[2] for key in segments}
    assert parts >= {
        "rows.parquet",
        "ids",
        "versions",
        "attr.text",
        "attr.tags",
        "vector.vector.ivf",
        "text.text",
    }
    # manifest, segment files, and the entry of the tail
    assert report.objects == 1 + len(segments) + 1
    await database.close()


@pytest.mark.parametrize(
    "part",
    [
        "rows.parquet",
        "ids",
        "versions",
        "attr.year",
        "attr.tags",
        "vector.vector.ivf",
        "text.text",
        "deletes.",
    ],
)
async def test_damage_and_loss_of_any_kind_of_file_is_found(tmp_path, part):
    store, database = await _database(tmp_path)
    (key,) = (key for key in store.objects if "/seg/" in key and key.rpartition("/")[2].startswith(part))
    good = store.objects[key]
    for place in (0, len(good.data) // 2, len(good.data) - 1):
        bad = bytearray(good.data)
        bad[place] ^= 1
        store.objects[key] = StoredObject(bytes(bad), good.etag)
        assert (await _scrubbed(database))[0] == [key.rpartition("/")[2]]
    del store.objects[key]
    assert (await _scrubbed(database))[0] == [key.rpartition("/")[2]]
    await database.close()


YEAR = SHAPES["everything"].attributes["year"]


class Made:
    """A segment, and its check. Every seed has the same ids, and other values."""

    def __init__(self, seed: int) -> None:
        self.files: dict[str, bytes] = {}
        tail = replace(tail_input(SHAPES["everything"], 40, seed=seed), rows=np.arange(40))
        self.written = BuildPlan(SHAPES["everything"], [tail]).write(
            lambda part, data: self.files.update({part: bytes(data)})
        )
        self.refs = [FileRef.of(part, data) for part, data in self.files.items()]

    def check(self, refs=None) -> SegmentCheck:
        w = self.written
        row_sum = f"{w.row_sum:032x}"
        ref = SegmentRef("job", w.rows, w.seq_min, w.seq_max, row_sum, tuple(refs or self.refs))
        return SegmentCheck(ref, SHAPES["everything"], self.files[segment.ROWS], "seg/job/")


def test_files_of_another_segment_are_told_apart():
    one, other = Made(1), Made(2)
    check = one.check()
    assert check.rows(np.zeros(40, np.bool_)) == []
    for ref in one.refs:
        if ref.part != segment.ROWS:
            assert check.file(ref, one.files[ref.part]) == []
    for ref in other.refs:
        found = check.file(ref, other.files[ref.part])
        if ref.part.startswith("attr."):
            assert found == [(f"seg/job/{ref.part}", "the values differ from those of the rows")]
        if ref.part.startswith("text."):
            assert found == [(f"seg/job/{ref.part}", "the rows with a text are not those of the rows")]


def test_files_that_the_rows_call_for_are_missed():
    made = Made(1)
    check = made.check([ref for ref in made.refs if ref.part.startswith("vector")])
    problems = check.rows(np.zeros(40, np.bool_))
    missed = {key.rpartition("/")[2] for key, reason in problems if "lacks" in reason}
    expected = {"ids", "versions", "attr.body", "attr.lexical", "attr.strings", "attr.year"}
    assert missed == expected, "a text index can be late"


def test_rows_that_are_not_those_of_the_manifest_are_reported():
    dead = np.zeros(40, np.bool_)
    dead[7] = True
    reasons = [reason for _, reason in Made(1).check().rows(dead)]
    assert reasons[0] == "39 live rows where the manifest says 40"
    assert "row sum" in reasons[1]


def test_a_file_that_no_attribute_has_is_reported():
    made = Made(1)
    ref = replace(next(ref for ref in made.refs if ref.part == "attr.year"), part="attr.month")
    ((key, reason),) = made.check().file(ref, made.files["attr.year"])
    assert key == "seg/job/attr.month" and "no attribute" in reason


def test_an_index_that_finds_other_rows_is_reported():
    made = Made(1)
    years = segment.required_columns(made.files[segment.ROWS], ["a:year"], key="k", rows=40)["a:year"]
    good = Blob.open(made.files["attr.year"], "k")
    # as many of each value, in other rows
    bad = Blob.open(AttributeFile.build(years.take(pa.array(np.arange(40)[::-1])), YEAR), "k")
    sections = {
        name: (good if name.startswith("column") else bad).array(name, section.dtype, *section.shape)
        for name, section in good.sections.items()
    }
    mixed = blob.encode(sections, good.meta, tuple(sections))
    ((_, reason),) = made.check().file(FileRef.of("attr.year", mixed), mixed)
    assert reason == "the index does not find the rows by their values"


def test_sparse_vectors_whose_inverted_lists_are_of_others_are_told_apart():
    made = Made(1)
    check, good = made.check(), made.files["attr.lexical"]
    column = resident(SparseFile.opened(MemorySource(good), 40))
    blob_ = Blob.open(good, "attr.lexical")
    arrays = {name: blob_.array(name, s.dtype, *s.shape) for name, s in blob_.sections.items()}
    arrays["shares"] = arrays["shares"][::-1]
    bad = blob.encode(arrays, dict(blob_.meta))
    assert resident(column.column()).equals(
        resident(resident(SparseFile.opened(MemorySource(bad), 40)).column())
    )
    ref = FileRef.of("attr.lexical", bad)
    assert check.file(ref, bad) == [
        ("seg/job/attr.lexical", "the inverted lists do not find the rows by their dimensions")
    ]
