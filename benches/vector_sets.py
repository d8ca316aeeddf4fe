"""Real vectors with a class label: Fashion-MNIST (L2) and MedQuAD (cosine), as documents and as queries.

Besides its vector and `label`, a document has `share`, a number of 0…99 at random, so that a window of w
values matches w % of the rows, and `place`, its row.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from benches.embedded import fill, stored
from benches.reference import load_scorer
from elacsym.engine.database import Database
from elacsym.engine.request import Document
from elacsym.query.ast import And, Compare, Filter, Op
from elacsym.types import Attribute, AttributeType, Metric, Schema

NAMESPACE = "vectors"
SHARES = 100


@dataclass(frozen=True)
class VectorSet:
    """base: (n, d) float32 of the documents; queries: (q, d) float32; labels: (n,) strings; shares: (n,)."""

    name: str
    metric: Metric
    base: npt.NDArray[np.float32]
    queries: npt.NDArray[np.float32]
    labels: npt.NDArray[np.str_]
    shares: npt.NDArray[np.int64]

    @property
    def schema(self) -> Schema:
        """The namespace's schema."""
        vector = AttributeType.parse(f"[{self.base.shape[1]}]f32")
        return Schema(
            None,
            self.metric,
            {
                "vector": Attribute(vector, filterable=False),
                "label": Attribute(AttributeType.parse("string")),
                "share": Attribute(AttributeType.parse("int")),
                "place": Attribute(AttributeType.parse("int")),
            },
        )

    def documents(self) -> Iterator[Document]:
        """All rows; the id is the row."""
        values = zip(self.base, self.labels.tolist(), self.shares.tolist(), strict=True)
        for row, (vector, label, share) in enumerate(values):
            yield Document(row, {"vector": vector, "label": label, "share": share, "place": row})

    def store(self, work: Path) -> Path:
        """A folder store in `work` with the whole set as one segment."""

        async def build(database: Database) -> None:
            await fill(
                database, NAMESPACE, self.schema, self.documents(), rows_per_fold=len(self.base), merges=False
            )

        return stored(work, f"{self.name}-one", build)

    def bodies(self) -> list[bytes]:
        """Every query as the body of an HTTP request for the first 10 with their labels."""
        return [vector_body(query, include_attributes=["label"]) for query in self.queries]


def vector_body(query: npt.NDArray[np.float32], **more: Any) -> bytes:
    """The body of a v1 query for the first 10 of a vector."""
    vector = base64.b64encode(query.astype("<f4").tobytes()).decode()
    return orjson.dumps({"vector": vector, "top_k": 10, **more})


def window(number: int, width: int) -> tuple[int, int]:
    """The `number`-th window of shares [low, high) that matches `width` % of the rows; wraps around."""
    low = number * width % SHARES
    return low, low + width


def share_filter(low: int, high: int) -> Filter:
    """Rows whose share is in [low, high)."""
    return And((Compare("share", Op.GTE, low), Compare("share", Op.LT, high)))


def load_sets(folder: Path, names: str, queries_max: int) -> list[VectorSet]:
    """The sets of these names, separated by commas."""
    load = {"fashion-mnist": _fashion_mnist, "medquad": _medquad}
    return [load[name](folder, queries_max) for name in names.split(",")]


def _shares(rows: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(5).integers(0, SHARES, rows)


def _fashion_mnist(folder: Path, queries_max: int) -> VectorSet:
    def read(name: str, offset: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer(gzip.decompress((folder / "fashion-mnist" / name).read_bytes()), np.uint8)[
            offset:
        ]

    base = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 784).astype(np.float32)
    queries = read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:queries_max].astype(np.float32)
    labels = np.char.add("class-", read("train-labels-idx1-ubyte.gz", 8).astype(np.str_))
    return VectorSet("fashion-mnist", Metric.L2, base, queries, labels, _shares(len(base)))


def _medquad(folder: Path, queries_max: int) -> VectorSet:
    found = load_scorer(folder).load("medquad")
    labels = np.array([document["source"] for document in found.docs])
    base, queries = found.doc_vecs, found.query_vecs[:queries_max]
    return VectorSet("medquad", Metric.COSINE, base, queries, labels, _shares(len(base)))
