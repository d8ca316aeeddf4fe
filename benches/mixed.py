"""A generated namespace of vectors, texts and filter fields: its store and its queries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benches import generated
from benches.embedded import fill, stored
from benches.vector_sets import SHARES, vector_body, window
from elacsym.engine.database import Database
from elacsym.engine.request import Document
from elacsym.types import Attribute, AttributeType, FullText, Metric, Schema

NAMESPACE = "mixed"
SCHEMA = Schema(
    None,
    Metric.COSINE,
    {
        "vector": Attribute(AttributeType.parse(f"[{generated.DIMENSIONS}]f32"), filterable=False),
        "text": Attribute(AttributeType.parse("string"), filterable=False, full_text=FullText()),
        "share": Attribute(AttributeType.parse("int")),
        "number": Attribute(AttributeType.parse("int")),
    },
)


def shares(rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(rows,) the attribute `share`: 0…99 at random."""
    return np.random.default_rng(6).integers(0, SHARES, rows)


def documents(work: Path, rows: int) -> Iterator[Document]:
    """The first `rows` documents; the id is the row."""
    texts = generated.texts(rows)
    values = zip(generated.vectors(work, rows), texts, shares(rows).tolist(), strict=True)
    for row, (vector, ranks, share) in enumerate(values):
        text = generated.text(ranks)
        yield Document(row, {"vector": np.array(vector), "text": text, "share": share, "number": row})


def store(work: Path, rows: int) -> Path:
    """A folder store in `work` with `rows` documents, folded and merged as a server does."""

    async def build(database: Database) -> None:
        await fill(database, NAMESPACE, SCHEMA, documents(work, rows))

    return stored(work, f"mixed-{rows}", build)


def vector_bodies(count: int, width: int | None = None) -> list[bytes]:
    """HTTP bodies of vector queries; `width`: with a filter that takes so many percent of the rows."""
    return [
        vector_body(query, include_attributes=["number"], **_filter(number, width))
        for number, query in enumerate(generated.vector_queries(count))
    ]


def text_bodies(queries: np.ndarray[Any, np.dtype[np.int32]], width: int | None = None) -> list[bytes]:
    """HTTP bodies of text queries of (q, 3) word ranks; `width` as in `vector_bodies`."""
    return [
        orjson.dumps(
            {
                "full_text": {"field": "text", "query": generated.text(query)},
                "top_k": 10,
                "include_attributes": ["number"],
                **_filter(number, width),
            }
        )
        for number, query in enumerate(queries)
    ]


def _filter(number: int, width: int | None) -> dict[str, Any]:
    if width is None:
        return {}
    low, high = window(number, width)
    conditions = [
        {"field": "share", "op": "gte", "value": low},
        {"field": "share", "op": "lt", "value": high},
    ]
    return {"filter": {"type": "and", "conditions": conditions}}
