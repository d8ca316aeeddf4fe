"""Hybrid search: a vector leg and a text leg, fused by reciprocal ranks, with each leg's share explained.

Start a server with `elacsym serve`, then run this file. The vectors count letters: a real program takes
them from an embedding model.
"""

import numpy as np

from elacsym.client import Client

TEXTS = [
    "a write-ahead log makes every commit durable",
    "segments are merged in the background",
    "the log is replayed when a node takes over",
    "bread rises while the dough rests",
]


def embed(text: str) -> np.ndarray:
    """How often each letter occurs: (26,) float32."""
    counts = [text.count(chr(ord("a") + i)) for i in range(26)]
    return np.array(counts, np.float32)


with Client("http://127.0.0.1:3000") as client:
    client.create(
        "hybrid",
        {
            "vector_dim": 26,
            "vector_metric": "cosine",
            "attributes": {"body": {"type": "string", "full_text": {"stemming": True}}},
        },
    )
    client.upsert(
        "hybrid",
        [{"id": n, "vector": embed(text), "attributes": {"body": text}} for n, text in enumerate(TEXTS, 1)],
    )
    question = "durable log"
    answer = client.query(
        "hybrid",
        vector=embed(question),
        full_text={"field": "body", "query": question, "weight": 0.5},
        fusion={"method": "rrf", "k": 60},
        top_k=3,
        explain=True,
    )
    for result in answer.results:
        print(f"{result.score:.4f}  {result.attributes['body']}")
        for share in result.shares:
            print(f"        {share}")
    client.delete_namespace("hybrid")
