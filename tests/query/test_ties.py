"""Rows of one score follow each other by id, however many there are and wherever they are."""

from __future__ import annotations

import random

import numpy as np
import pytest
from index.sources import driven
from parts import FilePart, MemoryPart, schema_of, snapshot_of

from elacsym.query import ranking
from elacsym.query.ranking import ranked

UUID = "00000000-0000-4000-8000-{:012x}"


def snapshots(id_type, ids):
    schema = schema_of(id_type=id_type)
    documents = [{"id": i} for i in ids]
    cuts = [documents[: len(ids) // 5], documents[len(ids) // 5 :]]
    return [snapshot_of(schema, *cuts, kind=kind) for kind in (MemoryPart, FilePart)]


@pytest.mark.parametrize("id_type", ["uint", "string", "uuid"])
@pytest.mark.parametrize("ascending", [True, False])
@pytest.mark.parametrize("depth", [1, 50, 700, 1_400, 2_000])
def test_ties_go_to_the_smaller_id_over_all_parts(id_type, ascending, depth):
    rng = random.Random(depth)
    numbers = rng.sample(range(10_000), 1_500)
    name = {"uint": int, "string": "é{}".format, "uuid": UUID.format}[id_type]
    ids = [name(n) for n in numbers]
    # 600 rows of the best score, 800 of the next
    scores = rng.sample([1.0] * 600 + [2.0] * 800 + [3.0] * 100, 1_500)
    if not ascending:
        scores = [-s for s in scores]
    expected = [i for _, i in sorted(zip((s if ascending else -s for s in scores), ids, strict=True))][:depth]
    for snapshot in snapshots(id_type, ids):
        first = snapshot.parts[0].part.rows
        found = [
            (0, np.array(scores[:first], np.float32), np.arange(first)),
            (1, np.array(scores[first:], np.float32), np.arange(len(ids) - first)),
        ]
        result = driven(ranked(snapshot, found, depth, ascending=ascending, figures=dict)).value
        assert list(result.ids) == expected
        assert sorted(result.scores.tolist(), reverse=not ascending) == result.scores.tolist()


def test_many_ties_are_not_sorted_one_by_one(monkeypatch):
    (snapshot, _) = snapshots("uint", list(range(5_000)))
    looked_up, ids_of = [], ranking._ids

    def counted(snapshot, number, rows):
        looked_up.append(len(rows))
        return ids_of(snapshot, number, rows)

    monkeypatch.setattr(ranking, "_ids", counted)
    found = [
        (number, np.zeros(rows, np.float32), np.arange(rows)) for number, rows in ((0, 1_000), (1, 4_000))
    ]
    result = driven(ranked(snapshot, found, 10, ascending=True, figures=dict)).value
    assert list(result.ids) == list(range(10))
    assert sum(looked_up) == 20
