"""Equal results: the same queries on the same documents, however these are spread over log and segments.

    python benches/layouts.py --data FOLDER --sets scifact --json out.json

The layouts are: the log's tail only, one segment, twelve segments with deletes, and these merged. Every fifth
document is first written with another one's text and vector, and further documents are written and deleted.
A server that does no upkeep answers the queries of `quality.py` over each layout, looking at every vector;
ids and scores must be the same.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from benches.embedded import folder_store, opened
from benches.quality import ANALYSIS, NAMESPACE, Runs, ask, documents
from benches.reference import load_scorer
from benches.support import Figure, report, running_server
from elacsym.client import Client
from elacsym.engine.fold import fold
from elacsym.engine.request import Document, WriteRequest
from elacsym.types import Attribute, AttributeType, Metric, Schema
from elacsym.upkeep.compact import compact

Layout = Literal["tail only", "one segment", "twelve segments", "merged"]
SEGMENTS: dict[Layout, int] = {"tail only": 0, "one segment": 1, "twelve segments": 12, "merged": 1}

_FIRST, _SECOND = 8, 4  # writes of first versions, and of what replaces and deletes
_SCHEMA = Schema(
    None,
    Metric.COSINE,
    {
        "vector": Attribute(AttributeType.parse("[384]f32"), filterable=False),
        "text": Attribute(AttributeType.parse("string"), full_text=ANALYSIS),
        "place": Attribute(AttributeType.parse("int")),
    },
)


def writes(collection: Any) -> list[WriteRequest]:
    """The set as twelve writes, after which exactly its documents are there."""
    final = [Document(d["id"], {**d["attributes"], "vector": d["vector"]}) for d in documents(collection)]
    first = [Document(d.id, final[i - 1].attributes) if i % 5 == 0 else d for i, d in enumerate(final)]
    first += [Document(f"gone-{i}", d.attributes) for i, d in enumerate(final) if i % 7 == 0]
    gone = [d.id for d in first[len(final) :]]
    begin = [WriteRequest(upserts=part) for part in _parts(first, _FIRST)]
    later = zip(_parts(final[::5], _SECOND), _parts(gone, _SECOND), strict=True)
    return begin + [WriteRequest(upserts=upserts, deletes=deletes) for upserts, deletes in later]


def _parts(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    """`count` parts that hold every item once, in a mixed order."""
    return (items[start::count] for start in range(count))


async def build(folder: Path, layout: Layout, requests: Sequence[WriteRequest]) -> None:
    """Write the requests into a store in `folder/data` and arrange them."""
    async with opened(folder_store(folder / "data")) as database:
        await database.create(NAMESPACE, _SCHEMA)
        namespace = await database.namespace(NAMESPACE)
        for request in requests:
            await database.write(NAMESPACE, request)
            if layout in {"twelve segments", "merged"}:
                await fold(namespace)
        if layout == "one segment":
            await fold(namespace)
        if layout == "merged":
            await compact(namespace, force=True)


def answers(folder: Path, layout: Layout, collection: Any) -> Runs:
    """Build the layout and ask all queries of the set through a server."""
    asyncio.run(build(folder, layout, writes(collection)))
    with running_server(folder, node_type="query") as server, Client(server.url) as client:
        found = client.info(NAMESPACE)
        expected = (len(collection.docs), SEGMENTS[layout], layout == "tail only")
        if (found["documents"], found["segments"], found["wal_tail"]["slots"] > 0) != expected:
            raise RuntimeError(f"{layout}: {found} where documents, segments, tail should be {expected}")
        return ask(client, collection, exact=True)


def compare(set_name: str, by_layout: dict[Layout, Runs]) -> list[Figure]:
    """How many answers of each layout are the same, ids and scores, as on the log's tail."""
    truth = by_layout["tail only"]
    figures = []
    for layout, runs in by_layout.items():
        same = [
            run[query] == getattr(truth, name)[query]
            for name in Runs.__dataclass_fields__
            for run in (getattr(runs, name),)
            for query in run
        ]
        name = f"{set_name}: answers on '{layout}' that equal those on 'tail only'"
        figures.append(Figure(name, sum(same), f"all {len(same):,}", all(same)))
    return figures[1:]


def measure(folder: Path, set_name: str) -> list[Figure]:
    """All layouts of one set."""
    collection = load_scorer(folder).load(set_name)
    with tempfile.TemporaryDirectory() as temporary:
        by_layout = {
            layout: answers(Path(temporary) / layout.replace(" ", "-"), layout, collection)
            for layout in SEGMENTS
        }
    return compare(set_name, by_layout)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default="scifact", help="names of sets, separated by commas")
    parser.add_argument("--data", type=Path, default=os.environ.get("ELACSYM_TEST_DATA"), help="their folder")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.data is None:
        parser.error("--data or ELACSYM_TEST_DATA must name the folder of the collections")
    figures = [figure for name in arguments.sets.split(",") for figure in measure(Path(arguments.data), name)]
    return report("equal results on every layout", figures, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
